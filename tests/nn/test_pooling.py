"""AttentionPool against its formula, and what masks do."""

import torch
from torch.autograd import gradcheck

from mmlearn.nn import AttentionPool, PositionwisePool


def test_equals_the_formula_in_the_open() -> None:
    pool = AttentionPool(3)
    x = torch.randn(2, 4, 3)
    for sample, pooled in zip(x, pool(x), strict=True):
        scores = [float(step @ pool.score.weight[0].detach()) for step in sample]
        weights = torch.tensor(scores).exp() / torch.tensor(scores).exp().sum()
        assert torch.allclose(pooled, (weights[:, None] * sample).sum(0), atol=1e-6)


def test_padding_changes_nothing_and_nothing_real_stays_finite() -> None:
    pool = AttentionPool(3)
    x = torch.randn(2, 6, 3)
    mask = torch.tensor([[True] * 4 + [False] * 2, [False] * 6])
    assert torch.allclose(pool(x, mask)[0], pool(x[:1, :4])[0], atol=1e-6)
    assert pool(x, mask)[1].isfinite().all()


def test_gradients() -> None:
    pool = AttentionPool(3).double()
    mask = torch.tensor([[True, True, False]])
    assert gradcheck(lambda x: pool(x, mask), (torch.randn(1, 3, 3, dtype=torch.float64, requires_grad=True),))


def test_ordered_pool_is_a_sum_over_places() -> None:
    pool = PositionwisePool(3, steps=4, width=2)
    x = torch.randn(5, 4, 3)
    weights = pool.mix.weight.view(3, 4, 2)  # (out, place, narrow)
    expected = sum(pool.narrow(x[:, n]) @ weights[:, n].T for n in range(4)) + pool.mix.bias
    assert torch.allclose(pool(x), expected, atol=1e-6)
    assert not torch.allclose(pool(x), pool(x.flip(1)), atol=1e-3)  # place matters


def test_ordered_pool_forgets_padding() -> None:
    pool = PositionwisePool(3, steps=4)
    x = torch.randn(1, 4, 3)
    mask = torch.tensor([[True, True, False, False]])
    spoilt = x.clone()
    spoilt[:, 2:] = torch.nan
    assert torch.equal(pool(spoilt, mask), pool(x, mask))
