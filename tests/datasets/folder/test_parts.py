"""Parts of films, groups and splits by hash: the truth is a film whose grey is its frame's number."""

import hashlib
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mmlearn.datasets import VideoFolder, read_clip, read_shards, reading, write_shards
from mmlearn.datasets.folder import cache as clip_cache
from mmlearn.datasets.folder.records import Record
from mmlearn.datasets.folder.splitting import SHARES, choose, drawn, is_in, lacking
from mmlearn.media import write_mp4


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of 10 s with sound until 4 s, a copy of it, and a film without sound."""
    root = tmp_path_factory.mktemp("films")
    grey = np.repeat(np.arange(0, 200, 2, dtype=np.uint8), 16 * 16 * 3).reshape(100, 16, 16, 3)
    tone = 0.3 * np.sin(np.arange(64_000) / 7).astype(np.float32)
    write_mp4(root / "long.mp4", video=grey, fps=10, audio=tone, sample_rate=16_000, subtitles=[(1.5, 2.5, "走")])
    shutil.copy(root / "long.mp4", root / "copy.mp4")
    write_mp4(root / "silent.mp4", video=grey[:30], fps=10)
    return root


@pytest.fixture(autouse=True)
def own(own_home: Path) -> Iterator[None]:
    with warnings.catch_warnings():
        yield


def table(root: Path, text: str, name: str = "t.csv") -> Path:
    (root / name).write_text(text, encoding="utf-8")
    return root / name


@pytest.mark.parametrize(("cache", "workers"), [(False, 1), (True, 1), (True, 2)])
def test_each_row_is_its_part(films: Path, cache: bool, workers: int) -> None:
    rows = "path,start,end,action\nlong.mp4,0,2,jump\nlong.mp4,7,9,run\nlong.mp4,,,all\nlong.mp4,9,12,run\n"
    parts = VideoFolder(table(films, rows), num_frames=4, size=(16, 16), cache=cache, workers=workers)
    assert parts.names == ["long.mp4#t=0,2", "long.mp4#t=7,9", "long.mp4", "long.mp4#t=9,12"] and not parts.skipped
    for _ in range(2):
        for clip, (start, end) in zip(parts, [(0, 2), (7, 9), (0, 10), (9, 10)], strict=True):
            expected = np.floor((start + (np.arange(4) + 0.5) / 4 * (end - start)) * 10 + 1e-6)
            assert clip.video is not None
            assert np.abs(clip.video[:, 8, 8, 0].astype(int) - 2 * expected).max() <= 3
            np.testing.assert_allclose(clip.times["video"], np.maximum(expected / 10 - start, 0), atol=1e-6)
    assert parts[0].audio is not None and parts[0].audio.shape == (32_000,)
    assert parts[1].audio is None  # the sound is over
    assert [(w.text, w.start, w.end) for w in parts[0].words] == [("走", 1.5, 2.0)]
    assert parts.classes == {"action": ["all", "jump", "run"]} and parts[1].labels == {"action": 2}
    assert parts.report().splitlines()[0].endswith("4 clips, 0.00 hours") and parts.duplicates == {}
    if cache:
        assert len({clip_cache.key_of(parts.entries[0].sha256, reading.DecodeOptions(4, (16, 16), start=s, end=e))
                    for s, e in [(0, 2), (7, 9), (0, None)]}) == 3  # fmt: skip


def test_parts_are_kept_and_not_decoded_again(films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(films, "path,start,end\nlong.mp4,0,2\nlong.mp4,7,9\n")
    first = list(VideoFolder(path, num_frames=2, workers=1))
    monkeypatch.setattr(reading, "read_clip", None)
    again = list(VideoFolder(path, num_frames=2, workers=1))
    assert all(np.array_equal(a.video, b.video) for a, b in zip(first, again, strict=True))


def test_a_part_that_is_not_there_is_left_out_and_the_others_stay(films: Path) -> None:
    path = table(films, "path,start,end\nlong.mp4,10,12\nlong.mp4,1,2\nsilent.mp4,5,6\ngone.mp4,1,2\n")
    with pytest.warns(UserWarning, match="left out 3 of 4 clips"):
        parts = VideoFolder(path, num_frames=2, workers=2)
    assert parts.names == ["long.mp4#t=1,2"]
    assert parts.skipped == {"long.mp4#t=10,12": "start is 10.0 s; the file ends after 10.00 s",
                             "silent.mp4#t=5,6": "start is 5.0 s; the file ends after 3.00 s",
                             "gone.mp4#t=1,2": "no such file or directory"}  # fmt: skip
    with pytest.raises(ValueError, match=r"long\.mp4: start is 10.0 s"):
        VideoFolder(path, num_frames=2, workers=2, strict=True)


def test_parts_of_one_film_and_of_its_copy_are_in_one_split(films: Path) -> None:
    rows = "".join(f"{name}.mp4,{k},{k + 1}\n" for name in ("long", "copy") for k in range(5))
    path = table(films, "path,start,end\n" + rows)
    found = {}
    for split in SHARES:
        try:
            found[split] = len(VideoFolder(path, split=split, num_frames=1, workers=1))
        except ValueError as error:
            assert "none of 10 clips falls into split" in str(error)
    assert list(found.values()) == [10]


def test_parts_in_shards(films: Path, tmp_path: Path) -> None:
    path = table(films, "path,start,end,ids\nlong.mp4,0,2,3 5\nlong.mp4,7,9,\nsilent.mp4,,,2\n")
    parts = VideoFolder(path, num_frames=2, workers=1, labels={"ids": list})
    write_shards(parts, tmp_path / "shards")
    for one, other in zip(parts, read_shards(tmp_path / "shards", num_frames=2), strict=True):
        assert np.array_equal(one.video, other.video) and one.name == other.name and one.labels == other.labels
        assert np.array_equal(one.times["video"], other.times["video"]) and one.words == other.words
    assert parts[0].labels == {"ids": [3, 5]} and "labels      ids: 2 to 5; missing in 1" in parts.report()


# --- splits


def entries(*rows: tuple[str, str | None]) -> list[Record]:
    return [Record(name, Path(name), group=group) for name, group in rows]


def split_of(listed: list[Record], hashes: dict[Path, str], seed: int) -> dict[str, str]:
    wanted = {split: drawn(listed, hashes, split, seed) for split in SHARES}
    return {entry.name: split for entry in listed for split in SHARES if wanted[split](hashes[entry.path])}


def test_groups_stay_together(tmp_path: Path) -> None:
    listed = entries(("a1", "ann"), ("a2", "ann"), ("b1", "bob"), ("talk", "ann"), ("talk", "bob"), ("c", None),
                     ("c copy", "cid"), ("d", "cid"), ("e", "eve"))  # fmt: skip
    hashes = {Path(name): hashlib.sha256(name.replace(" copy", "").encode()).hexdigest() for name in
              ("a1", "a2", "b1", "talk", "c", "c copy", "d", "e")}  # fmt: skip
    seen = set()
    for seed in range(60):
        found = split_of(listed, hashes, seed)
        assert set(found) == {entry.name for entry in listed}  # each is in some split
        assert found["a1"] == found["a2"] == found["talk"] == found["b1"]  # a talk of both joins their groups
        assert found["c"] == found["c copy"] == found["d"]
        seen |= {(found["a1"], found["c"], found["e"])}
        alone = split_of(entries(("a1", "ann"), ("e", "eve")), hashes, seed)
        assert alone["e"] == found["e"]  # nothing changes sides when others come
        plain = split_of(entries(("a1", None), ("d", None)), hashes, seed)
        assert all(is_in(hashes[Path(name)], split, seed) for name, split in plain.items())
    assert len(seen) > 6


def test_a_group_column_decides_the_split(tmp_path: Path) -> None:
    for k in range(6):
        grey = np.full((3, 16, 16, 3), 30 * k, np.uint8)
        write_mp4(tmp_path / f"{k}.mp4", video=grey, fps=10)
    rows = "path,Group,label\n" + "".join(f"{k}.mp4,{'xy'[k % 2]},{'ab'[k % 2]}\n" for k in range(6))
    path = table(tmp_path, rows)
    seed = next(s for s in range(1000) if is_in("group x", "train", s) and is_in("group y", "test", s))
    with pytest.warns(UserWarning, match=r"split 'train' \(3 clips\) has none of 1 of 2 classes of label: b; name the"):
        train = VideoFolder(path, split="train", seed=seed, num_frames=1, workers=1)
    with pytest.warns(UserWarning, match=r"split 'test' \(3 clips\) has none of 1 of 2 classes of label: a"):
        test = VideoFolder(path, split="test", seed=seed, num_frames=1, workers=1, cache=False)
    assert train.names == ["0.mp4", "2.mp4", "4.mp4"] and test.names == ["1.mp4", "3.mp4", "5.mp4"]
    assert "labels      label: a (3), b (0); missing in 0" in train.report()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(VideoFolder(path, num_frames=1, workers=1)) == 6  # all: nothing lacks
    with pytest.raises(ValueError, match="none of 6 clips falls into split 'valid'"):
        VideoFolder(path, split="valid", seed=seed, num_frames=1, workers=1)


def test_names_of_splits_mean_the_usual(tmp_path: Path) -> None:
    listed = [Record(name, tmp_path, split=name) for name in ("Train", "dev", "Testing", "fold1")]
    for asked, found in {"train": "Train", "Train": "Train", "valid": "dev", "val": "dev", "test": "Testing",
                         "fold1": "fold1"}.items():  # fmt: skip
        assert [entry.name for entry in choose(listed, asked, tmp_path)[0]] == [found]
    both = [Record(name, tmp_path, split=name) for name in ("dev", "eval", "train")]
    assert [entry.name for entry in choose(both, "eval", tmp_path)[0]] == ["eval"]
    for asked in ("valid", "fold2", "test"):
        with pytest.raises(ValueError, match=rf"split is {asked!r}; expected one of \['dev', 'eval', 'train'\]"):
            choose(both, asked, tmp_path)
    assert choose(entries(("a", None)), "val", tmp_path)[1] == "valid"


def test_classes_that_a_split_lacks() -> None:
    some = [Record("a", Path("a"), labels={"x": 1, "many": [0, 2]}), Record("b", Path("b"), labels={"score": 3.5})]
    classes = {"x": ["p", "q"], "many": ["u", "v", "w"], "none": []}
    assert lacking(some, classes, None, True) == []
    assert [note.rpartition(" has ")[2] for note in lacking(some, classes, "test", False)] == [
        "none of 1 of 2 classes of x: p", "none of 1 of 3 classes of many: v"]  # fmt: skip
    (note,) = lacking([], {"x": [str(k) for k in range(9)]}, "valid", True)
    assert "none of 9 of 9 classes of x: 0, 1, 2, 3, 4, 5 and 3 more; name the splits in a table" in note


# --- names that mean a file to the user


def test_home_and_addresses(films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(films))
    assert read_clip("~/silent.mp4", num_frames=1).video is not None
    (films / "only").mkdir(exist_ok=True)
    shutil.copy(films / "silent.mp4", films / "only")
    assert VideoFolder("~/only", num_frames=1, workers=1).names == ["silent.mp4"]
    for address in ("https://example.org/a.mp4", "s3://bucket/a", "HTTP://x", "rtsp://camera/1", "file:///a.mp4"):
        for read in (read_clip, VideoFolder):
            for source in (address, Path(address)):
                with pytest.raises(FileNotFoundError, match=r"an address .*; download it first"):
                    read(source)  # type: ignore[operator]


def test_channel_is_checked_and_part_of_the_key() -> None:
    for channel in (True, -1, "left", 1.5):
        with pytest.raises(ValueError, match="channel is"):
            reading.DecodeOptions(channel=channel)  # type: ignore[arg-type]
    keys = {clip_cache.key_of("ab", reading.DecodeOptions(channel=channel)) for channel in ("mean", "loudest", 0, 1)}
    assert len(keys) == 4
