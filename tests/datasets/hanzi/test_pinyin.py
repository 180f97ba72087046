"""Readings: checked against hand-written ones, and pinyin against zhuyin for every character."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmlearn.datasets.hanzi.pinyin import pinyin_of, zhuyin_of


@pytest.mark.parametrize(
    ("char", "pinyin", "zhuyin"),
    [
        ("红", "hóng", "ㄏㄨㄥ2"),  # second tone
        ("一", "yī", "ㄧ"),  # first tone: no digit
        ("五", "wǔ", "ㄨ3"),
        ("绿", "lǜ", "ㄌㄩ4"),  # ü
        ("吗", "ma", "ㄇㄚ1"),  # neutral tone
        ("二", "èr", "ㄦ4"),
        ("十", "shí", "ㄕ2"),  # no vowel letter
        ("月", "yuè", "ㄩㄝ4"),
    ],
)
def test_known_readings(char: str, pinyin: str, zhuyin: str) -> None:
    assert pinyin_of(char) == pinyin
    assert zhuyin_of(char) == zhuyin


@pytest.mark.parametrize("char", ["A", "7", "。", " ", "ㄏ"])
def test_no_reading_is_none(char: str) -> None:
    assert pinyin_of(char) is None
    assert zhuyin_of(char) is None


@pytest.mark.parametrize("text", ["", "红绿"])
@pytest.mark.parametrize("function", [pinyin_of, zhuyin_of])
def test_more_or_less_than_one_character_is_refused(function: object, text: str) -> None:
    with pytest.raises(ValueError, match=f"char: found '{text}'"):
        function(text)  # type: ignore[operator]


@given(st.integers(0x4E00, 0x9FFF).map(chr))
def test_zhuyin_is_letters_then_at_most_one_tone_digit(char: str) -> None:
    zhuyin, pinyin = zhuyin_of(char), pinyin_of(char)
    assert (zhuyin is None) == (pinyin is None)
    if zhuyin is not None and pinyin is not None:
        assert re.fullmatch("[ㄅ-ㄯㆠ-ㆿ]+[1-4]?", zhuyin)
        tones = {"̄": "", "́": "2", "̌": "3", "̀": "4"}
        marks = [tones[m] for m in unicodedata.normalize("NFD", pinyin) if m in tones]
        assert re.sub("[^1-4]", "", zhuyin) == (marks[0] if marks else "1")
