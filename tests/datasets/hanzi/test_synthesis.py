"""mmlearn.datasets.hanzi.synthesis: pictures and sound of a plan, measured."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmlearn.datasets.hanzi import grammar, script, synthesis
from mmlearn.datasets.hanzi.dataset import HanziClips
from mmlearn.datasets.hanzi.download import HanziSources
from mmlearn.datasets.hanzi.generator import Kitchen


def test_the_writing_drifts_in_its_direction(toy_sources: HanziSources) -> None:
    recipe = script.Recipe()
    kitchen = Kitchen(recipe, toy_sources, {}, None)
    for index in range(12):
        plan = script.plan_clip(recipe, index, ("3",))
        middles = []
        for p in (plan, replace(plan, drift=np.zeros(2), start=plan.start + plan.drift / 2)):  # moving, and still
            video = synthesis.render_video(p, recipe, index, kitchen.glyphs, 16, 48).astype(int)
            inked = np.abs(video - plan.paper).sum(-1) > 100
            middles.append([np.argwhere(inked[frame])[:, ::-1].mean(0) for frame in (2, 15)])  # (x, y)
        moved = np.subtract(*middles) / 48
        way = np.array(grammar.DIRECTIONS[plan.sentence.direction])
        np.testing.assert_allclose(moved[0], plan.drift * (2.5 / 16 - 0.5), atol=0.02)
        np.testing.assert_allclose(moved[1], plan.drift * (15.5 / 16 - 0.5), atol=0.02)
        assert 0.2 <= (plan.drift * way).sum() <= 0.3


def test_faster_pens_finish_earlier(toy_sources: HanziSources) -> None:
    recipe = script.Recipe()
    kitchen = Kitchen(recipe, toy_sources, {}, None)
    plan = script.plan_clip(recipe, 0, ("3",))
    slow, fast = (
        synthesis.render_video(replace(plan, pen_seconds=s), recipe, 0, kitchen.glyphs, 16, 48) for s in (0.45, 0.1)
    )
    written = [(np.abs(v.astype(int) - plan.paper).sum(-1) > 60).sum() for v in (slow, fast)]
    assert written[1] > 1.1 * written[0]


def test_each_syllable_starts_with_its_character(make) -> None:
    for clip in make(10):
        for word in clip.words[1:]:
            before = clip.audio[round((word.start - 0.02) * 16_000) : round(word.start * 16_000)]
            after = clip.audio[round((word.start + 0.06) * 16_000) : round((word.start + 0.2) * 16_000)]
            assert np.mean(after**2) > 100 * np.mean(before**2)


def test_occlusion_hides_that_fraction_of_the_frames(make) -> None:
    plain, hidden = make(20), make(20, occlusion=0.4)
    changed = [(a.video != b.video).any((1, 2, 3)).sum() for a, b in zip(plain, hidden, strict=True)]
    assert set(changed) <= {6, 7} and np.mean(changed) == pytest.approx(6.4, abs=0.4)
    covered = [(a.video != b.video).any(-1).mean((1, 2)) for a, b in zip(plain, hidden, strict=True)]
    assert all(c[c > 0].min() > 0.5 for c in covered)  # most of the picture
    everything = make(2, occlusion=1.0)
    assert all((a.video != b.video).any((1, 2, 3)).all() for a, b in zip(plain, everything, strict=False))


def test_video_noise_is_in_grey_levels(make) -> None:
    plain, noisy = make(6), make(6, video_noise=12)
    both = [(a.video.astype(float), b.video) for a, b in zip(plain, noisy, strict=True)]
    differences = np.concatenate([(b - a)[(a > 50) & (a < 205)] for a, b in both])
    assert differences.std() == pytest.approx(12, rel=0.03) and abs(differences.mean()) < 0.3


def test_babble_is_made_of_voices_and_white_noise_is_not(make) -> None:
    quiet = make(8)
    above = {}
    for noise in ("white", "babble"):
        added = np.stack([a.audio - b.audio for a, b in zip(make(8, snr_db=0, noise=noise), quiet, strict=True)])
        power = (np.abs(np.fft.rfft(added)) ** 2).mean(axis=0)
        above[noise] = power[len(power) // 2 :].sum() / power.sum()  # above 4 kHz
    assert abs(above["white"] - 0.5) < 0.03  # as strong there as below
    assert above["babble"] < 0.2  # voices are not; the toy's are square waves of 300 Hz and more


@pytest.mark.parametrize("noise", ["white", "babble"])
def test_the_sound_has_the_snr_asked_for(toy_sources: HanziSources, noise: str) -> None:
    recipe = script.Recipe(snr_db=4.0, noise=noise)
    kitchen = Kitchen(recipe, toy_sources, {}, None)
    for index in range(5):
        plan = replace(script.plan_clip(recipe, index, kitchen.voices), gain=0.5)  # so soft that nothing clips
        clean, noisy = (
            synthesis.render_audio(plan, r, index, kitchen.bank, kitchen.crowd).astype(float)
            for r in (replace(recipe, snr_db=None), recipe)
        )
        snr = 10 * np.log10(np.mean(clean**2) / np.mean((noisy - clean) ** 2))
        assert snr == pytest.approx(4.0, abs=0.01)


def test_loud_sounds_are_turned_down_not_cut(make) -> None:
    loudest = [np.abs(clip.audio).max() for clip in make(20, snr_db=-25, noise="white")]
    assert max(loudest) == pytest.approx(0.99, abs=1e-3)


def test_text_noise_masks_characters(make) -> None:
    texts = "".join(clip.text for clip in make(200, text_noise=0.25, image_size=8))
    assert texts.count("□") / sum(c not in "，" for c in texts) == pytest.approx(0.25, abs=0.03)


def test_a_clip_that_nobody_can_say_has_no_sound(make, toy_sources: HanziSources, tmp_path: Path) -> None:
    voices = tmp_path / "voices"
    voices.mkdir()
    (voices / "ㄕㄢ").symlink_to(toy_sources.voices / "ㄕㄢ")  # shān alone
    clips = HanziClips(60, sources=HanziSources(toy_sources.strokes, voices), workers=1, image_size=8)
    for clip in clips:
        assert ("audio" in clip.streams) == ("shān" in clip.labels["pinyin"])
    assert 0 < sum(clip.audio is not None for clip in clips) < 60
