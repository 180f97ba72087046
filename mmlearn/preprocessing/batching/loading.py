"""Many clips in one batch: of like length, read by several processes, in an order that a seed decides.

How streams get onto one clock is `mmlearn.preprocessing.video.alignment`; how clips become tensors is
`mmlearn.batch.collate`.

Chapter: preprocessing/batching.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from mmlearn.batch import Batch, collate
from mmlearn.clip import Clip
from mmlearn.preprocessing.batching.known_labels import having, label_examples, listed_labels
from mmlearn.preprocessing.batching.seeding import (
    generators_in,
    process_rank,
    reseed,
    start_worker,
    undisturbed,
)

LOOKED_AT = 4  # clips that show what labels there are, of a data set that does not list them


class BucketSampler(Sampler[list[int]]):
    """Batches of samples of like length, so that little is padded; each index comes exactly once an epoch.

    Shuffled: all indices are shuffled, each run of 50 batches is sorted by length and cut into batches, and the batches
    are shuffled. Each pass is another epoch with another order, which `seed` and the epoch decide. Not shuffled:
    sorted by length, shortest first, always the same.

    Args:
        lengths: Of each sample, in any unit.
        batch_size: Samples a batch; only one batch may have fewer.
        seed: Of the order.
        shuffle: See above.

    Give it to a `DataLoader` as `batch_sampler`. Chapter: preprocessing/batching.
    """

    drop_last = False  # Accelerate asks
    pool = 50  # batches that are sorted together: more is less padding, fewer is more chance

    def __init__(self, lengths: Sequence[float], batch_size: int, *, seed: int = 0, shuffle: bool = True) -> None:
        if batch_size < 1 or not len(lengths):
            raise ValueError(f"batch_size is {batch_size}, lengths hold {len(lengths)}; expected at least 1 of both")
        self.lengths, self.batch_size, self.seed, self.shuffle = np.asarray(lengths), batch_size, seed, shuffle
        self.epoch = 0

    def __len__(self) -> int:
        """Return the number of batches."""
        return math.ceil(len(self.lengths) / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the indices of each batch."""
        rng = np.random.default_rng([self.seed, self.epoch])
        self.epoch += self.shuffle
        order = rng.permutation(len(self.lengths)) if self.shuffle else np.arange(len(self.lengths))
        run = self.pool * self.batch_size if self.shuffle else len(order)
        pools = [order[k : k + run] for k in range(0, len(order), run)]
        order = np.concatenate([pool[self.lengths[pool].argsort(kind="stable")] for pool in pools])
        batches = [order[k : k + self.batch_size].tolist() for k in range(0, len(order), self.batch_size)]
        yield from (batches[k] for k in (rng.permutation(len(batches)) if self.shuffle else range(len(batches))))

    def set_epoch(self, epoch: int) -> None:
        """Choose which epoch the next pass is."""
        self.epoch = epoch


def padded_share(lengths: Sequence[float], batches: Iterable[Sequence[int]]) -> float:
    """Return which share of the batches' steps is padding, if each batch is padded to its longest sample.

    Chapter: preprocessing/batching.

    Examples:
        >>> round(float(padded_share([3, 5, 5, 5], [[0, 1], [2, 3]])), 3)  # 2 of 20 steps
        0.1
    """
    sizes = [np.asarray(lengths)[list(batch)] for batch in batches]
    return 1 - sum(size.sum() for size in sizes) / sum(size.max() * len(size) for size in sizes)


