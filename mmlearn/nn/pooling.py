"""From many steps to one vector.

Chapter: start/first_model.
"""

import torch
from torch import Tensor, nn


class AttentionPool(nn.Module):
    """Average over steps with learned weights, so that a model can look where there is something to see.

    The weights are `softmax(w · x_n)` over the real steps n (Bahdanau et al. 2015 with one fixed query).

    Args:
        dim: Width D of a step.

    Chapter: start/first_model.

    Examples:
        >>> AttentionPool(8)(torch.zeros(2, 5, 8)).shape
        torch.Size([2, 8])
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, 1, bias=False)  # a softmax does not see a bias added to all scores

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pool steps (B, N, D) to (B, D); `mask` (B, N) is True where a step is real.

        A sample without any real step gets a finite vector, so that an absent modality does no harm.
        """
        scores = self.score(x).squeeze(-1)  # (B, N)
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=-1)
        return torch.einsum("bn,bnd->bd", weights, x)


class PositionwisePool(nn.Module):
    """Mix steps linearly, each with weights of its own: for clips of equal length in which place in time has a meaning.

    Each step is narrowed first, then all steps are concatenated and projected. In a six-word sentence that is always
    spoken in the same order, this knows where the digit stands; `AttentionPool` has to find it.

    Args:
        dim: Width D of a step and of the result.
        steps: Number of steps N of every clip.
        width: Width of a narrowed step.

    Chapter: start/first_model.

    Examples:
        >>> PositionwisePool(8, steps=5)(torch.zeros(2, 5, 8)).shape
        torch.Size([2, 8])
    """

    def __init__(self, dim: int, steps: int, width: int = 32) -> None:
        super().__init__()
        self.narrow = nn.Linear(dim, width)
        self.mix = nn.Linear(steps * width, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pool steps (B, N, D) to (B, D); what `mask` (B, N) says is no real step counts as zero."""
        x = self.narrow(x)  # (B, N, width)
        if mask is not None:
            x = torch.where(mask[..., None], x, 0.0)
        return self.mix(x.flatten(1))  # (B, N * width) → (B, D)
