"""Bad input, one table: what is wrong, where it goes in, and the clear error or the defined result that comes out.

Each row has twenty seconds and 2 GB. It must leave no file open and none behind, and an error must name the file or the
argument.
"""

import csv
import faulthandler
import io
import json
import os
import signal
import struct
import tempfile
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from types import FrameType
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from mmlearn.clip import Clip
from mmlearn.datasets import VideoFolder, read_clip, read_shards, write_shards
from mmlearn.media import read_mp4, write_mp4
from mmlearn.preprocessing.audio import (
    MFCC,
    LogMel,
    level,
    loudness,
    mix,
    pre_emphasis,
    read_audio,
    resample,
    set_loudness,
    snr,
    spectral_gate,
    to_mono,
    trim,
    wiener,
)
from mmlearn.preprocessing.image import read_image, resize, to_uint8
from mmlearn.preprocessing.text import Segmenter, Vocabulary, characters, normalize, pinyin_syllables
from mmlearn.preprocessing.video.sampling import frame_times, probe, read_frames, read_video
from tests.memory import peak_memory

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs an alarm")
LIMIT = 20  # seconds a row
MEMORY = 2.0  # gigabytes that a row may add to the most that was used so far
RATE = 16_000
Check = Callable[[Any], bool]


@dataclass(frozen=True)
class Refused:
    """An error of exactly this type, whose message matches, and which names the file unless an argument is at fault."""

    pattern: str
    kind: type[Exception] = ValueError
    file: bool = True


def argument(pattern: str, kind: type[Exception] = ValueError) -> Refused:
    return Refused(pattern, kind, file=False)


@dataclass(frozen=True)
class Row:
    """What is bad; how to make it in an empty folder; whom to give it to; what must come of it."""

    name: str
    make: Callable[[Path], Any]
    calls: Callable[[Any], Any] | tuple[Callable[[Any], Any], ...]
    expected: Refused | Check
    as_root: bool = True  # root may read everything; where False, we are nobody for a moment


# Good files, to be spoilt.


def bytes_of(write: Callable[[Path], Any], name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / name)
        return (Path(folder) / name).read_bytes()


def frames(count: int = 10, height: int = 24, width: int = 32) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (count, -(-height // 4), -(-width // 4), 3), np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)[:, :height, :width]


def noise(seconds: float = 0.4, rate: int = RATE, channels: int = 1) -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal((round(seconds * rate), channels)).squeeze()


def mp4(**changes: Any) -> bytes:
    given: dict[str, Any] = {"video": frames(), "fps": 25, "audio": noise(), "sample_rate": RATE} | changes
    return bytes_of(lambda path: write_mp4(path, **given), "x.mp4")


@cache
def film(form: str = "mp4", first: int = 0, options: tuple[tuple[str, str], ...] = ()) -> bytes:
    """Ten pictures, no sound, in any container; the first one's time is `first` / 25 s."""

    def write(path: Path) -> None:
        with av.open(str(path), "w", options=dict(options)) as out:
            stream = out.add_stream("libx264", rate=25)
            stream.height, stream.width, stream.pix_fmt = 24, 32, "yuv420p"
            for k, picture in enumerate(frames()):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = k + first, Fraction(1, 25)
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))

    return bytes_of(write, f"x.{form}")


def empty_track(path: Path) -> None:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 24, 32, "yuv420p"
        out.start_encoding()


@cache
def sound(subtype: str = "PCM_16", rate: int = RATE, channels: int = 1, form: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, noise(0.4, rate, channels), rate, subtype, format=form)
    return file.getvalue()


def wav(samples: Any, subtype: str = "DOUBLE", rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.asarray(samples, np.float64), rate, subtype, format="WAV")
    return file.getvalue()


@cache
def mp3() -> bytes:
    return sound("MPEG_LAYER_III", form="MP3")


def id3(text: bytes, size: int | None = None) -> bytes:
    """A tag of ID3v2.3 with a title, as old programs wrote it: in the encoding of their country."""
    frame = b"TIT2" + struct.pack(">I", len(text) + 1) + b"\0\0" + b"\0" + text
    length = len(frame) if size is None else size
    digits = bytes(length >> shift & 127 for shift in (21, 14, 7, 0))
    return b"ID3\x03\0\0" + digits + frame + bytes(max(0, length - len(frame)))


def picture(form: str, mode: str = "RGB", size: tuple[int, int] = (6, 4), **options: Any) -> bytes:
    file = io.BytesIO()
    image = Image.new(mode, size)
    image.paste(Image.linear_gradient("L").resize(size).convert(mode))
    image.save(file, form, **options)
    return file.getvalue()


def png16() -> bytes:
    """A 16-bit RGB picture, which Pillow cannot write."""
    rows = b"".join(b"\0" + struct.pack(">9H", *range(k, k + 9)) for k in (1000, 65_000))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 2, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def turned() -> bytes:
    """A picture 6 wide and 4 high, which EXIF says to turn by 90°."""
    exif = Image.Exif()
    exif[274] = 6
    return picture("JPEG", exif=exif)


def animated() -> bytes:
    shades = [Image.new("L", (6, 4), 80 * k) for k in range(3)]
    file = io.BytesIO()
    shades[0].save(file, "GIF", save_all=True, append_images=shades[1:])
    return file.getvalue()


