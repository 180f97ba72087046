"""mmlearn.datasets.folder.scan: each file once, in processes that may crash, block or be killed."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from mmlearn.datasets.folder import cache, scan
from mmlearn.datasets.folder.dataset import VideoFolder
from tests.datasets.conftest import same
from tests.datasets.folder.conftest import Counter
from tests.datasets.forking import changed_workers, forked

READ = """
import os, signal, time
from mmlearn.datasets import reading
read = reading.read_clip
def changed(source, **settings):
    {}
    return read(source, **settings)
reading.read_clip = changed
"""


needs_kill = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills processes")


def test_nothing_is_decoded_twice(root: Path, decoded: Counter, hashed: Counter) -> None:
    first = list(VideoFolder(root, workers=1))
    assert decoded.since() == 7  # with the two bad ones
    again = VideoFolder(root, workers=1)
    assert decoded.since() == 2  # who knows, they may have been a bad day's
    assert all(same(a, b) for a, b in zip(first, again, strict=True)) and decoded.since() == 0
    os.rename(root / "cat", root / "lynx")
    os.utime(root / "dog/d.mp4")
    renamed = VideoFolder(root, workers=1)
    assert decoded.since() == 2
    assert renamed[3].name == "lynx/a.mp4" and renamed.classes["label"] == ["dog", "lynx"]
    with open(root / "dog/d.mp4", "ab") as file:
        file.write(b"\0\0\0\x08free")  # an empty box: another content, still a film
    VideoFolder(root, workers=1)
    assert decoded.since() == 3
    VideoFolder(root, workers=1, num_frames=8)
    assert decoded.since() == 7


def test_settled_files_are_not_hashed_again(
    root: Path, decoded: Counter, hashed: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        VideoFolder(root, workers=1)
        assert hashed.since() == 7  # all are younger than a second: too young to trust their dates
    time.sleep(0.05)
    monkeypatch.setattr(cache, "TICK", 0.02)
    VideoFolder(root, workers=1)
    hashed.since()
    VideoFolder(root, workers=1)
    assert hashed.since() == 2  # the bad ones
    before = (root / "dog/d.mp4").stat()
    data = bytearray((root / "dog/d.mp4").read_bytes())
    data[-1] ^= 1
    (root / "dog/d.mp4").write_bytes(data)
    os.utime(root / "dog/d.mp4", ns=(before.st_atime_ns, before.st_mtime_ns))  # same size, same date
    decoded.since()
    VideoFolder(root, workers=1)
    assert hashed.since() == 3 and decoded.since() == 3
    (ledger,) = (cache.home() / "folders").glob("*.json")
    for damage in ("{", "[1]", '{"a": 1}', '{"%s": 3}' % (root / "dog/d.mp4")):
        ledger.write_text(damage)
        VideoFolder(root, workers=1)
        assert hashed.since() == 7


def test_processes_and_one_alone_find_the_same(root: Path) -> None:
    alone = VideoFolder(root, workers=1, cache=False)
    processes = VideoFolder(root, workers=3, cache=False)
    assert processes.entries == alone.entries and processes.skipped == alone.skipped


def test_a_daemon_has_no_children(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan.multiprocessing, "current_process", lambda: type("P", (), {"daemon": True}))
    monkeypatch.setattr(scan, "processes", None)
    assert len(VideoFolder(root)) == 5


@needs_kill
def test_a_file_that_crashes_the_decoder_is_left_out(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash = "if source.name in ('a.mp4', 'text.mp4'): os.kill(os.getpid(), signal.SIGKILL)"
    changed_workers(tmp_path, monkeypatch, READ.format(crash))
    films = VideoFolder(root, workers=2)
    assert films.names == ["cat/b 猫.MP4", "dog/d.mp4", "dog/deep/c.mov", "dog/e.m4a"]
    assert [films.skipped[name] for name in ("cat/a.mp4", "dog/text.mp4")] == ["the process that read it died"] * 2
    assert "died" not in films.skipped["cat/half.mp4"]
    for name in ("cat/half.mp4", "dog/text.mp4"):
        (root / name).unlink()
    assert list(VideoFolder(root, workers=2).skipped) == ["cat/a.mp4"]  # alone to be read, and not in this process
    with pytest.raises(RuntimeError, match=r"cat/a\.mp4: the process that read it died"):
        VideoFolder(root, workers=2, strict=True)


@needs_kill
def test_a_file_that_blocks_is_left_out(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = "if source.name == 'a.mp4': os.kill(os.getpid(), signal.SIGSTOP)"
    changed_workers(tmp_path, monkeypatch, READ.format(stop))
    monkeypatch.setattr(scan, "PATIENCE", 12.0)
    films = VideoFolder(root, workers=2)
    assert films.skipped["cat/a.mp4"] == "reading it took more than 12 s" and len(films) == 4


needs_fork = pytest.mark.skipif(sys.platform != "linux", reason="forks, and looks for processes in /proc")


@needs_fork
def test_two_processes_at_once_decode_once(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = f"open({str(tmp_path / 'log')!r}, 'a').write(f'{{source}}\\n'); time.sleep(0.05)"
    changed_workers(tmp_path, monkeypatch, READ.format(note))
    children = [forked(lambda: len(VideoFolder(root, workers=2)) == 5 or 1 / 0) for _ in range(2)]
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
    calls = (tmp_path / "log").read_text().splitlines()
    assert len(calls) == 9 and len(set(calls)) == 7  # the bad ones twice
    assert len(list((cache.home() / "folders/clips").rglob("*.clip"))) == 5


@needs_fork
@pytest.mark.parametrize("moment", ["while clips are written", "between clips"])
def test_killed_while_indexing_then_completes(
    root: Path, tmp_path: Path, moment: str, decoded: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleep = {
        "between clips": READ.format("time.sleep(60 * ('dog' in str(source)))"),
        "while clips are written": "import os, time\nreplace = os.replace\n"
        "os.replace = lambda a, b: time.sleep(60 * str(b).endswith('clip')) or replace(a, b)",
    }
    with monkeypatch.context() as patch:
        changed_workers(tmp_path, patch, sleep[moment])
        child = forked(lambda: VideoFolder(root, workers=2))
    kept, deadline = cache.home() / "folders", time.monotonic() + 60
    pattern = "clips/*/*.clip" if moment == "between clips" else ".*.unfinished/*[!k]"
    while len(list(kept.glob(pattern))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    processes = [Path("/proc", pid) for pid in Path(f"/proc/{child}/task/{child}/children").read_text().split()]
    for task in Path(f"/proc/{child}/task").iterdir():
        processes += [Path("/proc", pid) for pid in (task / "children").read_text().split()]
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while any((worker / "cmdline").exists() and (worker / "cmdline").read_bytes() for worker in processes):
        assert time.monotonic() < deadline  # they do not outlive it
        time.sleep(0.02)
    assert len(set(processes)) == 2
    survived = len(list(kept.glob("clips/*/*.clip")))
    assert survived == (2 if moment == "between clips" else 0)
    films = VideoFolder(root, workers=1)
    assert len(films) == 5 and decoded.since() == 7 - survived
    assert all(same(clip, other) for clip, other in zip(films, VideoFolder(root, cache=False), strict=True))
    assert not list(kept.glob(".*.unfinished"))
