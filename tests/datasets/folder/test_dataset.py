"""VideoFolder: the truth is a full decode by `media.read_mp4`; real files, real links, real processes that die."""

import csv
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from mmlearn.clip import Clip
from mmlearn.datasets import reading
from mmlearn.datasets.folder import cache, dataset, reporting, scan, splitting
from mmlearn.datasets.folder.dataset import VideoFolder
from mmlearn.datasets.folder.listing import list_clips
from mmlearn.datasets.reading import DecodeOptions, read_clip
from mmlearn.media import read_mp4, write_mp4
from tests.datasets.forking import changed_workers, forked
from tests.ordinary_user import as_ordinary_user
from tests.places import ROOT


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


@pytest.fixture(autouse=True)
def calm() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*left out.*")
        yield


READ = """
import os, signal, time
from mmlearn.datasets import reading
read = reading.read_clip
def changed(source, **settings):
    {}
    return read(source, **settings)
reading.read_clip = changed
"""
needs_kill = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills processes")


class Counter:
    """Counts the calls of a function, in this process: open folders with workers=1."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *places: object, name: str) -> None:
        self.calls = 0
        function = getattr(places[0], name)

        def counted(*args: object, **kwargs: object) -> object:
            self.calls += 1
            return function(*args, **kwargs)

        for place in places:
            monkeypatch.setattr(place, name, counted)

    def since(self) -> int:
        calls, self.calls = self.calls, 0
        return calls


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter:
    return Counter(monkeypatch, reading, name="read_clip")


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Counter:
    return Counter(monkeypatch, scan, dataset, name="hash_of")


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


# --- one file


@pytest.mark.parametrize("name", ["cat/a.mp4", "cat/b 猫.MP4", "dog/deep/c.mov"])
def test_a_clip_is_what_a_full_decode_shows_at_its_times(originals: Path, name: str) -> None:
    truth = read_mp4(originals / name)
    clip = read_clip(originals / name, size=None, num_frames=7)
    times = clip.times["video"]
    assert truth.video is not None and clip.video is not None and times.dtype == np.float64
    assert np.array_equal(times, np.floor((np.arange(7) + 0.5) / 7 * 20 + 1e-6) / 25)  # centres of seven parts of 0.8 s
    assert np.array_equal(clip.video, truth.video[np.rint(times * 25).astype(int)])
    assert clip.rates["video"] == pytest.approx(6 / (times[-1] - times[0]))
    if truth.audio is None:
        assert clip.audio is None and "audio" not in clip.rates
    else:
        assert clip.audio is not None and clip.audio.dtype == np.float32 and clip.rates["audio"] == 16_000
        np.testing.assert_allclose(clip.audio, truth.audio, atol=1e-6)
    assert [(w.start, w.end, w.text) for w in clip.words] == truth.subtitles
    assert clip.duration == pytest.approx(0.8, abs=0.05) and clip.name == str(originals / name) and not clip.labels


def test_a_part_has_its_own_clock(originals: Path) -> None:
    whole = read_clip(originals / "cat/a.mp4", size=None, num_frames=20)
    part = read_clip(originals / "cat/a.mp4", size=None, num_frames=5, start=0.2, end=0.4, name="part")
    assert whole.video is not None and part.video is not None and whole.audio is not None and part.audio is not None
    assert np.array_equal(part.video, whole.video[5:10]) and part.name == "part"
    np.testing.assert_allclose(part.times["video"], np.arange(5) / 25, atol=1e-9)
    np.testing.assert_allclose(part.audio, whole.audio[3200:6400], atol=1e-6)
    assert [(w.text, round(w.start, 6), round(w.end, 6)) for w in part.words] == [("你好", 0, 0.1), ("世界", 0.1, 0.2)]
    assert read_clip(originals / "cat/a.mp4", start=0.65).words == []
    late = read_clip(originals / "cat/a.mp4", start=0.21, end=0.23, num_frames=1)  # shown since 0.2 s: at its start
    assert late.times["video"].tolist() == [0.0] and late.rates["video"] == 25


def test_a_file_object_gives_the_same(originals: Path) -> None:
    with open(originals / "cat/a.mp4", "rb") as file:
        assert same(read_clip(file, name="x"), read_clip(originals / "cat/a.mp4", name="x"))


def test_resizing_rate_and_streams(originals: Path) -> None:
    clip = read_clip(originals / "cat/a.mp4", size=(24, 30), sample_rate=8000, num_frames=3)
    assert clip.video is not None and clip.video.shape == (3, 24, 30, 3)
    assert clip.audio is not None and clip.audio.shape == (6400,) and clip.rates["audio"] == 8000
    with pytest.raises(ValueError, match="stream 1"):
        read_clip(originals / "cat/a.mp4", audio_stream=1)


def test_sound_alone_is_a_clip_and_neither_is_an_error(originals: Path, tmp_path: Path) -> None:
    clip = read_clip(originals / "dog/e.m4a")
    assert list(clip.streams) == ["audio"] and list(clip.rates) == ["audio"] and clip.times == {}
    (tmp_path / "x.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    with pytest.raises(ValueError, match=r"x\.srt: found neither pictures nor sound"):
        read_clip(tmp_path / "x.srt")


def test_subtitles_of_matroska_too(tmp_path: Path) -> None:
    import av

    write(tmp_path / "x.mp4")
    with av.open(str(tmp_path / "x.mp4")) as source, av.open(str(tmp_path / "x.mkv"), "w") as out:
        video = out.add_stream_from_template(source.streams.video[0])
        text = out.add_stream("subrip")
        text.codec_context.subtitle_header = source.streams.subtitles[0].codec_context.subtitle_header or b""
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = video
                out.mux(packet)
        packet = av.Packet("早安".encode())
        packet.stream, packet.pts, packet.dts, packet.duration = text, 200, 200, 300
        packet.time_base = text.time_base
        out.mux(packet)
    (word,) = read_clip(tmp_path / "x.mkv").words
    assert (word.text, word.start, word.end) == ("早安", 0.2, 0.5)


def test_random_sampling_draws_from_the_global_generator(originals: Path) -> None:
    draw = DecodeOptions(num_frames=4, sampling="segment")
    torch.manual_seed(3)
    first, second = draw.clip(originals / "cat/a.mp4"), draw.clip(originals / "cat/a.mp4")
    torch.manual_seed(3)
    again = draw.clip(originals / "cat/a.mp4")
    assert same(first, again) and first.times["video"].tolist() != second.times["video"].tolist()
    dense = [
        DecodeOptions(num_frames=4, sampling="dense", interval=0.08).clip(originals / "cat/a.mp4") for _ in range(8)
    ]
    for clip in dense:
        np.testing.assert_allclose(np.diff(clip.times["video"]), 0.08, atol=1e-9)
    assert len({clip.times["video"][0] for clip in dense}) > 1


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


def table(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("line", ["\n", "\r\n"])
def test_a_table(root: Path, encoding: str, line: str) -> None:
    rows = [
        "path, text ,mood,age,score,split",
        'dog/d.mp4,"一只狗, ""旺财""",happy,3,0.5,train',
        "cat/b 猫.MP4,,,4,1,test",
        "",
        "cat/a.mp4,a cat,sad,,,train",
        f"{root}/dog/e.m4a,a dog,happy,5,2,",
        "cat/a.mp4,the same cat,calm,,,train",
        "cat/nowhere.mp4,x,calm,,,train",
        "cat,x,calm,,,train",
        "cat/a\0b.mp4,x,calm,,,train",
    ]
    films = VideoFolder(table(root / "films.csv", line.join(rows), encoding))
    assert films.names == ["dog/d.mp4", "cat/b 猫.MP4", "cat/a.mp4", f"{root}/dog/e.m4a", "cat/a.mp4"]
    assert [clip.text for clip in films] == ['一只狗, "旺财"', None, "a cat", "a dog", "the same cat"]
    assert "text" not in films[1].streams
    assert films.classes == {"mood": ["calm", "happy", "sad"]}
    assert [clip.labels for clip in films] == [
        {"mood": 1, "age": 3, "score": 0.5}, {"age": 4, "score": 1.0}, {"mood": 2},
        {"mood": 1, "age": 5, "score": 2.0}, {"mood": 0},
    ]  # fmt: skip
    assert [type(films[3].labels[name]) for name in ("mood", "age", "score")] == [int, int, float]
    assert films.skipped == {"cat/nowhere.mp4": "no such file or directory", "cat": "a folder; expected a file",
                             "cat/a\0b.mp4": "embedded null byte"}  # fmt: skip
    assert films.duplicates == {}  # one file twice in a table is no copy
    train = VideoFolder(root / "films.csv", split="train")
    assert train.names == ["dog/d.mp4", "cat/a.mp4", "cat/a.mp4"] and train.classes == films.classes
    with pytest.raises(ValueError, match=r"split is 'valid'; expected one of \['test', 'train'\]"):
        VideoFolder(root / "films.csv", split="valid")


