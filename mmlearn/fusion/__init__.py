"""Many streams into one. Every fusion is built and called alike (see `ConcatFusion`)."""

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
from mmlearn.fusion.registry import FUSIONS, build_fusion, uses_sequence

__all__ = [
    "FUSIONS",
    "AttentionFusion",
    "BottleneckFusion",
    "CoAttentionFusion",
    "ConcatFusion",
    "CrossAttentionFusion",
    "FiLMFusion",
    "GatedFusion",
    "IntermediateFusion",
    "JointAttentionFusion",
    "LateFusion",
    "LateralFusion",
    "LowRankTensorFusion",
    "ProductFusion",
    "SumFusion",
    "TensorFusion",
    "TreeFusion",
    "build_fusion",
    "uses_sequence",
]
