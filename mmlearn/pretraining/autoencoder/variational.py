"""Variational autoencoders (变分自编码器) for any number of modalities: one code that each of them gives and tells.

Any subset of the modalities gives a code, and what is missing is decoded from it.

Chapter: pretraining/autoencoder.
"""

import math
from collections.abc import Mapping
from itertools import combinations
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from mmlearn.batch import Batch, check_present
from mmlearn.nn.functional import like_weights, to_float32
from mmlearn.pretraining.autoencoder.gaussian import Gaussian, log_mixture, product_of_experts
from mmlearn.pretraining.autoencoder.objective import clean


class GaussianLikelihood(nn.Module):
    """`p(x | z) = N(x; decoder(z), scale²)`: each value may err by about `scale`.

    Args:
        scale: Standard deviation, in units of the data.
        learned: Whether the scale is trained with the rest; it then tends to the root mean square error.

    Chapter: pretraining/autoencoder.
    """

    def __init__(self, scale: float = 1.0, learned: bool = False) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)), requires_grad=learned)

    def log_prob(self, x: Tensor, decoded: Tensor) -> Tensor:
        """Return the log-density of each value, of the shape of x (…)."""
        errors = (x - decoded) * (-self.log_scale).exp()
        return -errors.square() / 2 - self.log_scale - math.log(2 * math.pi) / 2

    def mean(self, decoded: Tensor) -> Tensor:
        """Return the expected data."""
        return decoded


class BernoulliLikelihood(nn.Module):
    """`p(x = 1 | z) = sigmoid(decoder(z))` for values in [0, 1].

    For grey values it is a loss rather than a likelihood: its normalising constant is left out (see Loaiza-Ganem &
    Cunningham 2019).

    Chapter: pretraining/autoencoder.
    """

    def log_prob(self, x: Tensor, decoded: Tensor) -> Tensor:
        """Return the log-probability of each value, of the shape of x (…)."""
        return x * decoded - nn.functional.softplus(decoded)  # log(sigmoid) and log(1 - sigmoid), weighted by x

    def mean(self, decoded: Tensor) -> Tensor:
        """Return the expected data."""
        return decoded.sigmoid()


class Bounds(NamedTuple):
    """The terms of one or several evidence lower bounds (ELBOs) a sample: S draws of a code for each of B samples.

    Chapter: pretraining/autoencoder.
    """

    log_likelihood: dict[str, Tensor]  # name → (S, B): log p(x_m | z), summed over all values of x_m
    kl: Tensor  # (S, B, D), dimension by dimension; (S, B, 1) where only the sum is known
    valid: Tensor  # bool (S, B): whether the sample has anything that this draw is made from


