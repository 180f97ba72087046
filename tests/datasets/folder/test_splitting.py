"""mmlearn.datasets.folder.splitting: splits by content: shares, copies, groups, names."""

import hashlib
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlearn.datasets.folder import splitting
from mmlearn.datasets.folder.dataset import VideoFolder
from mmlearn.datasets.folder.records import Record
from mmlearn.datasets.folder.splitting import SHARES, choose, drawn, is_in, lacking
from mmlearn.media import write_mp4
from tests.datasets.folder.test_parts import table


@settings(max_examples=200)
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
