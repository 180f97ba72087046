"""Objectives without labels: what data can teach about themselves."""

from mmlearn.pretraining.autoencoder import Autoencoder, Reconstruction, linear_autoencoder
from mmlearn.pretraining.blockwise import two_way_logsumexp
from mmlearn.pretraining.contrastive import ContrastiveLoss, SigmoidLoss, info_nce, siglip_loss
from mmlearn.pretraining.contrastive_model import Contrastive, ContrastiveModel
from mmlearn.pretraining.convolutional import ConvDecoder, ConvEncoder
from mmlearn.pretraining.experts import Gaussian, log_mixture, product_of_experts
from mmlearn.pretraining.gan import discriminator_loss, generator_loss, gradient_penalty, train_gan
from mmlearn.pretraining.gan_networks import ConditionalGenerator, ProjectionDiscriminator
from mmlearn.pretraining.generation_metrics import frechet_distance, modes_covered, precision_recall, reader_accuracy
from mmlearn.pretraining.masked import MaskedAutoencoder, MaskedPrediction
from mmlearn.pretraining.masked_joint import JointMaskedAutoencoder
from mmlearn.pretraining.masked_language import MaskedLanguageModel
from mmlearn.pretraining.masking import Split, mask_tokens, random_masking, strip_masking, tube_masking, word_numbers
from mmlearn.pretraining.published import from_pretrained, save_published, to_published
from mmlearn.pretraining.retrieval import (
    RetrievalRecall,
    alignment,
    modality_gap,
    ranks,
    recall_at,
    uniformity,
    zero_shot_classifier,
)
from mmlearn.pretraining.variational import ELBO, BernoulliLikelihood, Bounds, GaussianLikelihood, MultimodalVAE

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
    "ProjectionDiscriminator",
    "Reconstruction",
    "RetrievalRecall",
    "SigmoidLoss",
    "Split",
    "alignment",
    "discriminator_loss",
    "frechet_distance",
    "from_pretrained",
    "generator_loss",
    "gradient_penalty",
    "info_nce",
    "linear_autoencoder",
    "log_mixture",
    "mask_tokens",
    "modality_gap",
    "modes_covered",
    "precision_recall",
    "product_of_experts",
    "random_masking",
    "ranks",
    "reader_accuracy",
    "recall_at",
    "save_published",
    "siglip_loss",
    "strip_masking",
    "to_published",
    "train_gan",
    "tube_masking",
    "two_way_logsumexp",
    "uniformity",
    "word_numbers",
    "zero_shot_classifier",
]