BAD_TABLES = [
    ("", "utf-8", r"the first line names \[\]; expected path,text"),
    ("path,text\n", "utf-8", "found no video or sound file"),
    ("file,text\na,b\n", "utf-8", r"names \['file', 'text'\]; expected path"),
    ("path;text\na;b\n", "utf-8", "separated by semicolons or tabs?"),
    ("path\ttext\na\tb\n", "utf-8", "separated by semicolons or tabs?"),
    ("path,x,x\na,1,2\n", "utf-8", "expected a different name for each column"),
    ("path,\na,1\n", "utf-8", "expected a different name for each column"),
    ("path,x\na,1\nb,1,2\n", "utf-8", "line 3: found 3 cells; expected 2"),
    ('path,x\n"a\nb",1\nb\n', "utf-8", "line 4: found 1 cells; expected 2"),
    ("path,x\n,1\n", "utf-8", "line 2: the path is empty"),
    ('path,x\na,"1\n', "utf-8", "line 2: unexpected end of data"),
    ("path,age\na,1\nb,inf\n", "utf-8", "line 3: age is 'inf'; expected a finite number, or an empty cell"),
    ("path,text\na,红山\n", "gb18030", "byte 12 is 0xba, which is not UTF-8 .it could be GB18030.*CSV UTF-8"),
    ("path,text\na,红山\n", "utf-16", "byte 0 is 0xff, which is not UTF-8 .it begins as UTF-16"),
    ("path,text\na,\xff", "latin-1", r"byte 12 is 0xff, which is not UTF-8; save"),
]


