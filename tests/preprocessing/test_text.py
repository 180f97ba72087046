"""Vocabulary: there and back, and unknown characters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmlearn.preprocessing.text import Vocabulary


@given(st.text(min_size=1))
def test_decode_undoes_encode(text: str) -> None:
    assert Vocabulary([text]).decode(Vocabulary([text]).encode(text)) == text


def test_unknown_characters_are_marked() -> None:
    vocabulary = Vocabulary(["红色", "山"])
    assert len(vocabulary) == 5
    assert vocabulary.decode(vocabulary.encode("红马")) == "红□"
    assert vocabulary.encode("").tolist() == [Vocabulary.UNKNOWN]
    assert vocabulary.decode([0, 0]) == ""
    with pytest.raises(ValueError, match="no character"):
        Vocabulary([""])
