"""Frames for a model.

Chapters: start/first_model, preprocessing/video.
"""

import numpy as np
import torch
from torch import Tensor


def to_tensor(video: np.ndarray) -> Tensor:
    """Return frames uint8 (T, H, W, C) as a tensor uint8 (C, T, H, W); encoders make it float on their device.

    Raises:
        ValueError: If the array has another shape or type.
    """
    if video.dtype != np.uint8 or video.ndim != 4:
        raise ValueError(f"video is {video.dtype} {video.shape}; expected uint8 (T, H, W, C)")
    return torch.from_numpy(np.ascontiguousarray(video.transpose(3, 0, 1, 2)))
