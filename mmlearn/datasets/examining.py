"""Read every file of a folder once, several at a time: which of them can be used, and what is in them.

Chapter: preprocessing/batching.
"""

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import torch
from tqdm.auto import tqdm

from mmlearn.datasets.keeping import Ledger, hash_of, keep, key_of, path_of, stamp_of
from mmlearn.datasets.reading import Reading
from mmlearn.runtime import quiet

Choice = Callable[[str], bool]  # whether a file with this hash is wanted
Result = TypeVar("Result")


class Found(NamedTuple):
    """What examining a file gave: its hash ("" if unknown), what it looked like before, why it cannot be used."""

    sha256: str
    stamp: list[int]
    error: Exception | None = None


def examine(
    paths: Iterable[Path], reading: Reading, ledger: Ledger | None, wanted: Choice, workers: int | None, title: str
) -> dict[Path, Found]:
    """Hash every file, and read those that are wanted and have not been read so before.

    Args:
        paths: The files.
        reading: How to read them.
        ledger: Remembers files that do not change; without it nothing is kept.
        wanted: Which files to read, by their hash.
        workers: How many at a time; by default one per core.
        title: What the progress bar says.
    """
    found: dict[Path, Found] = {}
    with ledger.open() if ledger else nullcontext():
        todo = []
        for path in sorted(paths):
            sha256 = ledger.look_up(path) if ledger else ""
            if sha256 and (not wanted(sha256) or path_of(key_of(sha256, reading)).is_file()):
                found[path] = Found(sha256, [])
            else:
                todo.append(path)
        if todo:
            work = partial(_examine, reading=reading, unfinished=ledger.unfinished if ledger else None, wanted=wanted)
            found |= in_parallel(work, todo, workers, title, _dead)
            if ledger:
                ledger.save((path, found[path].stamp, found[path].sha256) for path in todo if found[path].sha256)
    return found


def _examine(path: Path, reading: Reading, unfinished: Path | None, wanted: Choice) -> Found:
    """Hash a file, see whether it can be read, and keep what was read."""
    sha256, stamp = "", list[int]()
    try:
        stamp = stamp_of(path)
        sha256 = hash_of(path)
        key = key_of(sha256, reading)
        if not wanted(sha256) or (unfinished and path_of(key).is_file()):
            return Found(sha256, stamp)
        clip = reading.clip(path)
    except (ValueError, OSError, MemoryError) as error:
        return Found(sha256, stamp, error)
    if unfinished:
        keep(key, clip, unfinished)
    return Found(sha256, stamp)


def _dead(path: Path) -> Found:
    return Found("", [], RuntimeError(f"{path}: the process that read it died"))


def in_parallel(
    work: Callable[[Path], Result], paths: list[Path], workers: int | None, title: str, dead: Callable[[Path], Result]
) -> dict[Path, Result]:
    """Return what `work` gives for each path, in several processes where they can be forked (Linux), else in threads.

    Args:
        work: What to do with a path.
        paths: The paths, each once.
        workers: How many at a time; by default one per core. A single one is this process itself.
        title: What the progress bar says.
        dead: What to return for a path at which a process dies: a decoder may crash, or memory run out.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    results: dict[Path, Result] = {}
    with tqdm(total=len(paths), desc=title, unit="file", leave=False, disable=quiet()) as bar:
        for path, result in _results(work, paths, workers or cores, dead):
            results[path] = result
            bar.update()
    return results


def _results(
    work: Callable[[Path], Result], paths: list[Path], workers: int, dead: Callable[[Path], Result]
) -> Iterator[tuple[Path, Result]]:
    if (
        workers == 1 or not paths or multiprocessing.current_process().daemon
    ):  # a DataLoader's worker must not have children
        yield from ((path, work(path)) for path in paths)
        return
    left = dict.fromkeys(paths)  # in order
    pool = _processes(min(workers, len(paths))) if sys.platform == "linux" else ThreadPoolExecutor(workers)
    try:
        jobs = {pool.submit(work, path): path for path in paths}
        for job in as_completed(jobs):
            result = job.result()
            del left[jobs[job]]
            yield jobs[job], result
        return
    except BrokenProcessPool:
        pass
    finally:
        pool.shutdown(cancel_futures=True)
    while left:  # a process has died: find out at which path, one at a time, and go on with the others
        path = next(iter(left))
        del left[path]
        with _processes(1) as one:
            try:
                yield path, one.submit(work, path).result()
            except BrokenProcessPool:
                yield path, dead(path)
                break
    yield from _results(work, list(left), workers, dead)


def _processes(workers: int) -> Executor:
    """Return forked processes: unlike many threads, they do not wait for each other in Python."""
    return ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), initializer=_begin)


def _begin() -> None:
    """Prepare a forked process: libraries' threads did not survive the fork, and it must not outlive its parent."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
