"""Which clips there are, and what is known about them: from a tree of folders, or from a table.

Chapter: preprocessing/batching.
"""

import csv
import io
import math
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

VIDEO = (
    ".mp4",
    ".m4v",
    ".mov",
    ".mkv",
    ".avi",
    ".webm",
    ".mpg",
    ".mpeg",
    ".wmv",
    ".flv",
    ".ts",
    ".mts",
    ".3gp",
    ".ogv",
)
AUDIO = (".wav", ".mp3", ".flac", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".wma", ".aiff")
SUFFIXES = {*VIDEO, *AUDIO}
SPLITS = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}


@dataclass
class Entry:
    """One clip: where it lies, and what is known about it. `sha256` of its bytes is found out later.

    Chapter: preprocessing/batching.
    """

    name: str
    path: Path
    text: str | None = None
    labels: dict[str, int | float] = field(default_factory=dict)
    split: str | None = None
    sha256: str = ""


@dataclass
class Listing:
    """All clips in a fixed order; the names of classes; what was left out and why; how many other files there are.

    Chapter: preprocessing/batching.
    """

    entries: list[Entry] = field(default_factory=list)
    classes: dict[str, list[str]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)


def list_clips(root: Path) -> Listing:
    """List the clips of a folder or of a table; `VideoFolder` says what either means.

    Raises:
        FileNotFoundError: If there is no such folder or table.
        ValueError: If it holds no clip, or the table cannot be understood.

    Chapter: preprocessing/batching.
    """
    if root.is_dir():
        listing = _list_folder(root)
    elif not root.exists():
        raise FileNotFoundError(2, "no such folder or table", str(root))
    elif root.suffix.lower() == ".csv":
        listing = _list_table(root)
    else:
        raise ValueError(f"{root}: a file; expected a folder, or a table whose name ends with .csv")
    if not listing.entries:
        others = ", ".join(f"{n} {kind}" for kind, n in listing.ignored.most_common(5)) or "nothing"
        skipped = "".join(f"; {name}: {reason}" for name, reason in list(listing.skipped.items())[:1])
        raise ValueError(f"{root}: found no video or sound file, but {others}{skipped}")
    return listing


def _list_folder(root: Path) -> Listing:
    """List `[split/]CLASS/**/file`; files directly in the root have no class."""
    listing = Listing()
    files = sorted(_walk(root, listing), key=lambda path: path.parts)
    parts = [path.relative_to(root).parts for path in files]
    by_split = all(len(p) > 1 and p[0].lower() in SPLITS for p in parts)
    depth = 1 if by_split else 0  # of the class
    names = sorted({p[depth] for p in parts if len(p) > depth + 1})
    if names:
        listing.classes["label"] = [printable(name) for name in names]
    number = {name: k for k, name in enumerate(names)}
    for path, p in zip(files, parts, strict=True):
        listing.entries.append(
            Entry(
                name=printable("/".join(p)),
                path=path,
                labels={"label": number[p[depth]]} if len(p) > depth + 1 else {},
                split=SPLITS[p[0].lower()] if by_split else None,
            )
        )
    return listing


def _walk(root: Path, listing: Listing) -> list[Path]:
    """Return all media files under a folder; links are followed, and each real folder is entered once."""
    files: list[Path] = []
    entered, folders = {os.path.realpath(root)}, [root]
    while folders:
        folder = folders.pop()
        try:
            found = sorted(os.scandir(folder), key=lambda entry: (entry.is_symlink(), entry.name))
        except OSError as error:
            listing.skipped[_name(folder, root)] = f"cannot list this folder ({error.strerror})"
            continue
        for entry in found:
            path = Path(entry.path)
            media = path.suffix.lower() in SUFFIXES
            if entry.name.startswith("."):
                listing.ignored["hidden"] += 1
            elif os.path.isdir(path):
                real = os.path.realpath(path)
                if media:
                    listing.skipped[_name(path, root)] = "a folder; expected a file"
                elif real in entered:
                    listing.skipped[_name(path, root)] = f"a link back to {real}, whose files are listed already"
                else:
                    entered.add(real)
                    folders.append(path)
            elif media:
                files.append(path)
            else:
                listing.ignored[path.suffix.lower() or "without suffix"] += 1
    return files


