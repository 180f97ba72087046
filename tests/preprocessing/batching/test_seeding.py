"""Random draws of transforms and data sets: none shared, others in each pass, the same again for the same seed."""

import functools
import random
import tempfile
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from mmlearn import Clip
from mmlearn.datasets import HanziClips
from mmlearn.preprocessing.batching import seeding
from mmlearn.preprocessing.batching.loading import loader
from mmlearn.preprocessing.batching.seeding import generators_in, reseed

names_of_files = tempfile._get_candidate_names
AT_MODULE = np.random.default_rng(7)


class Clips(Dataset):
    def __init__(self, rng: Any = None) -> None:
        self.rng = rng

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Clip:
        value = self.rng.random() if self.rng is not None else 0.0
        return Clip({"x": np.full(1, value, np.float32)}, labels={"index": index})


class Stream(IterableDataset):
    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        for _ in range(12 // (worker.num_workers if worker else 1)):
            yield Clip({"x": np.full(1, self.rng.random(), np.float32)})


class Owner:
    def __init__(self, rng: Any, draw: Callable[[Any], float]) -> None:
        self.rng, self.draw = rng, draw

    def __call__(self, x: np.ndarray) -> Tensor:
        return torch.tensor([self.draw(self.rng)], dtype=torch.float64)


class InClass:
    rng = np.random.default_rng(0)

    def __call__(self, x: np.ndarray) -> Tensor:
        return torch.tensor([self.rng.random()])


class InSlots:
    __slots__ = ("parts",)

    def __init__(self) -> None:
        self.parts = {"deep": [(np.random.default_rng(0),)]}

    def __call__(self, x: np.ndarray) -> Tensor:
        return torch.tensor([self.parts["deep"][0][0].random()])


def from_module(x: np.ndarray) -> Tensor:
    return torch.tensor([AT_MODULE.random()])


def through_another(x: np.ndarray) -> Tensor:
    return from_module(x)


def with_argument(x: np.ndarray, rng: np.random.Generator) -> Tensor:
    return torch.tensor([rng.random()])


def closure() -> Callable[[np.ndarray], Tensor]:
    rng = np.random.default_rng(0)
    return lambda x: torch.tensor([rng.random()])


def of_method() -> Callable[[np.ndarray], Tensor]:
    draw = np.random.default_rng(0).random  # a built-in method, whose owner nobody else holds
    return lambda x: torch.tensor([draw()])


def numpys(rng: Any) -> float:
    return float(rng.random())


def torchs(rng: torch.Generator) -> float:
    return float(torch.rand((), generator=rng, dtype=torch.float64))


def by_default(x: np.ndarray, rng: np.random.Generator = np.random.default_rng(0)) -> Tensor:  # noqa: B008
    return torch.tensor([rng.random()])


TRANSFORMS: dict[str, Callable[[], Callable[[np.ndarray], Tensor]]] = {
    "numpy": lambda: Owner(np.random.default_rng(0), numpys),
    "numpy, another kind": lambda: Owner(np.random.Generator(np.random.Philox(0)), numpys),
    "numpy, old": lambda: Owner(np.random.RandomState(0), numpys),
    "torch": lambda: Owner(torch.Generator(), torchs),
    "python": lambda: Owner(random.Random(0), numpys),
    "partial": lambda: functools.partial(with_argument, rng=np.random.default_rng(0)),
    "closure": closure,
    "method": of_method,
    "class": InClass,
    "slots": InSlots,
    "module": lambda: through_another,
    "default": lambda: by_default,
    "bound": lambda: Owner(np.random.default_rng(0), numpys).__call__,
}


def drawn(batches: DataLoader, passes: int = 2) -> list[float]:
    return [x for _ in range(passes) for batch in batches for x in batch.data["x"][:, 0].tolist()]


def test_every_way_to_hold_a_generator_is_found() -> None:
    for name, make in TRANSFORMS.items():
        transform = make()
        held = generators_in(transform)
        assert len(held) == 1, name
        first = [float(transform(np.zeros(1))) for _ in range(2) if not reseed(held, 3)]
        reseed(held, 4)
        assert first[0] == first[1] != float(transform(np.zeros(1))), name


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_no_two_clips_share_a_draw(workers: int) -> None:
    """All transforms at once: each draws into its own column."""
    made = [make() for make in TRANSFORMS.values()]

    class All:
        def __call__(self, x: np.ndarray) -> Tensor:
            return torch.cat([transform(x).double() for transform in made])  # a closure over them all

    def columns(seed: int) -> Tensor:
        batches = loader(Clips(), {"x": All()}, batch_size=3, workers=workers, seed=seed)
        return torch.cat([batch.data["x"] for _ in range(2) for batch in batches])  # (24, transforms)

    first = columns(0)
    assert first.shape == (24, len(TRANSFORMS))
    assert all(len(column.unique()) == 24 for column in first.T)
    assert len(first.unique()) >= first.numel() - 24  # nor do two transforms ("module" and "class" live on)
    assert torch.equal(columns(0), first)  # the very same objects again: their own state does not matter
    assert not (columns(1) == first).any()


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_data_set_holds(workers: int) -> None:
    for data in (Clips(np.random.default_rng(0)), Subset(Clips(np.random.default_rng(0)), range(12)), Stream()):
        values, again = (
            drawn(loader(data, {"x": torch.from_numpy}, batch_size=3, workers=workers, like={"x": torch.zeros(1)}))
            for _ in range(2)
        )
        assert len(values) == len(set(values)) == 24 and values == again


@pytest.mark.slow
def test_spawned_workers() -> None:
    def batches() -> DataLoader:
        found = loader(Clips(), {"x": Owner(np.random.default_rng(0), numpys)}, batch_size=3, workers=2)
        found.multiprocessing_context = "spawn"
        return found

    values = drawn(batches())
    assert len(set(values)) == 24 and values == drawn(batches())


def test_processes_of_one_training_draw_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    values = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        values += drawn(loader(Clips(), {"x": TRANSFORMS["numpy"]()}, batch_size=3, workers=0))
    assert len(set(values)) == len(values) == 48


def test_global_generators_are_nobodys() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    transform = Owner([torch.default_generator, np.random.mtrand._rand, random.random], lambda rng: 0.0)
    assert generators_in(transform) == []
    drawn(loader(Clips(), {"x": transform}, batch_size=3))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


def test_generators_of_installed_packages_are_nobodys() -> None:
    """From a reader's function through classes it names there is a way into half of what is installed."""

    def transform(x: np.ndarray) -> Any:
        return names_of_files, HanziClips, torch.library.custom_op, loader, x

    next(names_of_files())  # makes its generator
    with mock.patch.object(seeding, "_held_by", wraps=seeding._held_by) as looked_at:
        assert generators_in(transform, mock.sentinel, Subset(Clips(), [0])) == []
    assert looked_at.call_count < 500


def test_long_lists_and_loops_cost_little() -> None:
    loop: list[Any] = [np.random.default_rng(0)]
    loop.append(loop)
    assert len(generators_in(loop, [0] * 10**6, {k: k for k in range(10**5)})) == 1
