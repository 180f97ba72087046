"""Clip (one sample) and Batch (many, padded): the vocabulary of everything above.

Modalities are dictionary keys such as "video", "audio" and "text"; nothing here knows how many there are.
Masks are bool and True means real.

Chapter: start/dataset; what is behind `collate` is the subject of preprocessing/batching.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmlearn import media


@dataclass
class Word:
    """A word and when it is said: `start` and `end` in seconds from the clip's beginning."""

    text: str
    start: float
    end: float


@dataclass
class Clip:
    """One sample: streams that run side by side, as they come out of a file.

    Args:
        streams: What there is: "video" uint8 (T, H, W, C), RGB; "audio" float32 (S,) in [-1, 1]; "text" str.
            A modality that is missing is not in the dictionary.
        rates: "video" in frames a second, "audio" in samples a second.
        words: The words with their times; they become the subtitles of a saved file.
        labels: What is known about the clip: class indices, quantities, names.
        name: Where it comes from.

    Chapter: start/dataset.
    """

    streams: dict[str, Any]
    rates: dict[str, float] = field(default_factory=dict)
    words: list[Word] = field(default_factory=list)
    labels: dict[str, Any] = field(default_factory=dict)
    name: str = ""

    @property
    def video(self) -> np.ndarray | None:
        """Frames, uint8 (T, H, W, C), or None."""
        return self.streams.get("video")

    @property
    def audio(self) -> np.ndarray | None:
        """Sound, float32 (S,), or None."""
        return self.streams.get("audio")

    @property
    def text(self) -> str | None:
        """The caption, or None."""
        return self.streams.get("text")

    @property
    def duration(self) -> float:
        """Seconds of the longest timed stream."""
        return max(
            (len(self.streams[name]) / rate for name, rate in self.rates.items() if name in self.streams), default=0.0
        )

    def without(self, *names: str) -> Clip:
        """Return a copy that lacks the named modalities."""
        return replace(self, streams={name: stream for name, stream in self.streams.items() if name not in names})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an mp4 file: H.264 picture, AAC sound, words as subtitles; text, labels and name as metadata.

        Raises:
            ValueError: If there is neither picture nor sound, or a stream has an unfit shape or type.
        """
        notes = {"text": self.text, "labels": self.labels, "name": self.name}
        media.write_mp4(
            path,
            video=self.video,
            fps=self.rates.get("video", 25.0),
            audio=self.audio,
            sample_rate=int(self.rates.get("audio", 16_000)),
            subtitles=[(word.start, word.end, word.text) for word in self.words],
            metadata={"comment": json.dumps(notes, ensure_ascii=False, default=_plain_number)},
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Clip:
        """Read a video file; what `save` wrote beside the streams comes back too.

        Raises:
            FileNotFoundError, ValueError: If there is no such file, or it cannot be read as video or sound.
        """
        found = media.read_mp4(path)
        try:
            notes = json.loads(found.metadata.get("comment", ""))
        except json.JSONDecodeError:  # somebody else's file: its comment is a comment
            notes = {}
        if not isinstance(notes, dict):
            notes = {}
        streams = {"video": found.video, "audio": found.audio, "text": notes.get("text")}
        rates = {"video": found.fps or 0.0, "audio": found.sample_rate or 0.0}
        return cls(
            streams={name: stream for name, stream in streams.items() if stream is not None},
            rates={name: float(rate) for name, rate in rates.items() if streams[name] is not None},
            words=[Word(text, start, end) for start, end, text in found.subtitles],
            labels=notes.get("labels", {}),
            name=notes.get("name") or os.fspath(path),
        )


def _plain_number(value: Any) -> Any:
    """Turn a NumPy number into Python's own, for JSON."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"labels hold a {type(value).__name__}; expected numbers, strings, lists or dictionaries")


@dataclass
class Batch:
    """Many samples, model side: one padded tensor a modality, with what is real in it.

    Args:
        data: name → tensor (B, …). Rows of absent modalities hold zeros, which nothing may depend on.
        present: name → bool (B,), True where the sample has the modality.
        mask: name → bool (B, N), True where a step is real and not padding. Only for modalities that were padded.
        labels: name → tensor (B,).

    Indexing with a slice, a list or a tensor gives the batch of those samples.
    Chapter: start/first_model.
    """

    data: dict[str, Tensor]
    present: dict[str, Tensor]
    mask: dict[str, Tensor] = field(default_factory=dict)
    labels: dict[str, Tensor] = field(default_factory=dict)

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
        return Batch(*({name: change(tensor) for name, tensor in part.items()} for part in self._parts()))

    def _parts(self) -> tuple[dict[str, Tensor], ...]:
        return self.data, self.present, self.mask, self.labels


def check_present(present: Mapping[str, Tensor]) -> None:
    """Make sure that every sample has at least one modality.

    Raises:
        ValueError: If one has none; it names the first such sample.
    """
    anything = torch.stack(list(present.values())).any(dim=0)  # (B,)
    if not bool(anything.all()):
        first = int((~anything).nonzero()[0])
        raise ValueError(f"sample {first} has none of the modalities {sorted(present)}; expected at least one")


def collate(clips: Sequence[Clip], transforms: Mapping[str, Callable[[Any], Tensor]]) -> Batch:
    """Turn clips into a batch: transform each stream, pad to the longest, note what is real.

    Padding is along a tensor's last dimension, which is time in the shapes used here: frames are put last-but-two
    and must agree, log-mel (M, T) and token ids (L,) may differ in length.

    Args:
        clips: The samples.
        transforms: name → function from the raw stream to a tensor, e.g. log-mel for "audio". Its keys choose
            the modalities.

    Raises:
        ValueError: If there are no clips, a clip has none of the modalities, or shapes cannot be stacked.
    """
    if not clips:
        raise ValueError("clips is empty; expected at least one")
    batch = Batch({}, {})
    for name, transform in transforms.items():
        tensors = [transform(clip.streams[name]) if name in clip.streams else None for clip in clips]
        batch.present[name] = torch.tensor([tensor is not None for tensor in tensors])
        if not batch.present[name].any():
            raise ValueError(f"no clip has {name!r}; leave it out of transforms")
        batch.data[name], mask = _pad(tensors, name)
        if mask is not None:
            batch.mask[name] = mask
    check_present(batch.present)
    for name, value in clips[0].labels.items():
        if isinstance(value, (int, float, np.number)) and all(name in clip.labels for clip in clips):
            batch.labels[name] = torch.tensor([clip.labels[name] for clip in clips])
    return batch


def _pad(tensors: list[Tensor | None], name: str) -> tuple[Tensor, Tensor | None]:
    """Stack tensors of unlike length in their last dimension; a mask (B, N) where lengths can differ."""
    like = next(tensor for tensor in tensors if tensor is not None)
    for tensor in tensors:
        if tensor is not None and tensor.shape[:-1] != like.shape[:-1]:
            raise ValueError(
                f"{name}: shapes {tuple(tensor.shape)} and {tuple(like.shape)} differ before the last dimension"
            )
    lengths = torch.tensor([0 if tensor is None else tensor.shape[-1] for tensor in tensors])
    stacked = like.new_zeros(len(tensors), *like.shape[:-1], int(lengths.max()))  # (B, …, N)
    for row, tensor in zip(stacked, tensors, strict=True):
        if tensor is not None:
            row[..., : tensor.shape[-1]] = tensor
    mask = torch.arange(stacked.shape[-1]) < lengths[:, None]  # (B, N)
    return stacked, mask if like.ndim <= 2 else None