@pytest.mark.parametrize(("text", "encoding", "message"), BAD_TABLES)
def test_bad_tables(tmp_path: Path, text: str, encoding: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        list_clips(table(tmp_path / "t.csv", text, encoding))
    assert str(tmp_path / "t.csv") in str(error.value)


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0")).map(str.strip)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(CELL, CELL, st.none() | st.integers(-(10**17), 10**17)), min_size=1, max_size=6))
def test_what_a_table_says_comes_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["path", "text", "kind", "age"], *(("x.mp4", *row) for row in rows)])
    listing = list_clips(path, labels={"kind": str})
    for entry, (text, kind, age) in zip(listing.entries, rows, strict=True):
        assert (entry.text or "") == text and entry.labels.get("age") == age
        index = entry.labels.get("kind")
        assert (listing.classes["kind"][index] if index is not None else "") == kind


# --- splits by content


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=8).map(lambda data: data.hex()), st.integers(0, 3))
def test_each_content_is_in_one_split(sha256: str, seed: int) -> None:
    assert sum(splitting.is_in(sha256, split, seed) for split in splitting.SHARES) == 1


def test_shares_of_the_splits() -> None:
    many = [f"{k:064x}" for k in range(4000)]
    for split, (low, high) in splitting.SHARES.items():
        part = {sha256 for sha256 in many if splitting.is_in(sha256, split, 0)}
        assert len(part) / 4000 == pytest.approx(high - low, abs=0.025)  # four standard errors
        assert part != {sha256 for sha256 in many if splitting.is_in(sha256, split, 1)}


def test_a_split_by_content_leaves_nothing_out_and_keeps_copies_together(root: Path) -> None:
    shutil.copy(root / "cat/a.mp4", root / "dog/z.mp4")
    whole = VideoFolder(root)
    assert whole.duplicates == {"dog/z.mp4": "cat/a.mp4"}
    assert "duplicate   dog/z.mp4 has the bytes of cat/a.mp4" in whole.report()
    for name in whole.skipped:
        (root / name).unlink()
    most = 0
    for seed in range(12):
        names: list[str] = []
        contents: list[set[str]] = []
        for split in splitting.SHARES:
            try:
                part = VideoFolder(root, split=split, seed=seed, workers=1)
            except ValueError as error:
                assert f"none of 6 clips falls into split {split!r}; name the splits" in str(error)
                continue
            names += part.names
            contents.append({entry.sha256 for entry in part.entries})
            assert part.classes == whole.classes
        assert sorted(names) == sorted(whole.names) and len(set().union(*contents)) == sum(map(len, contents))
        most = max(most, len(contents))
    assert most > 1


