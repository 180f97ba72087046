"""Regression against formulas, SciPy and scikit-learn; the way back to the target's unit; missing targets; bfloat16."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import mean_absolute_error, r2_score
from torch import Tensor, nn

from mmlearn import Batch, fit
from mmlearn.finetuning import Regression, Scaling

LOSSES = ("mse", "mae", "huber", "gaussian")
SECONDS = Scaling(1.5, 0.05)


def timed(values: Tensor | list[float]) -> Batch:
    target = torch.as_tensor(values)
    return Batch({}, {"text": torch.ones(len(target), dtype=torch.bool)}, labels={"onset": target})


def outputs(task: Regression, size: int = 40, seed: int = 0) -> Tensor:
    return 2 * torch.randn(size, task.width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def targets(size: int = 40, seed: int = 1) -> Tensor:
    draw = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return SECONDS.mean + SECONDS.std * draw


def residuals(output: Tensor, y: Tensor) -> np.ndarray:
    return ((y - SECONDS.mean) / SECONDS.std - output[:, 0]).numpy()


@pytest.mark.parametrize(
    ("loss", "formula"),
    [
        ("mse", lambda r: r**2),
        ("mae", np.abs),
        ("huber", lambda r: np.where(abs(r) <= 0.7, r**2 / 2, 0.7 * (abs(r) - 0.35))),
    ],
)
def test_losses_are_their_formulas(loss, formula) -> None:
    task = Regression("onset", loss, scaling=SECONDS, delta=0.7)
    output, y = outputs(task), targets()
    assert float(task.loss(output, timed(y))) == pytest.approx(formula(residuals(output, y)).mean(), rel=1e-12)


def test_gaussian_is_scipys_density() -> None:
    task = Regression("onset", "gaussian", scaling=SECONDS)
    output, y = outputs(task), targets()
    std = np.sqrt(np.log1p(np.exp(output[:, 1].numpy())) + 1e-4)
    expected = -stats.norm.logpdf(residuals(output, y), scale=std).mean()
    assert float(task.loss(output, timed(y))) == pytest.approx(expected, rel=1e-12)
    assert np.allclose(task.std(output).numpy(), 0.05 * std)
    # the metric is the density of seconds, not of deviations
    metric = task.metrics()["nll"]
    metric.update(output, y)
    middle = 1.5 + 0.05 * output[:, 0].numpy()
    expected = -stats.norm.logpdf(y.numpy(), middle, 0.05 * std).mean()
    assert float(metric.compute()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("loss", "best"), [("mse", np.mean), ("mae", np.median)])
def test_the_best_constant_is_the_mean_or_the_median(loss, best) -> None:
    task, y = Regression("onset", loss), torch.tensor([0.0, 0.1, 0.3, 0.4, 9.0], dtype=torch.float64)
    grid = torch.linspace(-1, 10, 1101, dtype=torch.float64)
    losses = [float(task.loss(constant.expand(5, 1), timed(y))) for constant in grid]
    assert float(grid[int(np.argmin(losses))]) == pytest.approx(best(y.numpy()), abs=0.006)


def test_huber_lies_between() -> None:
    """Far below delta it is half the squared error, far above it the absolute one."""
    task = Regression("onset", "huber")
    for residual, expected in ((0.01, 0.01**2 / 2), (1000.0, 1000 - 0.5)):
        assert float(task.loss(torch.zeros(1, 1), timed([residual]))) == pytest.approx(expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients(loss: str) -> None:
    task = Regression("onset", loss, scaling=SECONDS)
    batch = timed(torch.cat([targets(6), torch.tensor([math.nan], dtype=torch.float64)]))
    assert torch.autograd.gradcheck(lambda o: task.loss(o, batch), outputs(task, 7).requires_grad_())


numbers = st.integers(-(10**9), 10**9).map(lambda thousandths: thousandths / 1000)


@given(st.lists(numbers, min_size=2, max_size=20))
def test_scaling_there_and_back(values: list[float]) -> None:
    y = torch.tensor(values, dtype=torch.float64)
    if len(set(values)) == 1 or y.std(correction=0) < 1e-6 * y.abs().max():
        return
    scaling = Scaling.fit(torch.cat([y, torch.tensor([math.nan])]))  # what is missing does not count
    scaled = scaling(y)
    assert float(scaled.mean()) == pytest.approx(0, abs=1e-8)
    assert float(scaled.std(correction=0)) == pytest.approx(1, rel=1e-8)
    assert torch.allclose(scaling.inverse(scaled), y, rtol=1e-9, atol=1e-9 * float(y.abs().max()))


@given(numbers, st.floats(1e-3, 1e3))
def test_estimates_do_not_depend_on_the_unit(mean: float, std: float) -> None:
    """Seconds or milliseconds: the same outputs, estimates a thousand times as large."""
    small = Regression("onset", "gaussian", scaling=Scaling(mean, std))
    large = Regression("onset", "gaussian", scaling=Scaling(1000 * mean, 1000 * std))
    output = outputs(small, 5)
    for a, b in zip(small.interval(output), large.interval(output), strict=True):
        assert torch.allclose(1000 * a, b, rtol=1e-9, atol=1e-9 * (abs(mean) + std) * 1000)


@pytest.mark.parametrize("loss", LOSSES)
def test_metrics_are_those_of_other_libraries(loss: str) -> None:
    task = Regression("onset", loss, scaling=SECONDS)
    y = targets(60)
    output = outputs(task, 60)
    output[:, 0] = 0.8 * output[:, 0] / 2 + (y - SECONDS.mean) / SECONDS.std
    known = torch.arange(60) % 5 != 0
    there = torch.where(known, y, math.nan)
    guess, truth = (SECONDS.mean + SECONDS.std * output[known, 0]).numpy(), y[known].numpy()
    expected = {
        "r2": r2_score(truth, guess),
        "mae": mean_absolute_error(truth, guess),
        "pearson": stats.pearsonr(truth, guess).statistic,
    }
    if loss == "gaussian":
        half = stats.norm.ppf(0.95) * 0.05 * np.sqrt(np.log1p(np.exp(output[known, 1].numpy())) + 1e-4)
        expected["coverage"] = float((abs(truth - guess) <= half).mean())
    metrics = task.metrics()
    for name, metric in metrics.items():
        metric.update(output[:7], there[:7])
        metric.update(output[:1], there[:1])  # a batch without any target
        metric.update(output[7:], there[7:])
        if name != "nll":  # compared with SciPy above
            assert float(metric.compute()) == pytest.approx(expected[name], abs=1e-5), name
    assert set(metrics) == set(expected) | ({"nll"} if loss == "gaussian" else set())
    metrics["mae"].reset()
    metrics["mae"].update(output[1:2], there[1:2])
    assert float(metrics["mae"].compute()) == pytest.approx(abs(guess[0] - truth[0]), abs=1e-6)


@pytest.mark.parametrize(("loss", "first", "higher"), [("mse", "r2", True), ("mae", "mae", False),
                                                       ("huber", "mae", False), ("gaussian", "nll", None)])  # fmt: skip
def test_the_first_metric_suits_the_loss(loss: str, first: str, higher: bool | None) -> None:
    name, metric = next(iter(Regression("onset", loss).metrics().items()))
    assert (name, metric.higher_is_better) == (first, higher)


def test_small_and_shifted_targets_keep_their_r2() -> None:
    """Plain torchmetrics takes sums of squares below 1e-4 for zero, and float32 loses digits to a large mean."""
    for scaling in (Scaling(0.0, 1e-4), Scaling(2000.0, 0.1)):
        task = Regression("onset", scaling=scaling)
        scaled = torch.linspace(-2, 2, 50, dtype=torch.float64)
        output = (scaled + 0.5 * torch.cos(10 * scaled))[:, None]
        metric = task.metrics()["r2"]
        metric.update(output, scaling.inverse(scaled))
        assert float(metric.compute()) == pytest.approx(r2_score(scaled, output[:, 0]), abs=1e-4)


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_intervals_of_the_true_gaussian_hold_what_they_promise(level: float) -> None:
    """Constructed data: deviations that differ from sample to sample, and outputs that know them."""
    random = np.random.default_rng(0)
    mean, std = random.normal(size=20_000), random.uniform(0.2, 2.0, 20_000)
    y = torch.tensor(SECONDS.mean + SECONDS.std * random.normal(mean, std))
    raw = np.log(np.expm1(std**2 - 1e-4))  # the inverse of softplus
    output = torch.tensor(np.stack([mean, raw], axis=1))
    task = Regression("onset", "gaussian", scaling=SECONDS, level=level)
    metric = task.metrics()["coverage"]
    metric.update(output, y)
    assert float(metric.compute()) == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / 20_000))
    low, high = task.interval(output)
    lows, highs = stats.norm.interval(level, 1.5 + 0.05 * mean, 0.05 * std)
    assert np.allclose(low, lows) and np.allclose(high, highs)
    low, high = task.interval(output, 0.99)
    assert float(((low <= y) & (y <= high)).double().mean()) == pytest.approx(0.99, abs=0.003)


@pytest.mark.parametrize("loss", LOSSES)
def test_missing_targets_change_nothing(loss: str) -> None:
    task = Regression("onset", loss, scaling=SECONDS)
    y, output = targets(10), outputs(task, 10)
    there = torch.where(torch.arange(10) < 6, y, math.nan)
    leaf = output.clone().requires_grad_()
    partly = task.loss(leaf, timed(there))
    assert float(partly.detach()) == pytest.approx(float(task.loss(output[:6], timed(y[:6]))))
    partly.backward()
    assert leaf.grad[6:].eq(0).all() and leaf.grad[:6, 0].ne(0).all()
    nothing = task.loss(leaf, timed(torch.full((10,), math.nan)))
    assert float(nothing.detach()) == 0 and nothing.requires_grad


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("size", [0.0, 1.0, 1e4])
def test_extreme_outputs_stay_finite_in_bfloat16(loss: str, size: float) -> None:
    """The targets are hit exactly (size 0), or missed by far, with every sign of the raw variance."""
    task = Regression("onset", loss, scaling=SECONDS)
    raw = torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4]).repeat(4)
    output = torch.stack([size * outputs(task, 20)[:, 0].float(), raw], dim=1)[:, : task.width]
    output = output.bfloat16().requires_grad_()
    batch = timed(torch.full((20,), SECONDS.mean))
    value = task.loss(output, batch)
    value.backward()
    assert value.dtype == torch.float32 and value.isfinite() and output.grad.isfinite().all()
    assert task.estimate(output).isfinite().all()
    for name, metric in task.metrics().items():
        if size or name != "pearson":  # constants have no correlation
            metric.update(output.detach(), targets(20).float())
            assert metric.compute().isfinite(), name


def test_the_variance_never_collapses() -> None:
    task = Regression("onset", "gaussian")
    assert float(task.std(torch.tensor([[0.0, -1e30]]))) == pytest.approx(0.01)  # the floor, 1e-4, is a variance
    assert float(task.std(torch.tensor([[0.0, 1e30]]))) == pytest.approx(1e15)


def test_whole_numbers_are_targets_too() -> None:
    task = Regression("onset", scaling=Scaling(10.0, 2.0))
    assert task.target(timed([8, 12])).dtype == torch.float32
    assert float(task.loss(torch.zeros(2, 1), timed([8, 12]))) == 1.0


def test_errors_name_what_is_wrong() -> None:
    task = Regression("onset", "gaussian")
    with pytest.raises(ValueError, match="no label 'speed'"):
        Regression("speed").target(timed([0.0]))
    with pytest.raises(ValueError, match=r"shape \(2, 1\); expected \(B,\)"):
        task.target(timed([[0.0], [1.0]]))
    with pytest.raises(ValueError, match="infinite"):
        task.target(timed([0.0, math.inf]))
    with pytest.raises(ValueError, match=r"shape \(2, 1\); expected \(B, 2\): the loss 'gaussian'"):
        task.loss(torch.zeros(2, 1), timed([0.0, 1.0]))
    with pytest.raises(ValueError, match=r"shape \(2,\); expected \(B, 1\)"):  # would be broadcast to (2, 2)
        Regression("onset").loss(torch.zeros(2), timed([0.0, 1.0]))
    with pytest.raises(ValueError, match="'mse', which predicts no variance"):
        Regression("onset").interval(torch.zeros(2, 1))
    with pytest.raises(ValueError, match="loss is 'l2'"):
        Regression("onset", "l2")
    with pytest.raises(ValueError, match="delta is 0"):
        Regression("onset", delta=0)
    with pytest.raises(ValueError, match=r"level 1\.5"):
        Regression("onset", level=1.5)
    with pytest.raises(ValueError, match=r"std 0\.0"):
        Scaling.fit(torch.ones(5))  # all the same
    with pytest.raises(ValueError, match="3 values, all of them missing"):
        Scaling.fit(torch.full((3,), math.nan))


class Line(nn.Module):
    """A linear head on one feature."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Linear(1, width)

    def forward(self, batch: Batch) -> Tensor:
        return self.head(batch.data["text"])


