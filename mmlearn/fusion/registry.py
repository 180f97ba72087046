"""Every fusion by its name: one list that benchmarks, tests and a reader's own program share.

Chapter: fusion/choosing.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from mmlearn.fusion.attention import (
    AttentionFusion,
    BottleneckFusion,
    CoAttentionFusion,
    CrossAttentionFusion,
    JointAttentionFusion,
)
from mmlearn.fusion.feature import (
    ConcatFusion,
    FiLMFusion,
    GatedFusion,
    LateFusion,
    LowRankTensorFusion,
    ProductFusion,
    SumFusion,
    TensorFusion,
)
from mmlearn.fusion.hierarchical import IntermediateFusion, LateralFusion, TreeFusion

FUSIONS: dict[str, Callable[..., nn.Module]] = {
    "concatenation": ConcatFusion,
    "sum": SumFusion,
    "product": ProductFusion,
    "gated": GatedFusion,
    "FiLM": FiLMFusion,
    "tensor": TensorFusion,
    "low-rank tensor": LowRankTensorFusion,
    "late: mean": partial(LateFusion, how="mean"),
    "late: product": partial(LateFusion, how="product"),
    "late: weighted": partial(LateFusion, how="weighted"),
    "tree": TreeFusion,
    "lateral": LateralFusion,  # from here on of steps, (B, N, D)
    "intermediate": IntermediateFusion,
    "one query": AttentionFusion,
    "cross-attention": CrossAttentionFusion,
    "co-attention": CoAttentionFusion,
    "joint attention": JointAttentionFusion,
    "bottleneck": BottleneckFusion,
}


def build_fusion(name: str, encoders: Mapping[str, nn.Module | int], dim: int = 128, **options: Any) -> nn.Module:
    """Build a fusion by its name in `FUSIONS`.

    Args:
        name: Such as "concatenation" or "bottleneck".
        encoders: name → the modality's encoder, whose `dim` is taken, or the width itself.
        dim: Width of the output; of late fusions, the number of classes.
        options: Further arguments of the class, such as `target=` or `steps_per_second=`.

    Raises:
        ValueError: If there is no such fusion, or an encoder does not tell its width.

    Chapter: fusion/choosing.

    Examples:
        >>> fusion = build_fusion("bottleneck", {"video": 64, "audio": 32}, dim=16)
        >>> type(fusion).__name__, fusion.uses_sequence
        ('BottleneckFusion', True)
    """
    if name not in FUSIONS:
        raise ValueError(f"there is no fusion {name!r}; expected one of {list(FUSIONS)}")
    dims = {}
    for modality, encoder in encoders.items():
        width = encoder if isinstance(encoder, int) else getattr(encoder, "dim", None)
        if not isinstance(width, int):
            raise ValueError(f"the encoder of {modality!r}, {type(encoder).__name__}, has no `dim`; give its width")
        dims[modality] = width
    return FUSIONS[name](dims, dim=dim, **options)


def uses_sequence(name: str) -> bool:
    """Return whether a fusion takes steps (B, N, D) and not vectors (B, D).

    Examples:
        >>> uses_sequence("co-attention"), uses_sequence("sum")
        (True, False)
    """
    made = FUSIONS[name]
    return bool(getattr(made.func if isinstance(made, partial) else made, "uses_sequence", False))
