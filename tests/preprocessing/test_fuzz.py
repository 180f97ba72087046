"""Damaged files: small real ones with random bytes changed or cut, and splices of two, given to every reader.

Allowed is a ValueError that names the file, or a result that keeps its contract and agrees with a full decode (see
`full_decode.py`), in a minute and in 2 GB of memory. Decoders are C code: they work in a process of their own, which
dies in their place.

`MMLEARN_FUZZ=300 pytest -s tests/preprocessing/test_fuzz.py` tries 300 cases of each kind, and other ones every time,
allows 5 s a case, and prints what came of them.
"""

import faulthandler
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.memory import peak_memory
from tests.places import ROOT
from tests.preprocessing.full_decode import Patched, compare_all, compare_picture, compare_shown, compare_sound
from tests.preprocessing.splices import splices

CASES = int(os.environ.get("MMLEARN_FUZZ", 0))
LIMIT = float(os.environ.get("MMLEARN_FUZZ_SECONDS", 5 if CASES else 60))  # a case; a busy machine may be slow
MEMORY = 2.0  # gigabytes that one case may add to the most that was used so far
NASTY = [bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\x00\x00\x00", b"\x00\x00\x00\x01",
         b'"', b"\n", b",", b";", b"null", b"-1", b"1e999", b"../", "\ufeff国".encode(), b"\xc3\x28"]  # fmt: skip


# What each reader must return. These functions run in the other process.


def check_probe(source: Any) -> None:
    from mmlearn.preprocessing.video.sampling import probe

    info = probe(source)
    for video in info.video:
        assert video.width >= 0 and video.height >= 0 and 0 < video.fps < np.inf, video
        assert video.duration is None or 0 <= video.duration < np.inf, video
    for audio in info.audio:
        assert audio.sample_rate >= 0 and audio.channels >= 0, audio
    assert info.duration is None or 0 <= info.duration < np.inf, info


def check_times(source: Any) -> None:
    from mmlearn.preprocessing.video.sampling import frame_times

    times = frame_times(source)
    assert times.dtype == np.float64 and times.ndim == 1 and len(times) >= 1
    assert np.isfinite(times).all() and (np.diff(times) >= 0).all(), times


def check_video(source: Any) -> None:
    from mmlearn.preprocessing.video.sampling import read_frames, read_video

    for frames, shown in (read_video(source, num_frames=3, size=(8, 8)), read_frames(source, [0.2, 0.0], size=(8, 8))):
        assert frames.dtype == np.uint8 and frames.shape == (len(shown), 8, 8, 3), frames.shape
        assert np.isfinite(shown).all() and (shown >= 0).all(), shown
        compare_shown(source, np.array([0.2, 0.0]) if len(shown) == 2 else None, frames, shown)


def check_audio(source: Any) -> None:
    from mmlearn.media.container import open_media, streams_of
    from mmlearn.preprocessing.audio import read_audio

    is_sound(read_audio(source))
    with open_media(rewound(source)) as container:
        rate = streams_of(container, "audio")[0].rate
    compare_sound(source, read_audio(rewound(source), rate), rate)


def rewound(source: Any) -> Any:
    if hasattr(source, "seek"):
        source.seek(0)
    return source


def is_sound(audio: np.ndarray) -> None:
    assert audio.dtype == np.float32 and audio.ndim == 1 and len(audio) >= 1, audio.shape
    assert np.isfinite(audio).all() and np.abs(audio).max() <= 1


def check_mp4(source: Any) -> None:
    from mmlearn.media import read_mp4

    media = read_mp4(source)
    assert media.video is not None or media.audio is not None
    if media.video is not None:
        assert media.video.dtype == np.uint8 and media.video.ndim == 4 and media.video.shape[3] == 3
        assert media.fps is not None and 0 < media.fps < np.inf, media.fps
    if media.audio is not None:
        assert media.audio.dtype == np.float32 and media.audio.ndim == 1 and np.isfinite(media.audio).all()
        assert media.sample_rate is not None and media.sample_rate > 0
    assert all(0 <= start <= end and isinstance(text, str) for start, end, text in media.subtitles), media.subtitles
    compare_all(source, media)


