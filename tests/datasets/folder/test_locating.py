"""mmlearn.datasets.folder.locating: the file that a cell of a table means."""

import os
from pathlib import Path

import pytest

from tests.datasets.folder.conftest import table, tree


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
