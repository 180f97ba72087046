"""What is kept of files, and what may happen to it: every single bit, full and read-only disks, files that change."""

import json
import os
import stat
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mmlearn.clip import Clip, Word
from mmlearn.datasets import reading
from mmlearn.datasets.folder import cache, scan
from mmlearn.datasets.folder.dataset import VideoFolder
from mmlearn.datasets.reading import DecodeOptions
from mmlearn.media import write_mp4
from tests.test_files import small_disk

CLIP = Clip(
    {"video": np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3), "audio": np.linspace(-1, 1, 60, dtype=np.float32)},
    {"video": 25.0, "audio": 100.0},
    [Word("你好", 0.1, 0.2)],
    times={"video": np.array([0.0, 0.04])},
)


@pytest.fixture(autouse=True)
def calm() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*left out.*")
        yield


def film(path: Path, level: int = 50, side: int = 32) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mp4(path, video=np.stack([np.full((side, side, 3), level + k, np.uint8) for k in range(8)]), fps=10)
    return path


@pytest.fixture
def root(tmp_path: Path, own_home: Path) -> Path:
    film(tmp_path / "films/x/1.mp4"), film(tmp_path / "films/y/2.mp4", 150)
    return tmp_path / "films"


def same(one: Clip | None, other: Clip) -> bool:
    return one is not None and all(
        left.keys() == right.keys()
        and all(np.array_equal(left[k], right[k]) and left[k].dtype == right[k].dtype for k in left)
        for left, right in ((one.streams, other.streams), (one.times, other.times))
    ) and (one.rates, one.words) == (other.rates, other.words)  # fmt: skip


def test_what_is_kept_comes_back_and_may_be_changed(own_home: Path) -> None:
    empty = Clip({"video": np.zeros((0, 4, 4, 3), np.uint8)}, {"video": 1.0})
    for k, clip in enumerate([CLIP, Clip({}), empty]):
        cache.keep(f"{k:02}", clip)
        found = cache.kept(f"{k:02}")
        assert same(found, clip)
    found = cache.kept("00")
    assert found is not None and found.video is not None and found.audio is not None
    found.video[:], found.audio[:] = 0, 0
    assert same(cache.kept("00"), CLIP) and cache.kept("ff") is None
    assert [path.name for path in (own_home / "folders").iterdir()] == ["clips"]  # and nothing unfinished


