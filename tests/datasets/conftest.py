"""Toy ingredients of HanziClips, made on the spot: no network, no recordings, the same bytes everywhere."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mmlearn.clip import Clip
from mmlearn.datasets.hanzi.dataset import HanziClips
from mmlearn.datasets.hanzi.download import HanziSources
from mmlearn.datasets.hanzi.grammar import ALPHABET
from mmlearn.datasets.hanzi.pinyin import zhuyin_of
from mmlearn.media import write_mp4

ONE_VOICE = "绿云"  # as in the real recordings: the other person did not say them


def write_toy_sources(folder: Path) -> HanziSources:
    """Write bars for strokes and square waves for syllables."""
    strokes, voices = folder / "strokes", folder / "voices"
    strokes.mkdir(parents=True)
    for k, char in enumerate(ALPHABET):
        outlines, medians = [], []
        for j in range(1 + k % 5):
            x, y = 60 + (k * 97) % 500, 780 - 170 * j
            outlines.append(f"M {x} {y} L {x + 380} {y} Q {x + 420} {y - 40} {x + 380} {y - 80} L {x} {y - 80} Z")
            medians.append([[x, y - 40], [x + 200, y - 40], [x + 400, y - 40]])
        (strokes / f"{char}.json").write_text(json.dumps({"strokes": outlines, "medians": medians}), "utf-8")
    for k, char in enumerate(ALPHABET + "天地来去开关东南西北"):
        syllable = voices / (zhuyin_of(char) or "")
        syllable.mkdir(parents=True, exist_ok=True)
        for voice in "3" if char in ONE_VOICE else "35":
            period = 40 + 5 * k + 2 * int(voice)
            wave = np.where(np.arange(12_000) // period % 2 == 0, 0.25, -0.25)
            sound = np.concatenate([np.zeros(2000), wave, np.zeros(1000)])
            soundfile.write(syllable / f"{voice}.ogg", sound, 44_100, format="WAV")  # lossless, whatever the name says
    return HanziSources(strokes=strokes, voices=voices)


@pytest.fixture(scope="session")
def toy_sources(tmp_path_factory: pytest.TempPathFactory) -> HanziSources:
    return write_toy_sources(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MMLEARN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def write(path: Path, seed: int = 0, frames: int = 20, sound: bool = True, size: tuple[int, int] = (32, 40)) -> Path:
    """Write a real file: moving noise at 25 fps, a tone at 16 kHz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    video = rng.integers(0, 256, (frames, *size, 3), dtype=np.uint8) if frames else None
    tone = 0.3 * np.sin(np.arange(12_800) * (0.05 + 0.01 * seed)).astype(np.float32) if sound else None
    write_mp4(
        path, video=video, fps=25, audio=tone, sample_rate=16_000, subtitles=[(0.1, 0.3, "你好"), (0.3, 0.6, "世界")]
    )
    return path


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five good files and two bad ones, in two classes."""
    root = tmp_path_factory.mktemp("originals")
    for k, name in enumerate(["cat/a.mp4", "cat/b 猫.MP4", "dog/deep/c.mov", "dog/d.mp4"]):
        write(root / name, seed=k, sound=k != 1)
    write(root / "dog/e.m4a", seed=4, frames=0)
    data = (root / "cat/a.mp4").read_bytes()
    (root / "cat/half.mp4").write_bytes(data[: len(data) // 2])
    (root / "dog/text.mp4").write_text("no film")
    (root / "dog/.hidden.mp4").write_text("no film")
    (root / "dog/notes.txt").write_text("no film")
    return root


@pytest.fixture
def root(originals: Path, tmp_path: Path, own_home: Path) -> Path:
    """A copy of them to play with; `own_home` keeps the cache apart."""
    return shutil.copytree(originals, tmp_path / "films")


def same(one: Clip, other: Clip) -> bool:
    assert one.streams.keys() == other.streams.keys() and one.times.keys() == other.times.keys()
    pairs = [(one.streams[k], other.streams[k]) for k in one.streams] + [
        (one.times[k], other.times[k]) for k in one.times
    ]
    equal = all(np.array_equal(a, b) and getattr(a, "dtype", 0) == getattr(b, "dtype", 0) for a, b in pairs)
    return equal and (one.rates, one.words, one.labels, one.name) == (
        other.rates,
        other.words,
        other.labels,
        other.name,
    )


def digest(clips: HanziClips) -> str:
    """Hash everything that clips hold."""
    out = hashlib.sha256()
    for clip in clips:
        for stream in (clip.video, clip.audio):
            out.update(b"" if stream is None else stream.tobytes())
        out.update(repr((clip.text, sorted(clip.labels.items()), clip.words, clip.name)).encode())
    return out.hexdigest()


@pytest.fixture
def make(toy_sources: HanziSources):
    def make(size: int = 12, **controls) -> HanziClips:
        return HanziClips(size, sources=toy_sources, **{"workers": 1, **controls})

    return make


def arrays_of(home: Path) -> list[Path]:
    return [p for p in (home / "hanzi" / "clips").iterdir() if p.is_dir() and not p.name.startswith(".")]


def flip(path: Path, where: int, bit: int = 0) -> None:
    with open(path, "r+b") as file:
        file.seek(where)
        (byte,) = file.read(1)
        file.seek(where)
        file.write(bytes([byte ^ 1 << bit]))


SMALL = {"frames": 2, "image_size": 8}
