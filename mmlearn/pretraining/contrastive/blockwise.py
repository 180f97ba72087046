"""The softmax of a contrastive loss, both ways, without the B × B matrix of similarities ever in memory.

The loss needs two sums of exponentials: one for each row of the matrix, one for each column. A strip of rows gives
both: its own rows' sums whole, and a part of every column's. So one strip at a time is enough, forwards and, since a
product is cheaper than memory, backwards again: four matrix products in all, and memory that grows linearly.

Chapter: pretraining/contrastive.
"""

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmlearn.nn.functional import at_least_float32

OUT = torch.finfo(torch.float32).min / 2  # its exponential is zero; -inf would give NaN where all are left out


def two_way_logsumexp(
    a: Tensor,
    b: Tensor,
    scale: Tensor,
    keep_a: Tensor | None = None,
    keep_b: Tensor | None = None,
    block_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return `log Σ_j exp(s_ij)` for each row and `log Σ_i exp(s_ij)` for each column of `s = scale · a bᵀ`.

    Products are made in the precision of `a` and `b` (under autocast in its), everything else in float32 or better.

    Args:
        a: (M, D).
        b: (N, D).
        scale: A number, as a tensor.
        keep_a: bool (M,), False where a row is left out of the columns' sums.
        keep_b: bool (N,), False where a column is left out of the rows' sums.
        block_size: Rows in a strip; by default all of `a` at once, which PyTorch differentiates by itself.

    Returns:
        (M,) and (N,).

    Raises:
        ValueError: If `block_size` is not positive.

    Chapter: pretraining/contrastive.
    """
    if torch.is_autocast_enabled(a.device.type):
        a, b = (x.to(torch.get_autocast_dtype(a.device.type)) for x in (a, b))
    bias_a, bias_b = (None if keep is None else torch.where(keep, 0.0, OUT) for keep in (keep_a, keep_b))
    if block_size is None:
        return _strip(a, b, scale, bias_a, bias_b)
    if block_size < 1:
        raise ValueError(f"block_size is {block_size}; expected at least 1")
    return _blockwise(a, b, scale, bias_a, bias_b, block_size)


@torch.compiler.disable  # a compiler that saw both passes would keep the products of the first for the second
def _blockwise(*inputs: Any) -> tuple[Tensor, Tensor]:
    return _TwoWayLogSumExp.apply(*inputs)


class _TwoWayLogSumExp(torch.autograd.Function):
    """`two_way_logsumexp` strip by strip.

    With row sums r and column sums c (both as logarithms), and the gradients g and h that reach them, the gradient of
    `s_ij` is `G_ij = g_i exp(s_ij - r_i) + h_j exp(s_ij - c_j)`. The rest is linear algebra: `scale · G b` for a,
    `scale · Gᵀ a` for b, and the sum of `a ∘ (G b)` for the scale.
    """

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, scale: Tensor, bias_a: Tensor | None, bias_b: Tensor | None, block_size: int
    ) -> tuple[Tensor, Tensor]:
        strip = _quick(_strip, a.device.type)
        rows, columns = [], torch.full((len(b),), -torch.inf, dtype=at_least_float32(a), device=a.device)
        for start in range(0, len(a), block_size):
            part = slice(start, start + block_size)
            row, column = strip(a[part], b, scale, None if bias_a is None else bias_a[part], bias_b)
            rows.append(row)
            columns = torch.logaddexp(columns, column)
        ctx.save_for_backward(a, b, scale, bias_a, bias_b, torch.cat(rows), columns)
        ctx.block_size = block_size
        return torch.cat(rows), columns

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_rows: Tensor, grad_columns: Tensor) -> tuple[Tensor | None, ...]:
        a, b, scale, bias_a, bias_b, rows, columns = ctx.saved_tensors
        strip = _quick(_strip_backward, a.device.type)
        grad_a, grad_b = torch.empty_like(a), torch.zeros_like(b, dtype=at_least_float32(b))
        grad_scale = torch.zeros((), dtype=at_least_float32(a), device=a.device)
        for start in range(0, len(a), ctx.block_size):
            part = slice(start, start + ctx.block_size)
            here, there = strip(
                a[part],
                b,
                scale,
                None if bias_a is None else bias_a[part],
                bias_b,
                rows[part],
                columns,
                grad_rows[part],
                grad_columns,
            )
            grad_scale += (a[part] * here).sum(dtype=grad_scale.dtype)
            grad_a[part] = scale * here
            grad_b += there
        return grad_a, (scale * grad_b).to(b.dtype), grad_scale.to(scale.dtype).view_as(scale), None, None, None


def _strip(a: Tensor, b: Tensor, scale: Tensor, bias_a: Tensor | None, bias_b: Tensor | None) -> tuple[Tensor, Tensor]:
    """Row sums (M,) of a strip and its part of the column sums (N,), as logarithms."""
    by_row, by_column = _logits(a, b, scale, bias_a, bias_b)
    return by_row.logsumexp(dim=1), by_column.logsumexp(dim=0)


def _strip_backward(
    a: Tensor,
    b: Tensor,
    scale: Tensor,
    bias_a: Tensor | None,
    bias_b: Tensor | None,
    rows: Tensor,
    columns: Tensor,
    grad_rows: Tensor,
    grad_columns: Tensor,
) -> tuple[Tensor, Tensor]:
    """`G b` (M, D) and the strip's part of `Gᵀ a` (N, D)."""
    by_row, by_column = _logits(a, b, scale, bias_a, bias_b)
    grad = grad_rows[:, None] * (by_row - rows[:, None]).exp() + grad_columns * (by_column - columns).exp()  # (M, N)
    grad = grad.to(a.dtype)
    return grad @ b, grad.T @ a


def _logits(a: Tensor, b: Tensor, scale: Tensor, bias_a: Tensor | None, bias_b: Tensor | None) -> tuple[Tensor, Tensor]:
    """`s` (M, N) with `OUT` where a column is left out, and where a row is."""
    s = scale * (a @ b.T).to(at_least_float32(a))
    return s if bias_b is None else s + bias_b, s if bias_a is None else s + bias_a[:, None]


@functools.cache
def _quick(function: Callable[..., Any], device: str) -> Callable[..., Any]:
    """On a GPU, fuse all that happens to a strip between its products; then the strip is read and written once."""
    fuses = device == "cuda" and importlib.util.find_spec("triton") is not None
    return torch.compile(function) if fuses else function
