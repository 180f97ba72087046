"""Regression: a linear head predicts a number, trained with a loss that is a likelihood.

Chapter: finetuning/regression.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric
from torchmetrics.regression import MeanAbsoluteError, PearsonCorrCoef, R2Score
from torchmetrics.wrappers.abstract import WrapperMetric

from mmlearn.batch import Batch
from mmlearn.labels import IGNORED
from mmlearn.nn.functional import to_float32

Loss = Literal["mse", "mae", "huber", "gaussian"]
FIRST = {"mse": "r2", "mae": "mae", "huber": "mae", "gaussian": "nll"}  # the metric that chooses the best epoch
FLOOR = 1e-4  # of a predicted variance in scaled units: no standard deviation below a hundredth of the targets' own


@dataclass(frozen=True)
class Scaling:
    """Bring targets to mean 0 and standard deviation 1, and back: `t = (y - mean) / std`.

    Args:
        mean: Of the training targets, in their unit.
        std: Their standard deviation, in their unit.

    Raises:
        ValueError: If one is not finite, or the standard deviation is not positive: targets that are all the same.

    Chapter: finetuning/regression.
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        """Check the two numbers."""
        if not (math.isfinite(self.mean) and 0 < self.std < math.inf):
            raise ValueError(f"mean is {self.mean}, std {self.std}; expected a finite mean, a std > 0")

    @classmethod
    def fit(cls, target: Tensor, labelled: Tensor | None = None) -> "Scaling":
        """Measure the *training* targets; missing ones do not count.

        Args:
            target: (B,), NaN where missing.
            labelled: bool (B,), False where missing, as `Batch.labelled` has it. By default, -100 among whole numbers
                is a missing one, as `mmlearn.collate` writes it.

        Raises:
            ValueError: If all are missing, or all the same.
        """
        if labelled is None:
            labelled = torch.ones_like(target, dtype=torch.bool) if target.is_floating_point() else target != IGNORED
        real = target.double()[labelled & ~target.isnan()]
        if not len(real):
            raise ValueError(f"target has {len(target)} values, all of them missing; expected numbers")
        return cls(float(real.mean()), float(real.std(correction=0)))

    def __call__(self, target: Tensor) -> Tensor:
        """Scale targets (B,)."""
        return (target - self.mean) / self.std

    def inverse(self, scaled: Tensor) -> Tensor:
        """Return scaled values (B,) to the targets' unit."""
        return scaled * self.std + self.mean


