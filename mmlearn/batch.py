"""Batch: many clips, padded to one length, with masks; `collate` makes one of them.

Masks are bool and True means real.

Chapter: preprocessing/batching.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from mmlearn.clip import Clip
from mmlearn.labels import collate_labels


@dataclass
class Batch:
    """Many samples, model side: one padded tensor a modality, with what is real in it.

    Args:
        data: name → tensor (B, …). Rows of absent modalities hold zeros, which nothing may depend on.
        present: name → bool (B,), True where the sample has the modality.
        mask: name → bool (B, N), True where a step is real and not padding. For vectors and (M, T) always, for
            frames only where lengths differ.
        labels: name → tensor (B, …): int64 for classes and tokens, which are -100 where missing; float32 for
            quantities, which are NaN there. Lists are padded with the same, and have a `mask`.
        labelled: name → bool (B,), True where the sample has the label. A label without an entry is there for all.
        left_out: name → why a label of the clips is not in `labels`: for error messages.

    Indexing with a slice, a list or a tensor gives the batch of those samples.
    Chapters: start/first_model, preprocessing/batching.
    """

    data: dict[str, Tensor]
    present: dict[str, Tensor]
    mask: dict[str, Tensor] = field(default_factory=dict)
    labels: dict[str, Tensor] = field(default_factory=dict)
    labelled: dict[str, Tensor] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def label(self, name: str) -> tuple[Tensor, Tensor]:
        """Return a label (B, …), and which samples have it, bool (B,).

        Raises:
            ValueError: If the batch has no such label; it gives the reason.

        Chapter: preprocessing/batching.
        """
        if name not in self.labels:
            why = f" ({self.left_out[name]})" if name in self.left_out else ""
            raise ValueError(f"the batch has no label {name!r}{why}; it has {sorted(self.labels)}")
        values = self.labels[name]
        labelled = self.labelled.get(name)
        return values, torch.ones(len(values), dtype=torch.bool, device=values.device) if labelled is None else labelled

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(next(iter(self.present.values())))

    def __getitem__(self, index: slice | Sequence[int] | Tensor) -> Batch:
        """Return the batch of the chosen samples."""
        if isinstance(index, slice):
            return self._map(lambda tensor: tensor[index])
        rows = torch.as_tensor(index)
        rows = rows.nonzero()[:, 0] if rows.dtype == torch.bool else rows  # index_select is much quicker than []
        return self._map(lambda tensor: tensor.index_select(0, rows.to(tensor.device)))

    # DataLoader fetches a whole minibatch with one call where a data set offers this.
    __getitems__ = __getitem__

    def split(self) -> list[dict[str, Tensor]]:
        """Return what each sample holds: name → its tensor without padding; absent modalities are not in it.

        This is the inverse of `collate` (of its tensors; labels stay here).

        Chapter: preprocessing/batching.
        """
        samples: list[dict[str, Tensor]] = [{} for _ in range(len(self))]
        for name, tensor in self.data.items():
            for row in self.present[name].nonzero()[:, 0].tolist():
                real = tensor[row]
                if name in self.mask:
                    steps = self.mask[name][row].nonzero()[:, 0]
                    real = real.index_select(_time_dim(real), steps)
                samples[row][name] = real
        return samples

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Return the batch on a device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory, from which copies to a GPU are quicker (DataLoader calls this)."""
        return self._map(Tensor.pin_memory)

    def without(self, *names: str) -> Batch:
        """Return the batch in which the named modalities are absent from every sample.

        Raises:
            ValueError: If a name is unknown, or a sample would have nothing left.
        """
        for name in names:
            if name not in self.present:
                raise ValueError(f"no modality {name!r} in this batch; it has {sorted(self.present)}")
        present = {name: torch.zeros_like(there) if name in names else there for name, there in self.present.items()}
        check_present(present)
        return replace(self, present=present)

    def only(self, *names: str) -> Batch:
        """Return the batch in which only the named modalities are present."""
        return self.without(*(name for name in self.present if name not in names))

    def _map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        def part(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: change(tensor) for name, tensor in tensors.items()}

        return Batch(part(self.data), part(self.present), part(self.mask), part(self.labels), part(self.labelled),
                     self.left_out)  # fmt: skip


def check_present(present: Mapping[str, Tensor]) -> None:
    """Make sure that every sample has at least one modality.

    Raises:
        ValueError: If one has none; it names the first such sample.
    """
    anything = torch.stack(list(present.values())).any(dim=0)  # (B,)
    if not bool(anything.all()):
        first = int((~anything).nonzero()[0])
        raise ValueError(f"sample {first} has none of the modalities {sorted(present)}; expected at least one")


