"""Objectives for supervised training."""

from mmlearn.finetuning.classification import Classification

__all__ = ["Classification"]
