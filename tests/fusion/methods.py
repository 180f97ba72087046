"""Every fusion, built small, for the laws that all must keep."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from mmlearn import fusion

DIMS = {"video": 3, "audio": 2, "text": 4}
STEPS = {"video": 4, "audio": 6, "text": 5}
RATES = {"video": 4.0, "audio": 6.0, "text": 5.0}

VECTORS: dict[str, Callable[..., nn.Module]] = {
    "concat": fusion.ConcatFusion,
    "sum": fusion.SumFusion,
    "product": fusion.ProductFusion,
    "gated": fusion.GatedFusion,
    "film": fusion.FiLMFusion,
    "film on text": partial(fusion.FiLMFusion, target="text"),
    "tensor": partial(fusion.TensorFusion, width=3),
    "low-rank": partial(fusion.LowRankTensorFusion, rank=3),
    "late, mean": partial(fusion.LateFusion, how="mean"),
    "late, product": partial(fusion.LateFusion, how="product"),
    "late, weighted": partial(fusion.LateFusion, how="weighted"),
    "tree": fusion.TreeFusion,
    "tree, text first": partial(fusion.TreeFusion, order=("video", ("text", "audio"))),
}
TOKENS: dict[str, Callable[..., nn.Module]] = {
    "lateral": partial(fusion.LateralFusion, steps_per_second=RATES),
    "early": partial(fusion.IntermediateFusion, fuse_at=0, steps_per_second=RATES),
    "middle": partial(fusion.IntermediateFusion, fuse_at=1, steps_per_second=RATES),
    "late": partial(fusion.IntermediateFusion, fuse_at=2, steps_per_second=RATES),
    "attention": partial(fusion.AttentionFusion, num_heads=2, steps_per_second=RATES),
    "cross": partial(fusion.CrossAttentionFusion, num_heads=2, steps_per_second=RATES),
    "cross from video": partial(fusion.CrossAttentionFusion, num_heads=2, target="video", depth=2),
    "co": partial(fusion.CoAttentionFusion, num_heads=2, steps_per_second=RATES),
    "joint": partial(fusion.JointAttentionFusion, num_heads=2, steps_per_second=RATES),
    "bottleneck": partial(fusion.BottleneckFusion, num_heads=2, steps_per_second=RATES),
    "bottleneck from 1": partial(fusion.BottleneckFusion, num_heads=2, depth=3, fuse_from=1),
}
ALL = VECTORS | TOKENS


def build(method: str, dim: int = 6, names: list[str] | None = None, seed: int = 0) -> nn.Module:
    """A fusion with random parameters everywhere, also where it would begin with zeros."""
    torch.manual_seed(seed)
    module = ALL[method]({name: DIMS[name] for name in names or list(DIMS)}, dim=dim)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module.eval()


def make_features(method: str, size: int = 5, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Random vectors (B, D), or steps (B, N, D) for a method that takes steps."""
    if method in VECTORS:
        return {name: torch.randn(size, dim, dtype=dtype) for name, dim in DIMS.items()}
    return {name: torch.randn(size, STEPS[name], dim, dtype=dtype) for name, dim in DIMS.items()}


def some_present(size: int = 5) -> dict[str, Tensor]:
    """All kinds of samples: complete, two modalities, one."""
    rows = [(True, True, True), (True, False, True), (False, True, True), (True, True, False), (False, True, False)]
    return {name: torch.tensor([row[k] for row in (rows * size)[:size]]) for k, name in enumerate(DIMS)}


def some_mask(size: int = 5) -> dict[str, Tensor]:
    """Different lengths, at least one step each; text has no padding."""
    lengths = {name: 1 + torch.arange(size) % STEPS[name] for name in ("video", "audio")}
    return {name: torch.arange(STEPS[name]) < length[:, None] for name, length in lengths.items()}
