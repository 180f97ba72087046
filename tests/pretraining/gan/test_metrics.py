"""What judges generated samples, against closed forms and brute force."""

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmlearn.pretraining.gan.metrics import classifier_accuracy, frechet_distance, mode_coverage, precision_recall


def gaussian(mean: Tensor, covariance: Tensor, count: int, seed: int) -> Tensor:
    """Samples whose mean and covariance are exactly these: noise is whitened, then coloured."""
    noise = torch.randn(count, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    noise = noise - noise.mean(dim=0)
    root = torch.linalg.cholesky(noise.T @ noise / (count - 1))
    white = torch.linalg.solve_triangular(root, noise.T, upper=False).T
    return white @ torch.linalg.cholesky(covariance).T + mean


def random_covariance(dim: int, seed: int) -> Tensor:
    root = torch.randn(dim, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return root @ root.T + 0.1 * torch.eye(dim)


def by_formula(mean_a: Tensor, a: Tensor, mean_b: Tensor, b: Tensor) -> float:
    root = scipy.linalg.sqrtm((a @ b).numpy()).real
    return float((mean_a - mean_b).square().sum() + a.trace() + b.trace()) - 2 * float(np.trace(root))


@pytest.mark.parametrize("dim", [1, 3, 8])
def test_frechet_distance_of_gaussians(dim: int) -> None:
    means = torch.zeros(dim, dtype=torch.float64), torch.arange(1.0, dim + 1).double()
    covariances = random_covariance(dim, 0), random_covariance(dim, 1)
    first, second = (gaussian(m, c, n, n) for m, c, n in zip(means, covariances, (40, 60), strict=True))
    expected = by_formula(means[0], covariances[0], means[1], covariances[1])
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(second, first) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_where_covariances_commute() -> None:
    """Then it is the squared distance between the standard deviations, axis by axis."""
    deviations = torch.tensor([[1.0, 2.0, 0.5], [3.0, 0.1, 0.5]], dtype=torch.float64)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    covariances = [turn @ torch.diag(s**2) @ turn.T for s in deviations]
    sets = [gaussian(torch.zeros(3).double(), covariance, 30, k) for k, covariance in enumerate(covariances)]
    expected = (deviations[0] - deviations[1]).square().sum().item()
    assert frechet_distance(*sets) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_equal_sets_is_zero_also_without_full_rank() -> None:
    for count, dim in ((50, 4), (5, 20), (2, 1)):
        x = 100 * torch.randn(count, dim)
        assert frechet_distance(x, x[torch.randperm(count)]) < 1e-8 * x.square().sum()
    constant = torch.ones(4, 3)
    assert frechet_distance(constant, constant + 2) == pytest.approx(12.0)


def test_frechet_distance_without_full_rank() -> None:
    a, b = torch.randn(5, 12, dtype=torch.float64), torch.randn(6, 12, dtype=torch.float64)
    eigenvalues = torch.linalg.eigvals(a.T.cov() @ b.T.cov()).real.clamp(min=0)
    expected = (
        (a.mean(0) - b.mean(0)).square().sum() + a.T.cov().trace() + b.T.cov().trace() - 2 * eigenvalues.sqrt().sum()
    )
    assert frechet_distance(a, b) == pytest.approx(expected.item(), abs=1e-5)


def test_frechet_distance_is_too_high_with_few_samples() -> None:
    torch.manual_seed(0)
    found = [np.mean([frechet_distance(*torch.randn(2, n, 8)) for _ in range(20)]) for n in (20, 80, 320)]
    assert found[0] > 3 * found[1] > 9 * found[2] > 0  # about as 1 / n


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(5, 30))
def test_turning_and_moving_both_sets_changes_nothing(seed: int, dim: int, count: int) -> None:
    dice = torch.Generator().manual_seed(seed)
    a, b = torch.randn(count, dim, generator=dice).double(), 2 * torch.rand(count + 3, dim, generator=dice).double()
    turn, _ = torch.linalg.qr(torch.randn(dim, dim, generator=dice).double())
    moved = a @ turn + 5, b @ turn + 5
    assert frechet_distance(*moved) == pytest.approx(frechet_distance(a, b), rel=1e-6, abs=1e-8)
    assert precision_recall(*moved) == precision_recall(a, b)


def within(sample: Tensor, manifold: Tensor, k: int) -> bool:
    """Whether a sample lies in a ball of the manifold, point by point."""
    for i, point in enumerate(manifold):
        others = sorted(float((point - other).norm()) for j, other in enumerate(manifold) if j != i)
        if float((sample - point).norm()) <= others[k - 1]:
            return True
    return False


@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall_against_brute_force(k: int) -> None:
    torch.manual_seed(0)
    real, fake = torch.randn(25, 2, dtype=torch.float64), torch.randn(30, 2, dtype=torch.float64) + 1.5
    precision, recall = precision_recall(real, fake, k)
    assert precision == sum(within(x, real, k) for x in fake) / 30
    assert recall == sum(within(x, fake, k) for x in real) / 25
    assert precision_recall(fake, real, k) == (recall, precision)
    assert 0 < precision < 1 and 0 < recall < 1  # else this would prove little


def test_precision_and_recall_tell_collapse_from_noise() -> None:
    torch.manual_seed(0)
    real = torch.randn(1500, 2)  # more than is looked at in one go
    collapsed, noise = 0.1 * torch.randn(500, 2), 10 * torch.randn(500, 2)
    precision, recall = precision_recall(real, collapsed)
    assert precision > 0.99 and recall < 0.1
    precision, recall = precision_recall(real, noise)
    assert precision < 0.2 and recall > 0.8
    assert precision_recall(real, real) == (1.0, 1.0)
    assert precision_recall(real, real + 100) == (0.0, 0.0)


def test_modes_covered() -> None:
    modes = torch.tensor([0] * 90 + [1] * 9 + [2] + [-1] * 20)
    assert mode_coverage(modes, 4) == 2  # at least 3 of 120 samples each
    assert mode_coverage(modes, 4, share=0.3) == 2 and mode_coverage(modes, 4, share=0.31) == 1
    assert mode_coverage(modes, 4, share=0.01) == 3 and mode_coverage(torch.tensor([-1, -1]), 4) == 0


def test_reader_accuracy() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.0], [3.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 5.0, 1.0]])
    assert classifier_accuracy(logits, torch.tensor([1, 0, 2, 0])) == 0.75


def test_bad_arguments() -> None:
    x = torch.randn(5, 3)
    for call, message in (
        (lambda: frechet_distance(x[:1], x), r"real is \(1, 3\); expected \(N, 3\) with N ≥ 2"),
        (lambda: frechet_distance(x, x[:, :2]), r"fake is \(5, 2\); expected \(N, 3\)"),
        (lambda: frechet_distance(x, x / 0), "fake holds values that are not finite"),
        (lambda: precision_recall(x, x[:3]), r"fake is \(3, 3\); expected \(N, 3\) with N ≥ 4"),
        (lambda: precision_recall(x, x, k=0), "k is 0"),
        (lambda: mode_coverage(torch.zeros(0), 3), "found no samples"),
        (lambda: mode_coverage(torch.tensor([0, 3]), 3), "found mode 3; expected modes up to 2"),
        (lambda: classifier_accuracy(x, torch.zeros(4)), "found 5 logits and 4 classes"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
