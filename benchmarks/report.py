"""Write a benchmark's results with what is needed to judge and repeat them."""

import datetime
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
UNFINISHED = Path(__file__).parents[1] / "_build"  # a folder for each benchmark that goes on where it was stopped


def spread(values: list[float]) -> dict[str, Any]:
    """Return mean, sample standard deviation and the values themselves."""
    return {"mean": statistics.mean(values), "std": statistics.stdev(values), "values": values}


def measure(calls: dict[str, Callable[[], Any]], repeats: int = 7, warm: bool = False) -> dict[str, dict[str, Any]]:
    """Time calls side by side: each once to warm up, then in turn, so that a slow minute of the machine meets them all.

    Args:
        calls: name → what to time.
        repeats: Turns.
        warm: Call each once more, untimed, before each timed call. Without it, threads that one leaves spinning (as
            OpenBLAS does) count against the next.

    Returns:
        name → {"median": seconds, "fastest": seconds, "values": [seconds, …]}. On a GPU the work is waited for.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, call in calls.items():
            if warm:
                call()
            start = time.perf_counter()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - start)
    timed = {name: values[1:] for name, values in seconds.items()}
    return {name: {"median": statistics.median(v), "fastest": min(v), "values": v} for name, v in timed.items()}


def keep(file: Path, about: dict[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what a run that was stopped has found with the same settings; else find it, and write it down.

    Args:
        file: Where it is written. The name says which run this is.
        about: The benchmark's settings, as JSON gives them back: lists, not tuples.
        make: Does the work and returns its results.
    """
    if file.exists() and (old := json.loads(file.read_text()))["about"] == about:
        return old["row"]
    start = time.process_time()
    row = make()
    file.parent.mkdir(parents=True, exist_ok=True)
    whole = file.with_suffix(".new")
    whole.write_text(json.dumps({"about": about, "row": row}))
    whole.replace(file)  # at once: never half a file
    shown = {name: round(value, 3) for name, value in row.items() if isinstance(value, float)}
    print(f"{file.stem}, {time.process_time() - start:.0f} s:", shown, flush=True)
    return row


def save(name: str, results: dict[str, Any], peers: Iterable[str] = ()) -> None:
    """Write `results` to benchmarks/results/<name>.json with date, commit, device and versions, the peers' too."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=True)
    cpu = f"CPU, {platform.machine()}, {torch.get_num_threads()} threads"
    about = {
        "date": datetime.date.today().isoformat(),
        "commit": commit.stdout.strip(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else cpu,
        "python": platform.python_version(),
        "versions": {package: version(package) for package in ("torch", "torchaudio", "numpy", "accelerate", *peers)},
    }
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(about | results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {path.relative_to(RESULTS.parents[1])}")
