"""Cut rectangles out of pictures and clips: in the middle, in the corners, at random.

Chapter: preprocessing/image.
"""

from typing import NamedTuple

import numpy as np

from mmlearn.preprocessing.image.layout import Frames, index, pair, size_of


class Box(NamedTuple):
    """A rectangle of pixels: `crop(frames, *box)` cuts it out."""

    top: int
    left: int
    height: int
    width: int


def crop(frames: Frames, top: int, left: int, height: int, width: int) -> Frames:
    """Cut out a rectangle; the result is a view. `crop(frames, *box)` takes a `Box`.

    Raises:
        TypeError, ValueError: If it does not lie inside the frames, or these are no frames.

    Chapter: preprocessing/image.
    """
    h, w = size_of(frames)
    if any(not hasattr(number, "__index__") for number in (top, left, height, width)):
        raise TypeError(f"the crop is {height} × {width} at ({top}, {left}); expected whole numbers of pixels")
    if not (0 <= top <= h - height and 0 <= left <= w - width and height > 0 and width > 0):
        raise ValueError(f"the crop, {height} × {width} at ({top}, {left}), does not lie inside frames of {h} × {w}")
    return frames[index(frames, slice(top, top + height), slice(left, left + width))]


def center_crop(frames: Frames, size: int | tuple[int, int]) -> Frames:
    """Cut the middle out; what cannot be centred lies half a pixel up or left. See `crop`.

    Examples:
        >>> center_crop(np.arange(16, dtype=np.uint8).reshape(4, 4), 2).tolist()
        [[5, 6], [9, 10]]
    """
    (h, w), (height, width) = size_of(frames), pair(size)
    return crop(frames, (h - height) // 2, (w - width) // 2, height, width)


def five_crop(frames: Frames, size: int | tuple[int, int]) -> list[Frames]:
    """Cut out the four corners (top left, top right, bottom left, bottom right) and the middle. See `crop`."""
    (h, w), (height, width) = size_of(frames), pair(size)
    places = [(top, left) for top in (0, h - height) for left in (0, w - width)]
    places.append(((h - height) // 2, (w - width) // 2))
    return [crop(frames, top, left, height, width) for top, left in places]


def random_crop(frames: Frames, size: int | tuple[int, int], generator: np.random.Generator) -> Frames:
    """Cut out (H, W) at a random place, the same in all frames. See `crop`.

    Raises:
        TypeError, ValueError: If `generator` is no NumPy Generator, or the size does not fit.

    Chapter: preprocessing/image.
    """
    (h, w), (height, width) = size_of(frames), pair(size)
    u = draw(generator, 2)
    return crop(frames, int(u[0] * (h - height + 1)), int(u[1] * (w - width + 1)), height, width)


def random_boxes(
    uniform: np.ndarray, size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float]
) -> np.ndarray:
    """Turn random numbers into boxes of random area, shape and place: int64 (B, 4), top, left, height, width.

    The first try that fits into the frame counts. If none does: the largest allowed box in the middle.

    Args:
        uniform: (B, tries, 4), from 0 to 1: one number each for area, ratio, top and left.
        size: Height and width of the frames.
        scale: Smallest and largest share of the frame's area, in (0, 1].
        ratio: Smallest and largest width / height; its logarithm is even.

    Raises:
        ValueError: If `scale` or `ratio` is not as described.

    Szegedy et al. 2015, section 6; the tries are torchvision's. Chapter: preprocessing/image.
    """
    if not (0 < scale[0] <= scale[1] <= 1 and 0 < ratio[0] <= ratio[1]):
        raise ValueError(f"scale is {scale} and ratio {ratio}; expected 0 < low ≤ high, and scale at most 1")
    h, w = size
    area = h * w * (scale[0] + (scale[1] - scale[0]) * uniform[..., 0])  # (B, tries)
    shape = ratio[0] * (ratio[1] / ratio[0]) ** uniform[..., 1]
    tries = np.rint(np.sqrt(np.stack([area / shape, area * shape], axis=-1)))  # (B, tries, 2): height, width
    fits = ((tries >= 1) & (tries <= (h, w))).all(axis=-1)
    rows, first = np.arange(len(uniform)), fits.argmax(axis=1)
    allowed = min(max(w / h, ratio[0]), ratio[1])
    largest = min(h, max(1, round(w / allowed))), min(w, max(1, round(h * allowed)))
    none = fits.sum(axis=1, keepdims=True) == 0
    sides = np.where(none, largest, tries[rows, first])  # (B, 2)
    room = np.array(size) - sides
    corner = np.floor(np.where(none, room / 2, uniform[rows, first, 2:] * (room + 1)))
    return np.concatenate([corner, sides], axis=1).astype(np.int64)


def draw(generator: np.random.Generator, *shape: int) -> np.ndarray:
    """Return random numbers from 0 to 1.

    Raises:
        TypeError: If `generator` is no NumPy Generator.
    """
    if not isinstance(generator, np.random.Generator):
        raise TypeError(f"generator is {generator!r}; expected a NumPy Generator, e.g. np.random.default_rng(0)")
    return generator.random(shape)
