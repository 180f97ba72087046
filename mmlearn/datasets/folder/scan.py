"""Read every file of a folder once, several at a time: which of them can be used, and what is in them.

Chapter: preprocessing/batching.
"""

import errno
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from tqdm.auto import tqdm

from mmlearn import workers as processes
from mmlearn.datasets.folder.cache import (
    ScanIndex,
    file_stat,
    hash_of,
    keep,
    key_of,
    path_of,
    read_whole,
    warn_not_kept,
)
from mmlearn.datasets.reading import DecodeOptions
from mmlearn.runtime import quiet

Choice = Callable[[str], bool]  # whether a file with this hash is wanted
Result = TypeVar("Result")
FEW = 8  # files for which starting another process takes longer than reading them
PATIENCE = 300.0  # seconds that a worker process may take for a file, and one more for each 10⁶ bytes of it


class ScanResult(NamedTuple):
    """What examining a file gave: its hash ("" if unknown), what it looked like before, why it cannot be used.

    `not_kept` is why the clip that was read could not be kept.
    """

    sha256: str
    stamp: list[int]
    error: Exception | None = None
    not_kept: OSError | None = None


def scan(
    paths: Iterable[Path],
    reading: DecodeOptions,
    ledger: ScanIndex | None,
    wanted: Choice,
    workers: int | None,
    title: str,
) -> dict[Path, ScanResult]:
    """Hash every file, and read those that are wanted and have not been read so before.

    Where nothing can be kept, because the disk is full or the folder of data cannot be written, one warning says so.

    Args:
        paths: The files.
        reading: How to read them.
        ledger: Remembers files that do not change; without it nothing is kept.
        wanted: Which files to read, by their hash.
        workers: How many at a time; by default one per core.
        title: What the progress bar says.
    """
    found: dict[Path, ScanResult] = {}
    trouble: OSError | None = None
    with ExitStack() as opened:
        if ledger:
            try:
                opened.enter_context(ledger.open())
            except OSError as error:  # what is kept there may be of use all the same
                trouble = error
                ledger.load()
        todo = []
        for path in sorted(paths):
            sha256 = ledger.look_up(path) if ledger else ""
            if sha256 and (not wanted(sha256) or path_of(key_of(sha256, reading)).is_file()):
                found[path] = ScanResult(sha256, file_stat(path))
            else:
                todo.append(path)
        if todo:
            unfinished = ledger.unfinished if ledger and not trouble else None
            work = partial(_examine, reading=reading, cached=bool(ledger), unfinished=unfinished, wanted=wanted)
            found |= in_parallel(work, todo, workers, title, _lost)
            lost = [reason for path in todo if (reason := found[path].not_kept)]
            trouble = (trouble or lost[0]) if lost else None
            if ledger and unfinished:
                try:
                    ledger.save((path, found[path].stamp, found[path].sha256) for path in todo if found[path].sha256)
                except OSError as error:
                    trouble = trouble or error
    if trouble and todo:
        warn_not_kept(trouble)
    return found


def _examine(path: Path, reading: DecodeOptions, cached: bool, unfinished: Path | None, wanted: Choice) -> ScanResult:
    """Hash a file, see whether it can be read or is `cached`, and keep what was read."""
    sha256, stamp = "", list[int]()

    def new(sha256: str) -> bool:
        return wanted(sha256) and not (cached and path_of(key_of(sha256, reading)).is_file())

    def hashed(path: Path) -> str:
        nonlocal sha256, stamp
        stamp, sha256 = file_stat(path), hash_of(path)
        return sha256

    try:
        stamp, sha256, clip = read_whole(path, reading, new, hashed)
    except (ValueError, OSError, MemoryError) as error:
        return ScanResult(sha256, stamp, error)
    if cached and clip is not None:
        try:
            if unfinished is None:
                raise OSError(errno.EROFS, "the folder of data cannot be written")
            keep(key_of(sha256, reading), clip, unfinished)
        except OSError as error:
            return ScanResult(sha256, stamp, not_kept=error)
    return ScanResult(sha256, stamp)


def _lost(path: Path, why: str) -> ScanResult:
    return ScanResult("", [], RuntimeError(f"{path}: {why}"))


def in_parallel(
    work: Callable[[Path], Result],
    paths: list[Path],
    workers: int | None,
    title: str,
    lost: Callable[[Path, str], Result],
) -> dict[Path, Result]:
    """Return what `work` gives for each path, in several processes.

    Args:
        work: What to do with a path; it can be pickled.
        paths: The paths, each once.
        workers: How many at a time; by default one per core, and fewer for few files. 1 is this process itself.
        title: What the progress bar says.
        lost: What to return for a path at which a process dies (a decoder may crash, or memory run out) or takes too
            long: it gets the path and the reason.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    given, workers = workers, workers or min(cores, -(-len(paths) // FEW))
    results: dict[Path, Result] = {}
    with tqdm(total=len(paths), desc=title, unit="file", leave=False, disable=quiet()) as bar:
        if given == 1 or not paths or multiprocessing.current_process().daemon:  # a DataLoader's worker has no children
            done: Iterator[tuple[Path, Result]] = ((path, work(path)) for path in paths)
        else:
            done = processes.call_each(work, paths, workers, lost, _patience)
        for path, result in done:
            results[path] = result
            bar.update()
    return results


def _patience(path: Path) -> float:
    with suppress(OSError, ValueError):  # a table may name anything
        found = path.stat()
        return PATIENCE + min(found.st_size, getattr(found, "st_blocks", 1 << 60) * 512) / 1e6  # not for holes
    return PATIENCE
