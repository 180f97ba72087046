"""A model's weights on disk, as safetensors.

Chapter: start/first_model.
"""

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_model
from torch import Tensor, nn

from mmlearn import files


def save_weights(model: nn.Module, path: str | os.PathLike[str], notes: dict[str, Any] | None = None) -> None:
    """Write a model's weights; a file of that name is replaced only when the new one is whole.

    What runs that were killed have left unfinished beside it is removed.

    Args:
        model: The model.
        path: File name, usually `….safetensors`. Its folder is created.
        notes: What to remember beside the weights, e.g. the epoch and its accuracy; stored as JSON.

    Raises:
        OSError: If the disk is full, or the folder cannot be written. A file of that name stays as it was.
    """
    path = Path(path)
    size = sum(x.numel() * x.element_size() for x in model.state_dict().values())
    with files.unfinished(path) as folder:
        files.check_room(folder, size, f"the weights of {type(model).__name__}")
        try:
            save_model(model, str(folder / "whole"), metadata={"notes": json.dumps(notes or {})})
        except SafetensorError as error:  # its own name for what the operating system says
            raise OSError(f"{path}: the weights cannot be written ({error})") from error
        with open(folder / "whole", "r+b") as file:
            os.fsync(file.fileno())
        os.replace(folder / "whole", path)


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read weights into a model and return the notes saved with them.

    All names and shapes are compared first: weights that do not fit leave the model as it was.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a safetensors file, or its weights do not fit the model.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            notes = json.loads((file.metadata() or {}).get("notes", "{}"))
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            if problems := _problems(model.state_dict(), shapes):
                raise ValueError(f"the weights in {path} do not fit {type(model).__name__}: {'; '.join(problems)}")
            state = {name: file.get_tensor(name) for name in shapes}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: its notes are not JSON ({error!r})") from error
    if not isinstance(notes, dict):
        raise ValueError(f"{path}: its notes are {type(notes).__name__}; expected names with values")
    model.load_state_dict(state, strict=False)
    return notes


def _problems(model: dict[str, Tensor], shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """Return why weights do not fit; of tensors that a model shares, one name is enough."""
    there = {_place(model[name]) for name in shapes if name in model}
    problems = [
        *(f"{name} is missing" for name, x in model.items() if name not in shapes and _place(x) not in there),
        *(f"{name} is not expected" for name in shapes if name not in model),
        *(
            f"{name} is {shape}, expected {tuple(model[name].shape)}"
            for name, shape in shapes.items()
            if name in model and tuple(model[name].shape) != shape
        ),
    ]
    return problems[:10] + ([f"and {len(problems) - 10} more"] if len(problems) > 10 else [])


def _place(x: Tensor) -> tuple[Any, ...]:
    """Return what two names of one tensor have in common."""
    return (x.device, x.data_ptr(), tuple(x.shape), x.stride()) if x.numel() else (id(x),)
