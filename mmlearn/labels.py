"""Labels of many clips as tensors: numbers, vectors, lists of tokens; what is missing, and what is refused.

Chapter: preprocessing/batching.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

IGNORED = -100  # stands where a class, or a token, is missing; torch's losses leave it out by default


@dataclass
class Labels:
    """What `collate_labels` returns: entries of a `Batch`, and why other labels are not in it.

    Chapter: preprocessing/batching.
    """

    values: dict[str, Tensor] = field(default_factory=dict)  # name → (B, …)
    labelled: dict[str, Tensor] = field(default_factory=dict)  # name → bool (B,)
    mask: dict[str, Tensor] = field(default_factory=dict)  # name → bool (B, L), of labels that are lists
    left_out: dict[str, str] = field(default_factory=dict)  # name → reason


def collate_labels(
    found: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    wanted: Sequence[str] | Mapping[str, Any] | None = None,
    like: Mapping[str, Tensor] | None = None,
) -> Labels:
    """Turn the labels of clips into one tensor a label, with a record of which clips have it.

    Whole numbers and bools become int64, other numbers float32. Where a clip lacks a label, -100 stands in whole
    numbers and NaN in others, and `labelled` is False. Lists of numbers are padded at the end with the same, and get a
    mask; arrays of more dimensions must have one shape. Words (a str, or a list of them) have no tensor: such labels
    are left out, with the reason.

    Args:
        found: Of each clip its labels.
        names: Of each clip its name, for messages.
        wanted: Names of the labels that are looked at, by default all. A dictionary gives an example of each.
        like: name → an example as a tensor, for labels that none of these clips has.

    Raises:
        ValueError: If a label cannot become a tensor: it names clip, label and type. Words are an error only where
            `wanted` names the label, or other clips have numbers there.

    Chapter: preprocessing/batching.
    """
    examples = dict(like or {})
    if isinstance(wanted, Mapping):
        examples |= {name: example_of(value, f"labels={{{name!r}: …}}", name) for name, value in wanted.items()}
    known = dict.fromkeys([*(name for labels in found for name in labels), *examples])
    result = Labels()
    for name in known if wanted is None else wanted:
        values = [labels.get(name, _MISSING) for labels in found]
        first = next((k for k, value in enumerate(values) if value is not _MISSING), None)
        if first is None and name not in examples:
            result.left_out[name] = "none of its clips has it"
        elif wanted is None and all(value is _MISSING or is_text(value) for value in values) and first is not None:
            result.left_out[name] = f"{_told(values[first], names[first], name)}, which no tensor can hold"
        else:
            tensors = [
                None if v is _MISSING else example_of(v, who, name) for v, who in zip(values, names, strict=True)
            ]
            _stack(tensors, examples.get(name), name, names, result)
    return result


def example_of(value: Any, clip: str, name: str) -> Tensor:
    """Return a label as a tensor, int64 or of torch's default type: (), (L,) or of any shape.

    Raises:
        ValueError: If it is neither a number nor made of numbers; it names clip, label and type.

    Chapter: preprocessing/batching.
    """
    array = _as_array(value)
    if array is None:
        raise ValueError(f"{_told(value, clip, name)}; expected a number, or a list or an array of numbers. Such clips "
                         f"can be left out (loader(…, require=[{name!r}])), and so can labels (labels=[…] names those "
                         "to keep)")  # fmt: skip
    kind = torch.get_default_dtype() if array.dtype.kind == "f" else torch.int64
    return torch.from_numpy(array.astype(np.float64 if array.dtype.kind == "f" else np.int64)).to(kind)


def fits(value: Any) -> bool:
    """Return whether a label can become a tensor and is there: a NaN is not.

    Chapter: preprocessing/batching.
    """
    array = _as_array(value)
    return array is not None and not (array.dtype.kind == "f" and array.size and bool(np.isnan(array).all()))


class _Missing:
    """What stands for a label that a clip does not have; None is a value, and refused."""


_MISSING = _Missing()


def _stack(
    tensors: Sequence[Tensor | None], example: Tensor | None, name: str, names: Sequence[str], result: Labels
) -> None:
    """Add one label to the result."""
    nothing = [t is not None and t.ndim == 0 and bool(t.isnan()) for t in tensors]
    if any(t is not None and not t.is_floating_point() for t in tensors):  # a NaN among classes is a missing class
        tensors = [None if nan else tensor for tensor, nan in zip(tensors, nothing, strict=True)]
    there = [tensor for tensor in tensors if tensor is not None]
    likes = [*there, *([] if example is None else [example])]
    floating = any(tensor.is_floating_point() for tensor in likes if tensor.numel())  # an empty list has no type
    kind, missing = (torch.get_default_dtype(), torch.nan) if floating else (torch.int64, IGNORED)
    model = there[0] if there else likes[0]
    for tensor, who in zip(tensors, names, strict=True):
        same = tensor is None or (tensor.ndim == model.ndim and (tensor.ndim == 1 or tensor.shape == model.shape))
        if not same:
            assert tensor is not None
            other = names[next(k for k, t in enumerate(tensors) if t is model)]
            raise ValueError(f"{who}: label {name!r} has shape {tuple(tensor.shape)}, that of {other} has "
                             f"{tuple(model.shape)}; expected one shape (only lists may differ in length)")  # fmt: skip
    shape = list(model.shape)
    if model.ndim == 1:  # at least one place, so that "no tokens" and "not known" can differ
        shape = [max(1, *(len(tensor) for tensor in there or likes))]
    values = torch.full((len(tensors), *shape), missing, dtype=kind)
    lengths = torch.zeros(len(tensors), dtype=torch.int64)
    labelled = torch.zeros(len(tensors), dtype=torch.bool)
    for row, tensor in enumerate(tensors):
        if tensor is not None:
            (values[row] if tensor.ndim != 1 else values[row, : len(tensor)]).copy_(tensor)
            lengths[row] = len(tensor) if tensor.ndim == 1 else 0
            labelled[row] = not (floating and tensor.numel() > 0 and bool(tensor.isnan().all()))
    result.values[name], result.labelled[name] = values, labelled
    if model.ndim == 1:
        result.mask[name] = torch.arange(values.shape[1]) < lengths[:, None]  # (B, L)


def _as_array(value: Any) -> np.ndarray | None:
    """Return whole numbers, bools or floats as an array of any shape; None for anything else."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = value.float() if value.dtype == torch.bfloat16 else value
    elif isinstance(value, Real) and not isinstance(value, (int, float, np.generic)):
        value = float(value)  # a fraction
    elif not (isinstance(value, (bool, int, float, list, tuple, range)) or hasattr(value, "__array__")):
        return None
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError, OverflowError):  # ragged, or a tensor that has no data
        return None
    fit = array.dtype.kind in "bif" or (array.dtype.kind == "u" and (array.size == 0 or array.max() < 2**63))
    return array if fit else None


def is_text(value: Any) -> bool:
    """Return whether a label is words: a str, or a list of them.

    Chapter: preprocessing/batching.
    """
    if isinstance(value, (list, tuple)):
        return bool(value) and all(isinstance(part, (str, bytes)) for part in value)
    return isinstance(value, (str, bytes))


def _told(value: Any, clip: str, name: str) -> str:
    shown = repr(value)
    return f"{clip}: label {name!r} is a {type(value).__name__}, {shown if len(shown) <= 40 else shown[:37] + '…'}"
