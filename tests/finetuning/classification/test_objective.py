"""Classification against the formula in float64, and against scikit-learn."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from sklearn.utils.class_weight import compute_class_weight

from mmlearn import Batch
from mmlearn.finetuning import Classification, MultiLabel, balanced_weights

EPSILON = 0.2
WEIGHTS = (0.5, 1.0, 2.0, 4.0)


def labelled(values: list) -> Batch:
    return Batch({}, {"text": torch.ones(len(values), dtype=torch.bool)}, labels={"digit": torch.tensor(values)})


def by_formula(logits: np.ndarray, labels: list[int], epsilon: float, weights: tuple[float, ...]) -> float:
    """Cross-entropy with a smoothed target, sample by sample, class by class; the weights of the labels sum to 1."""
    total, norm = 0.0, 0.0
    for row, label in zip(logits, labels, strict=True):
        log_p = [s - math.log(sum(math.exp(t) for t in row)) for s in row]
        target = [epsilon / len(row) + (1 - epsilon) * (k == label) for k in range(len(row))]
        total -= sum(w * t * lp for w, t, lp in zip(weights, target, log_p, strict=True))
        norm += weights[label]
    return total / norm


def test_loss_is_minus_log_softmax() -> None:
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])
    loss = Classification("digit", 2).loss(logits, labelled([0, 1]))
    assert float(loss) == pytest.approx((math.log(2) + math.log(4)) / 2)


@pytest.mark.parametrize("epsilon", [0.0, EPSILON])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_smoothing_and_weights_follow_the_formula(epsilon: float, weights: tuple[float, ...] | None) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 4, dtype=torch.float64), [0, 3, 3, 1, 2, 0]
    task = Classification("digit", 4, label_smoothing=epsilon, class_weights=weights)
    expected = by_formula(logits.numpy(), labels, epsilon, weights or (1.0,) * 4)
    assert float(task.loss(logits, labelled(labels))) == pytest.approx(expected, rel=1e-12)


def test_the_best_answer_to_a_smoothed_target_is_the_target() -> None:
    logits = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    task, batch = Classification("digit", 4, label_smoothing=EPSILON), labelled([2])
    optimizer = torch.optim.LBFGS([logits], max_iter=100, line_search_fn="strong_wolfe", tolerance_grad=1e-12)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = task.loss(logits, batch)
        loss.backward()
        return loss

    optimizer.step(closure)
    best = torch.full((4,), EPSILON / 4, dtype=torch.float64)
    best[2] += 1 - EPSILON
    assert torch.allclose(logits.softmax(dim=1)[0], best, atol=1e-6)


def test_accuracy_is_the_share_of_samples_and_macro_f1_the_mean_over_classes() -> None:
    rng = np.random.default_rng(0)
    truth, logits = rng.choice(5, 300, p=[0.6, 0.2, 0.1, 0.06, 0.04]), rng.normal(size=(300, 5))
    logits[np.arange(300), truth] += 1.0
    task, scores = Classification("digit", 5), {}
    for name, metric in task.metrics().items():
        for part in (slice(0, 100), slice(100, 300)):  # in unequal batches
            metric.update(torch.tensor(logits[part]), task.target(labelled(truth[part].tolist())))
        scores[name] = float(metric.compute())
    assert next(iter(scores)) == "accuracy"  # it chooses the best epoch
    assert scores["accuracy"] == pytest.approx((logits.argmax(axis=1) == truth).mean())
    assert scores["macro_f1"] == pytest.approx(f1_score(truth, logits.argmax(axis=1), average="macro"))
    assert scores["macro_f1"] < scores["accuracy"] - 0.02  # or the two would not be told apart


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    labels = [0] * 50 + [1] * 10 + [2]
    weights = balanced_weights(torch.tensor(labels), 3)
    assert np.allclose(weights, compute_class_weight("balanced", classes=np.arange(3), y=labels))
    assert sum(weights[label] for label in labels) == pytest.approx(len(labels))
    for bad in ([0, 0, 2], [0, 1, 2, 3], [0, 1]):
        with pytest.raises(ValueError, match="expected 3 classes with at least one sample each"):
            balanced_weights(torch.tensor(bad), 3)


def test_multi_label_loss_follows_the_formula() -> None:
    torch.manual_seed(0)
    logits, truth = torch.randn(5, 3, dtype=torch.float64), torch.randint(0, 2, (5, 3))
    for weights in (None, (1.0, 3.0, 0.5)):
        terms = []
        for row, answers in zip(logits.tolist(), truth.tolist(), strict=True):
            for s, y, w in zip(row, answers, weights or (1.0, 1.0, 1.0), strict=True):
                p = 1 / (1 + math.exp(-s))
                terms.append(-w * y * math.log(p) - (1 - y) * math.log(1 - p))
        loss = MultiLabel("digit", 3, positive_weights=weights).loss(logits, labelled(truth.tolist()))
        assert float(loss) == pytest.approx(sum(terms) / len(terms), rel=1e-12)


@pytest.mark.parametrize("spread", [3.0, 0.0])
def test_multi_label_f1_is_scikit_learns_also_where_all_logits_look_like_probabilities(spread: float) -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (200, 4))
    logits = rng.uniform(0, 1, (200, 4)) + spread * rng.normal(size=(200, 4))  # without spread: all yes
    task = MultiLabel("digit", 4)
    metric = task.metrics()["macro_f1"]
    metric.update(torch.tensor(logits), task.target(labelled(truth.tolist())))
    assert float(metric.compute()) == pytest.approx(f1_score(truth, logits > 0, average="macro"))


def test_errors_name_the_label() -> None:
    with pytest.raises(ValueError, match="no label 'colour'"):
        Classification("colour", 4).target(labelled([0]))
    with pytest.raises(ValueError, match="runs from 0 to 4; expected 0 to 3"):
        Classification("digit", 4).target(labelled([0, 4]))
    with pytest.raises(ValueError, match="expected class indices"):
        Classification("digit", 4).target(labelled([0.5]))
    with pytest.raises(ValueError, match=r"label_smoothing is 1.0; expected from 0 to below 1"):
        Classification("digit", 4, label_smoothing=1.0)
    with pytest.raises(ValueError, match=r"class_weights is .*; expected 4 weights, none negative"):
        Classification("digit", 4, class_weights=[1.0, 1.0])
    with pytest.raises(ValueError, match=r"class_weights is .*; expected 2 weights, none negative"):
        Classification("digit", 2, class_weights=[1.0, -1.0])
    with pytest.raises(ValueError, match=r"'digit' is \(2,\); expected \(B, 3\)"):
        MultiLabel("digit", 3).target(labelled([0, 1]))
    with pytest.raises(ValueError, match=r"'digit' holds \[0, 2\]; expected 0 and 1 only"):
        MultiLabel("digit", 2).target(labelled([[0, 2]]))
