import hashlib
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from torch.utils.data import DataLoader

from mmlearn.clip import Clip
from mmlearn.datasets import arrays
from mmlearn.datasets.hanzi import dataset, grammar, script, synthesis
from mmlearn.datasets.hanzi.dataset import HanziClips
from mmlearn.datasets.hanzi.download import HanziSources, fetch_hanzi
from mmlearn.datasets.hanzi.generator import Kitchen
from mmlearn.datasets.hanzi.pinyin import zhuyin_of
from tests.places import ROOT
from tests.test_files import child, small_disk
from tests.test_workers import alive

pytestmark = pytest.mark.usefixtures("own_home")


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


# What a clip is


def test_a_clip_has_three_streams_words_and_labels(make) -> None:
    clips = make()
    assert len(clips) == 12 == len(list(clips))
    clip = clips[3]
    assert clip.video.shape == (16, 48, 48, 3) and clip.video.dtype == np.uint8
    assert clip.audio.shape == (30_720,) and clip.audio.dtype == np.float32
    assert 0.01 < np.abs(clip.audio).max() <= 1
    assert clip.rates == {"video": pytest.approx(16 / 1.92), "audio": 16_000}
    assert clip.duration == pytest.approx(1.92) == clip.labels["duration"]
    assert "".join(word.text for word in clip.words) == clip.labels["sentence"]
    times = [t for word in clip.words for t in (word.start, word.end)]
    assert times == sorted(times) and times[0] >= 0 and times[-1] <= 1.92
    number = clips.classes["number"][clip.labels["number"]]
    assert number in clip.labels["sentence"]
    assert len(clip.labels["pinyin"].split()) == 3
    assert clip.labels["synthetic"] == 0
    assert clip.name == "hanzi-train-00003"


def test_labels_are_what_the_clip_shows(make) -> None:
    for clip in make(40, length=4):
        factors = [grammar.CLASSES[f][clip.labels[f]] for f in ("direction", "number", "colour", "thing")]
        assert "".join(factors) == clip.labels["sentence"]
        ink = np.median(clip.video[-1].reshape(-1, 3), axis=0)  # mostly paper
        strongest = np.abs(clip.video[-1].astype(int) - ink).sum(-1).argmax()
        pixel = clip.video[-1].reshape(-1, 3)[strongest].astype(int)
        colours = np.array(list(grammar.COLORS.values()))
        assert np.abs(colours - pixel).sum(1).argmin() == clip.labels["colour"]


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


def test_indices(make) -> None:
    clips = make(3)
    assert clips[-1].name == clips[2].name
    for index in (3, -4):
        with pytest.raises(IndexError, match="has 3 clips"):
            clips[index]


# Same seed, same bytes

HERE = """
from pathlib import Path
from mmlearn.datasets.hanzi.download import HanziSources
from test_dataset import digest
from mmlearn.datasets.hanzi.dataset import HanziClips
if __name__ == "__main__":
    sources = HanziSources(Path({strokes!r}), Path({voices!r}))
    controls = dict(snr_db=0, video_noise=20, occlusion=0.3, text_noise=0.2)
    clips = HanziClips(120, sources=sources, workers=2, cache=False, **controls)
    print(digest(clips))
"""


