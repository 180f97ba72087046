"""The games of a GAN against closed forms, and the training loop against what it promises."""

import math

import pytest
import torch
from scipy.spatial.distance import jensenshannon
from torch import Tensor, nn

from mmlearn.pretraining.gan.metrics import frechet_distance
from mmlearn.pretraining.gan.networks import ConditionalGenerator, ProjectionDiscriminator
from mmlearn.pretraining.gan.training import (
    GanObjective,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    train_gan,
)

OBJECTIVES: list[GanObjective] = ["minimax", "non-saturating", "wasserstein", "hinge"]
every_objective = pytest.mark.parametrize("objective", OBJECTIVES)


# Losses


def two_densities() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two densities on four points, p and q, and samples of points in exactly these proportions."""
    p, q = torch.tensor([8, 5, 4, 3], dtype=torch.float64), torch.tensor([2, 3, 5, 10], dtype=torch.float64)
    points = torch.arange(4)
    return p / 20, q / 20, points.repeat_interleave(p.long()), points.repeat_interleave(q.long())


@pytest.mark.parametrize("objective", ["minimax", "non-saturating"])
def test_the_best_discriminator_is_the_ratio_of_the_densities(objective: GanObjective) -> None:
    p, q, real, fake = two_densities()
    score = (p / q).log().requires_grad_()  # one for each point
    loss = discriminator_loss(score[real], score[fake], objective)
    distance = jensenshannon(p, q) ** 2  # SciPy returns the root, in nats
    assert loss.item() == pytest.approx(math.log(4) - 2 * distance, abs=1e-12)
    loss.backward()
    assert score.grad.abs().max() < 1e-12  # nothing to gain here, and the loss is convex
    game = generator_loss(score[fake], "minimax")  # E log(1 - D) at D = p / (p + q)
    assert game.item() == pytest.approx((q * (q / (p + q)).log()).sum().item(), abs=1e-12)


def test_losses_by_hand() -> None:
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.0, 1.0])
    d_real, d_fake = real.double().sigmoid(), fake.double().sigmoid()
    crossed = -(d_real.log().mean() + (1 - d_fake).log().mean())
    judged: dict[GanObjective, float] = {
        "minimax": crossed.item(),
        "non-saturating": crossed.item(),
        "wasserstein": -2 / 3 - 1.5 / 3,
        "hinge": (0 + 0.5 + 2) / 3 + (0 + 1 + 2) / 3,
    }
    drawn: dict[GanObjective, float] = {
        "minimax": (1 - d_fake).log().mean().item(),
        "non-saturating": -d_fake.log().mean().item(),
        "wasserstein": 2 / 3,
        "hinge": 2 / 3,
    }
    for objective in OBJECTIVES:
        assert discriminator_loss(real, fake, objective).item() == pytest.approx(judged[objective], abs=1e-6)
        assert generator_loss(fake, objective).item() == pytest.approx(drawn[objective], abs=1e-6)


@every_objective
def test_both_players_pull_the_score_of_generated_samples_in_opposite_directions(objective: GanObjective) -> None:
    score = torch.tensor([-0.5, 0.0, 0.5], requires_grad=True)
    (judge,) = torch.autograd.grad(discriminator_loss(score, score.detach(), objective), score)
    (judge_fake,) = torch.autograd.grad(discriminator_loss(score.detach(), score, objective), score)
    (artist,) = torch.autograd.grad(generator_loss(score, objective), score)
    assert (judge < 0).all() and (judge_fake > 0).all() and (artist < 0).all()  # a step goes against the gradient


def test_only_minimax_has_no_slope_where_the_discriminator_is_sure() -> None:
    slopes = {}
    for objective in OBJECTIVES:
        score = torch.tensor(-20.0, requires_grad=True)
        generator_loss(score, objective).backward()
        slopes[objective] = score.grad.item()
    assert slopes.pop("minimax") == pytest.approx(-math.exp(-20), rel=1e-4)
    assert list(slopes.values()) == pytest.approx([-1.0] * 3, abs=1e-6)


@every_objective
def test_losses_are_finite_in_bfloat16(objective: GanObjective) -> None:
    real, fake = (torch.tensor([-1e30, -100.0, 0.0, 3e4, 1e30], dtype=torch.bfloat16) for _ in range(2))
    real.requires_grad_(), fake.requires_grad_()
    losses = discriminator_loss(real, fake, objective), generator_loss(fake, objective)
    sum(losses).backward()
    for value in (*losses, real.grad, fake.grad):
        assert value.isfinite().all()
    assert losses[0].dtype == torch.float32  # a mean of 1000 numbers in bfloat16 has three digits


def test_an_unknown_objective() -> None:
    for call in (lambda: discriminator_loss(torch.zeros(2), torch.zeros(2), "mse"),  # type: ignore[arg-type]
                 lambda: generator_loss(torch.zeros(2), "mse")):  # type: ignore[arg-type] # fmt: skip
        with pytest.raises(ValueError, match=r"objective is 'mse'; expected one of \('minimax'"):
            call()


# Gradient penalty


def samples() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(6, 2, 3, dtype=torch.float64), torch.randn(6, 2, 3, dtype=torch.float64)


def test_penalty_of_a_linear_critic() -> None:
    real, fake = samples()
    slope = torch.randn(6, dtype=torch.float64, requires_grad=True)
    penalty = gradient_penalty(lambda x: x.flatten(1) @ slope, real, fake)
    assert penalty.item() == pytest.approx((slope.norm().item() - 1) ** 2)
    (gradient,) = torch.autograd.grad(penalty, slope)
    assert torch.allclose(gradient, 2 * (slope.norm() - 1) * slope / slope.norm())


def test_penalty_of_a_quadratic_critic() -> None:
    real, fake = samples()
    matrix = torch.randn(6, 6, dtype=torch.float64, requires_grad=True)

    def critic(x: Tensor) -> Tensor:
        return torch.einsum("bi,ij,bj->b", x.flatten(1), matrix, x.flatten(1)) / 2

    penalty = gradient_penalty(critic, real, fake, torch.Generator().manual_seed(1))
    share = torch.rand(6, 1, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    between = (share * real + (1 - share) * fake).flatten(1)
    slopes = between @ (matrix + matrix.T) / 2  # the gradient of xᵀMx/2, worked out by hand
    expected = (slopes.norm(dim=1) - 1).square().mean()
    assert torch.allclose(penalty, expected)
    assert torch.allclose(*(torch.autograd.grad(value, matrix)[0] for value in (penalty, expected)))


def test_penalty_where_the_critic_is_flat_is_one_and_harmless() -> None:
    real, fake = samples()
    slope = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    penalty = gradient_penalty(lambda x: x.flatten(1) @ slope, real, fake)
    penalty.backward()
    assert penalty.item() == 1 and slope.grad.isfinite().all()


def test_penalty_reaches_weights_only() -> None:
    real, fake = (x.requires_grad_() for x in samples())
    weight = torch.ones(6, dtype=torch.float64, requires_grad=True)
    gradient_penalty(lambda x: x.flatten(1).square() @ weight, real, fake).backward()
    assert real.grad is None and fake.grad is None and weight.grad.any()


def test_penalty_of_unlike_shapes() -> None:
    with pytest.raises(ValueError, match=r"real is \(3, 2\) and fake \(4, 2\); expected the same shape"):
        gradient_penalty(lambda x: x.sum(1), torch.zeros(3, 2), torch.zeros(4, 2))


# Training


def ring(count: int, seed: int = 0) -> Tensor:
    dice = torch.Generator().manual_seed(seed)
    angle = torch.randint(8, (count,), generator=dice) * torch.pi / 4
    return torch.stack([angle.cos(), angle.sin()], dim=1) + 0.05 * torch.randn(count, 2, generator=dice)


def perceptron(fan_in: int, fan_out: int) -> nn.Module:
    return nn.Sequential(nn.Linear(fan_in, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, fan_out))


def play(seed: int = 0, **kwargs: object) -> tuple[nn.Module, nn.Module, nn.Module, list[dict[str, float]]]:
    """Play on the ring; returns the averaged generator, the generator, the discriminator and the history."""
    torch.manual_seed(seed)
    generator, discriminator = perceptron(4, 2), perceptron(2, 1)
    settings = {"noise_dim": 4, "steps": 10, "batch_size": 32, "every": 5, "seed": seed, "progress": False} | kwargs
    average, history = train_gan(generator, discriminator, ring(500), **settings)  # type: ignore[arg-type]
    return average, generator, discriminator, history


def test_training_draws_the_ring() -> None:
    noise, target = torch.randn(400, 4), ring(400, seed=1)
    torch.manual_seed(0)
    before = frechet_distance(target, perceptron(4, 2)(noise))
    settings = {"objective": "wasserstein", "penalty": 1.0, "discriminator_steps": 3, "steps": 100, "batch_size": 64}
    average, generator, _, _ = play(generator_lr=2e-3, discriminator_lr=5e-3, decay=0.9, **settings)
    after, after_average = (frechet_distance(target, network(noise)) for network in (generator, average))
    assert after < before / 10 and after_average < before / 10


def test_the_same_seed_gives_the_same_weights() -> None:
    first, second, other = (list(play(seed=seed)[0].parameters()) for seed in (0, 0, 1))
    assert all(map(torch.equal, first, second))
    assert not any(map(torch.equal, first, other))


def test_watching_changes_nothing() -> None:
    def watch(step: int, average: nn.Module) -> dict[str, float]:
        assert not average.training
        return {"mean": average(torch.randn(100, 4)).mean().item()}  # takes from the global random numbers

    plain, watched = play(), play(watch=watch)
    assert all(map(torch.equal, plain[0].parameters(), watched[0].parameters()))
    assert [row["step"] for row in watched[3]] == [5, 10] and all("mean" in row for row in watched[3])


def test_the_average_follows_its_recurrence() -> None:
    torch.manual_seed(0)
    generator, discriminator = perceptron(4, 2), perceptron(2, 1)
    raw, averages = [], []

    def watch(step: int, average: nn.Module) -> dict[str, float]:
        for where, network in ((raw, generator), (averages, average)):
            where.append(nn.utils.parameters_to_vector(network.parameters()).detach().clone())
        return {}

    average, _ = train_gan(generator, discriminator, ring(100), noise_dim=4, steps=6, every=1, decay=0.8, watch=watch,
                           progress=False)  # fmt: skip
    expected = raw[0]
    for weights, found in zip(raw, averages, strict=True):
        expected = 0.8 * expected + 0.2 * weights
        assert torch.allclose(found, expected, atol=1e-6)
    assert torch.equal(nn.utils.parameters_to_vector(average.parameters()), averages[-1])
    assert not torch.allclose(raw[-1], averages[-1], atol=1e-4)


@pytest.mark.parametrize("frozen", ["generator", "discriminator"])
def test_each_player_moves_only_its_own_weights(frozen: str) -> None:
    torch.manual_seed(0)
    before = {"generator": perceptron(4, 2), "discriminator": perceptron(2, 1)}  # what `play` starts from
    _, generator, discriminator, _ = play(**{f"{frozen}_lr": 0.0})
    after = {"generator": generator, "discriminator": discriminator}
    for name, network in before.items():
        same = list(map(torch.equal, network.parameters(), after[name].parameters()))
        assert all(same) == (name == frozen)


class Recorder(nn.Module):
    """A judge with a fixed score, which notes what it is shown."""

    def __init__(self, score: float = 0.3) -> None:
        super().__init__()
        self.score = nn.Parameter(torch.tensor(score))
        self.seen: list[tuple[Tensor, ...]] = []

    def forward(self, x: Tensor, *asked: Tensor) -> Tensor:
        self.seen.append((x.detach(), *asked))
        return self.score + 0 * x.sum(dim=1)


class Copyist(nn.Module):
    """Draws what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, noise: Tensor, condition: Tensor, *present: Tensor) -> Tensor:
        return condition + self.weight * noise.sum()


