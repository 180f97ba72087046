"""The course's data sets; each is imported when it is first used, for a broken library must not hide the rest."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmlearn.datasets.film import fetch_film
    from mmlearn.datasets.folder import VideoFolder
    from mmlearn.datasets.grid import Grid
    from mmlearn.datasets.hanzi import HanziClips
    from mmlearn.datasets.reading import read_clip
    from mmlearn.datasets.shards import read_shards, write_shards

_MODULE_OF = {
    "Grid": "mmlearn.datasets.grid",
    "HanziClips": "mmlearn.datasets.hanzi",
    "VideoFolder": "mmlearn.datasets.folder",
    "fetch_film": "mmlearn.datasets.film",
    "read_clip": "mmlearn.datasets.reading",
    "read_shards": "mmlearn.datasets.shards",
    "write_shards": "mmlearn.datasets.shards",
}

__all__ = ["Grid", "HanziClips", "VideoFolder", "fetch_film", "read_clip", "read_shards", "write_shards"]


def __getattr__(name: str) -> Any:
    """Import a data set when it is first asked for (PEP 562)."""
    if name in _MODULE_OF:
        return getattr(importlib.import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module 'mmlearn.datasets' has no attribute {name!r}")
