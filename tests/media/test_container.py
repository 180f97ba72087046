"""mmlearn.media.container: what cannot be opened says why; a player's choice of streams; pictures upright."""

import gc
import io
import os
from pathlib import Path
from typing import ClassVar

import av
import numpy as np
import psutil
import pytest
import torch
from av.stream import Disposition

from mmlearn.media import read_mp4, write_mp4
from mmlearn.media.container import metadata_of, name_of, open_media, streams_of
from mmlearn.preprocessing.audio import read_audio
from mmlearn.preprocessing.video.sampling import probe, read_video

VIDEO = np.random.default_rng(0).integers(0, 256, (3, 12, 16, 3), np.uint8).repeat(4, 1).repeat(4, 2)  # (3, 48, 64, 3)

TEXT = b"1\n00:00:00,000 --> 00:00:01,000\nhello\n\n"
UNREADABLE = {
    "empty.mp4": (b"", "the file is empty"),
    "text.mp4": (b"no video at all\n" * 100, "cannot decode these 1600 bytes"),
    "zeros.mp4": (bytes(5_000), "cannot decode these 5000 bytes"),
    "text.txt": (b"a terminal would show this\n" * 40, "is not a video or audio file"),
    "list.mp4": (b"ffconcat version 1.0\nfile good.mp4\n", "is not a video or audio file"),
}


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.mp4"
    write_mp4(path, video=VIDEO, fps=25)
    return path


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize("as_file", [False, True])
def test_unreadable(tmp_path: Path, good: Path, name: str, as_file: bool) -> None:
    content, message = UNREADABLE[name]
    path = tmp_path / name
    path.write_bytes(content)
    if not as_file:
        with pytest.raises(ValueError, match=message) as error, open_media(path):
            pass
        assert str(error.value).startswith(str(path))
        return
    if name in ("text.txt", "list.mp4"):  # without a name: no terminal's screen, and nothing that a list could mean
        message = "cannot decode"
    with pytest.raises(ValueError, match=f"<bytes>.*({message})"), open_media(io.BytesIO(content)):
        pass
    with path.open("rb") as file, pytest.raises(ValueError, match=name), open_media(file):
        pass


@pytest.mark.parametrize("name", ["folder.mp4", "pipe.mp4", "loop.mp4", "x" * 300, "a\0b"])
def test_no_regular_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")  # opening it would wait for ever
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    with pytest.raises(ValueError, match=r"folder|regular|too many|too long|null"), open_media(tmp_path / name):
        pass


def test_operating_system_errors(tmp_path: Path, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.mp4"), open_media(tmp_path / "none.mp4"):
        pass

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(good))

    with monkeypatch.context() as patch:  # root may read what others may not
        patch.setattr("builtins.open", refuse)
        with pytest.raises(PermissionError, match=r"good\.mp4"), open_media(good):
            pass
    with monkeypatch.context() as patch:
        patch.setattr("os.stat", refuse)
        with pytest.raises(PermissionError, match=r"good\.mp4"), open_media(good):
            pass


@pytest.mark.parametrize("source", [3, None, b"bytes", io.StringIO("text")])
def test_no_source(source: object) -> None:
    with pytest.raises(TypeError, match="expected a path or a binary file object"), open_media(source):  # type: ignore[arg-type]
        pass


def test_file_objects(good: Path) -> None:
    class Pipe(io.RawIOBase):
        """Bytes that can be read once, as from a network."""

        def __init__(self) -> None:
            self.rest = good.read_bytes()

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
            part, self.rest = self.rest[: len(buffer)], self.rest[len(buffer) :]
            buffer[: len(part)] = part
            return len(part)

    want = read_mp4(good).video
    memory = io.BytesIO(good.read_bytes())
    for source in (str(good), memory, memory, io.BufferedReader(Pipe())):  # a second time, too: from its beginning
        video = read_mp4(source).video
        assert np.array_equal(video, want)
    assert not memory.closed
    memory.name = "shard/7.mp4"  # type: ignore[attr-defined]
    assert name_of(memory) == "shard/7.mp4" and name_of(io.BytesIO()) == "<bytes>" and name_of(good) == str(good)


