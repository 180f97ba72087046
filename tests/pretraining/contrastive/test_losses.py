"""Contrastive losses against brute force in float64 and closed forms; what is absent, repeated, blockwise, gathered."""

import json
import math
import os
import socket
import subprocess
import sys
from itertools import accumulate
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn.functional import cross_entropy, normalize
from torch.profiler import ProfilerActivity, profile

from mmlearn.pretraining.contrastive.losses import ContrastiveLoss, SigmoidLoss, info_nce, siglip_loss
from tests.places import ROOT


def unit(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return normalize(torch.randn(*shape, dtype=dtype), dim=-1)


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
@settings(max_examples=80, deadline=None)
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


def gradients(size: int, block_size: int | None, options: dict, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    torch.manual_seed(size)
    a, b = (unit(size, 16).to(dtype).requires_grad_() for _ in range(2))
    scale = torch.tensor(14.3, requires_grad=True)
    loss = info_nce(a, b, scale, block_size=block_size, **options)
    loss.backward()
    return [loss.detach(), a.grad, b.grad, scale.grad]


@pytest.mark.parametrize("size", [1, 2, 127, 1000])
@pytest.mark.parametrize("block_size", [1, 7, 64, 5000])
@pytest.mark.parametrize("kind", ["plain", "ids", "gaps", "both"])
def test_blockwise_equals_plain(size: int, block_size: int, kind: str) -> None:
    if size == 1000 and block_size == 1:
        block_size = 333
    options = {}
    if kind in ("ids", "both"):
        options["positives"] = torch.randint(size // 3 + 1, (size,), generator=torch.Generator().manual_seed(1))
    if kind in ("gaps", "both"):
        options["present"] = torch.rand(size, generator=torch.Generator().manual_seed(2)) < 0.7
    for plain, strips in zip(gradients(size, None, options), gradients(size, block_size, options), strict=True):
        assert torch.allclose(plain, strips, atol=1e-6, rtol=1e-4)


def test_blockwise_in_bfloat16_is_as_close_to_the_truth_as_bfloat16_allows() -> None:
    exact = gradients(300, None, {}, torch.float64)
    for block_size in (None, 64):
        rough = gradients(300, block_size, {}, torch.bfloat16)
        assert rough[0].dtype == torch.float32
        assert rough[1].dtype == rough[2].dtype == torch.bfloat16
        for name, x, y in zip(("loss", "a", "b", "scale"), exact, rough, strict=True):
            assert (x - y.double()).norm() / x.norm() < 0.02, (block_size, name)


def test_autocast_reaches_the_strips() -> None:
    a, b = (unit(50, 8, dtype=torch.float32).requires_grad_() for _ in range(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, plain = info_nce(a, b, 10.0, block_size=16), info_nce(a, b, 10.0)
    assert loss.dtype == torch.float32
    assert torch.allclose(loss, plain, atol=1e-5)  # the same rounding
    loss.backward()
    assert a.grad.dtype == torch.float32
    assert a.grad.isfinite().all()


@given(st.integers(2, 8), st.sampled_from([None, 3]), st.booleans())
@settings(max_examples=30, deadline=None)
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
@settings(max_examples=30, deadline=None)
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


def test_modalities_meet_pair_by_pair() -> None:
    features = {name: 3 * torch.randn(6, 4) for name in ("video", "audio", "text")}
    present = {name: torch.rand(6) < 0.8 for name in features}
    ids = torch.tensor([0, 1, 2, 0, 1, 3])
    for criterion in (ContrastiveLoss(), ContrastiveLoss(block_size=4), SigmoidLoss()):
        expected = 0.0
        for x, y in (("audio", "text"), ("audio", "video"), ("text", "video")):
            a, b = (normalize(features[name], dim=1) for name in (x, y))
            both = present[x] & present[y]
            if isinstance(criterion, SigmoidLoss):
                expected += siglip_loss(a, b, 10.0, -10.0, present=both, positives=ids) / 3
            else:
                expected += info_nce(a, b, 1 / 0.07, present=both, positives=ids) / 3
        assert torch.allclose(criterion(features, present, ids), expected, atol=1e-5)
        assert torch.equal(criterion(dict(reversed(features.items())), present, ids), criterion(features, present, ids))


def test_the_law_of_absent_modalities_with_three() -> None:
    features = {name: torch.randn(5, 4) for name in ("video", "audio", "text")}
    present = {
        "video": torch.tensor([True, True, True, False, True]),
        "audio": torch.tensor([True, False, True, True, True]),
        "text": torch.ones(5, dtype=torch.bool),
    }
    criterion = ContrastiveLoss()
    losses = []
    for stand_in in (0.0, torch.nan, 1e30):
        spoilt = {n: torch.where(present[n][:, None], x, stand_in).requires_grad_() for n, x in features.items()}
        loss = criterion(spoilt, present)
        criterion.zero_grad()
        loss.backward()
        losses.append((loss.detach(), *(x.grad for x in spoilt.values()), criterion.log_scale.grad.clone()))
        assert all(not x.grad[~present[name]].any() for name, x in spoilt.items())
    for other in losses[1:]:
        assert all(torch.equal(x, y) for x, y in zip(losses[0], other, strict=True))


def test_the_scale_is_learned_and_kept_below_its_largest() -> None:
    criterion = ContrastiveLoss(init_temperature=0.011, max_scale=100)
    assert criterion.scale.item() == pytest.approx(1 / 0.011)
    x = torch.eye(4)
    optimizer = torch.optim.SGD(criterion.parameters(), lr=1e4)
    for _ in range(3):
        optimizer.zero_grad()
        criterion({"a": x, "b": torch.roll(x, 1, 0) + 3 * x}).backward()
        optimizer.step()
    criterion({"a": x, "b": x})
    assert float(criterion.scale.detach()) <= 100.001
    criterion.zero_grad()
    criterion({"a": x, "b": x.flip(0)}).backward()
    assert criterion.log_scale.grad > 0  # it finds its way back
    criterion.eval()
    with torch.no_grad():
        criterion.log_scale.fill_(9.0)
    criterion({"a": x, "b": x})
    assert float(criterion.log_scale.detach()) == 9.0  # evaluation changes nothing


def test_a_scale_driven_beyond_its_largest_is_brought_back() -> None:
    """Partners are nearest to each other, so one step as large as this drives the scale far beyond its largest."""
    torch.manual_seed(0)
    criterion, x = ContrastiveLoss(init_temperature=0.5, max_scale=60), torch.eye(4) + 0.5 * torch.rand(4, 4)
    optimizer = torch.optim.SGD(criterion.parameters(), lr=20.0)
    criterion({"a": x, "b": x}).backward()
    optimizer.step()
    assert float(criterion.scale.detach()) > 600  # so this test can fail
    loss = criterion({"a": x, "b": x})
    unit = x / x.norm(dim=1, keepdim=True)
    assert float(criterion.scale.detach()) == pytest.approx(60)
    assert loss.item() == pytest.approx(info_nce(unit, unit, 60.0).item())


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


WORKER = """
import sys, torch, torch.distributed as dist
from torch import nn
from mmlearn.pretraining.contrastive.losses import ContrastiveLoss, info_nce

dist.init_process_group("gloo")
rank, folder = dist.get_rank(), sys.argv[1]
inputs = torch.load(f"{folder}/inputs.pt")
own = slice(5 * rank, 5 * rank + 5)
results = {}
for name, case in inputs["cases"].items():
    torch.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(inputs["model"]())
    options = {key: value[own] if torch.is_tensor(value) else value for key, value in case.items()}
    scale = torch.tensor(5.0, requires_grad=True)
    a, b = model(inputs["x"][own]).chunk(2, dim=1)
    loss = info_nce(a, b, scale, gather=True, **options)
    loss.backward()
    dist.all_reduce(scale.grad)
    results[name] = [loss.detach(), *(p.grad for p in model.parameters()), scale.grad / 2]
torch.save(results, f"{folder}/results{rank}.pt")
dist.destroy_process_group()
"""


def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x, ids = torch.randn(10, 6), torch.tensor([0, 1, 2, 0, 3, 1, 4, 0, 5, 2])
    present = torch.tensor([True, False, True, True, True, True, True, False, True, True])
    first_gone = torch.arange(10) >= 5  # all samples of one process are absent
    cases = {
        "plain": {},
        "blocks": {"block_size": 3},
        "ids": {"positives": ids},
        "gaps": {"present": present},
        "all": {"positives": ids, "present": present, "block_size": 2},
        "one empty": {"present": first_gone},
        "one empty, blocks": {"present": first_gone, "positives": ids, "block_size": 2},
        "sum": {"reduction": "sum"},
    }
    torch.save({"x": x, "cases": cases}, tmp_path / "inputs.pt")
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER.replace('inputs["model"]()', "nn.Linear(6, 8)"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    root = str(ROOT)
    processes = [
        subprocess.Popen(
            [sys.executable, str(worker), str(tmp_path)],
            env=os.environ | settings | {"RANK": str(rank), "PYTHONPATH": root},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert all(process.returncode == 0 for process in processes), errors
    results = [torch.load(tmp_path / f"results{rank}.pt") for rank in range(2)]
    for name, options in cases.items():
        torch.manual_seed(0)
        model, scale = torch.nn.Linear(6, 8), torch.tensor(5.0, requires_grad=True)
        loss = info_nce(*model(x).chunk(2, dim=1), scale, **options)
        loss.backward()
        expected = [loss.detach(), *(p.grad for p in model.parameters()), scale.grad]
        for found in results:
            for mine, theirs in zip(expected, found[name], strict=True):
                assert torch.allclose(mine, theirs, atol=1e-5), name


def test_a_process_alone_gathers_itself(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        present, ids = torch.tensor([True, False, True, True, True]), torch.tensor([0, 1, 0, 2, 1])
        for options in ({}, {"present": present, "positives": ids, "block_size": 2}):
            a, b = unit(5, 4).requires_grad_(), unit(5, 4)
            (alone,) = torch.autograd.grad(info_nce(a, b, 3.0, **options), a)
            (gathered,) = torch.autograd.grad(info_nce(a, b, 3.0, gather=True, **options), a)
            assert torch.allclose(alone, gathered)
    finally:
        torch.distributed.destroy_process_group()


def most_held(size: int, block_size: int | None, folder: Path) -> int:
    """The most bytes that a forward and a backward pass hold at once, by PyTorch's own account of every tensor."""
    a, b = (unit(size, 32, dtype=torch.float32).requires_grad_() for _ in range(2))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        info_nce(a, b, torch.tensor(14.0, requires_grad=True), block_size=block_size).backward()
    profiler.export_chrome_trace(str(folder / "trace.json"))
    events = json.loads((folder / "trace.json").read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]")
    return max(accumulate(change for _, change in changes))


def test_memory_does_not_hold_the_matrix(tmp_path: Path) -> None:
    """Twice the clips: twice the memory, less than one matrix; the plain loss holds several."""
    blockwise = [most_held(size, 64, tmp_path) for size in (1000, 2000)]
    plain = [most_held(size, None, tmp_path) for size in (1000, 2000)]
    matrix = 2000 * 2000 * 4
    assert blockwise[1] < 2.1 * blockwise[0]
    assert blockwise[1] < matrix / 3
    assert plain[1] > 3.8 * plain[0]
    assert plain[1] > 3 * matrix
