"""Hierarchical fusion against closed forms; the laws that all fusions share are in test_laws.py."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmlearn.fusion import IntermediateFusion, LateralFusion, TreeFusion
from mmlearn.fusion.streams import StreamEmbedding, overlap
from tests.fusion.methods import DIMS, RATES, build, make_features


@given(st.integers(1, 9), st.floats(0.5, 30), st.integers(1, 9), st.floats(0.5, 30))
def test_overlap_is_shared_time(steps: int, rate: float, others: int, other_rate: float) -> None:
    together = overlap(steps, rate, others, other_rate).double()
    shared = min(steps / rate, others / other_rate)
    assert together.sum().item() == pytest.approx(shared, rel=1e-4)
    assert (together.sum(dim=1) <= 1 / rate + 1e-4).all()
    assert torch.allclose(together, overlap(others, other_rate, steps, rate).double().T, atol=1e-6)


def test_streams_meet_at_the_same_time() -> None:
    """Three steps a second onto one: the mean of three; and back: each three times."""
    tokens = StreamEmbedding({"fast": 2, "slow": 2}, 2, {"fast": 3.0, "slow": 1.0})
    steps = {"fast": torch.randn(2, 6, 2), "slow": torch.randn(2, 2, 2)}
    real: dict[str, torch.Tensor | None] = {"fast": None, "slow": None}
    at_slow, heard = tokens.at_steps_of("slow", "fast", steps, real)
    assert torch.allclose(at_slow, steps["fast"].view(2, 2, 3, 2).mean(dim=2), atol=1e-6)
    assert heard.all()
    at_fast, _ = tokens.at_steps_of("fast", "slow", steps, real)
    assert torch.allclose(at_fast, steps["slow"].repeat_interleave(3, dim=1), atol=1e-6)
    real["fast"] = torch.tensor([[True, True, False, False, False, False]] * 2)
    at_slow, heard = tokens.at_steps_of("slow", "fast", steps, real)
    assert torch.allclose(at_slow[:, 0], steps["fast"][:, :2].mean(dim=1), atol=1e-6)
    assert heard.tolist() == [[True, False]] * 2
    assert not at_slow[:, 1].any()


def test_without_lateral_connections_streams_do_not_know_of_each_other() -> None:
    fusion, features = LateralFusion(DIMS, dim=6, steps_per_second=RATES), make_features("lateral")
    other = features | {"audio": torch.randn_like(features["audio"])}
    width = fusion.mix.weight.shape[1] // 3
    with torch.no_grad():
        fusion.mix.weight[:, :width] = 0  # the first third is what comes out of audio's own stream
    assert torch.allclose(fusion(features), fusion(other), atol=1e-6)  # connections begin at zero
    torch.nn.init.normal_(fusion.lateral[0]["video"]["audio"].weight)
    assert not torch.allclose(fusion(features), fusion(other), atol=1e-3)


def test_fused_late_is_additive_and_fused_early_is_not() -> None:
    """Late: what one modality adds does not depend on the other. Early: it does."""
    for fuse_at, additive in ((2, True), (0, False)):
        torch.manual_seed(0)
        fusion = IntermediateFusion(DIMS, dim=6, fuse_at=fuse_at, steps_per_second=RATES)
        a, b = make_features("late"), make_features("late")
        with_a = fusion(a) - fusion(a | {"audio": b["audio"]})
        with_b = fusion(a | {"video": b["video"]}) - fusion(b | {"text": a["text"]})
        assert torch.allclose(with_a, with_b, atol=1e-5) == additive


def test_a_tree_fuses_in_the_order_given() -> None:
    tree, features = build("tree, text first"), make_features("tree")
    assert isinstance(tree, TreeFusion)
    leaf = {name: tree.leaves[name](features[name]) for name in DIMS}

    def node(number: int, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return tree.nodes[number](torch.cat([left, right], dim=1)) + (left + right) / 2

    expected = node(1, leaf["video"], node(0, leaf["text"], leaf["audio"]))
    assert torch.allclose(tree(features), expected, atol=1e-6)
    only_text = {name: torch.full((5,), name == "text") for name in DIMS}
    assert torch.allclose(tree(features, only_text), leaf["text"])
    no_audio = {name: torch.full((5,), name != "audio") for name in DIMS}
    assert torch.allclose(tree(features, no_audio), node(1, leaf["video"], leaf["text"]), atol=1e-6)


def test_unfit_arguments() -> None:
    with pytest.raises(ValueError, match="fuse_at is 3; expected 0 to depth, 2"):
        IntermediateFusion(DIMS, depth=2, fuse_at=3)
    with pytest.raises(ValueError, match="depth is 1; expected at least 2"):
        LateralFusion(DIMS, depth=1)
    with pytest.raises(ValueError, match="nested pairs that name each of"):
        TreeFusion(DIMS, order=("audio", "video"))
