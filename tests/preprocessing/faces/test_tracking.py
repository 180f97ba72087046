"""mmlearn.preprocessing.faces: geometry by hand, the cascade against its definition and a peer's published numbers.

What needs the networks' weights (2 MB from PyPI) is marked: network. The real face is in matplotlib's own data; talker
1 of GRID is looked at where he is present.
"""

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mmlearn.datasets import Grid
from mmlearn.preprocessing.faces import Face, FaceTrack, cascade, crop_face, crop_mouth, find_faces, mtcnn, track_face
from mmlearn.preprocessing.image import resize
from tests.places import GRID
from tests.preprocessing.faces.conftest import HOPPER_LANDMARKS, SHAPE, blank, face, hopper, needs_weights


def small_hopper() -> np.ndarray:
    return resize(hopper(), (150, 128))


# The cascade's parts


# Tracks


def test_gaps_are_interpolated_by_time_and_ends_stay() -> None:
    times = [0.0, 0.1, 0.2, 0.5, 0.6, 0.7]
    faces: list[list[Face]] = [[], [face(100, 100)], [], [], [face(120, 100)], []]
    track = track_face(blank(6), times, faces=faces, smooth=0)
    assert track.found.tolist() == [False, True, False, False, True, False]
    assert np.allclose(track.landmarks[:, 2, 0], [100, 100, 104, 116, 120, 120])
    assert len(track) == 6 and track.size == (200, 300) and track.boxes.dtype == track.landmarks.dtype == np.float32


def test_smoothing_takes_noise_and_single_errors_away_and_keeps_a_steady_motion() -> None:
    rng = np.random.default_rng(0)
    path = np.linspace(100, 150, 300)
    faces = [[face(x + rng.normal(0, 2), 100)] for x in path]
    faces[30] = [face(path[30] + 25, 110)]
    raw, smooth = (track_face(blank(300), faces=faces, smooth=s).landmarks[:, 2, 0] - path for s in (0.0, 0.1))
    assert raw[30] > 20 and abs(smooth[30]) < 2
    assert np.abs(smooth[8:-8]).mean() < 0.5 * np.abs(np.delete(raw, 30)).mean()


# Crops


def test_a_crop_is_upright_centered_and_scaled() -> None:
    target = (SHAPE[3] + SHAPE[4]) / 2 + [150, 100]  # of an upright face
    for scale, degrees in ((1, 0), (1, 30), (1.5, -20), (0.5, 90)):
        one = face(150, 100, scale, degrees)
        picture = blank()
        for place, color in zip(one.landmarks, [(255, 0, 0)] * 2 + [(0, 255, 0)] + [(0, 0, 255)] * 2, strict=True):
            cv2.circle(picture[0], tuple(int(v) for v in np.round((place - 0.5) * 16)), int(48 * scale), color, -1,
                       cv2.LINE_AA, 4)  # fmt: skip
        track = track_face(picture, faces=[[one]])
        mouth = crop_mouth(picture, track, (60, 80), width=2.0)[0].astype(float)  # 1 old pixel is 1 / scale new ones
        rows, columns = np.nonzero(mouth[..., 2] > 128)
        assert columns.mean() == pytest.approx(39.5, abs=0.7) and rows.mean() == pytest.approx(29.5, abs=0.7)
        assert np.ptp(columns) == pytest.approx(32 + 6, abs=2) and np.ptp(rows) == pytest.approx(6, abs=2)
    assert target.tolist() == [150, 120]


def test_shrinking_a_crop_is_exact() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (1, 200, 300, 3), np.uint8)
    track = track_face(frames, faces=[[face(150, 100)]], smooth=0)
    found = crop_mouth(frames, track, (10, 20), width=2.0)  # 80 × 40 pixels around (150, 120), four by four
    expected = frames[0, 100:140, 110:190].reshape(10, 4, 20, 4, 3).mean(axis=(1, 3))
    assert np.abs(found[0] - expected).max() <= 0.51


def test_outside_of_the_picture_the_edge_is_repeated() -> None:
    frames = blank() + 77
    track = track_face(frames, faces=[[face(-10, 100)]])
    assert (crop_mouth(frames, track) == 77).all() and (crop_face(frames, track) == 77).all()


