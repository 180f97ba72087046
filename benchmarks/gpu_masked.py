"""The video masked autoencoder that `benchmarks.gpu` times beside transformers' VideoMAE-base, in equal shapes.

16 frames of 224², tubelets of 2 × 16 × 16: 1,568 tokens, of which tubes hide 1,408. The encoder sees 160.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import mmlearn
from mmlearn import Batch
from mmlearn.encoders import VideoTransformer
from mmlearn.pretraining.masked import MaskedAutoencoder, MaskedPrediction, PatchMask, tube_masking

FULL: dict[str, Any] = {
    "shape": (16, 224, 224),
    "patch": (2, 16, 16),
    "size": "base",
    "decoder": {"dim": 384, "depth": 4, "num_heads": 6},
}
SMOKE: dict[str, Any] = {
    "shape": (4, 64, 64),
    "patch": (2, 16, 16),
    "size": {"dim": 32, "depth": 2, "num_heads": 2},
    "decoder": {"dim": 16, "depth": 1, "num_heads": 2},
}


class Pretraining(nn.Module):
    """Frames in, loss out: masks, targets and loss are in the compiled graph."""

    def __init__(self, shape: tuple[int, int, int], patch: tuple[int, int, int], size: Any, decoder: Any) -> None:
        super().__init__()
        encoder = VideoTransformer(shape, patch, size)
        self.model = MaskedAutoencoder("video", encoder, tube_masking, decoder, targets="channel")
        self.objective = MaskedPrediction()

    def forward(self, video: Tensor, split: PatchMask | None = None) -> Tensor:
        """Return the loss of frames (B, 3, T, H, W)."""
        batch = Batch({"video": video}, {"video": torch.ones(len(video), dtype=torch.bool, device=video.device)})
        return self.objective.loss(self.model(batch, split), batch)


def contender(
    smoke: bool,
) -> tuple[Callable[[], nn.Module], Callable[[int], tuple[Tensor, ...]], Callable[..., Tensor]]:
    """Return what `benchmarks.gpu` wants: build, make inputs, and the loss."""
    settings = SMOKE if smoke else FULL

    def make(batch: int) -> tuple[Tensor, ...]:
        return (torch.randn(batch, 3, *settings["shape"], device=mmlearn.device()),)

    return lambda: Pretraining(**settings), make, lambda model, inputs: model(*inputs)


def shallow(smoke: bool) -> tuple[nn.Module, tuple[Tensor, PatchMask]]:
    """Return the model with fewer layers, for a check of its numerics, with frames and what to hide of them."""
    device, settings = mmlearn.device(), SMOKE if smoke else FULL
    size = settings["size"] if smoke else {"dim": 768, "depth": 2, "num_heads": 12}
    torch.manual_seed(0)
    model = Pretraining(**settings | {"size": size, "decoder": settings["decoder"] | {"depth": 1}}).to(device)
    video = torch.rand(2, 3, *settings["shape"], device=device)
    return model, (video, tube_masking(2, model.model.encoder.embed.grid, device=device))
