"""Absent modalities: put the modalities in order, and something harmless where one is absent.

Chapter: fusion/feature.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mmlearn.batch import check_present


def order_modalities(
    names: Sequence[str], features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None
) -> tuple[dict[str, Tensor], dict[str, Tensor | None]]:
    """Return features (B, …) and present (B,) in the order of `names`, whatever the order they came in.

    Args:
        names: The modalities of the fusion.
        features: name → (B, …). Others than `names` are not looked at.
        present: name → bool (B,). If it is None, all are present, and each entry of the result is None.

    Raises:
        ValueError: If a modality is not given, or a sample has none of them.

    Chapter: fusion/feature.
    """
    missing = [name for name in names if name not in features]
    if missing:
        raise ValueError(f"features lack {missing}; expected {list(names)}")
    ordered = {name: features[name] for name in names}
    if present is None:
        return ordered, dict.fromkeys(names)
    missing = [name for name in names if name not in present]
    if missing:
        raise ValueError(f"present lacks {missing}; expected {list(names)}")
    there = {name: present[name] for name in names}
    if not torch.compiler.is_compiling():  # the check waits for the device; a compiled graph cannot
        check_present(there)
    return ordered, dict(there)


def where_present(present: Tensor | None, tensor: Tensor, otherwise: Tensor | float) -> Tensor:
    """Return `tensor` (B, …, D) where it is `present`, (B,) or (B, N), and `otherwise` elsewhere; None: everywhere.

    `torch.where` chooses: multiplying by the mask would keep NaN, in the output and in the gradient.

    Chapter: fusion/feature.

    Examples:
        >>> where_present(torch.tensor([True, False]), torch.ones(2, 1), 5.0).tolist()
        [[1.0], [5.0]]
    """
    if present is None:
        return tensor
    keep = present.view(*present.shape, *[1] * (tensor.ndim - present.ndim))  # (B, 1, …, 1) or (B, N, 1)
    return torch.where(keep, tensor, otherwise.to(tensor.dtype) if isinstance(otherwise, Tensor) else otherwise)


class MissingEmbedding(nn.ParameterDict):
    """One learned vector a modality, which stands in for it in samples that lack it.

    Args:
        dims: name → width of that modality's vector.

    Chapter: fusion/feature.
    """

    def __init__(self, dims: Mapping[str, int]) -> None:
        super().__init__({name: nn.Parameter(torch.zeros(dims[name])) for name in sorted(dims)})


def zero_missing(tensor: Tensor, present: Tensor) -> Tensor:
    """Put zeros where a modality is absent, so that nothing there reaches features or gradients.

    `torch.where` chooses: multiplying floats by the mask would keep NaN (whole numbers have none). It comes before the
    encoder, because a gradient of zero times an activation of NaN is NaN in the encoder's weights.

    Args:
        tensor: (B, …).
        present: bool (B,).

    Returns:
        A tensor like the first.

    Examples:
        >>> zero_missing(torch.ones(2, 2), torch.tensor([True, False])).tolist()
        [[1.0, 1.0], [0.0, 0.0]]
    """
    keep = present.view(-1, *[1] * (tensor.ndim - 1))  # (B, 1, …, 1)
    if not tensor.is_floating_point():
        return tensor * keep  # whole numbers know no NaN, and bytes are multiplied several times as fast as chosen
    return torch.where(keep, tensor, torch.zeros((), dtype=tensor.dtype, device=tensor.device))
