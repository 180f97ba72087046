"""Attention fusion (注意力机制融合): streams that ask each other.

All take steps (B, N, D) of any number N a modality; a vector (B, D) is one step. `fusion.weights(...)` returns who
looked at what; `forward` does not compute it.

Chapter: fusion/attention.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmlearn.fusion.streams import Mask, Masks, Present, StreamEmbedding, Streams, mean_over
from mmlearn.nn.attention import Attention, Block


class AttentionFusion(nn.Module):
    """One learned query looks at all steps of all modalities, and takes their weighted mean.

    Given one vector a modality, its weights say how much each modality counts for a sample.

    Args:
        dims: name → width of a step of that modality.
        dim: Width of the output, also `.out_dim`.
        num_heads: Attention heads.
        steps_per_second: See `StreamEmbedding`.

    Chapter: fusion/attention.
    """

    uses_sequence = True

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: int = 128,
        num_heads: int = 4,
        steps_per_second: dict[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.tokens = StreamEmbedding(dims, dim, steps_per_second)
        self.query = nn.Parameter(torch.randn(1, dim) * dim**-0.5)
        self.attention = Attention(dim, num_heads)
        self.out_dim = dim

    def forward(self, features: Mapping[str, Tensor], present: Present = None, mask: Mask = None) -> Tensor:
        """Fuse name → (B, N, dims[name]) to (B, dim).

        Args:
            features: name → steps (B, N, dims[name]), or vectors (B, dims[name]).
            present: name → bool (B,), by default all True.
            mask: name → bool (B, N), True where a step is real; by default all are.

        Raises:
            ValueError: If a modality is not given, or a sample has none of them.
        """
        x, real = _join(*self.tokens(features, present, mask))
        return self.attention(self._query(x), x, real)[:, 0]

    def weights(self, features: Mapping[str, Tensor], present: Present = None, mask: Mask = None) -> Streams:
        """Return name → (B, heads, N): how much the query looks at each step; they sum to 1 over all modalities."""
        streams, masks = self.tokens(features, present, mask)
        x, real = _join(streams, masks)
        weights = self.attention.weights(self._query(x), x, real)[:, :, 0]  # (B, heads, N of all)
        return _part(weights, streams)

    def _query(self, x: Tensor) -> Tensor:
        return self.query.to(x.dtype).expand(len(x), 1, -1)


class CrossAttentionFusion(nn.Module):
    """The steps of one modality ask the steps of all others; then the mean over its steps.

    Args:
        dims: name → width of a step of that modality; two modalities or more.
        dim: Width of the output, also `.out_dim`.
        num_heads: Attention heads.
        depth: Number of blocks.
        target: The modality that asks; by default the first in alphabetical order.
        steps_per_second: See `StreamEmbedding`.

    Raises:
        ValueError: If there is only one modality, or `target` is not among them.

    Chapter: fusion/attention.
    """

    uses_sequence = True

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: int = 128,
        num_heads: int = 4,
        depth: int = 1,
        target: str | None = None,
        steps_per_second: dict[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.target = target or min(dims)
        if len(dims) < 2 or self.target not in dims:
            raise ValueError(f"target is {self.target!r} of {sorted(dims)}; expected one of at least two modalities")
        self.tokens = StreamEmbedding(dims, dim, steps_per_second)
        self.blocks: Any = nn.ModuleList(Block(dim, num_heads, context_dim=dim) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.out_dim = dim

    def forward(self, features: Mapping[str, Tensor], present: Present = None, mask: Mask = None) -> Tensor:
        """Fuse name → (B, N, dims[name]) to (B, dim); see `AttentionFusion.forward`."""
        x, x_real, context, real = self._sides(features, present, mask)
        for block in self.blocks:
            x = block(x, context, real)
        return self.norm(mean_over(x, x_real))

    def weights(self, features: Mapping[str, Tensor], present: Present = None, mask: Mask = None) -> Streams:
        """Return name → (B, heads, N of the target, N of that modality): who looks at what in the last block."""
        streams, _ = self.tokens(features, present, mask)
        x, _, context, real = self._sides(features, present, mask)
        for block in self.blocks[:-1]:
            x = block(x, context, real)
        weights = self.blocks[-1].weights(x, context, real)
        return _part(weights, {name: y for name, y in streams.items() if name != self.target})

    def _sides(
        self, features: Mapping[str, Tensor], present: Present, mask: Mask
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
        streams, masks = self.tokens(features, present, mask)
        x, x_real = streams.pop(self.target), masks.pop(self.target)
        return x, x_real, *_join(streams, masks)


class CoAttentionFusion(nn.Module):
    """Every modality asks every other, both ways; results are pooled and concatenated (MulT, Tsai et al. 2019).

    For each ordered pair a stack of blocks lets the steps of one ask the other's, which stay as they came in. What a
    modality learned from all others is concatenated step by step and passes a block of self-attention.

    Args:
        dims: name → width of a step of that modality; two modalities or more.
        dim: Width of the output, also `.out_dim`.
        num_heads: Attention heads.
        depth: Number of blocks a pair.
        steps_per_second: See `StreamEmbedding`.

    Raises:
        ValueError: If there is only one modality.

    Chapter: fusion/attention.
    """

    uses_sequence = True

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: int = 128,
        num_heads: int = 4,
        depth: int = 1,
        steps_per_second: dict[str, float] | None = None,
    ) -> None:
        super().__init__()
        if len(dims) < 2:
            raise ValueError(f"dims holds {sorted(dims)}; expected at least two modalities")
        self.tokens = StreamEmbedding(dims, dim, steps_per_second)
        names = self.tokens.names
        self.cross: Any = nn.ModuleDict(
            {
                a: nn.ModuleDict(
                    {
                        b: nn.ModuleList(Block(dim, num_heads, context_dim=dim) for _ in range(depth))
                        for b in names
                        if b != a
                    }
                )
                for a in names
            }
        )
        joined = (len(dims) - 1) * dim
        self.own = nn.ModuleDict({name: Block(joined, num_heads) for name in names})
        self.mix = nn.Linear(len(dims) * joined, dim)
        self.out_dim = dim

    def forward(self, features: Mapping[str, Tensor], present: Present = None, mask: Mask = None) -> Tensor:
        """Fuse name → (B, N, dims[name]) to (B, dim); see `AttentionFusion.forward`."""
        streams, real = self.tokens(features, present, mask)
        pooled = []
        for a, asked in self.cross.items():
            learned = []
            for b, blocks in asked.items():
                x = streams[a]
                for block in blocks:
                    x = block(x, streams[b], real[b])
                learned.append(x)
            x = self.own[a](torch.cat(learned, dim=-1), mask=real[a])  # (B, N, (M - 1) * dim)
            pooled.append(mean_over(x, real[a]))
        return self.mix(torch.cat(pooled, dim=-1))

    def weights(
        self, features: Mapping[str, Tensor], present: Present = None, mask: Mask = None
    ) -> dict[tuple[str, str], Tensor]:
        """Return (queries, keys) → weights (B, heads, N of queries, N of keys) of the pair's first block."""
        streams, real = self.tokens(features, present, mask)
        return {
            (a, b): blocks[0].weights(streams[a], streams[b], real[b])
            for a, asked in self.cross.items()
            for b, blocks in asked.items()
        }


