"""Which file a cell of a table means: written on Windows, with another case, in another Unicode form.

Chapter: preprocessing/batching.
"""

import os
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PureWindowsPath

from mmlearn.media.container import address_of


def locate(cell: str, folder: Path) -> tuple[Path, str]:
    """Return the file that a path in a table means, and what is wrong with the path ("" if it exists).

    Tried in this order: the path as it stands, `~` as the home folder, backslashes as slashes, and names that differ
    only in case or Unicode form (as Windows and macOS take them for the same), where exactly one file fits. What is
    absolute on another system, is not replaced in silence: the message names the file that it could be.

    Args:
        cell: The path as written.
        folder: What it is relative to.

    Chapter: preprocessing/batching.
    """
    plain = folder / cell
    if address_of(cell):
        return plain, f"{address_of(cell)}; download it first, and write the path of the file"
    for path in dict.fromkeys([plain, folder / os.path.expanduser(cell), folder / cell.replace("\\", "/")]):
        if _exists(path):
            return path, ""
    if "\0" in cell:
        return plain, "embedded null byte"
    windows = PureWindowsPath(cell)
    if windows.drive:  # C:\films\cat\1.mp4: it may lie here as films/cat/1.mp4, cat/1.mp4 or 1.mp4
        parts = windows.parts[1:]
        tails = ["/".join(parts[k:]) for k in range(len(parts))]
        here = next((tail for tail in tails if _exists(folder / tail)), None)
        hint = f"; write {here!r}, if that is the file" if here else ", and a file that lies on this computer"
        return plain, f"no such file: an absolute path of Windows; expected one relative to the table{hint}"
    found = list(_alike(cell.replace("\\", "/"), folder))
    if len(found) == 1:
        return found[0], ""
    if len(found) > 1:
        return plain, f"no such file; {len(found)} files have that name but for case: {', '.join(map(str, found[:3]))}"
    return plain, ""


def _exists(path: Path) -> bool:
    try:
        return os.path.lexists(path)
    except ValueError:  # a null byte
        return False


def _alike(cell: str, folder: Path) -> Iterator[Path]:
    """Yield the files whose names are the same to Windows or macOS."""
    places = [Path("/") if cell.startswith("/") else folder]
    for part in cell.split("/"):
        if part not in ("", "."):
            places = [place / name for place in places for name in ([".."] if part == ".." else _names(place, part))]
    yield from places


def _names(folder: Path, name: str) -> list[str]:
    return _listed(folder).get(_key(name), [])


@cache
def _listed(folder: Path) -> dict[str, list[str]]:
    """Return the names in a folder, by their key. (Cleared by `forget`, before a table is read.)"""
    names: dict[str, list[str]] = {}
    try:
        for name in sorted(os.listdir(folder)):
            names.setdefault(_key(name), []).append(name)
    except OSError:
        pass
    return names


def forget() -> None:
    """Look at the folders again: they may have changed since another table was read."""
    _listed.cache_clear()


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
