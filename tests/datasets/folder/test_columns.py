"""Cells as labels: numbers, classes, lists; what is missing, and what is refused because it could mean two things."""

from typing import Any

import pytest

from mmlearn.datasets.folder.columns import check_declared, read_column


def column(cells: list[str], kind: Any = None) -> Any:
    return read_column("score", cells, list(range(2, 2 + len(cells))), kind)


@pytest.mark.parametrize(
    "word", ["NA", "n/a", "#N/A", "-", "—", "None", "null", "NULL", "?", "nan", "empty", "无", "缺失", "未知"]
)
def test_words_for_missing_are_empty_cells_among_numbers_and_are_named(word: str) -> None:
    found = column(["1.5", word, "2.5", ""])
    assert found.values == [1.5, None, 2.5, None] and found.classes is None
    (note,) = found.notes
    assert f"1 of 4 cells count as missing: {word!r} (line 3)" in note


def test_one_number_among_placeholders_is_still_a_column_of_numbers() -> None:
    assert column(["-", "-", "3", "-"]).values == [None, None, 3, None]
    assert column(["", "4", ""]).notes == []


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["１.５", "2"], [1.5, 2.0]),
        (["１２", "１３"], [12, 13]),
        (["−3", "＋4"], [-3, 4]),  # minus sign, full-width plus
        (["٣", "४"], [3, 4]),
        (["+1", "-2", "0"], [1, -2, 0]),
        ([".5", "1e3"], [0.5, 1000.0]),
        (["0.5", "0", "-0"], [0.5, 0.0, 0.0]),
    ],
)
def test_numbers_of_any_script(cells: list[str], values: list[float]) -> None:
    found = column(cells)
    assert found.values == values and found.classes is None and not found.notes
    assert [type(value) for value in found.values] == [type(value) for value in values]


@pytest.mark.parametrize(
    "cells",
    [
        ["x", "y"],
        ["1_0", "2_5"],
        ["½", "1"],
        ["²", "1"],
        ["1e400", "x"],
        ["3d", "2d"],
        ["cat", "1"],
        ["True", "False"],
        ["10:30", "11:00"],
        ["2024-01-02", "x"],
    ],
)
def test_names_are_classes(cells: list[str]) -> None:
    found = column(cells)
    assert found.classes == sorted(cells) and [found.classes[k] for k in found.values] == cells and not found.notes


@pytest.mark.parametrize(
    ("cells", "named"),
    [
        (["1,200", "950", "875", "900"], "'1,200' (line 2)"),
        (["1,5", "2,5"], "'1,5' (line 2), '2,5' (line 3)"),
        (["12%", "15%", "7"], "'12%' (line 2), '15%' (line 3)"),
        (["1 200", "950"], "'1 200' (line 2)"),
        (["€3", "4"], "'€3' (line 2)"),
        (["１２％"], "'１２％' (line 2)"),
        (["1", "2", "3", "4a"], "'4a' (line 5)"),
        (["1", "2", "n.d.", "n.d.", "n.d."], "'n.d.' (line 4), 'n.d.' (line 5), 'n.d.' (line 6)"),  # many, but one word
        (["0.1", "0.2", "high", "NA"], "'high' (line 4)"),
        ([*"123456", "a", "b", "c", "d"], "'c' (line 10) and 1 more"),
    ],
)
def test_what_may_be_a_number_is_refused_with_line_and_cell(cells: list[str], named: str) -> None:
    with pytest.raises(ValueError, match=r"column score: not a number") as error:
        column(cells)
    assert named in str(error.value) and "labels={'score': str}" in str(error.value)
    assert column(cells, str).classes == sorted(set(cells))  # what the message advises works


def test_leading_zeros_make_names_and_a_declaration_makes_numbers() -> None:
    found = column(["007", "1", "010"])
    assert found.classes == ["007", "010", "1"] and "labels={'score': float}" in found.notes[0]
    assert column(["007", "1"], float).values == [7.0, 1.0] and column(["007", "1"], int).values == [7, 1]
    assert column(["007", "x"]).classes == ["007", "x"]


def test_a_word_for_missing_among_names_is_a_class_and_said() -> None:
    assert "'NA' (line 3) count as names of classes" in column(["cat", "NA", "dog"]).notes[0]
    assert column(["jump", "none"]).notes == [] and column(["cat", "NA"], str).notes == []


def test_declared_kinds() -> None:
    assert column(["1", "2", "", "NA"], float).values == [1.0, 2.0, None, None]
    assert column(["NA", ""], float).values == [None, None]  # and no classes
    assert column(["3.0"], int).values == [3] and isinstance(column(["3.0"], int).values[0], int)
    with pytest.raises(ValueError, match=r"line 2: score is '1.5'; expected a whole number"):
        column(["1.5"], int)
    with pytest.raises(ValueError, match=r"'x' \(line 3\)"):
        column(["1", "x"], float)
    with pytest.raises(ValueError, match=r"line 2: score is 'inf'"):
        column(["inf"], float)
    assert column(["3 5 7", "2", ""], list).values == [[3, 5, 7], [2], None]
    assert column(["[3, 5]", "[2]"], list).values == [[3, 5], [2]]
    lists = column(["run; high jump", "run", ""], list)
    assert lists.classes == ["high jump", "run"] and lists.values == [[1, 0], [1], None]
    assert column(["high jump", "run"], list).values == [[0], [1]]
    assert column(["1,200", ""], lambda cell: float(cell.replace(",", ""))).values == [1200.0, None]
    for function in (lambda cell: 1 / 0, lambda cell: cell, lambda cell: float("nan")):
        with pytest.raises(ValueError, match="line 2: score is 'x'; labels"):
            column(["x"], function)


def test_declarations_are_checked() -> None:
    check_declared({"a": float, "b": len}, ["a", "b"])
    with pytest.raises(ValueError, match=r"labels declares 'c'; the table's columns of labels are \['a', 'b'\]"):
        check_declared({"c": float}, ["a", "b"])
    for kind in ("float", bool, dict, None):
        with pytest.raises(ValueError, match="expected float, int, str, list, or a function"):
            check_declared({"a": kind}, ["a"])  # type: ignore[dict-item]
