"""Which faces of neighboring frames are the same person's.

Chapter: finetuning/speech.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torchvision.ops import box_iou


@dataclass(frozen=True)
class Face:
    """A face in a picture.

    Args:
        box: float32 (4,), left, top, right, bottom. It may reach beyond the picture.
        score: Probability that it is a face.
        landmarks: float32 (5, 2), (x, y) of the eye on the left of the picture, the eye on its right, the nose, and the
            corners of the mouth on its left and right.

    Chapter: finetuning/speech.
    """

    box: np.ndarray
    score: float
    landmarks: np.ndarray


def link_faces(faces: Sequence[Sequence[Face]], times: np.ndarray, least: float = 0.1) -> list[dict[int, Face]]:
    """Join faces of different frames to tracks, frame → face: pairs with the most overlap in all, each at `least`."""
    tracks: list[dict[int, Face]] = []
    for k, some in enumerate(faces):
        if not some:
            continue
        new = list(range(len(some)))
        if tracks:
            expected = np.stack([_expected(track, times, k) for track in tracks])
            overlap = box_iou(torch.from_numpy(expected), torch.from_numpy(np.stack([f.box for f in some]))).numpy()
            for row, column in zip(*linear_sum_assignment(-overlap * (overlap >= least)), strict=True):
                if overlap[row, column] >= least:
                    tracks[row][k] = some[column]
                    new.remove(column)
        tracks += [{k: some[column]} for column in new]
    return tracks


def _expected(track: dict[int, Face], times: np.ndarray, k: int, memory: float = 0.2) -> np.ndarray:
    """Return the box (4,) that a track has in frame k if it keeps the velocity that it had; soon it stands still."""
    last = next(reversed(track))
    box = track[last].box
    before = [j for j in track if times[last] - times[j] <= memory]
    if len(before) < 2:
        return box
    speed = (box - track[before[0]].box) / (times[last] - times[before[0]])
    return box + speed.reshape(2, 2).mean(axis=0)[[0, 1, 0, 1]] * min(times[k] - times[last], memory)


def area_of(face: Face) -> float:
    """Return the area of a face's box, in pixels."""
    return float(np.maximum(face.box[2:] - face.box[:2], 0).prod())
