"""Weights on disk: what does not fit changes nothing, what is killed leaves nothing, and a full disk keeps the old."""

import json
import os
import signal
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mmlearn.training import load_weights, save_weights
from tests.test_files import child, small_disk


class Tied(nn.Module):
    """Two names of one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head, self.norm = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False), nn.BatchNorm1d(3)
        self.head.weight = self.embed.weight


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: x.clone() for name, x in model.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_weights_and_notes_come_back_also_shared_ones(tmp_path: Path) -> None:
    model, other = Tied(), Tied()
    save_weights(model, tmp_path / "new" / "w.safetensors", {"epoch": 3})
    assert load_weights(other, tmp_path / "new" / "w.safetensors") == {"epoch": 3}
    assert equal(snapshot(other), snapshot(model)) and other.head.weight is other.embed.weight
    assert os.listdir(tmp_path / "new") == ["w.safetensors"]


CHANGES = {
    "another shape": lambda state: state | {"1.weight": torch.zeros(4, 2)},
    "the same numbers in another shape": lambda state: state | {"0.bias": torch.zeros(2, 1)},
    "one missing": lambda state: {name: x for name, x in state.items() if name != "1.bias"},
    "the first missing": lambda state: {name: x for name, x in state.items() if name != "0.weight"},
    "one too many": lambda state: state | {"2.weight": torch.zeros(1)},
    "other names": lambda state: {f"module.{name}": x for name, x in state.items()},
    "none": lambda _: {"x": torch.zeros(1)},
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_does_not_fit_changes_nothing(tmp_path: Path, change: str) -> None:
    source, model = (nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 3)) for _ in range(2))
    save_file(CHANGES[change](snapshot(source)), tmp_path / "w.safetensors")
    before = snapshot(model)
    with pytest.raises(ValueError, match=r"the weights in .*w\.safetensors do not fit Sequential: "):
        load_weights(model, tmp_path / "w.safetensors")
    assert equal(snapshot(model), before)


def test_the_message_names_what_does_not_fit(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2, 3), "more": torch.zeros(1)}, tmp_path / "w")
    with pytest.raises(ValueError, match=r"bias is missing; more is not expected; weight is \(2, 3\)"):
        load_weights(nn.Linear(3, 3), tmp_path / "w")


@pytest.mark.parametrize("notes", ["[" * 100_000, "{", "3", "null"])
def test_notes_of_others_are_refused_before_anything_is_copied(tmp_path: Path, notes: str) -> None:
    model = nn.Linear(2, 2)
    save_file(snapshot(nn.Linear(2, 2)), tmp_path / "w", metadata={"notes": notes})
    before = snapshot(model)
    with pytest.raises(ValueError, match="its notes are"):
        load_weights(model, tmp_path / "w")
    assert equal(snapshot(model), before)


def test_a_file_that_claims_more_than_it_holds(tmp_path: Path) -> None:
    head = json.dumps({"weight": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}).encode()
    (tmp_path / "w").write_bytes(struct.pack("<Q", len(head)) + head + bytes(16))
    with pytest.raises(ValueError, match="is not a safetensors file"):
        load_weights(nn.Linear(2, 2), tmp_path / "w")


def test_a_full_disk_keeps_the_old_weights(tmp_path: Path) -> None:
    old = nn.Linear(10, 10)
    with small_disk(tmp_path) as disk:
        save_weights(old, disk / "w.safetensors")
        with pytest.raises(OSError, match=r"No space left|weights of Linear takes 4\.0 MB"):
            save_weights(nn.Linear(1000, 1000), disk / "w.safetensors")
        again = nn.Linear(10, 10)
        load_weights(again, disk / "w.safetensors")
        assert equal(snapshot(again), snapshot(old)) and os.listdir(disk) == ["w.safetensors"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills processes")
def test_killed_while_saving_keeps_the_old_and_leaves_nothing_for_long(tmp_path: Path) -> None:
    program = """
import os, signal, sys
from torch import nn
from mmlearn.training import save_weights
save_weights(nn.Linear(3, 3), sys.argv[1])
for name in ("replace", "fsync"):
    setattr(os, name, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
save_weights(nn.Linear(300, 300), sys.argv[1])
"""
    path = tmp_path / "w.safetensors"
    for _ in range(2):
        process = child(program, path)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    load_weights(nn.Linear(3, 3), path)
    assert len(list(tmp_path.glob(".*.unfinished"))) == 1  # of the second; the first's are gone
    save_weights(nn.Linear(3, 3), tmp_path / "other.safetensors")
    assert sorted(os.listdir(tmp_path)) == ["other.safetensors", "w.safetensors"]
