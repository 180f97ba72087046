"""fit and predict on a problem with a known answer; precision, checkpoints, errors."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchmetrics import MeanSquaredError

from mmlearn import Batch, Clip, collate, fit, predict
from mmlearn.finetuning import Classification
from mmlearn.training import load_weights, save_weights
from mmlearn.training.loop import as_loader


def points(size: int, seed: int) -> Batch:
    """Points in the plane; the label says on which side of a line they lie."""
    x = torch.randn(size, 2, generator=torch.Generator().manual_seed(seed))
    there = torch.ones(size, dtype=torch.bool)
    return Batch({"x": x}, {"x": there}, labels={"side": (x[:, 0] > x[:, 1]).long()})


class Linear(nn.Module):
    """A linear model of a batch; `dtypes` remembers in what arithmetic it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.dtypes: set[torch.dtype] = set()

    def forward(self, batch: Batch) -> torch.Tensor:
        output = self.linear(batch.data["x"])
        self.dtypes.add(output.dtype)
        return output


SIDE = Classification("side", 2)


def test_learns_and_reports(tmp_path) -> None:
    model = Linear()
    history = fit(model, points(400, 0), points(200, 1), SIDE, epochs=5, lr=0.1, out=tmp_path, progress=False)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5]
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    test = points(300, 2)
    accuracy = (predict(model, test).argmax(1) == test.labels["side"]).float().mean()
    assert accuracy > 0.95
    best = max(history, key=lambda row: row["accuracy"])
    other = Linear()
    assert load_weights(other, tmp_path / "model.safetensors") == best
    assert torch.equal(predict(other, test), predict(model, test))  # the model has its best epoch's weights
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_the_same_seed_gives_the_same_weights_and_another_does_not() -> None:
    def train(seed: int) -> torch.Tensor:
        model = Linear()
        nn.init.zeros_(model.linear.weight)
        nn.init.zeros_(model.linear.bias)
        fit(model, points(100, 0), points(50, 1), SIDE, epochs=1, seed=seed, progress=False)
        return model.linear.weight.detach()

    assert torch.equal(train(3), train(3))
    assert not torch.equal(train(3), train(4))


@pytest.mark.parametrize(("wanted", "dtype"), [("no", torch.float32), ("bf16", torch.bfloat16)])
def test_precision_is_what_was_asked_for(wanted: str, dtype: torch.dtype) -> None:
    model = Linear()
    fit(model, points(64, 0), points(64, 1), SIDE, epochs=1, use_precision=wanted, progress=False)
    assert model.dtypes == {dtype}
    assert model.linear.weight.dtype == torch.float32


def test_a_compiled_model_learns_the_same() -> None:
    weights = []
    for compile in (False, True):
        torch.manual_seed(0)
        model = Linear()
        fit(model, points(128, 0), points(64, 1), SIDE, epochs=1, compile=compile, progress=False)
        weights.append(model.linear.weight.detach())
    assert torch.allclose(*weights, atol=1e-5)


def test_the_best_epoch_wins_also_when_lower_is_better() -> None:
    class Regression(Classification):
        def loss(self, output, batch):
            return (output[:, 0] - batch.labels["side"]).square().mean()

        def metrics(self):
            return {"mse": MeanSquaredError()}

        def target(self, batch):
            return torch.stack([batch.labels["side"]] * 2, dim=1).float()

    model, valid = Linear(), points(64, 1)
    task = Regression("side", 2)
    history = fit(model, points(128, 0), valid, task, epochs=6, lr=1.0, progress=False)
    metric = MeanSquaredError()
    metric.update(predict(model, valid), task.target(valid))
    assert float(metric.compute()) == pytest.approx(min(row["mse"] for row in history), rel=1e-5)


def test_groups_of_parameters_learn_at_their_own_rates_and_are_left_as_they_were() -> None:
    model, data = Linear(), points(40, 0)
    weight, bias = model.linear.weight.detach().clone(), model.linear.bias.detach().clone()
    groups = [{"params": [model.linear.weight], "lr": 1e-3}, {"params": [model.linear.bias]}]  # the second at lr
    moved = []

    def watch(batch: Batch) -> Batch:
        now = model.linear.state_dict()
        moved.append([float((now["weight"] - weight).abs().max()), float((now["bias"] - bias).abs().max())])
        return batch

    settings = {"lr": 0.1, "weight_decay": 0.0, "parameter_groups": groups, "progress": False}
    fit(model, data, data, SIDE, epochs=10, batch_size=40, augment=watch, **settings)
    # Adam's first step moves a weight by the learning rate, here the first of the cycle: a 25th of the highest
    assert moved[1] == pytest.approx([1e-3 / 25, 0.1 / 25], rel=1e-2)
    assert [sorted(group) for group in groups] == [["lr", "params"], ["params"]] and groups[0]["lr"] == 1e-3


