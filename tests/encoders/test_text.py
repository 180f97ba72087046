"""mmlearn.encoders.text: token encoders: padding changes nothing."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlearn.encoders import TextEncoder


@given(st.integers(1, 12), st.integers(0, 9))
@settings(max_examples=20)
def test_text_padding_changes_nothing(length: int, padding: int) -> None:
    torch.manual_seed(0)
    encoder = TextEncoder(30, dim=8).eval()
    ids = torch.randint(1, 30, (1, length))
    padded = torch.nn.functional.pad(ids, (0, padding), value=7)
    mask = (torch.arange(length + padding) < length)[None]
    assert torch.allclose(encoder(padded, mask), encoder(ids), atol=1e-5)
