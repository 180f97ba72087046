"""Folders and tables as people lay them out. Only names are looked at, so the files are empty."""

from pathlib import Path

import pytest

from mmlearn.datasets.folder.listing import list_clips
from mmlearn.datasets.folder.records import Listing
from tests.datasets.folder.conftest import tree


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


# --- paths as other systems write them


# --- parts, groups, splits in tables