def check_clip(source: Any) -> None:
    from mmlearn.datasets import read_clip

    clip = read_clip(source, num_frames=3, size=(8, 8))
    is_clip(clip)
    if clip.video is not None and clip.times and "video" in clip.times:
        compare_shown(source, None, clip.video, np.asarray(clip.times["video"]))


def check_saved_clip(source: Any) -> None:
    from mmlearn.clip import Clip

    is_clip(Clip.load(source))


def is_clip(clip: Any) -> None:
    assert clip.video is not None or clip.audio is not None
    for name in clip.rates:
        assert 0 < clip.rates[name] < np.inf, clip.rates
        assert len(clip.seconds(name)) == len(clip.streams[name])
    if clip.audio is not None and len(clip.audio):
        is_sound(clip.audio)
    assert clip.text is None or isinstance(clip.text, str), clip.text
    assert isinstance(clip.labels, dict) and isinstance(clip.name, str), (clip.labels, clip.name)
    assert np.isfinite(clip.duration) and all(0 <= word.start <= word.end for word in clip.words), clip.words


def check_image(source: Any) -> None:
    from mmlearn.preprocessing.image import read_image

    picture = read_image(source)
    assert picture.dtype in (np.uint8, np.uint16) and picture.size and picture.ndim in (2, 3), picture.shape
    compare_picture(source.read_bytes(), picture)


def check_table(path: Any) -> None:
    from mmlearn.datasets import VideoFolder

    folder = VideoFolder(path, workers=1, cache=False, num_frames=2, size=(8, 8))
    assert len(folder) and len(folder.names) == len(folder)
    for clip in folder:
        is_clip(clip)
        assert all(np.isfinite(value) for value in clip.labels.values()), clip.labels
    folder.report()


def check_shards(path: Any) -> None:
    from mmlearn.datasets import read_shards

    (path.parent / "shards.json").write_text(json.dumps(INDEX | {"shards": [{"name": path.name, "clips": 2,
                                                        "bytes": path.stat().st_size}]}))  # fmt: skip
    shards = read_shards(path.parent, num_frames=2, size=(8, 8))
    clips = list(shards)
    assert len(clips) == len(shards) == 2, len(clips)
    for clip in clips:
        is_clip(clip)
        assert isinstance(clip.text, str) and clip.labels["label"] in (0, 1)


def check_index(path: Any) -> None:
    from mmlearn.datasets import read_shards

    shards = read_shards(path.parent, num_frames=2, size=(8, 8))
    assert isinstance(shards.classes, dict)
    assert all(isinstance(name, str) for names in shards.classes.values() for name in names), shards.classes
    clips = list(shards)
    assert len(clips) == len(shards)


def check_vocabulary(path: Any) -> None:
    from mmlearn.preprocessing.text import Vocabulary

    vocabulary = Vocabulary.load(path)
    assert vocabulary.encode("红山").tolist() and len(vocabulary) >= 2
    assert isinstance(vocabulary.decode(range(len(vocabulary))), str)


def check_user_words(path: Any) -> None:
    from mmlearn.preprocessing.text import Segmenter

    assert "".join(Segmenter(user_words=path).words("拼音词典 abc")) == "拼音词典 abc"


INDEX = {"version": 1, "clips": 2, "classes": {"label": ["水", "山"]}}
READERS: dict[str, Callable[[Any], None]] = {
    name: function for name, function in list(globals().items()) if name.startswith("check_")
}
MEDIA = ("check_probe", "check_times", "check_video", "check_audio", "check_mp4", "check_clip", "check_saved_clip")
TAKES_BYTES = {*MEDIA} - {"check_saved_clip"}


def serve() -> None:
    """Run one case a line of stdin, and answer each with one line; imports come before the first one."""
    import mmlearn.datasets
    import mmlearn.preprocessing.audio
    import mmlearn.preprocessing.image
    import mmlearn.preprocessing.video  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes elsewhere
    for line in sys.stdin:
        reader, name, as_bytes, limit = json.loads(line)
        source: Any = Path(name)
        if as_bytes:
            source = io.BytesIO(source.read_bytes())
            source.name = name
        faulthandler.dump_traceback_later(limit, exit=True)
        before, start = peak_memory(), time.monotonic()
        answer = outcome(READERS[reader], source, name)
        faulthandler.cancel_dump_traceback_later()
        if peak_memory() > before + MEMORY:
            answer = f"it took {peak_memory() - before:.1f} GB of memory ({answer})"
        print(json.dumps([answer, time.monotonic() - start, peak_memory()]), file=answers, flush=True)


