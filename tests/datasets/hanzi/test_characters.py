"""Characters against the drawing that they were cut from, and against slices of the sound."""

import numpy as np
import pytest
import torch

from mmlearn import Clip, Word
from mmlearn.datasets.hanzi import grammar
from mmlearn.datasets.hanzi.characters import cut_characters
from mmlearn.datasets.hanzi.dataset import HanziClips
from mmlearn.datasets.hanzi.download import HanziSources
from mmlearn.preprocessing.audio import LogMel

BOTH = "".join([*grammar.NUMBERS, *grammar.THINGS])


@pytest.fixture(scope="module")
def clips(toy_sources: HanziSources) -> HanziClips:
    return HanziClips(12, length=2, sources=toy_sources, cache=False, workers=1)


def test_each_clip_gives_its_characters(clips: HanziClips) -> None:
    batch = cut_characters(clips, alphabet=BOTH)
    assert len(batch) == 24
    assert batch.data["image"].shape == (24, 1, 32, 32) and batch.data["audio"].shape == (24, 64, 64)
    assert batch.present["image"].all() and batch.present["audio"].all() and batch.mask["audio"].all()
    written = "".join(BOTH[k] for k in batch.labels["character"])
    assert written == "".join(clip.labels["sentence"] for clip in clips)
    assert batch.data["image"].min() == 0 and batch.data["image"].max() <= 1
    numbers = cut_characters(clips, size=16)
    assert numbers.data["image"].shape == (12, 1, 16, 16)
    assert numbers.labels["character"].tolist() == [clip.labels["number"] for clip in clips]


def test_the_sound_is_the_words_own(clips: HanziClips) -> None:
    batch = cut_characters(clips, alphabet=BOTH)
    word = clips[3].words[1]
    said = clips[3].audio[round(word.start * 16_000) : round(word.end * 16_000)][:10_080]
    padded = np.concatenate([said, np.zeros(10_080 - len(said), np.float32)])
    torch.testing.assert_close(batch.data["audio"][7], LogMel()(padded))


def square(corner: tuple[int, int], side: int = 12, paper: tuple = (250, 240, 230), ink: tuple = (20, 60, 200)) -> Clip:
    """A clip of four frames; in the third and the fourth, a character stands at a corner."""
    video = np.full((4, 48, 48, 3), paper, np.uint8)
    y, x = corner
    video[2:, y : y + side, x : x + side] = ink
    return Clip({"video": video}, {"video": 4.0}, [Word("一", 0.0, 0.75), Word("二", 0.75, 1.0)], name="square")


def test_ink_is_centred_and_colours_are_gone() -> None:
    one = cut_characters([square((4, 30))], size=48).data["image"][0, 0]
    expected = torch.zeros(48, 48)
    expected[18:30, 18:30] = 1
    assert torch.equal(one, expected)
    other = cut_characters([square((20, 7), paper=(30, 30, 40), ink=(240, 200, 10))], size=48).data["image"][0, 0]
    assert torch.equal(other, expected)


def test_the_last_frame_of_a_word_is_taken() -> None:
    clip = square((18, 18))
    clip.video[3] = clip.video[0]  # the paper is empty again while 二 is said
    first, second = cut_characters([clip], size=48).data["image"]
    assert first.sum() == 144 and second.sum() == 0
    assert cut_characters([clip]).labels["character"].tolist() == [0, 1]


def test_what_is_missing_is_absent() -> None:
    seen = square((18, 18))
    heard = Clip({"audio": np.full(16_000, 0.1, np.float32)}, {"audio": 16_000.0}, seen.words)
    silent = Clip({**seen.streams, "audio": np.zeros(16_000, np.float32)}, seen.rates | heard.rates, seen.words)
    read = Clip({"text": "一"}, words=seen.words)
    batch = cut_characters([seen, heard, silent, read])
    assert batch.present["image"].tolist() == [True, True, False, False, True, True]
    assert batch.present["audio"].tolist() == [False, False, True, True, False, False]
    with pytest.raises(ValueError, match="none of the characters '山'"):
        cut_characters([seen], alphabet="山")
    with pytest.raises(ValueError, match="seen or heard"):
        cut_characters([read])
