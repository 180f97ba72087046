"""Storage: processes that are really killed, a really full disk, threads and processes that really meet."""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmlearn import files
from tests.places import ROOT

MOUNT, UMOUNT = shutil.which("mount"), shutil.which("umount")  # before a test changes PATH
needs_kill = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills processes")


def child(program: str, *arguments: object, **more: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


HOLD = """
import sys, time
from pathlib import Path
from mmlearn import files
with files.{what} as part:
    {inside}
    print("ready", flush=True)
    time.sleep(120)
"""


@contextlib.contextmanager
def small_disk(tmp_path: Path, size: str = "1m") -> Iterator[Path]:
    """A file system of that size; only root can make one."""
    place = tmp_path / "small"
    place.mkdir()
    mount = [MOUNT or "", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    if sys.platform != "linux" or not (MOUNT and UMOUNT) or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("cannot mount a small file system here")
    try:
        yield place
    finally:
        subprocess.run([UMOUNT, "-l", str(place)], check=True)


def test_the_file_is_replaced_when_the_new_one_is_whole(tmp_path: Path) -> None:
    for data in ("one", b"two\0"):
        files.write_file(tmp_path / "new" / "x", data)
        assert (tmp_path / "new" / "x").read_bytes() == (data if isinstance(data, bytes) else data.encode())
    with pytest.raises(RuntimeError), files.unfinished(tmp_path / "new" / "x") as part:
        (part / "half").write_text("half")
        raise RuntimeError
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        files.write_file(disk / "x", b"old")
        with pytest.raises(OSError) as caught:
            files.write_file(disk / "x", bytes(2_000_000))
        assert caught.value.errno == errno.ENOSPC
        assert (disk / "x").read_bytes() == b"old" and os.listdir(disk) == ["x"]
        with pytest.raises(OSError, match=r"2 clips takes 9\.0 MB and 1\.0 MB are free"):
            files.check_room(disk, 9_000_000, "2 clips")
        files.check_room(disk, 900_000, "a clip")


@needs_kill
def test_leftovers_of_dead_processes_are_removed_and_of_living_ones_not(tmp_path: Path) -> None:
    """Ten are killed and one lives; names may be long, Chinese, or begin with a dot."""
    names = ["a", ".b", "形" * 80, "x.y.safetensors"]
    inside = '(part / "half").write_bytes(bytes(1000))'
    program = HOLD.format(what="unfinished(Path(sys.argv[1]))", inside=inside)
    children = [child(program, tmp_path / names[k % 4]) for k in range(6)]
    for process in children:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    assert len(list(tmp_path.glob(".*.unfinished/half"))) == 6
    for process in children[1:]:
        process.kill()
        process.wait()
    (tmp_path / ".mine.unfinished").mkdir()  # not one of ours: no eight digits
    (tmp_path / ".early.0123abcd.unfinished").mkdir()  # just made, and not locked yet
    files.write_file(tmp_path / "another", "x")
    left = sorted(path.name for path in tmp_path.iterdir() if "unfinished" in path.name)
    assert (
        len(left) == 3 and left[0].startswith(".a.") and left[1:] == [".early.0123abcd.unfinished", ".mine.unfinished"]
    )
    os.utime(tmp_path / left[1], (0, 0))
    children[0].kill()
    children[0].wait()
    files.clear_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if "unfinished" in path.name] == [".mine.unfinished"]


@needs_kill
def test_who_waits_says_so_and_goes_on_when_the_other_is_killed(tmp_path: Path) -> None:
    program = HOLD.format(what="locked(Path(sys.argv[1]), 'makes it')", inside="pass")
    first = child(program, tmp_path / "lock")
    assert first.stdout is not None and first.stdout.readline() == "ready\n"
    second = child(program.replace("time.sleep(120)", ""), tmp_path / "lock")
    assert second.stderr is not None
    assert second.stderr.readline() == f"mmlearn waits for another process that makes it ({tmp_path / 'lock'})\n"
    assert second.poll() is None
    first.kill()
    assert second.communicate(timeout=60)[0] == "ready\n" and second.returncode == 0
    first.communicate()


def test_threads_and_forked_processes_exclude_each_other(tmp_path: Path) -> None:
    inside, seen = [0], []

    def work() -> None:
        for _ in range(5):
            with files.locked(tmp_path / "lock", "works"):
                inside[0] += 1
                seen.append(inside[0])
                time.sleep(0.01)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] * 20


def test_a_process_forked_while_the_lock_is_held_does_not_keep_it(tmp_path: Path) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("forks")
    with files.locked(tmp_path / "lock", "works"):
        pid = os.fork()
        if pid == 0:
            time.sleep(60)
            os._exit(0)
    start = time.monotonic()
    with files.locked(tmp_path / "lock", "works"):
        assert time.monotonic() - start < 30
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_where_files_cannot_be_locked_all_go_on_and_nothing_young_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def flock(*_: object) -> None:
        raise OSError(code, "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    with files.locked(tmp_path / "lock", "works"), files.locked(tmp_path / "lock", "works"):
        pass
    with files.unfinished(tmp_path / "x") as one, files.unfinished(tmp_path / "x") as two:
        assert one.is_dir() and two.is_dir() and one != two


def test_another_users_lock_can_be_waited_for(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / "lock").chmod(0o444)
    with files.locked(tmp_path / "lock", "works"):
        pass


def test_the_remedy_is_in_the_message(tmp_path: Path) -> None:
    error = files.with_remedy(
        OSError(errno.EROFS, "Read-only file system", str(tmp_path / "x")), tmp_path, "cache=False"
    )
    assert error.errno == errno.EROFS and error.filename == str(tmp_path / "x")
    assert "set the environment variable MMLEARN_HOME to a folder" in str(error) and "cache=False" in str(error)
    assert isinstance(files.with_remedy(PermissionError(errno.EACCES, "no"), tmp_path), PermissionError)
    assert "free some room" in str(files.with_remedy(OSError(errno.ENOSPC, "No space left on device"), tmp_path))


def test_sizes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(bytes(100))
    (tmp_path / "a" / "link").symlink_to("nowhere")
    assert files.size_of(tmp_path / "a" / "x") == 100 <= files.size_of(tmp_path) < 200
    assert files.size_of(tmp_path / "none") == 0
