"""HanziClips: sentences written, spoken and described, from real recordings.

Chapter: start/dataset.
"""

from typing import TYPE_CHECKING

from mmlearn.lazy import attach

if TYPE_CHECKING:
    from mmlearn.datasets.hanzi.dataset import HanziClips

__all__ = ["HanziClips"]

__getattr__, __dir__ = attach(__name__, {"HanziClips": "dataset"})
