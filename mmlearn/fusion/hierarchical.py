"""Hierarchical fusion (层级融合): where, on their way through the layers, should streams meet?

Chapter: fusion/hierarchical.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmlearn.fusion.streams import Mask, Present, StreamEmbedding, mean_over
from mmlearn.missing import order_modalities, where_present


class StepBlock(nn.Module):
    """One layer of a stream: look at the neighbouring steps, then a two-layer perceptron, each added to the input.

    Args:
        dim: Width D of a step.
        kernel_size: Number of neighbours that a step sees, itself included; odd.

    Chapter: fusion/hierarchical.
    """

    def __init__(self, dim: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.norm_steps = nn.LayerNorm(dim)
        self.steps = nn.Conv1d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return steps (B, N, D); `mask` (B, N) is True where a step is real, and padding changes no real step."""
        y = self.norm_steps(x)
        if mask is not None:
            y = torch.where(mask[..., None], y, 0.0)  # padding looks like what the convolution pads with
        x = x + self.steps(y.transpose(1, 2)).transpose(1, 2)
        return x + self.mlp(self.norm_mlp(x))


class LateralFusion(nn.Module):
    """Streams side by side, with lateral connections between layers (as AVSlowFast, Xiao et al. 2020).

    After each layer but the last a stream receives from every other what happened there at the same time: the mean over
    the other's steps within each of its own, through a linear map that begins at zero. At the end the streams are
    pooled and concatenated.

    Args:
        dims: name → width of a step of that modality.
        dim: Width of the layers and of the output, also `.out_dim`.
        depth: Number of layers, at least 2.
        steps_per_second: name → rate of that modality's steps; see `StreamEmbedding`.

    Raises:
        ValueError: If `depth` is below 2: there would be no connection.

    Chapter: fusion/hierarchical.
    """

    uses_sequence = True

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: int = 128,
        depth: int = 2,
        steps_per_second: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        if depth < 2:
            raise ValueError(f"depth is {depth}; expected at least 2: connections lie between layers")
        self.tokens = StreamEmbedding(dims, dim, steps_per_second)
        names = self.tokens.names
        self.layers: Any = nn.ModuleList(nn.ModuleDict({name: StepBlock(dim) for name in names}) for _ in range(depth))
        self.lateral: Any = nn.ModuleList(
            nn.ModuleDict(
                {a: nn.ModuleDict({b: nn.Linear(dim, dim, bias=False) for b in names if b != a}) for a in names}
            )
            for _ in range(depth - 1)
        )
        for connection in self.lateral.modules():  # at first the streams do not know of one another
            if isinstance(connection, nn.Linear):
                nn.init.zeros_(connection.weight)
        self.mix = nn.Linear(len(names) * dim, dim)
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
        x, real = self.tokens(features, present, mask)
        for number, layer in enumerate(self.layers):
            if number:
                x = {
                    a: x[a] + sum(connect(self.tokens.at_steps_of(a, b, x, real)[0]) for b, connect in others.items())
                    for a, others in self.lateral[number - 1].items()
                }
            x = {name: block(x[name], real[name]) for name, block in layer.items()}
        return self.mix(torch.cat([mean_over(x[name], real[name]) for name in self.tokens.names], dim=-1))


