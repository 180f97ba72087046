"""Samplers and loaders: every clip exactly once, little padding, the same order again, with and without workers."""

import pickle
from functools import partial
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from mmlearn import Batch, Clip, MultimodalModel, fit, predict
from mmlearn.finetuning import Classification
from mmlearn.fusion import ConcatFusion
from mmlearn.preprocessing.batching.loading import BucketSampler, loader, padded_share

LENGTHS = np.random.default_rng(0).integers(5, 60, 200).tolist()


class Sounds(Dataset):
    """Clips with an index as label and sounds of known lengths; every seventh has a text, and the text only."""

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Clip:
        if not 0 <= index < len(self):
            raise IndexError(index)
        sound = np.full(self.lengths[index], index + 1, np.float32)
        streams = {"text": "x" * (1 + index % 3)} if index % 7 == 6 else {"audio": sound}
        return Clip(streams, {"audio": 10.0}, labels={"index": index, "half": index % 2})


class Stream(IterableDataset):
    """The same, one after the other."""

    def __iter__(self):
        yield from (Sounds(LENGTHS[:10])[k] for k in range(10))


def encode(text: str) -> Tensor:
    return torch.ones(len(text), dtype=torch.long)


def mono(sound: np.ndarray) -> Tensor:
    return torch.from_numpy(sound)[None]  # (1, S)


def noisy(sound: np.ndarray) -> Tensor:
    return mono(sound) + torch.rand(1) + np.random.rand()


TRANSFORMS = {"audio": mono, "text": encode}


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=300),
    st.integers(1, 9),
    st.booleans(),
    st.integers(0, 3),
    st.integers(1, 50),
)
@settings(max_examples=60)
def test_buckets_hold_every_index_once(lengths: list[int], size: int, shuffle: bool, seed: int, pool: int) -> None:
    sampler = BucketSampler(lengths, size, seed=seed, shuffle=shuffle)
    sampler.pool = pool
    for _ in range(2):
        batches = list(sampler)
        assert sorted(chain.from_iterable(batches)) == list(range(len(lengths)))
        assert len(batches) == len(sampler)
        sizes = sorted(map(len, batches))
        assert sizes[1:] == [size] * (len(sizes) - 1) and sizes[0] >= 1  # only one may be smaller
    again = BucketSampler(lengths, size, seed=seed, shuffle=shuffle)
    again.pool = pool
    again.set_epoch(1)
    assert list(again) == batches


def test_buckets_pad_less_than_chance_and_not_more_than_sorting() -> None:
    best = padded_share(LENGTHS, BucketSampler(LENGTHS, 8, shuffle=False))
    order = np.random.default_rng(1).permutation(200).tolist()
    chance = padded_share(LENGTHS, [order[k : k + 8] for k in range(0, 200, 8)])
    shuffled = BucketSampler(LENGTHS, 8)
    assert best <= padded_share(LENGTHS, shuffled) < 0.2 * chance
    shuffled.pool = 4
    assert best < padded_share(LENGTHS, shuffled) < 0.7 * chance
    in_order = [LENGTHS[k] for k in chain.from_iterable(BucketSampler(LENGTHS, 8, shuffle=False))]
    assert in_order == sorted(LENGTHS)


def test_padded_share_in_closed_form() -> None:
    assert padded_share([4, 4, 2], [[0, 1], [2]]) == 0
    assert padded_share([4, 1, 3], [[0, 1, 2]]) == pytest.approx(1 - 8 / 12)


def test_an_epoch_has_its_own_order() -> None:
    sampler = BucketSampler(LENGTHS, 8)
    first, second = list(sampler), list(sampler)
    assert first != second and {frozenset(b) for b in first} != {frozenset(b) for b in second}
    sampler.set_epoch(0)
    assert list(sampler) == first
    assert list(BucketSampler(LENGTHS, 8, seed=1)) != first
    calm = BucketSampler(LENGTHS, 8, shuffle=False)
    assert list(calm) == list(calm)


