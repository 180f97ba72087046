"""Sums over thousands of values, logarithms and square roots are not for bfloat16, which keeps three digits."""

import torch
from torch import Tensor, nn


def wide(tensor: Tensor) -> torch.dtype:
    """Return float32, or float64 where the tensor is that."""
    return torch.promote_types(tensor.dtype, torch.float32)


def precise(tensor: Tensor) -> Tensor:
    """Return a tensor in float32 at least. Chapter: pretraining/autoencoder."""
    return tensor.to(wide(tensor))


def like_weights(x: Tensor, module: nn.Module) -> Tensor:
    """Return a tensor in the type of a module's first weight, so that `model.bfloat16()` and `model.half()` run.

    Bytes and floats may come in any type; a module without weights gets them as they are.

    Chapter: start/first_model.
    """
    weight = next((weight for weight in module.parameters() if weight.is_floating_point()), None)
    return x if weight is None else x.to(weight.dtype)
