"""Your own files as clips: a folder per class, or a table.

Chapter: preprocessing/batching.
"""

from typing import TYPE_CHECKING

from mmlearn.lazy import attach

if TYPE_CHECKING:
    from mmlearn.datasets.folder.dataset import VideoFolder

__all__ = ["VideoFolder"]

__getattr__, __dir__ = attach(__name__, {"VideoFolder": "dataset"})
