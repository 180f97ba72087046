"""Random generators that transforms and data sets hold: found, and seeded again in each process.

A process that is forked or spawned begins with a copy of each generator, with its state: all of them would draw the
same numbers. PyTorch seeds only the global generators of a worker.

Chapter: preprocessing/batching.
"""

import functools
import os
import random
import sys
import sysconfig
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

Generator = np.random.Generator | np.random.RandomState | torch.Generator | random.Random
_MOST = 1000  # entries of a list or a dictionary that are looked at
_PLAIN = (str, bytes, int, float, complex, bool, type(None), np.ndarray, np.generic, torch.Tensor, torch.dtype,
          types.ModuleType)  # fmt: skip
_INSTALLED = [Path(sysconfig.get_path(kind)) for kind in ("stdlib", "purelib", "platlib")]


def generators_in(*roots: Any) -> list[Generator]:
    """Return the generators that objects hold, each once, in an order that is the same in every process.

    Looked at are attributes (of objects, their classes, modules of `torch.nn`), lists, tuples, dictionaries,
    `functools.partial`s, bound methods, closures, default arguments, and the global variables that a function names.
    Python's, NumPy's and PyTorch's own global generators are left out, and so are the global variables and the class
    attributes of installed packages: `tempfile` has a generator, too, and nobody wants it seeded. Of a list or a
    dictionary the first thousand entries are looked at.

    Args:
        roots: Transforms, data sets, or whatever holds them.

    Chapter: preprocessing/batching.
    """
    found: list[Generator] = []
    seen: dict[int, Any] = {}  # id → object, which keeps it alive, and so the id its own
    waiting = list(reversed(roots))
    while waiting:
        thing = waiting.pop()
        if isinstance(thing, _PLAIN) or id(thing) in seen:
            continue
        seen[id(thing)] = thing
        if isinstance(thing, (np.random.Generator, np.random.RandomState, torch.Generator, random.Random)):
            if not _is_global(thing):
                found.append(thing)
            continue
        waiting += reversed(list(_held_by(thing)))
    return found


def reseed(generators: Sequence[Generator], *entropy: int) -> None:
    """Seed generators in place: each by its place in the list, and all by the entropy, whole numbers ≥ 0.

    Chapter: preprocessing/batching.
    """
    for place, generator in enumerate(generators):
        seeds = np.random.SeedSequence([place, *entropy])
        if isinstance(generator, np.random.Generator):
            generator.bit_generator.state = type(generator.bit_generator)(seeds).state
        elif isinstance(generator, np.random.RandomState):
            generator.seed(seeds.generate_state(4))
        elif isinstance(generator, torch.Generator):  # in a worker, those of a GPU cannot be used anyway
            if generator.device.type != "cpu" and get_worker_info() is not None:
                continue
            generator.manual_seed(int(seeds.generate_state(1, np.uint64)[0]) >> 1)
        elif not isinstance(generator, random.SystemRandom):  # which has no state
            generator.seed(int(seeds.generate_state(1, np.uint64)[0]))


@contextmanager
def undisturbed() -> Iterator[None]:
    """Leave Python's, NumPy's and PyTorch's global random numbers (on the CPU) as they were before.

    Chapter: preprocessing/batching.
    """
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def process_rank() -> int:
    """Return the number of this process among those of a distributed training, as its launcher tells it; else 0.

    Chapter: preprocessing/batching.
    """
    rank = os.environ.get("RANK", "0")
    return int(rank) if rank.isdigit() else 0


def start_worker(index: int, *, transforms: Any) -> None:
    """Prepare a worker of a `DataLoader`: one thread, and random numbers of its own that the loader's seed decides.

    Args:
        index: Which worker.
        transforms: What it uses beside its data set.

    Chapter: preprocessing/batching.
    """
    import cv2

    cv2.setNumThreads(0)  # the processes are what runs side by side (torch sees to its own threads)
    worker = get_worker_info()
    assert worker is not None  # this is a worker
    reseed(generators_in(transforms, worker.dataset), worker.seed, process_rank(), index + 1)


def _held_by(thing: Any) -> Iterator[Any]:
    """Yield what an object holds, in a fixed order; sets are passed over, for theirs is not."""
    if isinstance(thing, dict):
        yield from [value for value, _ in zip(thing.values(), range(_MOST), strict=False)]
    elif isinstance(thing, (list, tuple)):
        yield from thing[:_MOST]
    elif isinstance(thing, functools.partial):
        yield from (thing.func, thing.args, thing.keywords)
    elif isinstance(thing, types.FunctionType):
        yield from _of_function(thing)
    elif isinstance(thing, type):
        if not _is_installed(thing.__module__):
            yield from [value for value in vars(thing).values() if not isinstance(value, type)]
    else:
        for name in ("__self__", "__func__", "__wrapped__"):  # of bound methods, and of what wraps a function
            yield getattr(thing, name, None)
        yield getattr(thing, "__dict__", None)
        for kind in type(thing).__mro__:
            slots = kind.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                yield getattr(thing, name, None)
            yield kind


def _of_function(function: types.FunctionType) -> Iterator[Any]:
    yield from (function.__defaults__, function.__kwdefaults__, function.__dict__)
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # not filled yet
            yield cell.cell_contents
    if _is_installed(function.__module__):
        return
    codes = [function.__code__]
    while codes:  # functions within it, too
        code = codes.pop(0)
        yield from [function.__globals__[name] for name in code.co_names if name in function.__globals__]
        codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]


def _is_installed(module: str | None) -> bool:
    """Whether a module belongs to Python or to an installed package, as this one does wherever it lies."""
    return module is not None and _is_installed_package(module.split(".")[0])


@functools.cache
def _is_installed_package(name: str) -> bool:
    if name == "mmlearn" or name in sys.stdlib_module_names:
        return True
    file = getattr(sys.modules.get(name), "__file__", None)  # a notebook, and what it defines, has none
    return file is not None and any(Path(file).is_relative_to(place) for place in _INSTALLED)


def _is_global(generator: Any) -> bool:
    own = (torch.default_generator, np.random.mtrand._rand, getattr(random, "_inst", None))
    return any(generator is one for one in own)
