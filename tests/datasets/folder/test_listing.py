"""mmlearn.datasets.folder.listing: the table beside the films is used, one of another name is pointed at."""

from pathlib import Path

import pytest

from mmlearn.datasets.folder.listing import list_clips
from tests.datasets.folder.conftest import tree


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
