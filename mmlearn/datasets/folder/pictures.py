"""A folder of numbered pictures as a film: which pictures belong to it, in which order, and when each is shown.

Chapter: preprocessing/batching.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from mmlearn.preprocessing.image.color import to_uint8
from mmlearn.preprocessing.image.geometry import resize
from mmlearn.preprocessing.image.reading import read_image
from mmlearn.preprocessing.video.sampling import Sampling, dense_times, segment_times, uniform_times

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
_NUMBERED = re.compile(r"(.*?)(\d+)(\.[A-Za-z]+)")


def are_numbered(names: Iterable[str]) -> bool:
    """Whether a folder's files include two or more pictures whose names end with numbers."""
    found = (_NUMBERED.fullmatch(name) for name in names if not name.startswith("."))
    return sum(match is not None and match[3].lower() in PICTURES for match in found) > 1


def numbered(folder: Path) -> list[tuple[int, Path]]:
    """Return a folder's pictures as (number, path), in the order of their numbers.

    Raises:
        ValueError: If there are none, if they are of several series (img_1.jpg, flow_x_1.jpg), or a number comes twice.
    """
    found = [(match, entry) for entry in os.scandir(folder)
             if not entry.name.startswith(".") and (match := _NUMBERED.fullmatch(entry.name))
             and match[3].lower() in PICTURES]  # fmt: skip
    series = Counter(match[1] for match, _ in found)
    if not found:
        raise ValueError(f"{folder}: no numbered pictures in this folder; expected such as 00001.jpg, 00002.jpg")
    if len(series) > 1:
        raise ValueError(f"{folder}: pictures of {len(series)} series: {dict(series.most_common(4))}; expected one")
    pictures = sorted((int(match[2]), Path(entry.path)) for match, entry in found)
    for (one, first), (other, second) in pairwise(pictures):
        if one == other:
            raise ValueError(f"{folder}: {first.name} and {second.name} have the same number")
    return pictures


def hash_of_pictures(folder: Path) -> str:
    """Return a hash of all pictures' numbers and bytes."""
    whole = hashlib.sha256(b"pictures")
    pictures = numbered(folder)
    for number, path in pictures:
        with open(path, "rb") as file:
            whole.update(f"{number - pictures[0][0]} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()


def stamp_of_pictures(folder: Path) -> list[int]:
    """Return numbers that change when a picture does: sizes and dates of all, and how many there are."""
    stats = [path.stat() for _, path in numbered(folder)]
    mtime, ctime = (max(getattr(stat, name) for stat in stats) for name in ("st_mtime_ns", "st_ctime_ns"))
    marks = hashlib.sha256(repr([(stat.st_size, stat.st_mtime_ns, stat.st_ino) for stat in stats]).encode()).digest()
    return [sum(stat.st_size for stat in stats), mtime, ctime, int.from_bytes(marks[:6], "big")]


def read_pictures(
    folder: Path,
    frame_rate: float,
    *,
    num_frames: int,
    sampling: Sampling,
    start: float = 0.0,
    end: float | None = None,
    interval: float | None = None,
    size: tuple[int, int] | None = None,
    generator: torch.Generator | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose moments and read the pictures that stand on the screen then, as `read_video` does of a film.

    Picture k is shown from (k - first) / frame_rate on, until the next one's moment: where numbers are left out, the
    picture before stays.

    Returns:
        Frames uint8 (T, H, W, 3), RGB, and the seconds float64 (T,) at which each was first shown.

    Raises:
        ValueError: If the pictures are of several series or sizes (with `size` None), or one cannot be read.

    Chapter: preprocessing/batching.
    """
    pictures = numbered(folder)
    shown = np.array([number - pictures[0][0] for number, _ in pictures]) / frame_rate  # (N,), seconds
    until = float(shown[-1]) + 1 / frame_rate if end is None else end
    if sampling == "uniform":
        times = uniform_times(start, until, num_frames)
    elif sampling == "segment":
        times = segment_times(start, until, num_frames, generator)
    else:
        times = dense_times(start, until, num_frames, 1 / frame_rate if interval is None else interval, generator)
    chosen = np.maximum(np.searchsorted(shown, times + 1e-6, side="right") - 1, 0)  # (T,)
    read = {int(k): _read(pictures[k][1], size) for k in np.unique(chosen)}
    shapes = {picture.shape for picture in read.values()}
    if len(shapes) > 1:
        raise ValueError(f"{folder}: pictures of different sizes: {sorted(shapes)}; give a size to resize them to")
    return np.stack([read[int(k)] for k in chosen]), shown[chosen]


def length_of(folder: Path, frame_rate: float) -> float:
    """Return how long the pictures last, in seconds."""
    pictures = numbered(folder)
    return (pictures[-1][0] - pictures[0][0] + 1) / frame_rate


def _read(path: Path, size: tuple[int, int] | None) -> np.ndarray:
    picture = to_uint8(read_image(path))
    return np.asarray(picture if size is None else resize(picture, size))
