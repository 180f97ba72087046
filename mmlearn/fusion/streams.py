"""Streams of steps, made ready to meet: one width, one clock, and something in the place of what is absent.

Chapters: fusion/hierarchical, fusion/attention.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmlearn.missing import MissingEmbedding, order_modalities, where_present
from mmlearn.nn.embeddings import sinusoidal_encoding

Present = Mapping[str, Tensor] | None  # name → bool (B,); None where all are present
Mask = Mapping[str, Tensor | None] | None  # name → bool (B, N), True where a step is real
Streams = dict[str, Tensor]  # name → steps (B, N, D)
Masks = dict[str, Tensor | None]  # name → bool (B, N), True where a step is real; None where all are


class StreamEmbedding(nn.Module):
    """Project each modality's steps to one width, and add when they happen and what they are.

    A modality that a sample lacks becomes one learned step, so that every sample has something to be asked.

    Args:
        dims: name → width of a step of that modality.
        dim: Width D of all steps afterwards.
        steps_per_second: name → rate of that modality's steps, for one clock. By default 1 for each: then steps of the
            same number happen at the same time.

    Chapters: fusion/hierarchical, fusion/attention.
    """

    def __init__(self, dims: Mapping[str, int], dim: int, steps_per_second: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.names = sorted(dims)
        self.dim = dim
        self.rates = {name: float((steps_per_second or {}).get(name, 1.0)) for name in self.names}
        self.project = nn.ModuleDict({name: nn.Linear(dims[name], dim) for name in self.names})
        self.modality_embedding = MissingEmbedding(dict.fromkeys(self.names, dim))
        self.absent = MissingEmbedding(dict.fromkeys(self.names, dim))

    def forward(
        self,
        features: Mapping[str, Tensor],
        present: Present = None,
        mask: Mask = None,
    ) -> tuple[Streams, Masks]:
        """Return name → steps (B, N, D), and name → bool (B, N), True where a step is real or stands in.

        Args:
            features: name → (B, N, dims[name]), or (B, dims[name]), which is one step.
            present: name → bool (B,), by default all True.
            mask: name → bool (B, N), True where a step is real; a modality without one has no padding.

        Raises:
            ValueError: If a modality is not given, or a sample has none of them.
        """
        steps: Streams = {}
        real: Masks = {}
        ordered, everywhere = order_modalities(self.names, features, present)
        for name, x in ordered.items():
            there = everywhere[name]
            x = x[:, None] if x.ndim == 2 else x  # (B, N, dims[name])
            number = torch.arange(x.shape[1], device=x.device)  # (N,)
            seconds = (number + 0.5) / self.rates[name]  # the middle of each step
            keep = (mask or {}).get(name)
            if there is not None:
                keep = there[:, None].expand(x.shape[:2]) if keep is None else keep & there[:, None]  # (B, N)
            y = self.project[name](where_present(keep, x, 0.0))
            y = y + (self.modality_embedding[name] + sinusoidal_encoding(seconds, self.dim)).to(y.dtype)
            if keep is not None:
                stand_in = ~keep.any(dim=1, keepdim=True) & (number == 0)  # (B, N): the first step, if none is real
                y = where_present(~stand_in, y, self.absent[name])
                keep = keep | stand_in
            steps[name], real[name] = y, keep
        return steps, real

    def at_steps_of(self, a: str, b: str, steps: Streams, real: Masks) -> tuple[Tensor, Tensor]:
        """Bring stream b to the clock of stream a: the mean of those steps of b that happen during each step of a.

        Returns:
            (B, N of a, D), and bool (B, N of a), True where b has a real step at that time; elsewhere are zeros.
        """
        x, mask, count = steps[b], real[b], steps[a].shape[1]
        if self.rates[a] == self.rates[b] and count == x.shape[1]:  # the same clock
            return (
                (x, x.new_ones(x.shape[:2], dtype=torch.bool)) if mask is None else (where_present(mask, x, 0.0), mask)
            )
        together = overlap(count, self.rates[a], x.shape[1], self.rates[b]).to(x.device)  # (N of a, N of b)
        heard = together.expand(len(x), -1, -1) if mask is None else together * mask[:, None, :]  # (B, N of a, N of b)
        total = heard.sum(dim=-1, keepdim=True)
        share = heard / total.clamp(min=1e-6)
        return share.to(x.dtype) @ where_present(mask, x, 0.0), total[..., 0] > 0


def overlap(steps: int, rate: float, other_steps: int, other_rate: float) -> Tensor:
    """Return for how many seconds step n of one stream and step k of another happen together, (steps, other_steps).

    Args:
        steps: Number of steps of the one.
        rate: Its steps a second.
        other_steps: Number of steps of the other.
        other_rate: Its steps a second.

    Chapter: fusion/hierarchical.
    """
    start, other_start = torch.arange(steps)[:, None] / rate, torch.arange(other_steps)[None] / other_rate
    end = torch.minimum(start + 1 / rate, other_start + 1 / other_rate)
    return (end - torch.maximum(start, other_start)).clamp(min=0)


def mean_over(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean (B, D) of the steps x (B, N, D) that `mask` (B, N) says are real; None means all are."""
    if mask is None:
        return x.mean(dim=1)
    share = mask / mask.sum(dim=1, keepdim=True).clamp(min=1)  # (B, N)
    return torch.einsum("bn,bnd->bd", share.to(x.dtype), where_present(mask, x, 0.0))
