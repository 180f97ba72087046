"""Contrastive learning: losses, models, and metrics of retrieval.

Chapter: pretraining/contrastive.
"""

from mmlearn.pretraining.contrastive.blockwise import two_way_logsumexp
from mmlearn.pretraining.contrastive.losses import ContrastiveLoss, SigmoidLoss, info_nce, siglip_loss
from mmlearn.pretraining.contrastive.metrics import (
    RetrievalRecall,
    alignment,
    modality_gap,
    ranks,
    recall_at,
    uniformity,
    zero_shot_classifier,
)
from mmlearn.pretraining.contrastive.model import Contrastive, ContrastiveModel

__all__ = [
    "Contrastive",
    "ContrastiveLoss",
    "ContrastiveModel",
    "RetrievalRecall",
    "SigmoidLoss",
    "alignment",
    "info_nce",
    "modality_gap",
    "ranks",
    "recall_at",
    "siglip_loss",
    "two_way_logsumexp",
    "uniformity",
    "zero_shot_classifier",
]
