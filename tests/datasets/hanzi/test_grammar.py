import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmlearn.datasets.hanzi import grammar


def draw(seed: int, length: int) -> grammar.Sentence:
    return grammar.draw_sentence(np.random.default_rng(seed), length, grammar.NUMBERS[seed % 10])


@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_sentences_name_their_number_and_nothing_twice(seed: int, length: int) -> None:
    sentence = draw(seed, length)
    characters = sentence.characters()
    assert len(characters) == length
    assert sentence.number in characters
    assert len(set(characters)) == length
    assert set(characters) <= set(grammar.ALPHABET)


def test_about_thirty_characters_each_in_one_class_only() -> None:
    characters = [c for names in grammar.CLASSES.values() for c in names]
    assert 28 <= len(characters) == len(set(characters)) <= 36
    assert not set(characters) & set(grammar.NEUTRAL.values())


def test_three_characters_alternate_between_colour_and_direction() -> None:
    templates = {draw(seed, 3).template for seed in range(40)}
    assert templates == {("number", "colour", "thing"), ("direction", "number", "thing")}


@given(st.integers(0, 10_000), st.integers(2, 5), st.sampled_from(list(grammar.NEUTRAL)))
def test_a_hidden_factor_is_replaced_by_its_neutral_character(seed: int, length: int, factor: str) -> None:
    sentence = draw(seed, length)
    characters = sentence.characters(hide=[factor])
    assert not set(characters) & set(grammar.CLASSES[factor])
    assert len(characters) == length
    assert (grammar.NEUTRAL[factor] in characters) == (factor in sentence.template)


def test_another_number_can_be_named() -> None:
    sentence = grammar.Sentence(("number", "colour", "thing"), "三", "红", "上", "山", "水")
    assert sentence.characters() == "三红山"
    assert sentence.characters(number="九") == "九红山"


@given(st.integers(0, 10_000), st.integers(2, 5))
def test_captions_tell_every_factor_in_both_languages(seed: int, length: int) -> None:
    s = draw(seed, length)
    rng = np.random.default_rng(seed)
    chinese = grammar.caption(rng, s, "zh")
    value = grammar.NUMBERS.index(s.number) + 1
    assert any(word in chinese for word in (s.number, "两" if value == 2 else s.number, str(value)))
    assert any(word in chinese for word in grammar.COLOR_WORDS[s.colour][0])
    assert any(word in chinese for word in grammar.DIRECTION_WORDS[s.direction][0])
    assert any(word in chinese for word in grammar.THINGS[s.thing].words)
    english = grammar.caption(rng, s, "en").split()
    assert grammar.NUMBER_WORDS[value - 1] in english
    assert any(word in " ".join(english) for word in grammar.COLOR_WORDS[s.colour][1])
    assert any(word in " ".join(english) for word in grammar.DIRECTION_WORDS[s.direction][1])


@pytest.mark.parametrize("factor", grammar.NEUTRAL)
def test_captions_keep_a_hidden_factor_to_themselves(factor: str) -> None:
    words = {
        "number": [*grammar.NUMBERS, "两", *"123456789", *(f"{n} " for n in grammar.NUMBER_WORDS)],
        "colour": [w for pair in grammar.COLOR_WORDS.values() for synonyms in pair for w in synonyms],
        "direction": [w for pair in grammar.DIRECTION_WORDS.values() for w in (*pair[0], f" {pair[1][0]}")],
        "thing": [w for thing in grammar.THINGS.values() for w in (*thing.measures[:0], *thing.words, thing.many)],
    }[factor]
    for seed in range(300):
        text = grammar.caption(np.random.default_rng(seed), draw(seed, 5), "both", hide=[factor])
        assert not [word for word in words if word in text], text


def test_two_before_a_measure_word_is_liang() -> None:
    sentence = grammar.Sentence(("number", "thing"), "二", "红", "上", "山", "水")
    texts = {grammar.caption(np.random.default_rng(seed), sentence) for seed in range(60)}
    assert any("两座" in text for text in texts)
    assert not any("二" in text for text in texts)


def test_one_thing_is_singular_in_english() -> None:
    sentence = grammar.Sentence(("number", "thing"), "一", "红", "上", "人", "水")
    text = grammar.caption(np.random.default_rng(0), sentence, "en")
    assert "person" in text and "people" not in text


def test_captions_vary() -> None:
    sentence = draw(0, 3)
    assert len({grammar.caption(np.random.default_rng(seed), sentence) for seed in range(100)}) > 60


@given(st.integers(0, 10_000))
def test_masking_everything_leaves_no_letter(seed: int) -> None:
    text = grammar.caption(np.random.default_rng(seed), draw(seed, 4), "both")
    masked = grammar.mask_text(np.random.default_rng(seed), text, 1.0)
    assert not any(c.isalnum() for c in masked)
    assert masked.count("□") == len(re.findall("[a-z]+|[0-9]+|[一-龥]", text))


def test_masking_nothing_changes_nothing_and_some_about_the_rate() -> None:
    text = "看，3座红色的山，向上移动 look, three red mountains " * 200
    assert grammar.mask_text(np.random.default_rng(0), text, 0.0) == text
    assert grammar.mask_text(np.random.default_rng(0), "three red hills", 1.0) == "□ □ □"
    masked = grammar.mask_text(np.random.default_rng(0), text, 0.3)
    units = 200 * (11 + 4)  # 看3座红色的山向上移动, and four English words
    assert masked.count("□") / units == pytest.approx(0.3, abs=0.03)
