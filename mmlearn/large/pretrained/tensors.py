"""The files that published tensors lie in: shapes first, then the tensors. Nothing in them is run.

Chapters: pretraining/contrastive, pretraining/masked.
"""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from packaging.version import Version
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

OLD_FILE = "pytorch_model.bin"
SAFE_TORCH = "2.10"  # before it, a .bin could corrupt memory even where only tensors are read: CVE-2026-24747


def look(folder: Path) -> tuple[Path, dict[str, tuple[int, ...]], Callable[[], dict[str, Tensor]]]:
    """Return the file to name in errors, the shape of each tensor by its published name, and what reads them all."""
    whole, index, old = (folder / name for name in ("model.safetensors", "model.safetensors.index.json", OLD_FILE))
    if whole.is_file():
        return whole, _shapes(whole), lambda: _load(whole)
    if index.is_file():
        try:
            files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            if strange := [name for name in files if Path(name).name != name]:
                raise ValueError(f"it names {strange[0]!r}, which is not a file's name")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{index} is no index: {error!r}") from error
        if lost := [name for name in files if not (folder / name).is_file()]:
            raise FileNotFoundError(f"{index} names {lost}, which {folder} lacks")
        shapes = {name: shape for file in files for name, shape in _shapes(folder / file).items()}
        return index, shapes, lambda: {name: x for file in files for name, x in _load(folder / file).items()}
    if old.is_file():
        tensors = _load_old(old)
        return old, {name: tuple(x.shape) for name, x in tensors.items()}, lambda: tensors
    raise FileNotFoundError(f"no model.safetensors in {folder}; it holds {sorted(p.name for p in folder.iterdir())}")


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file, or is cut off: {error}") from error


def _load(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file, or is cut off: {error}") from error


def _load_old(path: Path) -> dict[str, Tensor]:
    """Read tensors out of a pickle, where torch can do that without harm."""
    if Version(torch.__version__).release < Version(SAFE_TORCH).release:
        raise ValueError(f"{path}: reading such a file with torch {torch.__version__} is not safe (CVE-2026-24747); "
                         f"expected torch {SAFE_TORCH} or later, or the weights as model.safetensors")  # fmt: skip
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle has many
        raise ValueError(f"{path} cannot be read, or holds more than tensors: {error}") from error
    if not isinstance(tensors, dict) or not all(isinstance(x, Tensor) for x in tensors.values()):
        raise ValueError(f"{path} cannot be read, or holds more than tensors")
    return tensors