def huge() -> bytes:
    file = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, "PNG")
    return file.getvalue()


def cut_off(data: bytes, share: float) -> bytes:
    return data[: int(share * len(data))]


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def office() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("word/document.xml", "<w/>" * 100)
    return file.getvalue()


# What makes the bad input.


def file(name: str, content: bytes | Callable[[], bytes]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content())
        return folder / name

    return make


def relative(name: str, content: bytes) -> Callable[[Path], Path]:
    """A file of the working folder, without its folder's name."""

    def make(folder: Path) -> Path:
        os.chdir(folder)
        return Path(file(name, content)(folder).name)

    return make


def link(target: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "link.mp4").symlink_to(target)
        return folder / "link.mp4"

    return make


def made(name: str, make: Callable[[Path], Any]) -> Callable[[Path], Path]:
    def made_there(folder: Path) -> Path:
        make(folder / name)
        return folder / name

    return made_there


def forbidden(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = file(name, content)(folder)
        path.chmod(0)
        return path

    return make


def value(thing: Any) -> Callable[[Path], Any]:
    return lambda _: thing


def put(**changes: Any) -> Callable[[Path], dict[str, Any]]:
    """Arguments of `write_mp4`."""

    def make(folder: Path) -> dict[str, Any]:
        given = {"video": frames(), "fps": 25, "sample_rate": RATE, "where": "out.mp4"} | changes
        if isinstance(given.get("audio"), list):
            given["audio"] = np.array(given["audio"])
        return {"path": folder / given.pop("where"), **given}

    return make


def value_of_folder(folder: Path) -> Path:
    return folder


def strange_tree(folder: Path) -> Path:
    """Good files in two classes, and what is found among files."""
    tree(a__y_mp4=mp4(), b__z_wav=sound())(folder)
    forbidden("a/forbidden.mp4", mp4(video=frames(3)))(folder)
    (folder / "a/x.mp4").mkdir()
    (folder / "a/loop.mp4").symlink_to("loop.mp4")
    (folder / "b/up").symlink_to("..")
    return folder


def table(content: str | bytes) -> Callable[[Path], Path]:
    """A table beside two good files."""

    def make(folder: Path) -> Path:
        file("a.mp4", mp4())(folder)
        file("b.wav", sound())(folder)
        return file("clips.csv", content.encode() if isinstance(content, str) else content)(folder)

    return make


def tree(**files: bytes) -> Callable[[Path], Path]:
    """A folder per class; in the names, "__" stands for "/" and the last "_" for "."."""

    def make(folder: Path) -> Path:
        for name, content in files.items():
            file(".".join(name.replace("__", "/").rsplit("_", 1)), content)(folder)
        return folder

    return make


def shards(spoil: Callable[[Path], Any]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        clips = VideoFolder(tree(one__a_mp4=mp4(), two__b_wav=sound())(folder / "in"), workers=1, cache=False)
        write_shards(clips, folder / "out")
        spoil(folder / "out")
        return folder / "out"

    return make


def cut(path: Path, share: float) -> None:
    path.write_bytes(cut_off(path.read_bytes(), share))


def flip(path: Path, at: int) -> None:
    path.write_bytes(flipped(path.read_bytes(), at))


def edit_index(**changes: Any) -> Callable[[Path], None]:
    def edit(out: Path) -> None:
        index = json.loads((out / "shards.json").read_text()) | changes
        (out / "shards.json").write_text(json.dumps(index))

    return edit


# Whom it goes to.


def two_frames(source: Any) -> np.ndarray:
    return read_video(source, num_frames=2)[0]


def frame_at_zero(source: Any) -> np.ndarray:
    return read_frames(source, [0.0])[0]


def open_folder(root: Any, **settings: Any) -> VideoFolder:
    return VideoFolder(root, workers=1, cache=False, num_frames=2, **settings)


def stream_shards(out: Any) -> list[Clip]:
    return list(read_shards(out, num_frames=2))


@cache
def segmenter() -> Segmenter:
    return Segmenter()


def write(given: dict[str, Any]) -> None:
    write_mp4(**given)


def texts_of(path: Path) -> list[str | None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return [clip.text for clip in open_folder(path)]


def skipped_of(path: Path) -> dict[str, str]:
    with pytest.warns(UserWarning, match="left out"):
        return open_folder(path).skipped


def first(word: str | tuple[str, str]) -> str:
    """Return a word without its tag."""
    return word if isinstance(word, str) else word[0]


MEDIA = (probe, frame_times, two_frames, frame_at_zero, read_audio, read_mp4, read_clip, Clip.load)
PICTURES = (frame_times, two_frames, frame_at_zero)
WHOLE = (read_mp4, read_clip, Clip.load)
TEXT = (
    normalize,
    characters,
    pinyin_syllables,
    lambda text: segmenter().words(text),
    lambda text: segmenter().tags(text),
)
SAMPLES: tuple[Callable[[Any], Any], ...] = (
    LogMel(),
    MFCC(),
    to_mono,
    level,
    pre_emphasis,
    partial(resample, from_rate=RATE, to_rate=8_000),
    partial(trim, sample_rate=RATE),
    partial(spectral_gate, sample_rate=RATE),
    partial(wiener, sample_rate=RATE),
    partial(mix, noise=np.ones(9, np.float32), snr_db=3),
    lambda audio: mix(np.ones(9, np.float32), audio, 3),
    lambda audio: snr(audio, audio),
)
LOUDNESS = (partial(loudness, sample_rate=RATE), partial(set_loudness, sample_rate=RATE))


# What must come of it.


def has(shape: tuple[int, ...], dtype: type = np.uint8) -> Check:
    return lambda found: found.shape == shape and found.dtype == dtype


def holds(**lengths: int) -> Check:
    """A clip or a MediaFile with these streams, as long as that."""

    def check(found: Any) -> bool:
        streams = {name: getattr(found, name) for name in ("video", "audio")}
        return {name: len(stream) for name, stream in streams.items() if stream is not None} == lengths

    return check


def sounds(samples: int, peak: float = 0.5) -> Check:
    return lambda found: found.dtype == np.float32 and found.shape == (samples,) and 0 < np.abs(found).max() <= peak


def is_finite(found: Any) -> bool:
    parts = found if isinstance(found, tuple) else (found,)
    return all(np.isfinite(part).all() or part in (np.inf, -np.inf) for part in map(np.asarray, parts))


def anything(_: Any) -> bool:
    return True


UTF16 = "path,text\na.mp4,红\n".encode("utf-16")
NOT_MEDIA = Refused("cannot decode these .* bytes; expected a complete video or sound file")
TOO_EARLY = Refused("ends too early|cannot decode|cut off|empty|neither pictures nor sound")
SDP = (
    b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
)
HLS = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"
VOCABULARY = b'{"mmlearn_vocabulary": 1, "tokenize": "list", "special": [], "tokens": ["a", "b"]}'
STRANGE_NOTES = json.dumps({"text": 5, "labels": [1], "name": 7, "times": {"video": 3}})

# fmt: off
ROWS = [
    # any media file
    Row("empty file", file("x.mp4", b""), MEDIA, Refused("the file is empty")),
    Row("empty bytes", value(io.BytesIO()), MEDIA[:-1], Refused("<bytes>: the file is empty")),
    Row("text named .mp4", file("x.mp4", b"<html>404 Not Found</html>\n" * 40), MEDIA, NOT_MEDIA),
    Row("zeros", file("x.mp4", bytes(50_000)), MEDIA, NOT_MEDIA),
    Row("an office document named .mp4", file("x.mp4", office), MEDIA, NOT_MEDIA),
    Row("subtitles named .mp4", file("x.mp4", b"1\n00:00:00,000 --> 00:00:01,000\nhello\n\n"), WHOLE,
        Refused("neither pictures nor sound")),
    Row("a playlist", file("x.m3u8", HLS), MEDIA, NOT_MEDIA),
    Row("a description of a stream: no network, no waiting", value(io.BytesIO(SDP)), (two_frames, read_audio),
        NOT_MEDIA),
    Row("a folder named x.mp4", made("x.mp4", Path.mkdir), MEDIA, Refused("a folder; expected a file")),
    Row("a pipe", made("x.mp4", lambda path: os.mkfifo(path)), MEDIA, Refused("no regular file")),
    Row("symbolic-link loop", link("link.mp4"), MEDIA, Refused("symbolic links")),
    Row("dangling link", link("nothing.mp4"), MEDIA, Refused("no such file", FileNotFoundError)),
    Row("no such file", lambda folder: folder / "x.mp4", MEDIA, Refused("no such file", FileNotFoundError)),
    Row("no permission", forbidden("x.mp4", mp4()), MEDIA, Refused("Permission denied", PermissionError),
        as_root=False),
    Row("too long a name", lambda folder: folder / f"{'x' * 300}.mp4", MEDIA, Refused("too long")),
    Row("null byte in the name", value("x\0.mp4"), MEDIA, Refused("null (byte|character)")),
    Row("spaces and Unicode in the path", file("我的 视频 é🙂/山 水.mp4", mp4()), MEDIA, anything),
    Row("percent sign and line break in the name", file("100%d\n.mp4", mp4()), MEDIA, anything),
    Row("a colon in a relative name is no URL", relative("10:30 lecture.mp4", mp4()), MEDIA, anything),
    Row("a relative name like FFmpeg's for stdin", relative("pipe:0", mp4()), MEDIA, anything),
    Row("neither path nor file", value(3), MEDIA, Refused("source is int|not int", TypeError)),
    Row("a text file object", value(io.StringIO("x")), MEDIA[:-1], Refused("source is StringIO", TypeError)),
    Row("wrong suffix: a wav named .mp4", file("x.mp4", sound()), (read_clip, read_mp4), holds(audio=6_400)),

    # mp4
    *(Row(f"mp4 cut at {share} of 20", file("x.mp4", mp4()[: len(mp4()) * share // 20]), WHOLE, TOO_EARLY)
      for share in (0, 1, 2, 4, 6, 8, 10, 12, 15, 18)),
    *(Row(f"mp4 with its index at the end, cut at {share} of 4", file("x.mp4", film()[: len(film()) * share // 4]),
          (*PICTURES, *WHOLE), Refused("cannot decode|no video stream|neither")) for share in (1, 3)),
    Row("mp4 without an index", file("x.mp4", mp4().replace(b"moov", b"mooo")), MEDIA, NOT_MEDIA),
    Row("mp4 with half its pictures overwritten", file("x.mp4", film()[:600] + bytes(len(film()) - 600)), MEDIA,
        NOT_MEDIA),
    Row("zero frames", made("x.mp4", empty_track), (*PICTURES, *WHOLE), Refused("no video stream|neither pictures")),
    Row("zero frames, mkv", made("x.mkv", empty_track), MEDIA, NOT_MEDIA),
    Row("no video stream", file("x.mp4", mp4(video=None)), PICTURES, Refused("no video stream 0")),
    Row("audio only", file("x.mp4", mp4(video=None)), WHOLE, holds(audio=6_400)),
    Row("no sound", file("x.mp4", film()), read_audio, Refused("no audio stream 0")),
    Row("no sound is no error for a clip", file("x.mp4", film()), (read_mp4, Clip.load), holds(video=10)),
    Row("a codec that nobody knows", file("x.mp4", film().replace(b"avc1", b"zzzz")), PICTURES,
        Refused("no video stream")),
    Row("a codec that nobody knows, whole", file("x.mp4", film().replace(b"avc1", b"zzzz")), WHOLE,
        Refused("neither pictures nor sound")),
    Row("sound in a codec that nobody knows", file("x.wav", sound()[:20] + b"\x99\x99" + sound()[22:]),
        (read_audio, *WHOLE), Refused("no audio stream|neither pictures nor sound")),
    Row("tags in GBK", file("x.mp4", mp4(metadata={"title": "abcd"}).replace(b"abcd", "红山".encode("gbk"))), MEDIA,
        anything),
    Row("somebody else's JSON in the comment", file("x.mp4", mp4(metadata={"comment": STRANGE_NOTES})), Clip.load,
        lambda clip: clip.text is None and clip.labels == {} and clip.times == {} and clip.name.endswith("x.mp4")),
    Row("a comment nested 50,000 deep", file("x.mp4", lambda: mp4(metadata={"comment": "[" * 50_000})), Clip.load,
        lambda clip: clip.labels == {}),
    Row("a size that is none in our own tag", file("x.mp4", mp4().replace(b"24x32", b"a lot")), two_frames,
        has((2, 24, 32, 3))),
    Row("mkv whose duration is no time", file("x.mkv", film("mkv").replace(b"00:00:00.4", b"one second")), two_frames,
        has((2, 24, 32, 3))),
    Row("1×1 video", file("x.mp4", mp4(video=frames(3, 1, 1))), two_frames, has((2, 1, 1, 3))),
    Row("odd sizes", file("x.mp4", mp4(video=frames(3, 17, 5))), two_frames, has((2, 17, 5, 3))),
    Row("one frame", file("x.mp4", mp4(video=frames(1))), two_frames, has((2, 24, 32, 3))),
    Row("sound longer than pictures", file("x.mp4", mp4(audio=noise(2.0))), read_clip, holds(video=16, audio=32_000)),
    Row("pictures longer than sound", file("x.mp4", mp4(audio=noise(0.1))), read_clip, holds(video=16, audio=1_600)),
    Row("first frame at -0.2 s", file("x.mov", film("mov", -5, (("avoid_negative_ts", "disabled"),))), frame_times,
        lambda times: times[0] == 0 and 0 < len(times) <= 10),
    Row("first frame at 400 s", file("x.ts", film("ts", 10_000)), frame_times,
        lambda times: np.allclose(times, np.arange(10) / 25)),

    # arguments of readers and writers
    Row("a time that is no number", file("x.mp4", mp4()), partial(read_frames, times=[0, np.nan]), argument("times")),
    Row("no times", file("x.mp4", mp4()), partial(read_frames, times=[]), argument("times")),
    Row("times before and after the film", file("x.mp4", mp4()), lambda path: read_frames(path, [-1e9, 1e300])[1],
        lambda shown: np.allclose(shown, [0, 0.36])),
    Row("no frames wanted", file("x.mp4", mp4()), partial(read_video, num_frames=0), argument("count is 0")),
    Row("frames of no height", file("x.mp4", mp4()), partial(read_video, size=(0, 5)), argument(r"size is \(0, 5\)")),
    Row("a window that ends before it starts", file("x.mp4", mp4()),
        (partial(read_video, start=2, end=1), partial(read_audio, start=2, end=1)), argument("2.* 1")),
    Row("a window after the end", file("x.mp4", mp4()), partial(read_audio, start=9), Refused("no sound after 9 s")),
    Row("no such stream", file("x.mp4", mp4()), (partial(read_video, stream=5), partial(read_audio, stream=-1)),
        Refused("no (video|audio) stream (5|-1)")),
    Row("rate 0", file("x.mp4", mp4()), partial(read_audio, sample_rate=0), argument("sample_rate is 0")),
    Row("nothing to write", put(video=None), write, Refused("neither video nor audio")),
    Row("no frames to write", put(video=frames()[:0]), write, argument("video is uint8")),
    Row("frames in floats", put(video=frames() / 255), write, argument("video is float64")),
    Row("0 frames a second", put(fps=0), write, argument("fps is 0")),
    Row("sound that is no number", put(audio=[0.0, np.nan]), write, argument("audio is float64")),
    Row("a side of 20,000 pixels in H.264", put(video=np.zeros((1, 16, 20_000, 3), np.uint8)), write,
        Refused("20000|20,000")),
    Row("a folder that is not there", put(where="nowhere/out.mp4"), write, Refused("such folder", FileNotFoundError)),

    # pictures
    Row("empty picture", file("x.png", b""), read_image, Refused("is empty")),
    Row("text named .png", file("x.png", b"no picture"), read_image, Refused("begins with b'no pictu'")),
    Row("a video named .png", file("x.png", mp4()), read_image, Refused("expected a picture")),
    *(Row(f"{form} cut at {share} of 10", file(f"x.{form}", cut_off(picture(form, size=(64, 64)), share / 10)),
        read_image,
          Refused(f"x.{form}: ")) for form in ("JPEG", "PNG", "WEBP", "TIFF", "BMP") for share in (1, 5, 9)),
    Row("png with a wrong checksum", file("x.png", flipped(picture("PNG", size=(64, 64)), 60)), read_image,
        Refused("damaged")),
    Row("png of 80 bytes that claims 4 GB", file("x.png", picture("PNG")[:33] + b"\xff" * 4 + picture("PNG")[37:]),
        read_image, Refused("x.png")),
    Row("a folder named x.png", made("x.png", Path.mkdir), read_image, Refused("cannot be read")),
    Row("picture without permission", forbidden("x.png", picture("PNG")), read_image, Refused("Permission denied"),
        as_root=False),
    Row("link to itself", link("link.mp4"), read_image, Refused("symbolic links")),
    Row("no such picture", lambda folder: folder / "x.png", read_image, Refused("no such file", FileNotFoundError)),
    Row("picture with spaces and Unicode in its path", file("我的 图/山 水.png", picture("PNG")), read_image,
        has((4, 6, 3))),
    Row("a jpg named .png", file("x.png", picture("JPEG")), read_image, has((4, 6, 3))),
    Row("1×1 picture", file("x.png", picture("PNG", size=(1, 1))), read_image, has((1, 1, 3))),
    Row("a side of 20,000 pixels", file("x.png", picture("PNG", "L", size=(20_000, 2))), read_image,
        has((2, 20_000, 3))),
    Row("20,000 × 20,000 pixels", file("x.png", huge), read_image, Refused("pixels that are allowed|pixels; at most")),
    Row("16-bit png", file("x.png", png16), read_image,
        lambda found: found.dtype == np.uint16 and found[1, 2].tolist() == [65_006, 65_007, 65_008]),
    Row("16-bit grey png", file("x.png", picture("PNG", "I;16")), read_image, has((4, 6, 3), np.uint16)),
    Row("1-bit png", file("x.png", picture("PNG", "1")), read_image, has((4, 6, 3))),
    Row("palette with transparency", file("x.png", picture("PNG", "P", transparency=0)), read_image, has((4, 6, 3))),
    Row("grey with alpha", file("x.png", picture("PNG", "LA")), read_image, has((4, 6, 3))),
    Row("CMYK jpg", file("x.jpg", picture("JPEG", "CMYK")), read_image, has((4, 6, 3))),
    Row("jpg that EXIF turns", file("x.jpg", turned), read_image, has((6, 4, 3))),
    Row("floating-point tiff", file("x.tiff", picture("TIFF", "F")), read_image, Refused("float32")),
    Row("animated gif as a picture", file("x.gif", animated), read_image, Refused("holds 3 pictures")),
    Row("animated gif as a video", file("x.gif", animated), two_frames, has((2, 4, 6, 3))),
    Row("picture of no pixels", value(np.zeros((0, 4, 3), np.uint8)), partial(resize, size=4),
        argument("no side of 0")),
    Row("resizing to nothing", value(np.zeros((4, 4, 3), np.uint8)), partial(resize, size=(0, 4)),
        argument(r"\(0, 4\)")),
    Row("resizing 1×1", value(np.full((1, 1, 3), 7, np.uint8)), partial(resize, size=(50, 3)), has((50, 3, 3))),
    Row("resizing to a side of 20,000", value(np.zeros((2, 2), np.uint8)), partial(resize, size=(2, 20_000)),
        has((2, 20_000))),
    Row("picture in float64", value(np.zeros((4, 4, 3))), partial(resize, size=4), argument("float64")),
    Row("NaN in a picture", value(np.full((4, 4, 3), np.nan, np.float32)), to_uint8, argument("nan")),

    # sound files
    Row("8-bit wav", file("x.wav", sound("PCM_U8")), read_audio, sounds(6_400)),
    Row("24-bit wav", file("x.wav", sound("PCM_24")), read_audio, sounds(6_400)),
    Row("float64 wav at 44.1 kHz", file("x.wav", sound("DOUBLE", 44_100)), read_audio, sounds(6_400)),
    Row("192 kHz", file("x.wav", sound(rate=192_000)), read_audio, sounds(6_400)),
    Row("6 channels", file("x.wav", sound(channels=6)), read_audio, sounds(6_400)),
    Row("one sample", file("x.wav", wav([0.25])), read_audio, sounds(1)),
    Row("zero samples", file("x.wav", wav([])), (read_audio, read_clip), Refused("no sound|neither|cannot decode")),
    Row("silence", file("x.wav", wav(np.zeros(999))), read_audio,
        lambda found: found.shape == (999,) and not found.any()),
    Row("NaN in a wav", file("x.wav", wav([0, np.nan, 1])), (read_audio, read_clip), Refused(r"nan at \[1\]")),
    Row("infinity in a wav", file("x.wav", wav([0, -np.inf, 1])), (read_audio, read_clip), Refused(r"-inf at \[1\]")),
    Row("of another scale", file("x.wav", wav([2.0, -3.0])), (read_audio, read_clip, read_mp4),
        Refused("samples reach 3; expected")),
    Row("wav cut in half", file("x.wav", cut_off(sound(), 0.5)), (read_audio, read_clip), Refused("ends too early")),
    Row("wav cut in its header", file("x.wav", sound()[:30]), (read_audio, read_clip), NOT_MEDIA),
    Row("wav whose header knows no length", file("x.wav", sound().replace(sound()[4:8], b"\xff" * 4).replace(
        sound()[40:44], b"\xff" * 4)), read_audio, sounds(6_400)),
    Row("a wav named .mp3", file("x.mp3", sound()), read_audio, sounds(6_400)),
    Row("mp3", file("x.mp3", mp3), read_audio, lambda found: abs(len(found) - 6_400) <= 1_200),
    Row("mp3 with a title in GBK", file("x.mp3", id3("红山".encode("gbk")) + mp3()), read_audio, anything),
    Row("mp3 after 300 kB of tags", file("x.mp3", id3(b"x", 300_000) + mp3()), read_audio, anything),
    Row("mp3 whose tag is longer than the file", file("x.mp3", id3(b"x", 300_000)[:200] + mp3()), read_audio,
        NOT_MEDIA),
    Row("ogg cut in half", file("x.ogg", cut_off(sound("VORBIS", form="OGG"), 0.5)), read_audio, Refused("x.ogg")),
    Row("flac cut in half", file("x.flac", cut_off(sound(form="FLAC"), 0.5)), read_audio,
        Refused("ends too early|decode")),

    # samples
    Row("NaN in samples", value(np.float32([0, np.nan, 1])), SAMPLES, argument("nan|not finite")),
    Row("infinity in samples", value(np.float32([0, np.inf, 1])), SAMPLES, argument("inf|not finite")),
    Row("no samples", value(np.zeros(0, np.float32)), SAMPLES + LOUDNESS, argument("audio|speech|noise|clean")),
    Row("whole numbers as samples", value(np.ones(999, np.int16)), SAMPLES + LOUDNESS, argument("int16")),
    Row("silent samples", value(np.zeros(9_999, np.float32)), SAMPLES + LOUDNESS, is_finite),
    Row("one sample in memory", value(np.float32([0.5])), SAMPLES, is_finite),
    Row("shorter than a window", value(np.float32([0.5, -0.5] * 30)), SAMPLES, is_finite),
    Row("too short to be loud", value(np.float32([0.5])), LOUDNESS, argument("0.4 s")),

    # text
    Row("empty text", value(""), TEXT, lambda found: len(found) == 0),
    Row("white space", value(" \t\r\n\u3000"), TEXT[1:], lambda found: "".join(map(first, found)).strip() == ""),
    Row("white space, normalised", value(" \t\r\n\u3000"), normalize, lambda found: found == ""),
    Row("emoji", value("我👩‍👩‍👧爱🇨🇳"), (normalize, lambda text: "".join(characters(text))),
        lambda found: found == "我👩‍👩‍👧爱🇨🇳"),
    Row("emoji in words", value("我👩‍👩‍👧爱🇨🇳"), TEXT[3:],
        lambda found: "".join(map(first, found)) == "我👩‍👩‍👧爱🇨🇳"),
    Row("a sentence of 1 MB", value("南京市长江大桥" * 50_000), (TEXT[0], TEXT[1], TEXT[3]), anything),
    Row("1 MB of one character", value("啊" * 350_000), (TEXT[0], TEXT[1], TEXT[3]), anything),
    Row("300 kB of traditional characters", value("龍飛鳳舞" * 25_000), (TEXT[0], TEXT[1], TEXT[3]), anything),
    Row("control characters", value("红\0\x1b[31m\u200b\u202e山"), normalize, lambda found: found == "红[31m山"),
    Row("unpaired surrogates", value("红\ud800山\udfff"), normalize, lambda found: found == "红\ufffd山\ufffd"),
    Row("unpaired surrogates in words", value("红\ud800山\udfff"), TEXT[1:], lambda found: len(found) >= 3),
    Row("traditional characters", value("龍門石窟"), lambda text: Vocabulary(["龙门石窟"]).unknowns([text])[:2],
        lambda found: found == (2, 4)),
    Row("no string", value(None), TEXT, argument("text is NoneType", TypeError)),
    Row("bytes", value("红".encode()), TEXT, argument("text is bytes", TypeError)),
    Row("one string for many texts", value("红山"), Vocabulary, argument("texts is a single str", TypeError)),
    Row("no texts", value([]), Vocabulary, argument("texts hold no character")),
    Row("vocabulary that is not JSON", file("v.json", b'{"tokens": ['), Vocabulary.load, Refused("not JSON")),
    Row("vocabulary nested 100,000 deep", file("v.json", b"[" * 100_000), Vocabulary.load, Refused("not JSON")),
    Row("vocabulary of another version", file("v.json", b'{"mmlearn_vocabulary": 2}'), Vocabulary.load,
        Refused("version is 2")),
    Row("somebody else's JSON", file("v.json", b"[1, 2]"), Vocabulary.load, Refused("version is None")),
    Row("vocabulary with a token twice", file("v.json", VOCABULARY.replace(b'"b"', b'"a"')), Vocabulary.load,
        Refused("twice")),
    Row("vocabulary with a number for a token", file("v.json", VOCABULARY.replace(b'"b"', b"3")), Vocabulary.load,
        Refused("lists of strings")),
    Row("vocabulary of an unknown tokeniser", file("v.json", VOCABULARY.replace(b"list", b"lost")), Vocabulary.load,
        Refused("tokeniser 'lost'")),
    Row("vocabulary in UTF-16", file("v.json", VOCABULARY.decode().encode("utf-16")), Vocabulary.load,
        Refused("not JSON")),
    Row("a bad line in a user dictionary", file("w.txt", "云计算 5 n\n红山 多 n x\n".encode()), Segmenter,
        Refused("line 2")),
    Row("a word that can never be found", file("w.txt", "云计算\n\n☃雪 3\n".encode()), Segmenter,
        Refused("line 3: '☃雪' could")),
    Row("user dictionary in GBK", file("w.txt", "云计算 5 n\n".encode("gbk")), Segmenter,
        Refused("UTF-8, but byte 0")),
    Row("no user dictionary", lambda folder: folder / "w.txt", Segmenter, Refused("no such file", FileNotFoundError)),

    # folders and tables
    Row("empty folder", value_of_folder, open_folder, Refused("found no video or sound file, but nothing")),
    Row("no such folder", lambda folder: folder / "x", open_folder, Refused("no such folder", FileNotFoundError)),
    Row("a folder of text", tree(a__b_txt=b"x"), open_folder, Refused("found no video or sound file, but 1 .txt")),
    Row("nothing but broken files", tree(a__x_mp4=b"x"), open_folder,
        Refused("none of 1 clips can be used; a/x.mp4: cannot")),
    Row("broken files among good ones", tree(a__x_mp4=b"x", a__y_mp4=mp4(), b__z_wav=sound()), skipped_of,
        lambda skipped: list(skipped) == ["a/x.mp4"]),
    Row("broken files, strictly", tree(a__x_mp4=b"x", a__y_mp4=mp4()), partial(open_folder, strict=True),
        Refused("x.mp4: cannot")),
    Row("a folder x.mp4, a loop, a forbidden file among good ones", strange_tree, skipped_of,
        lambda skipped: sorted(skipped) == ["a/forbidden.mp4", "a/loop.mp4", "a/x.mp4", "b/up"], as_root=False),
    Row("empty table", table(""), open_folder, Refused("the first line names")),
    Row("table of one line", table("path,text\n"), open_folder, Refused("found no video or sound")),
    Row("table without paths", table("file,text\na.mp4,x\n"), open_folder, Refused("expected path,text")),
    Row("table with semicolons", table("path;text\na.mp4;x\n"), open_folder, Refused("semicolons")),
    Row("table with a byte order mark", table("\ufeffpath,text\na.mp4,红\n"), texts_of, lambda texts: texts == ["红"]),
    Row("table in GB18030", table("path,text\na.mp4,红山\n".encode("gb18030")), open_folder,
        Refused("could be GB18030")),
    Row("table in UTF-16", table(UTF16), open_folder, Refused("UTF-16")),
    Row("table with a line too short", table("path,text\na.mp4\n"), open_folder,
        Refused("line 2: found 1 cells; expected 2")),
    Row("table with a column twice", table("path,a,a\na.mp4,1,2\n"), open_folder, Refused("different name")),
    Row("table with an open quotation mark", table('path,text\na.mp4,"x\n'), open_folder, Refused("line 2")),
    Row("table with an endless cell", table("path,text\na.mp4," + "x" * csv.field_size_limit() + "x\n"), open_folder,
        Refused("line 2: field larger")),
    Row("table with null bytes", table("path,text\na.mp4,x\0y\n"), texts_of, lambda texts: texts == ["x\0y"]),
    Row("a path with a null byte", table("path,text\na\0.mp4,x\na.mp4,y\n"), texts_of, lambda texts: texts == ["y"]),
    Row("a path that is a folder", table("path,text\n.,x\na.mp4,y\n"), texts_of, lambda texts: texts == ["y"]),
    Row("an empty path", table("path,text\n,x\n"), open_folder, Refused("line 2: the path is empty")),
    Row("the same file twice", table("path,text\na.mp4,x\na.mp4,y\n"), texts_of, lambda texts: texts == ["x", "y"]),
    Row("missing files", table("path,text\nnone.mp4,x\na.mp4,y\n"), skipped_of,
        lambda skipped: list(skipped) == ["none.mp4"]),
    Row("a label that is not finite", table("path,age\na.mp4,1\nb.wav,inf\n"), open_folder,
        Refused("line 3: age is 'inf'")),
    Row("a label that is missing", table("path,age\na.mp4,1\nb.wav,\n"),
        lambda path: [c.labels for c in open_folder(path)],
        lambda labels: labels == [{"age": 1}, {}]),
    Row("a split that nobody named", table("path,split\na.mp4,train\n"), partial(open_folder, split="test"),
        Refused("'test'")),

    # shards
    Row("shard cut in half", shards(lambda out: cut(out / "shard-000000.tar", 0.5)), stream_shards,
        Refused("damaged", file=False)),
    Row("shard with a bit flipped", shards(lambda out: flip(out / "shard-000000.tar", 2_000)), stream_shards,
        Refused("shard-000000.tar: the shard is damaged", file=False)),
    Row("shard that is gone", shards(lambda out: (out / "shard-000000.tar").unlink()), stream_shards,
        Refused("shard-000000.tar", FileNotFoundError, file=False)),
    Row("shards without an index", shards(lambda out: (out / "shards.json").unlink()), stream_shards,
        Refused("no shards.json", FileNotFoundError)),
    Row("index cut in half", shards(lambda out: cut(out / "shards.json", 0.5)), stream_shards,
        Refused("shards.json: damaged")),
    Row("index of another version", shards(edit_index(version=2)), stream_shards, Refused("shards.json.*version")),
    Row("index with an entry of another kind", shards(edit_index(shards=[{}])), stream_shards,
        Refused("shards.json: damaged")),
    Row("index with numbers for shards", shards(edit_index(shards=[1])), stream_shards,
        Refused("shards.json: damaged")),
    Row("index that leads elsewhere", shards(edit_index(shards=[{"name": "../../x", "clips": 1, "bytes": 1}])),
        stream_shards,
        Refused("shards.json: damaged")),
    Row("a folder that is no shards", value_of_folder, stream_shards, Refused("no shards.json", FileNotFoundError)),
]
# fmt: on


class TooSlow(BaseException):
    """Raised by the alarm; no `except Exception` holds it up."""


@pytest.fixture(autouse=True)
def time_limit() -> Iterator[None]:
    def stop(_: int, __: FrameType | None) -> None:
        raise TooSlow(f"it took longer than {LIMIT} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    faulthandler.dump_traceback_later(6 * LIMIT, exit=True)  # where C code does not let the alarm through
    began = time.monotonic()
    yield
    faulthandler.cancel_dump_traceback_later()
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    assert time.monotonic() < began + LIMIT, "it took too long, and something swallowed the alarm"


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder that any user can enter, with another one below for temporary files, which must stay empty."""
    with tempfile.TemporaryDirectory(prefix="mmlearn-bad-") as name:
        scratch, inputs = Path(name, "temporary"), Path(name, "inputs")
        for path in (Path(name), scratch, inputs):
            path.mkdir(exist_ok=True)
            path.chmod(0o777)
        monkeypatch.chdir("/")
        monkeypatch.setattr(tempfile, "tempdir", str(scratch))
        monkeypatch.setenv("MMLEARN_HOME", str(Path(name, "home")))
        yield inputs
        monkeypatch.undo()
        assert not list(scratch.iterdir()), "temporary files are left behind"


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Be nobody, if we are root. What was not imported before cannot be: nobody may not read our Python."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def files_in(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


def open_in(folder: Path) -> list[str]:
    """Which files of a folder this process holds open."""
    if not Path("/proc/self/fd").is_dir():
        return []
    links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    return [target for target in (os.readlink(name) for name in links if os.path.islink(name)) if str(folder) in target]


def name_in_errors(given: Any, folder: Path) -> str:
    if isinstance(given, dict):
        given = given["path"]
    if isinstance(given, Path):
        return given.name if given != folder else str(folder)
    return "<bytes>" if isinstance(given, io.BytesIO) else ""


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.filterwarnings("error::ResourceWarning")
def test_bad_input(row: Row, folder: Path) -> None:
    given = row.make(folder)
    before, most = files_in(folder), peak_memory()
    for call in row.calls if isinstance(row.calls, tuple) else (row.calls,):
        with nullcontext() if row.as_root else ordinary_user():
            if not isinstance(row.expected, Refused):
                assert row.expected(call(given)), call
                continue
            with pytest.raises(row.expected.kind, match=row.expected.pattern) as caught:
                call(given)
        assert type(caught.value) is row.expected.kind, f"{call}: {caught.type}"  # not one of a library's own
        assert not row.expected.file or name_in_errors(given, folder) in str(caught.value), call
        del caught
    assert peak_memory() < most + MEMORY, "it took too much memory"
    assert files_in(folder) == before
    assert not open_in(folder)


def test_the_table_is_large_enough() -> None:
    assert len(ROWS) >= 60 and len({row.name for row in ROWS}) == len(ROWS)
