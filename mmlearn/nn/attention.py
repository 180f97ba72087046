"""Attention: steps that ask other steps, and the Transformer block made of it.

Chapter: fusion/attention.
"""

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention `softmax(Q Kᵀ / √d) V` (Vaswani et al. 2017), with masks in which True means real.

    Args:
        dim: Width D of the steps that ask, and of the output.
        num_heads: Heads; each works in D / num_heads dimensions.
        context_dim: Width of the steps that are asked; by default `dim`.
        dropout: Share of attention weights dropped in training.

    Raises:
        ValueError: If `dim` is no multiple of `num_heads`.

    Chapter: fusion/attention.
    """

    def __init__(self, dim: int, num_heads: int = 4, context_dim: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim is {dim}; expected a multiple of num_heads, {num_heads}")
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(context_dim or dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Let steps x (B, N, D) ask the context (B, S, context_dim), by default themselves.

        Args:
            x: Who asks.
            context: Who is asked.
            mask: bool (B, S), True where a step of the context is real. Each sample needs at least one.

        Returns:
            (B, N, D).
        """
        q, k, v = self._split(x, x if context is None else context)
        keep = None if mask is None else mask[:, None, None, :]  # (B, 1, 1, S)
        dropout = self.dropout if self.training else 0.0
        y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=keep, dropout_p=dropout)
        return self.out(y.transpose(1, 2).flatten(2))  # (B, heads, N, head_dim) → (B, N, D)

    def weights(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Return the weights (B, heads, N, S) with which `forward` averages; rows sum to 1."""
        q, k, _ = self._split(x, x if context is None else context)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5  # (B, heads, N, S)
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None, :], -torch.inf)
        return scores.softmax(dim=-1)

    def _split(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        def heads(y: Tensor) -> Tensor:
            return y.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, N, D) → (B, heads, N, head_dim)

        k, v = self.key_value(context).chunk(2, dim=-1)
        return heads(self.query(x)), heads(k), heads(v)


class Block(nn.Module):
    """A Transformer block, pre-norm: attention, then a two-layer perceptron, each added to its input.

    Args:
        dim: Width D of a step.
        num_heads: Attention heads.
        mlp_ratio: Width of the perceptron's hidden layer, in units of `dim`.
        dropout: Share of attention weights and of each branch's output dropped in training.
        context_dim: Width of the steps that are asked, where those are others than the ones that ask.

    Chapter: fusion/attention.
    """

    def __init__(
        self, dim: int, num_heads: int = 4, mlp_ratio: float = 2.0, dropout: float = 0.0, context_dim: int | None = None
    ) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(dim)
        self.norm_context = nn.LayerNorm(context_dim) if context_dim else None
        self.attention = Attention(dim, num_heads, context_dim, dropout)
        self.norm_mlp = nn.LayerNorm(dim)
        hidden = int(mlp_ratio * dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Return steps (B, N, D); arguments as in `Attention.forward`."""
        x = x + self.dropout(self.attention(*self._inputs(x, context), mask))
        return x + self.dropout(self.mlp(self.norm_mlp(x)))

    def weights(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Return the attention weights (B, heads, N, S) that `forward` uses."""
        return self.attention.weights(*self._inputs(x, context), mask)

    def _inputs(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if context is not None and self.norm_context is not None:
            context = self.norm_context(context)
        return self.norm_attention(x), context
