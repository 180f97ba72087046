"""Parts of films, groups and splits by hash: the truth is a film whose grey is its frame's number."""

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mmlearn.datasets import read_clip, read_shards, reading, write_shards
from mmlearn.datasets.folder import cache as clip_cache
from mmlearn.datasets.folder.dataset import VideoFolder
from mmlearn.datasets.folder.splitting import SHARES
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