# --- what is kept


def test_nothing_is_decoded_twice(root: Path, decoded: Counter, hashed: Counter) -> None:
    first = list(VideoFolder(root, workers=1))
    assert decoded.since() == 7  # with the two bad ones
    again = VideoFolder(root, workers=1)
    assert decoded.since() == 2  # who knows, they may have been a bad day's
    assert all(same(a, b) for a, b in zip(first, again, strict=True)) and decoded.since() == 0
    os.rename(root / "cat", root / "lynx")
    os.utime(root / "dog/d.mp4")
    renamed = VideoFolder(root, workers=1)
    assert decoded.since() == 2
    assert renamed[3].name == "lynx/a.mp4" and renamed.classes["label"] == ["dog", "lynx"]
    with open(root / "dog/d.mp4", "ab") as file:
        file.write(b"\0\0\0\x08free")  # an empty box: another content, still a film
    VideoFolder(root, workers=1)
    assert decoded.since() == 3
    VideoFolder(root, workers=1, num_frames=8)
    assert decoded.since() == 7


def test_settled_files_are_not_hashed_again(
    root: Path, decoded: Counter, hashed: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        VideoFolder(root, workers=1)
        assert hashed.since() == 7  # all are younger than a second: too young to trust their dates
    time.sleep(0.05)
    monkeypatch.setattr(cache, "TICK", 0.02)
    VideoFolder(root, workers=1)
    hashed.since()
    VideoFolder(root, workers=1)
    assert hashed.since() == 2  # the bad ones
    before = (root / "dog/d.mp4").stat()
    data = bytearray((root / "dog/d.mp4").read_bytes())
    data[-1] ^= 1
    (root / "dog/d.mp4").write_bytes(data)
    os.utime(root / "dog/d.mp4", ns=(before.st_atime_ns, before.st_mtime_ns))  # same size, same date
    decoded.since()
    VideoFolder(root, workers=1)
    assert hashed.since() == 3 and decoded.since() == 3
    (ledger,) = (cache.home() / "folders").glob("*.json")
    for damage in ("{", "[1]", '{"a": 1}', '{"%s": 3}' % (root / "dog/d.mp4")):
        ledger.write_text(damage)
        VideoFolder(root, workers=1)
        assert hashed.since() == 7


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


def test_processes_and_one_alone_find_the_same(root: Path) -> None:
    alone = VideoFolder(root, workers=1, cache=False)
    processes = VideoFolder(root, workers=3, cache=False)
    assert processes.entries == alone.entries and processes.skipped == alone.skipped


def test_a_daemon_has_no_children(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan.multiprocessing, "current_process", lambda: type("P", (), {"daemon": True}))
    monkeypatch.setattr(scan, "processes", None)
    assert len(VideoFolder(root)) == 5


@needs_kill
def test_a_file_that_crashes_the_decoder_is_left_out(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash = "if source.name in ('a.mp4', 'text.mp4'): os.kill(os.getpid(), signal.SIGKILL)"
    changed_workers(tmp_path, monkeypatch, READ.format(crash))
    films = VideoFolder(root, workers=2)
    assert films.names == ["cat/b 猫.MP4", "dog/d.mp4", "dog/deep/c.mov", "dog/e.m4a"]
    assert [films.skipped[name] for name in ("cat/a.mp4", "dog/text.mp4")] == ["the process that read it died"] * 2
    assert "died" not in films.skipped["cat/half.mp4"]
    for name in ("cat/half.mp4", "dog/text.mp4"):
        (root / name).unlink()
    assert list(VideoFolder(root, workers=2).skipped) == ["cat/a.mp4"]  # alone to be read, and not in this process
    with pytest.raises(RuntimeError, match=r"cat/a\.mp4: the process that read it died"):
        VideoFolder(root, workers=2, strict=True)


@needs_kill
def test_a_file_that_blocks_is_left_out(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = "if source.name == 'a.mp4': os.kill(os.getpid(), signal.SIGSTOP)"
    changed_workers(tmp_path, monkeypatch, READ.format(stop))
    monkeypatch.setattr(scan, "PATIENCE", 12.0)
    films = VideoFolder(root, workers=2)
    assert films.skipped["cat/a.mp4"] == "reading it took more than 12 s" and len(films) == 4


def test_pickles_and_loads_in_workers(root: Path) -> None:
    films = VideoFolder(root)
    copy = pickle.loads(pickle.dumps(films))
    assert all(same(a, b) for a, b in zip(films, copy, strict=True))
    for workers in (0, 2):
        loader = DataLoader(films, batch_size=None, num_workers=workers)
        assert all(same(a, b) for a, b in zip(films, loader, strict=True))


needs_fork = pytest.mark.skipif(sys.platform != "linux", reason="forks, and looks for processes in /proc")


@needs_fork
def test_two_processes_at_once_decode_once(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = f"open({str(tmp_path / 'log')!r}, 'a').write(f'{{source}}\\n'); time.sleep(0.05)"
    changed_workers(tmp_path, monkeypatch, READ.format(note))
    children = [forked(lambda: len(VideoFolder(root, workers=2)) == 5 or 1 / 0) for _ in range(2)]
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
    calls = (tmp_path / "log").read_text().splitlines()
    assert len(calls) == 9 and len(set(calls)) == 7  # the bad ones twice
    assert len(list((cache.home() / "folders/clips").rglob("*.clip"))) == 5


@needs_fork
@pytest.mark.parametrize("moment", ["while clips are written", "between clips"])
def test_killed_while_indexing_then_completes(
    root: Path, tmp_path: Path, moment: str, decoded: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleep = {
        "between clips": READ.format("time.sleep(60 * ('dog' in str(source)))"),
        "while clips are written": "import os, time\nreplace = os.replace\n"
        "os.replace = lambda a, b: time.sleep(60 * str(b).endswith('clip')) or replace(a, b)",
    }
    with monkeypatch.context() as patch:
        changed_workers(tmp_path, patch, sleep[moment])
        child = forked(lambda: VideoFolder(root, workers=2))
    kept, deadline = cache.home() / "folders", time.monotonic() + 60
    pattern = "clips/*/*.clip" if moment == "between clips" else ".*.unfinished/*[!k]"
    while len(list(kept.glob(pattern))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    processes = [Path("/proc", pid) for pid in Path(f"/proc/{child}/task/{child}/children").read_text().split()]
    for task in Path(f"/proc/{child}/task").iterdir():
        processes += [Path("/proc", pid) for pid in (task / "children").read_text().split()]
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while any((worker / "cmdline").exists() and (worker / "cmdline").read_bytes() for worker in processes):
        assert time.monotonic() < deadline  # they do not outlive it
        time.sleep(0.02)
    assert len(set(processes)) == 2
    survived = len(list(kept.glob("clips/*/*.clip")))
    assert survived == (2 if moment == "between clips" else 0)
    films = VideoFolder(root, workers=1)
    assert len(films) == 5 and decoded.since() == 7 - survived
    assert all(same(clip, other) for clip, other in zip(films, VideoFolder(root, cache=False), strict=True))
    assert not list(kept.glob(".*.unfinished"))


# --- the report


def test_report(root: Path) -> None:
    write(root / "dog/large.mkv.mp4", seed=9, size=(48, 64), sound=False)
    table(root / "t.csv", "path,text,mood,age\n" + "".join(
        f"{name},{text},{mood},{age}\n" for name, text, mood, age in [
            ("cat/a.mp4", "x", "sad", 1), ("cat/b 猫.MP4", "", "sad", 7), ("dog/large.mkv.mp4", "", "", ""),
            ("dog/e.m4a", "", "happy", 3), ("dog/text.mp4", "", "", "")]))  # fmt: skip
    said = VideoFolder(root / "t.csv").report().splitlines()
    assert said[0] == f"{root / 't.csv'}: 4 clips, 0.00 hours"
    assert said[1:-1] == [
        "pictures    3: 40 × 32 (2), 64 × 48 (1)",
        "rates       25 fps (3)",
        "sound       2, none in 2: 16000 Hz (2)",
        "text        1, none for 3",
        "labels      age: 1 to 7; missing in 1",
        "labels      mood: sad (2), happy (1); missing in 1",
    ]
    assert said[-1].startswith("left out    dog/text.mp4: cannot decode these 7 bytes")


def test_report_after_a_file_has_gone(root: Path) -> None:
    films = VideoFolder(root)
    (root / "cat/a.mp4").unlink()
    assert "5 clips" in films.report() and "sound       3" in films.report()


def test_counts_are_cut_short() -> None:
    assert reporting.counts("aabcdefgh") == "a (2), b (1), c (1), d (1), e (1), f (1), others (2)"
