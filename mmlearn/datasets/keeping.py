"""Keep decoded clips on disk, by what is in their files and how they were read.

    <home>/folders/clips/ab/abcd….npz    a clip: arrays and a note, with zip's checksums
    <home>/folders/<root>.json           sizes and dates of a root's files, with the hashes they had then
    <home>/folders/unfinished-<root>/    what is being written; it gets its name when complete

The folder may be deleted at any time.

Chapter: preprocessing/batching.
"""

import hashlib
import json
import os
import shutil
import stat
import time
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from filelock import FileLock

from mmlearn.clip import Clip, Word
from mmlearn.datasets.reading import Reading
from mmlearn.runtime import home

VERSION = 1  # raise it when the same file and settings would give another clip
TICK = 1.0  # seconds: a file that is younger may be changed again without getting another date


def key_of(sha256: str, reading: Reading) -> str:
    """Return what a clip is kept under: a hash of the file's hash and the settings."""
    return hashlib.sha256(json.dumps([VERSION, sha256, asdict(reading)]).encode()).hexdigest()


def path_of(key: str) -> Path:
    """Return where a clip is kept, or would be."""
    return home() / "folders" / "clips" / key[:2] / f"{key}.npz"


def keep(key: str, clip: Clip, unfinished: Path) -> None:
    """Write a clip; it appears under its name when it is complete."""
    note = {"rates": clip.rates, "words": [[w.text, w.start, w.end] for w in clip.words], "times": sorted(clip.times)}
    arrays: dict[str, Any] = {**clip.streams, **{f"times_{name}": when for name, when in clip.times.items()}}
    part, path = unfinished / f"{uuid4().hex}.npz", path_of(key)
    for folder in (part.parent, path.parent):
        folder.mkdir(parents=True, exist_ok=True)
    np.savez(part, note=np.array(json.dumps(note)), **arrays)
    os.replace(part, path)


def kept(key: str) -> Clip | None:
    """Return a clip that is kept, or None where there is none or its file is damaged."""
    try:
        with np.load(path_of(key)) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        note = json.loads(str(found.pop("note")))
        times = {name: found.pop(f"times_{name}") for name in note["times"]}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError):
        return None  # zip says NotImplementedError where a damaged header asks for an unknown compression
    return Clip(found, note["rates"], [Word(*word) for word in note["words"]], times=times)


def hash_of(path: Path) -> str:
    """Return the sha256 of a file's bytes.

    Raises:
        FileNotFoundError, PermissionError, OSError: As the operating system says.
        ValueError: If it is not a regular file.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would never end
        raise ValueError(f"{path}: {'a folder' if path.is_dir() else 'no regular file'}; expected a file")
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp_of(path: Path) -> list[int]:
    """Return a file's size, dates and number, which change when it does."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


class Ledger:
    """The hashes of a root's files, so that a file with the size and dates of before is not read again.

    Args:
        root: The folder or table.

    Chapter: preprocessing/batching.
    """

    def __init__(self, root: Path) -> None:
        key = hashlib.sha256(os.fsencode(root.absolute())).hexdigest()[:16]
        self.path = home() / "folders" / f"{key}.json"
        self.unfinished = home() / "folders" / f"unfinished-{key}"
        self._known: dict[str, list[Any]] = {}

    @contextmanager
    def open(self) -> Iterator[None]:
        """Let one process at a time work on this root; what a killed one left is cleared away."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix(".lock")):
            shutil.rmtree(self.unfinished, ignore_errors=True)
            try:
                self._known = dict(json.loads(self.path.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError):  # none yet, or damaged
                self._known = {}
            yield

    def look_up(self, path: Path) -> str:
        """Return a file's hash, or "" where the file is new, gone, or another."""
        try:
            *stamp, sha256 = self._known[str(path)]
            return str(sha256) if stamp == stamp_of(path) else ""
        except (KeyError, TypeError, ValueError, OSError):
            return ""

    def save(self, found: Iterable[tuple[Path, list[int], str]]) -> None:
        """Note (path, stamp, hash) of files, where the stamp is older than the hash."""
        settled = (time.time() - TICK) * 1e9
        known = {str(path): [*stamp, sha256] for path, stamp, sha256 in found if max(stamp[1:3]) < settled}
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self._known | known), encoding="utf-8")
        os.replace(part, self.path)
