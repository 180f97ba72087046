"""Classification: a softmax over classes, trained with cross-entropy.

Chapters: start/first_model, finetuning/classification.
"""

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from mmlearn.clip import Batch


class Classification:
    """Learn a label with one of `num_classes` values: `-log softmax(logits)[label]`, averaged over the batch.

    Args:
        label: The key of the batch's labels.
        num_classes: Number of classes; labels are 0 … num_classes - 1.

    Chapters: start/first_model, finetuning/classification.
    """

    def __init__(self, label: str, num_classes: int) -> None:
        self.label = label
        self.num_classes = num_classes

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Return the mean cross-entropy of logits (B, num_classes)."""
        return nn.functional.cross_entropy(output, self.target(batch))

    def metrics(self) -> dict[str, Metric]:
        """Return fresh metrics; the first is the one that chooses the best epoch."""
        return {"accuracy": MulticlassAccuracy(self.num_classes, average="micro")}

    def target(self, batch: Batch) -> Tensor:
        """Return the labels (B,).

        Raises:
            ValueError: If the batch has no such label, or it is outside the classes.
        """
        if self.label not in batch.labels:
            raise ValueError(f"the batch has no label {self.label!r}; it has {sorted(batch.labels)}")
        target = batch.labels[self.label]
        if target.is_floating_point():
            raise ValueError(f"label {self.label!r} holds {target.dtype}; expected class indices, whole numbers")
        if not torch.compiler.is_compiling() and target.device.type == "cpu":
            low, high = int(target.min()), int(target.max())
            if low < 0 or high >= self.num_classes:
                raise ValueError(
                    f"label {self.label!r} runs from {low} to {high}; expected 0 to {self.num_classes - 1}"
                )
        return target
