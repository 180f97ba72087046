"""Autoencoders (自编码器): learn a code from which the data can be reconstructed, `min L(x, D(E(x)))`.

Linear, convolutional, denoising. The variational and the multimodal one are in `variational`, the arithmetic of beliefs
about a code in `experts`, networks in `convolutional`.

Chapter: pretraining/autoencoder.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from mmlearn.batch import Batch
from mmlearn.nn.functional import like_weights, to_float32


class Autoencoder(nn.Module):
    """Encode one modality, and decode the code: `D(E(x))`. Called with a batch, it returns the reconstruction.

    Args:
        name: The modality.
        encoder: Module that maps `(x, mask)` to codes (B, D); x is (B, …), mask bool or None, as in `Batch`.
        decoder: Module that maps codes (B, D) to something like x (B, …).
        noise: Standard deviation of the noise added to the input in training. With noise it is a denoising autoencoder
            (Vincent et al. 2008): the target stays clean, so copying the input is no longer the best it can do.

    Chapter: pretraining/autoencoder.
    """

    def __init__(self, name: str, encoder: nn.Module, decoder: nn.Module, noise: float = 0.0) -> None:
        super().__init__()
        self.name, self.encoder, self.decoder, self.noise = name, encoder, decoder, noise

    def code(self, batch: Batch) -> Tensor:
        """Return the codes (B, D)."""
        x = clean(batch, self.name)[0]
        if self.training and self.noise:
            x = x + self.noise * torch.randn_like(x)
        return self.encoder(like_weights(x, self.encoder), batch.mask.get(self.name))

    def forward(self, batch: Batch) -> Tensor:
        """Return the reconstruction (B, …)."""
        return self.decoder(like_weights(self.code(batch), self.decoder))


def linear_autoencoder(name: str, shape: tuple[int, ...], dim: int) -> Autoencoder:
    """Return an autoencoder of two linear layers. At its optimum, `dim` principal components span what it can say.

    (Baldi & Hornik 1989.)

    Args:
        name: The modality.
        shape: Shape of a sample of it.
        dim: Width D of the code.

    Chapter: pretraining/autoencoder.
    """
    size = math.prod(shape)
    return Autoencoder(name, _Flat(size, dim), nn.Sequential(nn.Linear(dim, size), nn.Unflatten(1, shape)))


class _Flat(nn.Linear):
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return super().forward(x.flatten(1))


class Reconstruction:
    """Objective of a plain autoencoder: the mean of `L(x, D(E(x)))` over all that is real in the batch.

    Args:
        name: The modality.
        loss: L, a function `(output, x, reduction="none")` as `torch.nn.functional` has them: squared error (Gaussian)
            by default, or `binary_cross_entropy_with_logits` (Bernoulli) for values in [0, 1].

    Chapter: pretraining/autoencoder.
    """

    def __init__(self, name: str, loss: Callable[..., Tensor] = nn.functional.mse_loss) -> None:
        self.name, self.distance = name, loss

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Return the mean distance of reconstructions (B, …) to the batch's modality, a scalar."""
        x, real = clean(batch, self.name)
        distances = torch.where(real, self.distance(to_float32(output), x, reduction="none"), 0.0)
        return distances.sum() / real.expand_as(x).sum().clamp(min=1)

    def metrics(self) -> dict[str, Metric]:
        """Choose the best epoch by the loss."""
        return {}

    def target(self, batch: Batch) -> Tensor:
        """Return what is to be reconstructed."""
        return batch.data[self.name]


def clean(batch: Batch, name: str) -> tuple[Tensor, Tensor]:
    """Return a modality (B, …) with zeros where nothing is real, and what is real: bool (B, 1, …) or (B, 1, …, N).

    Real is what is present and, where the batch has a mask (B, N) for steps along the last dimension, no padding.

    Chapter: pretraining/autoencoder.
    """
    x, present = batch.data[name], batch.present[name]
    real = present.view(-1, *[1] * (x.ndim - 1))  # (B, 1, …, 1)
    if name in batch.mask:
        real = real & batch.mask[name].view(len(x), *[1] * (x.ndim - 2), -1)  # (B, 1, …, N)
    return torch.where(real, x, 0.0), real
