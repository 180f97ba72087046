"""Media files as PyAV opens them: errors with the file's name, the streams a player would choose, pictures upright.

Chapter: preprocessing/video.
"""

import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import av
import numpy as np
from av.video.reformatter import VideoReformatter

Source = str | os.PathLike[str] | BinaryIO  # a path, or an open binary file such as io.BytesIO
SIZE_KEY = "mmlearn_size"  # metadata entry with the true "HEIGHTxWIDTH" of a picture that was padded to an even size
_NOT_MEDIA = {"tty", "concat", "hls", "dash"}  # text as a terminal shows it; lists of other files


def name_of(source: Source) -> str:
    """Return what error messages call a source: its path, a file object's name, or "<bytes>"."""
    return os.fspath(source) if isinstance(source, str | os.PathLike) else str(getattr(source, "name", "<bytes>"))


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
        # Titles are not always UTF-8; and what is read must not make FFmpeg open a network connection.
        options = {"protocol_whitelist": "file"}
        with av.open(file, options=options, metadata_errors="replace") as container:
            if container.format.name in _NOT_MEDIA:
                raise ValueError(f"{name}: {container.format.long_name} is no medium; expected a video or sound file")
            yield container
    except av.error.FFmpegError as error:
        raise ValueError(f"{name}: cannot decode these {_size_of(file)} bytes; expected a complete video or sound "
                         f"file ({error.strerror})") from error  # fmt: skip


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


def to_rgb(container: Any, frame: Any, reformatter: VideoReformatter, size: tuple[int, int] | None) -> np.ndarray:
    """Return a decoded frame as a player shows it: uint8 (H, W, 3), RGB, turned and mirrored as the file says.

    Args:
        container: The open file; it knows the true size of what `write_mp4` had to pad.
        frame: PyAV's frame.
        reformatter: Kept from frame to frame, because it remembers its tables.
        size: (H, W) to resize to, by swscale's bilinear filter (which averages when it shrinks); None keeps the size.
    """
    swap, flip_x, flip_y = turns_of(frame)
    height, width = _true_size(container, frame)
    if size is not None and size != ((width, height) if swap else (height, width)):
        if (height, width) != (frame.height, frame.width):  # cut the padding off before resizing
            rgb = reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()[:height, :width]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb, np.uint8), format="rgb24")
        height, width = size[::-1] if swap else size
        frame = reformatter.reformat(frame, width, height, "rgb24", interpolation="BILINEAR", threads=1)
    else:  # starting threads would take longer than a frame
        frame = reformatter.reformat(frame, format="rgb24", threads=1)
    picture = frame.to_ndarray()[:height, :width]  # (H, W, 3)
    picture = picture.transpose(1, 0, 2) if swap else picture
    return picture[:: -1 if flip_y else 1, :: -1 if flip_x else 1]


def shown_size(container: Any, frame: Any) -> tuple[int, int]:
    """Return (H, W) of a frame, or of a stream, as `to_rgb` returns it."""
    height, width = _true_size(container, frame)
    return (width, height) if isinstance(frame, av.VideoFrame) and turns_of(frame)[0] else (height, width)


def _true_size(container: Any, picture: Any) -> tuple[int, int]:
    """Return (height, width) of a frame or stream as stored, without the padding that `write_mp4` adds."""
    told = re.fullmatch(r"(\d{1,6})x(\d{1,6})", container.metadata.get(SIZE_KEY, ""))
    height, width = (int(told[1]), int(told[2])) if told else (0, 0)
    padded = (height + height % 2, width + width % 2) == (picture.height, picture.width)
    return (height, width) if padded else (picture.height, picture.width)


def turns_of(frame: Any) -> tuple[bool, bool, bool]:
    """Return how a player turns a frame: swap x and y, then mirror x, then mirror y (ISO/IEC 14496-12, 8.3.2.3)."""
    data = frame.side_data.get("DISPLAYMATRIX") if frame.rotation or len(frame.side_data) else None
    if data is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].astype(int)  # x' = ax + cy, y' = bx + dy
    swap = bool(abs(b) > abs(a))
    return swap, bool((c if swap else a) < 0), bool((b if swap else d) < 0)


def _readable(source: Source) -> str | BinaryIO:
    """Return what `av.open` takes, after looking at what it would not refuse clearly."""
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
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
    elif hasattr(source, "read") and isinstance(source.read(0), bytes):
        file = source if source.seekable() else io.BytesIO(source.read())
    else:
        raise TypeError(f"source is {type(source).__name__}; expected a path or a binary file object")
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