def test_every_single_bit_and_every_cut_is_noticed(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Field report 31: 22 of all damages of one bit went unnoticed, or raised what nobody catches."""
    cache.keep("ab", CLIP, own_home / "unfinished")
    data = cache.path_of("ab").read_bytes()
    hurt = bytearray(data)
    monkeypatch.setattr(Path, "read_bytes", lambda _: bytes(hurt))  # quicker than the disk
    assert same(cache.kept("ab"), CLIP)
    for where in range(len(data)):
        for bit in range(8):
            hurt[where] ^= 1 << bit
            assert cache.kept("ab") is None, (where, bit)
            hurt[where] ^= 1 << bit
    for length in range(len(data)):
        hurt = bytearray(data[:length])
        assert cache.kept("ab") is None, length
    hurt = bytearray(data + b"\0")
    assert cache.kept("ab") is None
    hurt = bytearray(data)
    assert same(cache.kept("ab"), CLIP)


# --- the cache is optional (field report 21)


def in_the_way(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("in the way")
    return tmp_path / "file"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_home_that_cannot_be_a_folder_is_one_warning(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setenv("MMLEARN_HOME", str(in_the_way(tmp_path)))
    with pytest.warns(UserWarning) as said:
        films = VideoFolder(root, workers=workers)
    (message,) = [str(warning.message) for warning in said]
    assert "clips are not kept on disk" in message and str(tmp_path / "file") in message
    assert "MMLEARN_HOME" in message and "cache=False" in message
    plain = VideoFolder(root, cache=False, workers=1)
    assert films.names == plain.names and all(same(a, b) for a, b in zip(films, plain, strict=True))


def test_a_read_only_home_is_one_warning(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:  # root may write anywhere, but not to a file system that is read-only
        with small_disk(tmp_path) as disk:
            assert os.system(f"mount -o remount,ro '{disk}'") == 0
            check_one_warning(root, disk, monkeypatch)
    else:
        place = tmp_path / "closed"
        place.mkdir(mode=0o500)
        check_one_warning(root, place, monkeypatch)


def check_one_warning(root: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMLEARN_HOME", str(home))
    with pytest.warns(UserWarning, match="clips are not kept on disk.*MMLEARN_HOME") as said:
        films = VideoFolder(root, workers=1)
    assert len(said) == 1 and len(list(films)) == 2


def test_what_is_kept_on_a_read_only_disk_is_used(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(tmp_path) as disk:
        monkeypatch.setenv("MMLEARN_HOME", str(disk))
        first = list(VideoFolder(root, workers=1))
        assert os.system(f"mount -o remount,ro '{disk}'") == 0
        monkeypatch.setattr(reading, "read_clip", None)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert all(same(a, b) for a, b in zip(VideoFolder(root, workers=1), first, strict=True))


def test_a_disk_that_fills_up_is_one_warning(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(tmp_path, "300k") as disk:
        monkeypatch.setenv("MMLEARN_HOME", str(disk))
        with pytest.warns(UserWarning, match="clips are not kept on disk.*free some room") as said:
            films = VideoFolder(root, workers=1, size=(200, 200))
        assert len(said) == 1
        assert all(
            same(a, b) for a, b in zip(films, VideoFolder(root, cache=False, workers=1, size=(200, 200)), strict=True)
        )
        assert not list(disk.rglob("*.unfinished"))


# --- files that change


def test_a_file_that_changes_while_it_is_read_poisons_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kept clip of a hash must be the film that has this hash, for every folder that holds it."""
    other = film(tmp_path / "other/z/3.mp4", 220).read_bytes()
    first = (root / "x/1.mp4").read_bytes()
    truth = reading.read_clip(root / "x/1.mp4")
    read, calls = reading.read_clip, []

    def changing(source: Path, **settings: object) -> Clip:
        if str(source).endswith("1.mp4") and len(calls) < 1:
            calls.append(source)
            before = os.stat(source)
            source.write_bytes(other)
            os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
        return read(source, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(reading, "read_clip", changing)
    films = VideoFolder(root, workers=1)
    assert calls and films[0].video is not None and films[0].video.mean() > 200  # what it is now
    (tmp_path / "again/x").mkdir(parents=True)
    (tmp_path / "again/x/1.mp4").write_bytes(first)
    clip = VideoFolder(tmp_path / "again", workers=1)[0]
    assert np.array_equal(clip.video, truth.video)  # type: ignore[arg-type]


def test_a_file_that_never_rests_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, count = reading.read_clip, [0]

    def changing(source: Path, **settings: object) -> Clip:
        count[0] += 1
        if source.name == "1.mp4":
            film(source, 50 + count[0])
        return read(source, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(reading, "read_clip", changing)
    films = VideoFolder(root, workers=1)
    assert films.skipped == {"x/1.mp4": "the file changes while it is read; expected one that is complete"}
    assert films.names == ["y/2.mp4"] and count[0] == 4


@pytest.mark.parametrize("options", [{}, {"cache": False}, {"sampling": "segment"}])
def test_another_file_under_the_name_is_noticed(root: Path, options: dict) -> None:
    films = VideoFolder(root, workers=1, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        os.utime(root / "x/1.mp4")  # touched: the same content
        list(films)
    film(root / "x/1.mp4", 220)
    if not options:
        for path in (cache.home() / "folders/clips").rglob("*.clip"):
            path.unlink()
    with pytest.warns(UserWarning, match=r"x/1\.mp4: the file has changed since its folder was opened"):
        films[0]


# --- files that block or have no end


def test_pipes_devices_and_folders_are_named_and_not_read(root: Path) -> None:
    os.mkfifo(root / "x/pipe.mp4")
    (root / "x/full.mp4").symlink_to("/dev/full")
    (root / "x/zero.mp4").symlink_to("/dev/zero")
    (root / "x/kmsg.mp4").symlink_to("/proc/kmsg" if Path("/proc/kmsg").exists() else "/dev/null")
    (root / "x/empty.mp4").touch()
    start = time.monotonic()
    films = VideoFolder(root, workers=1)
    assert time.monotonic() - start < 60 and films.names == ["x/1.mp4", "y/2.mp4"]
    for name in ("pipe", "full", "zero"):
        assert films.skipped[f"x/{name}.mp4"] == "no regular file; expected a file"
    assert "empty" in films.skipped["x/empty.mp4"] and "x/kmsg.mp4" in films.skipped


@pytest.mark.parametrize("suffix", ["mp4", "mp3", "wav", "mkv", "mpg"])
def test_many_gigabytes_of_nothing_are_not_hashed(root: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []
    hash_of = cache.hash_of
    monkeypatch.setattr(scan, "hash_of", lambda path: hashed.append(path) or hash_of(path))
    with open(root / f"x/sparse.{suffix}", "wb") as file:
        file.truncate(60 * 10**9)
    films = VideoFolder(root, workers=1)
    assert f"x/sparse.{suffix}" in films.skipped and len(films) == 2
    assert {path.name for path in hashed} == {"1.mp4", "2.mp4"}


def test_a_file_that_grows_while_it_is_hashed_ends(tmp_path: Path) -> None:
    path, done = tmp_path / "log.mp4", threading.Event()
    path.write_bytes(bytes(3 << 20))

    def grow() -> None:
        with open(path, "ab", buffering=0) as file:
            while not done.is_set():
                file.write(bytes(1 << 16))
                if file.tell() > 1 << 28:
                    return

    thread = threading.Thread(target=grow)
    thread.start()
    time.sleep(0.05)
    try:
        with pytest.raises(ValueError, match=r"log\.mp4: the file changes while it is read"):
            cache.hash_of(path)
    finally:
        done.set()
        thread.join()


# --- the ledger


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 50_000, "null", "3", "{", "\0", '{"x": {"y": []}}'])
def test_a_ledger_of_anything_is_made_anew(root: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "TICK", 0.0)
    VideoFolder(root, workers=1)
    (ledger,) = (cache.home() / "folders").glob("*.json")
    ledger.write_text(text)
    assert len(VideoFolder(root, workers=1)) == 2
    known = json.loads(ledger.read_text())
    assert {Path(path).name for path in known} >= {"1.mp4", "2.mp4"}
    assert stat.S_IMODE(ledger.stat().st_mode) & 0o400


def test_keys_name_content_and_settings() -> None:
    keys = [
        cache.key_of(*key)
        for key in (("a", DecodeOptions()), ("b", DecodeOptions()), ("b", DecodeOptions(num_frames=3)))
    ]
    assert len(set(keys)) == 3
