"""What published architectures need beyond `mmlearn.nn`, and a Transformer built from their settings.

Chapters: pretraining/contrastive, pretraining/masked.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmlearn.encoders.transformer import Transformer

Config = Mapping[str, Any]


class QuickGELU(nn.Module):
    """x · σ(1.702 x): OpenAI's approximation of GELU.

    Chapter: pretraining/contrastive.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor like x."""
        return x * torch.sigmoid(1.702 * x)


class Pixels(nn.Module):
    """Check the sides of pictures or clips; standardize bytes as the checkpoint was trained.

    Args:
        shape: Sides (H, W) of a picture, or (T, H, W) of a clip, whose T may be smaller.
        mean: Of red, green and blue, from 0 to 1.
        std: Likewise.

    Chapters: pretraining/contrastive, pretraining/masked.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, shape: tuple[int, ...], mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.shape = shape
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(3, *[1] * len(shape)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return floats; those that are given pass as they are.

        Raises:
            ValueError: If the sides do not fit.
        """
        frames = x.shape[2:-2]  # none for a picture
        if x.shape[-2:] != self.shape[-2:] or x.ndim != 2 + len(self.shape) or frames > self.shape[:-2]:
            raise ValueError(f"the input is {tuple(x.shape)}; expected (B, 3, {', '.join(map(str, self.shape))})")
        return x if x.is_floating_point() else (x / 255 - self.mean) / self.std


def build_transformer(config: Config, norm: bool = True, post_norm: bool = False, causal: bool = False) -> Any:
    """Build a Transformer as a config says: widths, activation, dropout, and what its norms add to the variance.

    Args:
        config: Settings of one Transformer.
        norm: Whether it ends with a normalisation.
        post_norm: Whether its blocks normalize sums; the last one then ends with a normalization itself.
        causal: Whether a step sees only those before it.

    Raises:
        ValueError: If the config asks for what is not supported.

    Chapter: pretraining/masked.
    """
    activations = {"gelu": nn.GELU, "quick_gelu": QuickGELU}
    name = config["hidden_act"]
    if name not in activations:
        raise ValueError(f"hidden_act is {name!r}; expected one of {sorted(activations)}")
    if not (config.get("qkv_bias", True) and config.get("qv_bias", True)):
        raise ValueError("qkv_bias or qv_bias is False; expected True, as in the published checkpoints")
    return Transformer(
        config["hidden_size"],
        config["num_hidden_layers"],
        config["num_attention_heads"],
        dropout=config.get("hidden_dropout_prob", 0.0),
        causal=causal,
        final_norm=norm and not post_norm,
        mlp_dim=config["intermediate_size"],
        act_layer=activations[name],
        eps=config["layer_norm_eps"],
        attention_dropout=config.get("attention_probs_dropout_prob", config.get("attention_dropout", 0.0)),
        post_norm=post_norm,
    )


def sine_table(count: int, dim: int) -> Tensor:
    """Write places 0, 1, … as sines and cosines in turns (Vaswani et al. 2017): (count, dim).

    In float64 first: the phase of place 1567 has lost four digits in float32.

    Chapter: pretraining/masked.
    """
    speed = 10_000 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)  # (dim/2,)
    phase = torch.arange(count, dtype=torch.float64)[:, None] * speed  # (count, dim/2)
    return torch.stack([phase.sin(), phase.cos()], dim=-1).flatten(1).float()


def pair(side: int | list[int]) -> tuple[int, int]:
    """Return both sides."""
    height, width = (side, side) if isinstance(side, int) else side
    return height, width


def named(architecture: str, config: Config) -> dict[str, Any]:
    """Return a config that names this class."""
    return {**config, "architectures": [architecture]}
