"""ConcatFusion: the laws of every fusion, and concatenation + linear = a sum of linear layers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from mmlearn.fusion import ConcatFusion

DIMS = {"video": 3, "audio": 2, "text": 4}


def make_features(size: int = 5, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    return {name: torch.randn(size, dim, dtype=dtype) for name, dim in DIMS.items()}


def test_equals_a_sum_of_linear_layers() -> None:
    fusion, features = ConcatFusion(DIMS, dim=6), make_features()
    parts = fusion.mix.weight.split([DIMS[name] for name in sorted(DIMS)], dim=1)
    total = sum(features[name] @ part.T for name, part in zip(sorted(DIMS), parts, strict=True)) + fusion.mix.bias
    assert torch.allclose(fusion(features), total, atol=1e-6)
    assert fusion.out_dim == 6 == fusion(features).shape[1]


@given(st.permutations(sorted(DIMS)))
def test_key_order_does_not_matter(names: list[str]) -> None:
    torch.manual_seed(0)
    fusion = ConcatFusion(DIMS)
    torch.manual_seed(0)
    other = ConcatFusion({name: DIMS[name] for name in names})
    features = make_features()
    assert torch.equal(fusion(features), other({name: features[name] for name in names}))


def test_absent_is_replaced_by_the_learned_vector() -> None:
    fusion, features = ConcatFusion(DIMS), make_features()
    torch.nn.init.normal_(fusion.absent["audio"])
    present = {name: torch.ones(5, dtype=torch.bool) for name in DIMS}
    present["audio"][2] = False
    features["audio"][2] = torch.nan
    expected = dict(features, audio=features["audio"].clone())
    expected["audio"][2] = fusion.absent["audio"]
    assert torch.equal(fusion(features, present), fusion(expected))
    features["audio"].requires_grad_()
    fusion(features, present).sum().backward()
    assert features["audio"].grad.isfinite().all()
    assert not features["audio"].grad[2].any()
    assert fusion.absent["audio"].grad.any()


def test_gradients() -> None:
    fusion = ConcatFusion(DIMS, dim=3).double()
    features = {name: feature.requires_grad_() for name, feature in make_features(2, torch.float64).items()}
    present = {name: torch.tensor([True, name == "text"]) for name in DIMS}
    names = list(features)
    assert gradcheck(lambda *xs: fusion(dict(zip(names, xs, strict=True)), present), tuple(features.values()))


def test_errors() -> None:
    fusion, features = ConcatFusion(DIMS), make_features()
    with pytest.raises(ValueError, match="sample 0 has none"):
        fusion(features, {name: torch.zeros(5, dtype=torch.bool) for name in DIMS})
    del features["text"]
    with pytest.raises(ValueError, match=r"features lack \['text'\]"):
        fusion(features)
