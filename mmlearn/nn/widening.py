"""Sums over thousands of values, logarithms and square roots are not for bfloat16, which keeps three digits."""

import torch
from torch import Tensor


def wide(tensor: Tensor) -> torch.dtype:
    """Return float32, or float64 where the tensor is that."""
    return torch.promote_types(tensor.dtype, torch.float32)


def precise(tensor: Tensor) -> Tensor:
    """Return a tensor in float32 at least. Chapter: pretraining/autoencoder."""
    return tensor.to(wide(tensor))