def loader(
    dataset: Dataset,
    transforms: Mapping[str, Callable[[Any], Tensor]],
    *,
    batch_size: int,
    shuffle: bool = False,
    lengths: Sequence[float] | None = None,
    like: Mapping[str, Tensor] | None = None,
    multiple_of: Mapping[str, int] | None = None,
    labels: Sequence[str] | Mapping[str, Any] | None = None,
    require: Sequence[str] = (),
    workers: int = 0,
    seed: int = 0,
) -> DataLoader:
    """Return a loader that reads clips, transforms and collates them; `predict` takes it as it is, and so does `fit`.

    (`fit` does not take one of an iterable data set yet: train on its batches by hand.)

    Workers are processes: they pay where reading or transforming a clip takes longer than training on it. With CUDA,
    batches wait in page-locked memory.

    The order and all random draws follow from `seed`. The generators that transforms and data set hold (NumPy's,
    PyTorch's, Python's; as attributes, in partials, closures, lists, …) are seeded again, in place: in each worker when
    it starts, without workers at the beginning of each pass. So no two clips of a pass share a draw, passes differ,
    and the same seed gives the same draws again; what a generator was seeded with before does not matter. Python's,
    NumPy's and PyTorch's global generators are seeded in workers, and left alone without them. Other numbers of
    workers give other draws.

    Labels are described at `collate`. One that a clip lacks is marked as missing, and no objective counts it.

    Args:
        dataset: Of `Clip`s: by index, such as `HanziClips` or `VideoFolder`, or iterable, such as shards.
        transforms: As in `collate`. With workers that are spawned they must be picklable: no lambdas.
        batch_size: Clips a batch.
        shuffle: Whether to draw a new order each epoch. Iterable data sets bring their own.
        lengths: Of each clip; batches are then of like length (`BucketSampler`).
        like: As in `collate`. By default, the first clips of a data set with indices are looked at until each modality
            was met; of an iterable one, nothing is.
        multiple_of: As in `collate`.
        labels: As in `collate`; by default all that can be tensors. A dictionary with an example of each is needed only
            where a label is so rare that a batch may have none of it, and the data set is read in passing or from
            files without a list of labels.
        require: Labels without which a clip is left out, as is one in which they are no numbers; a warning tells how
            many and which.
        workers: Processes that prepare batches; 0 means this one.
        seed: Of order and random transforms.

    Raises:
        ValueError: If no clip has a modality or a required label, lengths do not fit, an iterable data set is to be
            shuffled here, or a label that is looked at cannot become a tensor.

    Chapter: preprocessing/batching.
    """
    iterable = isinstance(dataset, IterableDataset)
    if iterable and (shuffle or lengths is not None):
        raise ValueError("an iterable data set decides its own order; expected no shuffle and no lengths")
    if not iterable and lengths is not None and len(lengths) != len(cast(Sized, dataset)):
        raise ValueError(f"{len(lengths)} lengths for {len(cast(Sized, dataset))} clips; expected one each")
    if require:
        dataset, rows = having(dataset, require)
        lengths = None if lengths is None else [lengths[k] for k in rows]
    like_labels: dict[str, Tensor] = {}
    if not iterable:
        like, like_labels = _examples(dataset, transforms, like or {}, labels)
    options: dict[str, Any] = {
        "collate_fn": _Collate(like_labels, transforms=transforms, like=like, multiple_of=multiple_of, labels=labels),
        "generator": torch.Generator().manual_seed(seed),
        "num_workers": workers,
        "worker_init_fn": partial(start_worker, transforms=transforms) if workers else None,
        "persistent_workers": workers > 0,
        "pin_memory": torch.cuda.is_available(),
    }
    if lengths is not None:
        options["batch_sampler"] = BucketSampler(lengths, batch_size, seed=seed, shuffle=shuffle)
    else:
        options |= {"batch_size": batch_size, "shuffle": None if iterable else shuffle}
    return _Loader(dataset, seed=seed, transforms=transforms, **options)


class _Collate:
    """`collate` that keeps an example of each label it has met, for batches in which none has it."""

    def __init__(self, like_labels: Mapping[str, Tensor], **settings: Any) -> None:
        self.like_labels, self.settings = dict(like_labels), settings

    def __call__(self, clips: Sequence[Clip]) -> Batch:
        """Return the batch."""
        batch = collate(clips, **self.settings, like_labels=self.like_labels)
        for name in batch.labels.keys() - self.like_labels.keys():
            self.like_labels[name] = batch.labels[name][int(batch.labelled[name].long().argmax())]
        return batch


class _Loader(DataLoader):
    """A `DataLoader` that without workers seeds held generators at the beginning of each pass."""

    def __init__(self, dataset: Dataset, *, seed: int, transforms: Any, **options: Any) -> None:
        super().__init__(dataset, **options)
        self.held = None if self.num_workers else generators_in(transforms, dataset)
        self.seed, self.passes = seed, 0

    def __iter__(self) -> Any:
        if self.held:
            reseed(self.held, abs(self.seed), process_rank(), 0, self.passes)
        self.passes += 1
        return super().__iter__()


def _examples(
    dataset: Any,
    transforms: Mapping[str, Callable[[Any], Tensor]],
    like: Mapping[str, Tensor],
    labels: Sequence[str] | Mapping[str, Any] | None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return a tensor of each modality, the first that the data set has, and one of each label that was met."""
    found, clips = dict(like), []
    for index in range(len(dataset)):
        if not transforms.keys() - found.keys():
            break
        clips.append(dataset[index])
        streams = clips[-1].streams
        found |= {name: transforms[name](streams[name]) for name in transforms if name in streams and name not in found}
    if missing := transforms.keys() - found.keys():
        raise ValueError(
            f"none of {len(dataset)} clips has {sorted(missing)}; leave it out of transforms, or give `like`"
        )
    known = listed_labels(dataset)
    if known is None:  # a few more, from all over the data set
        with undisturbed():
            clips += [dataset[k] for k in range(0, len(dataset), math.ceil(len(dataset) / LOOKED_AT))]
        known = [(clip.name or "a clip", clip.labels) for clip in clips]
    return found, label_examples(known, labels)
