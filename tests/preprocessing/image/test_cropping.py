"""mmlearn.preprocessing.image.cropping: boxes inside the picture, of the area and shape asked for."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlearn.preprocessing.image.cropping import random_boxes
from tests.preprocessing.image.pictures import generator, sizes


@settings(max_examples=30)
@given(
    size=sizes,
    low=st.floats(0.01, 1),
    wide=st.floats(0.05, 20),
    seed=st.integers(0, 99),
)
def test_random_boxes_lie_inside(size: tuple[int, int], low: float, wide: float, seed: int) -> None:
    boxes = random_boxes(generator(seed).random((20, 10, 4)), size, (low, 1.0), (min(wide, 1), max(wide, 1)))
    assert boxes.dtype == np.int64
    assert (boxes >= (0, 0, 1, 1)).all() and (boxes[:, :2] + boxes[:, 2:] <= size).all()


def test_random_boxes_have_the_area_and_shape_asked_for() -> None:
    boxes = random_boxes(generator().random((4000, 10, 4)), (1000, 1000), (0.2, 0.6), (0.5, 2.0))
    area, shape = boxes[:, 2] * boxes[:, 3] / 1e6, boxes[:, 3] / boxes[:, 2]
    assert 0.199 < area.min() < 0.21 and 0.55 < area.max() < 0.601
    assert 0.499 < shape.min() < 0.51 and 1.9 < shape.max() < 2.01
    assert abs(np.median(np.log(shape))) < 0.05  # as often wide as high
    assert abs((boxes[:, 0] / (1001 - boxes[:, 2])).mean() - 0.5) < 0.02  # anywhere
    tall = random_boxes(np.full((1, 10, 4), 0.5), (100, 10), (0.9, 1.0), (1.0, 2.0))  # no try fits
    assert tall.tolist() == [[45, 0, 10, 10]]
