"""mmlearn.preprocessing.image.layout: arrays and tensors of any type, order and stride."""

import numpy as np
import pytest
import torch

from mmlearn.preprocessing.image import (
    adjust_color,
    flip,
    random_crop,
    resize,
    rotate,
)
from tests.preprocessing.image.pictures import RGB, to_torch, unit
from tests.preprocessing.image.test_geometry import GOOD


def test_half_precision_and_strides() -> None:
    half = to_torch(unit(RGB)).half()
    assert resize(half, 20).dtype == adjust_color(half, hue=0.1).dtype == rotate(half, 9).dtype == torch.half
    backwards = RGB[:, ::-1, ::2]  # negative and wide strides
    assert np.array_equal(resize(backwards, 20), resize(np.ascontiguousarray(backwards), 20))


def test_wrong_types() -> None:
    with pytest.raises(TypeError, match="frames is a list"):
        flip([[1, 2], [3, 4]])  # type: ignore[type-var]
    with pytest.raises(TypeError, match="generator is 0; expected a NumPy Generator"):
        random_crop(GOOD, 4, 0)  # type: ignore[arg-type]