def outcome(reader: Callable[[Any], None], source: Any, name: str) -> str:
    """Return "read", "patched" (it differs where the decoder patched damage), "refused", or what is wrong."""
    try:
        reader(source)
    except Patched:
        return "patched"
    except (ValueError, FileNotFoundError) as error:
        named = Path(name).name in str(error) or str(Path(name).parent) in str(error)
        return "refused" if named else f"the file is not named in this error:\n{traceback.format_exc()}"
    except BaseException:
        return traceback.format_exc()
    return "read"


if __name__ == "__main__":
    faulthandler.enable()
    serve()
    sys.exit()


# The real files.


def movie(path: Path) -> bytes:
    """Twelve frames with two groups of pictures and B-frames, sound, a subtitle."""
    from mmlearn.media import write_mp4

    rng = np.random.default_rng(0)
    video = np.repeat(rng.integers(0, 256, (12, 6, 8, 3), np.uint8), 4, axis=1).repeat(4, axis=2)
    audio = 0.3 * rng.standard_normal(8_000)
    notes = {"comment": json.dumps({"text": "红山", "labels": {"a": 1}, "name": "x", "times": {"video": [0.0] * 12}})}
    write_mp4(path, video=video, fps=25, audio=audio, sample_rate=16_000, subtitles=[(0, 0.3, "山")], metadata=notes)
    return path.read_bytes()


def remuxed(path: Path, codecs: tuple[str, str], rate: int = 16_000) -> bytes:
    """The same pictures and sound in another container."""
    import av

    from mmlearn.media import read_mp4

    movie(path.with_suffix(".mp4"))
    found = read_mp4(path.with_suffix(".mp4"))
    assert found.video is not None and found.audio is not None
    with av.open(str(path), "w") as out:
        streams = [out.add_stream(codecs[0], rate=25)] if codecs[0] else []
        streams += [out.add_stream(codecs[1], rate=rate, layout="mono")] if codecs[1] else []
        for stream in streams:
            if stream.type == "video":
                stream.height, stream.width = 24, 32
                stream.pix_fmt = "rgb8" if codecs[0] == "gif" else "yuv420p"
                out.mux([p for f in found.video for p in stream.encode(av.VideoFrame.from_ndarray(f, format="rgb24"))])
            else:
                frame = av.AudioFrame.from_ndarray(found.audio[None], format="fltp", layout="mono")
                frame.sample_rate = 16_000
                size = stream.codec_context.frame_size or 1024
                convert = av.AudioResampler(stream.format.name, "mono", rate, frame_size=size)
                frames = [*convert.resample(frame), *convert.resample(None)]
                out.mux([p for f in frames if f for p in stream.encode(f)])
            out.mux(stream.encode(None))
    return path.read_bytes()


def sound(path: Path, subtype: str) -> bytes:
    import soundfile

    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal((3_000, 2)), 16_000, subtype)
    return path.read_bytes()


def picture(path: Path, channels: int = 3, kind: str = "uint8") -> bytes:
    import cv2

    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, channels)).astype(kind)
    return bytes(cv2.imencode(path.suffix, pixels)[1])


def table(path: Path) -> bytes:
    movie(path.parent / "a.mp4")
    sound(path.parent / "b.wav", "PCM_16")
    return "path,text,split,kind,speed\na.mp4,红山,train,good,1.5\nb.wav,,test,bad,\n".encode()


def shard(path: Path) -> bytes:
    from mmlearn.datasets import VideoFolder, write_shards

    root = path.parent / "folder"
    for name in ("山", "水"):
        (root / name).mkdir(parents=True)
    movie(root / "山/a.mp4")
    sound(root / "水/b.wav", "PCM_16")
    (root / "clips.csv").write_text("path,text,label\n山/a.mp4,红山,山\n水/b.wav,绿水,水\n")
    folder = VideoFolder(root / "clips.csv", workers=1, cache=False)
    (tar,) = write_shards(folder, path.parent / "shards")
    return tar.read_bytes()


def index(path: Path) -> bytes:
    data = shard(path)
    (path.parent / "shard-000000.tar").write_bytes(data)
    return (path.parent / "shards/shards.json").read_bytes()


