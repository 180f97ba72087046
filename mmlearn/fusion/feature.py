"""Feature-level fusion (特征级融合): one vector a modality, joined into one; and its rival, fusion of decisions.

Each method has its own answer to an absent modality: what changes nothing in a sum is 0, in a product 1, in a weighted
mean a weight of 0. Where no such neutral element exists, a learned vector stands in.

Chapters: start/first_model, fusion/feature.
"""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from mmlearn.missing import MissingEmbedding, order_modalities, where_present


class ConcatFusion(nn.Module):
    """Concatenate the modalities' vectors and mix them with one linear layer (Ngiam et al. 2011).

    A modality that a sample lacks is replaced by a learned vector of its own, so nothing that stands in its place
    reaches the output.

    Args:
        dims: name → width of that modality's vector.
        dim: Width of the output, also `.out_dim`.

    Chapters: start/first_model, fusion/feature.

    Examples:
        >>> fusion = ConcatFusion({"video": 64, "audio": 32}, dim=16)
        >>> fusion({"video": torch.zeros(2, 64), "audio": torch.zeros(2, 32)}).shape
        torch.Size([2, 16])
    """

    def __init__(self, dims: Mapping[str, int], dim: int = 128) -> None:
        super().__init__()
        self.names = sorted(dims)  # the order of the caller's dictionary must not matter
        self.absent = MissingEmbedding(dims)
        self.mix = nn.Linear(sum(dims.values()), dim)
        self.out_dim = dim

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> Tensor:
        """Fuse name → (B, dims[name]) to (B, dim); `present` is name → bool (B,), by default all True.

        Raises:
            ValueError: If a modality is not given, or a sample has none of them.
        """
        vectors, there = order_modalities(self.names, features, present)
        filled = [where_present(there[n], x, self.absent[n]) for n, x in vectors.items()]
        return self.mix(torch.cat(filled, dim=-1))  # (B, sum of dims) → (B, dim)


class SumFusion(nn.Module):
    """Project each modality to one width and add: `z = M / |P| · Σ_{m in P} W_m h_m + b`, P being what is present.

    With all M modalities this is concatenation followed by a linear layer, in other words. With some absent, the rest
    is scaled up, as dropout does, so that the sum keeps its size.

    Args:
        dims: name → width of that modality's vector.
        dim: Width of the output, also `.out_dim`.

    Chapter: fusion/feature.
    """

    def __init__(self, dims: Mapping[str, int], dim: int = 128) -> None:
        super().__init__()
        self.names = sorted(dims)
        self.project = nn.ModuleDict({name: nn.Linear(dims[name], dim, bias=False) for name in self.names})
        self.bias = nn.Parameter(torch.zeros(dim))
        self.out_dim = dim

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> Tensor:
        """Fuse name → (B, dims[name]) to (B, dim); see `ConcatFusion.forward`."""
        vectors, there = order_modalities(self.names, features, present)
        parts = [self.project[n](where_present(there[n], x, 0.0)) for n, x in vectors.items()]
        total = sum(parts[1:], start=parts[0])  # (B, dim)
        if present is not None:
            count = torch.stack([present[name] for name in self.names]).sum(dim=0)  # (B,)
            total = total * (len(self.names) / count.clamp(min=1))[:, None].to(total.dtype)
        return total + self.bias


class ProductFusion(nn.Module):
    """Multiply the modalities, element by element: `z = W · Π_m tanh(W_m h_m + b_m) + b` (MLB, Kim et al. 2017).

    The product is an "and": a factor near 0 silences the others. tanh keeps it from exploding; an absent modality is a
    factor of 1.

    Args:
        dims: name → width of that modality's vector.
        dim: Width of the factors and of the output, also `.out_dim`.

    Chapter: fusion/feature.
    """

    def __init__(self, dims: Mapping[str, int], dim: int = 128) -> None:
        super().__init__()
        self.names = sorted(dims)
        self.project = nn.ModuleDict({name: nn.Linear(dims[name], dim) for name in self.names})
        self.mix = nn.Linear(dim, dim)
        self.out_dim = dim

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> Tensor:
        """Fuse name → (B, dims[name]) to (B, dim); see `ConcatFusion.forward`."""
        vectors, there = order_modalities(self.names, features, present)
        factors = [
            where_present(there[n], self.project[n](where_present(there[n], x, 0.0)).tanh(), 1.0)
            for n, x in vectors.items()
        ]
        return self.mix(math.prod(factors[1:], start=factors[0]))


