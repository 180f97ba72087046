"""Media files as PyAV opens them: errors with the file's name, and the streams a player would choose.

Chapter: preprocessing/video.
"""

import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO

import av
import numpy as np

from mmlearn.media.sound_headers import repaired

Source = str | os.PathLike[str] | BinaryIO  # a path, or an open binary file such as io.BytesIO
_SAMPLES = {"u8": np.uint8, "s16": np.int16, "s32": np.int32, "s64": np.int64, "flt": np.float32, "dbl": np.float64}
_NOT_MEDIA = {"tty", "concat", "hls", "dash"}  # text as a terminal shows it; lists of other files


def name_of(source: Source) -> str:
    """Return what error messages call a source: its path, a file object's name, or "<bytes>"."""
    return os.fspath(source) if isinstance(source, str | os.PathLike) else str(getattr(source, "name", "<bytes>"))


def address_of(path: str) -> str:
    """Return what a path is if it is an address and no path, e.g. "an address (https)", else ""."""
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/", path)  # one slash: Path("https://a/b") is "https:/a/b"; not "C:/"
    return f"an address ({scheme[1].lower()})" if scheme and not os.path.exists(path) else ""


def local_path(path: str | os.PathLike[str]) -> str:
    """Return a path with `~` as the home folder, where nothing here is called so.

    Raises:
        FileNotFoundError: If it is an address.
    """
    name = os.fspath(path)
    if address := address_of(name):
        raise FileNotFoundError(2, f"{address}; download it first, and give the path of the file", name)
    return os.path.expanduser(name) if name.startswith("~") and not os.path.lexists(name) else name


@contextmanager
def open_media(source: Source) -> Iterator[Any]:
    """Open a media file with PyAV; what goes wrong, inside the `with` block too, is said with the file's name.

    Args:
        source: A path, or a binary file object, which is read from its beginning and left open.

    Raises:
        FileNotFoundError, PermissionError: As the operating system says.
        TypeError: If the source is neither a path nor a binary file object.
        ValueError: If it is empty, no regular file, or not a (complete) media file.

    Chapter: preprocessing/video.
    """
    name, file = name_of(source), _readable(source)
    try:
        with repaired(file) as whole, _open(whole) as container:
            if container.format.name in _NOT_MEDIA:
                raise ValueError(f"{name}: {container.format.long_name} is not a video or audio file")
            yield container
    except av.error.FFmpegError as error:
        raise ValueError(f"{name}: cannot decode these {_size_of(file)} bytes; expected a complete video or sound "
                         f"file ({error.strerror})") from error  # fmt: skip


def _open(file: str | BinaryIO) -> Any:
    """Open with PyAV of either kind: to 18, titles that are not UTF-8 are an error unless an argument allows them."""
    options = {"protocol_whitelist": "file"}  # what is read must not make FFmpeg open a network connection
    keywords: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
    return av.open(file, options=options, **keywords)


def metadata_of(container: Any) -> dict[str, str]:
    """Return a container's titles, comments and the like; bytes that are not UTF-8 become U+FFFD.

    PyAV 19 returns such bytes as lone surrogates, which can be neither printed nor written as JSON.
    """
    entries = container.metadata.items()
    return {key: value.encode(errors="surrogateescape").decode(errors="replace") for key, value in entries}


def streams_of(container: Any, kind: str) -> list[Any]:
    """Return the streams of a kind ("video", "audio", "subtitle"), the default ones first.

    Cover pictures and streams that nothing can decode are left out.
    """
    cover, default = av.stream.Disposition.attached_pic, av.stream.Disposition.default
    streams = [s for s in container.streams if s.type == kind and s.codec_context and not s.disposition & cover]
    return sorted(streams, key=lambda s: not s.disposition & default)


def subtitle_of(packet: Any) -> tuple[float, float, str] | None:
    """Return (start, end, text) of a subtitle's packet, in seconds; None for a gap, or what is no plain text."""
    codec = packet.stream.codec_context.name
    if codec not in ("mov_text", "subrip", "text", "srt", "webvtt") or packet.pts is None or not packet.duration:
        return None
    data = bytes(packet)
    if codec == "mov_text":  # two bytes of length, big-endian, then UTF-8 (3GPP TS 26.245, 5.17); length 0 marks a gap
        data = data[2 : 2 + int.from_bytes(data[:2], "big")]
    begin = float(packet.pts * packet.time_base)
    end = begin + float(packet.duration * packet.time_base)
    return (begin, end, data.decode(errors="replace")) if data else None


