"""A second device, emulated on the CPU: tensors carry a mark, and an operation that mixes marks is refused.

`second_device()` makes PyTorch believe in an Apple chip ("mps"): tensors that are moved to it are marked as "far", all
others that Python code makes are "near". What is computed from far tensors is far. As on a real device, an operation on
both raises RuntimeError, far tensors have no `numpy()`, and copies from one side to the other are allowed. Numbers stay
those of the CPU. Marks belong to storages, so views, parameters and `.data` share them.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch._dynamo  # before anything is patched: it looks at what is there
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

FAR, NEAR = torch.device("mps", 0), torch.device("cpu")
FACTORIES = ["tensor", "as_tensor", "from_numpy", "frombuffer", "zeros", "ones", "full", "empty", "rand", "randn"]
FACTORIES += ["randint", "randperm", "arange", "linspace", "logspace", "eye", "hann_window", "tril_indices"]
LIKE = ["zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "randint_like"]
NEW = ["new_zeros", "new_ones", "new_full", "new_empty", "new_tensor"]
COPY = "aten.copy_.default"  # from one side to the other, and its target stays where it is
ANY = {COPY, "aten._has_compatible_shallow_copy_type.default"}  # the latter only asks, while a model moves
PACK = "aten._pack_padded_sequence.default"  # its second result, how many go on in each step, stays on the CPU …
PACKED = {"aten.lstm.data", "aten.gru.data", "aten.rnn_tanh.data", "aten.rnn_relu.data"}  # … as their second argument
FIRST = {
    "aten.index.Tensor",
    "aten.index_put_.default",
    "aten.index_put.default",
    "aten._index_put_impl_.default",
    PACK,
}  # indices, and lengths, may lie on the CPU

_marks: dict[int, tuple[StorageWeakRef, bool]] = {}  # by storage: a weak reference, which keeps its number from reuse
_plain_device = torch._C.TensorBase.device.__get__  # type: ignore[attr-defined]


_Generator = torch.Generator


class _Drawn(_Generator):
    """A generator of either side; its numbers are the CPU's."""

    far: bool

    def __new__(cls, device: Any = "cpu") -> "_Drawn":
        made = super().__new__(cls)
        made.far = is_far_device(device)
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return FAR if self.far else NEAR


def mark(tensor: Tensor, far: bool) -> Tensor:
    """Note on which side a tensor lies."""
    storage = tensor.untyped_storage()
    _marks[storage._cdata] = StorageWeakRef(storage), far
    if len(_marks) % 5000 == 0:
        for key in [key for key, (ref, _) in _marks.items() if ref.expired()]:
            del _marks[key]
    return tensor


