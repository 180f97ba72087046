"""The networks of a GAN: formulas by hand, the missing-value law, and spectral normalisation against the SVD."""

import pytest
import torch
from torch import Tensor, nn

from mmlearn.pretraining.gan.networks import (
    Condition,
    ConditionalGenerator,
    ProjectionDiscriminator,
    normalise_spectrally,
)


def build(condition_dim: int = 5, spectral: bool = True) -> tuple[ConditionalGenerator, ProjectionDiscriminator]:
    torch.manual_seed(0)
    generator = ConditionalGenerator(condition_dim, noise_dim=6, size=16, width=4, dim=7)
    discriminator = ProjectionDiscriminator(condition_dim, size=16, width=4, dim=8, spectral=spectral)
    for network in (generator, discriminator):
        if network.condition is not None:
            nn.init.normal_(network.condition.absent)
    return generator, discriminator.eval()  # in training, each look moves the estimates of the spectra


def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    present = torch.tensor([True, False, True, False])
    return torch.randn(4, 6), torch.rand(4, 1, 16, 16), torch.randn(4, 5), present


@pytest.mark.parametrize("size", [8, 16, 32, 64, 128])
def test_sizes(size: int) -> None:
    generator = ConditionalGenerator(noise_dim=6, size=size, channels=3, width=4)
    pictures = generator(torch.randn(2, 6))
    assert pictures.shape == (2, 3, size, size) and pictures.min() >= 0 and pictures.max() <= 1
    assert ProjectionDiscriminator(size=size, channels=3, width=4)(pictures).shape == (2,)


@pytest.mark.parametrize("size", [0, 4, 12, 48, 100])
def test_sizes_that_cannot_be_halved_to_four(size: int) -> None:
    for network in (ConditionalGenerator, ProjectionDiscriminator):
        with pytest.raises(ValueError, match=f"size is {size}; expected 8, 16, 32"):
            network(size=size)


def test_projection_is_an_inner_product() -> None:
    _, discriminator = build()
    _, pictures, condition, _ = inputs()
    scores = discriminator(pictures, condition)
    phi = discriminator.features(pictures)
    for row in range(4):
        asked = discriminator.condition.embed.weight @ condition[row]
        by_hand = discriminator.score.weight[0] @ phi[row] + discriminator.score.bias[0] + asked @ phi[row]
        assert scores[row].item() == pytest.approx(by_hand.item(), abs=1e-5)
    _, alone = build(condition_dim=0)
    assert torch.allclose(alone(pictures), alone.score(alone.features(pictures))[:, 0])


def test_a_class_is_a_one_hot_condition() -> None:
    condition, table = Condition(5, 7), nn.Embedding(5, 7)
    with torch.no_grad():
        table.weight.copy_(condition.embed.weight.T)
    classes = torch.tensor([3, 0, 4])
    assert torch.equal(condition(nn.functional.one_hot(classes, 5).float()), table(classes))


def test_nothing_is_ignored() -> None:
    generator, discriminator = build()
    noise, pictures, condition, present = inputs()
    drawn, judged = generator(noise, condition), discriminator(pictures, condition)
    for row in range(4):
        other = condition.clone()
        other[row] += 1
        for before, after in ((drawn, generator(noise, other)), (judged, discriminator(pictures, other))):
            changed = [k for k in range(4) if not torch.allclose(before[k], after[k], atol=1e-5)]
            assert changed == [row]  # that row, and no other
    assert not torch.allclose(generator(noise + 1, condition), drawn, atol=1e-3)
    assert not torch.allclose(discriminator(1 - pictures, condition), judged, atol=1e-3)
    assert not torch.allclose(generator(noise, condition, present), drawn, atol=1e-3)


def test_every_block_hears_noise_and_condition() -> None:
    generator, _ = build()
    noise, _, condition, _ = inputs()
    with torch.no_grad():
        generator.start.weight.zero_()  # what is left comes through the blocks
    drawn = generator(noise, condition)
    assert not torch.allclose(generator(noise + 1, condition), drawn, atol=1e-3)
    assert not torch.allclose(generator(noise, condition + 1), drawn, atol=1e-3)


@pytest.mark.parametrize("player", [0, 1])
def test_what_stands_in_an_absent_condition_changes_nothing(player: int) -> None:
    network, x = build()[player], inputs()[player]
    _, _, condition, present = inputs()

    def run(condition: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        network.zero_grad()
        condition = condition.clone().requires_grad_()
        output = network(x, condition, present)
        output.square().sum().backward()
        return output.detach(), condition.grad, [p.grad.clone() for p in network.parameters()]

    spoilt = condition.clone()
    spoilt[~present] = torch.nan
    (output, _, gradients), (other, reached, others) = run(condition), run(spoilt)
    assert torch.equal(output, other) and output.isfinite().all()
    assert all(map(torch.equal, gradients, others))
    assert not reached[~present].any() and reached[present].any(dim=1).all()
    assert network.condition.absent.grad.any()


def test_a_learned_vector_stands_in() -> None:
    condition = Condition(5, 7)
    nn.init.normal_(condition.absent)
    given = torch.randn(3, 5)
    found = condition(given, torch.tensor([True, False, True]))
    assert torch.equal(found[1], condition.absent) and torch.equal(found[::2], condition(given)[::2])


@pytest.mark.parametrize("player", [0, 1])
def test_all_parameters_learn_and_samples_are_independent(player: int) -> None:
    network, x = build()[player], inputs()[player]
    _, _, condition, present = inputs()
    output = network(x, condition, present)
    output.square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []
    for row in range(4):
        alone = network(x[row : row + 1], condition[row : row + 1], present[row : row + 1])
        assert torch.allclose(alone, output[row : row + 1], atol=1e-5)


@pytest.mark.parametrize("player", [0, 1])
def test_extreme_inputs_stay_finite_in_bfloat16(player: int) -> None:
    network, x = build()[player], inputs()[player]
    _, _, condition, present = inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network(x, 1e6 * condition, present).isfinite().all()


def test_spectral_norm_is_the_largest_singular_value() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten(), nn.Linear(24, 5), nn.ReLU(), nn.Linear(5, 2, bias=False))
    plain = {name: p.detach().clone() for name, p in network.named_parameters() if name.endswith("weight")}
    normalise_spectrally(network)
    for _ in range(200):  # one power iteration each
        network(torch.randn(1, 3, 4, 4))
    for name, weight in plain.items():
        matrix = network.get_submodule(name.removesuffix(".weight")).weight.flatten(1)
        largest = torch.linalg.svdvals(weight.flatten(1))[0]
        assert torch.allclose(matrix, weight.flatten(1) / largest, atol=1e-4)
        assert torch.linalg.svdvals(matrix)[0].item() == pytest.approx(1.0, abs=1e-4)


def test_spectral_norm_can_be_left_out() -> None:
    kinds = [
        {name for name, _ in build(spectral=spectral)[1].named_parameters() if "original" in name}
        for spectral in (True, False)
    ]
    assert len(kinds[0]) == 2 + 3 and kinds[1] == set()  # two convolutions, φ, the score, the condition


def test_conditions_that_do_not_fit() -> None:
    noise, pictures, condition, _ = inputs()
    asked, free = build(), build(condition_dim=0)
    with pytest.raises(ValueError, match="found none; expected one of width 5"):
        asked[0](noise)
    with pytest.raises(ValueError, match=r"found one of shape \(4, 5\); expected no condition"):
        free[1](pictures, condition)
