"""The course's data sets; each is imported when it is first used, for a broken library must not hide the rest."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmlearn.datasets.grid import Grid
    from mmlearn.datasets.hanzi import HanziClips

_MODULE_OF = {"Grid": "mmlearn.datasets.grid", "HanziClips": "mmlearn.datasets.hanzi"}

__all__ = ["Grid", "HanziClips"]


def __getattr__(name: str) -> Any:
    """Import a data set when it is first asked for (PEP 562)."""
    if name in _MODULE_OF:
        return getattr(importlib.import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module 'mmlearn.datasets' has no attribute {name!r}")
