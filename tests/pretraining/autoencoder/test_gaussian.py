"""Gaussian experts against torch.distributions, against densities multiplied on a grid, and against closed forms."""

import math

import pytest
import torch
from torch import Tensor
from torch import distributions as dist

from mmlearn.pretraining.autoencoder.gaussian import Gaussian, log_mixture, product_of_experts

ALL = torch.ones(5, dtype=torch.bool)


def gaussian(seed: int, size: int = 5, dim: int = 3) -> Gaussian:
    generator = torch.Generator().manual_seed(seed)
    mean, log_variance = torch.randn(2, size, dim, generator=generator, dtype=torch.float64)
    return Gaussian(mean, log_variance)


def normal(g: Gaussian) -> dist.Normal:
    return dist.Normal(g.mean, (g.log_variance / 2).exp())


def test_kl_and_density_are_those_of_torch() -> None:
    g = gaussian(0)
    prior = dist.Normal(torch.zeros_like(g.mean), torch.ones_like(g.mean))
    torch.testing.assert_close(g.kl_to_prior(), dist.kl_divergence(normal(g), prior))
    code = gaussian(1).mean
    torch.testing.assert_close(g.log_density(code), normal(g).log_prob(code).sum(dim=-1))


def test_kl_is_zero_for_the_prior_and_positive_elsewhere() -> None:
    zero = torch.zeros(1, 1)
    assert float(Gaussian(zero, zero).kl_to_prior()) == 0
    assert (gaussian(2).kl_to_prior() > 0).all()
    assert float(Gaussian(zero + 2, zero).kl_to_prior()) == 2  # mean² / 2


def test_a_product_is_what_multiplying_densities_on_a_grid_gives() -> None:
    a, b = gaussian(3), gaussian(4)
    product = product_of_experts({"a": a, "b": b}, {"a": ALL, "b": ALL})
    grid = torch.linspace(-12, 12, 40_001, dtype=torch.float64)[:, None, None]  # (G, 1, 1)
    log_prior = dist.Normal(torch.zeros((), dtype=torch.float64), 1.0).log_prob(grid)
    density = (normal(a).log_prob(grid) + normal(b).log_prob(grid) + log_prior).exp()  # (G, B, D)
    density /= density.sum(dim=0)
    mean = (grid * density).sum(dim=0)
    variance = ((grid - mean).square() * density).sum(dim=0)
    torch.testing.assert_close(product.mean, mean)
    torch.testing.assert_close(product.log_variance, variance.log())


def test_a_product_holds_only_those_who_are_present() -> None:
    a, b = gaussian(5), gaussian(6)
    present = {"a": torch.tensor([True, True, False, False, True]), "b": torch.tensor([True, False, True, False, True])}
    product = product_of_experts({"b": b, "a": a}, present)
    for row in range(5):
        precision, weighted = torch.ones(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
        for name, expert in (("a", a), ("b", b)):
            if present[name][row]:
                precision += 1 / expert.log_variance[row].exp()
                weighted += expert.mean[row] / expert.log_variance[row].exp()
        torch.testing.assert_close(product.mean[row], weighted / precision)
        torch.testing.assert_close(product.log_variance[row], (1 / precision).log())
    assert (product.mean[3] == 0).all() and (product.log_variance[3] == 0).all()  # nobody: the prior


def test_a_mixture_is_that_of_torch() -> None:
    experts = {name: gaussian(k) for k, name in enumerate("abc")}
    code = gaussian(9).mean
    parts = dist.Normal(
        torch.stack([g.mean for g in experts.values()], dim=1),
        torch.stack([(g.log_variance / 2).exp() for g in experts.values()], dim=1),
    )  # (B, M, D)
    weights = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.float64)
    theirs = dist.MixtureSameFamily(dist.Categorical(weights), dist.Independent(parts, 1)).log_prob(code)
    present = {name: weights[:, k].bool() for k, name in enumerate("abc")}
    torch.testing.assert_close(log_mixture(code, experts, present), theirs)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
def test_what_an_absent_expert_says_changes_nothing_and_gets_no_gradient(bad: float) -> None:
    present = {"a": torch.tensor([True, False]), "b": torch.tensor([True, True])}

    def results(value: float) -> list[Tensor]:
        experts = {}
        for k, name in enumerate("ab"):
            parts = [part.clone() for part in gaussian(k, size=2)]
            if name == "a":
                for part in parts:
                    part[1] = value
            experts[name] = Gaussian(*(part.requires_grad_() for part in parts))
        product = product_of_experts(experts, present)
        density = log_mixture(torch.ones(2, 3, dtype=torch.float64), experts, present)
        (product.mean.sum() + product.log_variance.sum() + density.sum()).backward()
        for part in experts["a"]:
            assert (part.grad[1] == 0).all()
        grads = [part.grad for expert in experts.values() for part in expert]
        return [product.mean, product.log_variance, density, *grads]

    for clean, dirty in zip(results(0.5), results(bad), strict=True):
        assert torch.equal(clean, dirty)


def test_reparameterised_gradients_agree_with_the_score_function_and_with_the_closed_form() -> None:
    torch.manual_seed(0)
    draws, mean, log_variance = 400_000, 0.7, -0.6
    deviation = math.exp(log_variance / 2)
    parameters = [torch.full((draws, 1), value, dtype=torch.float64) for value in (mean, log_variance)]
    g = Gaussian(*(p.requires_grad_() for p in parameters))
    code = g.sample()
    code.sin().sum().backward()
    # E[sin z] = sin(mean) exp(-variance / 2)
    damp = math.exp(-(deviation**2) / 2)
    exact = {"mean": math.cos(mean) * damp, "log_variance": -math.sin(mean) * damp * deviation**2 / 2}
    z = code.detach()
    scores = {"mean": (z - mean) / deviation**2, "log_variance": ((z - mean) ** 2 / deviation**2 - 1) / 2}
    for name, parameter in zip(exact, parameters, strict=True):
        estimates = {"reparameterised": parameter.grad, "score": z.sin() * scores[name]}
        errors = {how: values.std() / draws**0.5 for how, values in estimates.items()}
        for how, values in estimates.items():
            assert abs(values.mean() - exact[name]) < 4 * errors[how], how
        apart = abs(estimates["reparameterised"].mean() - estimates["score"].mean())
        assert apart < 4 * (errors["reparameterised"] ** 2 + errors["score"] ** 2) ** 0.5


def test_networks_may_say_anything() -> None:
    said = torch.tensor([[1.0, -2.0, 1e4, -1e4]], dtype=torch.bfloat16)
    g = Gaussian.from_stats(said)
    assert g.mean.tolist() == [[1.0, -2.0]] and g.mean.dtype == torch.float32
    assert g.log_variance.tolist() == [[10.0, -10.0]]
    assert g.kl_to_prior().isfinite().all() and g.sample().isfinite().all()
