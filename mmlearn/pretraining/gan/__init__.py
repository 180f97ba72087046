"""Generative adversarial networks: training, networks, metrics.

Chapter: pretraining/gan.
"""

from mmlearn.pretraining.gan.metrics import classifier_accuracy, frechet_distance, mode_coverage, precision_recall
from mmlearn.pretraining.gan.networks import (
    Condition,
    ConditionalGenerator,
    ProjectionDiscriminator,
    normalise_spectrally,
)
from mmlearn.pretraining.gan.training import discriminator_loss, generator_loss, gradient_penalty, train_gan

__all__ = [
    "Condition",
    "ConditionalGenerator",
    "ProjectionDiscriminator",
    "classifier_accuracy",
    "discriminator_loss",
    "frechet_distance",
    "generator_loss",
    "gradient_penalty",
    "mode_coverage",
    "normalise_spectrally",
    "precision_recall",
    "train_gan",
]