class GatedFusion(nn.Module):
    """Weigh the modalities, feature by feature, with gates that look at all of them (GMU, Arevalo et al. 2017).

    `z = Σ_m g_m ∘ tanh(W_m h_m + b_m)`, where the gates `g_m` (B, dim) are a softmax over the modalities of a linear
    map of all vectors. For two modalities this is the paper's `g` and `1 - g`. An absent modality has weight 0.

    Args:
        dims: name → width of that modality's vector.
        dim: Width of the output, also `.out_dim`.

    Chapter: fusion/feature.
    """

    def __init__(self, dims: Mapping[str, int], dim: int = 128) -> None:
        super().__init__()
        self.names = sorted(dims)
        self.absent = MissingEmbedding(dims)
        self.project = nn.ModuleDict({name: nn.Linear(dims[name], dim) for name in self.names})
        self.gate = nn.Linear(sum(dims.values()), len(dims) * dim)
        self.out_dim = dim

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> Tensor:
        """Fuse name → (B, dims[name]) to (B, dim); see `ConcatFusion.forward`."""
        return self.weigh(features, present)[0]

    def weigh(
        self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the fused (B, dim) and, for each modality, its gates (B, dim), which sum to 1 over the modalities."""
        vectors, there = order_modalities(self.names, features, present)
        filled = [where_present(there[n], x, self.absent[n]) for n, x in vectors.items()]
        scores = self.gate(torch.cat(filled, dim=-1)).unflatten(-1, (len(self.names), -1))  # (B, M, dim)
        if present is not None:
            real = torch.stack([present[name] for name in self.names], dim=1)[..., None]  # (B, M, 1)
            scores = scores.masked_fill(~real, torch.finfo(scores.dtype).min)
        gates = scores.softmax(dim=1)
        values = torch.stack([self.project[n](x).tanh() for n, x in zip(self.names, filled, strict=True)], dim=1)
        return (gates * values).sum(dim=1), dict(zip(self.names, gates.unbind(dim=1), strict=True))


class FiLMFusion(nn.Module):
    """Let the other modalities scale and shift the features of one: `z = γ ∘ (W h_target) + β` (Perez et al. 2018).

    `γ = 1 + Σ_c G_c h_c` and `β = b + Σ_c B_c h_c` over the conditions c. An absent condition adds nothing; without
    any, γ = 1 and β = b. A learned vector stands in for an absent target.

    Args:
        dims: name → width of that modality's vector.
        dim: Width of the output, also `.out_dim`.
        target: The modality that is modulated; by default the first in alphabetical order.

    Raises:
        ValueError: If `target` is not among `dims`.

    Chapter: fusion/feature.
    """

    def __init__(self, dims: Mapping[str, int], dim: int = 128, target: str | None = None) -> None:
        super().__init__()
        self.names = sorted(dims)
        self.target = target or self.names[0]
        if self.target not in dims:
            raise ValueError(f"target is {target!r}; expected one of {self.names}")
        self.absent = MissingEmbedding({self.target: dims[self.target]})
        self.project = nn.Linear(dims[self.target], dim)  # its bias is scaled with the rest
        self.modulate = nn.ModuleDict(
            {name: nn.Linear(dims[name], 2 * dim, bias=False) for name in self.names if name != self.target}
        )
        self.bias = nn.Parameter(torch.zeros(dim))
        self.out_dim = dim

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> Tensor:
        """Fuse name → (B, dims[name]) to (B, dim); see `ConcatFusion.forward`."""
        vectors, there = order_modalities(self.names, features, present)
        base = self.project(
            where_present(there[self.target], vectors[self.target], self.absent[self.target])
        )  # (B, dim)
        gamma, beta = torch.ones_like(base), self.bias
        for name, modulate in self.modulate.items():
            scale, shift = modulate(where_present(there[name], vectors[name], 0.0)).chunk(2, dim=-1)  # (B, dim) each
            gamma, beta = gamma + scale, beta + shift
        return gamma * base + beta


class TensorFusion(nn.Module):
    """Multiply everything with everything: the outer product of all `[W_m h_m; 1]`, then linear (Zadeh et al. 2017).

    Thanks to the ones the product holds each modality alone, each pair, and all together: `(width + 1)^M` numbers. An
    absent modality is `[0; 1]`, which leaves the products of the others.

    Args:
        dims: name → width of that modality's vector.
        dim: Width of the output, also `.out_dim`.
        width: Each modality is first narrowed to this, because the product grows so fast.

    Chapter: fusion/feature.
    """

    def __init__(self, dims: Mapping[str, int], dim: int = 128, width: int = 16) -> None:
        super().__init__()
        self.names = sorted(dims)
        self.narrow = nn.ModuleDict({name: nn.Linear(dims[name], width) for name in self.names})
        self.mix = nn.Linear((width + 1) ** len(dims), dim)
        self.out_dim = dim

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> Tensor:
        """Fuse name → (B, dims[name]) to (B, dim); see `ConcatFusion.forward`."""
        vectors, there = order_modalities(self.names, features, present)
        product = next(iter(vectors.values())).new_ones(1, 1)  # (B, 1)
        for n, x in vectors.items():
            narrow = where_present(there[n], self.narrow[n](where_present(there[n], x, 0.0)), 0.0)
            factor = nn.functional.pad(narrow, (0, 1), value=1.0)  # (B, width + 1)
            product = (product[:, :, None] * factor[:, None, :]).flatten(1)  # (B, K) → (B, K * (width + 1))
        return self.mix(product)


class LowRankTensorFusion(nn.Module):
    """The tensor fusion whose weight tensor has low rank: `z = Σ_r Π_m F_m^r [h_m; 1] + b` (Liu et al. 2018).

    It never builds the outer product: cost grows with the number of modalities as a sum, not as a power. An absent
    modality is `[0; 1]`, so its factor is the last, learned, column of `F_m^r`.

    Args:
        dims: name → width of that modality's vector.
        dim: Width of the output, also `.out_dim`.
        rank: Number of terms.

    Chapter: fusion/feature.
    """

    def __init__(self, dims: Mapping[str, int], dim: int = 128, rank: int = 8) -> None:
        super().__init__()
        self.names = sorted(dims)
        self.rank = rank
        self.factors = nn.ModuleDict({name: nn.Linear(dims[name], rank * dim) for name in self.names})
        for name, parameter in self.factors.named_parameters():
            if name.endswith("bias"):
                nn.init.ones_(parameter)  # a product of M small numbers vanishes: begin near 1
        self.weights = nn.Parameter(torch.full((rank,), 1 / rank))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.out_dim = dim

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> Tensor:
        """Fuse name → (B, dims[name]) to (B, dim); see `ConcatFusion.forward`."""
        vectors, there = order_modalities(self.names, features, present)
        factors = [
            self.factors[n](where_present(there[n], x, 0.0)).unflatten(-1, (self.rank, -1))  # (B, rank, dim)
            for n, x in vectors.items()
        ]
        product = math.prod(factors[1:], start=factors[0])
        return torch.einsum("r,brd->bd", self.weights.to(product.dtype), product) + self.bias


class LateFusion(nn.Module):
    """Let each modality decide alone, then combine the decisions: fusion at the decision level (决策级融合).

    The output is log-probabilities, which serve as logits: cross-entropy does not change them. Combined are those
    modalities that a sample has:

    - "mean": the mean of the probabilities;
    - "product": their product, renormalised: a product of experts (Hinton 2002), right if errors are independent;
    - "weighted": a product in which each modality has a learned exponent, at first 1.

    Args:
        dims: name → width of that modality's vector.
        dim: Number of classes, also `.out_dim`. Use `nn.Identity()` as the head.
        how: "mean", "product" or "weighted".

    Raises:
        ValueError: If `how` is none of these.

    Chapter: fusion/feature.
    """

    def __init__(
        self, dims: Mapping[str, int], dim: int, how: Literal["mean", "product", "weighted"] = "product"
    ) -> None:
        super().__init__()
        if how not in ("mean", "product", "weighted"):
            raise ValueError(f'how is {how!r}; expected "mean", "product" or "weighted"')
        self.names = sorted(dims)
        self.how = how
        self.heads = nn.ModuleDict({name: nn.Linear(dims[name], dim) for name in self.names})
        self.exponents = nn.Parameter(torch.ones(len(dims))) if how == "weighted" else None
        self.out_dim = dim

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> Tensor:
        """Fuse name → (B, dims[name]) to log-probabilities (B, dim); see `ConcatFusion.forward`."""
        vectors, there = order_modalities(self.names, features, present)
        decisions = {n: self.heads[n](where_present(there[n], x, 0.0)).log_softmax(dim=-1) for n, x in vectors.items()}
        if self.how == "mean":
            votes = torch.stack([where_present(there[n], d, -torch.inf) for n, d in decisions.items()])  # log 0
            return votes.logsumexp(dim=0).log_softmax(dim=-1)  # dividing by the count is left to the softmax
        votes = torch.stack([where_present(there[n], d, 0.0) for n, d in decisions.items()])  # (M, B, dim)
        if self.exponents is not None:
            votes = votes * self.exponents[:, None, None].to(votes.dtype)
        return votes.sum(dim=0).log_softmax(dim=-1)