def test_conditions_stay_with_their_samples() -> None:
    numbers = torch.arange(50.0)[:, None]
    present = numbers[:, 0] % 2 == 0
    judge = Recorder()
    train_gan(Copyist(), judge, numbers, numbers, present, steps=2, discriminator_steps=3, batch_size=7,
              generator_lr=0.0, progress=False)  # fmt: skip
    assert len(judge.seen) == 2 * (3 * 2 + 1)  # real and generated for each judgement, then once for the generator
    for x, condition, there in judge.seen:
        assert x.shape == (7, 1) and torch.equal(x, condition) and torch.equal(there, condition[:, 0] % 2 == 0)
    rounds = [tuple(x.flatten().tolist()) for x, *_ in judge.seen]
    assert len(set(rounds)) == 2 * (3 + 1)  # each draws again


def test_the_history_holds_means() -> None:
    settings = {"discriminator_steps": 3, "generator_lr": 0.0, "discriminator_lr": 0.0, "steps": 10, "every": 4}
    _, history = train_gan(Copyist(), Recorder(), torch.zeros(9, 1), torch.zeros(9, 1), progress=False, **settings)  # type: ignore[arg-type]
    assert [row["step"] for row in history] == [4, 8, 10]
    for row in history:
        assert row["discriminator_loss"] == pytest.approx(0.7 + 1.3)  # hinge at a score of 0.3
        assert row["generator_loss"] == pytest.approx(-0.3)