def _list_table(path: Path) -> Listing:
    """List the rows of `path,text,split,<label columns>`."""
    header, rows = _read_table(path)
    listing = Listing()
    columns = {name: [row[k] for _, row in rows] for k, name in enumerate(header)}
    labels = {name: _labels(name, cells, [line for line, _ in rows], path, listing.classes)
              for name, cells in columns.items() if name not in ("path", "text", "split")}  # fmt: skip
    for k, (line, _) in enumerate(rows):
        name = columns["path"][k]
        if not name:
            raise ValueError(f"{path}: line {line}: the path is empty")
        known = {label: values[k] for label, values in labels.items()}
        listing.entries.append(
            Entry(
                name=name,
                path=path.parent / name,
                text=columns["text"][k] or None if "text" in columns else None,
                labels={label: value for label, value in known.items() if value is not None},
                split=columns["split"][k] or None if "split" in columns else None,
            )
        )
    return listing


def _read_table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header, and each row with the number of the line where it ends."""
    reader = csv.reader(io.StringIO(_decode(path), newline=""), strict=True)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise ValueError(f"{path}: line {reader.line_num}: {error}; expected comma-separated values") from None
    header = rows[0][1] if rows else []
    if "path" not in header:
        hint = " (separated by semicolons or tabs?)" if re.search('path[";\t]', "".join(header)) else ""
        raise ValueError(f"{path}: the first line names {header}{hint}; expected path,text,<labels>")
    if len(set(header)) < len(header) or "" in header:
        raise ValueError(f"{path}: the first line names {header}; expected a different name for each column")
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise ValueError(f"{path}: line {line}: found {len(row)} cells; expected {len(header)}: {header}")
    return header, rows[1:]


def _decode(path: Path) -> str:
    """Read a table as UTF-8, with or without a byte order mark. Other encodings are refused: a guess may be wrong."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        hint = ""
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            hint = " (it begins as UTF-16)"
        elif _fits(data, "gb18030"):
            hint = " (it could be GB18030, as Excel writes in Chinese)"
        raise ValueError(f"{path}: byte {error.start} is {data[error.start]:#04x}, which is not UTF-8{hint}; save the "
                         'table as "CSV UTF-8"') from None  # fmt: skip


def _fits(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _labels(name: str, cells: list[str], lines: list[int], path: Path,
            classes: dict[str, list[str]]) -> list[int | float | None]:  # fmt: skip
    """Turn a column into numbers, or into indices of classes; empty cells are None."""
    numbers = [_number(cell) for cell in cells]
    if all(number is not None for number, cell in zip(numbers, cells, strict=True) if cell):
        for cell, number, line in zip(cells, numbers, lines, strict=True):
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{path}: line {line}: {name} is {cell!r}; expected a finite number, or an empty cell")
        whole = all(isinstance(number, int) for number in numbers if number is not None)
        return [n if n is None or whole else float(n) for n in numbers]
    classes[name] = sorted({cell for cell in cells if cell})
    index = {cell: k for k, cell in enumerate(classes[name])}
    return [index.get(cell) for cell in cells]


def _number(cell: str) -> int | float | None:
    if re.fullmatch(r"[+-]?\d{1,18}", cell, re.ASCII):
        return int(cell)
    try:
        return float(cell) if cell.isascii() and "_" not in cell else None
    except ValueError:
        return None


def _name(path: Path, root: Path) -> str:
    return printable(path.relative_to(root).as_posix())


def printable(name: str) -> str:
    """Return a name in which bytes that are not UTF-8 are written as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()
