"""What the folders around a file mean: its split, its class, or only a place.

Chapter: preprocessing/batching.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

Layout = Literal["table", "classes", "splits"]
SPLITS = {"train": "train", "training": "train",
          "valid": "valid", "val": "valid", "validation": "valid", "dev": "valid", "eval": "valid",
          "test": "test", "testing": "test"}  # fmt: skip
Place = tuple[str | None, str | None]  # split, class
Parts = tuple[str, ...]  # of a path below the root


def split_named(name: str) -> str | None:
    """Return the split that a folder's name or a cell means: train, valid or test; None if it means none."""
    return SPLITS.get(name.strip().casefold())


def places(files: Sequence[Parts], layout: Layout | None, root: Path) -> tuple[list[Place], str]:
    """Return (split, class) of each file, either of which may be None, and a note on what was doubtful.

    Args:
        files: The files' paths below the root, in parts.
        layout: "classes": the first folder is the class, whatever its name. "splits": the folders that are named like
            splits are splits, below them are the classes; files elsewhere have neither. None: whichever fits.
        root: For messages.

    Raises:
        ValueError: If folders are named like splits, but there are others beside them, or two mean the same split.

    Chapter: preprocessing/batching.
    """
    if layout == "classes":
        return _by_class(files), ""
    depth = _depth(files)
    if depth is not None:
        _check(files, depth, layout, root)
        return [_placed(parts, depth) for parts in files], ""
    if _inside_classes(files):
        return [(split_named(parts[1]), parts[0]) if len(parts) > 1 else (None, None) for parts in files], ""
    if layout == "splits":
        raise ValueError(f"{root}: layout is 'splits', but no folder is named like one; expected train, valid, test")
    tops = sorted({parts[0] for parts in files if len(parts) > 1})
    below = sorted({parts[1] for parts in files if len(parts) > 2})
    note = ""
    if len(tops) == 1 and len(below) > 1 and all(len(parts) > 2 for parts in files):
        note = (f"all clips have one class, {tops[0]!r}; if {_listed(below)} are the classes, "
                f"open {str(root / tops[0])!r}")  # fmt: skip
    named = [parts for parts in files if len(parts) > 2 and split_named(parts[1])]
    if len({split_named(parts[1]) for parts in named}) > 1:
        other = next(parts for parts in files if len(parts) > 1 and parts not in named)
        note = (f"folders such as {'/'.join(named[0][:2])!r} are named like splits but taken only for places, because "
                f"{'/'.join(other)!r} lies in none")  # fmt: skip
    return _by_class(files), note


def _depth(files: Sequence[Parts]) -> int | None:
    """Return at which depth folders are named like splits: 0, or more where one folder encloses all of them."""
    depth = 0
    while True:
        folders = {parts[depth] for parts in files if len(parts) > depth + 1}
        if any(map(split_named, folders)):
            return depth
        if len(folders) != 1:
            return None
        depth += 1


def _check(files: Sequence[Parts], depth: int, layout: Layout | None, root: Path) -> None:
    """Raise where the folders are not clearly splits."""
    folders = sorted({parts[depth] for parts in files if len(parts) > depth + 1})
    splits, others = [f for f in folders if split_named(f)], [f for f in folders if not split_named(f)]
    for split in ("train", "valid", "test"):
        same = sorted({folder.casefold() for folder in splits if split_named(folder) == split})
        if len(same) > 1:
            raise ValueError(f"{root}: the folders {_listed(same)} would all be the split {split!r}; rename them to "
                             "train, valid and test, name the splits in a table, or give layout='classes'")  # fmt: skip
    if others and layout is None:
        lost = [parts for parts in files if len(parts) > depth + 1 and parts[depth] in others]
        raise ValueError(
            f"{root}: {_listed(splits)} {'is' if len(splits) == 1 else 'are'} named like splits, but {len(lost)} of "
            f"{len(files)} files lie in {_listed(others)} beside, e.g. {'/'.join(lost[0])}; give layout='classes' to "
            "take all of these folders for classes, or layout='splits' to leave those files out of all splits"
        )


def _placed(parts: Parts, depth: int) -> Place:
    split = split_named(parts[depth]) if len(parts) > depth + 1 else None
    return split, parts[depth + 1] if split and len(parts) > depth + 2 else None


def _inside_classes(files: Sequence[Parts]) -> bool:
    """Whether each class holds folders that are all named like splits: cat/train/1.mp4."""
    deep = [parts for parts in files if len(parts) > 1]
    return bool(deep) and all(len(parts) > 2 and split_named(parts[1]) for parts in deep)


def _by_class(files: Sequence[Parts]) -> list[Place]:
    return [(None, parts[0] if len(parts) > 1 else None) for parts in files]


def _listed(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(map(repr, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")
