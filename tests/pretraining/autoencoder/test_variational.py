"""Variational autoencoders against closed forms of linear models, integrals on a grid, and torch.distributions."""

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch import distributions as dist

from mmlearn import Batch, fit
from mmlearn.pretraining import (
    ELBO,
    BernoulliLikelihood,
    Bounds,
    Gaussian,
    GaussianLikelihood,
    MultimodalVAE,
    product_of_experts,
)

SIZES = {"audio": 4, "image": 3, "text": 2}


class Linear(nn.Linear):
    """An encoder that takes a mask; padding counts as 0."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return super().forward(x if mask is None else torch.where(mask, x, 0.0))


def build(names: Mapping[str, int] = SIZES, dim: int = 2, seed: int = 0, **kwargs) -> MultimodalVAE:
    torch.manual_seed(seed)
    encoders = {name: Linear(size, 2 * dim) for name, size in names.items()}
    decoders = {name: nn.Linear(dim, size) for name, size in names.items()}
    return MultimodalVAE(encoders, decoders, dim, **kwargs)


def sample(size: int = 6, names: Mapping[str, int] = SIZES, seed: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    data = {name: torch.randn(size, width, generator=generator) for name, width in names.items()}
    return Batch(data, {name: torch.ones(size, dtype=torch.bool) for name in names})


def double(batch: Batch) -> Batch:
    return replace(batch, data={name: x.double() for name, x in batch.data.items()})


def some_absent(batch: Batch, value: float = 0.0) -> Batch:
    """Rows 1 … have lost something; `value` stands in its place."""
    lost = {"audio": [1, 2], "image": [1, 3], "text": [2, 4]}
    data, present = {n: x.clone() for n, x in batch.data.items()}, {n: p.clone() for n, p in batch.present.items()}
    for name in data:
        data[name][lost[name]], present[name][lost[name]] = value, False
    return replace(batch, data=data, present=present)


def linear_terms(model: MultimodalVAE, name: str, posterior: Gaussian, x: Tensor) -> Tensor:
    """E_q[log p(x | z)], (B,), of a linear decoder: the mean's log-density minus tr(W Σ Wᵀ) / (2 σ²)."""
    decoder, scale = model.decoders[name], model.likelihoods[name].log_scale.exp()
    at_mean = dist.Normal(decoder(posterior.mean), scale).log_prob(x).sum(dim=1)
    return at_mean - (decoder.weight.square() @ posterior.log_variance.exp().T).sum(dim=0) / (2 * scale**2)


def repeat(batch: Batch, times: int) -> Batch:
    return batch[torch.arange(len(batch)).repeat_interleave(times)]


