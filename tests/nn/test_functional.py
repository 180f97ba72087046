import pytest
import torch

from mmlearn.nn.functional import at_least_float32, standardize, to_float32


@pytest.mark.parametrize(
    ("given", "kept"),
    [("bfloat16", "float32"), ("float16", "float32"), ("float32", "float32"), ("float64", "float64")],
)
def test_at_least_float32(given: str, kept: str) -> None:
    x = torch.tensor([1.0, -2.5], dtype=getattr(torch, given))
    assert at_least_float32(x) == to_float32(x).dtype == getattr(torch, kept)
    assert to_float32(x).tolist() == [1.0, -2.5]


def test_gradients_come_back_in_the_narrow_type() -> None:
    x = torch.tensor([0.5, 3.0], dtype=torch.bfloat16, requires_grad=True)
    to_float32(x).square().sum().backward()
    assert x.grad.dtype == torch.bfloat16 and x.grad.tolist() == [1.0, 6.0]


def test_standardise_each_sample_by_what_is_real() -> None:
    torch.manual_seed(0)
    x = 5 + 3 * torch.randn(3, 4, 10)
    mask = torch.arange(10) < torch.tensor([[10], [6], [0]])
    for row, length in enumerate((10, 6)):
        real = x[row, :, :length]
        expected = (real - real.mean()) / (real.std(correction=0) + 1e-3)
        assert torch.allclose(standardize(x, mask)[row, :, :length], expected, atol=1e-5)
    assert torch.allclose(standardize(x)[0], standardize(x, mask)[0], atol=1e-5)
    assert not standardize(x, mask)[2].any()
