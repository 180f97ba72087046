"""Resize, flip and rotate pictures and clips, by OpenCV or by torchvision.

Each function takes one picture, or all frames of one clip, and returns the kind that it was given:

- a NumPy array as files give it, (H, W), (H, W, C) or (T, H, W, C), uint8, uint16 or float32: by OpenCV;
- a tensor as torchvision wants it, (…, C, H, W), uint8 or floating, on any device: by torchvision.transforms.v2.

Both give the same within what each function states. The values of floats are from 0 to 1. Channels are grey (1), RGB or
RGBA. What is drawn at random is drawn once for all frames of a clip.

Chapter: preprocessing/image.
"""

import math
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from mmlearn.preprocessing.image.cropping import (
    Box,
    crop,
    draw,
    random_boxes,
)
from mmlearn.preprocessing.image.layout import Frames, by_frame, in_float, index, pair, per_channel, size_of

Interpolation = Literal["auto", "nearest", "bilinear", "bicubic", "area", "lanczos"]

_CV = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC, "area": cv2.INTER_AREA, "lanczos": cv2.INTER_LANCZOS4}


def resize(
    frames: Frames,
    size: int | tuple[int, int],
    *,
    interpolation: Interpolation = "auto",
    fit: Literal["stretch", "inside", "cover"] = "stretch",
) -> Frames:
    """Resize to (H, W); an integer means a square.

    "auto" is "area", the mean of all that a new pixel covers, in a direction that shrinks, and "bilinear" in one that
    grows. The others are what they say in both directions. All but "auto" and "area" shrink without smoothing: they
    leave pixels out (aliasing). "nearest" takes the pixel whose centre is nearest. "bicubic" and "lanczos" overshoot at
    edges; whole numbers are clipped.

    Both backends agree: "nearest" exactly, the others within 1 level of uint8, and 1e-4 for floats.

    Args:
        frames: A picture or a clip, see the module.
        size: Height and width in pixels, at least 1.
        interpolation: How new pixels come from old ones.
        fit: "stretch" gives exactly `size`. The others keep the aspect ratio: "inside" is the largest that fits into
            `size`, "cover" the smallest that covers it.

    Raises:
        TypeError, ValueError: If an argument is not as described.

    Chapter: preprocessing/image.

    Examples:
        >>> resize(np.zeros((120, 160, 3), np.uint8), (60, 80)).shape
        (60, 80, 3)
    """
    old, new = size_of(frames), pair(size)
    if fit in ("inside", "cover"):
        ratios = new[0] / old[0], new[1] / old[1]
        ratio = min(ratios) if fit == "inside" else max(ratios)
        new = max(1, round(old[0] * ratio)), max(1, round(old[1] * ratio))
    elif fit != "stretch":
        raise ValueError(f'fit is {fit!r}; expected "stretch", "inside" or "cover"')
    if interpolation in ("auto", "area"):  # first the directions that shrink, then those that grow
        smaller = min(old[0], new[0]), min(old[1], new[1])
        return _resize(_resize(frames, smaller, "area"), new, "area" if interpolation == "area" else "bilinear")
    if interpolation != "nearest" and interpolation not in _CV:
        raise ValueError(f"interpolation is {interpolation!r}; expected auto, nearest, {', '.join(_CV)}")
    return _resize(frames, new, interpolation)


