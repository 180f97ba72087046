"""Gaussian experts: several opinions on one code, joined as a product or as a mixture.

An opinion is a normal distribution with a mean and a variance for each of D dimensions. All densities are natural
logarithms, computed in float32 whatever autocast does around them.

Chapter: pretraining/autoencoder.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from mmlearn.nn.functional import to_float32

LOG_VARIANCE = 10.0  # largest size of a log-variance that a network may say: beyond, exp would leave bfloat16's sense


class Gaussian(NamedTuple):
    """A normal distribution with independent dimensions, one for each sample.

    Chapter: pretraining/autoencoder.
    """

    mean: Tensor  # (B, D)
    log_variance: Tensor  # (B, D)

    @classmethod
    def from_stats(cls, parameters: Tensor) -> "Gaussian":
        """Split a network's output (B, 2 D) into means and log-variances; the latter are kept within ±10."""
        mean, log_variance = to_float32(parameters).chunk(2, dim=-1)
        return cls(mean, log_variance.clamp(-LOG_VARIANCE, LOG_VARIANCE))

    def sample(self) -> Tensor:
        """Draw codes (B, D) as `mean + deviation · ε`, through which gradients reach mean and variance.

        This is the reparameterisation of Kingma & Welling (2014): the noise ε does not depend on any parameter.
        """
        return self.mean + (self.log_variance / 2).exp() * torch.randn_like(self.mean)

    def log_density(self, code: Tensor) -> Tensor:
        """Return log N(code; mean, variance) of each sample, (B,), for codes (B, D)."""
        squares = (code - self.mean).square() * (-self.log_variance).exp()
        return -(squares + self.log_variance + math.log(2 * math.pi)).sum(dim=-1) / 2

    def kl_to_prior(self) -> Tensor:
        """Return KL(this ‖ N(0, 1)) in closed form, in nats, for each dimension: (B, D), none below 0."""
        return (self.mean.square() + self.log_variance.exp() - self.log_variance - 1) / 2


def product_of_experts(experts: Mapping[str, Gaussian], present: Mapping[str, Tensor]) -> Gaussian:
    """Multiply the experts' densities with the prior N(0, 1) and normalize (MVAE, Wu & Goodman 2018).

    A product of Gaussians is one: precisions add, and the mean is the experts' mean, weighted by precision. The prior
    is an expert with mean 0 and precision 1. Missing modalities are skipped; if all are missing, the prior is the
    result.

    Args:
        experts: name → the opinion of that modality's encoder.
        present: name → bool (B,), by modality.

    Chapter: pretraining/autoencoder.
    """
    precision = torch.ones_like(next(iter(experts.values())).mean)  # (B, D), the prior's
    weighted = torch.zeros_like(precision)
    for name in sorted(experts):
        expert = _or_prior(experts[name], present[name])
        said = torch.where(present[name][:, None], (-expert.log_variance).exp(), 0.0)
        precision = precision + said
        weighted = weighted + said * expert.mean
    return Gaussian(weighted / precision, -precision.log())


def log_mixture(code: Tensor, experts: Mapping[str, Gaussian], present: Mapping[str, Tensor]) -> Tensor:
    """Return the log-density, (B,), of codes (B, D) under the even mixture of those present (MMVAE, Shi et al. 2019).

    Args:
        code: (B, D).
        experts: name → the opinion of that modality's encoder.
        present: name → bool (B,); each sample needs at least one.

    Chapter: pretraining/autoencoder.
    """
    names = sorted(experts)
    there = torch.stack([present[name] for name in names])  # (M, B)
    densities = torch.stack([_or_prior(experts[n], present[n]).log_density(code) for n in names])  # (M, B)
    total = torch.where(there, densities, -torch.inf).logsumexp(dim=0)
    return total - there.sum(dim=0).log()


def _or_prior(expert: Gaussian, present: Tensor) -> Gaussian:
    """Put N(0, 1) where a modality is absent, so that whatever stands there reaches no result and no gradient."""
    return Gaussian(*(torch.where(present[:, None], part, 0.0) for part in expert))
