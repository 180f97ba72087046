"""Cells of a table's column as labels: numbers, indices of classes, or lists; what is missing; what is ambiguous.

Chapter: preprocessing/batching.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Kind = type | Callable[[str], Any]  # float, int, str, list, or a function of a cell

# Words that tables use for an empty cell; they count as one in a column of numbers only: "none" may be a class.
MISSING = {"na", "n/a", "n.a.", "#n/a", "#na", "nan", "null", "nil", "none", "missing", "unknown", "empty", "undefined",
           "-", "--", "---", "–", "—", "?", "??", ".", "..", "/", "\\n", "<na>", "#value!", "#ref!", "#div/0!",
           "无", "無", "空", "缺", "缺失", "缺省", "未知", "暂无", "没有", "不详"}  # fmt: skip
MAYBE_CLASSES = {"none", "unknown", "missing", "empty", "undefined", "无", "無", "空", "没有", "未知"}
# Numbers as people write them, which a program may read in two ways: 1,200 · 1,5 · 1 200 · 12% · €3
_MONEY = "$€£¥₩₹元"
_AMBIGUOUS = re.compile(
    rf"[-+]?[{_MONEY}]?\s?(\d{{1,3}}([,' \u00a0\u202f]\d{{3}})+(\.\d+)?|\d*,\d+|\d+(\.\d+)?)\s?[%‰{_MONEY}]?"
)


@dataclass
class Column:
    """Labels of all rows, None where a cell is missing; the names of classes, if that is what they are.

    Chapter: preprocessing/batching.
    """

    values: list[Any]
    classes: list[str] | None = None
    notes: list[str] = field(default_factory=list)


def read_column(name: str, cells: list[str], lines: list[int], kind: Kind | None = None) -> Column:
    """Turn a column's cells into labels.

    Without a declaration, a column whose filled cells are all numbers is one of numbers; words such as NA, -, null, ?
    and 缺失 count as empty in it. A column in which some cell has leading zeros (007) holds names. All other columns
    hold names of classes. Digits may be full-width.

    Args:
        name: The column's name, for messages.
        cells: Its cells, without spaces around them.
        lines: The line of each cell.
        kind: `float` or `int`: numbers. `str`: names of classes, whatever they look like. `list`: several values,
            separated by ; or | or , or, between numbers, spaces. Or a function that turns a filled cell into a number.

    Raises:
        ValueError: If most cells are numbers and others are not, or a cell is not what was declared. Lines and cells
            are named.

    Chapter: preprocessing/batching.
    """
    if kind is str:
        return _names(cells)
    if kind is list:
        return _lists(cells)
    if kind is not None and kind not in (float, int):
        return Column([_call(kind, name, c, line) if c else None for c, line in zip(cells, lines, strict=True)])
    missing = dict.fromkeys(k for k, cell in enumerate(cells) if cell.casefold() in MISSING)
    found = {k: number_of(cell) for k, cell in enumerate(cells) if cell and k not in missing}
    numbers = {k: number for k, number in found.items() if number is not None}
    others = [k for k in found if k not in numbers]
    zeros = [k for k in numbers if re.fullmatch(r"[+-]?0\d+", plain(cells[k]))]
    if kind is None and (zeros or not _meant_as_numbers(numbers, others, cells)):
        column = _names(cells)
        if zeros and not others:
            column.notes.append(f"column {name}: {_cited(zeros, cells, lines)} begin with 0, so the cells are taken as "
                                f"names of classes; labels={{{name!r}: float}} reads them as numbers")  # fmt: skip
        odd = [k for k in missing if cells[k].casefold() not in MAYBE_CLASSES]
        if odd and found:
            column.notes.append(f"column {name}: {_cited(odd, cells, lines)} count as names of classes; leave a cell "
                                "empty where a label is missing")  # fmt: skip
        return column
    if others:
        raise ValueError(f"column {name}: not a number: {_cited(others, cells, lines)}; {len(numbers)} other cells are "
                         "numbers; write 1200, 1.5 or 0.12, leave a missing cell empty, or declare the column: "
                         f"labels={{{name!r}: str}} for classes, list for several values a cell")  # fmt: skip
    for k, number in numbers.items():
        if not math.isfinite(number) or (kind is int and number != int(number)):
            expected = "a whole number, as declared" if math.isfinite(number) else "a finite number, or an empty cell"
            raise ValueError(f"line {lines[k]}: {name} is {cells[k]!r}; expected {expected}")
    whole = kind is int or (kind is None and all(isinstance(number, int) for number in numbers.values()))
    column = Column([(int if whole else float)(numbers[k]) if k in numbers else None for k in range(len(cells))])
    if missing:
        column.notes.append(f"column {name}: {len(missing)} of {len(cells)} cells count as missing: "
                            f"{_cited(list(missing), cells, lines)}")  # fmt: skip
    return column


def check_declared(labels: Mapping[str, Kind], columns: list[str]) -> None:
    """Check the columns that a user declares.

    Raises:
        ValueError: If a column is unknown, or its kind.
    """
    for name, kind in labels.items():
        if name not in columns:
            raise ValueError(f"labels declares {name!r}; the table's columns of labels are {columns}")
        if not callable(kind) or (isinstance(kind, type) and kind not in (float, int, str, list)):
            raise ValueError(f"labels[{name!r}] is {kind!r}; expected float, int, str, list, or a function of a cell")


def number_of(cell: str) -> int | float | None:
    """Return a cell's number, or None; digits may be full-width."""
    cell = plain(cell)
    if re.fullmatch(r"[+-]?\d{1,18}", cell, re.ASCII):
        return int(cell)
    try:
        return float(cell) if cell.isascii() and "_" not in cell else None
    except ValueError:
        return None


