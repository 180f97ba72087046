"""Sums over thousands of values, logarithms and square roots are not for bfloat16, which keeps three digits."""

import torch
from torch import Tensor, nn


def at_least_float32(tensor: Tensor) -> torch.dtype:
    """Return float32, or float64 where the tensor is that."""
    return torch.promote_types(tensor.dtype, torch.float32)


def to_float32(tensor: Tensor) -> Tensor:
    """Return a tensor in float32 at least. Chapter: pretraining/autoencoder.

    Examples:
        >>> to_float32(torch.ones(1, dtype=torch.float16)).dtype
        torch.float32
    """
    return tensor.to(at_least_float32(tensor))


def like_weights(x: Tensor, module: nn.Module) -> Tensor:
    """Return a tensor in the type of a module's first weight, so that `model.bfloat16()` and `model.half()` run.

    Bytes and floats may come in any type; a module without weights gets them as they are.

    Chapter: start/first_model.
    """
    weight = next((weight for weight in module.parameters() if weight.is_floating_point()), None)
    return x if weight is None else x.to(weight.dtype)


def standardize(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Give each sample of a batch mean 0 and standard deviation 1, over all that is real in it.

    Loudness, exposure and paper differ from clip to clip; without this step training stands still for several epochs.

    Args:
        x: (B, …, N), floating-point; half precision is widened to float32.
        mask: bool (B, N), True where a step is real; the steps that are not keep no influence.

    Chapter: start/first_model.

    Examples:
        >>> standardize(torch.tensor([[1.0, 3.0]])).round(decimals=2).tolist()
        [[-1.0, 1.0]]
    """
    x, dims = to_float32(x), tuple(range(1, x.ndim))
    if mask is None:
        std, mean = torch.std_mean(x, dim=dims, keepdim=True, correction=0)
        return (x - mean) / (std + 1e-3)
    real = mask.view(len(x), *[1] * (x.ndim - 2), -1).expand_as(x)  # (B, …, N)
    count = real.sum(dims, keepdim=True).clamp(min=1)
    mean = torch.where(real, x, 0.0).sum(dims, keepdim=True) / count
    centred = torch.where(real, x - mean, 0.0)
    std = (centred.square().sum(dims, keepdim=True) / count).sqrt()
    return centred / (std + 1e-3)
