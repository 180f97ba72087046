"""GRID: real people who speak six-word sentences into a camera.

Chapter: start/dataset.
"""

from typing import TYPE_CHECKING

from mmlearn.lazy import attach

if TYPE_CHECKING:
    from mmlearn.datasets.grid.dataset import Grid

__all__ = ["Grid"]

__getattr__, __dir__ = attach(__name__, {"Grid": "dataset"})
