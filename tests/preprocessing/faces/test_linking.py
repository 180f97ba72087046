"""mmlearn.preprocessing.faces.linking: which faces of many frames are one person's."""

import numpy as np
import pytest

from mmlearn.preprocessing.faces import track_face
from tests.preprocessing.faces.conftest import blank, face


def test_a_track_follows_one_of_two_people_who_cross() -> None:
    left_to_right, right_to_left = np.linspace(60, 540, 41), np.linspace(540, 60, 41)
    faces = [[face(b, 110), face(a, 90, 1.2)] for a, b in zip(left_to_right, right_to_left, strict=True)]
    for k in (19, 20, 21):
        faces[k] = []  # behind one another
    track = track_face(blank(41, 200, 600), faces=faces, smooth=0)
    assert np.allclose(track.boxes[:, [0, 2]].mean(axis=1), left_to_right, atol=0.01)  # the larger one's, all the way
    assert track.found.tolist() == [k not in (19, 20, 21) for k in range(41)]
    swapped = track_face(blank(41, 200, 600), faces=[some[::-1] for some in faces], smooth=0)
    assert np.array_equal(swapped.boxes, track.boxes)


def test_the_longest_and_largest_face_is_followed() -> None:
    faces = [[face(60, 100, 0.5), *([face(220, 100, 0.8)] if 3 <= k < 6 else [])] for k in range(20)]
    assert track_face(blank(20), faces=faces).found.all()
    large = [[face(60, 100, 0.3), face(220, 100, 0.8)] for _ in range(20)]
    assert track_face(blank(20), faces=large).landmarks[0, 2, 0] == pytest.approx(220)
