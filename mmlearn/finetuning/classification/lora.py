"""Finetune gently: low-rank adapters beside frozen weights (LoRA), and learning rates that fall with depth.

Chapter: finetuning/classification.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class LoRALinear(nn.Linear):
    """A frozen linear layer with an adapter of low rank: `W x + b + alpha/rank · B A x` (Hu et al. 2022).

    Only A (rank, in) and B (out, rank) are trained, `lora_down` and `lora_up` here. B begins at zero, so at first the
    layer does what it did before. Weight and bias keep their names, so that weights of the plain layer still fit.

    Args:
        linear: The layer; its weights are shared, not copied.
        rank: Rank of the change.
        alpha: Its size, in units of `rank`: with it, the rank can be changed at one learning rate.
        dropout: Share of the adapter's inputs dropped in training.

    Raises:
        ValueError: If `rank` is not positive.

    Chapter: finetuning/classification.
    """

    def __init__(self, linear: nn.Linear, rank: int = 8, alpha: float = 16.0, dropout: float = 0.0) -> None:
        nn.Module.__init__(self)  # not Linear's, which would make new weights
        if rank < 1:
            raise ValueError(f"rank is {rank}; expected at least 1")
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.requires_grad_(False)
        self.lora_down = nn.Parameter(linear.weight.new_empty(rank, linear.in_features))
        self.lora_up = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_down, a=5**0.5)  # as a linear layer begins
        self.scale = alpha / rank
        self.dropout = nn.Dropout(dropout)
        self.train(linear.training)

    def forward(self, input: Tensor) -> Tensor:
        """Return (…, out) for (…, in). What lies between, (…, rank), is small; `B A` is never made."""
        adapted = nn.functional.linear(nn.functional.linear(self.dropout(input), self.lora_down), self.lora_up)
        return super().forward(input) + self.scale * adapted

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return a plain layer, frozen, that does the same with one matrix: `W + alpha/rank · B A`."""
        plain = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        weight = self.weight + self.scale * self.lora_up @ self.lora_down  # (out, in)
        plain.weight = nn.Parameter(weight, requires_grad=False)
        plain.register_parameter("bias", self.bias)
        return plain.train(self.training)


def add_lora(
    model: nn.Module,
    rank: int = 8,
    alpha: float = 16.0,
    dropout: float = 0.0,
    layers: Collection[str] | None = None,
) -> list[str]:
    """Freeze a model and put an adapter beside its linear layers, in place. Only the adapters will be trained.

    It works in `mmlearn.nn.Attention`, which calls its projections where they are no plain `nn.Linear`. Layers whose
    weights are read without calling them, as in `nn.MultiheadAttention`, are of another class, and are left alone.

    Args:
        model: What to adapt, e.g. an encoder. Parts outside it, such as a new head, stay as they are.
        rank: See `LoRALinear`.
        alpha: See `LoRALinear`.
        dropout: See `LoRALinear`.
        layers: Last parts of the layers' names, e.g. ("query", "key_value"); by default every `nn.Linear`.

    Returns:
        The names of the layers that have an adapter now.

    Raises:
        ValueError: If there is no such layer; it says which there are.

    Chapter: finetuning/classification.
    """
    plain = {name: m for name, m in model.named_modules(remove_duplicate=False) if name and type(m) is nn.Linear}
    chosen = {name: m for name, m in plain.items() if layers is None or name.rpartition(".")[2] in layers}
    if not chosen:
        known = sorted({name.rpartition(".")[2] for name in plain})
        raise ValueError(f"layers is {layers}; the model's nn.Linear end in {known}")
    model.requires_grad_(False)
    adapted = {m: LoRALinear(m, rank, alpha, dropout) for m in dict.fromkeys(chosen.values())}  # shared layers, once
    for name, m in chosen.items():
        model.set_submodule(name, adapted[m])
    return list(chosen)


def merge_lora(model: nn.Module) -> dict[str, LoRALinear]:
    """Replace each adapted layer, in place, by a plain one with the merged weights: the same function, no extra cost.

    Returns:
        The layers that were replaced. `unmerge_lora` puts them back, bit for bit; subtracting `B A` from the merged
        matrix would not, because sums are rounded. They hold the old weights: drop them to free the memory.

    Raises:
        ValueError: If the model has no adapter.

    Chapter: finetuning/classification.
    """
    kept = _adapted(model)
    plain = {layer: layer.merged() for layer in dict.fromkeys(kept.values())}
    for name, layer in kept.items():
        model.set_submodule(name, plain[layer])
    return kept


def unmerge_lora(model: nn.Module, layers: Mapping[str, LoRALinear]) -> None:
    """Put back what `merge_lora` returned, in place. What was done to the merged weights since then is lost.

    Chapter: finetuning/classification.
    """
    for name, layer in layers.items():
        model.set_submodule(name, layer.train(model.training))


def lora_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Return the adapters' weights only: all that needs to be kept for one more task.

    Raises:
        ValueError: If the model has no adapter.

    Chapter: finetuning/classification.
    """
    state = model.state_dict()
    return {f"{name}.{part}": state[f"{name}.{part}"] for name in _adapted(model) for part in ("lora_down", "lora_up")}


def load_lora(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load what `lora_state_dict` returned into a model with the same adapters.

    Raises:
        ValueError: If the names are not the same. (`load_state_dict(strict=False)` would pass over them in silence.)
        RuntimeError: If a shape is not the same, e.g. because of another rank.

    Chapter: finetuning/classification.
    """
    expected = lora_state_dict(model).keys()
    if expected != state.keys():
        missing, unknown = sorted(expected - state.keys()), sorted(state.keys() - expected)
        raise ValueError(f"the adapters do not fit the model: missing {missing}, unknown {unknown}")
    model.load_state_dict(state, strict=False)


def _adapted(model: nn.Module) -> dict[str, LoRALinear]:
    found = {name: m for name, m in model.named_modules(remove_duplicate=False) if isinstance(m, LoRALinear)}
    if not found:
        raise ValueError("the model has no LoRALinear; add_lora puts them in, and merge_lora takes them out")
    return found


def layer_decay_groups(model: nn.Module, stages: Sequence[str], lr: float, decay: float = 0.75) -> list[dict[str, Any]]:
    """Return parameter groups whose learning rates fall with depth: for `fit(…, parameter_groups=…)` or an optimiser.

    What no stage names, such as a new head, gets `lr`; the last stage gets `lr · decay`, the one before it
    `lr · decay²`, and so on (Howard & Ruder 2018; Bao et al. 2022). Frozen parameters are left out.

    Args:
        model: The model.
        stages: Names of modules, or beginnings of them, from the input on: ["embed", "blocks.0", "blocks.1"].
        lr: Learning rate of the last layers.
        decay: Factor from a stage to the one before it, above 0 and at most 1.

    Raises:
        ValueError: If `decay` is out of its range, or a stage names no parameter that is trained and in no other stage.

    Chapter: finetuning/classification.
    """
    if not 0 < decay <= 1:
        raise ValueError(f"decay is {decay}; expected above 0, at most 1")
    left = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    groups: list[dict[str, Any]] = []
    for depth, stage in zip(range(len(stages), 0, -1), stages, strict=True):
        names = [name for name in left if name == stage or name.startswith(f"{stage}.")]
        if not names:
            raise ValueError(f"stage {stage!r} names no parameter that is trained and left; there are {sorted(left)}")
        groups.append({"params": [left.pop(name) for name in names], "lr": lr * decay**depth})
    return [*groups, {"params": list(left.values()), "lr": lr}] if left else groups
