"""How much memory what is decoded may take: a small file can hold hours of black pictures, or of silence.

The limit is half of the memory that is free, or what the environment variable `MMLEARN_MEMORY_GB` says.

Chapter: preprocessing/video.
"""

import os
from pathlib import Path

import numpy as np
import psutil

VARIABLE = "MMLEARN_MEMORY_GB"
_SHARE = 0.5  # of the free memory: PyTorch and the caller need some, too
_CGROUP = Path("/sys/fs/cgroup")  # where a Linux container says how much it may use


def memory_limit() -> int:
    """Return how many bytes what is decoded from one file may take.

    Raises:
        ValueError: If `MMLEARN_MEMORY_GB` is set to something that is no number above 0.
    """
    said = os.environ.get(VARIABLE, "").strip()
    if not said:
        return int(_SHARE * _free())
    try:
        limit = float(said) * 1e9
    except ValueError:
        limit = 0.0
    if not 0 < limit < float("inf"):
        raise ValueError(f"{VARIABLE} is {said!r}; expected a number of gigabytes above 0")
    return int(limit)


class Budget:
    """The memory that one file may take; whoever needs a part of it asks before it is used.

    Args:
        name: The file, for error messages.
    """

    def __init__(self, name: str) -> None:
        self.name, self.limit, self.used = name, memory_limit(), 0

    def take(self, size: int, what: str, remedy: str) -> None:
        """Check `size` bytes, and count them as used."""
        self.check(size, what, remedy)
        self.used += size

    def check(self, size: int, what: str, remedy: str) -> None:
        """Make sure that there is room for `size` bytes.

        Args:
            size: Bytes needed.
            what: What needs them, such as "600 frames of 720 × 1280".
            remedy: What to do instead.

        Raises:
            ValueError: If there is not.
        """
        if self.used + size > self.limit:
            beside = f" beside {self.used / 1e9:.3g} GB of the same file" if self.used else ""
            raise ValueError(f"{self.name}: {what} would take {size / 1e9:.3g} GB{beside}, and the limit is "
                             f"{self.limit / 1e9:.3g} GB; {remedy}, or raise the limit with {VARIABLE}")  # fmt: skip


class Pile:
    """An array that grows along its first axis within a budget, without a second copy of what it holds.

    Args:
        budget: Pays for it.
        what: What a row is called in messages, such as "frames of 720 × 1280".
        remedy: What to do where there is too little memory.
        shape: A row's shape.
        dtype: The array's type.
        expected: How many rows will come, where that is known.
    """

    def __init__(
        self, budget: Budget, what: str, remedy: str, shape: tuple[int, ...], dtype: type, expected: int = 0
    ) -> None:
        self._budget, self._what, self._remedy = budget, what, remedy
        self._array: np.ndarray = np.empty((0, *shape), dtype)
        self._count = 0
        self._reserve(expected)

    def __len__(self) -> int:
        return self._count

    def append(self, rows: np.ndarray) -> None:
        """Copy rows (N, …) behind those that are there."""
        end = self._count + len(rows)
        if end > len(self._array):
            self._reserve(max(end, len(self._array) + len(self._array) // 4))
        self._array[self._count : end] = rows
        self._count = end

    def array(self) -> np.ndarray:
        """Return what was piled up, (count, …); the pile must not be used afterwards."""
        self._array.resize((self._count, *self._array.shape[1:]), refcheck=False)  # gives the rest back
        return self._array

    def _reserve(self, rows: int) -> None:
        row = int(np.prod(self._array.shape[1:])) * self._array.itemsize
        self._budget.take((rows - len(self._array)) * row, f"{rows} {self._what}", self._remedy)
        if len(self._array) == 0:
            self._array = np.empty((rows, *self._array.shape[1:]), self._array.dtype)  # pages cost nothing until used
        else:
            self._array.resize((rows, *self._array.shape[1:]), refcheck=False)


def _free() -> int:
    """Return the free memory in bytes: the machine's, or what a container has left of its own limit."""
    free = int(psutil.virtual_memory().available)
    try:
        most, used = ((_CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
        cache = next(line for line in (_CGROUP / "memory.stat").read_text().splitlines() if line.startswith("file "))
        return min(free, max(int(most) - int(used) + int(cache.split()[1]), 0))
    except (OSError, ValueError, StopIteration):  # no container, or "max": no limit of its own
        return free
