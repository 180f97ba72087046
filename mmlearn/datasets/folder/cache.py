"""Keep decoded clips on disk, by what is in their files and how they were read.

    <home>/folders/clips/ab/abcd….clip   a clip: a checksum of all that follows, a note (JSON), arrays
    <home>/folders/<root>.json           sizes and dates of a root's files, with the hashes they had then
    <home>/folders/.….unfinished/        what is being written; it gets its name when complete

The folder may be deleted at any time. Where it cannot be written, clips are decoded at each access.

Chapter: preprocessing/batching.
"""

import hashlib
import json
import os
import stat
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from mmlearn import files
from mmlearn.clip import Clip, Word
from mmlearn.datasets.folder.pictures import are_numbered, hash_of_pictures, stamp_of_pictures
from mmlearn.datasets.reading import DecodeOptions
from mmlearn.runtime import home

VERSION = 2  # raise it when the same file and settings would give another clip
TICK = 1.0  # seconds: a file that is younger may be changed again without getting another date
SUM = 16  # bytes of a checksum


def key_of(sha256: str, reading: DecodeOptions) -> str:
    """Return what a clip is kept under: a hash of the file's hash and the settings."""
    return hashlib.sha256(json.dumps([VERSION, sha256, asdict(reading)]).encode()).hexdigest()


def path_of(key: str) -> Path:
    """Return where a clip is kept, or would be."""
    return home() / "folders" / "clips" / key[:2] / f"{key}.clip"


def keep(key: str, clip: Clip, unfinished: Path | None = None) -> None:
    """Write a clip; it appears under its name when it is complete.

    Args:
        key: See `key_of`.
        clip: Its streams are arrays.
        unfinished: A folder on the same disk for what is being written; by default a new one.

    Raises:
        OSError: If there is no room, or the folder cannot be written.
    """
    path = path_of(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    with nullcontext(unfinished) if unfinished else files.unfinished(home() / "folders" / "clip") as folder:
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / uuid4().hex
        try:
            part.write_bytes(_packed(clip))
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


def kept(key: str) -> Clip | None:
    """Return a clip that is kept, or None where there is none or its file is damaged."""
    try:
        data = bytearray(path_of(key).read_bytes())
    except OSError:
        return None
    return _unpacked(data) if _sum(memoryview(data)[SUM:]) == data[:SUM] else None


def is_kept_whole(path: Path) -> bool:
    """Whether a kept clip's file is what was written."""
    data = memoryview(path.read_bytes())
    return _sum(data[SUM:]) == data[:SUM]


def _packed(clip: Clip) -> bytes:
    streams, times = ({k: np.ascontiguousarray(v) for k, v in d.items()} for d in (clip.streams, clip.times))
    note = {
        "rates": clip.rates,
        "words": [[w.text, w.start, w.end] for w in clip.words],
        "streams": [[name, x.dtype.str, x.shape] for name, x in streams.items()],
        "times": [[name, x.dtype.str, x.shape] for name, x in times.items()],
    }
    head = json.dumps(note).encode()
    arrays = b"".join(x.tobytes() for x in [*streams.values(), *times.values()])
    body = len(head).to_bytes(8, "little") + head + arrays
    return _sum(body) + body


def _unpacked(data: bytearray) -> Clip:
    """Return a clip whose arrays lie in `data`, and may be changed."""
    at = SUM + 8 + int.from_bytes(data[SUM : SUM + 8], "little")
    note = json.loads(data[SUM + 8 : at])
    found: dict[str, dict[str, Any]] = {"streams": {}, "times": {}}
    for kind, arrays in found.items():
        for name, kind_of_number, shape in note[kind]:
            array = np.frombuffer(data, kind_of_number, int(np.prod(shape)), at).reshape(shape)
            arrays[name], at = array, at + array.nbytes
    return Clip(found["streams"], note["rates"], [Word(*word) for word in note["words"]], times=found["times"])


def _sum(data: bytes | memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=SUM).digest()


def hash_of(path: Path) -> str:
    """Return the sha256 of a file's bytes.

    Raises:
        FileNotFoundError, PermissionError, OSError: As the operating system says.
        ValueError: If it is not a regular file, is empty, or grows while it is read.
    """
    if path.is_dir() and are_numbered(os.listdir(path)):
        return hash_of_pictures(path)
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):  # reading a pipe or a device would never end
        raise ValueError(f"{path}: {'a folder' if path.is_dir() else 'no regular file'}; expected a file")
    if not found.st_size:  # such as /proc/kmsg, which blocks
        raise ValueError(f"{path}: the file is empty; expected pictures or sound")
    digest, left = hashlib.sha256(), found.st_size
    with open(path, "rb") as file:
        while left and (block := file.read(min(left, 1 << 20))):
            digest.update(block)
            left -= len(block)
        if left or file.read(1):
            raise ValueError(f"{path}: the file changes while it is read; expected one that is complete")
    return digest.hexdigest()


