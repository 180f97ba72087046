"""Small convolutional networks for a GAN of pictures: a conditional generator, and a discriminator by projection.

Neither has batch normalisation. With it, a sample's score depends on its neighbours, the gradient penalty is no longer
a sample's own, and a difference between the averages of a real and a generated batch is normalised away.

Chapter: pretraining/gan.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, relu
from torch.nn.utils.parametrizations import spectral_norm

from mmlearn.missing import where_present, zero_missing
from mmlearn.nn.functional import like_weights

SMALLEST = 4  # side of the smallest feature map in pixels; each block doubles or halves it


class Condition(nn.Module):
    """What is asked for, as a vector: `W c`, or a learned vector where nothing is asked for.

    Args:
        condition_dim: Width of a condition c. It may be the encoding of a sound or a sentence, or a class as a one-hot
            vector: then the columns of W are the classes' embeddings.
        dim: Width of the vector.

    Chapter: pretraining/gan.
    """

    def __init__(self, condition_dim: int, dim: int) -> None:
        super().__init__()
        self.embed = nn.Linear(condition_dim, dim, bias=False)
        self.absent = nn.Parameter(torch.zeros(dim))

    def forward(self, condition: Tensor, present: Tensor | None = None) -> Tensor:
        """Return (B, dim) for conditions (B, condition_dim); `present`, bool (B,), is True where there is one."""
        filled = condition if present is None else zero_missing(condition, present)
        return where_present(present, self.embed(like_weights(filled, self)), self.absent)


class ConditionalGenerator(nn.Module):
    """Draw pictures from noise and a condition: from 4 x 4 pixels upwards, doubling the side each time.

    It mirrors `ProjectionDiscriminator`. Noise and condition are heard in every block: they scale and shift its
    normalised channels, as `FiLMFusion` does.

    Args:
        condition_dim: Width of a condition; 0 for a generator that is asked for nothing in particular.
        noise_dim: Width of the noise.
        size: Side of the square picture in pixels: 8, 16, 32, 64, 128, …
        channels: Of the picture: 1 for ink, 3 for colours.
        width: Channels at half the picture's side; at each smaller side there are twice as many.
        dim: Width of the embedded condition.

    Raises:
        ValueError: If `size` is not one of these.

    Chapter: pretraining/gan.
    """

    def __init__(
        self,
        condition_dim: int = 0,
        *,
        noise_dim: int = 64,
        size: int = 32,
        channels: int = 1,
        width: int = 16,
        dim: int = 64,
    ) -> None:
        super().__init__()
        widths = _widths(size, width)[::-1]  # from the smallest map to the picture: 64, 32, 16
        self.condition = Condition(condition_dim, dim) if condition_dim else None
        code_dim = noise_dim + (dim if condition_dim else 0)
        self.start = nn.Linear(code_dim, widths[0] * SMALLEST**2)
        self.blocks = nn.ModuleList(_GrowingBlock(fan_in, fan_out, code_dim) for fan_in, fan_out in pairwise(widths))
        self.end = nn.ConvTranspose2d(widths[-1], channels, 4, stride=2, padding=1)

    def forward(self, noise: Tensor, condition: Tensor | None = None, present: Tensor | None = None) -> Tensor:
        """Return pictures (B, channels, size, size) in [0, 1].

        Args:
            noise: (B, noise_dim), standard normal.
            condition: (B, condition_dim).
            present: bool (B,), True where a condition is there.

        Raises:
            ValueError: If a condition is expected and not given, or the other way round.
        """
        code = noise = like_weights(noise, self.start)
        if (asked := _ask(self.condition, condition, present)) is not None:
            code = torch.cat([noise, asked.to(noise.dtype)], dim=1)  # (B, noise_dim + dim)
        x = self.start(code).unflatten(1, (-1, SMALLEST, SMALLEST))  # (B, widths[0], 4, 4)
        for block in self.blocks:
            x = block(x, code)
        return self.end(x).sigmoid()


class ProjectionDiscriminator(nn.Module):
    """Judge pictures and what was asked for: `D(x, c) = w · φ(x) + b + V(c) · φ(x)` (Miyato & Koyama 2018).

    The first part asks whether x looks real, the second whether it fits c: it is large where the picture's features
    point the condition's way.

    Args:
        condition_dim: Width of a condition; 0 for a discriminator that sees only the picture.
        size: Side of the square picture in pixels.
        channels: Of the picture.
        width: Channels at half the picture's side; at each smaller side there are twice as many.
        dim: Width of the features φ(x).
        spectral: Whether each layer's weight is divided by its largest singular value (Miyato et al. 2018), so that
            no layer stretches what it sees. Take it out for `gradient_penalty`.

    Raises:
        ValueError: If `size` is not one that `ConditionalGenerator` makes.

    Chapter: pretraining/gan.
    """

    def __init__(
        self,
        condition_dim: int = 0,
        *,
        size: int = 32,
        channels: int = 1,
        width: int = 16,
        dim: int = 128,
        spectral: bool = True,
    ) -> None:
        super().__init__()
        widths = _widths(size, width)
        self.blocks = nn.ModuleList(
            nn.Conv2d(fan_in, fan_out, 4, stride=2, padding=1) for fan_in, fan_out in pairwise([channels, *widths])
        )
        self.project = nn.Linear(widths[-1] * SMALLEST**2, dim)
        self.score = nn.Linear(dim, 1)
        self.condition = Condition(condition_dim, dim) if condition_dim else None
        if spectral:
            normalise_spectrally(self)

    def features(self, x: Tensor) -> Tensor:
        """Return φ(x), (B, dim), of pictures (B, channels, size, size) in [0, 1]."""
        x = 2 * like_weights(x, self) - 1
        for block in self.blocks:
            x = leaky_relu(block(x), 0.2)
        return leaky_relu(self.project(x.flatten(1)), 0.2)  # (B, widths[-1], 4, 4) → (B, dim)

    def forward(self, x: Tensor, condition: Tensor | None = None, present: Tensor | None = None) -> Tensor:
        """Return scores (B,) of pictures and conditions; see `ConditionalGenerator.forward` for these."""
        phi = self.features(x)
        score = self.score(phi).squeeze(1)  # (B, 1) → (B,)
        if (asked := _ask(self.condition, condition, present)) is not None:
            score = score + (asked * phi).sum(dim=1)
        return score


def normalise_spectrally(network: nn.Module) -> None:
    """Divide the weight of each convolution and linear layer by its largest singular value (Miyato et al. 2018).

    The value is followed by one power iteration a forward pass in training. A convolution's weight is looked at as a
    matrix (out, in · k · k), whose largest singular value is not the convolution's own, but bounds it up to a factor.

    Chapter: pretraining/gan.
    """
    for layer in network.modules():
        if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)):
            spectral_norm(layer)


class _GrowingBlock(nn.Module):
    """Double the side, normalize, let the code scale and shift each channel."""

    def __init__(self, fan_in: int, fan_out: int, code_dim: int) -> None:
        super().__init__()
        self.grow = nn.ConvTranspose2d(fan_in, fan_out, 4, stride=2, padding=1)
        self.norm = nn.GroupNorm(4, fan_out, affine=False)
        self.modulate = nn.Linear(code_dim, 2 * fan_out)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        scale, shift = self.modulate(code)[:, :, None, None].chunk(2, dim=1)  # (B, fan_out, 1, 1) each
        return relu((1 + scale) * self.norm(self.grow(x)) + shift)


def _ask(module: Condition | None, condition: Tensor | None, present: Tensor | None) -> Tensor | None:
    """Return the embedded condition, or None where the network takes none."""
    if (module is None) != (condition is None):
        expected = "no condition" if module is None else f"one of width {module.embed.in_features}"
        found = "none" if condition is None else f"one of shape {tuple(condition.shape)}"
        raise ValueError(f"condition: found {found}; expected {expected}")
    return None if module is None else module(condition, present)


def _widths(size: int, width: int) -> list[int]:
    """Return the channels from half the picture's side down to 4 x 4: 32 pixels and width 16 → [16, 32, 64]."""
    count = (size // SMALLEST).bit_length() - 1
    if count < 1 or size != SMALLEST * 2**count:
        raise ValueError(f"size is {size}; expected 8, 16, 32, 64, 128, …")
    return [width * 2**block for block in range(count)]
