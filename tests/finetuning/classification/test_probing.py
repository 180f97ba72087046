"""Few labels and the linear probe: balanced draws, no look at the test samples, scikit-learn's own numbers."""

import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from mmlearn.finetuning.classification.probing import few_shot_subset, linear_probe


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 5), st.integers(0, 9))
def test_the_draw_is_balanced_or_refused(classes: list[int], per_class: int, seed: int) -> None:
    labels = torch.tensor(classes)
    counts = {c: classes.count(c) for c in set(classes)}
    if min(counts.values()) < per_class:
        with pytest.raises(ValueError, match=f"has {min(counts.values())} samples; expected at least per_class"):
            few_shot_subset(labels, per_class, seed)
        return
    drawn = few_shot_subset(labels, per_class, seed)
    assert len(set(drawn.tolist())) == len(drawn)  # none twice
    assert {c: int((labels[drawn] == c).sum()) for c in counts} == dict.fromkeys(counts, per_class)
    assert torch.equal(drawn, few_shot_subset(labels, per_class, seed))


def test_every_sample_can_be_drawn_and_order_is_random() -> None:
    labels = torch.arange(40) % 2
    draws = [few_shot_subset(labels, 3, seed) for seed in range(60)]
    assert set(torch.cat(draws).tolist()) == set(range(40))
    assert any(labels[draw][0] == 1 for draw in draws) and any(labels[draw][0] == 0 for draw in draws)


def test_errors_say_what_is_missing() -> None:
    with pytest.raises(ValueError, match="class 7 has 1 samples"):
        few_shot_subset(torch.tensor([3, 3, 7]), 2)
    with pytest.raises(ValueError, match="there are no samples"):
        few_shot_subset(torch.tensor([], dtype=torch.long), 1)
    with pytest.raises(ValueError, match="per_class is 0"):
        few_shot_subset(torch.tensor([1]), 0)
    x, y = torch.rand(4, 2), torch.tensor([0, 1, 0, 1])
    with pytest.raises(ValueError, match=r"test_x is \(4, 3\)"):
        linear_probe(x, y, torch.rand(4, 3), y)
    with pytest.raises(ValueError, match="train_y"):
        linear_probe(x, y[:3], x, y)
    with pytest.raises(ValueError, match="test_x holds values that are not finite"):
        linear_probe(x, y, x / 0, y)


def blobs(per_class: int, seed: int, spread: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(3).repeat(per_class)
    centres = 3 * torch.eye(3, 6)
    x = centres[y] + spread * torch.randn(len(y), 6, generator=generator)
    return x * torch.tensor([1, 1, 100, 1, 1, 1e-3]) + 50, y  # features of very different size


def test_a_probe_finds_what_is_linear_and_standardises_first() -> None:
    accuracy = linear_probe(*blobs(40, 0), *blobs(200, 1))
    assert 0.93 < accuracy < 1
    torch.manual_seed(0)
    x, y = blobs(60, 2)
    assert linear_probe(x, y[torch.randperm(180)], *blobs(200, 3)) < 0.55  # labels that mean nothing


def test_one_label_a_class_is_plain_logistic_regression_without_warnings() -> None:
    (x, y), (test_x, test_y) = blobs(1, 4), blobs(100, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "scipy.optimize", DeprecationWarning)  # scikit-learn 1.6 with SciPy 1.16
        found = linear_probe(x, y, test_x, test_y)
    mean, deviation = x.mean(dim=0), x.std(dim=0, correction=0)
    theirs = LogisticRegression().fit(((x - mean) / deviation).numpy(), y.numpy())
    assert found == theirs.score(((test_x - mean) / deviation).numpy(), test_y.numpy())


def test_the_penalty_is_chosen_by_training_samples_alone() -> None:
    x, y = blobs(30, 6, spread=3.0)
    noise = torch.randn(len(x), 200, generator=torch.Generator().manual_seed(0))  # much to overfit
    test_x, test_y = blobs(300, 7, spread=3.0)
    test_noise = torch.randn(len(test_x), 200, generator=torch.Generator().manual_seed(1))
    train, test = torch.cat([x, noise], dim=1), torch.cat([test_x, test_noise], dim=1)
    chosen = linear_probe(train, y, test, test_y)
    half = len(test) // 2  # accuracies of two halves average to the whole: nothing is fitted to the test samples
    halves = [linear_probe(train, y, test[part], test_y[part]) for part in (slice(half), slice(half, None))]
    assert chosen == pytest.approx(sum(halves) / 2)
    standard = (train - train.mean(dim=0)) / train.std(dim=0, correction=0)
    loose = LogisticRegression(C=10.0, max_iter=1000).fit(standard.numpy(), y.numpy())
    standard_test = (test - train.mean(dim=0)) / train.std(dim=0, correction=0)
    assert chosen > loose.score(standard_test.numpy(), test_y.numpy()) + 0.02
