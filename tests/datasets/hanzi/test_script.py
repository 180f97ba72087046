"""mmlearn.datasets.hanzi.script: what happens in a clip, before anything is drawn."""

from dataclasses import replace

import numpy as np
import pytest

from mmlearn.datasets.hanzi import grammar, script, synthesis
from mmlearn.datasets.hanzi.download import HanziSources
from mmlearn.datasets.hanzi.generator import Kitchen


@pytest.mark.parametrize("depends_on", [None, "number"])
def test_modalities_go_missing_at_their_rates(make, depends_on: str | None) -> None:
    clips = make(1500, missing={"audio": 0.3, "text": 0.1}, missing_depends_on=depends_on, image_size=4, frames=1)
    gone = {name: np.array([name not in clip.streams for clip in clips]) for name in ("video", "audio", "text")}
    assert not gone["video"].any()
    assert gone["audio"].mean() == pytest.approx(0.3, abs=0.05)
    assert gone["text"].mean() == pytest.approx(0.1, abs=0.03)
    numbers = np.array([clip.labels["number"] for clip in clips])
    first, last = gone["audio"][numbers <= 1].mean(), gone["audio"][numbers >= 8].mean()
    assert (last - first) == pytest.approx(0.0 if depends_on is None else 0.6 * 8 / 9, abs=0.12)
    assert all("audio" not in clip.rates for clip in clips if clip.audio is None)


def test_something_always_stays(make) -> None:
    clips = list(make(300, missing={"audio": 0.9, "video": 1.0, "text": 0.9}, image_size=4, frames=1))
    assert all(len(clip.streams) >= 1 for clip in clips)
    assert {name for clip in clips for name in clip.streams} == {"video", "audio", "text"}


def test_imbalance_falls_geometrically() -> None:
    odds = script.number_odds(20.0)
    assert odds.sum() == pytest.approx(1) and odds[0] / odds[9] == pytest.approx(20)
    np.testing.assert_allclose(odds[1:] / odds[:-1], odds[1] / odds[0])
    for recipe in (script.Recipe(imbalance=20.0), script.Recipe(seed=3)):
        numbers = [script.draw_number(recipe, i) for i in range(2000)]
        shares = [numbers.count(n) / 2000 for n in grammar.NUMBERS]
        np.testing.assert_allclose(shares, script.number_odds(recipe.imbalance), atol=0.004)
        assert [script.draw_number(recipe, i) for i in (7, 1234)] == [numbers[7], numbers[1234]]
        assert len(set(numbers[:20])) > 4  # shuffled, not sorted


def test_lengths_from_to_are_padded(make) -> None:
    clips = make(40, length=(2, 5))
    assert {len(clip.labels["sentence"]) for clip in clips} == {2, 3, 4, 5}
    for clip in clips:
        seconds = clip.labels["duration"]
        assert seconds == pytest.approx(0.64 * len(clip.labels["sentence"]))
        assert clip.video.shape == (16, 48, 48, 3) and clip.audio.shape == (51_200,)
        empty = clip.video[int(np.ceil(seconds * 5)) :]  # 5 frames a second
        assert all(np.ptp(frame.reshape(-1, 3), axis=0).max() == 0 for frame in empty)
        assert not clip.audio[round((seconds + 0.3) * 16_000) :].any()


def test_synergy_is_balanced_and_no_modality_tells(make) -> None:
    clips = make(1200, relation="synergy", image_size=4, frames=1)
    labels = {name: np.array([clip.labels[name] for clip in clips]) for name in ("agree", "written", "spoken")}
    assert labels["agree"].mean() == 0.5
    np.testing.assert_array_equal(labels["agree"], labels["written"] == labels["spoken"])
    for one in ("written", "spoken"):  # within each number, agreement is a coin toss
        for number in range(10):
            toss = labels["agree"][labels[one] == number]
            assert toss.mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(len(toss)))
    assert not any(c in clip.text for clip in clips for c in (*grammar.NUMBERS, "两", *"0123456789"))


def test_sums_are_uniform_whatever_one_modality_says(make) -> None:
    clips = make(2000, relation="synergy_sum", image_size=4, frames=1)
    table = np.zeros((2, 10, 10))
    for clip in clips:
        written, spoken = clip.labels["written"], clip.labels["spoken"]
        assert clip.labels["sum"] == (written + 1 + spoken + 1) % 10
        table[0, written, clip.labels["sum"]] += 1
        table[1, spoken, clip.labels["sum"]] += 1
    chi2 = ((table - 20) ** 2 / 20).sum((1, 2))  # 99 degrees of freedom: mean 99, standard deviation 14
    assert (chi2 < 99 + 5 * 14).all()
    assert clips.classes["sum"] == list("0123456789")


def test_half_of_the_conflicting_clips_say_another_number(make) -> None:
    clips = make(100, relation="conflicting")
    agree = [clip.labels["written"] == clip.labels["spoken"] for clip in clips]
    assert sum(agree) == 50
    assert all(clip.labels["number"] == clip.labels["written"] for clip in clips)
    redundant = make(100)
    same = [np.array_equal(a.audio, b.audio) for a, b in zip(clips, redundant, strict=True)]
    assert same == agree
    assert all(a.text == b.text and np.array_equal(a.video, b.video) for a, b in zip(clips, redundant, strict=True))


def test_complementary_factors_stand_in_one_modality_each(toy_sources: HanziSources) -> None:
    recipe = script.Recipe(relation="complementary", length=(4, 4))
    for index in range(50):
        plan = script.plan_clip(recipe, index, ("3",))
        s = plan.sentence
        assert plan.written == "向几" + s.colour + s.thing
        assert plan.spoken == "向" + s.number + "色物"
        assert not plan.drift.any()
        text = grammar.caption(recipe.rng(index, "text"), s, "zh", script.HIDDEN["complementary"]["text"])
        assert s.direction in text and s.thing not in text and s.number not in text and s.colour not in text


def test_the_kept_voice_is_heard_in_the_test_split_only(make) -> None:
    voices = {
        split: {clip.labels["voice"] for clip in make(30, split=split, test_voice="3")}
        for split in ("train", "valid", "test")
    }
    assert voices == {"train": {"5"}, "valid": {"5"}, "test": {"3"}}
    assert {clip.labels["voice"] for clip in make(30)} == {"3", "5"}


def test_the_other_voice_steps_in_unless_it_is_kept(toy_sources: HanziSources) -> None:
    recipe = script.Recipe()
    kitchen = Kitchen(recipe, toy_sources, {}, None)
    plan = replace(script.plan_clip(recipe, 0, ("5",)), spoken="绿绿绿")  # recorded by 3 alone
    assert synthesis.render_audio(plan, recipe, 0, kitchen.bank, []) is not None
    assert synthesis.render_audio(plan, replace(recipe, test_voice="3"), 0, kitchen.bank, []) is None