def collate(
    clips: Sequence[Clip],
    transforms: Mapping[str, Callable[[Any], Tensor]],
    *,
    like: Mapping[str, Tensor] | None = None,
    multiple_of: Mapping[str, int] | None = None,
    labels: Sequence[str] | Mapping[str, Any] | None = None,
    like_labels: Mapping[str, Tensor] | None = None,
) -> Batch:
    """Turn clips into a batch: transform each stream, pad to the longest, note what is real.

    Lengths may differ along time: the last dimension of log-mel (M, T) and token ids (L,), the second of frames
    (C, T, H, W). Vectors and (M, T) always get a mask; larger tensors only where there is padding.

    Labels may be numbers, bools, NumPy's and torch's numbers, vectors, lists of tokens, and arrays of one shape. A clip
    may lack one: then -100 (whole numbers) or NaN stands there, `Batch.labelled` is False, and no objective counts it.
    A label that is words in all clips is left out, and an objective that asks for it says so; any other that cannot be
    a tensor (None, a dictionary, words among numbers) is an error.

    Args:
        clips: The samples.
        transforms: name → function from the raw stream to a tensor, e.g. log-mel for "audio". Its keys choose
            the modalities.
        like: name → a tensor such as the transform returns, of any length. It stands for a modality that none of these
            clips has, as happens in small batches; without it, that is an error.
        multiple_of: name → number; lengths are padded to a multiple of it, so that a compiled model meets few shapes.
        labels: Names of the labels that the batch shall have, by default all that can be tensors. Or name → an example
            of its values, for labels that none of these clips may have.
        like_labels: name → a label as a tensor, as `like` for streams; what `loader` has found in other clips.

    Returns:
        The batch.

    Raises:
        ValueError: If there are no clips, a clip has none of the modalities, no clip has one of them and `like` does
            not say what it looks like, or tensors cannot be stacked. If a label cannot become a tensor: it names clip,
            label and type.

    Chapters: start/first_model, preprocessing/batching.
    """
    if not clips:
        raise ValueError("clips is empty; expected at least one")
    batch = Batch({}, {})
    for name, transform in transforms.items():
        tensors = [transform(clip.streams[name]) if name in clip.streams else None for clip in clips]
        batch.present[name] = torch.tensor([tensor is not None for tensor in tensors])
        example: Tensor | None = next((tensor for tensor in tensors if tensor is not None), (like or {}).get(name))
        if example is None:
            raise ValueError(f"no clip has {name!r}; leave it out of transforms, or say in `like` what it looks like")
        batch.data[name], mask = _pad(tensors, example, name, (multiple_of or {}).get(name, 1))
        if mask is not None:
            batch.mask[name] = mask
    check_present(batch.present)
    names = [clip.name or f"clip {k} of the batch" for k, clip in enumerate(clips)]
    found = collate_labels([clip.labels for clip in clips], names, labels, like_labels)
    if both := batch.mask.keys() & found.mask.keys():
        raise ValueError(f"{sorted(both)} are streams, and labels that are lists; expected different names")
    batch.labels, batch.labelled, batch.left_out = found.values, found.labelled, found.left_out
    batch.mask |= found.mask
    return batch


def _pad(tensors: list[Tensor | None], like: Tensor, name: str, multiple: int) -> tuple[Tensor, Tensor | None]:
    """Stack tensors of unlike length; a mask (B, N) where that can happen, or did."""
    if like.ndim == 0:
        raise ValueError(f"{name}: the transform returns a number; expected a tensor whose last dimension is time")
    dim = _time_dim(like)
    fixed = _without_time(like)
    found = [tensor for tensor in tensors if tensor is not None]
    for tensor in found:
        if tensor.ndim != like.ndim or _without_time(tensor) != fixed or tensor.dtype != like.dtype:
            raise ValueError(f"{name}: shapes {tuple(tensor.shape)} and {tuple(like.shape)}, {tensor.dtype} and "
                             f"{like.dtype} differ; expected one type, and shapes alike but for time, dimension {dim}"
                             )  # fmt: skip
    lengths = torch.tensor([0 if tensor is None else tensor.shape[dim] for tensor in tensors])
    longest = max((tensor.shape[dim] for tensor in found), default=like.shape[dim])
    longest = math.ceil(longest / multiple) * multiple
    shape = list(like.shape)
    shape[dim] = longest
    stacked = like.new_zeros(len(tensors), *shape)  # (B, …, N, …)
    for row, real in zip(stacked, tensors, strict=True):
        if real is not None:
            row.narrow(dim, 0, real.shape[dim]).copy_(real)
    padded = any(tensor.shape[dim] < longest for tensor in found)
    return stacked, torch.arange(longest) < lengths[:, None] if padded or like.ndim <= 2 else None  # (B, N)


def _time_dim(sample: Tensor) -> int:
    """Return which dimension of a sample is time: frames are (C, T, H, W), all else ends with it."""
    return -3 if sample.ndim == 4 else -1


def _without_time(sample: Tensor) -> list[int]:
    """Return a sample's shape but for time."""
    shape = list(sample.shape)
    del shape[_time_dim(sample)]
    return shape