def test_parameters_in_no_group_stay() -> None:
    model, data = Linear(), points(40, 0)
    weight, bias = model.linear.weight.clone(), model.linear.bias.clone()
    fit(model, data, data, SIDE, epochs=1, parameter_groups=[{"params": [model.linear.bias]}], progress=False)
    assert torch.equal(model.linear.weight, weight) and not torch.equal(model.linear.bias, bias)


def test_augment_sees_training_batches_only() -> None:
    seen = []

    def augment(batch: Batch) -> Batch:
        seen.append(len(batch))
        return batch

    fit(Linear(), points(100, 0), points(77, 1), SIDE, epochs=2, batch_size=40, augment=augment, progress=False)
    assert sorted(seen) == [20, 20, 40, 40, 40, 40]


def test_clips_come_through_an_ordinary_loader() -> None:
    clips = [Clip({"x": torch.randn(2)}, labels={"side": n % 2}) for n in range(10)]
    loader = DataLoader(clips, batch_size=4, collate_fn=partial(collate, transforms={"x": lambda x: x}))
    history = fit(Linear(), loader, loader, SIDE, epochs=1, progress=False)
    assert math.isfinite(history[0]["valid_loss"])
    assert predict(Linear(), loader).shape == (10, 2)


def test_predict_keeps_order_and_mode() -> None:
    model, data = Linear(), points(10, 0)
    model.train()
    assert torch.allclose(predict(model, data, batch_size=3), model(data).detach(), atol=1e-6)
    assert model.training


def test_errors() -> None:
    data = points(8, 0)
    with pytest.raises(ValueError, match="epochs is 0"):
        fit(Linear(), data, data, SIDE, epochs=0)
    with pytest.raises(ValueError, match="the data is empty"):
        as_loader(data[:0], 4)
    bad = points(8, 0)
    bad.data["x"][0] = torch.nan
    with pytest.raises(ValueError, match="the loss is nan in epoch 1"):
        fit(Linear(), bad, data, SIDE, epochs=1, progress=False)


def test_weights_that_do_not_fit_are_refused(tmp_path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(nn.Linear(2, 2), path)
    with pytest.raises(ValueError, match=r"w\.safetensors do not fit Linear"):
        load_weights(nn.Linear(3, 2), path)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match="not a safetensors file"):
        load_weights(nn.Linear(2, 2), path)
    with pytest.raises(FileNotFoundError, match="no weights at"):
        load_weights(nn.Linear(2, 2), tmp_path / "none.safetensors")


def test_what_predict_returns_can_be_learned_from() -> None:
    batch = Batch({"x": torch.randn(20, 4)}, {"x": torch.ones(20, dtype=torch.bool)})

    class Net(nn.Linear):
        def forward(self, batch: Batch) -> torch.Tensor:
            return super().forward(batch.data["x"])

    model = Net(4, 8)
    for size in (7, 100):
        features = predict(model, batch, batch_size=size)
        assert not features.is_inference() and not features.requires_grad
        nn.Linear(8, 2)(features).sum().backward()
        features -= features.mean(dim=0)
        assert features.requires_grad_().sum().backward() is None
    kept = batch.data["x"].clone()

    class Same(nn.Module):
        def forward(self, batch: Batch) -> torch.Tensor:
            return batch.data["x"]

    predict(Same(), batch).zero_()  # shares no memory with the data
    assert torch.equal(batch.data["x"], kept)


def test_what_predict_cannot_join_is_named() -> None:
    batch = Batch(
        {"x": torch.ones(4, 3)}, {"x": torch.ones(4, dtype=torch.bool)}, {}, {"n": torch.tensor([2, 2, 3, 3])}
    )

    class Odd(nn.Module):
        def __init__(self, as_dict: bool) -> None:
            super().__init__()
            self.as_dict = as_dict

        def forward(self, batch: Batch) -> object:
            return {"a": batch.data["x"], "b": 0} if self.as_dict else torch.ones(2, int(batch.labels["n"][0]), 5)

    with pytest.raises(TypeError, match=r"the model returns a dict of \['a', 'b'\]; expected a tensor \(B, …\)"):
        predict(Odd(True), batch)
    with pytest.raises(ValueError, match=r"shapes \(B, …\) with \[\(2, 5\), \(3, 5\)\]; expected one shape"):
        predict(Odd(False), batch, batch_size=2)
    with pytest.raises(ValueError, match="no batch at all"):
        predict(Odd(True), torch.utils.data.DataLoader(batch, 8, drop_last=True, collate_fn=lambda part: part))
