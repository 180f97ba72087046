"""Generative adversarial networks: training, networks, metrics.

Chapter: pretraining/gan.
"""

from mmlearn.pretraining.gan.metrics import frechet_distance, modes_covered, precision_recall, reader_accuracy
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
    "discriminator_loss",
    "frechet_distance",
    "generator_loss",
    "gradient_penalty",
    "modes_covered",
    "normalise_spectrally",
    "precision_recall",
    "reader_accuracy",
    "train_gan",
]
