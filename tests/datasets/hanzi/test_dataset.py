import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from mmlearn.clip import Clip
from mmlearn.datasets.hanzi import dataset, grammar
from mmlearn.datasets.hanzi.dataset import HanziClips
from mmlearn.datasets.hanzi.download import HanziSources, fetch_hanzi
from mmlearn.datasets.hanzi.generator import Kitchen
from tests.datasets.conftest import SMALL, digest
from tests.places import ROOT

pytestmark = pytest.mark.usefixtures("own_home")


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
from tests.datasets.conftest import digest
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


# Relations


# Voices


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


def test_spawned_workers_see_the_same(make) -> None:
    clips = make(6, **SMALL)
    loader = DataLoader(clips, batch_size=None, num_workers=1, multiprocessing_context="spawn")
    for one, other in zip(loader, clips, strict=True):
        np.testing.assert_array_equal(one.video, other.video)
        np.testing.assert_array_equal(one.audio, other.audio)


def test_a_home_that_cannot_be_written_is_one_warning(make, tmp_path: Path, monkeypatch) -> None:
    truth = digest(make(4, **SMALL))
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MMLEARN_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="these clips are not kept.*MMLEARN_HOME") as said:
        clips = make(4, **SMALL)
    assert len(said) == 1 and digest(clips) == truth


# Other ingredients, other clips
