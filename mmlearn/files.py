"""Write files whole or not at all: locks, unfinished folders, what killed runs leave behind, checksums.

Whoever writes prepares the new file or folder in an unfinished folder beside it, and moves it to its name by one
`os.replace`. An unfinished folder is locked for as long as its process lives, so the next run can remove those of dead
processes, and only those.

Chapter: preprocessing/batching.
"""

import errno
import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

LOCK = "lock"  # in an unfinished folder
LEFTOVER = re.compile(r"\..*\.[0-9a-f]{8}\.unfinished", re.DOTALL)
NOTICE = 2.0  # seconds of waiting before a line says so
FORGOTTEN = 86_400.0  # seconds after which a leftover goes where files cannot be locked
UNSUPPORTED = {errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}  # by this file system
NO_LOCKS = UNSUPPORTED | {errno.ENOLCK}
READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT}
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def locked(path: Path, doing: str) -> Iterator[None]:
    """Let one process, and one thread in it, go on at a time. On a file system without locks all go on.

    Args:
        path: The lock file; it stays.
        doing: What the one that is waited for does, for the line on stderr, e.g. "makes HanziClips".

    Raises:
        OSError: If the file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:  # another user's
        lock = os.open(path, os.O_RDONLY)
    try:
        start, told = time.monotonic(), False
        while _try_lock(lock) is False:
            if not told and time.monotonic() - start > NOTICE:
                print(f"mmlearn waits for another process that {doing} ({path})", file=sys.stderr, flush=True)
                told = True
            time.sleep(0.05)
        yield
    finally:
        _unlock(lock)


@contextmanager
def unfinished(target: Path) -> Iterator[Path]:
    """Give a new folder beside a file or folder in which to prepare it; in the end it is removed with what is in it.

    First, the unfinished folders beside `target` whose processes have died are removed.

    Raises:
        OSError: If there is no room or no permission.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    clear_leftovers(target.parent)
    while True:
        folder = target.with_name(f".{target.name[:40].lstrip('.')}.{uuid4().hex[:8]}.unfinished")
        folder.mkdir()
        try:
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # another process took it for a leftover
            continue
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if _try_lock(lock) is not False and _is_there(lock, folder / LOCK):
            break
        os.close(lock)
    try:
        yield folder
    finally:
        _unlock(lock)
        shutil.rmtree(folder, ignore_errors=True)


def clear_leftovers(folder: Path) -> None:
    """Remove the unfinished folders in a folder whose processes have died."""
    with suppress(OSError):
        for left in [entry for entry in os.scandir(folder) if LEFTOVER.fullmatch(entry.name)]:
            with suppress(OSError):
                _clear(Path(left.path), time.time() - left.stat(follow_symlinks=False).st_mtime)


def _clear(left: Path, age: float) -> None:
    try:
        lock = os.open(left / LOCK, os.O_RDWR)
    except FileNotFoundError:  # it is about to be locked, or its process died before that
        if age > 60:
            shutil.rmtree(left, ignore_errors=True)
        return
    free = _try_lock(lock)
    _unlock(lock)
    if free or (free is None and age > FORGOTTEN):
        shutil.rmtree(left, ignore_errors=True)


def write_file(path: Path, data: bytes | str) -> None:
    """Write a file; one of that name is replaced when the new one is whole and on disk."""
    with unfinished(path) as folder:
        with open(folder / "whole", "wb") as file:
            file.write(data if isinstance(data, bytes) else data.encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(folder / "whole", path)


def check_room(folder: Path, size: int, what: str) -> None:
    """Raise OSError (no space left) where a disk has less room than something takes."""
    free = shutil.disk_usage(folder).free
    if free < size:
        message = f"{what} takes {size / 1e6:.1f} MB and {free / 1e6:.1f} MB are free"
        raise OSError(errno.ENOSPC, message, str(folder))


def with_remedy(error: OSError, home: Path, other: str = "") -> OSError:
    """Return an error about the folder of data which says what to do.

    Args:
        error: What was raised.
        home: The folder of data.
        other: Another remedy, e.g. "cache=False".
    """
    remedy = "free some room there, or set" if error.errno in FULL else "set"
    message = f"{error.strerror or error}. The data cannot be written under {home}; {remedy} the environment variable "
    message += f"MMLEARN_HOME to a folder that has room and can be written{f', or use {other}' if other else ''}"
    return OSError(error.errno or errno.EIO, message, error.filename or str(home))


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder; 0 where nothing is."""
    if not path.is_dir():
        return path.stat().st_size if path.is_file() else 0
    return sum((Path(at) / name).lstat().st_size for at, _, names in os.walk(path) for name in names)


def _is_there(lock: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), path.stat())
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _try_lock(lock: int) -> bool | None:
        try:
            msvcrt.locking(lock, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            return None if error.errno in NO_LOCKS else False
        return True

    def _unlock(lock: int) -> None:
        with suppress(OSError):
            msvcrt.locking(lock, msvcrt.LK_UNLCK, 1)
        os.close(lock)

else:
    import fcntl

    def _try_lock(lock: int) -> bool | None:
        """Lock a file if it is free: True. Another holds it: False. The file system has no locks: None."""
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return None if error.errno in NO_LOCKS else False
        return True

    def _unlock(lock: int) -> None:
        """Unlock and close a file; processes that were forked meanwhile hold it no longer, either."""
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_UN)
        os.close(lock)
