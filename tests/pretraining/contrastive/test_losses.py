"""Contrastive losses against brute force in float64 and closed forms; what is absent, repeated, blockwise, gathered."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn.functional import cross_entropy, normalize

from mmlearn.pretraining.contrastive.losses import ContrastiveLoss, info_nce, siglip_loss
from tests.pretraining.contrastive.conftest import unit


def one_way(a: Tensor, b: Tensor, scale: float, pairs: Tensor, present: Tensor) -> list[float]:
    """Losses of the rows that are present and have a positive, number by number."""
    losses = []
    who = [i for i in range(len(a)) if present[i]]
    for i in who:
        s = {j: scale * float(a[i] @ b[j]) for j in who}
        total = math.log(sum(math.exp(value) for value in s.values()))
        found = [total - s[j] for j in who if pairs[i, j]]
        if found:
            losses.append(sum(found) / len(found))
    return losses


def brute(a: Tensor, b: Tensor, scale: float, pairs: Tensor, present: Tensor) -> float:
    rows, columns = one_way(a, b, scale, pairs, present), one_way(b, a, scale, pairs.T, present)
    return (sum(rows) / max(len(rows), 1) + sum(columns) / max(len(columns), 1)) / 2


@given(st.integers(1, 7), st.floats(0.1, 30), st.sampled_from(["none", "ids", "matrix"]), st.booleans(), st.booleans())
@settings(max_examples=80)
def test_equals_brute_force(size: int, scale: float, kind: str, gaps: bool, block: bool) -> None:
    a, b = unit(size, 4), unit(size, 4)
    present = torch.rand(size) < 0.6 if gaps else torch.ones(size, dtype=torch.bool)
    ids = torch.randint(3, (size,))
    given = {"none": None, "ids": ids, "matrix": torch.rand(size, size) < 0.4}[kind]
    pairs = {"none": torch.eye(size, dtype=torch.bool), "ids": ids[:, None] == ids, "matrix": given}[kind]
    block_size = 3 if block and kind != "matrix" else None
    result = info_nce(a, b, scale, present=present if gaps else None, positives=given, block_size=block_size)
    assert float(result) == pytest.approx(brute(a, b, scale, pairs, present), abs=1e-9)


def test_orthogonal_and_equal_embeddings_by_hand() -> None:
    for size in (1, 2, 8):
        for scale in (0.0, 1.0, 14.3):
            eye = torch.eye(8, dtype=torch.float64)[:size]
            apart = math.log(1 + (size - 1) * math.exp(-scale))
            assert float(info_nce(eye, eye, scale)) == pytest.approx(apart, abs=1e-9)
            same = eye[:1].expand(size, -1)
            assert float(info_nce(same, same, scale)) == pytest.approx(math.log(size), abs=1e-9)
            if size == 2:  # each is given the other's partner
                wrong = math.log(1 + math.exp(scale))
                assert float(info_nce(eye, eye.flip(0), scale)) == pytest.approx(wrong, abs=1e-9)


def test_equals_clips_own_pseudocode() -> None:
    """Radford et al. 2021, figure 3: two cross-entropies with the sample's number as label."""
    a, b, labels = unit(9, 5), unit(9, 5), torch.arange(9)
    logits = 20 * a @ b.T
    expected = (cross_entropy(logits, labels) + cross_entropy(logits.T, labels)) / 2
    assert torch.allclose(info_nce(a, b, 20.0), expected)


def test_repeated_sentences_are_not_negatives() -> None:
    """Vectors are learned for four pairs, of which two say the same: are those taken for each other?"""
    torch.manual_seed(0)
    start, ids, taken = torch.randn(2, 4, 4), torch.tensor([5, 5, 7, 9]), {}
    for name, positives in {"as negatives": None, "as positives": ids}.items():
        x = start.clone().requires_grad_()
        optimizer = torch.optim.Adam([x], lr=0.05)
        for _ in range(200):
            optimizer.zero_grad()
            a, b = normalize(x, dim=-1)
            info_nce(a, b, 10.0, positives=positives).backward()
            optimizer.step()
        taken[name] = (10 * a @ b.T).softmax(dim=1)[0, :2].tolist()
    assert taken["as positives"] == pytest.approx([0.5, 0.5], abs=0.02)
    assert taken["as negatives"] == pytest.approx([1, 0], abs=0.02)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("block_size", [None, 2])
