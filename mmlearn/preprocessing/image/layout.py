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
        remedy = "np.stack makes one array of frames" if isinstance(frames, list | tuple) else (
            "np.asarray(picture) gives a PIL picture's" if hasattr(frames, "getbands") else "")  # fmt: skip
        raise TypeError(f"frames is a {type(frames).__name__}; expected a NumPy array or a torch tensor"
                        + (f": {remedy}" if remedy else ""))  # fmt: skip
    if not good or 0 in frames.shape:
        raise ValueError(f"frames is {frames.dtype} {tuple(frames.shape)}; expected {expected}, C in {channels}, and "
                         f"no side of 0{_hint(frames)}")  # fmt: skip
    return size[0], size[1]


def _hint(frames: np.ndarray | Tensor) -> str:
    """Return what to do with frames that are usual elsewhere; "" where there is nothing to suggest."""
    shape, channels = tuple(frames.shape), (1, 3, 4)
    if isinstance(frames, Tensor):
        turned = len(shape) > 2 and shape[-1] in channels and shape[-3] not in channels
        return ": is this (…, H, W, C)? Then movedim(-1, -3)" if turned else ""
    if frames.dtype in (np.float64, np.float16):
        return ": .astype(np.float32), with values from 0 to 1"
    turned = len(shape) > 2 and shape[-3] in channels and shape[-1] not in channels
    return ": is this (…, C, H, W)? Then np.moveaxis(frames, -3, -1)" if turned else ""


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
    number = (int, float, np.integer, np.floating)
    sides = (size, size) if isinstance(size, number) else tuple(size) if np.iterable(size) else ()
    if len(sides) != 2 or any(not isinstance(side, number) or side < 1 or side % 1 for side in sides):
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
    """Return float32 from 0 to 1.

    Raises:
        ValueError: If floats are not finite, or clearly not from 0 to 1 (below -0.5 or above 1.5). Of tensors on a
            device, which the check would have to wait for, this is not looked at.
    """
    if full(frames) == 1 and (isinstance(frames, np.ndarray) or _at_hand(frames)):
        values = frames if isinstance(frames, np.ndarray) else frames.detach()
        low, high = float(values.min()), float(values.max())
        if not (low >= -0.5 and high <= 1.5):  # NaN is neither
            remedy = ": divide by 255, or give uint8" if 0 <= low <= 1.5 < high <= 255 else ""
            raise ValueError(f"frames are {frames.dtype} from {low} to {high}; expected values from 0 to 1{remedy}")
    if isinstance(frames, np.ndarray):
        return frames.astype(np.float32) / np.float32(full(frames))
    return frames.float() / full(frames)


def _at_hand(frames: Tensor) -> bool:
    return frames.device.type == "cpu" and not torch.compiler.is_compiling()


def from_unit(unit: Frames, like: Frames) -> Frames:
    """Undo `to_unit`: return values from 0 to 1 in the type and range of `like`; whole numbers are clipped."""
    if full(like) == 1:
        return unit if isinstance(unit, np.ndarray) else unit.to(like.dtype)
    if isinstance(unit, np.ndarray):
        return np.rint(unit.clip(0, 1) * np.float32(full(like))).astype(like.dtype)
    return unit.clamp(0, 1).mul_(full(like)).round_().to(like.dtype)
