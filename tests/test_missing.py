"""mmlearn.missing: what stands in an absent modality changes no output and gets no gradient."""

import pytest
import torch
from torch import Tensor

from mmlearn.missing import MissingEmbedding, order_modalities, where_present, zero_missing

PRESENT = torch.tensor([True, False, True])


@pytest.mark.parametrize("junk", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("shape", [(3, 2), (3, 4, 2)])
def test_junk_reaches_neither_values_nor_gradients(shape: tuple[int, ...], junk: float) -> None:
    x = torch.ones(shape)
    x[1] = junk
    for hide in (zero_missing, lambda x, present: where_present(present, x, 0.0)):
        given = x.clone().requires_grad_()
        hidden = hide(given, PRESENT)
        assert torch.equal(hidden.detach(), torch.where(PRESENT.view(-1, *[1] * (x.ndim - 1)), 1.0, 0.0).expand(shape))
        (hidden.square().sum()).backward()
        assert given.grad is not None and torch.equal(given.grad[1], torch.zeros(shape[1:]))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.long, torch.float16, torch.bfloat16, torch.float64])
def test_zeros_keep_the_type(dtype: torch.dtype) -> None:
    found = zero_missing(torch.full((3, 2), 7, dtype=dtype), PRESENT)
    assert found.dtype == dtype and found.tolist() == [[7, 7], [0, 0], [7, 7]]


def test_steps_are_hidden_one_by_one_and_a_vector_stands_in() -> None:
    x, real = torch.ones(2, 3, 2), torch.tensor([[True, False, True], [False, False, True]])
    found = where_present(real, x, torch.tensor([5.0, 6.0], dtype=torch.float64))
    assert found.dtype == torch.float32
    for b in range(2):
        for n in range(3):
            assert found[b, n].tolist() == ([1, 1] if real[b, n] else [5, 6])
    assert where_present(None, x, 0.0) is x


def test_modalities_come_in_the_order_of_names() -> None:
    a, b = torch.ones(3, 2), torch.zeros(3, 1)
    features, present = order_modalities(["b", "a"], {"a": a, "c": a, "b": b}, None)
    assert list(features) == ["b", "a"] and features["a"] is a and list(present.items()) == [("b", None), ("a", None)]
    everywhere = torch.ones(3, dtype=torch.bool)
    _, present = order_modalities(["b", "a"], {"a": a, "b": b}, {"a": PRESENT, "b": everywhere})
    assert list(present) == ["b", "a"] and present["a"] is PRESENT


def test_errors_name_what_is_lacking() -> None:
    x: dict[str, Tensor] = {"a": torch.ones(2, 1), "b": torch.ones(2, 1)}
    with pytest.raises(ValueError, match=r"features lack \['c'\]; expected \['a', 'c'\]"):
        order_modalities(["a", "c"], x, None)
    with pytest.raises(ValueError, match=r"present lacks \['b'\]"):
        order_modalities(["a", "b"], x, {"a": torch.ones(2, dtype=torch.bool)})
    gone = torch.tensor([True, False])
    with pytest.raises(ValueError, match=r"sample"):
        order_modalities(["a", "b"], x, {"a": gone, "b": gone})


def test_stand_ins_begin_at_zero_and_do_not_depend_on_the_order_of_keys() -> None:
    one, other = MissingEmbedding({"b": 2, "a": 3}), MissingEmbedding({"a": 3, "b": 2})
    assert list(one.state_dict()) == list(other.state_dict()) == ["a", "b"]
    assert one["a"].shape == (3,) and not one["b"].any() and one["b"].requires_grad
