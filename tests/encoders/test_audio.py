"""mmlearn.encoders.audio: log-mel encoders: padding changes nothing."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlearn.encoders import AudioEncoder


@given(st.integers(1, 30), st.integers(0, 9))
@settings(max_examples=20)
def test_audio_padding_changes_nothing(length: int, padding: int) -> None:
    torch.manual_seed(0)
    encoder = AudioEncoder(num_mels=5, dim=8, width=4).eval()
    mel = torch.randn(1, 5, length)
    padded = torch.cat([mel, torch.randn(1, 5, padding)], dim=-1)
    mask = (torch.arange(length + padding) < length)[None]
    assert torch.allclose(encoder(padded, mask), encoder(mel, mask[:, :length]), atol=1e-5)
    assert torch.allclose(encoder(mel), encoder(mel, mask[:, :length]), atol=1e-5)
