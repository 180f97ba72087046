"""A convolutional encoder and its mirror image, for pictures and for spectrograms seen as pictures.

Chapter: pretraining/autoencoder.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from mmlearn.nn.functional import like_weights


class ConvEncoder(nn.Module):
    """Convolutions, each of which halves height and width and doubles the channels; then one linear layer.

    Args:
        shape: Of a sample: (C, H, W), or (H, W) for one channel, e.g. a spectrogram (M, T). Sides are multiples of 8.
        dim: Width of the output.
        width: Channels after the first convolution.

    Raises:
        ValueError: If a side is no multiple of 8.

    Chapter: pretraining/autoencoder.
    """

    def __init__(self, shape: tuple[int, ...], dim: int, width: int = 16) -> None:
        super().__init__()
        self.shape = _three(shape)
        channels = [self.shape[0], width, 2 * width, 4 * width]
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(channels):
            layers += [nn.Conv2d(fan_in, fan_out, 3, stride=2, padding=1), nn.GELU()]  # (B, C, H/2, W/2)
        self.convolutions = nn.Sequential(*layers, nn.Flatten())
        self.out = nn.Linear(4 * width * math.prod(_smallest(self.shape)), dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode x (B, *shape) to (B, dim); steps (B, W) of the last dimension that are not real count as 0."""
        if mask is not None:
            x = torch.where(mask.view(len(x), *[1] * (x.ndim - 2), -1), x, 0.0)
        return self.out(self.convolutions(like_weights(x, self).reshape(-1, *self.shape)))  # (B, C, H, W) → (B, dim)


class ConvDecoder(nn.Module):
    """The mirror image of `ConvEncoder`: one linear layer, then transposed convolutions, each doubling the sides.

    Args:
        dim: Width of the code.
        shape: Of a sample, as in `ConvEncoder`.
        width: Channels before the last convolution.

    Raises:
        ValueError: If a side is no multiple of 8.

    Chapter: pretraining/autoencoder.
    """

    def __init__(self, dim: int, shape: tuple[int, ...], width: int = 16) -> None:
        super().__init__()
        self.shape = tuple(shape)
        channels, height, breadth = _three(shape)
        smallest = _smallest((channels, height, breadth))
        self.start = nn.Sequential(nn.Linear(dim, 4 * width * math.prod(smallest)), nn.GELU())
        layers: list[nn.Module] = [nn.Unflatten(1, (4 * width, *smallest))]
        for fan_in, fan_out in ((4 * width, 2 * width), (2 * width, width)):
            layers += [nn.ConvTranspose2d(fan_in, fan_out, 4, stride=2, padding=1), nn.GELU()]  # (B, C, 2 H, 2 W)
        self.convolutions = nn.Sequential(*layers, nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1))
        self.apply(_keep_size)

    def forward(self, code: Tensor) -> Tensor:
        """Decode codes (B, dim) to (B, *shape)."""
        return self.convolutions(self.start(like_weights(code, self))).reshape(-1, *self.shape)


def _three(shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) not in (2, 3) or shape[-1] % 8 or shape[-2] % 8:
        raise ValueError(f"shape is {tuple(shape)}; expected (C, H, W) or (H, W), sides multiples of 8")
    return (shape[0] if len(shape) == 3 else 1), shape[-2], shape[-1]


def _smallest(shape: tuple[int, int, int]) -> tuple[int, int]:
    """Return height and width after three halvings."""
    return shape[1] // 8, shape[2] // 8


def _keep_size(module: nn.Module) -> None:
    """Begin with weights that keep a signal's size from layer to layer (He et al. 2015).

    PyTorch's own weights are smaller. With them, four layers without normalisation answer nearly the same to every
    code, and training stands still for epochs. (Encoders have them: with few labels, small weights do better.)
    """
    if isinstance(module, (nn.ConvTranspose2d, nn.Linear)):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]
