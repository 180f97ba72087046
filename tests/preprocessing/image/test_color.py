"""mmlearn.preprocessing.image.color: colors by hand, number ranges, transparency."""

import numpy as np
import torch
from hypothesis import given, settings

from mmlearn.preprocessing.image import (
    adjust_color,
    bgr_to_rgb,
    denormalize,
    drop_alpha,
    normalize,
    rotate,
    to_gray,
    to_uint8,
)
from tests.preprocessing.image.pictures import NOISE, RGB, distance, pictures, to_torch, unit


def test_colours_by_hand() -> None:
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 200
    assert (adjust_color(red, hue=1 / 3) == [0, 200, 0]).all()  # red → green
    assert (adjust_color(red, saturation=0) == 60).all()  # 0.299 · 200
    assert (to_gray(red) == 60).all() and to_gray(red).shape == (2, 2, 1)
    assert (adjust_color(red, brightness=2) == [255, 0, 0]).all()
    assert (adjust_color(red, contrast=0) == 60).all()
    grey = RGB[..., :1]
    assert np.array_equal(adjust_color(grey, saturation=0.3, hue=0.2), grey)
    assert abs(int(adjust_color(grey, contrast=0)[0, 0, 0, 0]) - grey[0].mean()) < 1
    assert distance(adjust_color(grey, contrast=0.5), adjust_color(to_torch(grey), contrast=0.5)) <= 1
    assert distance(rotate(grey, 10, 7), rotate(to_torch(grey), 10, 7)) <= 1
    assert np.array_equal(bgr_to_rgb(bgr_to_rgb(NOISE)), NOISE)
    assert bgr_to_rgb(red)[0, 0].tolist() == [0, 0, 200]


@settings(max_examples=30)
@given(frames=pictures)
def test_normalise_and_back(frames: np.ndarray) -> None:
    channels = frames.shape[-1] if frames.ndim > 2 else 1
    mean, std = [0.1, 0.5, 0.9, 0.3][:channels], [0.2, 0.5, 1.0, 2.0][:channels]
    back = denormalize(normalize(frames, mean, std), mean, std)
    full = {"uint8": 255, "uint16": 65535}.get(str(frames.dtype), 1)
    assert np.abs(back - frames / full).max() < 1e-6
    if frames.dtype == np.uint8:
        assert np.array_equal(to_uint8(back), frames)


def test_alpha() -> None:
    over = drop_alpha(NOISE)
    by_hand = NOISE[..., :3] * (NOISE[..., 3:] / 255.0) + 255 * (1 - NOISE[..., 3:] / 255.0)
    assert np.abs(over - by_hand).max() <= 0.5 + 1e-4
    assert distance(over, drop_alpha(to_torch(NOISE))) <= 1
    assert distance(drop_alpha(unit(NOISE), 0.3), drop_alpha(to_torch(unit(NOISE)), 0.3)) < 1e-6
    clear = np.zeros((2, 2, 4), np.uint16)
    assert (drop_alpha(clear) == 65535).all() and (drop_alpha(clear, (1, 2, 3)) == [1, 2, 3]).all()


def test_sixteen_bits_and_floats_to_eight() -> None:
    levels = np.arange(256, dtype=np.uint16)[None]
    assert np.array_equal(to_uint8(levels * 257), levels)
    assert np.array_equal(to_uint8((levels / 255).astype(np.float32)), levels)
    assert to_uint8(torch.tensor([[[0, 257, 65535]]], dtype=torch.uint16)).tolist() == [[[0, 1, 255]]]
    assert to_uint8(np.array([[-0.2, 1.3]], np.float32)).tolist() == [[0, 255]]
    assert to_uint8(RGB) is RGB