class IntermediateFusion(nn.Module):
    """Streams run apart for some layers and as one for the rest: early, middle or late fusion, by one number.

    At layer `fuse_at` all streams are brought to the clock of the one with the most steps a second, concatenated step
    by step, and mixed to width `dim`. `fuse_at = 0` fuses the input, `fuse_at = depth` only the results.

    Args:
        dims: name → width of a step of that modality.
        dim: Width of the layers and of the output, also `.out_dim`.
        depth: Number of layers.
        fuse_at: How many of them come before the meeting.
        steps_per_second: name → rate of that modality's steps; see `StreamEmbedding`.

    Raises:
        ValueError: If `fuse_at` is not from 0 to `depth`.

    Chapter: fusion/hierarchical.
    """

    uses_sequence = True

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: int = 128,
        depth: int = 2,
        fuse_at: int = 1,
        steps_per_second: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= fuse_at <= depth:
            raise ValueError(f"fuse_at is {fuse_at}; expected 0 to depth, {depth}")
        self.tokens = StreamEmbedding(dims, dim, steps_per_second)
        names = self.tokens.names
        self.clock = max(names, key=lambda name: self.tokens.rates[name])
        self.apart: Any = nn.ModuleList(nn.ModuleDict({name: StepBlock(dim) for name in names}) for _ in range(fuse_at))
        self.mix = nn.Linear(len(names) * dim, dim)
        self.together = nn.ModuleList(StepBlock(dim) for _ in range(depth - fuse_at))
        self.out_dim = dim

    def forward(self, features: Mapping[str, Tensor], present: Present = None, mask: Mask = None) -> Tensor:
        """Fuse name → (B, N, dims[name]) to (B, dim); see `LateralFusion.forward`."""
        x, real = self.tokens(features, present, mask)
        for layer in self.apart:
            x = {name: block(x[name], real[name]) for name, block in layer.items()}
        aligned = [self.tokens.at_steps_of(self.clock, name, x, real) for name in self.tokens.names]
        y = self.mix(torch.cat([steps for steps, _ in aligned], dim=-1))  # (B, N, M * dim) → (B, N, dim)
        y_real = torch.stack([heard for _, heard in aligned]).any(dim=0)  # (B, N): something is known of this step
        for block in self.together:
            y = block(y, y_real)
        return mean_over(y, y_real)


class TreeFusion(nn.Module):
    """Fuse two, then the result with the next: a tree whose leaves are modalities, one vector each.

    A node is a two-layer perceptron over both children, added to their mean. Where one child is absent, the other goes
    up as it is; where both are, so is the node.

    Args:
        dims: name → width of that modality's vector.
        dim: Width of the nodes and of the output, also `.out_dim`.
        order: Nested pairs, e.g. `(("audio", "video"), "text")`; by default one after the other, alphabetically.

    Raises:
        ValueError: If `order` does not name each modality once.

    Chapter: fusion/hierarchical.
    """

    def __init__(self, dims: Mapping[str, int], dim: int = 128, order: Any = None) -> None:
        super().__init__()
        self.names = sorted(dims)
        self.order = order if order is not None else _chain(self.names)
        if sorted(_leaves(self.order)) != self.names:
            raise ValueError(f"order is {order}; expected nested pairs that name each of {self.names} once")
        self.leaves = nn.ModuleDict({name: nn.Linear(dims[name], dim) for name in self.names})
        self.nodes = nn.ModuleList(
            nn.Sequential(nn.Linear(2 * dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
            for _ in range(len(self.names) - 1)
        )
        self.out_dim = dim

    def forward(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Fuse name → (B, dims[name]) to (B, dim); `present` is name → bool (B,), by default all True.

        Raises:
            ValueError: If a modality is not given, or a sample has none of them.
        """
        vectors, there = order_modalities(self.names, features, present)
        nodes = iter(self.nodes)

        def climb(tree: Any) -> tuple[Tensor, Tensor | None]:
            if isinstance(tree, str):
                return self.leaves[tree](where_present(there[tree], vectors[tree], 0.0)), there[tree]
            (left, has_left), (right, has_right) = climb(tree[0]), climb(tree[1])
            both = next(nodes)(torch.cat([left, right], dim=-1)) + (left + right) / 2
            if has_left is None or has_right is None:  # all are present
                return both, None
            return where_present(has_right, where_present(has_left, both, right), left), has_left | has_right

        return climb(self.order)[0]


def _chain(names: list[str]) -> Any:
    tree: Any = names[0]
    for name in names[1:]:
        tree = (tree, name)
    return tree


def _leaves(tree: Any) -> list[str]:
    return [tree] if isinstance(tree, str) else [leaf for child in tree for leaf in _leaves(child)]
