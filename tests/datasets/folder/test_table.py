"""mmlearn.datasets.folder.table: tables as they are written, and what is wrong with others."""

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlearn.datasets.folder.dataset import VideoFolder
from mmlearn.datasets.folder.listing import list_clips
from tests.datasets.folder.conftest import table, tree, write_table


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
    films = VideoFolder(write_table(root / "films.csv", line.join(rows), encoding))
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
        list_clips(write_table(tmp_path / "t.csv", text, encoding))
    assert str(tmp_path / "t.csv") in str(error.value)


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0")).map(str.strip)


@settings(max_examples=60)
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