def test_gradients(reduction: str, block_size: int | None) -> None:
    a, b = (unit(5, 3).requires_grad_() for _ in range(2))
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    ids, present = torch.tensor([0, 1, 0, 2, 1]), torch.tensor([True, True, True, False, True])

    def loss(a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
        return info_nce(a, b, scale, present=present, positives=ids, reduction=reduction, block_size=block_size)

    assert gradcheck(loss, (a, b, scale))
    assert gradcheck(lambda a, b, s: info_nce(a, b, s, block_size=block_size), (a, b, scale))
    bias = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
    matrix = torch.rand(5, 5) < 0.5
    for positives in (None, ids, matrix):
        assert gradcheck(
            lambda *x, p=positives: siglip_loss(*x, present=present, positives=p, reduction=reduction),
            (a, b, scale, bias),
        )


@given(st.integers(2, 8), st.sampled_from([None, 3]), st.booleans())
@settings(max_examples=30)
def test_what_is_absent_changes_nothing(size: int, block_size: int | None, repeated: bool) -> None:
    present = torch.rand(size) < 0.6
    a, b = unit(size, 4), unit(size, 4)
    ids = torch.randint(3, (size,)) if repeated else None
    spoilt = [torch.where(present[:, None], x, torch.nan).requires_grad_() for x in (a, b)]
    scale = torch.tensor(7.0, dtype=torch.float64, requires_grad=True)
    loss = info_nce(*spoilt, scale, present=present, positives=ids, block_size=block_size)
    kept = [x[present].requires_grad_() for x in (a, b)]
    scale_kept = torch.tensor(7.0, dtype=torch.float64, requires_grad=True)
    if not present.any():
        assert loss == 0
        loss.backward()
        assert not spoilt[0].grad.any()
        return
    expected = info_nce(*kept, scale_kept, positives=None if ids is None else ids[present])
    assert torch.allclose(loss, expected)
    loss.backward()
    expected.backward()
    for x, y in zip(spoilt, kept, strict=True):
        assert torch.allclose(x.grad[present], y.grad)
        assert not x.grad[~present].any()
    assert torch.allclose(scale.grad, scale_kept.grad)
    each = info_nce(*spoilt, scale, present=present, positives=ids, block_size=block_size, reduction="none")
    assert not each[~present].any()
    assert torch.allclose(each.sum() / present.sum(), expected)


@given(st.integers(1, 6), st.booleans(), st.sampled_from(["none", "ids", "matrix"]))
@settings(max_examples=30)
def test_sigmoid_loss_equals_its_formula(size: int, gaps: bool, kind: str) -> None:
    a, b = unit(size, 4), unit(size, 4)
    present = torch.rand(size) < 0.6 if gaps else torch.ones(size, dtype=torch.bool)
    ids = torch.randint(3, (size,))
    given = {"none": None, "ids": ids, "matrix": torch.rand(size, size) < 0.4}[kind]
    pairs = {"none": torch.eye(size, dtype=torch.bool), "ids": ids[:, None] == ids, "matrix": given}[kind]
    total = 0.0
    for i in range(size):
        for j in range(size):
            if present[i] and present[j]:
                z = 1 if pairs[i, j] else -1
                total += math.log(1 + math.exp(-z * (10 * float(a[i] @ b[j]) - 3)))
    spoilt = [torch.where(present[:, None], x, torch.nan).requires_grad_() for x in (a, b)]
    loss = siglip_loss(*spoilt, 10.0, -3.0, present=present if gaps else None, positives=given)
    assert loss.item() == pytest.approx(total / max(int(present.sum()), 1), abs=1e-9)
    loss.backward()
    assert spoilt[0].grad.isfinite().all()
    assert not spoilt[0].grad[~present].any()
    summed = siglip_loss(*spoilt, 10.0, -3.0, present=present if gaps else None, positives=given, reduction="sum")
    assert summed.item() == pytest.approx(total, abs=1e-9)


def test_errors_name_what_was_found() -> None:
    a = torch.randn(3, 4)
    with pytest.raises(ValueError, match=r"a is \(3, 4\) and b \(2, 4\)"):
        info_nce(a, a[:2], 1.0)
    with pytest.raises(ValueError, match=r"present is torch.int64 \(3,\)"):
        info_nce(a, a, 1.0, present=torch.ones(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"positives is torch.float32 \(3,\)"):
        info_nce(a, a, 1.0, positives=torch.ones(3))
    with pytest.raises(ValueError, match="positives is a matrix; expected ids"):
        info_nce(a, a, 1.0, positives=torch.eye(3, dtype=torch.bool), block_size=2)
    with pytest.raises(ValueError, match="reduction is 'median'"):
        siglip_loss(a, a, 1.0, 0.0, reduction="median")
    with pytest.raises(ValueError, match="block_size is -1; expected at least 1"):
        info_nce(a, a, 1.0, block_size=-1)
    with pytest.raises(ValueError, match="expected at least two modalities"):
        ContrastiveLoss()({"a": a})
    with pytest.raises(ValueError, match=r"present lacks \['b'\]"):
        ContrastiveLoss()({"a": a, "b": a}, {"a": torch.ones(3, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"init_temperature is 0\.001; expected at least 1 / max_scale, 0\.01"):
        ContrastiveLoss(init_temperature=0.001)
