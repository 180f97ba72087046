"""Contrastive learning (对比学习): of many candidates, find the one that belongs to you.

Chapter: pretraining/contrastive.
"""

import math
from collections.abc import Mapping
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor, nn

from mmlearn.distributed import gather_all, gather_parts, own_part
from mmlearn.nn.functional import at_least_float32
from mmlearn.pretraining.contrastive.blockwise import two_way_logsumexp

Reduction = Literal["mean", "sum", "none"]


def info_nce(
    a: Tensor,
    b: Tensor,
    logit_scale: Tensor | float,
    *,
    present: Tensor | None = None,
    positives: Tensor | None = None,
    reduction: Reduction = "mean",
    block_size: int | None = None,
    gather: bool = False,
) -> Tensor:
    """Cross-entropy of finding one's partner among all, both ways (InfoNCE, van den Oord et al. 2018; CLIP, 2021).

    With `s_ij = logit_scale · a_i · b_j` and the positives P(i) of row i, its loss is the mean over j in P(i) of
    `-log(exp(s_ij) / Σ_k exp(s_ik))`: the form `L_out` of supervised contrastive learning (Khosla et al. 2020). Columns
    have theirs alike; the result is half of each. By default P(i) is i itself.

    Args:
        a: (B, D), usually of unit length.
        b: (B, D).
        logit_scale: 1 / temperature.
        present: bool (B,), True where both a and b are there. The other samples are neither rows nor columns; what
            stands there, be it NaN, changes nothing and gets no gradient.
        positives: (B,) of whole numbers, equal where samples belong together; or bool (B, B), True where b_j belongs to
            a_i. A row or column without any positive counts as candidate only.
        reduction: "mean" over rows and over columns, "sum", or "none": (B,), zero where a sample is absent.
        block_size: Rows that are compared at a time. With it, memory grows with B · block_size instead of B²; loss and
            gradients are the same. By default all.
        gather: Whether the other processes' samples are candidates, too; all have the same B. Each process returns the
            whole batch's loss, and DistributedDataParallel's mean of the gradients is the whole batch's gradient.

    Raises:
        ValueError: If shapes do not fit, `reduction` is unknown, or `positives` is a matrix where ids are needed.

    Chapter: pretraining/contrastive.

    Examples:
        >>> x = torch.eye(4)
        >>> round(info_nce(x, x, 100.0).item(), 4)
        0.0
    """
    _check_pair(a, b, present, positives, reduction)
    scale = torch.as_tensor(logit_scale, dtype=at_least_float32(a), device=a.device)
    ids = positives if positives is not None and positives.ndim == 1 else None
    if positives is not None and ids is None and (block_size or gather):
        raise ValueError("positives is a matrix; expected ids (B,) with block_size or gather, which know no matrix")
    a, b = (_fill(x, present) for x in (a, b))
    every_b = gather_all(b) if gather else b  # (N, D): all candidates
    every_present = gather_all(present) if gather and present is not None else present
    rows, columns = two_way_logsumexp(a, every_b, scale, present, every_present, block_size)  # (B,), (N,)
    if gather:
        columns = gather_parts(columns).logsumexp(dim=0)[own_part(len(a))]  # sums of all processes' rows

    weight = torch.ones(len(a), dtype=torch.bool, device=a.device) if present is None else present
    there, back = weight, weight  # whether a row, a column has anything to find
    if positives is None:
        near = near_back = (a * b).sum(dim=1, dtype=at_least_float32(a))  # (B,): with its positive
    elif ids is not None:
        near, near_back = _means_by_id(a, b, ids, weight, gather)
    else:
        pairs = positives & weight & weight[:, None]  # (B, B)
        there, back = pairs.any(dim=1), pairs.any(dim=0)
        similarity = (a @ b.T).to(at_least_float32(a))
        chosen = torch.where(pairs, similarity, 0.0)
        near = chosen.sum(dim=1) / pairs.sum(dim=1).clamp(min=1)
        near_back = chosen.sum(dim=0) / pairs.sum(dim=0).clamp(min=1)
    loss_rows = torch.where(there, rows - scale * near, 0.0)
    loss_columns = torch.where(back, columns - scale * near_back, 0.0)
    if reduction == "none":
        return (loss_rows + loss_columns) / 2
    if reduction == "sum":
        return _total((loss_rows + loss_columns).sum() / 2, gather)
    counts = _total(torch.stack([there.sum(), back.sum()]), gather).clamp(min=1)
    sums = _total(torch.stack([loss_rows.sum(), loss_columns.sum()]), gather)
    return (sums / counts).sum() / 2


