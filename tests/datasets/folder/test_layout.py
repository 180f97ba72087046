"""Folders and tables as people lay them out. Only names are looked at, so the files are empty."""

import os
from pathlib import Path

import pytest

from mmlearn.datasets.folder.listing import list_clips
from mmlearn.datasets.folder.records import Listing


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def described(listing: Listing) -> list[tuple]:
    names = listing.classes.get("label", [])
    return [(e.name, e.split, names[e.labels["label"]] if "label" in e.labels else None) for e in listing.entries]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("train/cat/1.mp4", "dev/cat/3.mp4"), [("valid", "cat"), ("train", "cat")]),
        (("TRAINING/cat/1.mp4", "Testing/dog/2.mp4"), [("train", "cat"), ("test", "dog")]),
        (("preview.mp4", "test/dog/2.mp4", "train/cat/1.mp4"), [(None, None), ("test", "dog"), ("train", "cat")]),
        (("data/test/cat/3.mp4", "data/train/cat/1.mp4"), [("test", "cat"), ("train", "cat")]),
        (
            ("a/b/eval/cat/3.mp4", "a/b/train/cat/1.mp4", "a/readme.mp4"),
            [("valid", "cat"), ("train", "cat"), (None, None)],
        ),
        (("train/1.mp4", "val/2.mp4"), [("train", None), ("valid", None)]),
        (("train/cat/deep/test/1.mp4",), [("train", "cat")]),
        (
            ("cat/test/2.mp4", "cat/train/1.mp4", "dog/train/3.mp4"),
            [("test", "cat"), ("train", "cat"), ("train", "dog")],
        ),
        (("cat/1.mp4", "dog/2.mp4", "x.mp4"), [(None, "cat"), (None, "dog"), (None, None)]),
        (("Validation/cat/1.mp4", "validation/cat/2.mp4"), [("valid", "cat"), ("valid", "cat")]),
        (("testament/cat/1.mp4", "trainer/cat/2.mp4"), [(None, "testament"), (None, "trainer")]),
    ],
)
def test_splits_and_classes(tmp_path: Path, names: tuple[str, ...], expected: list[tuple]) -> None:
    listing = list_clips(tree(tmp_path, *names))
    assert [(split, name) for _, split, name in described(listing)] == expected and not listing.notes


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("train/cat/1.mp4", "test/dog/2.mp4", "unlabeled/3.mp4"),
            r"1 of 3 files lie in 'unlabeled' beside, e\.g\. unlabeled/3",
        ),
        (("data/train/cat/1.mp4", "data/extra/dog/2.mp4"), "1 of 2 files lie in 'extra' beside"),
        (
            ("car/1.mp4", "bus/2.mp4", "train/3.mp4"),
            "'train' is named like splits, but 2 of 3 files lie in 'bus', 'car'",
        ),
        (("dev/cat/1.mp4", "eval/cat/2.mp4"), "'dev', 'eval' would all be the split 'valid'"),
    ],
)
def test_where_the_guess_nearly_fits_it_stops(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        list_clips(tree(tmp_path, *names))
    assert str(tmp_path) in str(error.value) and "layout='classes'" in str(error.value)
    listing = list_clips(tmp_path, layout="classes")  # what it advises
    assert set(listing.classes["label"]) == {name.split("/")[0] for name in names}
    assert {entry.split for entry in listing.entries} == {None}


def test_layout_splits_leaves_the_others_out_of_all_splits(tmp_path: Path) -> None:
    tree(tmp_path, "train/cat/1.mp4", "test/dog/2.mp4", "unlabeled/x/3.mp4")
    assert described(list_clips(tmp_path, layout="splits")) == [
        ("test/dog/2.mp4", "test", "dog"),
        ("train/cat/1.mp4", "train", "cat"),
        ("unlabeled/x/3.mp4", None, None),
    ]
    with pytest.raises(ValueError, match="no folder is named like one"):
        list_clips(tree(tmp_path / "other", "cat/1.mp4"), layout="splits")
    with pytest.raises(ValueError, match="layout is 'folders'; expected None, 'table', 'classes' or 'splits'"):
        list_clips(tmp_path, layout="folders")  # type: ignore[arg-type]


def test_one_folder_around_all_classes_is_said(tmp_path: Path) -> None:
    listing = list_clips(tree(tmp_path, "data/cat/1.mp4", "data/dog/2.mp4"))
    assert listing.classes["label"] == ["data"]
    assert (
        f"all clips have one class, 'data'; if 'cat', 'dog' are the classes, open '{tmp_path / 'data'}'"
        in listing.notes
    )
    assert not list_clips(tree(tmp_path / "one", "cat/x/1.mp4")).notes
    listing = list_clips(tree(tmp_path / "some", "cat/train/1.mp4", "cat/test/2.mp4", "dog/3.mp4"))
    assert "taken only for places, because 'dog/3.mp4' lies in none" in listing.notes[0]


# --- a table beside the films


def test_the_table_in_the_root_is_used(tmp_path: Path) -> None:
    tree(tmp_path, "train/a.mp4", "b.mp4", "c.mp4", "notes.txt")
    (tmp_path / "Clips.CSV").write_text("path,text,score\ntrain/a.mp4,hello,1\nb.mp4,you,2\n")
    listing = list_clips(tmp_path)
    assert [(e.name, e.text, e.labels, e.split) for e in listing.entries] == [
        ("train/a.mp4", "hello", {"score": 1}, None),
        ("b.mp4", "you", {"score": 2}, None),
    ]
    assert listing.ignored == {".txt": 1}
    assert listing.notes[0].startswith("1 files beside Clips.CSV do not stand in it and are left out, e.g. c.mp4")
    assert list_clips(tmp_path, layout="table").entries == listing.entries
    assert len(list_clips(tmp_path, layout="classes").entries) == 3
    assert list_clips(tmp_path, labels={"score": float}).entries[0].labels == {"score": 1.0}
    (tmp_path / "Clips.CSV").write_text("film,text\na.mp4,hello\n")
    with pytest.raises(ValueError, match=r"Clips\.CSV: the first line names \['film', 'text'\]; expected path"):
        list_clips(tmp_path)
    (tmp_path / "Clips.CSV").unlink()
    with pytest.raises(ValueError, match=r"expected a folder with a table clips\.csv"):
        list_clips(tmp_path, layout="table")
    with pytest.raises(ValueError, match="labels declares columns of a table"):
        list_clips(tmp_path / "train", labels={"score": float})


def test_a_table_of_another_name_is_pointed_at(tmp_path: Path) -> None:
    tree(tmp_path, "a.mp4")
    (tmp_path / "labels.csv").write_text('"path";score\na.mp4;1\n', encoding="utf-8-sig")
    (tmp_path / "results.csv").write_text("epoch,loss\n1,2\n")
    (note,) = list_clips(tmp_path).notes
    assert note.startswith("labels.csv has a column path but is not read; open it itself")
    with pytest.raises(ValueError, match="layout is 'classes'; expected a folder, not a table"):
        list_clips(tmp_path / "labels.csv", layout="classes")


# --- paths as other systems write them


def table(root: Path, *cells: str, more: str = "") -> Listing:
    (root / "t.csv").write_text("path" + more + "\n" + "".join(f"{cell}\n" for cell in cells), encoding="utf-8")
    return list_clips(root / "t.csv")


def test_the_obvious_readings_of_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(
        tmp_path,
        "cat/1.mp4",
        "cat/caf\u00e9.MP4",
        "Dog/2.mp4",
        "~/3.mp4",
        "home/4.mp4",
        "odd\\name.mp4",
        "odd/name.mp4",
    )
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    cells = {
        "cat\\1.mp4": "cat/1.mp4",
        ".\\cat\\1.mp4": "cat/1.mp4",
        "cat/1.mp4 ": "cat/1.mp4",
        "CAT/1.MP4": "cat/1.mp4",
        "dog\\2.mp4": "Dog/2.mp4",
        "cat/cafe\u0301.mp4": "cat/caf\u00e9.MP4",
        "~/3.mp4": "~/3.mp4",
        "~/4.mp4": "home/4.mp4",
        "odd\\name.mp4": "odd\\name.mp4",
        f"{tmp_path}/cat/1.mp4": "cat/1.mp4",
        "dog/../cat/1.mp4": "cat/1.mp4",
    }
    listing = table(tmp_path, *cells)
    assert not listing.skipped
    assert [os.path.realpath(e.path) for e in listing.entries] == [str(tmp_path / file) for file in cells.values()]
    assert [entry.name for entry in listing.entries] == [cell.strip() for cell in cells]
    assert listing.respelled["cat\\1.mp4"] == str(tmp_path / "cat/1.mp4") and "cat/1.mp4" not in listing.respelled


def test_what_is_no_path_here_says_what_to_do(tmp_path: Path) -> None:
    tree(tmp_path, "cat/1.mp4", "A.mp4", "a.MP4")
    wrong = {
        "https://example.org/a.mp4": "an address (https); download it first",
        "s3://bucket/a.mp4": "an address (s3)",
        "file:///films/a.mp4": "an address (file)",
        "C:\\films\\cat\\1.mp4": "write 'cat/1.mp4', if that is the file",
        "D:/x.mp4": "absolute path of Windows",
        "\\\\server\\share\\cat\\1.mp4": "write 'cat/1.mp4'",
        "a.mp4": "2 files have that name but for case",
    }
    listing = table(tmp_path, "cat/1.mp4", "gone.mp4", *wrong)
    assert list(listing.skipped) == list(wrong)
    for cell, reason in wrong.items():
        assert reason in listing.skipped[cell]
    assert [entry.name for entry in listing.entries] == [
        "cat/1.mp4",
        "gone.mp4",
    ]  # reading it gives the system's reason


# --- parts, groups, splits in tables


def test_start_and_end_choose_parts(tmp_path: Path) -> None:
    tree(tmp_path, "long.mp4")
    listing = table(
        tmp_path,
        "long.mp4,0,2,jump",
        "long.mp4,7,9.5,run",
        "long.mp4,,,rest",
        "long.mp4,3,,late",
        "long.mp4,,4,early",
        "long.mp4,1:02:03.5,NA,clock",
        "long.mp4,１,２,wide",
        more=",Start,END,label",
    )
    assert [(e.start, e.end, e.is_part) for e in listing.entries] == [
        (0, 2, True),
        (7, 9.5, True),
        (0, None, False),
        (3, None, True),
        (0, 4, True),
        (3723.5, None, True),
        (1, 2, True),
    ]
    assert [e.name for e in listing.entries][:5] == [
        "long.mp4#t=0,2",
        "long.mp4#t=7,9.5",
        "long.mp4",
        "long.mp4#t=3",
        "long.mp4#t=0,4",
    ]
    assert set(listing.classes) == {"label"} and all(set(e.labels) == {"label"} for e in listing.entries)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.mp4,5,2", "line 2: start is 5 s, end is 2 s; expected an end after it"),
        ("a.mp4,2,2", "line 2: start is 2 s, end is 2 s"),
        ("a.mp4,,0", "line 2: start is 0 s, end is 0 s"),
        ("a.mp4,-1,2", "line 2: start is '-1'; expected seconds"),
        ("a.mp4,soon,2", "line 2: start is 'soon'; expected seconds"),
        ("a.mp4,0,inf", "line 2: end is 'inf'"),
        ('a.mp4,0,"1,5"', "line 2: end is '1,5'"),
        ("a.mp4,0,5s", "line 2: end is '5s'"),
    ],
)
def test_bad_intervals_name_the_line(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        table(tree(tmp_path, "a.mp4"), row, more=",start,end")
    assert "t.csv" in str(error.value)


def test_columns_that_nearly_are_start_and_end_are_said(tmp_path: Path) -> None:
    listing = table(tree(tmp_path, "a.mp4"), "a.mp4,0,2", more=",time_start,time_end")
    assert (
        "['time_start', 'time_end'] are labels; a part of a film is chosen by columns start and end" in listing.notes[0]
    )


def test_folders_in_a_table_are_splits_where_it_names_none(tmp_path: Path) -> None:
    tree(tmp_path, "train/a.mp4", "Test/b.mp4")
    assert [e.split for e in table(tmp_path, "train/a.mp4", "Test\\b.mp4").entries] == ["train", "test"]
    assert [e.split for e in table(tmp_path, "train/a.mp4,x", "Test/b.mp4,y", more=",split").entries] == ["x", "y"]
    assert [e.split for e in table(tree(tmp_path, "c.mp4"), "train/a.mp4", "c.mp4").entries] == [None, None]
