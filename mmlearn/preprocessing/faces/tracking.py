"""Find faces in pictures, follow one through a clip, and cut out the face or the mouth, upright and steady.

    track = track_face(frames)                          # frames uint8 (T, H, W, 3)
    mouth = crop_mouth(frames, track, size=(48, 64))    # uint8 (T, 48, 64, 3)

Faces are found by MTCNN (Zhang et al. 2016), whose weights (2 MB) are fetched at the first call. Positions are (x, y)
in pixels, with (0, 0) at the upper left corner of the picture and (0.5, 0.5) in the middle of its first pixel.

Chapter: finetuning/speech.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d, median_filter
from torch import Tensor

from mmlearn import runtime
from mmlearn.preprocessing.faces.cascade import CELL, detect
from mmlearn.preprocessing.faces.linking import Face, area_of, link_faces
from mmlearn.preprocessing.faces.mtcnn import load_networks
from mmlearn.preprocessing.image.color import drop_alpha, to_uint8
from mmlearn.preprocessing.image.geometry import resize
from mmlearn.preprocessing.image.layout import channels_of, size_of

ROOM = 2**22  # pixels of the frames that are looked at together


@dataclass(frozen=True)
class FaceTrack:
    """One face through a clip, smoothed over time.

    Args:
        boxes: float32 (T, 4), left, top, right, bottom.
        landmarks: float32 (T, 5, 2), see `Face`.
        found: bool (T,), whether the face was found in this frame; where not, its place lies between its neighbors'.
        size: Height and width of the frames.

    Chapter: finetuning/speech.
    """

    boxes: np.ndarray
    landmarks: np.ndarray
    found: np.ndarray
    size: tuple[int, int]

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.found)


def find_faces(
    frames: np.ndarray | Tensor,
    *,
    min_size: int | None = None,
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7),
    device: torch.device | str | None = None,
) -> list[list[Face]]:
    """Find all faces in each frame.

    Args:
        frames: A picture or a clip: an array (H, W), (H, W, C) or (T, H, W, C), a tensor (C, H, W) or (T, C, H, W);
            grey, RGB or RGBA.
        min_size: Height of the smallest face to look for, in pixels, at least 12. By default 1/18 of the shorter side,
            and at least 20. The larger, the quicker.
        thresholds: Least probability after each of the three networks.
        device: Where the networks run; by default `mmlearn.device()`.

    Returns:
        A list of faces for each frame, the largest first; it is empty where there is none. A picture counts as one
        frame.

    Raises:
        TypeError, ValueError: If an argument is not as described.
        FetchError, OSError: If the weights are not there and cannot be fetched.

    Zhang et al. 2016. Chapter: finetuning/speech.
    """
    clip = _as_clip(frames)
    height, width = clip.shape[1:3]
    if min_size is None:
        min_size = max(20, min(height, width) // 18)
    if not CELL <= min_size < float("inf"):
        raise ValueError(f"min_size is {min_size}; expected at least {CELL} pixels")
    if len(thresholds) != 3 or not all(0 <= t <= 1 for t in thresholds):
        raise ValueError(f"thresholds is {thresholds}; expected three probabilities, one a network")
    on = torch.device(device) if device is not None else runtime.device()
    networks = load_networks(on)
    faces: list[list[Face]] = []
    step = max(1, ROOM // (height * width))
    for start in range(0, len(clip), step):
        part = torch.from_numpy(np.array(clip[start : start + step])).to(on)  # may be a view of read-only memory
        found: list[list[Face]] = [[] for _ in part]
        for box, score, landmarks, k in zip(*detect(networks, part, min_size, thresholds), strict=True):
            found[k].append(Face(box, float(score), landmarks))
        faces += [sorted(some, key=area_of, reverse=True) for some in found]
    return faces


def track_face(
    frames: np.ndarray | Tensor,
    times: Sequence[float] | np.ndarray | None = None,
    *,
    faces: Sequence[Sequence[Face]] | None = None,
    min_size: int | None = None,
    smooth: float = 0.1,
    device: torch.device | str | None = None,
) -> FaceTrack:
    """Follow one face through a clip: the one that is seen longest and largest.

    Faces of neighboring frames are the same person's where their boxes overlap (intersection over union), the second
    one moved on with its velocity. Where the face is not found, its place is interpolated; before the first and after
    the last frame that shows it, it stays. A cut to another person at another place ends a track.

    Args:
        frames: A clip, see `find_faces`.
        times: When each frame is shown, in seconds; by default 25 frames a second.
        faces: What `find_faces` returned for these frames, where it was called before.
        min_size: See `find_faces`.
        smooth: Standard deviation of the Gaussian by which positions are smoothed over time, in seconds; 0: not at all.
        device: See `find_faces`.

    Raises:
        TypeError, ValueError: If an argument is not as described, or no frame shows a face.
        FetchError, OSError: If the weights are not there and cannot be fetched.

    Chapter: finetuning/speech.
    """
    clip = _as_clip(frames)
    when = np.arange(len(clip)) / 25 if times is None else np.asarray(times, np.float64)
    if when.shape != (len(clip),):
        raise ValueError(f"times has the shape {when.shape}; expected ({len(clip)},), one time a frame")
    if not np.isfinite(when).all() or (np.diff(when) <= 0).any():
        raise ValueError("times are not in order; expected seconds, each above the one before")
    if not 0 <= smooth < float("inf"):
        raise ValueError(f"smooth is {smooth}; expected seconds, at least 0")
    if faces is None:
        faces = find_faces(clip, min_size=min_size, device=device)
    if len(faces) != len(clip):
        raise ValueError(f"faces holds {len(faces)} frames; expected {len(clip)}, as many as the clip has")
    tracks = link_faces(faces, when)
    if not tracks:
        raise ValueError(f"found no face in any of {len(clip)} frames of {clip.shape[1]} × {clip.shape[2]} pixels; "
                         "a face must be at least min_size pixels high, and upright")  # fmt: skip
    track = max(tracks, key=lambda track: sum(area_of(face) ** 0.5 for face in track.values()))
    at = sorted(track)
    places = np.stack([np.append(track[k].box, track[k].landmarks) for k in at]).astype(np.float64)  # (n, 14)
    if smooth:
        places = median_filter(places, (5, 1), mode="nearest")  # without what was found wrongly
    places = np.stack([np.interp(when, when[at], column) for column in places.T], axis=1)  # (T, 14)
    if smooth and len(when) > 1:
        places = gaussian_filter1d(places, smooth / float(np.median(np.diff(when))), axis=0, mode="nearest")
    found = np.zeros(len(clip), bool)
    found[at] = True
    places = places.astype(np.float32)
    return FaceTrack(places[:, :4], places[:, 4:].reshape(-1, 5, 2), found, (clip.shape[1], clip.shape[2]))


def crop_mouth(
    frames: np.ndarray | Tensor, track: FaceTrack, size: tuple[int, int] = (48, 64), *, width: float = 2.4
) -> np.ndarray:
    """Cut out the mouth, in the middle, upright, and always of the same size.

    Args:
        frames: The clip that was tracked, see `find_faces`.
        track: What `track_face` returned.
        size: Height and width of the result, in pixels.
        width: Of what is shown, in distances between the eyes (the mean of that and of the one from eyes to mouth,
            since a turn of the head shortens only one of them). 2.4 shows what GRID's fixed crop of talker 1 does.

    Returns:
        uint8 (T, *size, 3). What lies outside of the picture repeats its edge.

    Raises:
        TypeError, ValueError: If an argument is not as described.

    Chapter: finetuning/speech.
    """
    return _cut(frames, track, track.landmarks[:, 3:].mean(axis=1), size, width)


def crop_face(
    frames: np.ndarray | Tensor, track: FaceTrack, size: tuple[int, int] = (112, 112), *, width: float = 3.6
) -> np.ndarray:
    """Cut out the whole face, upright and always of the same size; see `crop_mouth`.

    Chapter: finetuning/speech.
    """
    eyes, mouth = track.landmarks[:, :2].mean(axis=1), track.landmarks[:, 3:].mean(axis=1)
    return _cut(frames, track, (eyes + mouth) / 2, size, width)


def _cut(
    frames: np.ndarray | Tensor, track: FaceTrack, centers: np.ndarray, size: tuple[int, int], width: float
) -> np.ndarray:
    """Cut out rectangles around centers (T, 2), turned and scaled as the face is; shrink them without aliasing."""
    clip = _as_clip(frames)
    if len(clip) != len(track) or clip.shape[1:3] != track.size:
        raise ValueError(f"frames has the shape {clip.shape}; expected {len(track)} frames of {track.size[0]} × "
                         f"{track.size[1]}, which were tracked")  # fmt: skip
    if len(size) != 2 or min(size) < 1 or any(side % 1 for side in size):
        raise ValueError(f"size is {size}; expected height and width in whole pixels, at least 1")
    if not 0 < width < float("inf"):
        raise ValueError(f"width is {width}; expected a positive number")
    points = track.landmarks.astype(np.float64) @ [1, 1j]  # (T, 5), as complex numbers
    right = points[:, 1] - points[:, 0]  # from eye to eye
    down = points[:, 3:].mean(axis=1) - points[:, :2].mean(axis=1)  # from eyes to mouth
    steps = (right - 1j * down) / 2 * width / size[1]  # the way in the picture from a new pixel to the next one
    out = np.empty((len(clip), *size, 3), np.uint8)
    for frame, step, (x, y), new in zip(clip, steps, centers, out, strict=True):
        finer = max(1, int(np.ceil(abs(step) - 1e-6)))  # no old pixel is passed over; the mean of these pixels is new
        shape, way = (size[0] * finer, size[1] * finer), step / finer
        corner = complex(x, y) - way * complex(shape[1] - 1, shape[0] - 1) / 2 - (0.5 + 0.5j)
        matrix = np.array([[way.real, -way.imag, corner.real], [way.imag, way.real, corner.imag]])
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        new[:] = resize(cv2.warpAffine(frame, matrix, shape[::-1], flags=how, borderMode=cv2.BORDER_REPLICATE), size)
    return out


def _as_clip(frames: np.ndarray | Tensor) -> np.ndarray:
    """Return frames as uint8 (T, H, W, 3).

    Raises:
        TypeError, ValueError: If they are neither a picture nor a clip.
    """
    size_of(frames)
    if isinstance(frames, Tensor):
        frames = frames.detach()
        if frames.ndim > 4:
            raise ValueError(f"frames has the shape {tuple(frames.shape)}; expected (C, H, W) or (T, C, H, W)")
        frames = (frames.float() if frames.is_floating_point() else frames).movedim(-3, -1).cpu().numpy()
    clip = to_uint8(frames)
    if channels_of(clip) == 4:
        clip = drop_alpha(clip)
    clip = clip[..., None] if clip.ndim == 2 else clip
    clip = clip[None] if clip.ndim == 3 else clip
    return np.broadcast_to(clip, (*clip.shape[:3], 3))
