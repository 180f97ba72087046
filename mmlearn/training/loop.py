"""fit and predict: one loop for every model and objective, on Hugging Face Accelerate.

Chapter: start/first_model.
"""

import copy
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchmetrics import Metric
from tqdm.auto import tqdm

from mmlearn.batch import Batch
from mmlearn.runtime import Precision, device, precision, quiet, seed_everything
from mmlearn.training.weights import save_weights


class Objective(Protocol):
    """What a model is trained for; `mmlearn.finetuning.Classification` is one."""

    def loss(self, output: Any, batch: Batch) -> Tensor:
        """Return the loss, a scalar, for a model's output."""

    def metrics(self) -> Mapping[str, Metric]:
        """Return fresh metrics for an evaluation; the first one chooses the best epoch."""

    def target(self, batch: Batch) -> Tensor:
        """Return what the metrics compare the output with."""


def fit(
    model: nn.Module,
    train: Batch | Dataset | DataLoader,
    valid: Batch | Dataset | DataLoader,
    objective: Objective,
    *,
    epochs: int = 10,
    batch_size: int = 32,
    lr: float = 2e-3,
    weight_decay: float = 0.05,
    parameter_groups: Sequence[dict[str, Any]] | None = None,
    augment: Callable[[Batch], Batch] | None = None,
    out: str | os.PathLike[str] | None = None,
    use_precision: Precision | None = None,
    compile: bool = False,
    seed: int = 0,
    progress: bool = True,
) -> list[dict[str, float]]:
    """Train a model; afterwards it has the weights of its best epoch.

    AdamW with a one-cycle learning rate (Smith & Topin 2019), gradients clipped to norm 1. Device and precision are the
    machine's best unless told otherwise; start with `accelerate launch` or `torchrun` to use several devices.

    Args:
        model: Maps a `Batch` to an output. It is trained in place.
        train: What to learn from: a `Batch` held in memory, a data set of batches' parts, or a `DataLoader` of batches.
        valid: What to judge each epoch by. The best epoch is chosen on it, so report results on other data.
        objective: The loss and the metrics.
        epochs: Passes over `train`.
        batch_size: Samples a step, where `train` is no `DataLoader`.
        lr: Highest learning rate.
        weight_decay: AdamW's.
        parameter_groups: What to train, as optimisers take it, where parts have highest learning rates of their own
            (see `mmlearn.finetuning.layer_decay_groups`); by default the whole model with `lr`.
        augment: Changes each training batch, e.g. hides modalities.
        out: Folder for the best weights, `model.safetensors`; by default nothing is written.
        use_precision: "no", "fp16" or "bf16"; by default what suits the device (`mmlearn.precision`).
        compile: Whether to compile the model with `torch.compile`.
        seed: Seed of the order of samples and of dropout.
        progress: Whether to show a progress bar.

    Returns:
        One row an epoch: epoch, train_loss, valid_loss, each metric, seconds.

    Raises:
        ValueError: If `epochs` is not positive, or the loss is no longer finite.

    Chapter: start/first_model.
    """
    if epochs < 1:
        raise ValueError(f"epochs is {epochs}; expected at least 1")
    seed_everything(seed)
    accelerator = _accelerator(use_precision)
    loader = as_loader(train, batch_size, shuffle=True, seed=seed)
    groups = [{"params": model.parameters()}] if parameter_groups is None else parameter_groups
    groups = [dict(group) for group in groups]  # the optimiser writes into what it is given
    optimizer = torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay, fused=True)
    highest = [group["lr"] for group in optimizer.param_groups]
    runner, optimizer, loader, valid_loader = accelerator.prepare(
        torch.compile(model) if compile else model, optimizer, loader, as_loader(valid, batch_size)
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, highest, total_steps=epochs * len(loader))
    better, best_scores, best_weights = _comparison(objective), None, model.state_dict()
    history: list[dict[str, float]] = []
    hidden = not progress or quiet() or not accelerator.is_main_process
    bar = tqdm(range(1, epochs + 1), unit="epoch", disable=hidden)
    for epoch in bar:
        start = time.perf_counter()
        runner.train()
        losses = []
        for batch in loader:
            if epoch == 1:
                _check_labels(objective, batch)
            batch = augment(batch) if augment else batch
            loss = objective.loss(runner(batch), batch)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(runner.parameters(), 1.0)
            optimizer.step()
            if not accelerator.optimizer_step_was_skipped:  # float16 skips a step whose gradients overflow
                schedule.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
        train_loss = float(torch.stack(losses).mean())
        if train_loss != train_loss or train_loss in (float("inf"), float("-inf")):
            raise ValueError(f"the loss is {train_loss} in epoch {epoch}; a lower lr than {lr} may help")
        scores = _evaluate(accelerator, runner, valid_loader, objective, check=epoch == 1)
        history.append({"epoch": epoch, "train_loss": train_loss, **scores, "seconds": time.perf_counter() - start})
        bar.set_postfix({name: f"{value:.3f}" for name, value in history[-1].items() if name != "epoch"})
        if best_scores is None or better(scores, best_scores):
            best_scores, best_weights = scores, copy.deepcopy(model.state_dict())
            if out is not None and accelerator.is_main_process:
                save_weights(model, Path(out) / "model.safetensors", notes=history[-1])
    model.load_state_dict(best_weights)
    return history