def test_a_loader_gives_every_clip_once_in_an_order_of_its_seed() -> None:
    clips = Sounds(LENGTHS)
    make = partial(loader, clips, TRANSFORMS, batch_size=16)
    assert torch.cat([batch.labels["index"] for batch in make()]).tolist() == list(range(200))
    orders = [torch.cat([b.labels["index"] for b in make(shuffle=True, seed=seed)]).tolist() for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2] and sorted(orders[0]) == list(range(200))
    for batch in make(lengths=LENGTHS, shuffle=True):
        for row, index in enumerate(batch.labels["index"].tolist()):  # what belongs together stays together
            sample = batch.split()[row]
            assert sample.keys() == clips[index].streams.keys()
            assert torch.equal(sample["audio"], mono(clips[index].audio)) if "audio" in sample else index % 7 == 6


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_give_the_same_batches(start: str) -> None:
    here = loader(Sounds(LENGTHS[:40]), TRANSFORMS, batch_size=8, shuffle=True, lengths=LENGTHS[:40])
    there = loader(Sounds(LENGTHS[:40]), TRANSFORMS, batch_size=8, shuffle=True, lengths=LENGTHS[:40], workers=2)
    there.multiprocessing_context = start
    for _ in range(2):  # the workers live on, the order is the next epoch's
        for one, other in zip(here, there, strict=True):
            assert all(torch.equal(one.data[name], other.data[name]) for name in TRANSFORMS)
            assert torch.equal(one.labels["index"], other.labels["index"])


def test_what_workers_need_can_be_sent_to_them() -> None:
    batches = loader(Sounds(LENGTHS[:7]), TRANSFORMS, batch_size=2, workers=1)
    parts = pickle.loads(pickle.dumps((batches.dataset, batches.collate_fn, batches.worker_init_fn)))
    assert len(parts[1]([parts[0][0], parts[0][1]])) == 2


def test_workers_draw_numbers_of_their_own_that_the_seed_decides() -> None:
    def noise(seed: int) -> Tensor:
        batches = loader(Sounds([3] * 6), {"audio": noisy}, batch_size=1, workers=2, seed=seed)
        return torch.cat([batch.data["audio"][:, 0, 0] - batch.labels["index"] for batch in batches])

    first, again, other = noise(0), noise(0), noise(1)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(set(first.tolist())) == 6


def test_a_rare_modality_needs_no_luck() -> None:
    clips = Sounds([4] * 14)
    batches = list(loader(clips, TRANSFORMS, batch_size=2))  # two texts among fourteen clips: most batches have none
    assert sum(bool(batch.present["text"].any()) for batch in batches) == 2
    assert all(batch.data["text"].dtype == torch.long for batch in batches)
    with pytest.raises(ValueError, match=r"none of 5 clips has \['text'\]"):
        loader(Sounds([4] * 5), TRANSFORMS, batch_size=2)
    given_like = loader(Sounds([4] * 5), TRANSFORMS, batch_size=2, like={"text": torch.tensor([1])})
    assert not next(iter(given_like)).present["text"].any()


def test_lengths_are_padded_to_multiples() -> None:
    batches = loader(Sounds(LENGTHS), TRANSFORMS, batch_size=8, lengths=LENGTHS, multiple_of={"audio": 16})
    assert {batch.data["audio"].shape[-1] for batch in batches} <= {16, 32, 48, 64}


def test_a_stream_brings_its_own_order() -> None:
    batches = list(loader(Stream(), TRANSFORMS, batch_size=4, like={"text": torch.tensor([1])}))
    assert torch.cat([batch.labels["index"] for batch in batches]).tolist() == list(range(10))
    for wrong in ({"shuffle": True}, {"lengths": LENGTHS[:10]}):
        with pytest.raises(ValueError, match="an iterable data set decides its own order"):
            loader(Stream(), TRANSFORMS, batch_size=4, **wrong)


def test_wrong_sizes_are_named() -> None:
    with pytest.raises(ValueError, match="3 lengths for 200 clips"):
        loader(Sounds(LENGTHS), TRANSFORMS, batch_size=4, lengths=[1, 2, 3])
    with pytest.raises(ValueError, match="batch_size is 0"):
        BucketSampler([1, 2], 0)
    with pytest.raises(ValueError, match="lengths hold 0"):
        BucketSampler([], 2)


class Mean(nn.Module):
    """(B, …, N) to (B, 1), over what is real."""

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = x.float().flatten(1)
        real = torch.ones_like(x, dtype=torch.bool) if mask is None else mask.expand_as(x)
        return (torch.where(real, x, 0).sum(1) / real.sum(1).clamp(min=1))[:, None]


def test_fit_and_predict_take_a_loader() -> None:
    encoders = {"audio": Mean(), "text": Mean()}
    model = MultimodalModel(encoders, ConcatFusion({"audio": 1, "text": 1}, dim=4), nn.Linear(4, 2))
    train = loader(Sounds(LENGTHS), TRANSFORMS, batch_size=16, shuffle=True, lengths=LENGTHS, workers=1)
    valid = loader(Sounds(LENGTHS[:20]), TRANSFORMS, batch_size=16)
    assert isinstance(train, DataLoader) and isinstance(next(iter(valid)), Batch)
    history = fit(model, train, valid, Classification("half", 2), epochs=2, progress=False)
    assert len(history) == 2
    assert predict(model, valid).shape == (20, 2)