def test_kinds_of_frames_give_the_same_crop() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 200, 300, 3), np.uint8)
    track = track_face(frames, faces=[[face(150, 100)]] * 3)
    expected = crop_face(frames, track)
    assert expected.shape == (3, 112, 112, 3) and expected.dtype == np.uint8
    tensor = torch.from_numpy(frames).permute(0, 3, 1, 2)
    for kind in (tensor, tensor.float() / 255, frames.astype(np.float32) / 255, frames.astype(np.uint16) * 257):
        assert np.array_equal(crop_face(kind, track), expected)
    gray = crop_face(frames[..., :1], track)
    assert np.array_equal(gray[..., 0], gray[..., 2])


# What is wrong


@pytest.mark.parametrize(
    ("frames", "error"),
    [
        (np.zeros((0, 50, 50, 3), np.uint8), ValueError),
        (np.zeros((4, 50, 50, 5), np.uint8), ValueError),
        (np.zeros((4, 50, 50, 3), np.int64), ValueError),
        (np.full((50, 50, 3), np.nan, np.float32), ValueError),
        ([np.zeros((50, 50, 3), np.uint8)], TypeError),
        (torch.zeros(1, 2, 3, 50, 50), ValueError),
    ],
)
def test_what_is_no_frames_is_refused_before_anything_is_fetched(
    frames: object, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMLEARN_HOME", str(tmp_path))
    for function in (find_faces, track_face):
        with pytest.raises(error, match="frames"):
            function(frames)  # type: ignore[operator]
    assert not list(tmp_path.iterdir())


def test_unusable_arguments_are_named() -> None:
    frames, faces = blank(3), [[face(150, 100)]] * 3
    track = track_face(frames, faces=faces)
    for call, message in (
        (lambda: find_faces(frames, min_size=5), "min_size is 5; expected at least 12"),
        (lambda: find_faces(frames, thresholds=(0.6, 0.7, 7)), "thresholds"),
        (lambda: track_face(frames, [0, 1], faces=faces), r"times has the shape \(2,\); expected \(3,\)"),
        (lambda: track_face(frames, [0, 1, 1], faces=faces), "each above the one before"),
        (lambda: track_face(frames, faces=faces[:2]), "faces holds 2 frames; expected 3"),
        (lambda: track_face(frames, faces=faces, smooth=-1), "smooth is -1"),
        (lambda: track_face(frames, faces=[[]] * 3), "found no face in any of 3 frames of 200 × 300"),
        (lambda: crop_mouth(frames[:2], track), "expected 3 frames of 200 × 300"),
        (lambda: crop_mouth(blank(3, 100, 150), track), "expected 3 frames of 200 × 300"),
        (lambda: crop_mouth(frames, track, (0, 5)), "size is"),
        (lambda: crop_face(frames, track, width=0), "width is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


# With the weights


@needs_weights
def test_a_face_that_is_moved_shrunk_or_gray_is_found_there() -> None:
    picture = small_hopper()  # a quarter
    ((first,),) = find_faces(picture)
    assert np.allclose(4 * first.landmarks, HOPPER_LANDMARKS, atol=8)
    frames = np.full((4, 240, 320, 3), 90, np.uint8)
    places = [(0, 0), (170, 40), (60, 90), (192, 90)]
    for frame, (x, y) in zip(frames, places, strict=True):
        frame[y : y + 150, x : x + 128] = picture
    for (found,), place in zip(find_faces(frames), places, strict=True):
        assert np.abs(found.landmarks - first.landmarks - place).max() < 2
    ((gray,),) = find_faces(picture.mean(axis=2).astype(np.uint8))
    assert np.abs(gray.landmarks - first.landmarks).max() < 3
    tensor = torch.from_numpy(picture).permute(2, 0, 1)
    ((same,),) = find_faces(tensor)
    assert np.array_equal(same.box, first.box)


@needs_weights
def test_a_face_that_leaves_the_picture_is_followed() -> None:
    whole = np.pad(small_hopper(), ((40, 40), (60, 160), (0, 0)), mode="edge")
    frames = np.stack([whole[:, x : x + 180] for x in range(0, 160, 16)])
    ((first,), *_) = find_faces(frames)
    track = track_face(frames, smooth=0)
    moved = track.landmarks[:, 2, 0] - first.landmarks[2, 0] + 16 * np.arange(len(frames))
    assert np.abs(moved[track.found]).max() < 5
    assert track.boxes[track.found, 0].min() < -3  # the box reaches beyond the edge
    assert crop_face(frames, track).shape == (len(frames), 112, 112, 3)


@needs_weights
def test_one_of_two_real_people_is_followed() -> None:
    large, small = small_hopper(), resize(hopper(), (105, 90))
    frames = np.full((12, 200, 320, 3), 90, np.uint8)
    for k, frame in enumerate(frames):
        frame[20 + k : 125 + k, 220 - 8 * k : 310 - 8 * k] = small
        frame[30:180, 4 * k : 128 + 4 * k] = large if k != 7 else 90
    track = track_face(frames, smooth=0)
    assert track.found.sum() == 11 and not track.found[7]
    step = np.diff(track.landmarks[:, 2, 0])
    assert np.abs(step - 4).max() < 1.5


@needs_weights
def test_many_and_large_frames_are_looked_at_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.stack([np.roll(small_hopper(), 3 * k, axis=1) for k in range(5)])
    together = find_faces(frames, device="cpu")
    sizes: list[int] = []
    network = mtcnn.load_networks(torch.device("cpu")).propose
    watch = network.register_forward_hook(lambda _, inputs, __: sizes.append(inputs[0][:, 0].numel()))
    monkeypatch.setattr(cascade, "ROOM", 2**14)
    monkeypatch.setattr("mmlearn.preprocessing.faces.tracking.ROOM", 2 * 150 * 128)
    try:
        apart = find_faces(frames, device="cpu")
        small = max(sizes)
        find_faces(np.zeros((1080, 1920, 3), np.uint8), device="cpu")
    finally:
        watch.remove()
    assert small <= 2**14 and max(sizes) < 400 * 220  # no face below 1/18 of the height is looked for
    for some, others in zip(together, apart, strict=True):
        assert len(some) == len(others) == 1 and np.allclose(some[0].box, others[0].box, atol=1e-3)


@needs_weights
@pytest.mark.skipif(not (GRID / "s1").is_dir(), reason=f"talker 1 of GRID is not in {GRID}; set MMLEARN_GRID")
def test_a_mouth_of_another_talker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mtcnn.fetch_faces(progress=False)
    home = mtcnn.fetch_faces().parent
    monkeypatch.setenv("MMLEARN_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "faces").symlink_to(home / "faces")
    path = sorted((GRID / "s1").glob("*.mp4"))[400]
    for talker in ("s1", "s2"):
        (tmp_path / talker).mkdir()
        for source in (path, path.with_suffix(".align")):
            (tmp_path / talker / source.name).symlink_to(source)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fixed, found = Grid(tmp_path)[0].video, Grid(tmp_path, speakers=["s2"])[0].video
        monkeypatch.setattr("mmlearn.datasets.grid.dataset.decode", None)
        assert np.array_equal(Grid(tmp_path, speakers=["s2"], crop="mouth")[0].video, found)  # kept
    assert fixed is not None and found is not None and found.shape == fixed.shape == (75, 48, 64, 3)
    shifts = []
    for a, b in zip(fixed[::10], found[::10], strict=True):  # the same mouth at nearly the same place
        score = cv2.matchTemplate(a, b[8:40, 10:54], cv2.TM_CCOEFF_NORMED)
        assert score.max() > 0.85
        shifts.append(np.array(np.unravel_index(score.argmax(), score.shape)) - [8, 10])
    assert np.abs(shifts).max() <= 8
    moves = [np.abs(np.diff(v.astype(int), axis=0)).mean() for v in (fixed, found)]
    assert moves[1] < 1.3 * moves[0]  # as steady as the picture itself


def test_track_is_plain_data() -> None:
    track = FaceTrack(np.zeros((2, 4)), np.zeros((2, 5, 2)), np.ones(2, bool), (9, 9))
    assert len(track) == 2
