"""mmlearn.pretraining.contrastive.blockwise: strip by strip as the whole matrix, in less memory."""

import json
from itertools import accumulate
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from mmlearn.pretraining.contrastive.losses import info_nce
from tests.pretraining.contrastive.conftest import unit


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