@torch.no_grad()
def predict(model: nn.Module, data: Batch | Dataset | DataLoader, *, batch_size: int = 256) -> Tensor:
    """Return a model's outputs for all of the data, in order, on the CPU in float32: an ordinary tensor.

    It has no gradient and shares its memory with nothing: it may be changed, and another model may learn from it.

    Args:
        model: Maps a `Batch` to a tensor (B, …) that has one shape but for B in all batches.
        data: As in `fit`; or a `DataLoader` of an iterable data set.
        batch_size: Samples at a time.

    Raises:
        TypeError: If the model returns something else than a tensor.
        ValueError: If batches give outputs of unlike shapes, or there is no data.

    Chapter: start/first_model.
    """
    on = next((parameter.device for parameter in model.parameters()), device())
    was_training = model.training
    model.eval()
    try:
        outputs = [_output(model(batch.to(on))) for batch in as_loader(data, batch_size)]
    finally:
        model.train(was_training)
    shapes = sorted({tuple(output.shape[1:]) for output in outputs})
    if len(shapes) != 1:
        raise ValueError(f"batches give outputs of shapes (B, …) with {shapes or 'no batch at all'}; expected one "
                         "shape. For sequences of unlike length, call the model batch by batch")  # fmt: skip
    return torch.cat(outputs)


def _output(found: Any) -> Tensor:
    """Return a model's output on the CPU in float32."""
    if not isinstance(found, Tensor):
        held = f" of {sorted(found)}" if isinstance(found, Mapping) else ""
        raise TypeError(f"the model returns a {type(found).__name__}{held}; expected a tensor (B, …): predict one part "
                        "of it, with a module that returns that part")  # fmt: skip
    return found.float().cpu()


def as_loader(
    data: Batch | Dataset | DataLoader, batch_size: int, *, shuffle: bool = False, seed: int = 0
) -> DataLoader:
    """Return a loader of `Batch`es; one that is given is passed on as it is.

    Args:
        data: A loader; or a `Batch`, or a data set whose `__getitems__` returns one.
        batch_size: Samples a batch.
        shuffle: Whether to draw a new order each epoch.
        seed: Seed of that order.

    Raises:
        ValueError: If there is no data.
    """
    if isinstance(data, DataLoader):
        return data
    if len(data) == 0:  # type: ignore[arg-type]
        raise ValueError("the data is empty; expected at least one sample")
    order = torch.Generator().manual_seed(seed)
    return DataLoader(data, batch_size, shuffle=shuffle, generator=order, collate_fn=_whole)  # type: ignore[arg-type]


def _whole(batch: Batch) -> Batch:
    """Pass on what `Batch.__getitems__` fetched: it is a batch already."""
    return batch


def _accelerator(use_precision: Precision | None) -> Accelerator:
    """Return an Accelerator of the wanted precision (the state of an earlier call in this process is dropped)."""
    wanted = precision() if use_precision is None else use_precision
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != wanted:
        AcceleratorState._reset_state()
    # Accelerate takes any GPU that says it is there; `device` has tried whether it works.
    return Accelerator(mixed_precision=wanted, cpu=device().type == "cpu")


@torch.inference_mode()
def _evaluate(
    accelerator: Accelerator, runner: nn.Module, loader: DataLoader, objective: Objective, check: bool = False
) -> dict[str, float]:
    """Return the mean loss and the metrics over a loader."""
    runner.eval()
    metrics = {name: metric.to(accelerator.device) for name, metric in objective.metrics().items()}
    total = torch.zeros(2, device=accelerator.device)  # sum of losses, number of samples
    for batch in loader:
        if check:
            _check_labels(objective, batch)
        output = runner(batch)
        total += torch.stack([objective.loss(output, batch) * len(batch), total.new_tensor(len(batch))])
        for metric in metrics.values():
            metric.update(*accelerator.gather_for_metrics((output, objective.target(batch))))
    total = accelerator.reduce(total)
    return {"valid_loss": float(total[0] / total[1])} | {
        name: float(metric.compute()) for name, metric in metrics.items()
    }


def _check_labels(objective: Objective, batch: Batch) -> None:
    """Let the objective look at labels on the CPU: on a GPU a wrong class ends the process."""
    if any(values.device.type != "cpu" for values in batch.labels.values()):
        labels, labelled = ({name: x.cpu() for name, x in part.items()} for part in (batch.labels, batch.labelled))
        objective.target(replace(batch, labels=labels, labelled=labelled))


def _comparison(objective: Objective) -> Callable[[dict[str, float], dict[str, float]], bool]:
    """Return a function that says whether one epoch's scores beat another's."""
    name, metric = next(iter(objective.metrics().items()), ("valid_loss", None))
    higher = metric is not None and metric.higher_is_better

    def better(new: dict[str, float], old: dict[str, float]) -> bool:
        return new[name] > old[name] if higher else new[name] < old[name]

    return better
