"""mmlearn.containers: what cannot be opened says why; a player's choice of streams; pictures upright."""

import io
import os
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from mmlearn.containers import name_of, open_media, shown_size, streams_of, to_rgb, turns_of
from mmlearn.media import read_mp4, write_mp4

VIDEO = np.random.default_rng(0).integers(0, 256, (3, 12, 16, 3), np.uint8).repeat(4, 1).repeat(4, 2)  # (3, 48, 64, 3)

TEXT = b"1\n00:00:00,000 --> 00:00:01,000\nhello\n\n"
UNREADABLE = {
    "empty.mp4": (b"", "the file is empty"),
    "text.mp4": (b"no video at all\n" * 100, "cannot decode these 1600 bytes"),
    "zeros.mp4": (bytes(5_000), "cannot decode these 5000 bytes"),
    "text.txt": (b"a terminal would show this\n" * 40, "is no medium"),
    "list.mp4": (b"ffconcat version 1.0\nfile good.mp4\n", "is no medium"),
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


# How each of the eight ways to turn a picture is written as (a, b, c, d), and what it does: ISO/IEC 14496-12, 8.3.2.3.
TURNS = {
    "upright": ((1, 0, 0, 1), lambda p: p),
    "90 clockwise": ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
    "180": ((-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
    "90 counterclockwise": ((0, -1, 1, 0), lambda p: np.rot90(p, 1)),
    "mirrored": ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda p: p[::-1]),
    "transposed": ((0, 1, 1, 0), lambda p: p.transpose(1, 0, 2)),
    "transposed the other way": ((0, -1, -1, 0), lambda p: np.rot90(p, 2).transpose(1, 0, 2)),
}


def write_turned(path: Path, matrix: tuple[int, int, int, int], video: np.ndarray = VIDEO) -> None:
    """Write an mp4 file whose header says how to turn the picture."""
    a, b, c, d = (value * 65536 for value in matrix)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "0"})
        stream.height, stream.width, stream.pix_fmt = *video.shape[1:3], "yuv420p"
        stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        for picture in video:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("size", [None, (32, 24)])
def test_turned_as_the_header_says(tmp_path: Path, turn: str, size: tuple[int, int] | None) -> None:
    matrix, turned = TURNS[turn]
    write_turned(tmp_path / "x.mp4", matrix)
    with open_media(tmp_path / "x.mp4") as container:
        frame = next(container.decode(video=0))
        picture = to_rgb(container, frame, VideoReformatter(), size)
        stored = frame.to_ndarray(format="rgb24")
        assert shown_size(container, frame) == turned(stored).shape[:2]
        if size is not None:
            height, width = size[::-1] if turns_of(frame)[0] else size
            stored = frame.reformat(width, height, "rgb24", interpolation="BILINEAR").to_ndarray()
        assert np.array_equal(picture, turned(stored))
    video = read_mp4(tmp_path / "x.mp4").video
    assert video is not None and video.shape[1:] == turned(VIDEO[0]).shape


def test_resizing_leaves_the_padding_out(tmp_path: Path) -> None:
    """An odd picture is padded in the file; resized, it must not shrink towards the padding."""
    video = np.full((2, 5, 5, 3), 200, np.uint8)
    video[:, :, 2:] = 20
    write_mp4(tmp_path / "odd.mp4", video=video, fps=25)
    with open_media(tmp_path / "odd.mp4") as container:
        frame = next(container.decode(video=0))
        small = to_rgb(container, frame, VideoReformatter(), (5, 10))
        whole = to_rgb(container, frame, VideoReformatter(), None)
        assert shown_size(container, frame) == (5, 5) and (frame.height, frame.width) == (6, 6)
    assert whole.shape == (5, 5, 3) and small.shape == (5, 10, 3)
    want = av.VideoFrame.from_ndarray(np.ascontiguousarray(whole), format="rgb24")
    assert np.array_equal(small, want.reformat(10, 5, interpolation="BILINEAR").to_ndarray())