def test_the_penalty_holds_the_slope_near_one() -> None:
    def slope(penalty: float) -> float:
        *_, discriminator, _ = play(objective="wasserstein", penalty=penalty, steps=40, discriminator_steps=3)
        x = ring(200, seed=2).requires_grad_()
        (gradient,) = torch.autograd.grad(discriminator(x).sum(), x)
        return gradient.norm(dim=1).mean().item()

    assert abs(slope(10.0) - 1) < 0.3 < abs(slope(0.0) - 1)


@every_objective
def test_training_in_bfloat16(objective: GanObjective) -> None:
    torch.manual_seed(0)
    images, condition = torch.rand(16, 1, 8, 8), torch.randn(16, 3)
    generator = ConditionalGenerator(3, size=8, width=4, noise_dim=8)
    discriminator = ProjectionDiscriminator(3, size=8, width=4)
    average, history = train_gan(
        generator, discriminator, images, condition, torch.arange(16) % 4 > 0,
        noise_dim=8, objective=objective, penalty=1.0, steps=3, batch_size=8, bf16=True, progress=False,
    )  # fmt: skip
    assert all(math.isfinite(value) for row in history for value in row.values())
    for parameter in (*average.parameters(), *discriminator.parameters()):
        assert parameter.dtype == torch.float32 and parameter.isfinite().all()


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="found 500 real samples, steps=0"):
        play(steps=0)
    with pytest.raises(ValueError, match="found 0 real samples"):
        train_gan(perceptron(4, 2), perceptron(2, 1), torch.zeros(0, 2))
    with pytest.raises(ValueError, match="objective is 'mse'"):
        play(objective="mse")
    with pytest.raises(ValueError, match=r"the losses are \[nan, nan\] up to step 10"):
        train_gan(Copyist(), Recorder(torch.nan), torch.zeros(9, 1), torch.zeros(9, 1), steps=10, progress=False)
