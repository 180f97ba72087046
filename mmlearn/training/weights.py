"""A model's weights on disk, as safetensors.

Chapter: start/first_model.
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model, save_model
from torch import nn


def save_weights(model: nn.Module, path: str | os.PathLike[str], notes: dict[str, Any] | None = None) -> None:
    """Write a model's weights; a file of that name is replaced only when the new one is whole.

    Args:
        model: The model.
        path: File name, by custom `….safetensors`. Its folder is created.
        notes: What to remember beside the weights, e.g. the epoch and its accuracy; stored as JSON.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        whole = Path(folder) / path.name
        save_model(model, str(whole), metadata={"notes": json.dumps(notes or {})})
        os.replace(whole, path)


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read weights into a model and return the notes saved with them.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no safetensors file, or its weights do not fit the model.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            notes = json.loads((file.metadata() or {}).get("notes", "{}"))
        load_model(model, str(path))
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file: {error}") from error
    except RuntimeError as error:
        raise ValueError(f"the weights in {path} do not fit {type(model).__name__}: {error}") from error
    return notes