class Regression:
    """Learn a quantity. The model works in scaled units; `estimate`, `interval` and the metrics speak the target's own.

    With residual `r = t - output` in scaled units, each loss is minus the logarithm of a density, but for a constant:

    - "mse": `r²`, a Gaussian of fixed width, whose best constant is the mean;
    - "mae": `|r|`, a Laplace density, whose best constant is the median;
    - "huber": `r² / 2` up to `delta` and a straight line from there (Huber 1964);
    - "gaussian": `½ (log 2πv + r² / v)`, a Gaussian whose variance v is predicted, too (Nix & Weigend 1994).

    The last one wants two outputs, `[mean, raw]`, and `v = softplus(raw) + 1e-4`. Softplus is positive and grows no
    faster than its input, so nothing overflows; the floor keeps a sample that is hit exactly from an infinite density.
    All losses are computed in float32 at least, because bfloat16 keeps three digits.

    Targets that are missing (`Batch.labelled`, or NaN) count neither in the loss nor in the metrics.

    Args:
        label: The key of the batch's labels, numbers (B,).
        loss: See above.
        scaling: `Scaling.fit(*train.label(label))`; by default targets are taken as they are.
        delta: Huber's, in scaled units.
        level: Share of the targets that the intervals should hold whose coverage is measured.

    Attributes:
        width: How many outputs the head needs: `nn.Linear(dim, task.width)`.

    Raises:
        ValueError: If `loss` is unknown, `delta` is not positive, or `level` is not between 0 and 1.

    Chapter: finetuning/regression.
    """

    def __init__(
        self, label: str, loss: Loss = "mse", *, scaling: Scaling | None = None, delta: float = 1.0, level: float = 0.9
    ) -> None:
        if loss not in get_args(Loss):
            raise ValueError(f"loss is {loss!r}; expected one of {get_args(Loss)}")
        if not (0 < delta < math.inf and 0 < level < 1):
            raise ValueError(f"delta is {delta}, level {level}; expected delta > 0 and a level between 0 and 1")
        self.label = label
        self.kind = loss
        self.scaling = scaling or Scaling()
        self.delta = delta
        self.level = level
        self.width = 2 if loss == "gaussian" else 1

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Return the mean loss of outputs (B, width) over the targets that are there; 0 if there are none."""
        target = self.scaling(self.target(batch))  # (B,)
        real = ~target.isnan()
        losses = self._losses(output, torch.where(real, target, 0.0))  # chosen before the loss: NaN times 0 is NaN
        return torch.where(real, losses, 0.0).sum() / real.sum().clamp(min=1)

    def target(self, batch: Batch) -> Tensor:
        """Return the targets (B,) in their own unit, NaN where missing.

        Raises:
            ValueError: If the batch has no such label, it is not one number a sample, or a number is infinite.
        """
        target, labelled = batch.label(self.label)
        if not torch.compiler.is_compiling() and target.device.type == "cpu" and not labelled.any():
            return torch.full((len(target),), torch.nan)
        if target.ndim != 1:
            raise ValueError(
                f"label {self.label!r} has shape {tuple(target.shape)}; expected (B,), one number a sample"
            )
        target = torch.where(labelled, to_float32(target), torch.nan)
        if not torch.compiler.is_compiling() and target.device.type == "cpu" and target.isinf().any():
            raise ValueError(f"label {self.label!r} holds infinite values; expected numbers, or NaN where missing")
        return target

    def estimate(self, output: Tensor) -> Tensor:
        """Return the estimates (B,) of outputs (B, width), in the target's unit."""
        return self.scaling.inverse(self._columns(output)[0])

    def std(self, output: Tensor) -> Tensor:
        """Return the predicted standard deviations (B,), in the target's unit.

        Raises:
            ValueError: If the loss is not "gaussian": others predict none.
        """
        return self._variance(output).sqrt() * self.scaling.std

    def interval(self, output: Tensor, level: float | None = None) -> tuple[Tensor, Tensor]:
        """Return the central intervals' lower and upper ends (B,), in the target's unit.

        Args:
            output: (B, 2).
            level: Share of the targets that they should hold; by default the task's.

        Raises:
            ValueError: If the loss is not "gaussian".
        """
        reach = NormalDist().inv_cdf((1 + (level or self.level)) / 2) * self.std(output)
        middle = self.estimate(output)
        return middle - reach, middle + reach

    def metrics(self) -> dict[str, Metric]:
        """Return fresh metrics; the first, which chooses the best epoch, is the one that suits the loss.

        "r2" (1 = perfect, 0 = no better than the mean), "mae" (in the target's unit), "pearson"; for the loss
        "gaussian" also "nll" (nats; of the density in the target's unit) and "coverage" of the intervals.
        """
        # These two know no unit. In scaled ones float32 loses nothing to a large mean, and torchmetrics, which takes
        # sums of squares below 1e-4 for zero, does not stumble over small targets.
        found = {
            "r2": Known(R2Score(), lambda output, y: (self._columns(output)[0], self.scaling(y))),
            "pearson": Known(PearsonCorrCoef(), lambda output, y: (self._columns(output)[0], self.scaling(y))),
            "mae": Known(MeanAbsoluteError(), lambda output, y: (self.estimate(output), y)),
        }
        if self.kind == "gaussian":
            unit = math.log(self.scaling.std)  # a density in seconds is not one in deviations
            found["nll"] = Known(MeanMetric(), lambda output, y: (self._losses(output, self.scaling(y)) + unit,))
            found["coverage"] = Known(MeanMetric(), lambda output, y: (self._inside(output, y),))
        first = FIRST[self.kind]
        return {first: found[first], **found}

    def _losses(self, output: Tensor, target: Tensor) -> Tensor:
        """Return each sample's loss (B,) for scaled targets (B,)."""
        mean = self._columns(output)[0]
        if self.kind == "mse":
            return nn.functional.mse_loss(mean, target, reduction="none")
        if self.kind == "mae":
            return nn.functional.l1_loss(mean, target, reduction="none")
        if self.kind == "huber":
            return nn.functional.huber_loss(mean, target, reduction="none", delta=self.delta)
        variance = self._variance(output)
        return 0.5 * ((2 * math.pi * variance).log() + (target - mean).square() / variance)

    def _variance(self, output: Tensor) -> Tensor:
        if self.kind != "gaussian":
            raise ValueError(f'loss is {self.kind!r}, which predicts no variance; expected "gaussian"')
        return nn.functional.softplus(self._columns(output)[1]) + FLOOR

    def _inside(self, output: Tensor, target: Tensor) -> Tensor:
        low, high = self.interval(output)
        return ((low <= target) & (target <= high)).float()

    def _columns(self, output: Tensor) -> tuple[Tensor, ...]:
        """Split outputs (B, width) into columns (B,), in float32 at least."""
        if output.ndim != 2 or output.shape[1] != self.width:
            raise ValueError(
                f"the output has shape {tuple(output.shape)}; expected (B, {self.width}): the loss {self.kind!r} wants "
                f"a head of width {self.width}"
            )
        return to_float32(output).unbind(dim=1)


class Known(WrapperMetric):
    """A metric over the samples whose target is known.

    Args:
        metric: What is measured.
        view: Makes the metric's arguments out of outputs (B, width) and targets (B,).

    Chapter: finetuning/regression.
    """

    def __init__(self, metric: Metric, view: Callable[[Tensor, Tensor], tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.metric = metric
        self.view = view

    @property
    def higher_is_better(self) -> bool | None:  # type: ignore[override]
        """Say what the metric says."""
        return self.metric.higher_is_better

    def update(self, output: Tensor, target: Tensor) -> None:
        """Take in a batch; one without any known target changes nothing."""
        real = ~target.isnan()
        if real.any():
            self.metric.update(*self.view(output[real], target[real]))

    def compute(self) -> Any:
        """Return the metric's value."""
        return self.metric.compute()

    def reset(self) -> None:
        """Forget all batches."""
        super().reset()
        self.metric.reset()
