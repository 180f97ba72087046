"""mmlearn.preprocessing.faces.cascade: patches by hand, and real faces where another implementation finds them."""

import numpy as np
import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d

from mmlearn.preprocessing.faces import cascade, find_faces, track_face
from tests.preprocessing.faces.conftest import HOPPER_LANDMARKS, hopper, needs_weights

# facenet-pytorch 2.6.0's own answer for this picture (keep_all, min_face_size 20), its corner moved by one pixel.
HOPPER_BOX = [173.4022, 118.5554, 355.6483, 340.4570]


def test_patches_are_the_mean_of_what_they_touch_and_black_outside() -> None:
    frames = torch.randint(0, 256, (2, 37, 45, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[0, 0, 45, 37], [3, 5, 20, 35], [-7, 30, 12, 49], [40, -5, 60, 3], [10, 10, 13, 12]])
    which = torch.tensor([0, 1, 1, 0, 1])
    found = cascade._patches(cascade._integral(frames), which, boxes, (24, 12))
    padded = torch.nn.functional.pad(frames.permute(0, 3, 1, 2).double(), (100, 100, 100, 100))
    for patch, k, (left, top, right, bottom) in zip(found, which, boxes.tolist(), strict=True):
        picture = padded[k, :, top + 100 : bottom + 100, left + 100 : right + 100]
        assert torch.allclose(patch.double(), (adaptive_avg_pool2d(picture, (24, 12)) - 127.5) / 128, atol=1e-5)


def test_sums_that_overflow_are_exact() -> None:
    frames = torch.randint(0, 256, (1, 30, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    sums, box = cascade._integral(frames), torch.tensor([[5, 3, 37, 29]])
    far = sums + (2**31 - 50_000)  # as deep in a picture of 9 million white pixels
    assert sums.dtype == far.dtype == torch.int32 and far.min() < 0 < far.max()
    first, second = (cascade._patches(s, torch.tensor([0]), box, (6, 8)) for s in (sums, far))
    assert torch.equal(first, second)


def test_a_box_inside_a_better_one_is_left_out_in_its_own_frame_only() -> None:
    boxes = np.array([[10, 10, 90, 90, 0.9], [20, 20, 50, 50, 0.8], [85, 85, 150, 150, 0.7]], np.float32)
    assert cascade._separate(boxes, np.array([0, 0, 0])) == [0, 2]
    assert cascade._separate(boxes, np.array([0, 1, 0])) == [0, 1, 2]


@needs_weights
def test_a_real_face_is_where_the_peer_finds_it() -> None:
    ((found,),) = find_faces(hopper(), min_size=20, device="cpu")
    assert np.allclose(found.box, HOPPER_BOX, atol=0.02) and np.allclose(found.landmarks, HOPPER_LANDMARKS, atol=0.02)
    assert found.score > 0.999


@needs_weights
@pytest.mark.parametrize(("height", "width"), [(1, 1), (11, 200), (19, 19), (200, 11)])
def test_pictures_smaller_than_a_face_show_none(height: int, width: int) -> None:
    assert find_faces(np.zeros((2, height, width, 3), np.uint8)) == [[], []]
    with pytest.raises(ValueError, match="found no face"):
        track_face(np.zeros((2, height, width, 3), np.uint8))
