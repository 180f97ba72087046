"""The emulated second device does what a GPU does: it refuses to mix, it copies, and it computes the same numbers."""

import copy
from collections.abc import Iterator

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import nn

import mmlearn
from mmlearn import Batch, fit, predict, runtime
from mmlearn.finetuning import Classification
from tests.second_device import second_device


@pytest.fixture
def far() -> Iterator[torch.device]:
    forget()
    with second_device() as device:
        yield device
    forget()


def forget() -> None:
    """Let the next `fit` look for a device again."""
    runtime._works.cache_clear()
    AcceleratorState._reset_state(reset_partial_state=True)


def test_both_sides_together_are_refused(far: torch.device) -> None:
    here, there = torch.ones(2, 3), torch.ones(2, 3, device=far)
    assert (here.device.type, there.device.type) == ("cpu", "mps")
    for mixed in (
        lambda: here + there,
        lambda: torch.cat([there, here]),
        lambda: there.add_(here),
        lambda: there @ here.T,
        lambda: torch.where(here > 0, there, there),
        lambda: nn.functional.linear(there, here),
        lambda: nn.functional.mse_loss(there, here),
        lambda: here.float().index_select(0, torch.zeros(1, dtype=torch.long, device=far)),
        lambda: nn.Embedding(3, 2)(torch.zeros(1, dtype=torch.long, device=far)),
    ):
        with pytest.raises(
            RuntimeError, match="Expected all tensors to be on the same device, but found mps:0 and cpu"
        ):
            mixed()


def test_what_real_devices_allow_is_allowed(far: torch.device) -> None:
    there = torch.arange(6.0, device=far).view(2, 3)
    assert (there * torch.tensor(2.0)).device.type == "mps"  # a number of the CPU
    assert there[torch.tensor([1])].device.type == "mps"  # indices of the CPU
    assert there.cpu().numpy().tolist() == [[0, 1, 2], [3, 4, 5]]
    assert torch.zeros(2, 3).copy_(there).device.type == "cpu"
    for same in (there.float(), there.half(), there.T.contiguous(), torch.zeros_like(there), there.new_ones(2)):
        assert same.device.type == "mps"
    assert there.to("cpu", torch.float64).device.type == "cpu" and there.to(torch.float64).device.type == "mps"
    assert there.to(torch.ones(1)).device.type == "cpu" and torch.ones(1).to(there).device.type == "mps"
    with pytest.raises(TypeError, match=r"Use Tensor.cpu\(\)"):
        there.numpy()
    with pytest.raises(RuntimeError, match="generator"):
        torch.randn(3, generator=torch.Generator(), device=far)
    with pytest.raises(RuntimeError, match="generator"):
        torch.randn(3, generator=torch.Generator(far))
    assert torch.randn(3, generator=torch.Generator(far).manual_seed(0), device=far).device.type == "mps"
    packed = nn.utils.rnn.pack_padded_sequence(there[..., None], torch.tensor([3, 2]), batch_first=True)
    assert packed.data.device.type == "mps" and packed.batch_sizes.device.type == "cpu"
    for network in (nn.LSTM(1, 2), nn.GRU(1, 2), nn.RNN(1, 2)):
        steps, lengths = nn.utils.rnn.pad_packed_sequence(network.to(far)(packed)[0])
        assert (steps.device.type, lengths.device.type, lengths.tolist()) == ("mps", "cpu", [3, 2])
    assert nn.Linear(2, 2).to(far).cpu().weight.device.type == "cpu"


def test_models_move_copy_and_learn(far: torch.device) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.GELU(), nn.Linear(4, 2))
    near = copy.deepcopy(model)
    model.to(far)
    results = []
    for one, x in ((near, torch.ones(5, 3)), (model, torch.ones(5, 3, device=far))):
        optimizer = torch.optim.AdamW(one.parameters(), fused=True)
        for _ in range(3):
            one(x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        results.append(one(x).detach().cpu())
        assert {p.device for p in copy.deepcopy(one).parameters()} == {x.device}
    assert torch.equal(*results)
    with pytest.raises(RuntimeError, match="same device"):
        copy.deepcopy(model)(torch.ones(1, 3))
    model.load_state_dict(near.state_dict())  # from one side to the other
    assert next(model.parameters()).device.type == "mps"


def test_fit_and_predict_use_it(far: torch.device) -> None:
    class Net(nn.Linear):
        def forward(self, batch: Batch) -> torch.Tensor:
            return super().forward(batch.data["x"])

    x = torch.randn(32, 4)
    batch = Batch({"x": x}, {"x": torch.ones(32, dtype=torch.bool)}, {}, {"y": (x[:, 0] > 0).long()})
    model = Net(4, 2)
    assert mmlearn.device().type == "mps"
    fit(model, batch, batch, Classification("y", 2), epochs=1, progress=False)
    assert next(model.parameters()).device.type == "mps"
    assert predict(model, batch).device.type == "cpu"
    with pytest.raises(RuntimeError, match="same device"):
        model(batch)
    for wrong in ("train", "valid"):  # a GPU would only say that an assertion failed, and compute nothing more
        bad = Batch(batch.data, batch.present, {}, {"y": batch.labels["y"] + 5})
        with pytest.raises(ValueError, match="label 'y' runs from 5 to 6; expected 0 to 1"):
            fit(model, *((bad, batch) if wrong == "train" else (batch, bad)), Classification("y", 2), epochs=1)


def test_nothing_is_left_behind() -> None:
    before = torch.backends.mps.is_available(), torch.ones, torch.Tensor.to, torch.Tensor.device
    with second_device():
        assert torch.ones(1, device="mps").device.type == "mps" and torch.backends.mps.is_available()
    assert before == (torch.backends.mps.is_available(), torch.ones, torch.Tensor.to, torch.Tensor.device)
    assert torch.ones(1).device.type == "cpu"
