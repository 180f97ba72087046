"""Pictures: OpenCV against torchvision, Pillow, and what must hold for any picture."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from mmlearn.preprocessing import image
from mmlearn.preprocessing.image import (
    Box,
    adjust_color,
    bgr_to_rgb,
    center_crop,
    color_jitter,
    crop,
    drop_alpha,
    five_crop,
    flip,
    from_letterbox,
    letterbox,
    normalize,
    random_crop,
    random_resized_crop,
    resize,
    resize_matrix,
    rotate,
    to_gray,
    to_uint8,
)
from tests.preprocessing.image.pictures import (
    NOISE,
    RGB,
    distance,
    generator,
    pictures,
    sizes,
    to_numpy,
    to_torch,
    unit,
)

INTERPOLATIONS = ["auto", "nearest", "bilinear", "bicubic", "area", "lanczos"]


# Each operation, on arrays and on tensors, with what its docstring promises: levels of uint8, difference of floats.
OPERATIONS: list[tuple[str, Callable[[Any], Any], float, float]] = [
    *(
        (f"resize {how} {size}", lambda f, h=how, s=size: resize(f, s, interpolation=h), how != "nearest", 1e-4)
        for how in INTERPOLATIONS
        for size in [(40, 50), (100, 130), (30, 200), (1, 1), (61, 83)]
    ),
    ("inside", lambda f: resize(f, 32, fit="inside"), 1, 1e-4),
    ("cover", lambda f: resize(f, (90, 20), fit="cover"), 1, 1e-4),
    ("letterbox", lambda f: letterbox(f, (50, 40), fill=(0.25, 0.5, 1))[0], 1, 1e-4),
    ("crop", lambda f: crop(f, 3, 5, 20, 30), 0, 0),
    ("center_crop", lambda f: center_crop(f, (20, 31)), 0, 0),
    ("random_crop", lambda f: random_crop(f, (20, 31), generator()), 0, 0),
    ("random_resized_crop", lambda f: random_resized_crop(f, 24, generator()), 1, 1e-4),
    ("flip", flip, 0, 0),
    ("flip down", lambda f: flip(f, horizontal=False), 0, 0),
    *((f"rotate {d}", lambda f, d=d: rotate(f, d, fill=(0.2, 0.4, 0.9)), 1, 1e-4) for d in (0, 7.5, -40, 90, 180, 765)),
    ("brightness", lambda f: adjust_color(f, brightness=1.4), 1, 1e-3),
    ("contrast", lambda f: adjust_color(f, contrast=0.4), 1, 1e-3),
    ("more contrast", lambda f: adjust_color(f, contrast=1.8), 1, 1e-3),
    ("saturation", lambda f: adjust_color(f, saturation=1.9), 1, 1e-3),
    ("hue", lambda f: adjust_color(f, hue=0.3), 1, 1e-3),
    ("hue back", lambda f: adjust_color(f, hue=-0.5), 1, 1e-3),
    ("all colours", lambda f: adjust_color(f, brightness=0.7, contrast=1.3, saturation=0.4, hue=0.1), 1, 1e-3),
    (
        "color_jitter",
        lambda f: color_jitter(f, generator(), brightness=0.5, contrast=0.5, saturation=0.5, hue=0.2),
        1,
        1e-3,
    ),
    ("bgr_to_rgb", bgr_to_rgb, 0, 0),
    ("to_gray", to_gray, 1, 1e-6),
    ("normalize", normalize, 1e-6, 1e-6),
    ("to_uint8", to_uint8, 0, 0),
]


@pytest.mark.parametrize(
    ("operation", "levels", "tolerance"), [o[1:] for o in OPERATIONS], ids=[o[0] for o in OPERATIONS]
)
def test_opencv_equals_torchvision(operation: Callable, levels: float, tolerance: float) -> None:
    assert distance(operation(RGB), operation(to_torch(RGB))) <= levels
    assert distance(operation(RGB[0]), operation(to_torch(RGB[0]))) <= levels
    floats = unit(RGB)
    assert distance(operation(floats), operation(to_torch(floats))) <= tolerance


@pytest.mark.parametrize(
    ("ours", "reference"),
    [
        (lambda f: rotate(f, 30), lambda f: tv.rotate(f, 30, InterpolationMode.BILINEAR)),
        (lambda f: adjust_color(f, brightness=1.4), lambda f: tv.adjust_brightness(f, 1.4)),
        (lambda f: adjust_color(f, contrast=0.4), lambda f: tv.adjust_contrast(f, 0.4)),
        (lambda f: adjust_color(f, saturation=1.9), lambda f: tv.adjust_saturation(f, 1.9)),
        (lambda f: adjust_color(f, hue=0.3), lambda f: tv.adjust_hue(f, 0.3)),
        (to_gray, tv.rgb_to_grayscale),
        (normalize, lambda f: tv.normalize(f, list(image.IMAGENET_MEAN), list(image.IMAGENET_STD))),
        (lambda f: center_crop(f, (21, 31)), lambda f: tv.center_crop(f, [21, 31])),
        (flip, tv.horizontal_flip),
        (lambda f: resize(f, (40, 50), interpolation="nearest"),
         lambda f: tv.resize(f, [40, 50], InterpolationMode.NEAREST_EXACT)),
        (lambda f: resize(f, (244, 332), interpolation="bilinear"), lambda f: tv.resize(f, [244, 332], antialias=True)),
        (lambda f: resize(f, (20, 20), interpolation="bicubic"),
         lambda f: tv.resize(f, [20, 20], InterpolationMode.BICUBIC, antialias=False)),
        (lambda f: torch.stack([to_torch(k) for k in five_crop(to_numpy(f), 21)]),
         lambda f: torch.stack(tv.five_crop(f, [21, 21]))),
    ],
)  # fmt: skip
def test_torchvision_itself(ours: Callable, reference: Callable) -> None:
    floats = to_torch(unit(RGB))
    assert float((ours(floats) - reference(floats)).abs().max()) < 2e-4


def test_opencv_itself() -> None:
    for how, flag in [
        ("nearest", cv2.INTER_NEAREST_EXACT),
        ("bilinear", cv2.INTER_LINEAR),
        ("lanczos", cv2.INTER_LANCZOS4),
    ]:
        assert np.array_equal(
            resize(RGB[0], (40, 120), interpolation=how), cv2.resize(RGB[0], (120, 40), interpolation=flag)
        )
    assert np.array_equal(resize(RGB[0], (20, 30)), cv2.resize(RGB[0], (30, 20), interpolation=cv2.INTER_AREA))
    assert np.array_equal(to_gray(RGB[0])[..., 0], cv2.cvtColor(RGB[0], cv2.COLOR_RGB2GRAY))
    assert np.array_equal(bgr_to_rgb(NOISE[0]), cv2.cvtColor(NOISE[0], cv2.COLOR_BGRA2RGBA))


@settings(max_examples=40)
@given(frames=pictures, size=sizes, how=st.sampled_from(INTERPOLATIONS))
def test_resize_keeps_type_range_and_channels(frames: np.ndarray, size: tuple[int, int], how: Any) -> None:
    new = resize(frames, size, interpolation=how)
    axis = frames.ndim - 3 if frames.ndim > 2 else 0
    assert new.shape == (*frames.shape[:axis], *size, *frames.shape[axis + 2 :])
    assert new.dtype == frames.dtype
    if how not in ("bicubic", "lanczos"):  # those overshoot
        slack = 0 if frames.dtype != np.float32 else 1e-6
        assert frames.min() - slack <= new.min() and new.max() <= frames.max() + slack
    assert np.array_equal(resize(frames, frames.shape[axis : axis + 2], interpolation=how), frames)


@settings(max_examples=40)
@given(frames=pictures, data=st.data())
def test_geometry_of_any_picture(frames: np.ndarray, data: st.DataObject) -> None:
    assert np.array_equal(flip(flip(frames)), frames)
    assert np.array_equal(flip(flip(frames, False), False), frames)
    turned = rotate(frames, 180)
    assert np.abs(turned.astype(float) - flip(flip(frames), False)).max() <= (1e-5 if frames.dtype == np.float32 else 1)
    h, w = frames.shape[:2] if frames.ndim < 4 else frames.shape[1:3]
    size = data.draw(st.tuples(st.integers(1, h), st.integers(1, w)))
    seed = data.draw(st.integers(0, 9))
    small = random_crop(frames, size, generator(seed))
    assert np.array_equal(small, random_crop(frames, size, generator(seed)))  # seeds reproduce
    assert random_resized_crop(frames, size, generator(seed)).dtype == frames.dtype
    places = [Box(i, j, *size) for i in range(h - size[0] + 1) for j in range(w - size[1] + 1)]
    assert any(np.array_equal(crop(frames, *place), small) for place in places)
    assert len(five_crop(frames, size)) == 5
    boxed, box = letterbox(frames, size)
    inside = crop(boxed, *box)
    assert np.array_equal(inside, resize(frames, size, fit="inside"))
    assert box.height == size[0] or box.width == size[1]


@pytest.mark.parametrize("operation", [o[1] for o in OPERATIONS], ids=[o[0] for o in OPERATIONS])
def test_one_draw_a_clip(operation: Callable) -> None:
    still = np.repeat(RGB[:1], 3, axis=0)  # three frames, all the same
    moved = operation(still)
    assert np.array_equal(moved[0], moved[1]) and np.array_equal(moved[0], moved[2])
    assert np.array_equal(moved[0], operation(still[0]))


def test_random_operations_differ_between_draws() -> None:
    rng = generator()
    assert len({random_crop(RGB, 20, rng).tobytes() for _ in range(8)}) > 5
    assert len({random_resized_crop(RGB, 20, rng).tobytes() for _ in range(8)}) > 5
    assert len({color_jitter(RGB, rng, hue=0.2).tobytes() for _ in range(8)}) > 5
    assert np.array_equal(color_jitter(RGB, rng), RGB)  # no strength, no change
    rows, columns = (np.broadcast_to(k, (9, 9)).astype(np.uint8) for k in (np.arange(9)[:, None], np.arange(9)))
    assert {int(random_crop(rows, 7, rng)[0, 0]) for _ in range(60)} == {0, 1, 2}  # all places
    assert {int(random_crop(columns, 7, rng)[0, 0]) for _ in range(60)} == {0, 1, 2}


@pytest.mark.parametrize("kind", ["auto", "bilinear", "area", "lanczos"])
def test_a_resize_is_two_matrices(kind: Any) -> None:
    picture = unit(RGB[0, :, :, 0])
    for size in [(40, 50), (100, 130), (30, 200)]:
        rows, columns = resize_matrix(61, size[0], kind), resize_matrix(83, size[1], kind)
        assert torch.allclose(rows.sum(1), torch.ones(size[0], dtype=torch.float64))
        mine = rows.numpy() @ picture @ columns.numpy().T
        assert np.abs(mine - resize(picture, size, interpolation=kind)).max() < 1e-4
    if kind != "lanczos":
        part = resize_matrix(61, 20, kind, 7, 31).numpy() @ picture
        assert np.abs(part - resize(picture[7:38], (20, 83), interpolation=kind)).max() < 1e-4


def test_fit_and_letterbox() -> None:
    picture = np.zeros((300, 400, 3), np.uint8)
    assert resize(picture, 224, fit="inside").shape == (168, 224, 3)
    assert resize(picture, 224, fit="cover").shape == (224, 299, 3)
    assert resize(picture, (1, 1), fit="inside").shape == (1, 1, 3)
    boxed, box = letterbox(picture, 224, fill=114)
    assert box == (28, 0, 168, 224)
    assert (boxed[:28] == 114).all() and (boxed[196:] == 114).all() and not boxed[28:196].any()
    corners = np.array([[0.0, 28.0], [224.0, 196.0], [112.0, 112.0]])  # x, y
    assert np.allclose(from_letterbox(corners, box, (300, 400)), [[0, 0], [400, 300], [200, 150]])
    grey, box = letterbox(picture[..., 0], (10, 80), fill=9)
    assert grey.shape == (10, 80) and (grey == 9).sum() == 10 * (80 - box.width)


def test_nearest_takes_the_nearest_centre() -> None:
    row = np.arange(10, dtype=np.uint8)[None]
    assert resize(row, (1, 5), interpolation="nearest").tolist() == [[1, 3, 5, 7, 9]]
    assert resize(row, (1, 2), interpolation="nearest").tolist() == [[2, 7]]


def test_rotation_turns_counter_clockwise() -> None:
    square = RGB[0, :61, :61]
    assert np.array_equal(rotate(square, 90), np.rot90(square))
    white = np.full((20, 30), 255, np.uint8)
    corner = rotate(white, 45, fill=100)[0, 0]
    assert corner == 100


GOOD = np.zeros((8, 9, 3), np.uint8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: resize(GOOD.astype(np.float64), 4), r"float64 \(8, 9, 3\); expected uint8, uint16 or float32"),
        (lambda: resize(np.zeros((2, 8, 9), np.uint8), 4), r"C in \(1, 3, 4\)"),
        (lambda: resize(np.zeros((0, 9, 3), np.uint8), 4), "no side of 0"),
        (lambda: resize(np.zeros((0, 8, 9, 3), np.uint8), 4), "no side of 0"),
        (lambda: resize(np.zeros(5, np.uint8), 4), r"\(5,\)"),
        (lambda: resize(torch.zeros(8, 9, 3), 4), r"expected uint8 or floating \(…, C, H, W\)"),
        (lambda: resize(torch.zeros(3, 8, 9, dtype=torch.int64), 4), "int64"),
        (lambda: resize(GOOD, 0), "size is 0"),
        (lambda: resize(GOOD, (4, 5, 6)), r"size is \(4, 5, 6\)"),
        (lambda: resize(GOOD, (4.5, 6)), r"size is \(4.5, 6\)"),
        (lambda: resize(GOOD, 4, interpolation="cubic"), "interpolation is 'cubic'"),
        (lambda: resize(GOOD, 4, fit="outside"), "fit is 'outside'"),
        (lambda: letterbox(GOOD, 4, fill=(1, 2)), "fill is"),
        (lambda: rotate(GOOD, float("nan")), "degrees is nan"),
        (lambda: rotate(GOOD, 3, fill=(1, 2)), "fill is"),
        (lambda: crop(GOOD, 4, 0, 5, 5), r"5 × 5 at \(4, 0\).*8 × 9"),
        (lambda: crop(GOOD, -1, 0, 5, 5), "does not lie inside"),
        (lambda: crop(GOOD, 0, 0, 0, 5), "does not lie inside"),
        (lambda: center_crop(GOOD, 10), "does not lie inside"),
        (lambda: random_crop(GOOD, 10, generator()), "does not lie inside"),
        (lambda: random_resized_crop(GOOD, 4, generator(), scale=(0, 1)), "scale is"),
        (lambda: random_resized_crop(GOOD, 4, generator(), ratio=(2, 1)), "ratio"),
        (lambda: adjust_color(GOOD, brightness=-1), "brightness is -1"),
        (lambda: adjust_color(GOOD, hue=0.6), "hue 0.6"),
        (lambda: adjust_color(NOISE, hue=0.1), r"C in \(1, 3\)"),
        (lambda: color_jitter(GOOD, generator(), contrast=2), "contrast 2"),
        (lambda: to_gray(NOISE), r"C in \(3,\)"),
        (lambda: drop_alpha(GOOD), r"C in \(4,\)"),
        (lambda: bgr_to_rgb(GOOD[..., :1]), r"C in \(3, 4\)"),
        (lambda: normalize(GOOD, (0.5,), (0.5,)), "expected 3 numbers each"),
        (lambda: normalize(GOOD, (0, 0, 0), (1, 0, 1)), "std > 0"),
        (lambda: to_uint8(GOOD.astype(np.float32) + 200), "from 200.0 to 200.0; expected values from 0 to 1"),
        (lambda: to_uint8(np.full((2, 2), np.nan, np.float32)), "nan"),
    ],
)  # fmt: skip
def test_unusable_arguments(call: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
