"""Where a program runs: device, arithmetic, seeds, the folder for data, and what benchmarks measured.

Chapter: start/setup.
"""

import json
import os
import random
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import platformdirs

if TYPE_CHECKING:  # importing torch takes seconds, and `home` does not need it
    import torch

Precision = Literal["no", "fp16", "bf16"]


def home() -> Path:
    """Return the folder that holds downloaded and generated data.

    It is `$MMLEARN_HOME` where that is set, else the user's cache folder. It is not created here.
    """
    return Path(os.environ.get("MMLEARN_HOME") or platformdirs.user_cache_dir("mmlearn"))


def device() -> "torch.device":
    """Return the best device of this machine that works: CUDA, else Apple's MPS, else the CPU.

    A GPU that is too old or too new for the installed PyTorch says that it is available, and fails at its first
    operation (Kaggle's P100 does). So two matrices are multiplied on it first; if that fails, a warning says why.
    """
    import torch

    if torch.cuda.is_available() and _works("cuda"):
        return torch.device("cuda")
    if torch.backends.mps.is_available() and _works("mps"):
        return torch.device("mps")
    return torch.device("cpu")


@cache
def _works(name: str) -> bool:
    """Return whether a device multiplies two matrices, and warn once if it does not."""
    import torch

    try:
        ones = torch.ones(16, 16, device=name)
        product = float((ones @ ones).sum())  # waits for the device
    except Exception as error:  # a driver, an architecture without kernels, no memory: each raises its own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    else:
        if product == 16**3:
            return True
        reason = f"16 · 16 · 16 came out as {product}"
    warnings.warn(f"this machine's {name} device cannot multiply two matrices, so the CPU is used ({reason}). "
                  "Remedy: choose another GPU, or install the PyTorch that supports it", stacklevel=3)  # fmt: skip
    return False


def precision(on: "torch.device | str | None" = None) -> Precision:
    """Return the mixed precision that suits a device, in Accelerate's words.

    bfloat16 needs tensor cores of NVIDIA's Ampere or later. Older ones, such as the T4 that Colab lends, have float16
    only, which needs loss scaling (Micikevicius et al. 2018). CPU and Apple devices train in float32.

    Args:
        on: The device; by default `device()`.

    Returns:
        "bf16", "fp16", or "no" for plain float32.
    """
    import torch

    on = torch.device(on) if on is not None else device()
    if on.type != "cuda":
        return "no"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def quiet() -> bool:
    """Return whether `$TQDM_DISABLE` asks for no progress bars; tqdm's own bar for notebooks does not look at it."""
    return bool(os.environ.get("TQDM_DISABLE"))


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and PyTorch's random numbers, on every device.

    Args:
        seed: Any integer from 0 to 2**32 - 1.

    Raises:
        ValueError: If the seed is out of that range.
    """
    import numpy as np
    import torch

    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}; expected an integer from 0 to 2**32 - 1")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def load_results(name: str) -> dict[str, Any]:
    """Read the results of a benchmark, `benchmarks/results/<name>.json`, from the checkout or the installed package.

    Args:
        name: The file's name without ending, e.g. "first_model".

    Raises:
        FileNotFoundError: If there is no such file; it names what there is.

    Chapter: start/first_model.
    """
    package = Path(__file__).parent
    folders = [package.parent / "benchmarks" / "results", package / "results"]  # a checkout; an installed wheel
    files = {path.stem: path for folder in folders for path in sorted(folder.glob("*.json"))}
    if name not in files:
        raise FileNotFoundError(f"no results called {name!r}; there are {sorted(files)}")
    return json.loads(files[name].read_text(encoding="utf-8"))
