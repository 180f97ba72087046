"""What a data set's labels are, found before the first batch, and the clips that have them.

Chapter: preprocessing/batching.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Subset

from mmlearn.labels import example_of, fits, is_text

Known = Sequence[tuple[str, Mapping[str, Any]]]  # of each clip its name and its labels


def listed_labels(dataset: Any) -> Known | None:
    """Return name and labels of each clip without reading one; None where a data set does not list them.

    `VideoFolder` lists them in `entries`; `Subset`s and `ConcatDataset`s of such data sets are understood.

    Chapter: preprocessing/batching.
    """
    if isinstance(dataset, Subset):
        below = listed_labels(dataset.dataset)
        return None if below is None else [below[int(k)] for k in dataset.indices]
    if isinstance(dataset, torch.utils.data.ConcatDataset):
        parts = [listed_labels(part) for part in dataset.datasets]
        return None if any(part is None for part in parts) else [known for part in parts for known in part or ()]
    entries = getattr(dataset, "entries", None)
    if isinstance(entries, list) and all(isinstance(getattr(entry, "labels", None), dict) for entry in entries):
        return [(str(getattr(entry, "name", "") or f"clip {k}"), entry.labels) for k, entry in enumerate(entries)]
    return None


def label_examples(known: Known, wanted: Sequence[str] | Mapping[str, Any] | None) -> dict[str, Tensor]:
    """Return one tensor for each label that some clip has, as the example for batches in which none has it.

    A label is floating if any clip's is. Labels that are words in all clips have none.

    Raises:
        ValueError: If a label cannot become a tensor; it names clip, label and type. If the clips are all listed and
            none has a label that is wanted by name.

    Chapter: preprocessing/batching.
    """
    values: dict[str, list[tuple[str, Any]]] = {}
    for clip, labels in known:
        for name, value in labels.items():
            if wanted is None or name in wanted:
                values.setdefault(name, []).append((clip, value))
    found = {}
    for name, told in values.items():
        if wanted is None and all(is_text(value) for _, value in told):
            continue
        tensors = [example_of(value, clip, name) for clip, value in told]
        real = [tensor for tensor in tensors if not (tensor.is_floating_point() and bool(tensor.isnan().all()))]
        chosen = next((tensor for tensor in real if tensor.is_floating_point()), (real or tensors)[0])
        found[name] = chosen
    return found


def having(dataset: Any, names: Sequence[str]) -> tuple[Dataset, Sequence[int]]:
    """Return the part of a data set whose clips have all of these labels as numbers, and its indices.

    Where the data set does not list its labels, every clip is read once. Of an iterable data set, the others are passed
    over when they come; there are no indices.

    Raises:
        ValueError: If no clip has them all.

    Chapter: preprocessing/batching.
    """
    if isinstance(dataset, IterableDataset):
        return _Having(dataset, names), ()
    known = listed_labels(dataset)
    if known is None:
        clips: Iterable[Any] = (dataset[k] for k in range(len(dataset)))
        known = [(clip.name or f"clip {k}", clip.labels) for k, clip in enumerate(clips)]
    rows = [k for k, (_, labels) in enumerate(known) if _has(labels, names)]
    if not rows:
        raise ValueError(f"none of {len(known)} clips has {sorted(names)} as numbers; there are "
                         f"{sorted({name for _, labels in known for name in labels})}")  # fmt: skip
    if len(rows) < len(known):
        others = [clip for k, (clip, _) in enumerate(known) if k not in set(rows)]
        warnings.warn(f"left out {len(others)} of {len(known)} clips, which lack {' or '.join(map(repr, names))}: "
                      f"{', '.join(others[:5])}{', …' if len(others) > 5 else ''}", stacklevel=3)  # fmt: skip
    return Subset(dataset, rows), rows


class _Having(IterableDataset):
    """The clips of a stream that have some labels."""

    def __init__(self, dataset: Any, names: Sequence[str]) -> None:
        self.dataset, self.names = dataset, tuple(names)

    def __iter__(self) -> Iterator[Any]:
        return (clip for clip in self.dataset if _has(clip.labels, self.names))


def _has(labels: Mapping[str, Any], names: Sequence[str]) -> bool:
    return all(name in labels and fits(labels[name]) for name in names)
