"""Patches against convolutions, sines and cosines against the formula."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mmlearn.nn import PatchEmbedding, TokenEmbedding, patchify, sinusoidal_encoding_nd, unpatchify

SHAPES = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4)), min_size=1, max_size=3)  # (cells, patch) a side


@given(SHAPES, st.integers(1, 3))
@settings(max_examples=30)
def test_patches_put_together_again_are_the_picture(sides: list[tuple[int, int]], channels: int) -> None:
    grid, patch = zip(*sides, strict=True)
    x = torch.randn(2, channels, *(n * p for n, p in sides))
    patches = patchify(x, patch)
    assert patches.shape == (2, math.prod(grid), channels * math.prod(patch))
    assert torch.equal(unpatchify(patches, grid, patch), x)


@given(SHAPES, st.integers(1, 3))
@settings(max_examples=30)
def test_equals_a_convolution_with_kernel_equal_to_stride(sides: list[tuple[int, int]], channels: int) -> None:
    patch = [p for _, p in sides]
    shape = [n * p for n, p in sides]
    embed = PatchEmbedding(shape, patch, 6, channels, positions="none")
    convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(sides) - 1](channels, 6, patch, stride=patch)
    with torch.no_grad():
        convolution.weight.copy_(embed.project.weight.view_as(convolution.weight))
        convolution.bias.copy_(embed.project.bias)
    x = torch.randn(2, channels, *shape)
    assert torch.allclose(embed(x), convolution(x).flatten(2).transpose(1, 2), atol=1e-5)
    assert not embed.positions().any()


@pytest.mark.parametrize(("grid", "dim"), [((5,), 8), ((3, 4), 16), ((2, 3, 4), 14)])
def test_places_against_the_formula(grid: tuple[int, ...], dim: int) -> None:
    codes = sinusoidal_encoding_nd(grid, dim).view(*grid, dim)
    width = dim // (2 * len(grid)) * 2
    widths = [dim - width * (len(grid) - 1)] + [width] * (len(grid) - 1)
    for cell in torch.cartesian_prod(*(torch.arange(n) for n in grid)).view(-1, len(grid)).tolist():
        expected = []
        for place, w in zip(cell, widths, strict=True):
            angles = [place / 10_000 ** (2 * k / w) for k in range(w // 2)]
            expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        assert torch.allclose(codes[tuple(cell)], torch.tensor(expected), atol=1e-5)


def test_waves_are_as_long_as_they_say_and_tell_neighbours_apart() -> None:
    codes = sinusoidal_encoding_nd((7,), 16, None, 3.0, 12.0)  # half sines, half cosines
    for k in range(8):
        length = 3.0 * 4.0 ** (k / 8)
        expected = torch.tensor([math.sin(2 * math.pi * p / length) for p in range(7)])
        assert torch.allclose(codes[:, k], expected, atol=1e-5)
    far, near = (PatchEmbedding((8, 32, 32), (2, 8, 8), 96, positions=kind).positions() for kind in ("sincos", "waves"))
    gap = [torch.cdist(x, x).add(torch.eye(64) * 99).min().item() for x in (far, near)]
    assert gap[1] > 2 * gap[0]


def test_all_places_differ() -> None:
    codes = sinusoidal_encoding_nd((4, 5, 6), 48)
    assert torch.cdist(codes, codes).add(torch.eye(120) * 9).min() > 0.05


@pytest.mark.parametrize("positions", ["learned", "sincos"])
def test_a_smaller_picture_has_the_places_of_the_first_corner(positions: str) -> None:
    embed = PatchEmbedding((8, 12), (2, 4), 8, positions=positions)
    codes = embed.positions().view(4, 3, 8)
    assert torch.allclose(embed.positions((2, 2)).view(2, 2, 8), codes[:2, :2], atol=1e-6)
    x = torch.randn(2, 3, 4, 8)
    expected = embed.project(patchify(x, (2, 4))) + codes[:2, :2].reshape(4, 8)
    assert torch.allclose(embed(x), expected, atol=1e-6)


def test_sincos_knows_no_bound_and_learned_does() -> None:
    assert PatchEmbedding((4, 4), (2, 2), 8, positions="sincos")(torch.randn(1, 3, 8, 8)).shape == (1, 16, 8)
    with pytest.raises(ValueError, match=r"\(4, 4\) places; expected at most \(2, 2\)"):
        PatchEmbedding((4, 4), (2, 2), 8)(torch.randn(1, 3, 8, 8))
    with pytest.raises(ValueError, match=r"\(6,\) places; expected at most \(5,\)"):
        TokenEmbedding(9, 8, length=5)(torch.ones(1, 6, dtype=torch.int64))


def test_tokens_are_looked_up_and_placed() -> None:
    embed, ids = TokenEmbedding(9, 8, length=5), torch.tensor([[3, 3, 0]])
    x = embed(ids)
    assert torch.equal(x[0, 1] - x[0, 0], embed.embed.weight[3] + embed.places.learned[1] - x[0, 0])
    assert torch.equal(x[0, 2], embed.places.learned[2])  # token 0 is nothing
    assert torch.allclose(TokenEmbedding(9, 8, positions="sincos")(ids * 0)[0], sinusoidal_encoding_nd((3,), 8))


def test_under_autocast_steps_are_half_as_wide() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert PatchEmbedding((4, 4), (2, 2), 8)(torch.randn(1, 3, 4, 4)).dtype == torch.bfloat16
        assert TokenEmbedding(9, 8)(torch.ones(1, 3, dtype=torch.int64)).dtype == torch.bfloat16


def test_errors_name_what_was_found() -> None:
    with pytest.raises(ValueError, match=r"shape is \(5, 4\); expected multiples of the patch's, \(2, 2\)"):
        PatchEmbedding((5, 4), (2, 2), 8)
    with pytest.raises(ValueError, match=r"shape is \(4, 4\)"):
        PatchEmbedding((4, 4), (2, 2, 2), 8)
    with pytest.raises(ValueError, match=r"x has sides \(5, 4\)"):
        PatchEmbedding((4, 4), (2, 2), 8)(torch.randn(1, 3, 5, 4))
    with pytest.raises(ValueError, match=r"x has sides \(4, 4, 4\)"):
        PatchEmbedding((4, 4), (2, 2), 8)(torch.randn(1, 3, 4, 4, 4))
    with pytest.raises(ValueError, match="positions is 'none at all'"):
        PatchEmbedding((4, 4), (2, 2), 8, positions="none at all")
    with pytest.raises(ValueError, match="dim is 5"):
        sinusoidal_encoding_nd((2,), 5)
    with pytest.raises(ValueError, match="dim is 4; expected an even number, at least 6"):
        sinusoidal_encoding_nd((2, 2, 2), 4)
