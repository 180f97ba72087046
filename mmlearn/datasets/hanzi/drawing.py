"""Write a Chinese character stroke by stroke, as hanzi-writer does: each stroke's outline is filled, but only where a
thick pen has already passed along the stroke's median.

Chapter: start/dataset.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

SHIFT = 4  # OpenCV's fixed-point coordinates: 1/16 pixel, integers only, so every machine draws the same bytes
PEN = 200 / 1024  # width of the pen that uncovers a stroke, in em


@dataclass(frozen=True)
class Glyph:
    """A character's strokes in writing order; the em square is [-0.5, 0.5]², x to the right, y downwards.

    Chapter: start/dataset.
    """

    outlines: list[np.ndarray]  # per stroke (points, 2)
    spines: list[np.ndarray]  # per stroke (points, 2): the point of the median nearest to each point of the outline
    medians: list[np.ndarray]  # per stroke (knots, 2)
    lengths: list[float]  # per stroke, in em


def load_glyph(path: str | Path) -> Glyph:
    """Read one character of hanzi-writer-data (grid of 1024 units, y upwards, top at 900).

    Args:
        path: `<character>.json`.

    Raises:
        FileNotFoundError: If there is no such file: the character has no stroke data.
        ValueError: If the file does not hold `strokes` and as many `medians`.

    Chapter: start/dataset.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no stroke data for {path.stem!r}; expected a file of hanzi-writer-data")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        outlines = [_to_em(flatten(stroke)) for stroke in data["strokes"]]
        medians = [_to_em(np.array(median, dtype=np.float64)) for median in data["medians"]]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: {error!r}; expected JSON with `strokes` and `medians`") from error
    if len(outlines) != len(medians):
        raise ValueError(f"{path}: {len(outlines)} strokes but {len(medians)} medians; expected as many")
    spines = [_nearest(outline, median) for outline, median in zip(outlines, medians, strict=True)]
    lengths = [float(np.sqrt((np.diff(median, axis=0) ** 2).sum(1)).sum()) for median in medians]
    return Glyph(outlines, spines, medians, lengths)


def flatten(path: str, pieces: int = 5) -> np.ndarray:
    """Turn an SVG path into a polygon.

    Args:
        path: Absolute commands M, L, Q, C and Z, as hanzi-writer-data has them.
        pieces: Straight pieces per curve.

    Returns:
        Points of shape (points, 2).

    Raises:
        ValueError: If the path holds another command or too few numbers.

    Chapter: start/dataset.
    """
    t = np.arange(1, pieces + 1)[:, None] / pieces  # (pieces, 1)
    points: list[np.ndarray] = []
    for command, body in re.findall(r"([A-Za-z])([^A-Za-z]*)", path):
        numbers = np.array(re.findall(r"-?[\d.]+", body), dtype=np.float64)
        wanted = {"M": 2, "L": 2, "Q": 4, "C": 6, "Z": 0}.get(command)
        if wanted is None or len(numbers) != wanted or (command != "M" and not points):
            raise ValueError(f"path has {command + body!r}; expected M, L, Q, C or Z with 2, 2, 4, 6 or 0 numbers")
        p = numbers.reshape(-1, 2)
        if command in "ML":
            points.append(p)
        elif command == "Q":
            a = points[-1][-1]
            points.append((1 - t) ** 2 * a + 2 * t * (1 - t) * p[0] + t**2 * p[1])
        elif command == "C":
            a = points[-1][-1]
            points.append((1 - t) ** 3 * a + 3 * t * (1 - t) ** 2 * p[0] + 3 * t**2 * (1 - t) * p[1] + t**3 * p[2])
    return np.concatenate(points) if points else np.empty((0, 2))


def draw_glyph(glyph: Glyph, size: int, *, written: float = 1.0, width: float = 1.0,
               matrix: np.ndarray | None = None, centre: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:  # fmt: skip
    """Draw a character as far as it is written.

    Args:
        glyph: The character.
        size: Side of the square picture in pixels.
        written: Fraction of the writing done, by length of stroke: 0 = nothing, 1 = all.
        width: Factor on the strokes' width.
        matrix: (2, 2), maps the em square to the picture's unit square; by default 0.7 times the identity.
        centre: Where the middle of the em square falls, as fractions of the picture from its middle.

    Returns:
        How much ink each pixel has: uint8 of shape (size, size), 0 = none, 255 = full.

    Chapter: start/dataset.
    """
    matrix = np.eye(2) * 0.7 if matrix is None else matrix
    ink = np.zeros((size, size), np.uint8)
    # Added up one after another, as they are subtracted below; sum() rounds otherwise from Python 3.12 on.
    budget = written * float(np.cumsum([0.0, *glyph.lengths])[-1])
    for outline, spine, median, length in zip(glyph.outlines, glyph.spines, glyph.medians, glyph.lengths, strict=True):
        if budget <= 0:
            break
        polygon = _to_pixels(spine + width * (outline - spine), matrix, centre, size)
        if budget >= length:
            cv2.fillPoly(ink, [polygon], 255, cv2.LINE_AA, SHIFT)
        else:
            stroke, passed = np.zeros_like(ink), np.zeros_like(ink)
            cv2.fillPoly(stroke, [polygon], 255, cv2.LINE_AA, SHIFT)
            pen = max(1, round(PEN * max(width, 1.0) * float(np.sqrt(abs(np.linalg.det(matrix)))) * size))
            trail = _to_pixels(_start_of(median, budget), matrix, centre, size)
            cv2.polylines(passed, [trail], False, 255, pen, cv2.LINE_AA, SHIFT)
            np.maximum(ink, np.minimum(stroke, passed), out=ink)
        budget -= length
    return ink


def _to_em(points: np.ndarray) -> np.ndarray:
    return (points * (1, -1) + (0, 900)) / 1024 - 0.5


def _to_pixels(points: np.ndarray, matrix: np.ndarray, centre: tuple[float, float], size: int) -> np.ndarray:
    x, y = points[:, 0], points[:, 1]
    scale = size * 2**SHIFT
    out = np.empty((len(points), 2))
    out[:, 0] = (matrix[0, 0] * x + matrix[0, 1] * y + centre[0] + 0.5) * scale - 2 ** (SHIFT - 1)
    out[:, 1] = (matrix[1, 0] * x + matrix[1, 1] * y + centre[1] + 0.5) * scale - 2 ** (SHIFT - 1)
    return np.rint(out).astype(np.int32)


def _nearest(points: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Return the point of a polyline nearest to each point, (points, 2)."""
    start, step = line[:-1], np.diff(line, axis=0)  # (pieces, 2)
    along = ((points[:, None] - start) * step).sum(-1) / np.maximum((step**2).sum(-1), 1e-12)  # (points, pieces)
    feet = start + np.clip(along, 0, 1)[..., None] * step  # (points, pieces, 2)
    best = ((points[:, None] - feet) ** 2).sum(-1).argmin(1)
    return feet[np.arange(len(points)), best]


def _start_of(line: np.ndarray, length: float) -> np.ndarray:
    """Return the first `length` of a polyline."""
    steps = np.sqrt((np.diff(line, axis=0) ** 2).sum(1))
    ends = np.concatenate([[0.0], np.cumsum(steps)])
    k = int(np.searchsorted(ends, length, side="right"))  # knots 0 … k-1 are passed
    if k >= len(line):
        return line
    tip = line[k - 1] + (length - ends[k - 1]) / steps[k - 1] * (line[k] - line[k - 1])
    return np.concatenate([line[:k], tip[None]])
