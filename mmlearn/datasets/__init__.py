"""The course's data sets; each is imported when it is first used, for a broken library must not hide the rest."""

from typing import TYPE_CHECKING

from mmlearn.lazy import attach

if TYPE_CHECKING:
    from mmlearn.datasets.big_buck_bunny import fetch_film
    from mmlearn.datasets.folder.dataset import VideoFolder
    from mmlearn.datasets.grid.dataset import Grid
    from mmlearn.datasets.hanzi.dataset import HanziClips
    from mmlearn.datasets.reading import read_clip
    from mmlearn.datasets.shards import read_shards, write_shards

__all__ = ["Grid", "HanziClips", "VideoFolder", "fetch_film", "read_clip", "read_shards", "write_shards"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "Grid": "grid.dataset",
        "HanziClips": "hanzi.dataset",
        "VideoFolder": "folder.dataset",
        "fetch_film": "big_buck_bunny",
        "read_clip": "reading",
        "read_shards": "shards",
        "write_shards": "shards",
    },
)
