"""What tells steps apart: when they happen.

Chapter: fusion/attention.
"""

import math

import torch
from torch import Tensor


def time_encoding(seconds: Tensor, dim: int, shortest: float = 0.1, longest: float = 100.0) -> Tensor:
    """Write times as sines and cosines of many wavelengths (Vaswani et al. 2017, section 3.5), on a clock in seconds.

    Two streams with different numbers of steps a second get like codes for like moments.

    Args:
        seconds: (N,), times.
        dim: Width D of the code, even.
        shortest: Shortest wavelength, in seconds.
        longest: Longest wavelength, in seconds.

    Returns:
        (N, D), half sines, half cosines.

    Raises:
        ValueError: If `dim` is odd.

    Chapter: fusion/attention.
    """
    if dim % 2:
        raise ValueError(f"dim is {dim}; expected an even number: each wavelength takes a sine and a cosine")
    steps = torch.arange(dim // 2, device=seconds.device) / max(dim // 2 - 1, 1)  # (D/2,) from 0 to 1
    wavelengths = shortest * (longest / shortest) ** steps
    phase = 2 * math.pi * seconds[:, None] / wavelengths  # (N, D/2)
    return torch.cat([phase.sin(), phase.cos()], dim=-1)
