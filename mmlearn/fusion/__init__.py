"""Many streams into one. Every fusion is built and called alike (see `ConcatFusion`)."""

from mmlearn.fusion.feature import ConcatFusion

__all__ = ["ConcatFusion"]