def vocabulary(path: Path) -> bytes:
    from mmlearn.preprocessing.text import Vocabulary

    Vocabulary(["红色的山", "a b"], special=["<start>", "<end>"]).save(path)
    return path.read_bytes()


@dataclass(frozen=True)
class Kind:
    """A kind of file: its name, how to make one, and who reads it; how many cases there are by default."""

    file: str
    make: Callable[[Path], bytes]
    readers: tuple[str, ...]
    cases: int = 40


KINDS = {
    "mp4": Kind("x.mp4", movie, MEDIA, 200),
    "mkv": Kind("x.mkv", lambda path: remuxed(path, ("libx264", "aac")), MEDIA),
    "webm": Kind("x.webm", lambda path: remuxed(path, ("libvpx", "libopus"), 48_000), MEDIA),
    "avi": Kind("x.avi", lambda path: remuxed(path, ("mpeg4", "pcm_s16le")), MEDIA),
    "mpg": Kind("x.mpg", lambda path: remuxed(path, ("mpeg1video", "mp2")), MEDIA),
    "ts": Kind("x.ts", lambda path: remuxed(path, ("libx264", "aac")), MEDIA),
    "gif": Kind("x.gif", lambda path: remuxed(path, ("gif", "")), MEDIA),
    "mov": Kind("x.mov", lambda path: remuxed(path, ("libx264", "aac")), MEDIA),
    "vp9": Kind("x.webm", lambda path: remuxed(path, ("libvpx-vp9", "libopus"), 48_000), MEDIA),
    "wav": Kind("x.wav", lambda path: sound(path, "PCM_24"), ("check_audio", "check_clip"), 100),
    "ogg": Kind("x.ogg", lambda path: sound(path, "VORBIS"), ("check_audio", "check_clip")),
    "aiff": Kind("x.aiff", lambda path: sound(path, "PCM_16"), ("check_audio", "check_clip")),
    "flac": Kind("x.flac", lambda path: sound(path, "PCM_16"), ("check_audio", "check_clip")),
    "mp3": Kind("x.mp3", lambda path: remuxed(path, ("", "libmp3lame")), ("check_audio", "check_clip")),
    "png": Kind("x.png", picture, ("check_image",), 100),
    "png16": Kind("x.png", lambda path: picture(path, 4, "uint16"), ("check_image",)),
    "jpg": Kind("x.jpg", picture, ("check_image",), 60),
    "webp": Kind("x.webp", picture, ("check_image",)),
    "tiff": Kind("x.tiff", picture, ("check_image",)),
    "csv": Kind("x.csv", table, ("check_table",), 60),
    "tar": Kind("x.tar", shard, ("check_shards",), 80),
    "index": Kind("shards.json", index, ("check_index",), 100),
    "vocabulary": Kind("x.json", vocabulary, ("check_vocabulary",), 100),
    "words": Kind("x.txt", lambda _: "拼音词典 3 n\n云计算\nabc nz\n".encode(), ("check_user_words",), 8),
}


# How they are damaged.


