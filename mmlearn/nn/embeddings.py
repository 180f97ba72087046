"""What tells steps apart: when they happen, or where they are.

Chapters: fusion/attention, pretraining/masked.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

WAVELENGTHS = (2.0, 20.0)  # in cells: with these `sinusoidal_encoding_nd` distinguishes neighbours


def sinusoidal_encoding(seconds: Tensor, dim: int, shortest: float = 0.1, longest: float = 100.0) -> Tensor:
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

    Examples:
        >>> sinusoidal_encoding(torch.tensor([0.0, 0.5]), 8).shape
        torch.Size([2, 8])
    """
    if dim % 2:
        raise ValueError(f"dim is {dim}; expected an even number: each wavelength takes a sine and a cosine")
    steps = torch.arange(dim // 2, device=seconds.device) / max(dim // 2 - 1, 1)  # (D/2,) from 0 to 1
    wavelengths = shortest * (longest / shortest) ** steps
    phase = 2 * math.pi * seconds[:, None] / wavelengths  # (N, D/2)
    return torch.cat([phase.sin(), phase.cos()], dim=-1)


def sinusoidal_encoding_nd(
    grid: Sequence[int],
    dim: int,
    device: torch.device | str | None = None,
    shortest: float = 2 * math.pi,
    longest: float = 20_000 * math.pi,
) -> Tensor:
    """Write the places of a grid's cells as sines and cosines (Vaswani et al. 2017), for one axis or several.

    Each axis has a part of the code to itself, as in MAE (He et al. 2022). In a part of width w, place p becomes
    `sin(p ω_k)` and then `cos(p ω_k)`, k = 0 … w/2 - 1. By default `ω_k = 10000^(-2k / w)`: most of these waves are so
    long that neighbours on a small grid have nearly equal codes. `WAVELENGTHS`, 2 to 20 cells, distinguish them.

    Args:
        grid: Number of cells along each axis, e.g. (H, W) or (T, H, W).
        dim: Width D of the code, even. The axes share it; what is left over goes to the first one.
        device: Where to.
        shortest: Shortest wavelength, in cells.
        longest: Where the wavelengths end, in cells: wave k has `shortest · (longest / shortest)^(2k / w)`.

    Returns:
        (N, D), N = product of `grid`; the last axis runs fastest.

    Raises:
        ValueError: If `dim` is odd, or too small for that many axes.

    Chapter: pretraining/masked.

    Examples:
        >>> sinusoidal_encoding_nd((4, 4), 16).shape
        torch.Size([16, 16])
    """
    axes = len(grid)
    width = dim // (2 * axes) * 2  # of each axis but the first
    if dim % 2 or width == 0:
        raise ValueError(f"dim is {dim}; expected an even number, at least {2 * axes}: 2 for each of {axes} axes")
    parts = []
    for axis, count in enumerate(grid):
        half = (width if axis else dim - (axes - 1) * width) // 2
        speed = 2 * math.pi / shortest * (longest / shortest) ** (-torch.arange(half, device=device) / half)  # (w/2,)
        phase = torch.arange(count, device=device)[:, None] * speed  # (cells, w/2)
        code = torch.cat([phase.sin(), phase.cos()], dim=-1)  # (cells, w)
        shape = [count if other == axis else 1 for other in range(axes)]
        parts.append(code.view(*shape, -1).expand(*grid, -1))
    return torch.cat(parts, dim=-1).flatten(0, -2)  # (…grid, D) → (N, D)


def rope_angles(positions: Tensor, head_dim: int, longest: float = 10_000.0) -> Tensor:
    """Return the angles by which rotary positions turn queries and keys (RoPE, Su et al. 2021, equation 15).

    Args:
        positions: (N,), or (B, N) where samples differ; whole numbers or not, e.g. seconds.
        head_dim: Width of a head, even.
        longest: Pair k turns by `longest^(-2k / head_dim)` a position.

    Returns:
        float32 (N, head_dim / 2) or (B, N, head_dim / 2).

    Raises:
        ValueError: If `head_dim` is odd.

    Chapter: pretraining/masked.
    """
    if head_dim % 2:
        raise ValueError(f"head_dim is {head_dim}; expected an even number: it is turned pair by pair")
    half = head_dim // 2
    speed = longest ** (-torch.arange(half, device=positions.device) / half)  # (head_dim/2,)
    return positions.float()[..., None] * speed


def apply_rope(x: Tensor, angles: Tensor) -> Tensor:
    """Turn each pair (k, k + head_dim / 2) of a query or key by its angle; then a product of two sees their distance.

    The paper pairs neighbours, 2k and 2k + 1: the same but for the order of the numbers. Halves are quicker.

    Args:
        x: (B, N, heads, head_dim).
        angles: From `rope_angles`, (N, head_dim / 2) or (B, N, head_dim / 2).

    Chapter: pretraining/masked.
    """
    a, b = x.chunk(2, dim=-1)  # (B, N, heads, head_dim/2)
    cos, sin = angles.cos().unsqueeze(-2), angles.sin().unsqueeze(-2)  # (…, N, 1, head_dim/2)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(x.dtype)
