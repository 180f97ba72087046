"""mmlearn.preprocessing.text.normalize: idempotent, character by character, by rule."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlearn.preprocessing.text import normalize
from tests.preprocessing.text.conftest import TEXTS


@settings(max_examples=400)
@given(TEXTS, st.booleans())
def test_normalising_twice_is_normalising_once(text: str, lower: bool) -> None:
    once = normalize(text, lower=lower)
    assert normalize(once, lower=lower) == once
    assert once.encode("utf-8").decode("utf-8") == once  # no surrogate is left
    assert once == once.strip() and "  " not in once
    assert not any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in once)
    assert unicodedata.is_normalized("NFKC", once)


def test_every_character_by_itself() -> None:
    for lower in (False, True):
        numbers = [*range(0x33480), *range(0xE0000, 0xE1000)]  # beyond these, planes are empty or private
        text = "\n".join("a" + chr(number) + "三" for number in numbers)  # \n, so that none meets another
        once = normalize(text, lower=lower)
        assert normalize(once, lower=lower) == once


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        (" \t\r\n\u3000", ""),
        ("三座　红色的山，\n向上！", "三座 红色的山, 向上!"),
        ("３座Ｒｅｄ山（１００％）", "3座Red山(100%)"),
        ("「红」『绿』“蓝”‘黄’", '"红""绿""蓝"\'黄\''),
        ("他说：——好。山、水，3。5 《诗》", "他说:--好。山、水,3。5 《诗》"),
        ("ｶﾞ①½Ω…", "ガ11⁄2Ω..."),
        ("👩\u200d🚀👍🏽🇨🇳", "👩\u200d🚀👍🏽🇨🇳"),
        ("北\u200d京\u200b\ufeff\u00ad", "北京"),
        ("a\x00b\x07c\x1b[0m", "abc[0m"),
        ("\ud83d\ude00", "😀"),
        ("山\ud83d水\ude00", "山\ufffd水\ufffd"),
        ("紅色的門", "紅色的門"),
    ],
)
def test_rules_of_normalising(text: str, expected: str) -> None:
    assert normalize(text) == expected


def test_small_letters() -> None:
    assert normalize("Two T恤 ＡＢＣ", lower=True) == "two t恤 abc"
