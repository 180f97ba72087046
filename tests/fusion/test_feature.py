"""Feature-level fusion against closed forms; the laws that all fusions share are in test_laws.py."""

import itertools

import pytest
import torch

from mmlearn.fusion import (
    ConcatFusion,
    FiLMFusion,
    GatedFusion,
    LateFusion,
    LowRankTensorFusion,
    ProductFusion,
    SumFusion,
    TensorFusion,
)
from tests.fusion.methods import DIMS, build, make_features, some_present

NAMES = sorted(DIMS)


def with_one(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([x, torch.ones(len(x), 1)], dim=1)


def test_concatenation_and_a_linear_layer_is_a_sum_of_linear_layers() -> None:
    fusion, features = ConcatFusion(DIMS, dim=6), make_features("concat")
    parts = fusion.mix.weight.split([DIMS[name] for name in NAMES], dim=1)
    total = SumFusion(DIMS, dim=6)
    with torch.no_grad():
        total.bias.copy_(fusion.mix.bias)
        for name, part in zip(NAMES, parts, strict=True):
            total.project[name].weight.copy_(part)
    assert torch.allclose(fusion(features), total(features), atol=1e-6)


def test_absent_is_replaced_by_the_learned_vector() -> None:
    fusion, features = ConcatFusion(DIMS), make_features("concat")
    torch.nn.init.normal_(fusion.absent["audio"])
    present = {name: torch.ones(5, dtype=torch.bool) for name in DIMS}
    present["audio"][2] = False
    features["audio"][2] = torch.nan
    expected = dict(features, audio=features["audio"].clone())
    expected["audio"][2] = fusion.absent["audio"]
    assert torch.equal(fusion(features, present), fusion(expected))


def test_a_sum_keeps_its_size_when_a_part_is_absent() -> None:
    fusion = SumFusion(dict.fromkeys(NAMES, 4), dim=4)
    for name in NAMES:
        torch.nn.init.eye_(fusion.project[name].weight)
    same = torch.randn(5, 4)  # three times the same vector: with two left, the sum is still three times it
    assert torch.allclose(fusion(dict.fromkeys(NAMES, same), some_present()), 3 * same, atol=1e-6)


def test_product_by_hand() -> None:
    fusion, features, present = build("product"), make_features("product"), some_present()
    assert isinstance(fusion, ProductFusion)
    for row in range(5):
        factor = torch.ones(6)
        for name in NAMES:
            if present[name][row]:
                factor = factor * fusion.project[name](features[name][row]).tanh()
        assert torch.allclose(fusion(features, present)[row], fusion.mix(factor), atol=1e-6)


def test_gates_of_two_are_the_papers() -> None:
    names = ["audio", "video"]
    fusion, features = build("gated", names=names), make_features("gated")
    assert isinstance(fusion, GatedFusion)
    both = torch.cat([features[name] for name in names], dim=1)
    weight, bias = (part[:6] - part[6:] for part in (fusion.gate.weight, fusion.gate.bias))
    gate = (both @ weight.T + bias).sigmoid()  # Arevalo et al. 2017, equation 4
    values = [fusion.project[name](features[name]).tanh() for name in names]
    assert torch.allclose(fusion(features), gate * values[0] + (1 - gate) * values[1], atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_saturated_gate_is_that_modality(name: str) -> None:
    fusion, features = build("gated"), make_features("gated")
    with torch.no_grad():
        fusion.gate.weight.zero_()
        fusion.gate.bias.view(3, 6)[NAMES.index(name)] = 1e4
    assert torch.allclose(fusion(features), fusion.project[name](features[name]).tanh())
    gates = fusion.weigh(features)[1]
    assert torch.equal(gates[name], torch.ones(5, 6))


def test_gates_sum_to_one_over_what_is_present() -> None:
    fusion, present = build("gated"), some_present()
    gates = fusion.weigh(make_features("gated"), present)[1]
    assert torch.allclose(sum(gates.values()), torch.ones(5, 6))
    for name in NAMES:
        assert not gates[name][~present[name]].any()


def test_film_without_conditions_is_the_identity() -> None:
    fusion = FiLMFusion({"video": 6, "audio": 2}, dim=6, target="video")
    features = {"video": torch.randn(5, 6), "audio": torch.randn(5, 2)}
    with torch.no_grad():
        fusion.project.weight.copy_(torch.eye(6))
        fusion.project.bias.zero_()
        fusion.modulate["audio"].weight.zero_()  # γ = 1, β = 0
    assert torch.equal(fusion(features), features["video"])
    torch.nn.init.normal_(fusion.modulate["audio"].weight)
    nobody = {"video": torch.ones(5, dtype=torch.bool), "audio": torch.zeros(5, dtype=torch.bool)}
    assert torch.equal(fusion(features, nobody), features["video"])
    gamma, beta = fusion.modulate["audio"](features["audio"]).chunk(2, dim=1)
    assert torch.allclose(fusion(features), (1 + gamma) * features["video"] + beta, atol=1e-6)


def test_tensor_fusion_is_the_outer_product() -> None:
    fusion, features = build("tensor"), make_features("tensor")
    assert isinstance(fusion, TensorFusion)
    a, t, v = (with_one(fusion.narrow[name](features[name])) for name in NAMES)
    product = torch.einsum("ba,bt,bv->batv", a, t, v)
    assert torch.allclose(fusion(features), fusion.mix(product.flatten(1)), atol=1e-5)


def test_tensor_fusion_without_one_modality_is_that_of_the_others() -> None:
    fusion, features = build("tensor"), make_features("tensor")
    present = {name: torch.full((5,), name != "audio") for name in NAMES}
    t, v = (with_one(fusion.narrow[name](features[name])) for name in ("text", "video"))
    weight = fusion.mix.weight.view(6, 4, 4, 4)[:, -1]  # where audio's factor is its 1
    expected = torch.einsum("dtv,bt,bv->bd", weight, t, v) + fusion.mix.bias
    assert torch.allclose(fusion(features, present), expected, atol=1e-5)


def test_low_rank_equals_the_dense_tensor() -> None:
    fusion, features = build("low-rank").double(), make_features("low-rank", dtype=torch.float64)
    assert isinstance(fusion, LowRankTensorFusion)
    dense = torch.zeros(6, *(DIMS[name] + 1 for name in NAMES), dtype=torch.float64)
    for r in range(fusion.rank):
        columns = [
            torch.cat([f.weight, f.bias[:, None]], dim=1).view(fusion.rank, 6, -1)[r]  # (dim, d_m + 1)
            for f in (fusion.factors[name] for name in NAMES)
        ]
        dense += fusion.weights[r] * torch.einsum("da,dt,dv->datv", *columns)
    vectors = [torch.cat([features[name], torch.ones(5, 1, dtype=torch.float64)], dim=1) for name in NAMES]
    expected = torch.einsum("datv,ba,bt,bv->bd", dense, *vectors) + fusion.bias
    assert torch.allclose(fusion(features), expected, atol=1e-10)


def test_full_factors_reach_any_dense_tensor() -> None:
    """With one term for each pair of coordinates, low rank is no restriction."""
    dims = {"audio": 2, "video": 3}
    dense = torch.randn(6, 3, 4, dtype=torch.float64)  # (dim, 2 + 1, 3 + 1)
    fusion = LowRankTensorFusion(dims, dim=6, rank=12).double()
    with torch.no_grad():
        fusion.weights.fill_(1.0)
        for r, (i, j) in enumerate(itertools.product(range(3), range(4))):
            rows = slice(6 * r, 6 * r + 6)
            for name, column, values in (("audio", i, dense[:, i, j]), ("video", j, torch.ones(6).double())):
                factor = fusion.factors[name]
                whole = torch.zeros(6, dims[name] + 1, dtype=torch.float64)
                whole[:, column] = values
                factor.weight[rows], factor.bias[rows] = whole[:, :-1], whole[:, -1]
    features = {name: torch.randn(5, dim, dtype=torch.float64) for name, dim in dims.items()}
    vectors = [torch.cat([features[name], torch.ones(5, 1, dtype=torch.float64)], dim=1) for name in dims]
    assert torch.allclose(fusion(features), torch.einsum("dav,ba,bv->bd", dense, *vectors), atol=1e-6)


@pytest.mark.parametrize("how", ["mean", "product", "weighted"])
def test_late_fusion_by_hand(how: str) -> None:
    fusion, features, present = build(f"late, {how}"), make_features(f"late, {how}"), some_present()
    assert isinstance(fusion, LateFusion)
    output = fusion(features, present)
    assert torch.allclose(output.exp().sum(dim=1), torch.ones(5), atol=1e-6)
    for row in range(5):
        there = [k for k, name in enumerate(NAMES) if present[name][row]]
        chances = torch.stack([fusion.heads[NAMES[k]](features[NAMES[k]][row]).softmax(0) for k in there])
        if how == "mean":
            expected = chances.mean(dim=0)
        else:
            exponents = fusion.exponents[there] if how == "weighted" else torch.ones(len(there))
            expected = (chances ** exponents[:, None]).prod(dim=0)
            expected = expected / expected.sum()
        assert torch.allclose(output[row].exp(), expected, atol=1e-6)


def test_a_product_of_independent_witnesses_is_bayes_rule() -> None:
    """Two classes, equally likely; witnesses right in .8 and .7 of the cases, independently of each other."""
    fusion = LateFusion({"a": 2, "b": 2}, dim=2)
    for head in fusion.heads.values():
        torch.nn.init.eye_(head.weight)
        torch.nn.init.zeros_(head.bias)
    said = {"a": torch.tensor([[0.8, 0.2]]).log(), "b": torch.tensor([[0.7, 0.3]]).log()}
    assert fusion(said).exp()[0, 0].item() == pytest.approx(0.8 * 0.7 / (0.8 * 0.7 + 0.2 * 0.3))


def test_unfit_arguments() -> None:
    with pytest.raises(ValueError, match="target is 'smell'"):
        FiLMFusion(DIMS, target="smell")
    with pytest.raises(ValueError, match="how is 'vote'"):
        LateFusion(DIMS, 3, how="vote")  # type: ignore[arg-type]
