"""Toy ingredients of HanziClips, made on the spot: no network, no recordings, the same bytes everywhere."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mmlearn.datasets.hanzi.download import HanziSources
from mmlearn.datasets.hanzi.grammar import ALPHABET
from mmlearn.datasets.hanzi.pinyin import zhuyin_of

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
