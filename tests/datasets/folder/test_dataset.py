"""VideoFolder: the truth is a full decode by `media.read_mp4`; real files, real links, real processes that die."""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from mmlearn.datasets.folder import cache
from mmlearn.datasets.folder.dataset import VideoFolder
from mmlearn.datasets.folder.listing import list_clips
from mmlearn.datasets.reading import read_clip
from tests.datasets.conftest import same
from tests.datasets.folder.conftest import Counter
from tests.ordinary_user import as_ordinary_user
from tests.places import ROOT

# --- one file


BAD_SETTINGS = [
    ({"num_frames": 0}, "num_frames is 0; expected an integer ≥ 1"),
    ({"sample_rate": 0.5}, "sample_rate is 0.5; expected an integer ≥ 1"),
    ({"size": (0, 4)}, r"size is \(0, 4\); expected \(height, width\)"),
    ({"size": (4,)}, r"size is \(4,\); expected"),
    ({"sampling": "all"}, "sampling is 'all'; expected one of"),
    ({"interval": 0.1}, "interval is 0.1; expected seconds above 0, for dense"),
    ({"interval": -1, "sampling": "dense"}, "interval is -1"),
    ({"workers": 0}, "workers is 0; expected at least 1"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_SETTINGS)
def test_bad_settings(root: Path, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VideoFolder(root, **arguments)


# --- which files there are


def test_a_folder_per_class(root: Path) -> None:
    with pytest.warns(UserWarning, match=r"films: left out 2 of 7 clips; cat/half.mp4: .*[0-9]") as said:
        films = VideoFolder(root)
    assert len(said) == 1 and said[0].filename == __file__
    assert films.names == ["cat/a.mp4", "cat/b 猫.MP4", "dog/d.mp4", "dog/deep/c.mov", "dog/e.m4a"]
    assert films.classes == {"label": ["cat", "dog"]}
    assert [clip.labels for clip in films] == [{"label": 0}] * 2 + [{"label": 1}] * 3
    assert list(films.skipped) == ["cat/half.mp4", "dog/text.mp4"]
    assert str(root) not in str(films.skipped) and "cannot decode" in films.skipped["dog/text.mp4"]
    for clip, name in zip(films, films.names, strict=True):
        truth = read_clip(root / name, name=name)
        truth.labels = clip.labels
        assert same(clip, truth) and clip.text is None


def test_indexing(root: Path) -> None:
    films = VideoFolder(root, workers=1)
    assert films[-1].name == films[4].name == "dog/e.m4a"
    for index in (5, -6):
        with pytest.raises(IndexError, match=f"index is {index}; this folder has 5 clips"):
            films[index]


def test_splits_by_folders(originals: Path, tmp_path: Path, own_home: Path) -> None:
    film, root = originals / "cat/a.mp4", tmp_path / "set"
    for name in ["Train/x/1.mp4", "Train/y/2.mp4", "val/y/3.mp4", "test/x/sub/4.mp4", "test/5.mp4"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(film, root / name)
    assert VideoFolder(root, split="train").names == ["Train/x/1.mp4", "Train/y/2.mp4"]
    valid, test = VideoFolder(root, split="valid"), VideoFolder(root, split="test")
    assert valid.classes == test.classes == {"label": ["x", "y"]}
    assert [clip.labels for clip in valid] == [{"label": 1}]
    assert [clip.labels for clip in test] == [{}, {"label": 0}]
    assert VideoFolder(root, split="val").names == valid.names == ["val/y/3.mp4"]
    with pytest.raises(ValueError, match=r"split is 'fold1'; expected one of \['test', 'train', 'valid'\]"):
        VideoFolder(root, split="fold1")
    shutil.copy(film, root / "6.mp4")  # a stray file has neither split nor class
    listing = list_clips(root)
    assert listing.classes == {"label": ["x", "y"]} and listing.entries[0].labels == {}
    assert [entry.split for entry in listing.entries] == [None, "train", "train", "test", "test", "valid"]


def test_odd_things_in_folders(originals: Path, tmp_path: Path, own_home: Path) -> None:
    root = tmp_path / "odd"
    shutil.copytree(originals / "dog", root / "b\tdog\n")
    (root / "b\tdog\n" / "folder.mp4").mkdir()
    shutil.copy(originals / "cat/a.mp4", root / "b\tdog\n" / "folder.mp4" / "inside.mp4")
    shutil.copy(originals / "cat/a.mp4", root / "free.mp4")
    (root / "loop").symlink_to(root)
    (root / "a-link").symlink_to(root / "b\tdog\n")
    (root / "turn.mp4").symlink_to("turn.mp4")
    (root / "gone.mp4").symlink_to("nowhere.mp4")
    (root / "good.mp4").symlink_to(originals / "cat/a.mp4")
    (root / "turning").symlink_to("turning")
    os.mkfifo(root / "pipe.mp4")
    os.makedirs(os.path.join(os.fsencode(root), b"caf\xe9"))
    shutil.copy(originals / "cat/a.mp4", os.path.join(os.fsencode(root), b"caf\xe9", b"\xff.mp4"))
    films = VideoFolder(root, workers=2)
    assert films.names == ["b\tdog\n/d.mp4", "b\tdog\n/deep/c.mov", "b\tdog\n/e.m4a", "caf\\udce9/\\udcff.mp4",
                           "free.mp4", "good.mp4"]  # fmt: skip
    assert films.skipped["b\tdog\n/folder.mp4"] == "a folder; expected a file"
    for link in ("loop", "a-link"):
        assert films.skipped[link].startswith("a link back to ") and "listed already" in films.skipped[link]
    assert films.skipped["turn.mp4"] == "too many levels of symbolic links"
    assert films.skipped["gone.mp4"] == "no such file or directory"
    assert films.skipped["pipe.mp4"] == "no regular file; expected a file"
    assert films.classes["label"] == ["b\tdog\n", "caf\\udce9"] and films[4].labels == {}
    report = films.report()
    report.encode()
    (others,) = (line for line in report.splitlines() if line.startswith("other files"))
    assert sorted(others[12:].split(", ")) == [".txt (1)", "hidden (1)", "without suffix (1)"]
    with pytest.raises(ValueError, match=r"folder\.mp4: a folder; expected a file|a link back"):
        VideoFolder(root, strict=True)


def test_what_must_not_be_read_is_left_out(originals: Path) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as place:  # pytest's own folders are closed to other users
        top = Path(place)
        root = shutil.copytree(originals / "cat", top / "films")
        os.makedirs(root / "closed")
        command = as_ordinary_user(top)
        (root / "a.mp4").chmod(0)
        (root / "closed").chmod(0)
        program = (
            "import sys, warnings; warnings.simplefilter('ignore')\n"
            "from mmlearn.datasets import VideoFolder\n"
            "films = VideoFolder(sys.argv[1])\n"
            "print(films.names, films.skipped['a.mp4'], films.skipped['closed'], sep='|')"
        )
        environment = {**os.environ, "MMLEARN_HOME": str(top / "home"), "PYTHONIOENCODING": "utf-8"}
        done = subprocess.run([*command, sys.executable, "-c", program, str(root)], env=environment, cwd=ROOT,
                              capture_output=True, text=True)  # fmt: skip
        (root / "closed").chmod(0o700)
        assert done.stdout.strip() == "['b 猫.MP4']|permission denied|cannot list this folder (Permission denied)", done


def test_nothing_usable(root: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such folder or table.*nowhere"):
        VideoFolder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"a\.mp4: a file; expected a folder, or a table"):
        VideoFolder(root / "cat/a.mp4")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: found no video or sound file, but nothing"):
        VideoFolder(tmp_path / "empty")
    (tmp_path / "empty/a.txt").touch()
    (tmp_path / "empty/x.mp4").mkdir()
    with pytest.raises(ValueError, match=r"but 1 \.txt; x\.mp4: a folder; expected a file"):
        VideoFolder(tmp_path / "empty")
    (tmp_path / "empty/y.mp4").touch()
    with pytest.raises(ValueError, match=r"none of 2 clips can be used; x\.mp4: a folder"):
        VideoFolder(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"empty: none of 1 clips falls into split"):
        (tmp_path / "empty/x.mp4").rmdir()
        shutil.copy(root / "cat/a.mp4", tmp_path / "empty/y.mp4")
        for split in ("train", "valid", "test"):
            VideoFolder(tmp_path / "empty", split=split)


@pytest.mark.parametrize("workers", [1, 2])
def test_strict_raises_what_reading_raised(root: Path, workers: int) -> None:
    with pytest.raises(ValueError, match=r"half\.mp4: "):
        VideoFolder(root, strict=True, workers=workers)
    table = root / "t.csv"
    table.write_text("path\ngone.mp4\n")
    with pytest.raises(FileNotFoundError, match=r"gone\.mp4"):
        VideoFolder(table, strict=True)


# --- tables


# --- splits by content


# --- what is kept


def test_kept_clips_may_vanish_while_the_folder_is_open(root: Path, decoded: Counter) -> None:
    films = VideoFolder(root, workers=1)
    first = films[0]
    shutil.rmtree(cache.home())
    decoded.since()
    assert same(films[0], first) and decoded.since() == 1
    assert same(films[0], first) and decoded.since() == 0
    shutil.copy(root / "dog/d.mp4", root / "cat/a.mp4")  # the same name, but no longer what was opened
    shutil.rmtree(cache.home())
    with pytest.warns(UserWarning, match=r"cat/a\.mp4: the file has changed since its folder was opened"):
        assert not same(films[0], first)
    assert not cache.path_of(cache.key_of(films.entries[0].sha256, films.reading)).exists()
    (root / "cat/a.mp4").unlink()
    with pytest.raises(FileNotFoundError, match=r"cat/a\.mp4"):
        films[0]


def test_damage_is_repaired(root: Path, decoded: Counter) -> None:
    films = VideoFolder(root, workers=1)
    first = films[0]
    path = cache.path_of(cache.key_of(films.entries[0].sha256, films.reading))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    decoded.since()
    assert same(films[0], first) and same(films[0], first) and decoded.since() == 1


def test_without_cache_nothing_is_written(root: Path, own_home: Path, decoded: Counter) -> None:
    films = VideoFolder(root, workers=1, cache=False)
    assert decoded.since() == 7 and not own_home.exists()
    assert same(films[0], VideoFolder(root, workers=1)[0])
    decoded.since()
    assert films[0].video is not None and films[0].video is not None and decoded.since() == 2


def test_random_sampling_decodes_anew(root: Path, decoded: Counter) -> None:
    films = VideoFolder(root, workers=1, sampling="segment", num_frames=4)
    decoded.since()
    times = {tuple(films[0].times["video"]) for _ in range(6)}
    assert len(times) > 1 and decoded.since() == 6
    VideoFolder(root, workers=1, num_frames=4)
    VideoFolder(root, workers=1, sampling="dense", interval=0.04, num_frames=4)
    assert decoded.since() == 4  # the bad ones, twice: that the others can be read is known


# --- several at a time


def test_pickles_and_loads_in_workers(root: Path) -> None:
    films = VideoFolder(root)
    copy = pickle.loads(pickle.dumps(films))
    assert all(same(a, b) for a, b in zip(films, copy, strict=True))
    for workers in (0, 2):
        loader = DataLoader(films, batch_size=None, num_workers=workers)
        assert all(same(a, b) for a, b in zip(films, loader, strict=True))


# --- the report
