"""The laws of every fusion: what is absent does nothing, order does nothing, samples are alone, everything learns."""

from typing import Any

import pytest
import torch
from torch.autograd import gradcheck

from tests.fusion.methods import ALL, DIMS, STEPS, TOKENS, build, make_features, some_mask, some_present

NEEDS_OTHERS = {"cross", "cross from video", "co", "film on text", "tree, text first"}
every = pytest.mark.parametrize("method", list(ALL))


def extras(method: str, size: int = 5) -> dict[str, Any]:
    return {"mask": some_mask(size)} if method in TOKENS else {}


@every
@pytest.mark.parametrize("junk", [float("nan"), float("inf"), 1e30])
def test_what_stands_in_an_absent_modality_changes_nothing(method: str, junk: float) -> None:
    module, features, present = build(method), make_features(method), some_present()

    def run(x: dict[str, torch.Tensor]) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        leaves = [tensor.detach().requires_grad_() for tensor in x.values()]
        output = module(dict(zip(x, leaves, strict=True)), present, **extras(method))
        return output, torch.autograd.grad(output.square().sum(), [*leaves, *module.parameters()], allow_unused=True)

    output, gradients = run(features)
    spoilt = {name: tensor.clone() for name, tensor in features.items()}
    for name, tensor in spoilt.items():
        tensor[~present[name]] = junk
    spoilt_output, spoilt_gradients = run(spoilt)
    assert torch.equal(output, spoilt_output)
    assert output.isfinite().all()
    for gradient, other in zip(gradients, spoilt_gradients, strict=True):
        assert torch.equal(gradient, other)
    for name, gradient in zip(features, spoilt_gradients, strict=False):
        assert not gradient[~present[name]].any()  # nothing flows into what is absent
        assert gradient[present[name]].any()  # but it does into what is there


@pytest.mark.parametrize("method", list(TOKENS))
def test_padding_changes_nothing(method: str) -> None:
    module, features, mask = build(method), make_features(method), some_mask()
    output = module(features, mask=mask)
    spoilt = {name: tensor.clone() for name, tensor in features.items()}
    for name, real in mask.items():
        spoilt[name][~real] = torch.nan
    assert torch.equal(module(spoilt, mask=mask), output)
    longer = {name: torch.nn.functional.pad(x, (0, 0, 0, 3), value=9.0) for name, x in features.items()}
    real = {name: mask.get(name, torch.ones(5, STEPS[name], dtype=torch.bool)) for name in DIMS}
    longer_mask = {name: torch.nn.functional.pad(keep, (0, 3)) for name, keep in real.items()}
    assert torch.allclose(module(longer, mask=longer_mask), output, atol=1e-5)


@every
def test_order_of_keys_does_not_matter(method: str) -> None:
    features, present = make_features(method), some_present()
    output = build(method)(features, present)
    for names in (["text", "video", "audio"], ["audio", "text", "video"]):
        other = build(method, names=names)
        assert torch.equal(other({n: features[n] for n in names}, {n: present[n] for n in reversed(names)}), output)


@every
def test_samples_are_independent(method: str) -> None:
    module, features, present = build(method), make_features(method), some_present()
    output = module(features, present)
    for row in range(5):
        alone = module(
            {n: x[row : row + 1] for n, x in features.items()}, {n: p[row : row + 1] for n, p in present.items()}
        )
        assert torch.allclose(alone, output[row : row + 1], atol=1e-5)


@every
def test_each_modality_matters(method: str) -> None:
    module, features = build(method), make_features(method)
    output = module(features)
    assert output.shape == (5, module.out_dim) == (5, 6)
    for name in DIMS:
        assert not torch.allclose(module(features | {name: features[name] + 1.0}), output, atol=1e-4)
        absent = {other: torch.full((5,), other != name) for other in DIMS}
        assert not torch.allclose(module(features, absent), output, atol=1e-4)


@every
def test_all_present_is_the_same_as_not_saying_so(method: str) -> None:
    module, features = build(method), make_features(method)
    everything = {name: torch.ones(5, dtype=torch.bool) for name in DIMS}
    assert torch.allclose(module(features), module(features, everything), atol=1e-5)


@pytest.mark.parametrize("method", [m for m in ALL if m not in NEEDS_OTHERS])
def test_one_modality_is_enough(method: str) -> None:
    module = build(method, names=["audio"])
    assert module({"audio": make_features(method)["audio"]}).isfinite().all()


@every
def test_gradients(method: str) -> None:
    module = build(method).double()
    features = {name: x.requires_grad_() for name, x in make_features(method, 3, torch.float64).items()}
    present, more = some_present(3), extras(method, 3)
    names = list(features)
    assert gradcheck(lambda *xs: module(dict(zip(names, xs, strict=True)), present, **more), tuple(features.values()))


@every
def test_all_parameters_learn_and_are_saved(method: str) -> None:
    module, features, present = build(method), make_features(method), some_present()
    module(features, present).square().sum().backward()
    assert [n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()] == []
    other = build(method, seed=1)
    assert not torch.allclose(other(features, present), module(features, present))
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(features, present), module(features, present))


@every
def test_extreme_inputs_stay_finite_in_bfloat16(method: str) -> None:
    module, present = build(method), some_present()
    features = {name: 1e8 * x for name, x in make_features(method).items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert module(features, present).isfinite().all()
    assert module.bfloat16()({name: x.bfloat16() for name, x in features.items()}, present).isfinite().all()


@every
def test_compiles_and_exports(method: str) -> None:
    module, features, present = build(method), make_features(method), some_present()
    output = module(features, present, **extras(method))
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(features, present, **extras(method)), output, atol=1e-5)
    exported = torch.export.export(module, (features, present), extras(method)).module()
    assert torch.allclose(exported(features, present, **extras(method)), output, atol=1e-5)


@every
def test_errors(method: str) -> None:
    module, features = build(method), make_features(method)
    with pytest.raises(ValueError, match="sample 0 has none"):
        module(features, {name: torch.zeros(5, dtype=torch.bool) for name in DIMS})
    with pytest.raises(ValueError, match=r"present lacks \['audio'\]"):
        module(features, {name: torch.ones(5, dtype=torch.bool) for name in DIMS if name != "audio"})
    del features["text"]
    with pytest.raises(ValueError, match=r"features lack \['text'\]"):
        module(features)
