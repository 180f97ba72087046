"""Tables of clips: `path,text,split,group,start,end` and any columns of labels, in UTF-8.

Chapter: preprocessing/batching.
"""

import csv
import io
import math
import re
from collections.abc import Mapping
from pathlib import Path

from mmlearn.datasets.folder.columns import MISSING, Kind, check_declared, number_of, plain, read_column
from mmlearn.datasets.folder.layout import split_named
from mmlearn.datasets.folder.locating import forget, locate
from mmlearn.datasets.folder.records import Listing, Record

OWN = ("path", "text", "split", "group", "start", "end")  # columns that are no labels
_NEARLY = {"start_time", "end_time", "time_start", "time_end", "t_start", "t_end", "start_sec", "end_sec", "begin",
           "stop", "start_seconds", "end_seconds", "onset", "offset", "start_frame", "end_frame"}  # fmt: skip


def list_table(path: Path, labels: Mapping[str, Kind]) -> Listing:
    """List the rows of a table; `VideoFolder` describes its columns.

    Args:
        path: The table.
        labels: Columns whose kind is declared: see `read_column`.

    Raises:
        ValueError: If the table cannot be understood; the line is named.

    Chapter: preprocessing/batching.
    """
    header, rows = _read_table(path)
    lines = [line for line, _ in rows]
    columns = {name: [row[k] for _, row in rows] for k, name in enumerate(header)}
    check_declared(labels, [name for name in header if name not in OWN])
    listing = Listing()
    known: dict[str, list[object]] = {}
    for name in header:
        if name not in OWN:
            try:
                column = read_column(name, columns[name], lines, labels.get(name))
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
            known[name] = column.values
            listing.notes += column.notes
            if column.classes is not None:
                listing.classes[name] = column.classes
    starts, ends = (_seconds(path, name, columns.get(name, [""] * len(rows)), lines) for name in ("start", "end"))
    if near := [name for name in header if name.lower() in _NEARLY]:
        listing.notes.append(f"the columns {near} are labels; a part of a film is chosen by columns start and end, in "
                             "seconds")  # fmt: skip
    forget()
    for k, line in enumerate(lines):
        name, start, end = columns["path"][k], starts[k] or 0.0, ends[k]
        if not name:
            raise ValueError(f"{path}: line {line}: the path is empty")
        if end is not None and end <= start:
            raise ValueError(f"{path}: line {line}: start is {start:g} s, end is {end:g} s; expected an end after it")
        file, trouble = locate(name, path.parent)
        part = "" if starts[k] is None and end is None else f"#t={start:g}" + (f",{end:g}" if end is not None else "")
        if trouble:
            listing.skipped[name + part] = trouble
            continue
        if file != path.parent / name:
            listing.respelled[name] = str(file)
        listing.entries.append(
            Record(
                name=name + part,
                path=file,
                text=columns["text"][k] or None if "text" in columns else None,
                labels={label: values[k] for label, values in known.items() if values[k] is not None},
                split=columns["split"][k] or None if "split" in columns else None,
                group=columns["group"][k] or None if "group" in columns else None,
                start=start,
                end=end,
            )
        )
    if "split" not in columns:
        _split_by_folders(listing.entries, path)
    return listing


def _split_by_folders(entries: list[Record], path: Path) -> None:
    """Take splits from folders called train, valid and test, where all files of a table lie in such folders."""
    parts = [tuple(re.split(r"[/\\]", entry.name.partition("#t=")[0])) for entry in entries]
    found = [split_named(part[0]) if len(part) > 1 else None for part in parts]
    if len(set(found)) > 1 and all(found):
        for entry, split in zip(entries, found, strict=True):
            entry.split = split


def _seconds(path: Path, name: str, cells: list[str], lines: list[int]) -> list[float | None]:
    """Return seconds, written as such or as h:m:s; None for an empty cell."""
    found: list[float | None] = []
    for cell, line in zip(cells, lines, strict=True):
        if not cell or cell.casefold() in MISSING:
            found.append(None)
            continue
        clock = re.fullmatch(r"(?:(\d+):)?(\d{1,3}):(\d\d?(?:\.\d*)?)", plain(cell))
        value = number_of(cell)
        if clock:
            value = 3600 * int(clock[1] or 0) + 60 * int(clock[2]) + float(clock[3])
        if value is None or not math.isfinite(value) or value < 0:
            raise ValueError(f"{path}: line {line}: {name} is {cell!r}; expected seconds, 0 or more, such as 12.5 or "
                             "1:02:03.5, or an empty cell")  # fmt: skip
        found.append(float(value))
    return found


def _read_table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header, and each row with the number of the line where it ends."""
    reader = csv.reader(io.StringIO(decode(path), newline=""), strict=True)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise ValueError(f"{path}: line {reader.line_num}: {error}; expected comma-separated values") from None
    header = [name.lower() if name.lower() in OWN else name for name in rows[0][1]] if rows else []
    if "path" not in header:
        hint = " (separated by semicolons or tabs?)" if re.search('path[";\t]', "".join(header)) else ""
        raise ValueError(f"{path}: the first line names {header}{hint}; expected path,text,<labels>")
    if len(set(header)) < len(header) or "" in header:
        raise ValueError(f"{path}: the first line names {header}; expected a different name for each column")
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise ValueError(f"{path}: line {line}: found {len(row)} cells; expected {len(header)}: {header}")
    return header, rows[1:]


def decode(path: Path, what: str = 'the table as "CSV UTF-8"') -> str:
    """Read a file as UTF-8, with or without a byte order mark. Other encodings are refused: a guess may be wrong."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        hint = ""
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            hint = " (it begins as UTF-16)"
        elif _fits(data, "gb18030"):
            hint = " (it could be GB18030, as Excel writes in Chinese)"
        raise ValueError(f"{path}: byte {error.start} is {data[error.start]:#04x}, which is not UTF-8{hint}; save "
                         f"{what}") from None  # fmt: skip


def _fits(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
