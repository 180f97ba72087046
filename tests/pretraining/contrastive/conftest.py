"""What several test files of this folder use."""

import torch
from torch import Tensor
from torch.nn.functional import normalize


def unit(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return normalize(torch.randn(*shape, dtype=dtype), dim=-1)
