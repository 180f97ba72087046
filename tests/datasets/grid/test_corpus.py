"""mmlearn.datasets.grid.corpus: names, alignments and layouts of the GRID corpus."""

from pathlib import Path

import pytest

from mmlearn.clip import Word
from mmlearn.datasets.grid.corpus import WORDS, find_clips, labels_of, name_of, read_words, split_of


def test_a_name_spells_its_sentence() -> None:
    labels = labels_of("s1/bbaf2n")
    assert " ".join(list(WORDS[k].values())[v] for k, v in labels.items()) == "bin blue at f two now"
    assert labels_of("swwzzs") == {"command": 3, "colour": 3, "preposition": 3, "letter": 24, "digit": 0, "adverb": 3}
    assert [len(words) for words in WORDS.values()] == [4, 4, 4, 25, 10, 4]


@pytest.mark.parametrize("name", ["bbaw2n", "bbaf2", "bbaf2nn", "xbaf2n", "notes"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        labels_of(name)


def test_alignment_in_seconds(tmp_path: Path) -> None:
    path = tmp_path / "bbaf2n.align"
    path.write_text("0 23750 sil\n23750 29500 bin\n29500 34000 blue\n34000 34000 sp\n34000 74500 sil\n")
    assert read_words(path) == [Word("bin", 0.95, 1.18), Word("blue", 1.18, 1.36)]


@pytest.mark.parametrize("line", ["23750 bin", "a b bin", "29500 23750 bin", "1 2 bin blue"])
def test_bad_alignment_names_file_and_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "bbaf2n.align"
    path.write_text(f"0 23750 sil\n{line}\n")
    with pytest.raises(ValueError, match=r"bbaf2n\.align: line 2"):
        read_words(path)


def test_layouts(tmp_path: Path) -> None:
    (tmp_path / "s1" / "video").mkdir(parents=True)
    for name in ("s1/video/lwae8n.mpg", "s1/bbaf2n.mpg", "s1/video/bbaf2n.mpg", "s1/.bbaf3s.mp4", "s1/bbaf2n.align"):
        (tmp_path / name).touch()
    files = find_clips(tmp_path, "s1")
    assert [p.relative_to(tmp_path).as_posix() for p in files] == ["s1/bbaf2n.mpg", "s1/video/lwae8n.mpg"]
    assert [name_of(p) for p in files] == ["s1/bbaf2n", "s1/lwae8n"]


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"s7: no such folder.*3625687"):
        find_clips(tmp_path, "s7")
    (tmp_path / "s7").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no \.mp4.*3625687"):
        find_clips(tmp_path, "s7")


def test_split_takes_a_fifth_of_each_talker_and_stays() -> None:
    files = [Path(f"r/{s}/{c}{k}ai{d}{a}.mpg") for s in ("s1", "s2") for c in "blps" for k in "bgrw"
             for d in "z123456789" for a in "anps"]  # fmt: skip
    part = split_of(files, 0)
    for speaker in ("s1", "s2"):
        assert sum(v == "test" for k, v in part.items() if k.startswith(speaker)) == 128
    assert part == split_of(files[::-1], 0)
    assert part != split_of(files, 1)
    assert {k.removeprefix("s1/") for k, v in part.items() if v == "test" and k.startswith("s1")} != {
        k.removeprefix("s2/") for k, v in part.items() if v == "test" and k.startswith("s2")
    }
