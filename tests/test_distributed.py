"""mmlearn.distributed: two processes compute what one does, gradients included."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import torch

from mmlearn.pretraining.contrastive.losses import info_nce
from tests.places import ROOT
from tests.pretraining.contrastive.conftest import unit

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
