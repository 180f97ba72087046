"""Times as sines and cosines."""

import pytest
import torch

from mmlearn.nn import sinusoidal_encoding


def test_by_hand() -> None:
    code = sinusoidal_encoding(torch.tensor([0.0, 0.05, 0.25]), 4, shortest=0.1, longest=1.0)
    expected = [[0, 0, 1, 1], [0, 0.309017, -1, 0.951057], [0, 1, -1, 0]]  # wavelengths 0.1 s and 1 s
    assert torch.allclose(code, torch.tensor(expected), atol=1e-5)


def test_like_moments_have_like_codes_whatever_the_rate() -> None:
    fast, slow = sinusoidal_encoding(torch.arange(100) / 100, 32), sinusoidal_encoding(torch.arange(25) / 25, 32)
    assert torch.allclose(fast[::4], slow, atol=1e-4)
    likeness = slow @ fast.T  # (25, 100)
    assert torch.equal(likeness.argmax(dim=1), torch.arange(25) * 4)


def test_odd_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="dim is 5"):
        sinusoidal_encoding(torch.zeros(1), 5)
