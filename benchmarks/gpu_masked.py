"""The video masked autoencoder that `benchmarks.gpu` times beside transformers' VideoMAE-base, in equal shapes.

16 frames of 224², tubelets of 2 × 16 × 16: 1,568 tokens, of which tubes hide 1,408. The encoder sees 160.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import mmlearn
from mmlearn import Batch
from mmlearn.nn import VideoTransformer
from mmlearn.pretraining.masked import MaskedAutoencoder, MaskedPrediction
from mmlearn.pretraining.masking import Split, tube_masking

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

    def forward(self, video: Tensor, split: Split | None = None) -> Tensor:
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


def check(smoke: bool) -> None:
    """Loss and gradients of the compiled model in bfloat16 must be those of the plain one in float32."""
    device, settings = mmlearn.device(), SMOKE if smoke else FULL
    torch.manual_seed(0)
    model = Pretraining(**settings).to(device)
    video = torch.rand(2, 3, *settings["shape"], device=device)
    split = tube_masking(2, model.model.encoder.embed.grid, device=device)
    exact = model(video, split)
    exact.backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    backend = "inductor" if device.type == "cuda" else "aot_eager"
    with torch.autocast(device.type, dtype=torch.bfloat16):
        rough = torch.compile(model, fullgraph=True, backend=backend)(video, split)
    rough.backward()
    assert abs(float(rough - exact)) < 0.01 * float(exact), (float(rough), float(exact))
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == wanted.keys()
    error = sum(float((found[name] - wanted[name]).square().sum()) for name in wanted)
    error /= sum(float(gradient.square().sum()) for gradient in wanted.values())
    assert error**0.5 < 0.1, error**0.5