def mean_and_error(values: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Values (S, B · times) → mean and standard error (S, B)."""
    values = values.unflatten(1, (size, -1))
    return values.mean(dim=2), values.std(dim=2) / values.shape[2] ** 0.5


# Likelihoods


def test_likelihoods_are_those_of_torch() -> None:
    torch.manual_seed(0)
    x, decoded = torch.randn(2, 3, 4)
    gaussian = GaussianLikelihood(scale=0.3)
    torch.testing.assert_close(gaussian.log_prob(x, decoded), dist.Normal(decoded, 0.3).log_prob(x))
    assert gaussian.mean(decoded) is decoded and not gaussian.log_scale.requires_grad
    bernoulli, bits = BernoulliLikelihood(), (x > 0).float()
    torch.testing.assert_close(
        bernoulli.log_prob(bits, decoded), dist.Bernoulli(logits=decoded).log_prob(bits), atol=1e-6, rtol=1e-5
    )
    torch.testing.assert_close(bernoulli.mean(decoded), dist.Bernoulli(logits=decoded).mean)


def test_a_learned_scale_tends_to_the_error() -> None:
    torch.manual_seed(0)
    errors, likelihood = 0.2 * torch.randn(2000), GaussianLikelihood(learned=True)
    optimizer = torch.optim.LBFGS(likelihood.parameters(), max_iter=50)

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = -likelihood.log_prob(errors, torch.zeros(2000)).mean()
        value.backward()
        return value

    optimizer.step(loss)
    assert float(likelihood.log_scale.detach().exp()) == pytest.approx(float(errors.square().mean().sqrt()), rel=1e-3)


# The bounds


@pytest.mark.parametrize("reconstruct", ["all", "given"])
def test_the_products_bounds_are_the_closed_forms_of_a_linear_model(reconstruct: str) -> None:
    model, batch = build(reconstruct=reconstruct).double(), double(some_absent(sample()))
    torch.manual_seed(0)
    with torch.no_grad():
        bounds = model(repeat(batch, 20_000))
        beliefs, present = model.posterior(batch)
        subsets = [("audio", "image", "text"), ("audio",), ("image",), ("text",)]
        for s, subset in enumerate(subsets):
            posterior = product_of_experts({name: beliefs[name] for name in subset}, present)
            normal = dist.Normal(posterior.mean, (posterior.log_variance / 2).exp())
            kl = dist.kl_divergence(normal, dist.Normal(torch.zeros_like(posterior.mean), 1.0))
            torch.testing.assert_close(bounds.kl[s].unflatten(0, (6, -1))[:, 0], kl)
            for name in SIZES:
                exact = linear_terms(model, name, posterior, batch.data[name])
                exact = torch.where(present[name], exact, 0.0) * (reconstruct == "all" or name in subset)
                found, error = mean_and_error(bounds.log_likelihood[name], 6)
                assert ((found[s] - exact).abs() <= 4.5 * error[s] + 1e-9).all(), (subset, name)
    valid = bounds.valid.unflatten(1, (6, -1))[..., 0]
    assert valid[0].all() and torch.equal(valid[1], present["audio"]) and torch.equal(valid[3], present["text"])


@pytest.mark.parametrize("experts", ["product", "mixture"])
def test_a_bound_stays_below_the_evidence_of_a_linear_model(experts: str) -> None:
    """log p(x) = log N(b, W Wᵀ + σ²); with the exact posterior, the bound touches it."""
    names = {"image": 3}
    model, batch = build(names, experts=experts).double(), double(sample(names=names))
    decoder = model.decoders["image"]
    weight, bias, x = decoder.weight.detach(), decoder.bias.detach(), batch.data["image"]
    evidence = dist.MultivariateNormal(bias, weight @ weight.T + torch.eye(3, dtype=torch.float64)).log_prob(x)
    with torch.no_grad():
        posterior = model.posterior(batch)[0]["image"]  # one modality: nothing is multiplied
        bound = linear_terms(model, "image", posterior, x) - posterior.kl_to_prior().sum(dim=1)
        assert (bound < evidence).all()
        bounds = model(repeat(batch, 20_000))
        assert bounds.kl.shape == (1, 120_000, 2)
        found, error = mean_and_error(bounds.log_likelihood["image"] - bounds.kl.sum(dim=2), 6)
        assert ((found[0] - bound).abs() < 4.5 * error[0]).all()
        # turn the code, which p(x) does not notice, so that the exact posterior has independent dimensions
        turn = torch.linalg.eigh(weight.T @ weight)[1]
        decoder.weight.copy_(weight @ turn)
        covariance = torch.linalg.inv(torch.eye(2, dtype=torch.float64) + decoder.weight.T @ decoder.weight)
        exact = Gaussian((x - bias) @ decoder.weight @ covariance, covariance.diagonal().log().expand(6, 2))
        touching = linear_terms(model, "image", exact, x) - exact.kl_to_prior().sum(dim=1)
    torch.testing.assert_close(touching, evidence)


def test_the_mixtures_bound_is_the_integral_on_a_grid() -> None:
    """E_q[log p(x, z) - log q(z)] with q the mixture of those present, for a code of one dimension."""
    model, batch = build(dim=1, experts="mixture").double(), double(some_absent(sample()))
    torch.manual_seed(0)
    with torch.no_grad():
        bounds = model(repeat(batch, 40_000))
        beliefs, present = model.posterior(batch)
        total = sum(bounds.log_likelihood.values()) - bounds.kl[..., 0]  # (S, B · times)
        found, error = mean_and_error(total, 6)
        count = bounds.valid.unflatten(1, (6, -1))[..., 0].double()  # (S, B)
        assert torch.equal(count.bool(), torch.stack([present[name] for name in sorted(SIZES)]))
        found = (found * count).sum(dim=0) / count.sum(dim=0)
        error = ((error * count).square().sum(dim=0)).sqrt() / count.sum(dim=0)
        z = torch.linspace(-15, 15, 30_001, dtype=torch.float64)
        for row in range(6):
            there = [name for name in SIZES if present[name][row]]
            parts = [dist.Normal(beliefs[n].mean[row], (beliefs[n].log_variance[row] / 2).exp()) for n in there]
            density = torch.stack([part.log_prob(z).exp() for part in parts]).mean(dim=0)
            joint = dist.Normal(0.0, 1.0).log_prob(z)
            for name in there:
                scale = model.likelihoods[name].log_scale.exp()
                joint = joint + dist.Normal(model.decoders[name](z[:, None]), scale).log_prob(
                    batch.data[name][row]
                ).sum(dim=1)
            integrand = torch.where(density > 0, density * (joint - density.log()), 0.0)
            exact = torch.trapezoid(integrand, z)
            assert abs(found[row] - exact) < 4.5 * error[row], row


def test_training_draws_further_subsets_of_many_modalities() -> None:
    model, batch = build(random_subsets=2), sample()
    assert model(batch).kl.shape[0] == 1 + 3 + 2
    assert model.eval()(batch).kl.shape[0] == 1 + 3
    drawn = {subset for _ in range(40) for subset in model.train()._subsets()[4:]}
    assert drawn == {("audio", "image"), ("audio", "text"), ("image", "text")}
    two = {"audio": 4, "image": 3}
    assert build(two, random_subsets=2)(sample(names=two)).kl.shape[0] == 1 + 2  # none lies between


# Any subset


@pytest.mark.parametrize("experts", ["product", "mixture"])
def test_a_subsets_code_is_the_code_when_the_others_are_absent(experts: str) -> None:
    model, batch = build(experts=experts), sample()
    beliefs, present = model.posterior(batch)
    for subset in [("audio",), ("image", "text"), ("audio", "image", "text")]:
        code = model.code(batch.only(*subset))
        if experts == "product":
            expected = product_of_experts({name: beliefs[name] for name in subset}, present).mean
        else:
            expected = torch.stack([beliefs[name].mean for name in subset]).mean(dim=0)
        torch.testing.assert_close(code, expected)
        spoilt = {name: x if name in subset else torch.full_like(x, math.nan) for name, x in batch.data.items()}
        assert torch.equal(code, model.code(replace(batch.only(*subset), data=spoilt)))
    mixed = some_absent(batch, math.nan)
    for row in range(6):
        there = [name for name in SIZES if mixed.present[name][row]]
        torch.testing.assert_close(model.code(mixed)[row], model.code(batch.only(*there))[row])
    decoded = model.decode(model.code(batch))
    assert {name: tuple(x.shape) for name, x in decoded.items()} == {name: (6, size) for name, size in SIZES.items()}


def test_decoding_gives_the_likelihoods_mean() -> None:
    names = {"image": 3}
    model = build(names, likelihoods={"image": BernoulliLikelihood()})
    code = torch.randn(4, 2)
    torch.testing.assert_close(model.decode(code)["image"], model.decoders["image"](code).sigmoid())


@pytest.mark.parametrize("kwargs", [{}, {"reconstruct": "given", "random_subsets": 1}, {"experts": "mixture"}])
def test_what_is_not_real_changes_nothing_and_gets_no_gradient(kwargs: dict) -> None:
    def run(value: float) -> list[Tensor]:
        model = build(**kwargs)
        batch = some_absent(sample(), value)
        batch.data["audio"][5, 3:] = value
        batch.mask["audio"] = torch.arange(4) < torch.tensor([4, 4, 4, 4, 4, 3])[:, None]
        for x in batch.data.values():
            x.requires_grad_()
        torch.manual_seed(7)
        bounds = model(batch)
        loss = ELBO(free_bits=0.1).loss(bounds, batch)
        loss.backward()
        for name, x in batch.data.items():
            assert (x.grad[~batch.present[name]] == 0).all() and x.grad[0].abs().sum() > 0
        assert (batch.data["audio"].grad[5, 3:] == 0).all()
        gradients = [parameter.grad for parameter in model.parameters()]
        assert all(gradient is not None for gradient in gradients)
        return [loss.detach(), model.code(batch), bounds.kl, *bounds.log_likelihood.values(), *gradients]

    clean = run(0.0)
    for value in (math.nan, math.inf, 1e30):
        for good, bad in zip(clean, run(value), strict=True):
            assert torch.equal(good, bad)


def test_the_order_of_names_does_not_matter() -> None:
    first, second = build(), build(dict(reversed(SIZES.items())))
    second.load_state_dict(first.state_dict())
    batch = sample()
    results = []
    for model in (first, second):
        torch.manual_seed(0)
        results.append(ELBO().loss(model(batch), batch))
    assert torch.equal(*results)


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match="experts is 'sum'"):
        build(experts="sum")
    with pytest.raises(ValueError, match="reconstruct is 'nothing'"):
        build(reconstruct="nothing")
    with pytest.raises(ValueError, match=r"decoders \['b'\].*same names"):
        MultimodalVAE({"a": Linear(2, 2)}, {"b": nn.Linear(1, 2)}, 1)
    model = build()
    with pytest.raises(ValueError, match=r"the batch has no \['image', 'text'\]"):
        model(sample(names={"audio": 4}))
    batch = sample()
    batch.present = {name: there & (torch.arange(6) != 2) for name, there in batch.present.items()}
    with pytest.raises(ValueError, match="sample 2 has none"):
        model(batch)


# The objective


def bounds_of(kl: list[list[list[float]]], valid: list[list[bool]], **told: list[list[float]]) -> Bounds:
    return Bounds({n: torch.tensor(v) for n, v in told.items()}, torch.tensor(kl), torch.tensor(valid))


def test_the_objective_adds_up_by_hand() -> None:
    # two draws of two samples, a code of two dimensions; the second sample has no second draw
    bounds = bounds_of([[[1.0, 0.2], [3.0, 0.0]], [[2.0, 0.4], [9.0, 9.0]]], [[True, True], [True, False]],
                       image=[[-1.0, -2.0], [-3.0, -99.0]], audio=[[-10.0, -20.0], [-30.0, -99.0]])  # fmt: skip
    batch = sample(2)
    told = {"image": (-(1 + 3) / 2 - 2) / 2, "audio": (-(10 + 30) / 2 - 20) / 2}
    kl = [((1 + 2) / 2 + 3) / 2, ((0.2 + 0.4) / 2 + 0) / 2]
    assert float(ELBO().loss(bounds, batch)) == pytest.approx(sum(kl) - sum(told.values()))
    assert float(ELBO(beta=3).loss(bounds, batch)) == pytest.approx(3 * sum(kl) - sum(told.values()))
    weighted = ELBO(weights={"audio": 0.1}).loss(bounds, batch)
    assert float(weighted) == pytest.approx(sum(kl) - told["image"] - 0.1 * told["audio"])
    free = ELBO(free_bits=0.5).loss(bounds, batch)
    assert float(free) == pytest.approx(kl[0] + 0.5 - sum(told.values()))
    assert ELBO().metrics() == {} and len(ELBO().target(batch)) == 2


def test_beta_warms_up_over_training_steps_alone() -> None:
    bounds, batch = bounds_of([[[1.0]]], [[True]], image=[[0.0]]), sample(1)
    objective, seen = ELBO(beta=2.0, warmup=4), []
    for _ in range(6):
        seen.append(float(objective.loss(bounds, batch)))
        with torch.no_grad():
            assert float(objective.loss(bounds, batch)) == 2.0
    assert seen == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]


@pytest.mark.parametrize("kwargs", [{}, {"experts": "mixture"}, {"reconstruct": "given"}])
@pytest.mark.parametrize("size", [1.0, 1e3])
def test_losses_are_finite_in_bfloat16(kwargs: dict, size: float) -> None:
    likelihoods = {"audio": GaussianLikelihood(0.01), "image": BernoulliLikelihood(), "text": GaussianLikelihood(10.0)}
    model = build(likelihoods=likelihoods, **kwargs)
    batch = some_absent(sample(64), math.nan)
    batch = replace(batch, data={n: size * x for n, x in batch.data.items()} | {"image": torch.rand(64, 3)})
    with torch.autocast("cpu", torch.bfloat16):
        bounds = model(batch)
        loss = ELBO().loss(bounds, batch)
    loss.backward()
    assert loss.isfinite() and loss.dtype == torch.float32
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("experts", ["product", "mixture"])
def test_training_lowers_the_loss_and_tells_one_modality_from_the_other(experts: str) -> None:
    torch.manual_seed(0)
    kinds = torch.arange(4).repeat(32)
    patterns = {"audio": torch.randn(4, 4), "image": torch.randn(4, 3)}
    sizes = {"audio": 4, "image": 3}
    batch = sample(128, sizes)
    batch = replace(batch, data={n: patterns[n][kinds] + 0.05 * batch.data[n] for n in patterns})
    torch.manual_seed(0)
    encoders = {n: nn.Sequential(Linear(s, 32), nn.Tanh(), nn.Linear(32, 4)) for n, s in sizes.items()}
    decoders = {n: nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, s)) for n, s in sizes.items()}
    encoders = {n: WithoutMask(encoder) for n, encoder in encoders.items()}
    model = MultimodalVAE(encoders, decoders, 2, experts=experts)
    history = fit(model, batch, batch, ELBO(), epochs=40, lr=1.5e-2, weight_decay=0.0, progress=False)
    assert history[-1]["train_loss"] < history[0]["train_loss"] - 3
    with torch.no_grad():
        image = model.eval().decode(model.code(batch.only("audio")))["image"]
    nearest = torch.cdist(image, patterns["image"]).argmin(dim=1)
    assert (nearest == kinds).float().mean() > 0.95


class WithoutMask(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.module(x)
