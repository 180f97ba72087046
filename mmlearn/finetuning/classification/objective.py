"""Classification: a softmax over classes, or a sigmoid a label, trained with cross-entropy.

Chapters: start/first_model, finetuning/classification.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score, MultilabelF1Score

from mmlearn.batch import Batch
from mmlearn.labels import IGNORED


class Classification:
    """Learn a label with one of `num_classes` values: `-log softmax(logits)[label]`, averaged over the batch.

    With weights, the average is a weighted one: each sample counts as much as its class, as in
    `torch.nn.functional.cross_entropy`. Samples without the label (`Batch.labelled`, or -100) count neither in the loss
    nor in the metrics; the loss of a batch without any is 0.

    Args:
        label: The key of the batch's labels.
        num_classes: Number of classes K; labels are 0 … K - 1.
        label_smoothing: Share ε of the target that goes to all classes alike, from 0 to below 1 (Szegedy et al. 2016).
        class_weights: K weights, e.g. `balanced_weights`; by default all 1.

    Raises:
        ValueError: If `label_smoothing` is out of its range, or there are not K weights.

    Chapters: start/first_model, finetuning/classification.
    """

    def __init__(
        self,
        label: str,
        num_classes: int,
        *,
        label_smoothing: float = 0.0,
        class_weights: Tensor | Sequence[float] | None = None,
    ) -> None:
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing is {label_smoothing}; expected from 0 to below 1")
        self.label = label
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.class_weights = _weights("class_weights", class_weights, num_classes)

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Return the mean cross-entropy of logits (B, num_classes)."""
        weight = None if self.class_weights is None else self.class_weights.to(output)
        return ignoring(
            lambda target: nn.functional.cross_entropy(output, target, weight, label_smoothing=self.label_smoothing),
            self.target(batch),
            0 if self.class_weights is None else int(self.class_weights.argmax()),
        )

    def metrics(self) -> dict[str, Metric]:
        """Return fresh metrics; the first is the one that chooses the best epoch."""
        return {
            "accuracy": MulticlassAccuracy(self.num_classes, average="micro", ignore_index=IGNORED),
            "macro_f1": MulticlassF1Score(self.num_classes, average="macro", ignore_index=IGNORED),
        }

    def target(self, batch: Batch) -> Tensor:
        """Return the labels (B,), -100 where missing.

        Raises:
            ValueError: If the batch has no such label, or it is not one class index a sample, from 0 to K - 1.
        """
        values, labelled = batch.label(self.label)
        if not torch.compiler.is_compiling() and values.device.type == "cpu" and not labelled.any():
            return torch.full((len(values),), IGNORED)
        if values.is_floating_point() or values.ndim != 1:
            raise ValueError(f"label {self.label!r} holds {values.dtype} {tuple(values.shape)}; expected class "
                             "indices, whole numbers (B,)")  # fmt: skip
        target = torch.where(labelled, values.long(), IGNORED)
        if not torch.compiler.is_compiling() and target.device.type == "cpu":
            wrong = target[(target != IGNORED) & ((target < 0) | (target >= self.num_classes))]
            if len(wrong):
                known = target[target != IGNORED]
                raise ValueError(f"label {self.label!r} runs from {int(known.min())} to {int(known.max())}; expected 0 "
                                 f"to {self.num_classes - 1}")  # fmt: skip
        return target