def test_the_same_bytes_in_another_process_with_other_workers(make, toy_sources: HanziSources, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(HERE.format(strokes=str(toy_sources.strokes), voices=str(toy_sources.voices)))
    path = os.pathsep.join([str(Path(__file__).parent), str(ROOT)])
    run = subprocess.run(
        [sys.executable, script], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    here = make(120, cache=False, snr_db=0, video_noise=20, occlusion=0.3, text_noise=0.2)
    assert run.stdout.strip() == digest(here)


def test_golden_bytes(make) -> None:
    """What these clips held when they were first made; whoever changes it must raise `dataset.VERSION`."""
    clips = make(8, length=(2, 5), snr_db=-3, video_noise=20, occlusion=0.3, text_noise=0.2, language="both")
    assert digest(clips) == "30b1d29e353df77599d891906209d6afdab790d49678335265b2fbdd3751db8c"


def test_a_clip_does_not_depend_on_how_many_there_are(make) -> None:
    few, many = make(4), make(70)
    for i in range(4):
        np.testing.assert_array_equal(few[i].video, many[i].video)
        np.testing.assert_array_equal(few[i].audio, many[i].audio)
        assert few[i].labels == many[i].labels and few[i].text == many[i].text


def test_splits_and_seeds_differ(make) -> None:
    assert len({digest(make(5, **c)) for c in ({}, {"split": "valid"}, {"split": "test"}, {"seed": 1})}) == 4


@pytest.mark.parametrize(
    ("control", "changed"),
    [
        ({"snr_db": 0.0}, {"audio"}),
        ({"snr_db": 0.0, "noise": "white"}, {"audio"}),
        ({"occlusion": 0.5}, {"video"}),
        ({"video_noise": 20}, {"video"}),
        ({"text_noise": 0.5}, {"text"}),
        ({"language": "en"}, {"text"}),
        ({"relation": "synergy"}, {"audio", "text"}),
        ({"image_size": 32}, {"video"}),
    ],
)
def test_a_control_changes_only_what_it_names(make, control: dict, changed: set[str]) -> None:
    plain, other = make(6), make(6, **control)
    found = set()
    for a, b in zip(plain, other, strict=True):
        found |= {name for name in a.streams if not np.array_equal(a.streams[name], b.streams[name])}
        assert all(a.labels[f] == b.labels[f] for f in (*grammar.CLASSES, "writing_speed"))
    assert found == changed


# The controls


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


# Relations


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


# Voices


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


def test_a_clip_that_nobody_can_say_has_no_sound(make, toy_sources: HanziSources, tmp_path: Path) -> None:
    voices = tmp_path / "voices"
    voices.mkdir()
    (voices / "ㄕㄢ").symlink_to(toy_sources.voices / "ㄕㄢ")  # shān alone
    clips = HanziClips(60, sources=HanziSources(toy_sources.strokes, voices), workers=1, image_size=8)
    for clip in clips:
        assert ("audio" in clip.streams) == ("shān" in clip.labels["pinyin"])
    assert 0 < sum(clip.audio is not None for clip in clips) < 60


def test_synthetic_speech_is_marked(toy_sources: HanziSources) -> None:
    sources = HanziSources(toy_sources.strokes, None)
    clip = HanziClips(1, sources=sources, workers=1)[0]
    assert clip.labels["synthetic"] == 1 and clip.labels["voice"] == "espeak"
    assert np.abs(clip.audio).max() > 0.01
    with pytest.raises(ValueError, match=r"test_voice is '3'; expected one of \('espeak',\)"):
        HanziClips(1, sources=sources, test_voice="3")


# Files


def test_the_second_time_the_arrays_are_only_opened(make, monkeypatch: pytest.MonkeyPatch) -> None:
    first = digest(make())

    def generate(*_: object) -> None:
        raise AssertionError("generated again")

    monkeypatch.setattr(dataset, "generate", generate)
    assert digest(make()) == first
    with pytest.raises(AssertionError, match="generated again"):
        make(seed=5)


def test_a_run_that_breaks_off_leaves_nothing_that_is_taken_for_clips(make, own_home: Path, monkeypatch) -> None:
    real = dataset.generate

    def broken(kitchen: Kitchen, size: int, folder: Path, workers: int | None) -> None:
        (folder / "video.npy").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(dataset, "generate", broken)
    with pytest.raises(KeyboardInterrupt):
        make()
    monkeypatch.setattr(dataset, "generate", real)
    assert len(list(make())) == 12
    folders = [p for p in (own_home / "hanzi" / "clips").iterdir() if p.is_dir()]
    assert len(folders) == 1 and not folders[0].name.startswith(".")


def test_other_ingredients_other_folder(make, toy_sources: HanziSources, own_home: Path) -> None:
    make(1)
    HanziClips(1, sources=HanziSources(toy_sources.strokes, None), workers=1)
    assert sum(p.is_dir() for p in (own_home / "hanzi" / "clips").iterdir()) == 2


def test_without_a_cache_nothing_stays(make, own_home: Path) -> None:
    clips = make(2, cache=False)
    folder = clips._folder
    assert folder.is_dir() and clips[0].video is not None
    del clips
    assert not folder.exists() and not own_home.exists()


def test_a_clip_drawn_large_is_the_same_clip(make) -> None:
    clips = make(4)
    large = clips.clip(1, image_size=192)
    assert large.video.shape == (48, 192, 192, 3) and large.rates["video"] == 25
    np.testing.assert_array_equal(large.audio, clips[1].audio)
    assert large.labels == clips[1].labels and large.words == clips[1].words and large.name == clips[1].name
    same_times = clips.clip(1, frames=16, image_size=192).video.reshape(16, 48, 4, 48, 4, 3).mean((2, 4))
    assert np.abs(same_times - clips[1].video).mean() < 5 < 15 < np.abs(same_times - clips[0].video).mean()
    no_video = make(3, missing={"video": 1.0})
    assert no_video.clip(0).video is None


def test_mp4_round_trip(make, tmp_path: Path) -> None:
    clip = make(2).clip(0, image_size=96)
    clip.save(tmp_path / "x.mp4")
    back = Clip.load(tmp_path / "x.mp4")
    assert back.video.shape == clip.video.shape and back.rates == clip.rates
    error = np.mean((back.video.astype(float) - clip.video) ** 2)
    assert 10 * np.log10(255**2 / error) > 28
    n = min(len(back.audio), len(clip.audio))
    assert np.corrcoef(back.audio[:n], clip.audio[:n])[0, 1] > 0.9
    assert [word.text for word in back.words] == [word.text for word in clip.words]
    assert back.words[1].start == pytest.approx(clip.words[1].start, abs=0.01)
    assert (back.text, back.labels, back.name) == (clip.text, clip.labels, clip.name)


# Mistakes


@pytest.mark.parametrize(
    ("control", "message"),
    [
        ({"size": 0}, "size is 0; expected an integer ≥ 1"),
        ({"split": "dev"}, "split is 'dev'; expected one of"),
        ({"relation": "same"}, "relation is 'same'; expected one of .*synergy_sum"),
        ({"noise": "pink"}, "noise is 'pink'; expected one of"),
        ({"language": "fr"}, "language is 'fr'"),
        ({"seed": -1}, "seed is -1"),
        ({"length": 6}, r"length is \(6, 6\); expected an integer from 2 to 5"),
        ({"length": (4, 2)}, r"length is \(4, 2\)"),
        ({"length": (2, 3, 4)}, r"length is \(2, 3, 4\)"),
        ({"frames": 0}, "frames is 0"),
        ({"image_size": 4.5}, "image_size is 4.5"),
        ({"occlusion": 1.2}, "occlusion is 1.2; expected a fraction from 0 to 1"),
        ({"text_noise": -0.1}, "text_noise is -0.1"),
        ({"video_noise": -1}, "video_noise is -1"),
        ({"snr_db": float("nan")}, "snr_db is nan; expected decibels"),
        ({"imbalance": 0.5}, "imbalance is 0.5; expected a factor ≥ 1"),
        ({"imbalance": 5, "relation": "synergy"}, "imbalance is 5.0; expected 1 with relation='synergy'"),
        ({"missing": {"sound": 0.1}}, "missing is .*expected keys among"),
        ({"missing": {"audio": 1.5}}, r"missing\['audio'\] is 1.5; expected a rate"),
        ({"missing": {"audio": 1, "video": 1, "text": 1}}, "at least one modality with a rate below 1"),
        ({"missing_depends_on": "voice"}, "missing_depends_on is 'voice'; expected None or one of"),
        ({"test_voice": "7"}, "test_voice is '7'; expected one of"),
    ],
)
def test_mistakes_are_named(make, control: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**control)


def test_a_lost_ingredient_is_named(toy_sources: HanziSources, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"\.json: no strokes of"):
        HanziClips(1, sources=HanziSources(tmp_path, toy_sources.voices))


# The real thing


@pytest.fixture(scope="module")
def real_sources() -> HanziSources:
    return fetch_hanzi(progress=False)


@pytest.mark.network
@pytest.mark.slow
def test_two_thousand_real_clips_in_twenty_seconds(real_sources: HanziSources, own_home: Path) -> None:
    def work() -> float:
        return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))

    start = work()
    clips = HanziClips(2000, sources=real_sources)
    assert work() - start < 2 * 20  # seconds of two cores, whoever else uses them
    folder = next(p for p in (own_home / "hanzi" / "clips").iterdir() if p.is_dir())
    assert (folder / "video.npy").stat().st_size < 225e6
    start = time.perf_counter()
    for i in range(200):
        clips[i]
    assert (time.perf_counter() - start) / 200 < 2e-3


