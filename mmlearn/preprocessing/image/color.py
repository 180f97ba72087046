"""Colours of pictures and clips: channel order, grey, transparency, number range, light.

Chapter: preprocessing/image.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from mmlearn.preprocessing.image.cropping import draw
from mmlearn.preprocessing.image.layout import (
    Frames,
    by_frame,
    channels_of,
    from_unit,
    full,
    in_float,
    per_channel,
    size_of,
    to_unit,
)

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB from 0 to 1: what weights pretrained on ImageNet expect
IMAGENET_STD = (0.229, 0.224, 0.225)
GRAY = (0.299, 0.587, 0.114)  # how bright red, green and blue look (ITU-R BT.601)


def bgr_to_rgb(frames: Frames) -> Frames:
    """Swap red and blue, OpenCV's order against everyone else's; it is its own inverse. Alpha stays last.

    Raises:
        TypeError, ValueError: If the frames have no three or four channels.

    Chapter: preprocessing/image.

    Examples:
        >>> bgr_to_rgb(np.array([[[1, 2, 3]]], np.uint8)).tolist()
        [[[3, 2, 1]]]
    """
    size_of(frames, channels=(3, 4))
    order = [2, 1, 0, 3][: channels_of(frames)]
    if isinstance(frames, np.ndarray):
        return np.ascontiguousarray(frames[..., order])
    return frames[..., order, :, :]


def to_gray(frames: Frames) -> Frames:
    """Return one channel, 0.299 R + 0.587 G + 0.114 B; the channel axis stays.

    Both backends agree within 1 level of uint8, and 1e-6 for floats.

    Raises:
        TypeError, ValueError: If the frames are not RGB.

    Chapter: preprocessing/image.

    Examples:
        >>> to_gray(np.array([[[255, 0, 0]]], np.uint8)).ravel().tolist()
        [76]
    """
    size_of(frames, channels=(3,))
    if isinstance(frames, np.ndarray):
        return by_frame(frames, lambda frame: cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY))
    weights = per_channel(GRAY, frames, "GRAY")
    return in_float(frames, lambda f: (f * weights).sum(dim=-3, keepdim=True))


def drop_alpha(frames: Frames, background: float | Sequence[float] | None = None) -> Frames:
    """Lay RGBA on a background: `α · colour + (1 - α) · background`.

    Both backends agree within 1 level of uint8, and 1e-6 for floats.

    Args:
        frames: RGBA, see `mmlearn.preprocessing.image`.
        background: One number, or three, in the range of `frames`; by default white.

    Raises:
        TypeError, ValueError: If the frames are not RGBA.

    Chapter: preprocessing/image.
    """
    size_of(frames, channels=(4,))
    ground = np.broadcast_to(full(frames) if background is None else background, 3) / full(frames)
    if isinstance(frames, np.ndarray):
        unit, ground = to_unit(frames), ground.astype(np.float32)
        return from_unit(ground + unit[..., 3:] * (unit[..., :3] - ground), frames)
    x = to_unit(frames)
    behind = torch.tensor(ground, dtype=x.dtype, device=x.device).reshape(3, 1, 1)
    return from_unit(behind + x[..., 3:, :, :] * (x[..., :3, :, :] - behind), frames)


def to_uint8(frames: Frames) -> Frames:
    """Return 8-bit frames: uint16 is divided by 257, floats from 0 to 1 are multiplied by 255; both are rounded.

    Floats a little outside, as "bicubic" leaves them, are clipped. uint8 is returned as it is.

    Raises:
        TypeError, ValueError: If floats are not finite, or clearly not from 0 to 1 (below -0.5 or above 1.5).

    Chapter: preprocessing/image.
    """
    size_of(frames, also=(torch.uint16,))
    if full(frames) == 255:
        return frames
    unit = to_unit(frames)
    if isinstance(unit, torch.Tensor) and unit.device.type != "cpu":  # wait for the device: a wrong result would stay
        to_unit(unit.cpu())
    if isinstance(unit, np.ndarray):
        return np.rint(unit.clip(0, 1) * 255).astype(np.uint8)
    return (unit.clamp(0, 1) * 255).round().to(torch.uint8)


def normalize(frames: Frames, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD) -> Frames:
    """Return `(x - mean) / std` as float32, where x is the frames as values from 0 to 1.

    Args:
        frames: See `mmlearn.preprocessing.image`.
        mean: One number a channel, of values from 0 to 1.
        std: One positive number a channel.

    Raises:
        TypeError, ValueError: If an argument is not as described.

    Chapter: preprocessing/image.
    """
    size_of(frames)
    _check_statistics(mean, std, channels_of(frames))
    return (to_unit(frames) - per_channel(mean, frames, "mean")) / per_channel(std, frames, "std")


def denormalize(frames: Frames, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD) -> Frames:
    """Undo `normalize`: return `x · std + mean`, values from 0 to 1; `to_uint8` makes a picture of them again.

    Raises:
        TypeError, ValueError: If the frames are no floats, or another argument is not as `normalize` has it.
    """
    size_of(frames)
    if full(frames) != 1:
        raise ValueError(f"frames is {frames.dtype}; expected floats, as normalize returns them")
    _check_statistics(mean, std, channels_of(frames))
    return frames * per_channel(std, frames, "std") + per_channel(mean, frames, "mean")


def _check_statistics(mean: Sequence[float], std: Sequence[float], channels: int) -> None:
    if not len(mean) == len(std) == channels or min(std) <= 0:
        raise ValueError(f"mean is {mean}, std {std}; expected {channels} numbers each, one a channel, and std > 0")


def adjust_color(
    frames: Frames, *, brightness: float = 1.0, contrast: float = 1.0, saturation: float = 1.0, hue: float = 0.0
) -> Frames:
    """Change the light, in this order: brightness, contrast, saturation, hue; values are clipped to 0 … 1 after each.

    Both backends calculate in floats and round once; they agree within 1 level of uint8, and 1e-3 for floats.

    Args:
        frames: RGB or grey, see `mmlearn.preprocessing.image`. Grey has neither saturation nor hue.
        brightness: Factor of all values, ≥ 0.
        contrast: Factor of the distance from the frame's mean grey, ≥ 0.
        saturation: Factor of the distance from each pixel's own grey, ≥ 0.
        hue: How far to turn the circle of colours, in turns, from -0.5 to 0.5.

    Raises:
        TypeError, ValueError: If an argument is not as described.

    Chapter: preprocessing/image.
    """
    size_of(frames, channels=(1, 3))
    if not (min(brightness, contrast, saturation) >= 0 and -0.5 <= hue <= 0.5):
        raise ValueError(f"brightness is {brightness}, contrast {contrast}, saturation {saturation}, hue {hue}; "
                         "expected factors ≥ 0, and hue from -0.5 to 0.5")  # fmt: skip
    x = to_unit(frames)
    if isinstance(x, np.ndarray):
        return from_unit(by_frame(x, lambda frame: _adjust(frame, brightness, contrast, saturation, hue)), frames)
    from torchvision.transforms.v2 import functional as tv  # takes two seconds: not before it is needed

    x = tv.adjust_contrast(tv.adjust_brightness(x, brightness), contrast)
    x = tv.adjust_saturation(x, saturation)
    if hue != 0 and x.requires_grad:  # torchvision works in place there
        raise ValueError("frames require a gradient, which a turn of the hue has none of; expected frames.detach()")
    return from_unit(tv.adjust_hue(x, hue) if hue != 0 else x, frames)


def color_jitter(
    frames: Frames,
    generator: np.random.Generator,
    *,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
) -> Frames:
    """Change the light at random, the same in all frames: factors from 1 - x to 1 + x, hue from -x to x turns.

    Raises:
        TypeError, ValueError: If `generator` is no NumPy Generator, or x is not from 0 to 1 (hue: 0.5).

    Chapter: preprocessing/image.
    """
    check_jitter(brightness, contrast, saturation, hue)
    b, c, s, h = np.array([1, 1, 1, 0]) + (2 * draw(generator, 4) - 1) * (brightness, contrast, saturation, hue)
    return adjust_color(frames, brightness=b, contrast=c, saturation=s, hue=h)


def check_jitter(brightness: float, contrast: float, saturation: float, hue: float) -> None:
    """Make sure that the strengths of a colour jitter are from 0 to 1, hue's from 0 to 0.5.

    Raises:
        ValueError: If one is not.
    """
    if not (all(0 <= x <= 1 for x in (brightness, contrast, saturation)) and 0 <= hue <= 0.5):
        raise ValueError(f"brightness is {brightness}, contrast {contrast}, saturation {saturation}, hue {hue}; "
                         "expected 0 to 1, and hue 0 to 0.5")  # fmt: skip


def _adjust(frame: np.ndarray, brightness: float, contrast: float, saturation: float, hue: float) -> np.ndarray:
    """`adjust_color` for one frame, float32 (H, W) or (H, W, C) from 0 to 1, by OpenCV."""
    colour = frame.ndim == 3 and frame.shape[2] == 3
    if brightness != 1:
        frame = np.clip(frame * np.float32(brightness), 0, 1)
    if contrast != 1:
        mean = cv2.mean(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) if colour else frame)[0]
        frame = np.clip(frame * np.float32(contrast) + np.float32((1 - contrast) * mean), 0, 1)
    if saturation != 1 and colour:
        grey = cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        frame = np.clip(cv2.addWeighted(frame, saturation, grey, 1 - saturation, 0), 0, 1)
    if hue != 0 and colour:
        hsv = cv2.cvtColor(frame, cv2.COLOR_RGB2HSV)  # of floats: hue in degrees
        hsv[..., 0] = (hsv[..., 0] + np.float32(360 * hue)) % 360
        frame = np.clip(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), 0, 1)
    return frame