@st.composite
def changes(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Draw up to four changes of a file's bytes; half of them near the beginning, where headers are."""
    place = st.one_of(st.integers(0, 300), st.floats(0, 1, exclude_max=True))
    length = st.one_of(st.integers(1, 8), st.integers(1, 600))
    kinds = st.sampled_from(["flip", "cut", "drop", "zeros", "copy", "nasty", "nasty over"])
    steps = draw(st.lists(st.tuples(kinds, place, place, length, st.integers(0, 10**6)), min_size=1, max_size=4))
    return lambda data: damage(data, steps)


SPLICED = [name for name in KINDS if name not in ("csv", "tar", "index", "vocabulary", "words")]


def damages(name: str, folder: Path) -> Any:
    """Draw a change of a file of this kind, or a splice with another real file."""
    if name not in SPLICED:
        return changes()
    alike = [other for other in SPLICED if KINDS[other].readers == KINDS[name].readers]
    return st.one_of(changes(), splices(lambda other: whole_file(other, folder), [*SPLICED, *alike, name]))


@cache
def whole_file(name: str, folder: Path) -> bytes:
    place = folder / name
    place.mkdir()
    return KINDS[name].make(place / KINDS[name].file)


def damage(data: bytes, steps: list[tuple[str, float, float, int, int]]) -> bytes:
    for kind, first, second, length, number in steps:
        size = len(data)
        a, b = (min(p if isinstance(p, int) else int(p * size), size) for p in (first, second))
        nasty = NASTY[number % len(NASTY)]
        if kind == "flip" and a < size:
            data = data[:a] + bytes([data[a] ^ (1 << number % 8)]) + data[a + 1 :]
        elif kind == "cut":
            data = data[:a]
        elif kind == "drop":
            data = data[:a] + data[a + length :]
        elif kind == "zeros":
            data = data[:a] + bytes(len(data[a : a + length])) + data[a + length :]
        elif kind == "copy":
            data = data[:b] + data[a : a + length] + data[b:]
        elif kind.startswith("nasty"):
            data = data[:a] + nasty + data[a + (len(nasty) if kind == "nasty over" else 0) :]
    return data


class Worker:
    """The process in which decoders run; it is started again when it dies."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log, self._process = folder, folder / "stderr", None
        self.counts: dict[str, Counter[str]] = {}
        self.slowest, self.memory = (0.0, ""), 0.0

    def ask(self, reader: str, path: Path, as_bytes: bool, limit: float = LIMIT) -> str:
        if self._process is None:
            with open(self.log, "w") as log:
                environment = os.environ | {"MMLEARN_HOME": str(self.folder / "home"), "TQDM_DISABLE": "1",
                                            "PYTHONPATH": str(ROOT)}  # fmt: skip
                command = [sys.executable, "-W", "ignore", __file__]
                self._process: Any = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                                      stderr=log, env=environment, text=True)  # fmt: skip
        self._process.stdin.write(json.dumps([reader, str(path), as_bytes, limit]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if answer:
            what, seconds, memory = json.loads(answer)
            if limit == LIMIT:  # the first use of a reader also imports what it needs
                self.slowest = max(self.slowest, (seconds, f"{reader}, {path.name}"))
            self.memory = max(self.memory, memory)
            return str(what)
        code = self._process.wait()
        self.close()
        return f"the process ended with {code} (negative: a signal; 1: it took {limit} s):\n{self.log.read_text()}"

    def close(self) -> None:
        if self._process is not None:
            self._process.stdin.close()
            self._process.stdout.close()
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    worker = Worker(tmp_path_factory.mktemp("worker"))
    yield worker
    worker.close()
    if CASES:
        print("\nkind        files   read  patched  refused")
        for name, counts in [*worker.counts.items(), ("all", sum(worker.counts.values(), Counter()))]:
            print(f"{name:10}{counts.total():7}{counts['read']:7}{counts['patched']:9}{counts['refused']:9}")
        print(f"slowest {worker.slowest[0]:.2f} s ({worker.slowest[1]}); the process's peak {worker.memory:.2f} GB")


@pytest.mark.parametrize("name", KINDS)
def test_damaged_files_are_read_or_refused(name: str, worker: Worker, tmp_path: Path) -> None:
    counts, wrong = worker.counts.setdefault(name, Counter()), list[str]()
    kind = KINDS[name]
    path = tmp_path / kind.file
    whole = kind.make(path)
    path.write_bytes(whole)
    for reader in kind.readers:  # what is whole can be read; a gif has no sound
        expected = "refused" if (name, reader) == ("gif", "check_audio") else "read"
        assert worker.ask(reader, path, False, limit=120) == expected

    @settings(max_examples=CASES or kind.cases, derandomize=not CASES, database=None,
              phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(damages(name, worker.folder), st.sampled_from(kind.readers), st.booleans())
    def check(change: Callable[[bytes], bytes], reader: str, as_bytes: bool) -> None:
        data = change(whole)
        path.write_bytes(data)
        answer = worker.ask(reader, path, as_bytes and reader in TAKES_BYTES)
        counts[answer if answer in ("read", "patched", "refused") else "wrong"] += 1
        if answer not in ("read", "patched", "refused"):
            handle, kept = tempfile.mkstemp(prefix=f"{reader}-", suffix=path.suffix, dir=tempfile.gettempdir())
            with open(handle, "wb") as file:
                file.write(data)
            wrong.append(f"{reader}({kept}): {answer}")

    check()
    if wrong:
        pytest.fail(f"{len(wrong)} faults\n" + "\n".join(wrong), pytrace=False)
