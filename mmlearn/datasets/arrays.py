"""Arrays of clips on disk: written without a crash where the disk is full, opened only if they are whole.

    video.npy, audio.npy    a row a clip
    notes.json              the rest of each clip, and its checksum
    seal.json               written last: types, shapes and sizes of the arrays, and a hash of the notes

Chapter: start/dataset.
"""

import hashlib
import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmlearn import files

SEAL = "seal.json"


@dataclass
class Arrays:
    """The clips on disk: frames uint8 (N, T, H, W, 3), sound int16 (N, S), and a note on each.

    Chapter: start/dataset.
    """

    video: np.memmap
    audio: np.memmap
    notes: Any


def open_arrays(folder: Path) -> Arrays:
    """Open what is sealed; the large arrays stay on disk and are mapped into memory.

    Sizes and notes are compared with the seal; a clip's own sum, `notes[i]["sum"]`, is for the one who reads it.

    Raises:
        ValueError: If something is damaged, missing or of another size.
        OSError: If it cannot be read.
    """
    try:
        seal = json.loads((folder / SEAL).read_bytes())
        if seal.pop("sum") != _sum_of(seal):
            raise ValueError(f"{folder / SEAL}: damaged")
        data = (folder / "notes.json").read_bytes()
        if hashlib.sha256(data).hexdigest() != seal["notes"]:
            raise ValueError(f"{folder / 'notes.json'}: damaged")
        arrays = {}
        for name, (kind, shape, offset, size) in seal["arrays"].items():
            if (found := (folder / f"{name}.npy").stat().st_size) != size:
                raise ValueError(f"{folder / name}.npy: found {found} bytes, expected {size}")
            arrays[name] = np.memmap(folder / f"{name}.npy", kind, "r", offset, tuple(shape))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{folder / SEAL}: damaged ({error!r})") from None
    return Arrays(arrays["video"], arrays["audio"], json.loads(data))


def is_whole(folder: Path) -> bool:
    """Whether a folder holds all that was sealed."""
    try:
        open_arrays(folder)
    except (OSError, ValueError):
        return False
    return True


def sum_of(video: np.ndarray, audio: np.ndarray) -> int:
    """Return a clip's checksum, CRC-32 of its frames and its sound."""
    return zlib.crc32(_bytes_of(audio), zlib.crc32(_bytes_of(video)))


def new_array(path: Path, kind: type, shape: tuple[int, ...]) -> list[Any]:
    """Write a .npy file of zeros whose room on disk is taken, and return its type, shape, first byte and size.

    A mapped file that has less room than its size ends the process by SIGBUS when the disk is full; this raises.

    Raises:
        OSError: If there is no room.
    """
    array = np.lib.format.open_memmap(path, "w+", kind, shape)
    offset, size = array.offset, array.offset + array.nbytes
    del array
    files.check_room(path.parent, size, path.name)
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                if error.errno not in files.UNSUPPORTED:
                    raise
    return [np.dtype(kind).str, list(shape), offset, size]


def _bytes_of(array: np.ndarray) -> memoryview:
    """Return an array's bytes, in the order of its elements."""
    return np.ascontiguousarray(array).data.cast("B")


def write_row(path: Path, offset: int, index: int, row: np.ndarray) -> None:
    """Write one row of a .npy file by an ordinary write, which raises OSError when the disk is full."""
    with open(path, "r+b", buffering=0) as file:
        file.seek(offset + index * row.nbytes)
        left = _bytes_of(row)
        while left:
            left = left[file.write(left) :]


def write_clip(folder: Path, offsets: dict[str, int], index: int, video: np.ndarray, audio: np.ndarray) -> int:
    """Write a clip's rows and return its sum."""
    for name, row in {"video": video, "audio": audio}.items():
        write_row(folder / f"{name}.npy", offsets[name], index, row)
    return sum_of(video, audio)


def seal_arrays(folder: Path, arrays: dict[str, list[Any]], notes: Any) -> None:
    """Write the notes, and the seal, after which the folder is whole.

    Args:
        folder: Where the arrays are.
        arrays: Name → what `new_array` returned.
        notes: One for each clip, or whatever JSON holds.
    """
    data = json.dumps(notes, ensure_ascii=False).encode()
    (folder / "notes.json").write_bytes(data)
    seal = {"arrays": arrays, "notes": hashlib.sha256(data).hexdigest()}
    (folder / SEAL).write_text(json.dumps(seal | {"sum": _sum_of(seal)}), encoding="utf-8")


def _sum_of(seal: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(seal, sort_keys=True).encode()).hexdigest()
