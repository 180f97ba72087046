"""Which clips are in a split: by names in a table or folders, or by a hash of each file's content, or of its group.

Chapter: preprocessing/batching.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from mmlearn.datasets.folder.layout import split_named
from mmlearn.datasets.folder.records import Record

Choice = Callable[[str], bool]  # whether a file with this hash is wanted
SHARES = {"train": (0.0, 0.8), "valid": (0.8, 0.9), "test": (0.9, 1.0)}  # parts of [0, 1)


def choose(entries: list[Record], split: str | None, root: Path) -> tuple[list[Record], str | None]:
    """Return the clips that a split may hold and, where they are still to be drawn by content, the split's name.

    Splits are found by their exact name, else by what it means: "valid" finds "val", "dev" and "Validation".

    Raises:
        ValueError: If there is no such split.
    """
    named = sorted({entry.split for entry in entries if entry.split})
    if split is None:
        return entries, None
    same = [split] if split in named else [name for name in named if split_named(name) == (split_named(split) or split)]
    if len({name.casefold() for name in same}) == 1:
        return [entry for entry in entries if entry.split in same], None
    meant = split_named(split) or split
    if named or meant not in SHARES:
        raise ValueError(f"{root}: split is {split!r}; expected one of {named or list(SHARES)}")
    return entries, meant


def drawn(entries: Sequence[Record], hashes: Mapping[Path, str], split: str, seed: int) -> Choice:
    """Return which hashes are in a split, if clips of one group, and parts or copies of one file, stay together.

    Where a file has parts of two groups (a talk of two speakers), these are one group.

    Args:
        entries: All clips.
        hashes: The hash of each file; "" where it cannot be read.
        split: "train", "valid" or "test".
        seed: Another seed gives another split.
    """
    group = {entry.group: entry.group for entry in entries if entry.group}  # name → another one of the same group

    def first(name: str) -> str:
        while group[name] != name:
            name = group[name]
        return name

    of_file: dict[str, str] = {}
    for entry in entries:
        if entry.group and (sha256 := hashes[entry.path]):
            one, other = sorted((first(entry.group), first(of_file.setdefault(sha256, entry.group))))
            group[other] = one
    inside = {sha256 for sha256 in set(hashes.values())
              if is_in(f"group {first(of_file[sha256])}" if sha256 in of_file else sha256, split, seed)}  # fmt: skip
    return partial(_among, inside=inside)


def by_content(split: str | None, seed: int) -> Choice:
    """Return which hashes are in a split; all, if there is none to draw."""
    return anything if split is None else partial(is_in, split=split, seed=seed)


def is_in(key: str, split: str, seed: int) -> bool:
    """Whether a file's hash, or the name of a group, falls into a split."""
    draw = int(hashlib.sha256(f"{seed} {key}".encode()).hexdigest()[:8], 16) / 16**8  # in [0, 1)
    low, high = SHARES[split]
    return low <= draw < high


def lacking(entries: Sequence[Record], classes: Mapping[str, list[str]], split: str | None, by_hash: bool) -> list[str]:
    """Return a note for each label of which a split lacks classes."""
    notes = []
    for label, names in classes.items() if split is not None else ():
        there = count(entries, label)
        gone = [name for k, name in enumerate(names) if k not in there]
        if gone:
            told = ", ".join(gone[:6]) + (f" and {len(gone) - 6} more" if len(gone) > 6 else "")
            hint = "; name the splits in a table or by folders" if by_hash else ""
            notes.append(f"split {split!r} ({len(entries)} clips) has none of {len(gone)} of {len(names)} classes of "
                         f"{label}: {told}{hint}")  # fmt: skip
    return notes


def count(entries: Sequence[Record], label: str) -> dict[int, int]:
    """Return index of a class → how many clips have it."""
    found: dict[int, int] = {}
    for entry in entries:
        value = entry.labels.get(label)
        for k in value if isinstance(value, list) else [] if value is None else [value]:
            found[int(k)] = found.get(int(k), 0) + 1
    return found


def anything(sha256: str) -> bool:
    """Return True."""
    return True


def nothing(sha256: str) -> bool:
    """Return False."""
    return False


def _among(sha256: str, inside: set[str]) -> bool:
    return sha256 in inside
