"""Objectives without labels: what data can teach about themselves."""

from mmlearn.pretraining.autoencoder.convolutional import ConvDecoder, ConvEncoder
from mmlearn.pretraining.autoencoder.gaussian import Gaussian, log_mixture, product_of_experts
from mmlearn.pretraining.autoencoder.objective import Autoencoder, Reconstruction, linear_autoencoder
from mmlearn.pretraining.autoencoder.variational import (
    ELBO,
    BernoulliLikelihood,
    Bounds,
    GaussianLikelihood,
    MultimodalVAE,
)
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
from mmlearn.pretraining.gan.metrics import classifier_accuracy, frechet_distance, mode_coverage, precision_recall
from mmlearn.pretraining.gan.networks import ConditionalGenerator, ProjectionDiscriminator
from mmlearn.pretraining.gan.training import discriminator_loss, generator_loss, gradient_penalty, train_gan
from mmlearn.pretraining.masked.autoencoder import MaskedAutoencoder, MaskedPrediction
from mmlearn.pretraining.masked.joint import JointMaskedAutoencoder
from mmlearn.pretraining.masked.language import MaskedLanguageModel
from mmlearn.pretraining.masked.masking import (
    PatchMask,
    mask_tokens,
    random_masking,
    strip_masking,
    tube_masking,
    word_numbers,
)

__all__ = [
    "ELBO",
    "Autoencoder",
    "BernoulliLikelihood",
    "Bounds",
    "ConditionalGenerator",
    "Contrastive",
    "ContrastiveLoss",
    "ContrastiveModel",
    "ConvDecoder",
    "ConvEncoder",
    "Gaussian",
    "GaussianLikelihood",
    "JointMaskedAutoencoder",
    "MaskedAutoencoder",
    "MaskedLanguageModel",
    "MaskedPrediction",
    "MultimodalVAE",
    "PatchMask",
    "ProjectionDiscriminator",
    "Reconstruction",
    "RetrievalRecall",
    "SigmoidLoss",
    "alignment",
    "classifier_accuracy",
    "discriminator_loss",
    "frechet_distance",
    "generator_loss",
    "gradient_penalty",
    "info_nce",
    "linear_autoencoder",
    "log_mixture",
    "mask_tokens",
    "modality_gap",
    "mode_coverage",
    "precision_recall",
    "product_of_experts",
    "random_masking",
    "ranks",
    "recall_at",
    "siglip_loss",
    "strip_masking",
    "train_gan",
    "tube_masking",
    "two_way_logsumexp",
    "uniformity",
    "word_numbers",
    "zero_shot_classifier",
]