class MultimodalVAE(nn.Module):
    """A variational autoencoder with one encoder and one decoder a modality, and one code for all of them.

    Each encoder says what it believes about the code, as a Gaussian. With `experts="product"` (MVAE, Wu & Goodman 2018)
    these beliefs and the prior N(0, 1) are multiplied; with "mixture" (MMVAE, Shi et al. 2019) they are averaged. Both
    are defined for any subset of the modalities; what stands in an absent one has no influence. With a single modality
    there is nothing to join, and this is the VAE of Kingma & Welling (2014).

    Called with a batch, it returns the terms of its ELBOs, which the objective `ELBO` adds up:

    - product: one draw for the code of everything that a sample has, one for each modality alone and, in training, one
      for each of `random_subsets`. This is the sub-sampled training of MVAE. In the paper a subset's code has to
      explain that subset (`reconstruct="given"`); by default it has to explain all that the sample has. That, too, is a
      bound on log p(all), and it is what teaches the model to predict a modality from the others.
    - mixture: one draw from each modality, each of which has to explain everything: the stratified ELBO of MMVAE, with
      the density of the whole mixture, and without the paper's importance-weighted bound (IWAE).

    Args:
        encoders: name → module that maps `(x, mask)` to (B, 2 · latent_dim): means and log-variances.
        decoders: name → module that maps codes (B, latent_dim) to what the likelihood needs, of the shape of x.
        latent_dim: Width D of the code.
        experts: "product" or "mixture".
        likelihoods: name → `GaussianLikelihood` or `BernoulliLikelihood`; by default Gaussian with a learned scale.
        reconstruct: "all" or "given"; for the product.
        random_subsets: Further subsets, neither single nor all, drawn in each step of training (for the product).

    Raises:
        ValueError: If `experts` or `reconstruct` is none of these, or the dictionaries' keys differ.

    Chapter: pretraining/autoencoder.
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        decoders: Mapping[str, nn.Module],
        latent_dim: int,
        *,
        experts: Literal["product", "mixture"] = "product",
        likelihoods: Mapping[str, nn.Module] | None = None,
        reconstruct: Literal["all", "given"] = "all",
        random_subsets: int = 0,
    ) -> None:
        super().__init__()
        if experts not in ("product", "mixture") or reconstruct not in ("all", "given"):
            raise ValueError(f'experts is {experts!r}, reconstruct is {reconstruct!r}; expected "product" or '
                             '"mixture", "all" or "given"')  # fmt: skip
        likelihoods = likelihoods or {name: GaussianLikelihood(learned=True) for name in encoders}
        self.names = sorted(encoders)
        if not self.names == sorted(decoders) == sorted(likelihoods):
            raise ValueError(f"encoders are {self.names}, decoders {sorted(decoders)}, likelihoods "
                             f"{sorted(likelihoods)}; expected the same names")  # fmt: skip
        self.encoders: Any = nn.ModuleDict(encoders)
        self.decoders: Any = nn.ModuleDict(decoders)
        self.likelihoods: Any = nn.ModuleDict(likelihoods)
        self.latent_dim, self.random_subsets = latent_dim, random_subsets
        self.mixture = experts == "mixture" and len(encoders) > 1
        self.reconstruct_all = reconstruct == "all" or self.mixture

    def forward(self, batch: Batch) -> Bounds:
        """Return the terms of the ELBOs.

        Raises:
            ValueError: If the batch lacks a modality of this model, or a sample has none of them.
        """
        beliefs, present = self.posterior(batch)
        subsets = self._subsets()
        if self.mixture:
            codes = torch.stack([beliefs[name].sample() for (name,) in subsets])  # (S, B, D)
            kl = torch.stack([_kl_to_prior(code, beliefs, present) for code in codes])  # (S, B, 1), an estimate
        else:
            posteriors = [self._posterior({n: beliefs[n] for n in subset}, present) for subset in subsets]
            codes = torch.stack([posterior.sample() for posterior in posteriors])  # (S, B, D)
            kl = torch.stack([posterior.kl_to_prior() for posterior in posteriors])  # (S, B, D), in closed form
        log_likelihood = {}
        for name in self.names:
            x, real = clean(batch, name)
            decoder = self.decoders[name]
            decoded = decoder(like_weights(codes.flatten(0, 1), decoder)).unflatten(0, codes.shape[:2])  # (S, B, …)
            values = torch.where(real, self.likelihoods[name].log_prob(x, to_float32(decoded)), 0.0)
            asked = torch.tensor(
                [self.reconstruct_all or name in subset for subset in subsets], device=x.device
            )  # (S,)
            log_likelihood[name] = values.flatten(2).sum(dim=2) * asked[:, None]  # (S, B)
        valid = torch.stack([torch.stack([present[n] for n in subset]).any(dim=0) for subset in subsets])
        return Bounds(log_likelihood, kl, valid)

    def posterior(self, batch: Batch) -> tuple[dict[str, Gaussian], dict[str, Tensor]]:
        """Return what each encoder says about the code, and which samples it has seen, bool (B,), by modality."""
        missing = [name for name in self.names if name not in batch.data]
        if missing:
            raise ValueError(f"the batch has no {missing}; this model reads {self.names}")
        present = {name: batch.present[name] for name in self.names}
        if not torch.compiler.is_compiling():
            check_present(present)
        said = {
            name: encoder(like_weights(clean(batch, name)[0], encoder), batch.mask.get(name))
            for name, encoder in ((name, self.encoders[name]) for name in self.names)
        }
        return {name: Gaussian.from_stats(parameters) for name, parameters in said.items()}, present

    def code(self, batch: Batch) -> Tensor:
        """Return the mean of the code, (B, D), given whatever each sample has; e.g. of `batch.only("audio")`."""
        beliefs, present = self.posterior(batch)
        if not self.mixture:
            return self._posterior(beliefs, present).mean
        there = torch.stack([present[name] for name in self.names])[..., None]  # (M, B, 1)
        means = torch.stack([beliefs[name].mean for name in self.names])  # (M, B, D)
        return torch.where(there, means, 0.0).sum(dim=0) / there.sum(dim=0)

    def decode(self, code: Tensor) -> dict[str, Tensor]:
        """Return the expected data (B, …) of each modality for codes (B, D)."""
        decoded = {name: self.decoders[name](like_weights(code, self.decoders[name])) for name in self.names}
        return {name: self.likelihoods[name].mean(to_float32(x)) for name, x in decoded.items()}

    def _posterior(self, beliefs: dict[str, Gaussian], present: dict[str, Tensor]) -> Gaussian:
        return product_of_experts(beliefs, present) if len(self.names) > 1 else beliefs[self.names[0]]

    def _subsets(self) -> list[tuple[str, ...]]:
        """Return the groups of modalities from which codes are drawn."""
        alone: list[tuple[str, ...]] = [(name,) for name in self.names]
        if len(alone) == 1 or self.mixture:
            return alone
        between = [group for size in range(2, len(alone)) for group in combinations(self.names, size)]
        drawn = torch.randint(len(between), (self.random_subsets,)).tolist() if self.training and between else []
        return [tuple(self.names), *alone, *(between[k] for k in drawn)]


def _kl_to_prior(code: Tensor, beliefs: dict[str, Gaussian], present: dict[str, Tensor]) -> Tensor:
    """Return log q(z) - log N(z; 0, 1) for the mixture q and a code (B, D) drawn from it: (B, 1)."""
    prior = Gaussian(torch.zeros_like(code), torch.zeros_like(code))
    return (log_mixture(code, beliefs, present) - prior.log_density(code))[:, None]


class ELBO:
    """Objective of variational autoencoders: the negative evidence lower bound, in nats a sample.

    `-Σ_m w_m log p(x_m | z) + β KL(q(z | x) ‖ p(z))`, summed over all values and dimensions, averaged over the draws of
    a sample and over samples. With β = 1 and weights 1 it is a bound on -log p(x); otherwise it is a compromise.

    Args:
        beta: Weight of the KL divergence (β-VAE, Higgins et al. 2017).
        warmup: Steps of training over which β grows from 0 (Sønderby et al. 2016): the code is used before it costs.
        free_bits: Nats that each dimension may take for free, on average over the batch (Kingma et al. 2016).
        weights: name → w_m, by default 1: how much a modality counts. One with many values outweighs one with few.

    Chapter: pretraining/autoencoder.
    """

    def __init__(
        self,
        beta: float = 1.0,
        *,
        warmup: int = 0,
        free_bits: float = 0.0,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.beta, self.warmup, self.free_bits, self.weights = beta, warmup, free_bits, dict(weights or {})
        self.steps = 0  # of training that this objective has seen

    def loss(self, output: Bounds, batch: Batch) -> Tensor:
        """Return the negative bound, a scalar. Losses with gradients count as steps of the warm-up."""
        share = output.valid / output.valid.sum(dim=0).clamp(min=1) / output.valid.shape[1]  # (S, B), sums to 1
        told = [self.weights.get(name, 1.0) * (ll * share).sum() for name, ll in output.log_likelihood.items()]
        kl = (output.kl * share[..., None]).sum(dim=(0, 1))  # (D,)
        beta = self.beta
        if torch.is_grad_enabled():
            self.steps += 1
            beta *= min(1.0, self.steps / max(self.warmup, 1))
        return beta * kl.clamp(min=self.free_bits).sum() - torch.stack(told).sum()

    def metrics(self) -> dict[str, Metric]:
        """Choose the best epoch by the loss."""
        return {}

    def target(self, batch: Batch) -> Tensor:
        """Return nothing that is used: there is no metric."""
        return next(iter(batch.present.values()))