def file_stat(path: Path) -> list[int]:
    """Return a file's size, dates and number, which change when it does."""
    if path.is_dir() and are_numbered(os.listdir(path)):
        return stamp_of_pictures(path)
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def check_no_hole(path: Path) -> None:
    """Raise ValueError where a file is mostly holes and begins with one: it would take hours to read zeros."""
    found = path.stat()
    if found.st_size > 1 << 20 and getattr(found, "st_blocks", found.st_size) * 512 < found.st_size // 2:
        with open(path, "rb") as file:
            if not any(file.read(1 << 16)):
                raise ValueError(f"{path}: {found.st_size} bytes, of which most are not on disk, and no film begins "
                                 "with zeros; was it downloaded whole?")  # fmt: skip


def read_whole(
    path: Path, reading: DecodeOptions, wanted: Callable[[str], bool], hashed: Callable[[Path], str] = hash_of
) -> tuple[list[int], str, Clip | None]:
    """Return a file's stamp and hash, and the clip that was read from the same bytes.

    Args:
        path: The file.
        reading: How to read it.
        wanted: Whether a file with this hash is to be read; where it is not, the clip is None.
        hashed: Returns a file's hash.

    Raises:
        ValueError, OSError: If the file cannot be read, or another process writes to it all the time.
    """
    if path.is_file():
        check_no_hole(path)
    for _ in range(3):
        stamp = file_stat(path)
        sha256 = hashed(path)
        if not wanted(sha256):
            return stamp, sha256, None
        clip = reading.clip(path)
        young = max(stamp[1:3]) > (time.time() - TICK) * 1e9  # the date alone does not show another change
        if stamp == file_stat(path) and not (young and hash_of(path) != sha256):
            return stamp, sha256, clip
    raise ValueError(f"{path}: the file changes while it is read; expected one that is complete")


class ScanIndex:
    """The hashes of a root's files, so that a file with the size and dates of before is not read again.

    Args:
        root: The folder or table.

    Chapter: preprocessing/batching.
    """

    def __init__(self, root: Path) -> None:
        key = hashlib.sha256(os.fsencode(root.absolute())).hexdigest()[:16]
        self.path = home() / "folders" / f"{key}.json"
        self.unfinished: Path | None = None  # a folder for what is being written, while the ledger is open
        self._known: dict[str, list[Any]] = {}

    @contextmanager
    def open(self) -> Iterator[None]:
        """Let one process at a time work on this root; what a killed one left is cleared away.

        Raises:
            OSError: If the folder of data cannot be written.
        """
        with (
            files.locked(self.path.with_suffix(".lock"), "reads the same folder"),
            files.unfinished(self.path) as self.unfinished,
        ):
            self.load()
            yield

    def load(self) -> None:
        """Read what is known; nothing where there is no file, or a damaged one."""
        try:
            self._known = dict(json.loads(self.path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError):
            self._known = {}

    def look_up(self, path: Path) -> str:
        """Return a file's hash, or "" where the file is new, gone, or another."""
        try:
            *stamp, sha256 = self._known[str(path)]
            return str(sha256) if stamp == file_stat(path) else ""
        except (KeyError, TypeError, ValueError, OSError):
            return ""

    def save(self, found: Iterable[tuple[Path, list[int], str]]) -> None:
        """Note (path, stamp, hash) of files, where the stamp is older than the hash."""
        settled = (time.time() - TICK) * 1e9
        known = {str(path): [*stamp, sha256] for path, stamp, sha256 in found if max(stamp[1:3]) < settled}
        files.write_file(self.path, json.dumps(self._known | known))


def warn_not_kept(error: OSError) -> None:
    """Warn that nothing is kept, and what to do about it."""
    why = files.with_remedy(error, home(), "cache=False")
    warnings.warn(f"clips are not kept on disk, and each access decodes: {why}", stacklevel=4)