def is_fragmented(source: Source) -> bool:
    """Return whether an mp4 file is written in fragments, as cameras, browsers and streams do it.

    Such a file does not say how much will follow; so its boxes (ISO/IEC 14496-12, 4.2) have to be whole.

    Args:
        source: A path, or a binary file object, whose position is kept.

    Raises:
        ValueError: If it is in fragments, and the last box is not whole.
    """
    with ExitStack() as stack:
        file = stack.enter_context(open(source, "rb")) if isinstance(source, str | os.PathLike) else source
        stack.callback(file.seek, file.tell())  # FFmpeg reads on from where it was
        size, after, fragmented = file.seek(0, os.SEEK_END), 0, False
        for kind, begin, after in _boxes(file, 0, size):
            fragmented |= kind == b"moof"
            if kind == b"moov":
                fragmented |= any(inner == b"mvex" for inner, _, _ in _boxes(file, begin, min(after, size)))
    if fragmented and after > size:
        raise ValueError(f"{name_of(source)}: found {size} of at least {after} bytes; the file ends too early")
    return fragmented


def _boxes(file: BinaryIO, place: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, first byte of what is in it, byte after it) of an mp4's boxes; the last may go beyond the end."""
    while place < end:
        file.seek(place)
        head = file.read(16)
        length, kind, begin = int.from_bytes(head[:4], "big"), head[4:8], place + 8
        if length == 1:  # the length follows in 64 bits
            length, begin = int.from_bytes(head[8:16], "big"), place + 16
        elif length == 0:  # to the end of the file
            length = end - place
        after = place + length if length >= 8 else end + 1  # a box that is shorter than its head is damaged
        yield kind, begin, after
        place = after


def buffered(source: Source) -> Source:
    """Return a source that can be read more than once: what cannot go back, such as a pipe, is read into memory.

    Raises:
        TypeError: If the source is neither a path nor a binary file object.
    """
    if isinstance(source, str | os.PathLike):
        return source
    if not (hasattr(source, "read") and isinstance(source.read(0), bytes)):
        raise TypeError(f"source is {type(source).__name__}; expected a path or a binary file object")
    if source.seekable():
        return source
    memory = _Memory(source.read())
    memory.name = name_of(source)
    return memory


class _Memory(io.BytesIO):
    """Bytes in memory that still have the name of the file they came from."""

    name = "<bytes>"


def _readable(source: Source) -> str | BinaryIO:
    """Return what `av.open` takes, after looking at what it would not refuse clearly."""
    if isinstance(source, str | os.PathLike):
        path = local_path(source)
        try:
            mode = os.stat(path).st_mode
        except FileNotFoundError:
            raise FileNotFoundError(2, "no such file", path) from None
        except PermissionError:
            raise
        except (OSError, ValueError) as error:  # a loop of links, a name that is too long or has a null byte
            raise ValueError(f"{path!r}: not a file that can be opened ({error})") from None
        if not stat.S_ISREG(mode):
            raise ValueError(f"{path}: {'a folder' if stat.S_ISDIR(mode) else 'no regular file'}; expected a file")
        with open(path, "rb"):  # PermissionError in Python's words
            pass
        file: str | BinaryIO = os.path.abspath(path)  # else FFmpeg takes "10:30.mp4" for an address
    else:
        file = buffered(source)  # type: ignore[assignment]
    if _size_of(file) == 0:
        raise ValueError(f"{name_of(source)}: the file is empty; expected a video or sound file")
    return file


def _size_of(file: str | BinaryIO) -> int:
    """Return the number of bytes; a file object stands at its beginning afterwards."""
    if isinstance(file, str):
        return os.stat(file).st_size
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size


def samples_of(frame: Any) -> np.ndarray:
    """Return a decoded block of sound as float64 (C, S) in [-1, 1], whatever its format."""
    if frame.format.is_planar and frame.layout.nb_channels >= 8:  # PyAV 18 reads a ninth plane behind them, 19 refuses
        frame = _interleaved(frame)
    planar, channels = frame.format.is_planar, frame.layout.nb_channels
    kind = np.dtype(_SAMPLES[frame.format.name.removesuffix("p")])
    planes = [np.frombuffer(plane, kind) for plane in frame.planes[: channels if planar else 1]]
    if planar:
        samples = np.stack([plane[: frame.samples] for plane in planes])  # (C, S)
    else:
        samples = planes[0][: frame.samples * channels].reshape(-1, channels).T  # interleaved → (C, S)
    block = samples.astype(np.float64)
    if kind.kind in "iu":
        full = 2.0 ** (8 * kind.itemsize - 1)
        block = block / full - (kind.kind == "u")  # 8-bit sound is unsigned: 128 is zero
    return block


def _interleaved(frame: Any) -> Any:
    """Return a planar block with its channels in one plane.

    `av.AudioResampler` would do it with a graph whose threads live on until the garbage collector finds it. In a worker
    that is forked meanwhile the threads are gone, and its collector waits for them for ever.
    """
    graph = av.filter.Graph()
    if hasattr(graph, "threads"):  # from PyAV 18 on
        graph.threads = 1
    source = graph.add_abuffer(
        sample_rate=frame.sample_rate, format=frame.format.name, layout=frame.layout.name, time_base=frame.time_base
    )
    packed = graph.add("aformat", f"sample_fmts={frame.format.packed.name}")
    graph.link_nodes(source, packed, graph.add("abuffersink")).configure()
    graph.push(frame)
    return graph.pull()
