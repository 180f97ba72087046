"""Kinds of strokes against the stroke orders that dictionaries print."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mmlearn.datasets.hanzi.download import HanziSources, find_hanzi
from mmlearn.datasets.hanzi.grammar import ALPHABET
from mmlearn.datasets.hanzi.strokes import KINDS, stroke_kind, stroke_sequence

# Stroke orders as in the standard GF 0014-2009, written down from it by hand: 1 横, 2 竖, 3 撇, 4 捺, 5 折.
DICTIONARY = {
    "一": "1", "二": "11", "三": "111", "四": "25351", "五": "1251", "六": "4134", "七": "15", "八": "34",
    "九": "35", "十": "12", "红": "551121", "绿": "55151124134", "蓝": "1222231425221", "黄": "12212512134",
    "上": "211", "下": "124", "左": "13121", "右": "13251", "山": "252", "水": "2534", "火": "4334", "木": "1234",
    "日": "2511", "月": "3511", "人": "34", "马": "551", "鸟": "35451", "花": "1223235", "云": "1154",
    "鱼": "35251211", "几": "35", "色": "355215", "向": "325251", "物": "31213533",
}  # fmt: skip


def test_every_character_of_the_course_is_written_as_the_dictionary_says() -> None:
    sources = find_hanzi()
    if sources is None:
        pytest.skip("no stroke data on this machine")
    assert set(DICTIONARY) == set(ALPHABET)
    for char, order in DICTIONARY.items():
        expected = "".join(KINDS[int(digit) - 1] for digit in order)
        assert stroke_sequence(char, sources.strokes) == expected, char


@pytest.mark.parametrize(
    ("knots", "kind"),
    [
        ([(0, 0), (4, 0)], "横"),
        ([(0, 1), (4, -2)], "横"),  # 提
        ([(0, 0), (0, 4)], "竖"),
        ([(0, 0), (0, 4), (-0.5, 3.8)], "竖"),  # 竖钩
        ([(2, 0), (2, 2), (0, 4)], "撇"),
        ([(0, 0), (3, 3), (4, 3.2)], "捺"),
        ([(0, 0), (3, 0), (3, 3)], "折"),
        ([(0, 0), (0, 3), (3, 3), (3, 2.5)], "折"),
    ],
)
def test_drawn_strokes(knots: list[tuple[float, float]], kind: str) -> None:
    assert stroke_kind(np.array(knots, float)) == kind
    dense = np.concatenate([np.linspace(a, b, 7) for a, b in pairwise(knots)])
    assert stroke_kind(dense * 0.1) == kind  # neither size nor number of knots matters


def test_a_text_is_its_characters_one_after_another(toy_sources: HanziSources) -> None:
    one, two = (stroke_sequence(char, toy_sources.strokes) for char in ALPHABET[:2])
    assert stroke_sequence(ALPHABET[:2], toy_sources.strokes) == one + two
    assert set(one + two) == {"横"}  # the toy's strokes are bars
    assert stroke_sequence("", toy_sources.strokes) == ""


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two different points"):
        stroke_kind(np.array([[1.0, 1.0], [1.0, 1.0]]))
    with pytest.raises(FileNotFoundError, match="no stroke data for '龙'"):
        stroke_sequence("龙", tmp_path)