def is_far(tensor: Tensor) -> bool | None:
    """Return True for far, False for near, None for what PyTorch made inside of itself."""
    try:
        found = _marks.get(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # a tensor without storage
        return None
    return found[1] if found else None


def is_far_device(device: Any) -> bool:
    return device is not None and torch.device(device).type == FAR.type


class _Watch(TorchDispatchMode):
    """Refuse operations on both sides; mark what comes out like what went in."""

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(op)
        watched = (args[0], kwargs) if name in FIRST else ((args[0], *args[2:]) if name in PACKED else args, kwargs)
        inputs = [leaf for leaf in tree_leaves(watched) if isinstance(leaf, Tensor)]
        sides = [(is_far(tensor), tensor.ndim) for tensor in inputs]
        far = any(side for side, _ in sides)
        near = any(side is False and ndim for side, ndim in sides)  # numbers of the CPU may meet any tensor
        if far and near and name not in ANY:
            shapes = [(str(FAR if is_far(t) else NEAR), tuple(t.shape)) for t in inputs]
            raise RuntimeError(f"Expected all tensors to be on the same device, but found {FAR} and cpu in {name}: "
                               f"{shapes}")  # fmt: skip
        out = op(*args, **(kwargs or {}))
        if name != COPY and (far or any(side is False for side, _ in sides)):
            for leaf in tree_leaves(out):
                if isinstance(leaf, Tensor) and (far or is_far(leaf) is None):
                    mark(leaf, far)
        if name == PACK:
            mark(out[1], False)
        return out


def _make(function: Callable[..., Any], side: Callable[..., bool]) -> Callable[..., Any]:
    """Wrap a function that makes a tensor: it is made on the CPU, and marked."""

    @functools.wraps(function)
    def make(*args: Any, **kwargs: Any) -> Any:
        far = side(*args, **kwargs)
        if is_far_device(kwargs.get("device")):
            kwargs["device"] = None
        generator = kwargs.get("generator")
        if isinstance(generator, _Generator) and far != getattr(generator, "far", False):
            wanted, found = (FAR.type, "cpu") if far else ("cpu", FAR.type)
            raise RuntimeError(f"Expected a {wanted!r} device type for generator but found {found!r}")
        out = function(*args, **kwargs)
        return mark(out, far) if isinstance(out, Tensor) and is_far(out) in (None, far) else _moved(out, far)

    return make


def _moved(tensor: Tensor, far: bool) -> Tensor:
    return mark(tensor.clone(), far)


def _by_device(*_: Any, device: Any = None, **__: Any) -> bool:
    return is_far_device(device)


def _by_first(first: Any, *args: Any, device: Any = None, **kwargs: Any) -> bool:
    return is_far_device(device) if device is not None else isinstance(first, Tensor) and bool(is_far(first))


def _to(plain: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        other = kwargs.pop("other", None)
        device, rest = kwargs.pop("device", None), list(args)
        if rest and isinstance(rest[0], Tensor):
            other = rest.pop(0)
        elif rest and (rest[0] is None or isinstance(rest[0], str | torch.device | int)):
            device = rest.pop(0)
        if other is not None:
            device, rest = other.device, [other.dtype, *rest]
        far = bool(is_far(self)) if device is None else is_far_device(device)
        out = plain(self, *rest, **kwargs) if device is None else plain(self, NEAR, *rest, **kwargs)
        if far == bool(is_far(self)):
            return out
        return mark(out.clone() if out is self else out, far)

    return to


_plain_unpack = torch._VF._pad_packed_sequence  # type: ignore[attr-defined]


def _unpack(data: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
    """Pad packed steps on their side; the lengths stay on the CPU. (PyTorch fills them unseen by `_Watch`.)"""
    steps, lengths = _plain_unpack(data, *args)
    return mark(steps, bool(is_far(data))), mark(lengths, False)


@contextmanager
def second_device() -> Iterator[torch.device]:
    """Emulate a device beside the CPU while the context lasts; yields it."""
    with ExitStack() as stack:
        for name in FACTORIES:
            plain = getattr(torch, name)
            side = _by_first if name == "as_tensor" else _by_device
            stack.enter_context(patch.object(torch, name, _make(plain, side)))
        for name in LIKE:
            stack.enter_context(patch.object(torch, name, _make(getattr(torch, name), _by_first)))
        for name in NEW:
            stack.enter_context(patch.object(Tensor, name, _make(getattr(Tensor, name), _by_first), create=True))
        stack.enter_context(patch.object(torch._VF, "_pad_packed_sequence", _unpack, create=True))
        _patch_tensor(stack)
        stack.enter_context(patch.object(torch, "Generator", _Drawn))
        stack.enter_context(patch.object(torch.backends.mps, "is_available", lambda: True))
        stack.enter_context(patch.object(torch.backends.mps, "is_built", lambda: True))
        stack.enter_context(_Watch())
        yield FAR


def _patch_tensor(stack: ExitStack) -> None:
    def new(name: str, value: Any) -> None:
        stack.enter_context(patch.object(Tensor, name, value, create=True))

    def only_near(plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Tensor, *args: Any, **kwargs: Any) -> Any:
            if is_far(self):
                raise TypeError(f"can't convert {FAR} device type tensor to numpy. Use Tensor.cpu() to copy the "
                                "tensor to host memory first.")  # fmt: skip
            return plain(self, *args, **kwargs)

        return call

    copied, to = Tensor.__deepcopy__, _to(Tensor.to)

    def deepcopy(self: Tensor, memo: Any) -> Tensor:
        side, copy = is_far(self), copied(self, memo)
        return copy if side is None else mark(copy, side)

    new("device", property(lambda self: FAR if is_far(self) else _plain_device(self)))
    new("is_mps", property(lambda self: bool(is_far(self))))
    new("to", to)
    new("cpu", lambda self, **_: to(self, NEAR))
    new("numpy", only_near(Tensor.numpy))
    new("__array__", only_near(Tensor.__array__))
    new("__deepcopy__", deepcopy)
