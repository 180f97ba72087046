"""Write a benchmark's results with what is needed to judge and repeat them."""

import datetime
import json
import platform
import statistics
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def spread(values: list[float]) -> dict[str, Any]:
    """Return mean, sample standard deviation and the values themselves."""
    return {"mean": statistics.mean(values), "std": statistics.stdev(values), "values": values}


def save(name: str, results: dict[str, Any]) -> None:
    """Write `results` to benchmarks/results/<name>.json with date, commit, device and versions."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=True)
    cpu = f"CPU, {platform.machine()}, {torch.get_num_threads()} threads"
    about = {
        "date": datetime.date.today().isoformat(),
        "commit": commit.stdout.strip(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else cpu,
        "python": platform.python_version(),
        "versions": {package: version(package) for package in ("torch", "torchaudio", "numpy", "accelerate")},
    }
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(about | results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {path.relative_to(RESULTS.parents[1])}")
