"""mmlearn.datasets.grid: on a small corpus made here, and on talker 1 where he is present."""

import hashlib
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from mmlearn.datasets.grid.corpus import FRAMES, MOUTH_S1, split_of
from mmlearn.datasets.grid.dataset import Grid
from mmlearn.media import write_mp4
from tests.media.test_mp4 import noise, write_mpg
from tests.places import GRID

NAMES = ["bbaf2n", "lgbmzs", "pric4p", "srwi9a", "bwwa7s"]
WHOLE = (0.0, 0.0, 1.0, 1.0)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MMLEARN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def picture(k: int) -> np.ndarray:
    """Black, with a mouth of its own grey where talker 1 has his."""
    video = np.zeros((FRAMES, 144, 180, 3), np.uint8)
    video[:, 84:128, 50:110] = 60 + 30 * k
    return video


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two talkers: s1 as the corpus comes (MPEG-1, alignments apart), s2 re-encoded with alignments beside."""
    root = tmp_path_factory.mktemp("corpus")
    for folder in ("s1/video", "s2", "alignments/s1"):
        (root / folder).mkdir(parents=True)
    for k, name in enumerate(NAMES[:2]):
        write_mpg(root / "s1" / "video" / f"{name}.mpg", picture(k), noise(132_300, seed=k))
        (root / "alignments" / "s1" / f"{name}.align").write_text("0 23750 sil\n23750 29500 bin\n29500 75000 sil\n")
    for k, name in enumerate(NAMES):
        write_mp4(
            root / "s2" / f"{name}.mp4", video=picture(k), fps=25, audio=noise(47_648, seed=k), sample_rate=16_000
        )
        (root / "s2" / f"{name}.align").write_text("0 12500 sil\n12500 25000 lay\n25000 75000 sil\n")
    return root


@pytest.fixture
def corpus(pristine: Path, tmp_path: Path) -> Path:
    """A copy of the corpus, to spoil."""
    return Path(shutil.copytree(pristine, tmp_path / "grid"))


def test_corpus_as_it_comes(corpus: Path) -> None:
    ds = Grid(corpus, cache=False)
    assert len(ds) == 2 and ds.names == ["s1/bbaf2n", "s1/lgbmzs"]
    clip = ds[1]
    assert clip.name == "s1/lgbmzs" and clip.text == "lay green by m zero soon"
    assert clip.video is not None and clip.audio is not None
    assert clip.video.shape == (75, 48, 64, 3) and clip.video.dtype == np.uint8
    assert clip.audio.shape == (48_000,) and clip.audio.dtype == np.float32
    assert clip.rates == {"video": 25, "audio": 16_000}
    assert [(w.text, w.start, w.end) for w in clip.words] == [("bin", 0.95, 1.18)]
    assert clip.labels == {"command": 1, "colour": 1, "preposition": 1, "letter": 12, "digit": 0, "adverb": 3}
    assert all(0 <= v < len(ds.classes[k]) for k, v in clip.labels.items())


def test_crop_and_size(corpus: Path) -> None:
    mouth = Grid(corpus, speakers=("s2",), crop=MOUTH_S1, cache=False)[0].video
    assert mouth is not None
    assert abs(int(np.median(mouth)) - 60) < 6  # the crop holds the mouth, not the black around it
    whole = Grid(corpus, speakers=("s2",), cache=False, crop=WHOLE, image_size=(72, 90))[0].video
    assert whole is not None and whole.shape == (75, 72, 90, 3)
    assert whole[0, :40].max() < 8 and whole[0, 46:60, 28:52].min() > 50


def test_cached_equals_uncached_and_is_not_decoded_again(
    corpus: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, cached = (
        Grid(corpus, speakers=("s1", "s2"), crop=MOUTH_S1, cache=False),
        Grid(corpus, speakers=("s1", "s2"), crop=MOUTH_S1, workers=1),
    )
    assert len([p for p in (own_home / "grid").iterdir() if p.suffix != ".lock"]) == 1

    def never(*_: object, **__: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr("mmlearn.datasets.grid.dataset.decode", never)
    again = Grid(corpus, speakers=("s1", "s2"), crop=MOUTH_S1)
    assert plain.names == cached.names == again.names and len(again) == 7
    for a, b, c in zip(plain, cached, again, strict=True):
        assert np.array_equal(a.video, b.video) and np.array_equal(a.video, c.video)
        assert np.array_equal(a.audio, b.audio) and np.array_equal(a.audio, c.audio)
        assert a.words == b.words == c.words and a.labels == c.labels
    with pytest.raises(AssertionError, match="decoded again"):
        Grid(corpus, speakers=("s1", "s2"), crop=MOUTH_S1, image_size=(20, 30))


def test_clip_is_a_copy(corpus: Path) -> None:
    ds = Grid(corpus)
    first = ds[0].video
    assert first is not None
    first[:] = 0
    assert ds[0].video.any()  # type: ignore[union-attr]


def test_split(corpus: Path) -> None:
    everything, train, test = (Grid(corpus, speakers=("s2",), crop=MOUTH_S1, split=s) for s in (None, "train", "test"))
    assert len(train) == 4 and len(test) == 1
    assert sorted(train.names + test.names) == everything.names
    at = everything.names.index(test.names[0])
    assert np.array_equal(test[0].video, everything[at].video)  # type: ignore[arg-type]


def test_bad_files_are_left_out_and_said(corpus: Path) -> None:
    before = Grid(corpus, speakers=("s2",), crop=MOUTH_S1, split="train").names
    (corpus / "s2" / f"{NAMES[0]}.mp4").write_bytes(b"not a video")
    (corpus / "s2" / f"{NAMES[1]}.align").write_text("0 bin\n")
    write_mp4(corpus / "s2" / f"{NAMES[2]}.mp4", video=picture(0)[:40], fps=25, audio=noise(999), sample_rate=16_000)
    (corpus / "s2" / "holiday.mp4").write_bytes(b"")
    for _ in range(2):  # the second time from the cache
        with pytest.warns(UserWarning, match=r"left out 4 of 6 clips; s2/bbaf2n: .*bbaf2n\.mp4"):
            ds = Grid(corpus, speakers=("s2",), crop=MOUTH_S1)
    assert ds.names == ["s2/bwwa7s", "s2/srwi9a"]
    assert ds[1].labels["digit"] == 9 and abs(int(np.median(ds[1].video)) - 150) < 6  # type: ignore[arg-type]
    assert list(ds.skipped) == ["s2/bbaf2n", "s2/holiday", "s2/lgbmzs", "s2/pric4p"]
    assert "lgbmzs.align: line 1" in ds.skipped["s2/lgbmzs"] and "found 40 frames" in ds.skipped["s2/pric4p"]
    for cache in (True, False):
        with pytest.raises(ValueError, match=r"bbaf2n\.mp4"):
            Grid(corpus, speakers=("s2",), crop=MOUTH_S1, strict=True, cache=cache)
    (corpus / "s2" / "holiday.mp4").unlink()
    with pytest.warns(UserWarning, match="left out 3 of 5"):
        assert set(Grid(corpus, speakers=("s2",), crop=MOUTH_S1, split="train").names) <= set(before)


def test_without_alignments_clips_are_kept_and_counted(corpus: Path) -> None:
    (corpus / "s2" / f"{NAMES[0]}.align").unlink()
    (corpus / "s2" / f"{NAMES[1]}.align").write_text("")
    for cache in (True, True, False):
        with pytest.warns(UserWarning, match=r"2 of 5 clips have no words with times.*: s2/bbaf2n, s2/lgbmzs") as said:
            ds = Grid(corpus, speakers=("s2",), crop=MOUTH_S1, cache=cache)
        assert len(said) == 1 and len(ds) == 5 and not ds.skipped and ds.untimed == ["s2/bbaf2n", "s2/lgbmzs"]
        clips = {clip.name: clip for clip in ds}
        assert clips["s2/bbaf2n"].words == [] and clips["s2/bbaf2n"].text == "bin blue at f two now"
        assert clips["s2/bbaf2n"].labels["digit"] == 2 and clips["s2/srwi9a"].words[0].text == "lay"
    (corpus / "s2" / f"{NAMES[0]}.align").write_text("0 12500 sil\n12500 25000 bin\n")
    with pytest.warns(UserWarning, match="1 of 5"):  # it has come since: the cache must not hide it
        assert Grid(corpus, speakers=("s2",), crop=MOUTH_S1)[0].words[0].text == "bin"


def test_suffixes_in_capitals(corpus: Path) -> None:
    for name in NAMES:
        (corpus / "s2" / f"{name}.mp4").rename(corpus / "s2" / f"{name}.MP4")
    assert len(Grid(corpus, speakers=("s2",), crop=MOUTH_S1, cache=False)) == 5


def test_nothing_usable(corpus: Path, own_home: Path) -> None:
    for name in NAMES:
        (corpus / "s2" / f"{name}.mp4").write_bytes(b"x")
    with pytest.raises(ValueError, match="none of 5 clips"):
        Grid(corpus, speakers=("s2",), crop=MOUTH_S1)
    assert not [p for p in (own_home / "grid").iterdir() if p.suffix != ".lock"]


def test_interrupted_decoding_leaves_nothing(corpus: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("mmlearn.datasets.grid.dataset.decode", interrupted)
        Grid(corpus)
    assert not [p for p in (own_home / "grid").iterdir() if p.suffix != ".lock"]
    assert len(Grid(corpus)) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "valid"}, "split is 'valid'"),
        ({"image_size": (0, 60)}, "image_size"),
        ({"crop": (0.5, 0.0, 0.6, 1.0)}, "crop"),
        ({"crop": "face"}, r"crop is 'face'; expected \"mouth\", or"),
        ({"crop": (0.5, 0.1)}, "crop is"),
        ({"crop": 7}, "crop is 7"),
        ({"crop": (0.5, 0.0, 0.001, 1.0)}, "none of 2 clips.*leaves no pixel"),
    ],
)
def test_unusable_arguments(corpus: Path, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Grid(corpus, **change)


@pytest.mark.network
def test_without_a_face_a_clip_of_another_talker_is_left_out_by_name(corpus: Path, own_home: Path) -> None:
    with pytest.raises(ValueError, match=r"none of 5 clips.*bbaf2n\.mp4: found no face in any of 75 frames"):
        Grid(corpus, speakers=("s2",))
    for speakers in (("s1",), ("s1", "s1")):
        assert len(Grid(corpus, speakers=speakers))  # the default of talker 1 looks for none


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"zenodo\.org/records/3625687"):
        Grid(tmp_path / "nowhere")


@pytest.mark.skipif(not (GRID / "s1").is_dir(), reason=f"talker 1 of GRID is not in {GRID}; set MMLEARN_GRID")
def test_talker_1(tmp_path: Path) -> None:
    root = tmp_path / "few"
    (root / "s1").mkdir(parents=True)
    files = sorted((GRID / "s1").glob("*.mp4"))
    assert len(files) == 1_000
    test = sorted(name for name, part in split_of(files, 0).items() if part == "test")
    assert len(test) == 200
    # The very clips on which the numbers in benchmarks/results were measured.
    assert hashlib.sha256(" ".join(test).encode()).hexdigest().startswith("de22a01ac9dcaa41")
    for path in files[::100]:
        for source in (path, path.with_suffix(".align")):
            (root / "s1" / source.name).symlink_to(source)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds = Grid(root)
    assert len(ds) == 10
    for clip in ds:
        assert clip.text == " ".join(word.text for word in clip.words)  # the alignment says what the name spells
        assert clip.words[0].start > 0 and clip.words[-1].end <= clip.duration == 3
        audio, video = clip.audio, clip.video
        assert audio is not None and video is not None
        spoken = slice(int(clip.words[0].start * 16_000), int(clip.words[-1].end * 16_000))
        assert np.abs(audio[spoken]).mean() > 3 * np.abs(audio[:4_000]).mean()  # sound and alignment are in step
        red = video[..., 0].astype(int) - video[..., 1]
        assert red[:, 14:36, 16:48].mean() > red[:, :, :6].mean()  # lips in the middle