class JointAttentionFusion(nn.Module):
    """All steps of all modalities in one sequence, self-attention over it, then the mean.

    Everything can meet everything, at a price: cost grows with the square of the total number of steps.

    Args:
        dims: name → width of a step of that modality.
        dim: Width of the output, also `.out_dim`.
        num_heads: Attention heads.
        depth: Number of blocks.
        steps_per_second: See `StreamEmbedding`.

    Chapter: fusion/attention.
    """

    uses_sequence = True

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: int = 128,
        num_heads: int = 4,
        depth: int = 2,
        steps_per_second: dict[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.tokens = StreamEmbedding(dims, dim, steps_per_second)
        self.blocks: Any = nn.ModuleList(Block(dim, num_heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.out_dim = dim

    def forward(self, features: Mapping[str, Tensor], present: Present = None, mask: Mask = None) -> Tensor:
        """Fuse name → (B, N, dims[name]) to (B, dim); see `AttentionFusion.forward`."""
        x, real = _join(*self.tokens(features, present, mask))
        for block in self.blocks:
            x = block(x, mask=real)
        return self.norm(mean_over(x, real))

    def weights(
        self, features: Mapping[str, Tensor], present: Present = None, mask: Mask = None
    ) -> dict[tuple[str, str], Tensor]:
        """Return (queries, keys) → weights (B, heads, N of queries, N of keys) of the last block."""
        streams, masks = self.tokens(features, present, mask)
        x, real = _join(streams, masks)
        for block in self.blocks[:-1]:
            x = block(x, mask=real)
        rows = _part(self.blocks[-1].weights(x, mask=real).transpose(-1, -2), streams)  # name → (B, heads, N of all, N)
        return {(a, b): part for a, w in rows.items() for b, part in _part(w.transpose(-1, -2), streams).items()}


class BottleneckFusion(nn.Module):
    """Streams that talk only through a few tokens (MBT, Nagrani et al. 2021).

    Each modality has its own blocks. From layer `fuse_from` on, its steps and the bottleneck tokens attend to one
    another; each modality updates the bottleneck in parallel, and the mean of the updates goes on to the next layer.
    The output is the mean over modalities, as the paper averages their logits. With `fuse_from = depth` nothing is
    exchanged, and what remains is late fusion; so it is with `fuse_from = depth - 1`, since the last layer's updates
    reach nobody.

    Args:
        dims: name → width of a step of that modality.
        dim: Width of the output, also `.out_dim`.
        num_heads: Attention heads.
        depth: Number of layers.
        fuse_from: The first layer, from 0, with bottleneck tokens.
        num_bottlenecks: How many of them; the paper found 4 enough.
        steps_per_second: See `StreamEmbedding`.

    Raises:
        ValueError: If `fuse_from` is not from 0 to `depth`.

    Chapter: fusion/attention.

    Examples:
        >>> fusion = BottleneckFusion({"video": 64, "audio": 32}, dim=16)
        >>> fusion({"video": torch.zeros(2, 8, 64), "audio": torch.zeros(2, 20, 32)}).shape
        torch.Size([2, 16])
    """

    uses_sequence = True

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: int = 128,
        num_heads: int = 4,
        depth: int = 2,
        fuse_from: int = 0,
        num_bottlenecks: int = 4,
        steps_per_second: dict[str, float] | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= fuse_from <= depth:
            raise ValueError(f"fuse_from is {fuse_from}; expected 0 to depth, {depth}")
        self.tokens = StreamEmbedding(dims, dim, steps_per_second)
        self.layers: Any = nn.ModuleList(
            nn.ModuleDict({name: Block(dim, num_heads) for name in self.tokens.names}) for _ in range(depth)
        )
        self.fuse_from = fuse_from
        self.bottleneck = nn.Parameter(torch.randn(num_bottlenecks, dim) * 0.02) if fuse_from < depth else None
        self.norms = nn.ModuleDict({name: nn.LayerNorm(dim) for name in self.tokens.names})
        self.out_dim = dim

    def forward(self, features: Mapping[str, Tensor], present: Present = None, mask: Mask = None) -> Tensor:
        """Fuse name → (B, N, dims[name]) to (B, dim); see `AttentionFusion.forward`."""
        streams, real, _ = self._run(features, present, mask, len(self.layers))
        pooled = [norm(mean_over(streams[name], real[name])) for name, norm in self.norms.items()]
        return torch.stack(pooled).mean(dim=0)

    def weights(self, features: Mapping[str, Tensor], present: Present = None, mask: Mask = None) -> Streams:
        """Return name → (B, heads, bottlenecks, N): what the bottleneck collects from each modality in the first layer.

        Raises:
            ValueError: If there is no bottleneck: `fuse_from` is `depth`.
        """
        if self.bottleneck is None:
            raise ValueError(f"fuse_from is depth, {self.fuse_from}: no layer has bottleneck tokens")
        streams, real, _ = self._run(features, present, mask, self.fuse_from)
        weights = {}
        for name, x in streams.items():
            y, y_real = _with_shared(x, real[name], self._shared(x))
            block = self.layers[self.fuse_from][name]
            weights[name] = block.weights(y, mask=y_real)[:, :, x.shape[1] :, : x.shape[1]]
        return weights

    def _run(
        self, features: Mapping[str, Tensor], present: Present, mask: Mask, layers: int
    ) -> tuple[Streams, Masks, Tensor | None]:
        """Return streams, masks and bottleneck tokens (B, bottlenecks, D) after a number of layers."""
        streams, real = self.tokens(features, present, mask)
        shared: Tensor | None = None
        for number, layer in enumerate(self.layers[:layers]):
            if number < self.fuse_from:
                streams = {name: block(streams[name], mask=real[name]) for name, block in layer.items()}
                continue
            updates = []
            for name, block in layer.items():
                x = streams[name]
                y, y_real = _with_shared(x, real[name], self._shared(x) if shared is None else shared)
                y = block(y, mask=y_real)
                streams[name] = y[:, : x.shape[1]]
                updates.append(y[:, x.shape[1] :])
            shared = torch.stack(updates).mean(dim=0)
        return streams, real, shared

    def _shared(self, x: Tensor) -> Tensor:
        assert self.bottleneck is not None  # else no layer asks for it
        return self.bottleneck.to(x.dtype).expand(len(x), -1, -1)  # (B, bottlenecks, D)


def _join(streams: Streams, masks: Masks) -> tuple[Tensor, Tensor | None]:
    """Put all steps in one sequence (B, N of all, D), with its mask, in the streams' order."""
    x = torch.cat(list(streams.values()), dim=1)
    if all(mask is None for mask in masks.values()):
        return x, None
    return x, torch.cat([_or_ones(masks[name], y) for name, y in streams.items()], dim=1)


def _part(weights: Tensor, streams: Streams) -> Streams:
    """Take weights over the joined sequence, in their last dimension, apart by modality."""
    parts = weights.split([x.shape[1] for x in streams.values()], dim=-1)
    return dict(zip(streams, parts, strict=True))


def _with_shared(x: Tensor, mask: Tensor | None, shared: Tensor) -> tuple[Tensor, Tensor | None]:
    """Append tokens that are always real."""
    y = torch.cat([x, shared], dim=1)
    if mask is None:
        return y, None
    return y, torch.cat([mask, mask.new_ones(len(x), shared.shape[1])], dim=1)


def _or_ones(mask: Tensor | None, x: Tensor) -> Tensor:
    return x.new_ones(x.shape[:2], dtype=torch.bool) if mask is None else mask
