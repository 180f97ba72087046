"""mmlearn.datasets.folder.reporting: what there is, and what was left out."""

from pathlib import Path

from mmlearn.datasets.folder import reporting
from mmlearn.datasets.folder.dataset import VideoFolder
from tests.datasets.conftest import write
from tests.datasets.folder.conftest import write_table


def test_report(root: Path) -> None:
    write(root / "dog/large.mkv.mp4", seed=9, size=(48, 64), sound=False)
    write_table(root / "t.csv", "path,text,mood,age\n" + "".join(
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