def test_titles_in_another_encoding(tmp_path: Path) -> None:
    write_mp4(tmp_path / "x.mp4", video=VIDEO, fps=25, metadata={"title": "??????"})
    data = (tmp_path / "x.mp4").read_bytes()
    title = "红山吉".encode("gbk")
    (tmp_path / "x.mp4").write_bytes(data.replace(b"??????", title))
    assert read_mp4(tmp_path / "x.mp4").metadata["title"] == title.decode(errors="replace")


def test_streams_in_a_players_order(tmp_path: Path) -> None:
    path = tmp_path / "many.mkv"
    with av.open(str(path), "w") as out:
        dispositions = [Disposition.attached_pic, Disposition(0), Disposition.default]
        streams = [out.add_stream("mjpeg" if k == 0 else "mpeg4", rate=25) for k in range(3)]
        for k, (stream, disposition) in enumerate(zip(streams, dispositions, strict=True)):
            stream.width, stream.height, stream.pix_fmt = 32 + 16 * k, 32, "yuvj420p" if k == 0 else "yuv420p"
            stream.disposition = disposition
        for k, stream in enumerate(streams):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32 + 16 * k, 3), np.uint8), format="rgb24")
            out.mux([*stream.encode(frame), *stream.encode(None)])
    with open_media(path) as container:
        widths = [stream.width for stream in streams_of(container, "video")]
        assert streams_of(container, "audio") == []
    assert widths[0] == 64 and 48 in widths
    video = read_mp4(path).video
    assert video is not None and video.shape == (1, 32, 64, 3)


def test_both_kinds_of_pyav_open_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyAV 19 took `metadata_errors` away: whoever passes it there opens nothing at all."""
    write_mp4(tmp_path / "x.mp4", video=VIDEO, fps=25)
    given: list[set[str]] = []
    whole = av.open

    def recorded(file: str, **keywords: object) -> object:
        given.append(set(keywords))
        return whole(file, **{key: value for key, value in keywords.items() if key != "metadata_errors"})

    monkeypatch.setattr(av, "open", recorded)
    for version in ("17.0.1", "18.1.0", "19.0.2", "20.1.0"):
        monkeypatch.setattr(av, "__version__", version)
        with open_media(tmp_path / "x.mp4"):
            pass
    assert given == [{"options", "metadata_errors"}] * 2 + [{"options"}] * 2


def test_lone_surrogates_in_titles_become_replacement_characters() -> None:
    """As PyAV 19 returns what is not UTF-8."""

    class Container:
        metadata: ClassVar = {"title": "caf\udce9", "artist": "李"}

    assert metadata_of(Container()) == {"title": "caf\ufffd", "artist": "李"}


def test_readers_leave_no_thread_behind(tmp_path: Path) -> None:
    """What waits for the garbage collector with threads of its own would stop a worker that is forked meanwhile."""
    size = (3, 480, 848, 3)  # large enough to be decoded by several threads
    write_mp4(
        tmp_path / "a.mp4", video=np.zeros(size, np.uint8), fps=25, audio=np.zeros(4_000, np.float32), sample_rate=8_000
    )
    with av.open(str(tmp_path / "eight.m4a"), "w") as container:  # planes of eight channels take a way of their own
        stream = container.add_stream("aac", rate=8_000, layout="7.1")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8 * 4_000), np.float32), format="flt", layout="7.1")
        frame.sample_rate = 8_000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    with av.open(str(tmp_path / "eight.m4a")) as container:
        frame = next(container.decode(audio=0))
        assert frame.layout.nb_channels == 8 and frame.format.is_planar
    del frame, stream

    def read() -> int:
        probe(tmp_path / "a.mp4")
        read_video(tmp_path / "a.mp4")
        read_mp4(tmp_path / "a.mp4")
        read_audio(tmp_path / "a.mp4")
        read_audio(tmp_path / "eight.m4a")
        write_mp4(tmp_path / "b.mp4", video=np.zeros(size, np.uint8), fps=25)
        return psutil.Process().num_threads()

    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    first = read()
    gc.collect()
    gc.disable()
    try:
        assert [read() for _ in range(3)] == [psutil.Process().num_threads()] * 3
        assert psutil.Process().num_threads() <= first
    finally:
        gc.enable()
        torch.set_num_threads(threads)