def _resize(frames: Frames, size: tuple[int, int], interpolation: str) -> Frames:
    old = size_of(frames)
    if old == size:
        return frames
    if interpolation == "nearest":  # in whole numbers, so that no rounding decides
        rows, columns = ((2 * np.arange(n) + 1) * o // (2 * n) for n, o in zip(size, old, strict=True))
        if isinstance(frames, np.ndarray):
            return frames[index(frames, rows[:, None], columns)]
        return frames[index(frames, *(torch.from_numpy(k).to(frames.device) for k in (rows[:, None], columns)))]
    if isinstance(frames, np.ndarray):
        return by_frame(frames, lambda frame: cv2.resize(frame, size[::-1], interpolation=_CV[interpolation]))
    if interpolation in ("bilinear", "bicubic"):
        from torchvision.transforms.v2 import (
            InterpolationMode,
            functional,
        )  # takes two seconds: not before it is needed

        mode = InterpolationMode(interpolation)
        return in_float(frames, lambda f: functional.resize(f, list(size), mode, antialias=False))
    kind: Literal["area", "lanczos"] = "area" if interpolation == "area" else "lanczos"
    height, width = (resize_matrix(o, n, kind).to(frames.device, torch.float32) for o, n in zip(old, size, strict=True))
    return in_float(frames, lambda f: height @ f @ width.T)  # (h, H) (…, C, H, W) (W, w) → (…, C, h, w)


def resize_matrix(
    old: int,
    new: int,
    interpolation: Literal["auto", "bilinear", "area", "lanczos"],
    start: Tensor | float = 0.0,
    length: Tensor | float | None = None,
) -> Tensor:
    """Return the matrix (new, old) that resizes a column of pixels; a picture takes two: `A @ picture @ B.T`.

    Each row holds the weights of one new pixel, which sum to 1.

    Args:
        old: Number of old pixels.
        new: Number of new ones.
        interpolation: See `resize`.
        start: First of the old pixels to use, so that the matrix crops, too: a number, or (B, 1, 1) for B matrices.
        length: How many of them to use, likewise; by default all. "lanczos" knows neither.

    Returns:
        float64 on the device of `start`; float32 where a device has no float64.

    Raises:
        ValueError: If there are no pixels.

    Chapter: preprocessing/image.
    """
    if min(old, new) < 1:
        raise ValueError(f"old is {old}, new is {new}; expected at least one pixel each")
    device = start.device if isinstance(start, Tensor) else torch.device("cpu")
    real = torch.float32 if device.type == "mps" else torch.float64
    start = torch.as_tensor(start, dtype=real, device=device)
    length = torch.as_tensor(old if length is None else length, dtype=real, device=device)
    i = torch.arange(new, dtype=real, device=device)[:, None]  # (new, 1)
    j = torch.arange(old, dtype=real, device=device)  # (old,)
    step = length / new  # how many old pixels a new one covers
    centre = (i + 0.5) * step - 0.5  # where the new pixel's centre falls, among the old ones from `start`
    if interpolation == "lanczos":
        taps = centre.floor() + torch.arange(-3, 5, dtype=real, device=device)  # (new, 8)
        weights = torch.sinc(centre - taps) * torch.sinc((centre - taps) / 4)
        inside = taps.clamp(0, old - 1).long()  # beyond the edge, its last pixel is repeated
        matrix = torch.zeros(new, old, dtype=real, device=device).scatter_add_(1, inside, weights)
        return matrix / matrix.sum(dim=1, keepdim=True)
    low = start + i * step
    area = (torch.minimum(low + step, j + 1) - torch.maximum(low, j)).clamp(min=0) / step
    if interpolation == "area":
        return area
    middle = start + torch.minimum(centre.clamp(min=0), length - 1)
    bilinear = (1 - (middle - j).abs()).clamp(min=0)
    return bilinear if interpolation == "bilinear" else torch.where(step > 1, area, bilinear)


def letterbox(frames: Frames, size: int | tuple[int, int], fill: float | Sequence[float] = 0) -> tuple[Frames, Box]:
    """Resize to (H, W) without distortion: the largest that fits, in the middle, with bars beside it.

    Args:
        frames: A picture or a clip, see the module.
        size: Height and width in pixels.
        fill: Value of the bars in the range of `frames`, one number or one a channel.

    Returns:
        The frames, and where the picture lies in them: `crop(boxed, *box)` takes the bars away, `from_letterbox` maps
        points back.

    Raises:
        TypeError, ValueError: If an argument is not as described.

    Chapter: preprocessing/image.

    Examples:
        >>> picture, box = letterbox(np.zeros((120, 160, 3), np.uint8), 80)
        >>> picture.shape, box
        ((80, 80, 3), Box(top=10, left=0, height=60, width=80))
    """
    height, width = pair(size)
    small = resize(frames, (height, width), fit="inside")
    h, w = size_of(small)
    box = Box((height - h) // 2, (width - w) // 2, h, w)
    inside = index(small, slice(box.top, box.top + h), slice(box.left, box.left + w))
    shape = list(small.shape)
    row = -3 if isinstance(small, np.ndarray) and small.ndim > 2 else -2
    shape[row], shape[row + 1] = height, width
    boxed = np.empty(shape, small.dtype) if isinstance(small, np.ndarray) else small.new_empty(shape)
    boxed[...] = per_channel(fill, small, "fill")
    boxed[inside] = small
    return boxed, box


def from_letterbox(points: np.ndarray, box: Box, size: tuple[int, int]) -> np.ndarray:
    """Map points in a letterboxed picture back into the original.

    Args:
        points: (…, 2), x and y in pixels: (0, 0) is the outer corner of the first pixel, (0.5, 0.5) its centre.
        box: What `letterbox` returned.
        size: Height and width of the original.

    Chapter: preprocessing/image.
    """
    return (np.asarray(points) - (box.left, box.top)) * (size[1] / box.width, size[0] / box.height)


def random_resized_crop(
    frames: Frames,
    size: int | tuple[int, int],
    generator: np.random.Generator,
    *,
    scale: tuple[float, float] = (0.5, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Frames:
    """Cut out a rectangle of random area, shape and place, the same in all frames, and resize it (Szegedy et al. 2015).

    Args:
        frames: A picture or a clip, see the module.
        size: Height and width of the result.
        generator: What to draw from.
        scale: Smallest and largest share of the frame's area, in (0, 1].
        ratio: Smallest and largest width / height.

    Raises:
        TypeError, ValueError: If an argument is not as described.

    Chapter: preprocessing/image.
    """
    box = random_boxes(draw(generator, 1, 10, 4), size_of(frames), scale, ratio)[0]
    return resize(crop(frames, *box.tolist()), size)


def flip(frames: Frames, horizontal: bool = True) -> Frames:
    """Mirror left and right, or top and bottom; both backends do it exactly.

    A mirrored character, sign or "left" is another one, or none: ask whether your labels survive it.

    Raises:
        TypeError, ValueError: If these are no frames.

    Chapter: preprocessing/image.

    Examples:
        >>> flip(np.arange(3)[None].astype(np.uint8)).tolist()
        [[2, 1, 0]]
    """
    size_of(frames)
    if isinstance(frames, np.ndarray):
        return by_frame(frames, lambda frame: cv2.flip(frame, int(horizontal)))
    return frames.flip(-1 if horizontal else -2)


def rotate(frames: Frames, degrees: float, fill: float | Sequence[float] = 0) -> Frames:
    """Turn counter-clockwise about the centre, bilinearly; the size stays, and what turns out of it is lost.

    OpenCV 5 and torchvision agree within 1 level of uint8, and 1e-4 for floats. (OpenCV 4 rounds positions to 1/32 of a
    pixel, and is off by several levels at edges.)

    Args:
        frames: A picture or a clip, see the module.
        degrees: Any angle.
        fill: Value of what was outside, in the range of `frames`, one number or one a channel.

    Raises:
        TypeError, ValueError: If an argument is not as described.

    Chapter: preprocessing/image.
    """
    height, width = size_of(frames)
    ground = per_channel(fill, frames, "fill")
    if not math.isfinite(degrees):
        raise ValueError(f"degrees is {degrees}; expected a finite angle")
    if isinstance(frames, np.ndarray):
        turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
        border = (ground.tolist() * 4)[:4]  # OpenCV reads as many as there are channels
        return by_frame(frames, lambda frame: cv2.warpAffine(frame, turn, (width, height), borderValue=border))
    from torchvision.transforms.v2 import InterpolationMode, functional

    # torchvision fades to black at the border, whatever the fill; so the ground is black for a moment.
    mode = InterpolationMode.BILINEAR
    return in_float(frames, lambda f: functional.rotate(f - ground, degrees, mode) + ground)
