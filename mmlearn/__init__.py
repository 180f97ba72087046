"""Multimodal deep learning for video understanding: the package behind the course.

`import mmlearn` is quick; torch and the rest are imported when a name below is first used.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME_OF = {
    "Batch": "mmlearn.clip",
    "Clip": "mmlearn.clip",
    "Word": "mmlearn.clip",
    "collate": "mmlearn.clip",
    "check": "mmlearn.checkup",
    "MultimodalModel": "mmlearn.model",
    "fit": "mmlearn.training",
    "predict": "mmlearn.training",
    "device": "mmlearn.runtime",
    "home": "mmlearn.runtime",
    "load_results": "mmlearn.runtime",
    "precision": "mmlearn.runtime",
    "seed_everything": "mmlearn.runtime",
}
_SUBPACKAGES = (
    "datasets",
    "finetuning",
    "fusion",
    "media",
    "nn",
    "plotting",
    "preprocessing",
    "pretraining",
    "training",
)

__all__ = [*_HOME_OF, *_SUBPACKAGES]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562)."""
    if name in _HOME_OF:
        return getattr(importlib.import_module(_HOME_OF[name]), name)
    if name in _SUBPACKAGES:
        return importlib.import_module(f"mmlearn.{name}")
    raise AttributeError(f"module 'mmlearn' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