def test_fit_finds_the_line_and_the_noise() -> None:
    """y = 100 + 20 x + noise whose deviation is 5: in scaled units slope and variance are what they must be."""
    random = np.random.default_rng(0)
    x = random.normal(size=2000)
    y = torch.tensor(100 + 20 * x + 5 * random.normal(size=2000), dtype=torch.float32)
    y[::10] = math.nan
    batch = Batch({"text": torch.tensor(x, dtype=torch.float32)[:, None]}, {"text": torch.ones(2000, dtype=torch.bool)},
                  labels={"y": y})  # fmt: skip
    task = Regression("y", "gaussian", scaling=Scaling.fit(y))
    torch.manual_seed(0)
    model = Line(task.width)
    history = fit(model, batch, batch, task, epochs=12, lr=0.05, weight_decay=0.0, progress=False)
    assert list(history[-1]) == ["epoch", "train_loss", "valid_loss", "nll", "r2", "pearson", "mae", "coverage",
                                 "seconds"]  # fmt: skip
    output = model(replace_x(batch, [0.0, 1.0]))
    assert task.estimate(output).tolist() == pytest.approx([100, 120], abs=1)
    assert float(task.std(output)[0].detach()) == pytest.approx(5, abs=0.4)
    assert history[-1]["coverage"] == pytest.approx(0.9, abs=0.03)
    assert history[-1]["mae"] == pytest.approx(5 * math.sqrt(2 / math.pi), abs=0.2)  # of a Gaussian


def replace_x(batch: Batch, values: list[float]) -> Batch:
    return Batch({"text": torch.tensor(values)[:, None]}, {"text": batch.present["text"][: len(values)]})
