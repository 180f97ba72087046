"""Frames as a tensor."""

import numpy as np
import pytest
import torch

from mmlearn.preprocessing.video import to_motion, to_tensor


def test_axes_move_and_bytes_stay() -> None:
    video = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    tensor = to_tensor(video)
    assert tensor.shape == (3, 2, 4, 5)
    assert tensor.dtype == torch.uint8
    assert tensor[1, 0, 2, 3] == video[0, 2, 3, 1]


@pytest.mark.parametrize("wrong", [np.zeros((2, 4, 5, 3), np.float32), np.zeros((4, 5, 3), np.uint8)])
def test_errors(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \(T, H, W, C\)"):
        to_tensor(wrong)


def test_motion_is_grey_where_nothing_moves() -> None:
    video = np.full((4, 2, 2, 3), 200, np.uint8)
    video[:2, 0, 0] = 100  # mean 150: 50 below it, then 50 above
    motion = to_motion(video)
    assert motion[:, :, 1, 1].unique().tolist() == [128]
    assert motion[0, :, 0, 0].tolist() == [78, 78, 178, 178]
