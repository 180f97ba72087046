"""Classification against the formula."""

import math

import pytest
import torch

from mmlearn import Batch
from mmlearn.finetuning import Classification


def labelled(values: list[int] | list[float]) -> Batch:
    return Batch({}, {"text": torch.ones(len(values), dtype=torch.bool)}, labels={"digit": torch.tensor(values)})


def test_loss_is_minus_log_softmax() -> None:
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])
    loss = Classification("digit", 2).loss(logits, labelled([0, 1]))
    assert float(loss) == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_accuracy_is_the_share_of_samples() -> None:
    task = Classification("digit", 3)
    metric = task.metrics()["accuracy"]
    metric.update(torch.eye(3)[[0, 0, 0, 1]], task.target(labelled([0, 0, 0, 2])))
    assert float(metric.compute()) == 0.75


def test_errors_name_the_label() -> None:
    with pytest.raises(ValueError, match="no label 'colour'"):
        Classification("colour", 4).target(labelled([0]))
    with pytest.raises(ValueError, match="runs from 0 to 4; expected 0 to 3"):
        Classification("digit", 4).target(labelled([0, 4]))
    with pytest.raises(ValueError, match="expected class indices"):
        Classification("digit", 4).target(labelled([0.5]))
