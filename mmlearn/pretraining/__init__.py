"""Objectives without labels: what data can teach about themselves."""

from mmlearn.pretraining.autoencoder import Autoencoder, Reconstruction, linear_autoencoder
from mmlearn.pretraining.convolutional import ConvDecoder, ConvEncoder
from mmlearn.pretraining.experts import Gaussian, log_mixture, product_of_experts
from mmlearn.pretraining.variational import ELBO, BernoulliLikelihood, Bounds, GaussianLikelihood, MultimodalVAE

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
    "linear_autoencoder",
    "log_mixture",
    "product_of_experts",
]