def siglip_loss(
    a: Tensor,
    b: Tensor,
    logit_scale: Tensor | float,
    logit_bias: Tensor | float,
    *,
    present: Tensor | None = None,
    positives: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Ask of each pair by itself whether it belongs together: a sigmoid, no softmax (SigLIP, Zhai et al. 2023).

    The loss of row i is `-Σ_j log σ(z_ij (logit_scale · a_i · b_j + logit_bias))`, z = 1 for a positive, else -1.

    Args:
        a: (B, D), usually of unit length.
        b: (B, D).
        logit_scale: 1 / temperature.
        logit_bias: Added to each logit. Most pairs do not belong together; a negative bias says so from the start.
        present: As in `info_nce`.
        positives: As in `info_nce`.
        reduction: "mean" over rows, "sum", or "none": (B,), zero where a sample is absent.

    Raises:
        ValueError: If shapes do not fit, or `reduction` is unknown.

    Chapter: pretraining/contrastive.
    """
    _check_pair(a, b, present, positives, reduction)
    a, b = (_fill(x, present) for x in (a, b))
    logits = logit_scale * (a @ b.T).to(at_least_float32(a)) + logit_bias  # (B, B)
    if positives is None:
        pairs = torch.eye(len(a), dtype=torch.bool, device=a.device)
    else:
        pairs = positives[:, None] == positives if positives.ndim == 1 else positives
    losses = nn.functional.softplus(torch.where(pairs, -logits, logits))  # -log σ(x) = softplus(-x)
    if present is not None:
        losses = torch.where(present & present[:, None], losses, 0.0)
    losses = losses.sum(dim=1)
    if reduction == "none":
        return losses
    return losses.sum() / (1 if reduction == "sum" else len(a) if present is None else present.sum().clamp(min=1))


class ContrastiveLoss(nn.Module):
    """`info_nce` between the modalities, pair by pair, with a learned temperature (CLIP, Radford et al. 2021).

    Features are brought to unit length here. The result is the mean over all pairs of modalities.

    Args:
        init_temperature: Temperature at the start. What is learned is the logarithm of the scale, 1 / temperature.
        max_scale: Largest scale, i.e. smallest temperature; it keeps training from running away.
        block_size: See `info_nce`.
        gather: See `info_nce`.

    Raises:
        ValueError: If the first scale is above the largest one.

    Chapter: pretraining/contrastive.
    """

    def __init__(
        self,
        init_temperature: float = 0.07,
        max_scale: float = 100.0,
        block_size: int | None = None,
        gather: bool = False,
    ) -> None:
        super().__init__()
        if not 0 < 1 / init_temperature <= max_scale:
            raise ValueError(
                f"init_temperature is {init_temperature}; expected at least 1 / max_scale, {1 / max_scale}"
            )
        self.log_scale = nn.Parameter(torch.tensor(-math.log(init_temperature)))
        self.max_scale, self.block_size, self.gather = max_scale, block_size, gather

    @property
    def scale(self) -> Tensor:
        """1 / temperature."""
        return self.log_scale.exp()

    def forward(
        self,
        features: Mapping[str, Tensor],
        present: Mapping[str, Tensor] | None = None,
        positives: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of features name → (B, D), two modalities or more; a number.

        Args:
            features: name → (B, D), of any length.
            present: name → bool (B,), by default all True. A pair of modalities is learned from samples that have both.
            positives: As in `info_nce`, for all pairs alike.

        Raises:
            ValueError: If there are fewer than two modalities, or `present` lacks one.
        """
        names = sorted(features)
        if len(names) < 2:
            raise ValueError(f"features holds {names}; expected at least two modalities")
        if present is not None and (missing := [name for name in names if name not in present]):
            raise ValueError(f"present lacks {missing}; expected {names}")
        if self.training:
            with torch.no_grad():  # not a clamp on the way: beyond it no gradient would lead back
                self.log_scale.clamp_(max=math.log(self.max_scale))
        unit = {}
        for name in names:
            filled = _fill(features[name], None if present is None else present[name], 1.0)
            unit[name] = nn.functional.normalize(filled, dim=-1)
        losses = []
        for x, y in combinations(names, 2):
            both = None if present is None else present[x] & present[y]
            losses.append(self.pair(unit[x], unit[y], both, positives))
        return torch.stack(losses).mean()

    def pair(self, a: Tensor, b: Tensor, present: Tensor | None, positives: Tensor | None) -> Tensor:
        """Return the loss of two modalities' unit vectors (B, D)."""
        return info_nce(
            a,
            b,
            self.scale,
            present=present,
            positives=positives,
            block_size=self.block_size,
            gather=self.gather,
        )


class SigmoidLoss(ContrastiveLoss):
    """`siglip_loss` between the modalities, pair by pair, with a learned temperature and bias (Zhai et al. 2023).

    Args:
        init_temperature: Temperature at the start.
        init_bias: Bias at the start.
        max_scale: Largest scale, 1 / temperature.

    Chapter: pretraining/contrastive.
    """

    def __init__(self, init_temperature: float = 0.1, init_bias: float = -10.0, max_scale: float = 100.0) -> None:
        super().__init__(init_temperature, max_scale)
        self.bias = nn.Parameter(torch.tensor(init_bias))

    def pair(self, a: Tensor, b: Tensor, present: Tensor | None, positives: Tensor | None) -> Tensor:
        """Return the loss of two modalities' unit vectors (B, D)."""
        return siglip_loss(a, b, self.scale, self.bias, present=present, positives=positives)


def _check_pair(a: Tensor, b: Tensor, present: Tensor | None, positives: Tensor | None, reduction: str) -> None:
    if a.ndim != 2 or a.shape != b.shape:
        raise ValueError(f"a is {tuple(a.shape)} and b {tuple(b.shape)}; expected (B, D) for both")
    if present is not None and (present.shape != a.shape[:1] or present.dtype != torch.bool):
        raise ValueError(f"present is {present.dtype} {tuple(present.shape)}; expected bool ({len(a)},)")
    if positives is not None:
        ids = positives.shape == a.shape[:1] and not positives.is_floating_point()
        if not ids and (positives.shape != (len(a), len(a)) or positives.dtype != torch.bool):
            raise ValueError(
                f"positives is {positives.dtype} {tuple(positives.shape)}; expected whole numbers ({len(a)},) "
                f"or bool ({len(a)}, {len(a)})"
            )
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction is {reduction!r}; expected 'mean', 'sum' or 'none'")


def _fill(x: Tensor, present: Tensor | None, value: float = 0.0) -> Tensor:
    return x if present is None else torch.where(present[:, None], x, value)


def _means_by_id(a: Tensor, b: Tensor, ids: Tensor, weight: Tensor, gather: bool) -> tuple[Tensor, Tensor]:
    """Mean similarity of a_i with all present b of its id, and of b_i with all such a; (B,) and (B,).

    The mean of products with a vector is the product with the mean: each id's vectors are added up, without a matrix.
    """
    every_a, every_b, every_id, every_weight = (gather_all(x) if gather else x for x in (a, b, ids, weight))
    order = every_id.argsort(stable=True)  # equal ids stand together, and are numbered 0, 1, … in this order
    starts = torch.cat([order.new_zeros(1), every_id[order].diff().ne(0).long()])
    group = torch.empty_like(order).scatter_(0, order, starts.cumsum(0))  # (N,)
    own = group[own_part(len(a))] if gather else group
    count = torch.zeros(len(group), dtype=at_least_float32(a), device=a.device).index_add_(
        0, group, every_weight.to(at_least_float32(a))
    )

    def mean(x: Tensor) -> Tensor:
        total = torch.zeros(len(group), x.shape[1], dtype=at_least_float32(x), device=x.device)
        total = total.index_add(0, group, x.to(at_least_float32(x)))  # absent ones were filled with zeros
        return (total / count.clamp(min=1)[:, None])[own]  # (B, D)

    return (a * mean(every_b)).sum(dim=1), (b * mean(every_a)).sum(dim=1)


def _total(x: Tensor, gather: bool) -> Tensor:
    """Return the sum over all processes."""
    return gather_parts(x).sum(dim=0) if gather else x