class MultiLabel:
    """Learn `num_classes` answers of yes or no at once, none of which excludes another.

    The loss is the binary cross-entropy `-y log σ(s) - (1 - y) log(1 - σ(s))` of each logit s, averaged over classes
    and batch. Answers that are not known (-100 or NaN, or all of a sample's: `Batch.labelled`) do not count.

    Args:
        label: The key of the batch's labels, (B, num_classes) of 0 and 1.
        num_classes: Number of classes K.
        positive_weights: K factors for the first term, the yes; by default all 1.

    Raises:
        ValueError: If there are not K weights.

    Chapter: finetuning/classification.
    """

    def __init__(
        self, label: str, num_classes: int, *, positive_weights: Tensor | Sequence[float] | None = None
    ) -> None:
        self.label = label
        self.num_classes = num_classes
        self.positive_weights = _weights("positive_weights", positive_weights, num_classes)

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Return the mean binary cross-entropy of logits (B, num_classes)."""
        weight = None if self.positive_weights is None else self.positive_weights.to(output)
        target = self.target(batch)
        known = target != IGNORED  # (B, K)
        loss = nn.functional.binary_cross_entropy_with_logits(
            output, torch.where(known, target, 0).to(output.dtype), known.to(output.dtype), pos_weight=weight
        )
        return loss * (known.numel() / known.sum().clamp(min=1))  # a mean over those that are known

    def metrics(self) -> dict[str, Metric]:
        """Return fresh metrics: F1, averaged over the classes."""
        return {"macro_f1": _F1OfLogits(self.num_classes, average="macro", ignore_index=IGNORED)}

    def target(self, batch: Batch) -> Tensor:
        """Return the labels (B, num_classes), whole numbers, -100 where missing.

        Raises:
            ValueError: If the batch has no such label, or its shape or values do not fit.
        """
        values, labelled = batch.label(self.label)
        if not torch.compiler.is_compiling() and values.device.type == "cpu" and not labelled.any():
            return torch.full((len(values), self.num_classes), IGNORED)
        if values.ndim != 2 or values.shape[1] != self.num_classes:
            raise ValueError(f"label {self.label!r} is {tuple(values.shape)}; expected (B, {self.num_classes})")
        known = labelled[:, None] & ~values.isnan() & (values != IGNORED)
        if not torch.compiler.is_compiling() and values.device.type == "cpu":
            found = set(values[known].unique().tolist())
            if not found <= {0, 1}:
                raise ValueError(f"label {self.label!r} holds {sorted(found)[:5]}; expected 0 and 1 only")
        return torch.where(known, values, IGNORED).long()


class _F1OfLogits(MultilabelF1Score):
    """F1 where yes is a logit above 0. (torchmetrics takes logits for probabilities where all lie in [0, 1].)"""

    def update(self, preds: Tensor, target: Tensor) -> None:
        super().update((preds > 0).long(), target)


def balanced_weights(labels: Tensor, num_classes: int) -> Tensor:
    """Return a weight a class, (K,), with which all classes weigh the same: `N / (K · n_k)` for n_k of N samples.

    Args:
        labels: Whole numbers (N,) from 0 to K - 1; -100, a missing one, does not count.
        num_classes: K.

    Raises:
        ValueError: If a class has no sample, or there are more classes.

    Chapter: finetuning/classification.

    Examples:
        >>> balanced_weights(torch.tensor([0, 0, 0, 1]), 2)
        tensor([0.6667, 2.0000])
    """
    labels = labels[labels != IGNORED]
    counts = labels.bincount(minlength=num_classes)  # (K,)
    if len(counts) != num_classes or not counts.all():
        raise ValueError(f"labels count {counts.tolist()} samples a class; expected {num_classes} classes with at "
                         "least one sample each")  # fmt: skip
    return len(labels) / (num_classes * counts.float())


def ignoring(mean_loss: Callable[[Tensor], Tensor], target: Tensor, instead: int = 0) -> Tensor:
    """Return a mean over the targets that are not -100; 0, with a gradient of zeros, where all are.

    Args:
        mean_loss: Maps targets to a scalar, whose mean leaves -100 out; it is NaN where nothing is left.
        target: Whole numbers, -100 where missing.
        instead: The class that is put there if all are missing; its loss must be finite.

    Chapter: finetuning/classification.
    """
    nothing = (target == IGNORED).all()  # a tensor: nothing waits for the device
    return torch.where(nothing, 0.0, mean_loss(torch.where(nothing, instead, target)))


def _weights(name: str, weights: Tensor | Sequence[float] | None, num_classes: int) -> Tensor | None:
    if weights is None:
        return None
    weights = torch.as_tensor(weights)
    if weights.shape != (num_classes,) or not (weights >= 0).all():
        raise ValueError(f"{name} is {weights}; expected {num_classes} weights, none negative")
    return weights