def plain(cell: str) -> str:
    """Return a cell with the digits of any script, full-width signs and the minus sign as ASCII writes them."""
    return "".join(map(_plain, cell)) if not cell.isascii() else cell


def _plain(char: str) -> str:
    if char == "\N{MINUS SIGN}":
        return "-"
    if unicodedata.decimal(char, None) is not None:
        return str(unicodedata.decimal(char))
    return unicodedata.normalize("NFKC", char) if unicodedata.decomposition(char).startswith("<wide>") else char


def _names(cells: list[str]) -> Column:
    classes = sorted({cell for cell in cells if cell})
    index = {cell: k for k, cell in enumerate(classes)}
    return Column([index.get(cell) for cell in cells], classes)


def _lists(cells: list[str]) -> Column:
    """Split cells into lists: of numbers where all parts are numbers, else of indices of classes."""
    bare = [re.sub(r"""[]['"]""", "", cell) if cell.startswith("[") else cell for cell in cells]  # [3, "a"]
    mark = next((mark for mark in ";；|,，、" if any(mark in cell for cell in bare)), None)
    parts = [[part.strip() for part in cell.split(mark) if part.strip()] for cell in bare] if mark else []
    if not mark:
        words = [cell.split() for cell in bare]
        numeric = all(number_of(part) is not None for row in words for part in row)
        parts = words if numeric else [[cell] if cell else [] for cell in bare]
    found = [[number_of(part) for part in row] for row in parts]
    if all(number is not None and math.isfinite(number) for row in found for number in row):
        return Column([row or None for row in found])
    classes = sorted({part for row in parts for part in row})
    index = {part: k for k, part in enumerate(classes)}
    return Column([[index[part] for part in row] or None for row in parts], classes)


def _call(kind: Callable[[str], Any], name: str, cell: str, line: int) -> Any:
    try:
        value = kind(cell)
    except Exception as error:
        raise ValueError(f"line {line}: {name} is {cell!r}; labels[{name!r}] raises {error!r}") from error
    if value is not None and not (isinstance(value, int | float) and math.isfinite(value)):
        raise ValueError(f"line {line}: {name} is {cell!r}; labels[{name!r}] returns {value!r}; expected a number")
    return value


def _meant_as_numbers(numbers: dict[int, int | float], others: list[int], cells: list[str]) -> bool:
    """Whether a column is one of numbers, or looks as if it should be: by its cells, or by its different cells."""
    if not numbers and not others and not any(cells):
        return True
    if others and all(_AMBIGUOUS.fullmatch(plain(cells[k])) for k in others):
        return True
    return len(numbers) > len(others) or len(set(numbers.values())) > len({cells[k] for k in others})


def _cited(rows: list[int], cells: list[str], lines: list[int], most: int = 3) -> str:
    told = ", ".join(f"{cells[k]!r} (line {lines[k]})" for k in rows[:most])
    return told + (f" and {len(rows) - most} more" if len(rows) > most else "")
