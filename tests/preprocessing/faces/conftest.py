"""What several test files of this folder use."""

import matplotlib.cbook
import numpy as np
import pytest

from mmlearn.preprocessing.faces import Face
from mmlearn.preprocessing.image import read_image

needs_weights = pytest.mark.network


HOPPER_LANDMARKS = [[221.6661, 192.2059], [309.8289, 186.1304], [269.3569, 239.1736], [232.6520, 279.6487],
                    [306.6385, 275.9275]]  # fmt: skip


SHAPE = np.array([[-20, -20], [20, -20], [0, 0], [-16, 20], [16, 20]], np.float32)  # eyes, nose, corners of the mouth


def face(x: float, y: float, scale: float = 1.0, degrees: float = 0.0) -> Face:
    """A face around (x, y), whose eyes are 40 pixels apart and 40 above the mouth."""
    turn = np.deg2rad(degrees)
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    box = np.array([x - 40 * scale, y - 50 * scale, x + 40 * scale, y + 50 * scale], np.float32)
    return Face(box, 0.99, (SHAPE @ matrix.T + [x, y]).astype(np.float32))


def hopper() -> np.ndarray:
    """A portrait, uint8 (600, 512, 3)."""
    return read_image(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))


def blank(frames: int = 1, height: int = 200, width: int = 300) -> np.ndarray:
    return np.zeros((frames, height, width, 3), np.uint8)
