"""Calibration on constructed cases, and against torchmetrics; bootstrap intervals against SciPy and by coverage."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torchmetrics.functional.classification import multiclass_calibration_error

from mmlearn.finetuning import bootstrap_interval, fit_temperature, reliability


def drawn(size: int, spread: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (size, 4), and classes drawn from just their softmax: perfectly calibrated."""
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(size, 4, generator=generator, dtype=torch.float64)
    return logits, torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]


def test_bins_by_hand() -> None:
    probabilities = torch.tensor([[0.5, 0.5], [0.6, 0.4], [0.3, 0.7], [1.0, 0.0], [0.1, 0.9]])
    table = reliability(probabilities.double(), torch.tensor([0, 1, 1, 0, 0]), bins=2)
    assert table.samples.tolist() == [1, 4]  # 0.5 belongs to the lower bin
    assert table.confidence.tolist() == pytest.approx([0.5, (0.6 + 0.7 + 1.0 + 0.9) / 4])
    assert table.accuracy.tolist() == [1.0, 0.5]
    assert table.error == pytest.approx(0.5 / 5 + 0.8 / 4 * 0 + 4 / 5 * (0.8 - 0.5))


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_error_is_that_of_torchmetrics(bins: int) -> None:
    logits, target = drawn(500, 2.0)
    probabilities = (2 * logits).softmax(dim=1).float()
    table = reliability(probabilities, target, bins)
    assert table.error == pytest.approx(float(multiclass_calibration_error(probabilities, target, 4, bins)), abs=1e-6)
    assert int(table.samples.sum()) == 500 and table.accuracy[table.samples == 0].isnan().all()


def test_error_of_a_calibrated_model_vanishes_with_samples_and_that_of_a_sure_one_does_not() -> None:
    errors = []
    for size in (500, 200_000):
        logits, target = drawn(size, 2.0)
        errors.append(reliability(logits.softmax(dim=1), target).error)
    assert errors[1] < 0.005 < errors[0]  # with few samples it is above 0 by chance alone
    assert reliability((3 * logits).softmax(dim=1), target).error > 0.1


@pytest.mark.parametrize("factor", [0.02, 0.3, 1.0, 3.0, 50.0])
def test_temperature_recovers_the_factor(factor: float) -> None:
    logits, target = drawn(20_000, 2.0)
    found = fit_temperature(logits, target)
    assert found == pytest.approx(1.0, abs=0.03)  # where the classes were drawn from
    assert fit_temperature(factor * logits, target) == pytest.approx(factor * found, rel=1e-4)


def test_temperature_is_the_minimum_and_changes_no_guess() -> None:
    logits, target = drawn(300, 1.0, seed=1)
    best = fit_temperature(3 * logits.float(), target)

    def loss(t: float) -> float:
        return float(torch.nn.functional.cross_entropy(3 * logits / t, target))

    assert loss(best) < min(loss(best * 1.01), loss(best / 1.01))
    assert torch.equal((3 * logits / best).argmax(dim=1), logits.argmax(dim=1))
    assert (
        reliability((3 * logits / best).softmax(dim=1), target).error
        < reliability((3 * logits).softmax(1), target).error
    )


def test_where_no_temperature_is_best() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    with pytest.raises(ValueError, match="all 2 guesses are right"):
        fit_temperature(logits, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="temperature is infinite"):
        fit_temperature(logits, torch.tensor([1, 1]))


def test_interval_is_that_of_scipy() -> None:
    x = np.random.default_rng(0).exponential(size=80)
    theirs = stats.bootstrap((x,), np.mean, n_resamples=20_000, method="percentile").confidence_interval
    ours = bootstrap_interval(lambda part: part.mean(), torch.tensor(x), draws=20_000)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.02)
    narrow = bootstrap_interval(lambda part: part.mean(), torch.tensor(x), draws=2000, level=0.5)
    assert ours[0] + 0.05 < narrow[0] < x.mean() < narrow[1] < ours[1] - 0.05


def test_interval_covers_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    covered = []
    for seed in range(300):
        right = (torch.rand(100, generator=generator) < 0.7).float()
        low, high = bootstrap_interval(lambda part: part.mean(), right, level=0.8, draws=200, seed=seed)
        covered.append(low <= 0.7 <= high)
    sigma = math.sqrt(0.8 * 0.2 / 300)
    assert abs(np.mean(covered) - 0.8) < 3 * sigma + 0.03  # + 0.03: 100 samples, 200 draws


def test_rows_stay_together_and_the_seed_decides() -> None:
    x = torch.randn(50)
    assert bootstrap_interval(lambda a, b: (a - b.sum(dim=1)).abs().max(), x, x[:, None], draws=20) == (0.0, 0.0)
    runs = [bootstrap_interval(lambda part: part.mean(), x, draws=20, seed=seed) for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"rows that sum to .*; expected rows ≥ 0 that sum to 1"):
        reliability(torch.tensor([[2.0, 1.0]]), torch.tensor([0]))
    with pytest.raises(ValueError, match="values from -1; expected"):
        reliability(torch.tensor([[2.0, -1.0]]), torch.tensor([0]))
    with pytest.raises(ValueError, match=r"logits is \(3, 2\), target \(2,\); expected \(N, K\) and \(N,\)"):
        fit_temperature(torch.zeros(3, 2), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"lengths \[2, 3\]"):
        bootstrap_interval(lambda a, b: 0.0, torch.zeros(2), torch.zeros(3))
    with pytest.raises(ValueError, match="level is 95"):
        bootstrap_interval(lambda a: 0.0, torch.zeros(2), level=95)
