"""Samples of all processes in each of them, with gradients that find their way back.

Chapter: pretraining/contrastive.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


class _Gather(torch.autograd.Function):
    """Forwards, everybody's tensor goes to everybody; backwards, everybody's gradient goes to the tensor's owner."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x)
        return torch.stack(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.contiguous()
        dist.all_reduce(grad)  # the sum over processes
        return grad[dist.get_rank()]


def gather_parts(x: Tensor) -> Tensor:
    """Return every process's tensor (B, …), stacked in the order of ranks: (processes, B, …). All have one shape.

    Backwards, each process gets the sum of the gradients that its tensor got anywhere.

    Chapter: pretraining/contrastive.
    """
    if x.dtype == torch.bool:  # not every backend sends these
        return gather_parts(x.byte()).bool()
    return _Gather.apply(x.contiguous())


def gather_all(x: Tensor) -> Tensor:
    """Return every process's samples (B, …) as one tensor (N, …), in the order of ranks.

    Chapter: pretraining/contrastive.
    """
    return gather_parts(x).flatten(0, 1)  # (processes, B, …) → (N, …)


def own_part(size: int) -> slice:
    """Return where this process's samples, `size` in number, stand in what `gather_all` returns.

    Chapter: pretraining/contrastive.
    """
    return slice(dist.get_rank() * size, (dist.get_rank() + 1) * size)
