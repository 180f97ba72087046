"""Multimodal deep learning for video understanding: the package behind the course.

`import mmlearn` is quick; torch and the rest are imported when a name below is first used.
"""

from mmlearn.lazy import attach

__version__ = "0.1.0"

_MODULE_OF = {
    "Batch": "batch",
    "Clip": "clip",
    "MultimodalModel": "model",
    "Word": "clip",
    "check": "checkup",
    "collate": "batch",
    "device": "runtime",
    "fit": "training",
    "home": "runtime",
    "load_results": "runtime",
    "precision": "runtime",
    "predict": "training",
    "seed_everything": "runtime",
}
_SUBPACKAGES = (
    "datasets",
    "encoders",
    "finetuning",
    "fusion",
    "large",
    "media",
    "nn",
    "plotting",
    "preprocessing",
    "pretraining",
    "training",
)

__all__ = [*_MODULE_OF, *_SUBPACKAGES]

__getattr__, __dir__ = attach(__name__, {**_MODULE_OF, **dict.fromkeys(_SUBPACKAGES, "")})
