"""Attention: steps that ask other steps, and the Transformer block made of it.

Chapter: fusion/attention.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmlearn.nn.embeddings import apply_rope


class Attention(nn.Module):
    """Multi-head attention `softmax(Q Kᵀ / √d) V` (Vaswani et al. 2017), with masks in which True means real.

    Where steps ask themselves, queries, keys and values come out of one product, on the weights of `query` and
    `key_value` put together; where one of these two is replaced by another module, that module is called.

    Args:
        dim: Width D of the steps that ask, and of the output.
        num_heads: Heads; each works in D / num_heads dimensions.
        context_dim: Width of the steps that are asked; by default `dim`.
        dropout: Share of attention weights dropped in training.

    Raises:
        ValueError: If `dim` is no multiple of `num_heads`.

    Chapter: fusion/attention.

    Examples:
        >>> Attention(16, num_heads=2)(torch.zeros(2, 5, 16)).shape
        torch.Size([2, 5, 16])
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

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        mask: Tensor | None = None,
        rope: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """Attend from steps x (B, N, D) to the context (B, S, context_dim), by default to themselves.

        Args:
            x: Queries.
            context: Keys and values.
            mask: bool (B, S), True where a step of the context is real. Each sample needs at least one.
            rope: Angles from `rope_angles`, by which queries and keys are turned (rotary position embedding).
            causal: Whether step n attends only to steps up to n.

        Returns:
            (B, N, D).
        """
        q, k, v = self._split(x, context, rope)
        keep = None if mask is None else mask[:, None, None, :]  # (B, 1, 1, S)
        if causal and keep is not None:
            keep = keep & _up_to(q.shape[-2], k.shape[-2], x.device)  # (B, 1, N, S)
        dropout = self.dropout if self.training else 0.0
        y = nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=keep, dropout_p=dropout, is_causal=causal and keep is None
        )
        return self.out(y.transpose(1, 2).flatten(2))  # (B, heads, N, head_dim) → (B, N, D)

    def weights(
        self,
        x: Tensor,
        context: Tensor | None = None,
        mask: Tensor | None = None,
        rope: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """Return the weights (B, heads, N, S) with which `forward` averages; rows sum to 1."""
        q, k, _ = self._split(x, context, rope)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5  # (B, heads, N, S)
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None, :], -torch.inf)
        if causal:
            scores = scores.masked_fill(~_up_to(scores.shape[-2], scores.shape[-1], x.device), -torch.inf)
        return scores.softmax(dim=-1)

    def _split(self, x: Tensor, context: Tensor | None, rope: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, (B, heads, N or S, head_dim): views, which the kernels take as they are."""
        if context is None and type(self.query) is type(self.key_value) is nn.Linear:
            weight = torch.cat([self.query.weight, self.key_value.weight])  # (3 D, D)
            bias = torch.cat([self.query.bias, self.key_value.bias])
            q, k, v = nn.functional.linear(x, weight, bias).chunk(3, dim=-1)
        else:
            q, (k, v) = self.query(x), self.key_value(x if context is None else context).chunk(2, dim=-1)
        q, k, v = (y.unflatten(-1, (self.num_heads, -1)) for y in (q, k, v))  # (B, N, D) → (B, N, heads, head_dim)
        if rope is not None:
            q, k = apply_rope(q, rope), apply_rope(k, rope)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


def _up_to(steps: int, asked: int, device: torch.device) -> Tensor:
    """Return bool (N, S), True where step n may ask step s ≤ n."""
    return torch.ones(steps, asked, dtype=torch.bool, device=device).tril()


class DropPath(nn.Module):
    """Leave out a branch of the network for a random part of the samples (stochastic depth, Huang et al. 2016).

    The samples that keep it get it divided by the chance to keep it, so that the expectation stays.

    Args:
        rate: Share of samples left out in training, from 0 to below 1.

    Raises:
        ValueError: If the rate is not in that range.

    Chapter: pretraining/masked.
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"rate is {rate}; expected from 0 to below 1")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, …), some of its samples zero and the others larger; in evaluation, as it is."""
        if self.rate == 0 or not self.training:
            return x
        keep = x.new_empty(len(x), *[1] * (x.ndim - 1)).bernoulli_(1 - self.rate)  # (B, 1, …, 1)
        return x * (keep / (1 - self.rate))


class Block(nn.Module):
    """A Transformer block: attention, then a two-layer perceptron, each added to its input (Vaswani et al. 2017).

    It is pre-norm: what goes into a branch is normalized (Xiong et al. 2020). With `post_norm` each sum is, as it was
    first published, and as in BERT.

    Args:
        dim: Width D of a step.
        num_heads: Attention heads.
        mlp_ratio: Width of the perceptron's hidden layer, in units of `dim`.
        dropout: Share of attention weights and of each branch's output dropped in training.
        context_dim: Width of the steps that are asked, where those are others than the ones that ask.
        drop_path: Share of samples that skip a branch in training, see `DropPath`.
        mlp_dim: Width of the perceptron's hidden layer, instead of `mlp_ratio`.
        act_layer: Activation of the perceptron.
        norm_layer: Normalization, called as `norm_layer(dim, eps=eps)`.
        eps: What normalization adds to the variance.
        attention_dropout: Share of attention weights dropped, where it is not `dropout`.
        post_norm: Whether sums are normalized, and not inputs.

    Chapter: fusion/attention.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 4,
        mlp_ratio: float = 2.0,
        dropout: float = 0.0,
        context_dim: int | None = None,
        drop_path: float = 0.0,
        *,
        mlp_dim: int | None = None,
        act_layer: Callable[[], nn.Module] = nn.GELU,
        norm_layer: Callable[..., nn.Module] = nn.LayerNorm,
        eps: float = 1e-5,
        attention_dropout: float | None = None,
        post_norm: bool = False,
    ) -> None:
        super().__init__()
        self.norm_attention = norm_layer(dim, eps=eps)
        self.norm_context = norm_layer(context_dim, eps=eps) if context_dim else None
        self.attention = Attention(
            dim, num_heads, context_dim, dropout if attention_dropout is None else attention_dropout
        )
        self.norm_mlp = norm_layer(dim, eps=eps)
        hidden = int(mlp_ratio * dim) if mlp_dim is None else mlp_dim
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), act_layer(), nn.Linear(hidden, dim))
        self.dropout = nn.Dropout(dropout)
        self.post_norm = post_norm
        self.drop_path = DropPath(drop_path)

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        mask: Tensor | None = None,
        rope: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """Return steps (B, N, D); arguments as in `Attention.forward`."""
        x = x + self._drop(self.attention(*self._inputs(x, context), mask, rope, causal))
        if self.post_norm:
            x = self.norm_attention(x)
            return self.norm_mlp(x + self._drop(self.mlp(x)))
        return x + self._drop(self.mlp(self.norm_mlp(x)))

    def weights(
        self,
        x: Tensor,
        context: Tensor | None = None,
        mask: Tensor | None = None,
        rope: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """Return the attention weights (B, heads, N, S) that `forward` uses."""
        return self.attention.weights(*self._inputs(x, context), mask, rope, causal)

    def _inputs(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if context is not None and self.norm_context is not None:
            context = self.norm_context(context)
        return x if self.post_norm else self.norm_attention(x), context

    def _drop(self, branch: Tensor) -> Tensor:
        return self.drop_path(self.dropout(branch))
