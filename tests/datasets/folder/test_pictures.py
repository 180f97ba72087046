"""Folders of numbered pictures as clips: the truth is the pictures' own grey."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mmlearn.datasets import VideoFolder, read_clip, write_shards
from mmlearn.datasets.folder.cache import file_stat, hash_of
from mmlearn.datasets.folder.pictures import are_numbered


def series(folder: Path, *numbers: int, name: str = "img_{}.png", size: tuple[int, int] = (8, 6)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        cv2.imwrite(str(folder / name.format(number)), np.full((*size, 3), 10 * number, np.uint8))
    return folder


def test_numbers_are_times(tmp_path: Path) -> None:
    folder = series(tmp_path / "a", 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12)  # 5 is lost; and 10 sorts before 2 as text
    clip = read_clip(folder, frame_rate=10, num_frames=12, size=None)
    assert clip.video is not None and clip.video.shape == (12, 8, 6, 3)
    assert clip.video[:, 0, 0, 0].tolist() == [10, 20, 30, 40, 40, 60, 70, 80, 90, 100, 110, 120]
    np.testing.assert_allclose(clip.times["video"], [0, 0.1, 0.2, 0.3, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1])
    assert clip.name == str(folder) and clip.audio is None
    part = read_clip(folder, frame_rate=10, num_frames=2, size=(4, 4), start=0.5, end=0.7)
    assert part.video is not None and part.video[:, 0, 0, 0].tolist() == [60, 70]
    np.testing.assert_allclose(part.times["video"], [0, 0.1], atol=1e-9)
    dense = read_clip(
        folder, frame_rate=10, num_frames=3, sampling="dense"
    )  # 0.3 s in the middle of 1.2 s: from 0.45 s on
    assert dense.video is not None and dense.video[:, 0, 0, 0].tolist() == [60, 70, 80]
    with pytest.raises(ValueError, match=r"start is 1.2 s; the file ends after 1.20 s"):
        read_clip(folder, frame_rate=10, start=1.2)


def test_what_is_no_series_is_refused(tmp_path: Path) -> None:
    folder = series(tmp_path / "a", 1, 2)
    with pytest.raises(ValueError, match="a folder of numbered pictures; give their frame_rate"):
        read_clip(folder)
    series(folder, 1, 2, name="flow_x_{}.png")
    with pytest.raises(ValueError, match="pictures of 2 series"):
        read_clip(folder, frame_rate=10)
    series(tmp_path / "b", 1, 2)
    series(tmp_path / "b", 1, name="img_0{}.png")
    with pytest.raises(ValueError, match=r"have the same number"):
        read_clip(tmp_path / "b", frame_rate=10)
    series(series(tmp_path / "c", 1, 2), 3, size=(4, 4))
    with pytest.raises(ValueError, match="pictures of different sizes"):
        read_clip(tmp_path / "c", frame_rate=10, size=None)
    assert read_clip(tmp_path / "c", frame_rate=10, size=(4, 4)).video is not None
    (tmp_path / "c/img_2.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"img_2\.png"):
        read_clip(tmp_path / "c", frame_rate=10)
    (tmp_path / "d").mkdir()
    with pytest.raises(ValueError, match="no numbered pictures"):
        read_clip(tmp_path / "d", frame_rate=10)
    for rate in (0, -1, float("nan"), 2000):
        with pytest.raises(ValueError, match="frame_rate is"):
            VideoFolder(tmp_path, frame_rate=rate)


def test_in_a_folder_of_classes(tmp_path: Path, own_home: Path) -> None:
    root = tmp_path / "films"
    series(root / "jump/one", 1, 2, 3)
    series(root / "run/two", 1, 2, 3, name="{:05d}.jpg")
    series(root / "run", 1, name="cover{}.png")
    with pytest.raises(
        ValueError, match=r"found no video .*; 2 folders of numbered pictures are not read; frame_rate=25"
    ):
        VideoFolder(root)
    for cache in (True, True, False):
        films = VideoFolder(root, frame_rate=10, num_frames=3, workers=1, cache=cache)
        assert films.names == ["jump/one", "run/two"] and films.classes == {"label": ["jump", "run"]}
        assert films[0].video is not None and films[0].video[:, 0, 0, 0].tolist() == [10, 20, 30]
    assert "series      2 folders of numbered pictures" in films.report() and ".png (1)" in films.report()
    before, stamp = hash_of(root / "jump/one"), file_stat(root / "jump/one")
    series(root / "jump/one", 2, size=(9, 9))  # in place: the folder's own date stays
    assert hash_of(root / "jump/one") != before and file_stat(root / "jump/one") != stamp
    films = VideoFolder(root, frame_rate=10, num_frames=3, workers=1)
    assert films.entries[0].sha256 != before
    (root / "t.csv").write_text("path,start,end\njump/one,0.1,0.2\nrun,,\n")
    with pytest.warns(UserWarning, match="left out 1 of 2 clips; run: a folder; expected a file"):
        part = VideoFolder(root / "t.csv", frame_rate=10, num_frames=1, workers=1)
    assert part[0].video is not None and part[0].video[:, 0, 0, 0].tolist() == [20]
    with pytest.raises(ValueError, match="a folder of pictures, which shards do not hold"):
        write_shards(films, tmp_path / "shards")


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["1.jpg", "2.jpg"], True), (["a1.PNG", "a2.PNG"], True), (["1.jpg"], False), (["a.jpg", "b.jpg"], False),
     (["1.txt", "2.txt"], False), ([".1.jpg", ".2.jpg"], False), ([], False), (["x_1.tiff", "x_2.tiff", "y"], True)],
)  # fmt: skip
def test_what_counts_as_numbered(names: list[str], expected: bool) -> None:
    assert are_numbered(names) is expected
