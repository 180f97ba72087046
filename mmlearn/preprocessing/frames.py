"""What counts as a picture or a clip, in NumPy's layout or in torchvision's, and the ways from one function to both.

Chapter: preprocessing/image.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

Frames = TypeVar("Frames", np.ndarray, Tensor)


def size_of(
    frames: np.ndarray | Tensor, *, channels: tuple[int, ...] = (1, 3, 4), also: tuple[torch.dtype, ...] = ()
) -> tuple[int, int]:
    """Return height and width of frames; make sure that they are a picture or a clip.

    Args:
        frames: What should be uint8, uint16 or float32 (H, W), (H, W, C) or (T, H, W, C) as an array, uint8 or floating
            (…, C, H, W) as a tensor.
        channels: The values of C that will do.
        also: More types of tensors that will do.

    Raises:
        TypeError: If it is neither an array nor a tensor.
        ValueError: If it has another type or shape, or nothing in it.
    """
    if isinstance(frames, np.ndarray):
        shape = frames.shape if frames.ndim > 2 else (*frames.shape, 1)
        good = len(shape) in (3, 4) and shape[-1] in channels and frames.dtype in (np.uint8, np.uint16, np.float32)
        expected, size = "uint8, uint16 or float32 (H, W), (H, W, C) or (T, H, W, C)", shape[-3:-1]
    elif isinstance(frames, Tensor):
        good = frames.ndim > 2 and frames.shape[-3] in channels
        good &= frames.is_floating_point() or frames.dtype in (torch.uint8, *also)
        expected, size = "uint8 or floating (…, C, H, W)", tuple(frames.shape[-2:])
    else:
        raise TypeError(f"frames is a {type(frames).__name__}; expected a NumPy array or a torch tensor")
    if not good or 0 in frames.shape:
        raise ValueError(f"frames is {frames.dtype} {tuple(frames.shape)}; expected {expected}, C in {channels}, and "
                         "no side of 0")  # fmt: skip
    return size[0], size[1]


def channels_of(frames: np.ndarray | Tensor) -> int:
    """Return C; an array (H, W) has one channel."""
    if isinstance(frames, Tensor):
        return frames.shape[-3]
    return 1 if frames.ndim == 2 else frames.shape[-1]


def pair(size: int | Sequence[int]) -> tuple[int, int]:
    """Return height and width from a pair, or from one number that stands for both.

    Raises:
        ValueError: If it is neither, or a side is not at least 1.
    """
    sides = (size, size) if isinstance(size, (int, np.integer)) else tuple(size)
    if len(sides) != 2 or any(int(side) != side or side < 1 for side in sides):
        raise ValueError(f"size is {size}; expected height and width in whole pixels, at least 1")
    return int(sides[0]), int(sides[1])


def index(frames: np.ndarray | Tensor, rows: Any, columns: Any) -> tuple:
    """Return the index that picks rows and columns in either layout."""
    if isinstance(frames, np.ndarray) and frames.ndim > 2:
        return ..., rows, columns, slice(None)
    return ..., rows, columns


def per_channel(values: float | Sequence[float], frames: Frames, name: str) -> Frames:
    """Return one number, or one a channel, as float32 in the shape that broadcasts over the frames.

    Raises:
        ValueError: If it is neither; it calls the argument `name`.
    """
    numbers = np.atleast_1d(np.asarray(values, np.float32))
    if numbers.shape not in ((1,), (channels_of(frames),)):
        raise ValueError(f"{name} is {values}; expected one number, or {channels_of(frames)}, one a channel")
    if isinstance(frames, np.ndarray):
        return numbers
    return torch.from_numpy(numbers).to(frames.device).reshape(-1, 1, 1)


def by_frame(frames: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Apply an OpenCV function to each frame; where it drops a channel axis of 1, that comes back."""
    if frames.ndim == 4:
        return np.stack([by_frame(frame, change) for frame in frames])
    done = change(np.ascontiguousarray(frames))
    return done.reshape(*done.shape[:2], -1) if frames.ndim == 3 else done


def in_float(frames: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function in float32, to values from 0 to 255 for uint8, which is rounded and clipped once."""
    done = change(frames.float())
    return done.to(frames.dtype) if frames.is_floating_point() else done.round().clamp(0, 255).to(frames.dtype)


def full(frames: np.ndarray | Tensor) -> float:
    """Return the value of full light: 255, 65535, or 1 for floats."""
    return {"uint8": 255.0, "uint16": 65535.0}.get(str(frames.dtype).removeprefix("torch."), 1.0)


def to_unit(frames: Frames) -> Frames:
    """Return float32 from 0 to 1."""
    if isinstance(frames, np.ndarray):
        return frames.astype(np.float32) / np.float32(full(frames))
    return frames.float() / full(frames)


def from_unit(unit: Frames, like: Frames) -> Frames:
    """Undo `to_unit`: return values from 0 to 1 in the type and range of `like`; whole numbers are clipped."""
    if full(like) == 1:
        return unit if isinstance(unit, np.ndarray) else unit.to(like.dtype)
    if isinstance(unit, np.ndarray):
        return np.rint(unit.clip(0, 1) * np.float32(full(like))).astype(like.dtype)
    return unit.clamp(0, 1).mul_(full(like)).round_().to(like.dtype)
