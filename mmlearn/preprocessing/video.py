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


def to_motion(video: np.ndarray) -> Tensor:
    """Return what moves, as a tensor uint8 (C, T, H, W): each frame minus the clip's mean frame, plus 128.

    What stays the same (skin, beard, light) says who speaks; what differs says what is spoken.

    Raises:
        ValueError: If the array is not uint8 (T, H, W, C).
    """
    frames = to_tensor(video).float()
    return (frames - frames.mean(dim=1, keepdim=True) + 128).round().clamp(0, 255).to(torch.uint8)
