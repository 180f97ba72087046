"""Autoencoders, variational autoencoders of many modalities, and their convolutional networks.

Chapter: pretraining/autoencoder.
"""

from mmlearn.pretraining.autoencoder.convolutional import ConvDecoder, ConvEncoder
from mmlearn.pretraining.autoencoder.gaussian import Gaussian, log_mixture, product_of_experts
from mmlearn.pretraining.autoencoder.objective import Autoencoder, Reconstruction, clean, linear_autoencoder
from mmlearn.pretraining.autoencoder.variational import (
    ELBO,
    BernoulliLikelihood,
    Bounds,
    GaussianLikelihood,
    MultimodalVAE,
)

__all__ = [
    "ELBO",
    "Autoencoder",
    "BernoulliLikelihood",
    "Bounds",
    "ConvDecoder",
    "ConvEncoder",
    "Gaussian",
    "GaussianLikelihood",
    "MultimodalVAE",
    "Reconstruction",
    "clean",
    "linear_autoencoder",
    "log_mixture",
    "product_of_experts",
]