@pytest.mark.network
def test_golden_bytes_of_real_clips(real_sources: HanziSources) -> None:
    if real_sources.voices is None:
        pytest.skip("no recordings on this machine")
    clips = HanziClips(8, sources=real_sources, length=(2, 5), snr_db=-3, video_noise=20, occlusion=0.3, workers=1)
    assert digest(clips) == "5e692fe0c42722db5488630201830995c230e83f2dd6cba63ba71592ce14a04c"


# What may happen to the arrays


def arrays_of(home: Path) -> list[Path]:
    return [p for p in (home / "hanzi" / "clips").iterdir() if p.is_dir() and not p.name.startswith(".")]


def flip(path: Path, where: int, bit: int = 0) -> None:
    with open(path, "r+b") as file:
        file.seek(where)
        (byte,) = file.read(1)
        file.seek(where)
        file.write(bytes([byte ^ 1 << bit]))


SMALL = {"frames": 2, "image_size": 8}


def test_one_bit_of_a_clip_is_noticed_and_made_anew(make, own_home: Path) -> None:
    truth = digest(make(6, **SMALL))
    (folder,) = arrays_of(own_home)
    for name in ("video", "audio"):
        size = (folder / f"{name}.npy").stat().st_size
        for where in (128, size // 2, size - 1):
            flip(folder / f"{name}.npy", where)
            clips = make(6, **SMALL)
            with pytest.warns(UserWarning, match=r"clip \d was damaged, and has been made anew"):
                assert digest(clips) == truth
            assert digest(clips) == truth == digest(make(6, **SMALL))  # without a warning: it is mended on disk


def test_half_zeros_are_made_anew(make, own_home: Path) -> None:
    truth = digest(make(6, **SMALL))
    (folder,) = arrays_of(own_home)
    for name in ("video", "audio"):
        with open(folder / f"{name}.npy", "r+b") as file:
            size = file.seek(0, 2)
            file.seek(size // 2)
            file.write(bytes(size - size // 2))
    with pytest.warns(UserWarning, match="was damaged"):
        assert digest(make(6, **SMALL)) == truth


def test_every_bit_of_the_seal_and_of_the_notes_is_noticed(make, own_home: Path) -> None:
    make(2, **SMALL)
    (folder,) = arrays_of(own_home)
    for name in ("seal.json", "notes.json"):
        data = (folder / name).read_bytes()
        for where in range(len(data)):
            hurt = bytearray(data)
            hurt[where] ^= 1 << where % 8
            (folder / name).write_bytes(hurt)
            assert not arrays.is_whole(folder), (name, where)
        (folder / name).write_bytes(data)
        assert arrays.is_whole(folder)


@pytest.mark.parametrize("damage", ["label", "cut", "gone", "grown", "seal gone"])
def test_other_damage_makes_the_whole_anew(make, own_home: Path, damage: str) -> None:
    truth = digest(make(6, **SMALL))
    (folder,) = arrays_of(own_home)
    if damage == "label":
        text = (folder / "notes.json").read_text("utf-8")
        (folder / "notes.json").write_text(text.replace('"number": ', '"number": 1', 1), "utf-8")
    elif damage == "cut":
        os.truncate(folder / "video.npy", 200)  # mapped and read, it would end the process by SIGBUS
    elif damage == "gone":
        (folder / "audio.npy").unlink()
    elif damage == "grown":
        with open(folder / "audio.npy", "ab") as file:
            file.write(b"\0")
    else:
        (folder / "seal.json").unlink()
    assert digest(make(6, **SMALL)) == truth and arrays_of(own_home) == [folder]


def test_a_pickle_opens_the_same_arrays(make, own_home: Path) -> None:
    """Field: a pickle of 400 clips was 69 MB, for each worker of a DataLoader that is spawned."""
    kept, temporary = make(6, **SMALL), make(6, cache=False, **SMALL)
    for clips in (kept, temporary):
        data = pickle.dumps(clips)
        assert len(data) < 10_000
        copy = pickle.loads(data)
        assert copy._folder == clips._folder and digest(copy) == digest(kept)
    shutil.rmtree(kept._folder)
    assert digest(pickle.loads(pickle.dumps(make(6, **SMALL)))) == digest(temporary)
    data = pickle.dumps(temporary)
    del clips, copy, temporary
    assert digest(pickle.loads(data)) == digest(make(6, **SMALL))  # its folder is gone with it


def test_spawned_workers_see_the_same(make) -> None:
    clips = make(6, **SMALL)
    loader = DataLoader(clips, batch_size=None, num_workers=1, multiprocessing_context="spawn")
    for one, other in zip(loader, clips, strict=True):
        np.testing.assert_array_equal(one.video, other.video)
        np.testing.assert_array_equal(one.audio, other.audio)


@pytest.mark.parametrize("controls", [({}, {}), ({}, {"seed": 1}), ({}, {"snr_db": 0, "noise": "white"})])
def test_two_threads_at_once(make, own_home: Path, controls: tuple[dict, dict]) -> None:
    """Field: of two sets made at once in one process, 120 of 120 clips were wrong, and kept."""
    found: list[str | None] = [None, None]

    def work(k: int) -> None:
        found[k] = digest(make(30, **SMALL, **controls[k]))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(2):
        fresh, kept = (make(30, cache=cache, **SMALL, **controls[k]) for cache in (False, True))
        assert found[k] == digest(fresh) == digest(kept)


GENERATE = """
import sys
from pathlib import Path
from mmlearn.datasets.hanzi.download import HanziSources
from mmlearn.datasets.hanzi.dataset import HanziClips
sources = HanziSources(Path(sys.argv[1]), Path(sys.argv[2]))
{before}
clips = HanziClips(int(sys.argv[3]), sources=sources, workers=int(sys.argv[4]), frames=2, image_size=8)
print(clips._folder, flush=True)
"""


def generation(sources: HanziSources, size: int, workers: int, before: str = "") -> subprocess.Popen[str]:
    return child(GENERATE.format(before=before), sources.strokes, sources.voices, size, workers)


def test_two_processes_at_once_make_one(toy_sources: HanziSources, own_home: Path, make) -> None:
    processes = [generation(toy_sources, 30, 1) for _ in range(2)]
    said = [process.communicate()[0] for process in processes]
    assert said[0] == said[1] == f"{arrays_of(own_home)[0]}\n"
    assert digest(make(30, **SMALL)) == digest(make(30, cache=False, **SMALL))
    assert {p.suffix for p in (own_home / "hanzi" / "clips").iterdir()} == {"", ".lock"}


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_killed_generation_leaves_no_process_and_no_folder(
    toy_sources: HanziSources, own_home: Path, make, how: signal.Signals
) -> None:
    process = generation(toy_sources, 20_000, 2)
    parts, deadline = own_home / "hanzi" / "clips", time.monotonic() + 300
    while not list(parts.glob(".*.unfinished/clips/audio.npy")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    workers: list[int] = []
    while not workers:
        assert time.monotonic() < deadline
        tasks = list(Path(f"/proc/{process.pid}/task").iterdir())
        workers = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    process.send_signal(how)
    process.communicate()
    while any(alive(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert list(parts.glob(".*.unfinished"))
    make(2, **SMALL)  # other settings
    assert not list(parts.glob(".*.unfinished"))


def test_a_full_disk_is_an_error_and_no_signal(toy_sources: HanziSources, tmp_path: Path, monkeypatch) -> None:
    with small_disk(tmp_path) as disk:
        monkeypatch.setenv("MMLEARN_HOME", str(disk))
        for size in (1000, 17):  # far too much, and a little
            process = generation(toy_sources, size, 1)
            _, errors = process.communicate()
            assert process.returncode == 1, errors
            last = errors.strip().splitlines()[-1]
            assert last.startswith("OSError: [Errno 28]") and "MMLEARN_HOME" in last and "free some room" in last
            assert not list(disk.rglob("*.unfinished"))


def test_a_disk_that_fills_up_while_clips_are_made(toy_sources: HanziSources, tmp_path: Path, monkeypatch) -> None:
    """Where the file system cannot reserve room, and another process takes it."""
    before = "import os\ndel os.posix_fallocate\nfrom mmlearn import files\nfiles.check_room = lambda *_: None"
    with small_disk(tmp_path) as disk:
        monkeypatch.setenv("MMLEARN_HOME", str(disk))
        process = generation(toy_sources, 100, 1, before)
        _, errors = process.communicate()
        assert process.returncode == 1 and errors.strip().splitlines()[-1].startswith("OSError: [Errno 28]"), errors


def test_a_limit_on_the_size_of_files(toy_sources: HanziSources) -> None:
    before = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))"
    process = generation(toy_sources, 100, 1, before)
    _, errors = process.communicate()
    assert process.returncode == 1 and errors.strip().splitlines()[-1].startswith("OSError: [Errno 27]"), errors


def test_a_home_that_cannot_be_written_is_one_warning(make, tmp_path: Path, monkeypatch) -> None:
    truth = digest(make(4, **SMALL))
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MMLEARN_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="these clips are not kept.*MMLEARN_HOME") as said:
        clips = make(4, **SMALL)
    assert len(said) == 1 and digest(clips) == truth


# Other ingredients, other clips


def test_other_recordings_of_the_same_names_are_other_clips(
    make, toy_sources: HanziSources, tmp_path: Path, own_home: Path
) -> None:
    """Field: the cache gave another voice's clips when the recordings had changed."""
    voices = shutil.copytree(toy_sources.voices, tmp_path / "voices")
    sources = HanziSources(toy_sources.strokes, voices)
    first = digest(HanziClips(8, sources=sources, workers=1, **SMALL))
    assert first == digest(make(8, **SMALL)) and len(arrays_of(own_home)) == 1
    for path in voices.glob("*/3.ogg"):
        shutil.copy(path, path.with_name("5.ogg"))
    assert digest(HanziClips(8, sources=sources, workers=1, **SMALL)) != first
    path = next(voices.glob("ㄏㄨㄥ2/3.ogg"))
    before = path.stat()
    flip(path, before.st_size - 20_000, 5)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # same size and date
    HanziClips(8, sources=sources, workers=1, **SMALL)
    assert len(arrays_of(own_home)) == 3


def test_the_crowd_counts_only_where_it_is_heard(
    make, toy_sources: HanziSources, tmp_path: Path, own_home: Path
) -> None:
    voices = shutil.copytree(toy_sources.voices, tmp_path / "voices")
    shutil.rmtree(voices / "ㄒㄧ")  # 西, of which no sentence is made
    sources = HanziSources(toy_sources.strokes, voices)
    for controls, folders in (({}, 1), ({"snr_db": 0}, 3), ({"snr_db": 0, "noise": "white"}, 4)):
        HanziClips(2, sources=sources, workers=1, **SMALL, **controls)
        make(2, **SMALL, **controls)
        assert len(arrays_of(own_home)) == folders


def test_babble_without_anybody_to_babble(toy_sources: HanziSources, tmp_path: Path) -> None:
    """Field: `high <= 0`."""
    voices = tmp_path / "voices"
    for char in grammar.ALPHABET:
        name = zhuyin_of(char)
        if not (voices / name).exists():
            shutil.copytree(toy_sources.voices / name, voices / name)
    sources = HanziSources(toy_sources.strokes, voices)
    with pytest.raises(ValueError, match=r"noise is 'babble'.*voices holds no other syllables by voice 3 or 5.*white"):
        HanziClips(2, sources=sources, workers=1, snr_db=0, **SMALL)
    assert len(HanziClips(2, sources=sources, workers=1, snr_db=0, noise="white", **SMALL)) == 2
    shutil.copytree(toy_sources.voices / "ㄒㄧ", voices / "ㄒㄧ")
    assert len(list(HanziClips(2, sources=sources, workers=1, snr_db=0, **SMALL))) == 2
    (voices / "ㄒㄧ" / "3.ogg").write_bytes(b"no sound")
    with pytest.raises(ValueError, match=r"ㄒㄧ/3\.ogg: cannot read this recording"):
        HanziClips(2, sources=sources, workers=1, snr_db=0, **SMALL)
    soundfile.write(voices / "ㄒㄧ" / "3.ogg", np.zeros(8000), 16_000, format="WAV")
    with pytest.raises(ValueError, match=r"ㄒㄧ/3\.ogg: the recording is silent"):
        HanziClips(2, sources=sources, workers=1, snr_db=0, **SMALL)
