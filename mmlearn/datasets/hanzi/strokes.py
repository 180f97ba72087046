"""In which order a character's strokes are written, and of which of five kinds each is.

Chapter: finetuning/seq2seq.
"""

from pathlib import Path

import numpy as np

from mmlearn.datasets.hanzi.drawing import load_glyph

KINDS = "横竖撇捺折"  # heng, shu, pie, na, zhe: 1 to 5 in the standard GB 13000.1; 提 counts as 横, a dot as 捺


def stroke_kind(median: np.ndarray) -> str:
    """Return a stroke's kind, one of 横 (right), 竖 (down), 撇 (down left), 捺 (down right) and 折 (with a turn).

    It goes by how much of the stroke's length points where. The rule is right for every character of HanziClips; tests
    compare it with the dictionary's stroke orders. For others it is a good guess.

    Args:
        median: The pen's way (knots, 2), x to the right, y downwards.

    Raises:
        ValueError: If the stroke has no length.

    Chapter: finetuning/seq2seq.
    """
    steps = np.diff(median, axis=0)  # (knots - 1, 2)
    lengths = np.hypot(steps[:, 0], steps[:, 1])
    if not lengths.sum() > 0:
        raise ValueError(f"median is {median.tolist()}; expected at least two different points")
    angle = np.degrees(np.arctan2(steps[:, 1], steps[:, 0]))  # 0 = right, 90 = down, 135 = down left

    def share(low: float, high: float) -> float:
        """Of the stroke's length, the part that points between two angles."""
        return float(lengths[(low <= angle) & (angle <= high)].sum() / lengths.sum())

    right, down, left = share(-60, 25), share(70, 180), share(112, 180)
    if right >= 0.15 and down >= 0.2:
        return "折"
    if right >= 0.5:
        return "横"
    if down < 0.5:
        return "捺"
    return "撇" if left >= 0.25 else "竖"


def stroke_sequence(text: str, folder: str | Path) -> str:
    """Return the kinds of all strokes of a text, in writing order, e.g. 三山 → 横横横竖折竖.

    Args:
        text: Chinese characters.
        folder: Holds `<character>.json` of hanzi-writer-data, such as `HanziClips(…).sources.strokes`.

    Raises:
        FileNotFoundError: If a character has no stroke data.

    Source: medians from hanzi-writer-data. Chapter: finetuning/seq2seq.
    """
    return "".join(stroke_kind(median) for char in text for median in load_glyph(Path(folder) / f"{char}.json").medians)
