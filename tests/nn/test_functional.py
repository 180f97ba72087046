import pytest
import torch

from mmlearn.nn.functional import precise, wide


@pytest.mark.parametrize(
    ("given", "kept"),
    [("bfloat16", "float32"), ("float16", "float32"), ("float32", "float32"), ("float64", "float64")],
)
def test_at_least_float32(given: str, kept: str) -> None:
    x = torch.tensor([1.0, -2.5], dtype=getattr(torch, given))
    assert wide(x) == precise(x).dtype == getattr(torch, kept)
    assert precise(x).tolist() == [1.0, -2.5]


def test_gradients_come_back_in_the_narrow_type() -> None:
    x = torch.tensor([0.5, 3.0], dtype=torch.bfloat16, requires_grad=True)
    precise(x).square().sum().backward()
    assert x.grad.dtype == torch.bfloat16 and x.grad.tolist() == [1.0, 6.0]
