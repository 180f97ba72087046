"""From pictures, clips, spectrograms and sentences to steps that a Transformer takes: (B, N, D).

Chapter: pretraining/masked.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from mmlearn.nn.embeddings import WAVELENGTHS, sinusoidal_encoding_nd

Positions = Literal["learned", "sincos", "waves", "none"]


def patchify(x: Tensor, patch: Sequence[int]) -> Tensor:
    """Cut a picture, a clip or a spectrogram into patches that do not overlap.

    Args:
        x: (B, C, …sides), with as many sides as `patch` has: (H, W) for a picture, (T, H, W) for a clip.
        patch: Sides of a patch.

    Returns:
        (B, N, C * product of `patch`). Patches are numbered along the last side first; a patch's numbers are ordered
        (C, …patch), as the weights of a convolution.

    Raises:
        ValueError: If a side is no multiple of its patch's.

    Chapter: pretraining/masked.

    Examples:
        >>> patchify(torch.zeros(2, 3, 8, 32, 32), (2, 8, 8)).shape  # 4 · 4 · 4 patches of 3 · 2 · 8 · 8 numbers
        torch.Size([2, 64, 384])
    """
    sides, axes = x.shape[2:], len(patch)
    if len(sides) != axes or any(side % p for side, p in zip(sides, patch, strict=True)):
        raise ValueError(f"x has sides {tuple(sides)}; expected multiples of the patch's, {tuple(patch)}")
    split = [part for side, p in zip(sides, patch, strict=True) for part in (side // p, p)]
    x = x.reshape(*x.shape[:2], *split)  # (B, C, n₁, p₁, n₂, p₂, …)
    x = x.permute(0, *range(2, 2 + 2 * axes, 2), 1, *range(3, 3 + 2 * axes, 2))  # (B, n₁, n₂, …, C, p₁, p₂, …)
    return x.flatten(1 + axes).flatten(1, axes)


def unpatchify(patches: Tensor, grid: Sequence[int], patch: Sequence[int]) -> Tensor:
    """Put patches (B, N, C * product of `patch`) together again: (B, C, …sides); the inverse of `patchify`.

    Args:
        patches: As `patchify` returns them.
        grid: Number of patches along each side.
        patch: Sides of a patch.

    Chapter: pretraining/masked.

    Examples:
        >>> x = torch.rand(1, 3, 4, 4)
        >>> torch.equal(unpatchify(patchify(x, (2, 2)), (2, 2), (2, 2)), x)
        True
    """
    axes = len(grid)
    x = patches.reshape(len(patches), *grid, -1, *patch)  # (B, n₁, n₂, …, C, p₁, p₂, …)
    pairs = [axis for number in range(axes) for axis in (1 + number, 2 + axes + number)]
    x = x.permute(0, 1 + axes, *pairs)  # (B, C, n₁, p₁, n₂, p₂, …)
    return x.reshape(*x.shape[:2], *(n * p for n, p in zip(grid, patch, strict=True)))


class PatchEmbedding(nn.Module):
    """Map each patch of a picture (Dosovitskiy et al. 2021), a clip (Arnab et al. 2021) or a spectrogram to a step.

    A convolution whose kernel equals its stride, written as what it is: one matrix product. So patches can also be
    chosen before it: `embed.project(patches[kept]) + embed.positions()[kept]` costs only what is kept.

    Args:
        shape: Sides of the input: (H, W), or (T, H, W).
        patch: Sides of a patch; they divide the input's.
        dim: Width D of a step.
        channels: Channels C of the input.
        positions: "learned" for one vector a place, "sincos" for `sinusoidal_encoding_nd`, "waves" for the same with
            the short `WAVELENGTHS`, for small grids; "none" where RoPE tells places apart.

    Raises:
        ValueError: If a side is no multiple of its patch's.

    Chapter: pretraining/masked.
    """

    def __init__(
        self,
        shape: Sequence[int],
        patch: Sequence[int],
        dim: int,
        channels: int = 3,
        positions: Positions = "learned",
    ) -> None:
        super().__init__()
        if len(shape) != len(patch) or any(side % p for side, p in zip(shape, patch, strict=True)):
            raise ValueError(f"shape is {tuple(shape)}; expected multiples of the patch's, {tuple(patch)}")
        self.patch = tuple(patch)
        self.grid = tuple(side // p for side, p in zip(shape, patch, strict=True))
        self.dim = dim
        self.project = nn.Linear(channels * math.prod(patch), dim)
        self.places = _Places(self.grid, dim, positions)

    def forward(self, x: Tensor) -> Tensor:
        """Embed x (B, C, …sides) as steps (B, N, D), patch by patch.

        The sides may differ from `shape`: any size with "sincos", smaller ones with "learned", which takes the places
        from the first corner on.

        Raises:
            ValueError: If a side is no multiple of its patch's, or too long for learned positions.
        """
        grid = [side // p for side, p in zip(x.shape[2:], self.patch, strict=False)]
        return self.places(self.project(patchify(x.to(self.project.weight.dtype), self.patch)), grid)

    def positions(self, grid: Sequence[int] | None = None) -> Tensor:
        """Return what is added to each step: (N, D), for a grid of patches, by default that of `shape`."""
        return self.places.codes(self.grid if grid is None else grid, self.project.weight.device)


class TokenEmbedding(nn.Module):
    """Look up a vector for each token, and add its place's.

    Args:
        num_tokens: Size of the vocabulary. Token 0 is padding.
        dim: Width D of a step.
        length: Most tokens of a sentence; "sincos" and "none" know no bound.
        positions: As in `PatchEmbedding`.

    Chapter: pretraining/masked.
    """

    def __init__(self, num_tokens: int, dim: int, length: int = 128, positions: Positions = "learned") -> None:
        super().__init__()
        self.embed = nn.Embedding(num_tokens, dim, padding_idx=0)
        with torch.no_grad():  # as small as the places' codes
            self.embed.weight.mul_(0.02)
        self.places = _Places((length,), dim, positions)

    def forward(self, ids: Tensor) -> Tensor:
        """Embed ids (B, L) as steps (B, L, D), under autocast in its precision, as a linear layer's.

        Raises:
            ValueError: If there are more tokens than learned positions.
        """
        x = self.embed(ids)  # (B, L, D)
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        return self.places(x, ids.shape[1:])


class _Places(nn.Module):
    """Add to steps (B, N, D) what tells their places apart."""

    def __init__(self, grid: Sequence[int], dim: int, kind: Positions) -> None:
        super().__init__()
        if kind not in ("learned", "sincos", "waves", "none"):
            raise ValueError(f"positions is {kind!r}; expected 'learned', 'sincos', 'waves' or 'none'")
        self.dim, self.kind = dim, kind
        self.learned = nn.Parameter(0.02 * torch.randn(*grid, dim)) if kind == "learned" else None

    def forward(self, x: Tensor, grid: Sequence[int]) -> Tensor:
        if self.kind == "none":
            return x
        return x + self.codes(grid, x.device).to(x.dtype)  # x keeps its precision

    def codes(self, grid: Sequence[int], device: torch.device) -> Tensor:
        """Return (N, D) for a grid."""
        if self.kind == "none":
            return torch.zeros(math.prod(grid), self.dim, device=device)
        if self.learned is None:
            return sinusoidal_encoding_nd(grid, self.dim, device, *(WAVELENGTHS if self.kind == "waves" else ()))
        if any(count > most for count, most in zip(grid, self.learned.shape, strict=False)):
            raise ValueError(f"{tuple(grid)} places; expected at most {tuple(self.learned.shape[:-1])}, as learned")
        return self.learned[tuple(slice(count) for count in grid)].flatten(0, -2)  # (…grid, D) → (N, D)
