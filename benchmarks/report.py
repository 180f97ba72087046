"""Write a benchmark's results with what is needed to judge and repeat them.

A result is worth as much as the code that it names. So `begin` and `save` refuse code that is not committed, and each
file has the date, the commit, and the hash of script and package; each row has them where rows were made at two times.
"""

import ast
import datetime
import hashlib
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
UNFINISHED = ROOT / "_build"  # a folder for each benchmark that goes on where it was stopped


def uncommitted() -> list[str]:
    """Return the files of package and benchmarks that git does not have as they are here; results are none of them."""
    command = ["git", "status", "--porcelain", "--untracked-files=all", "-z", "--", "mmlearn", "benchmarks",
               ":(exclude)benchmarks/results"]  # fmt: skip
    try:
        asked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"{ROOT} is no git checkout; expected one, because results name their commit") from error
    return [line[3:] for line in asked.split("\0") if line]


def sources(script: str) -> list[Path]:
    """Return the files that decide a benchmark's numbers: the package, the script, and the benchmarks it imports."""
    found, waiting = set(), [script]
    while waiting:
        path = ROOT / "benchmarks" / f"{waiting.pop()}.py"
        if path in found or not path.exists():
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "benchmarks":
                waiting += node.module.split(".")[1:] or [alias.name for alias in node.names]
    if not found:
        raise ValueError(f"there is no benchmarks/{script}.py")
    package = (p for p in (ROOT / "mmlearn").rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return sorted([*found, *package])


def fingerprint(script: str) -> str:
    """Return a hash of all that `sources` names, as it is on disk now."""
    digest = hashlib.sha256()
    for path in sources(script):
        digest.update(f"{path.relative_to(ROOT).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


@cache
def code(script: str) -> str:
    """Return the fingerprint at the first call: that of the code which runs, whatever is edited meanwhile."""
    return fingerprint(script)


def begin(script: str) -> None:
    """Refuse to measure code that is not committed; call it first, before hours are spent.

    Args:
        script: The benchmark's name, as in benchmarks/<script>.py.

    Raises:
        SystemExit: If a file of mmlearn/ or benchmarks/ (but for the results) differs from the last commit.
    """
    if changed := uncommitted():
        raise SystemExit(f"not committed: {', '.join(changed)}. A result names the commit that made it: commit first")
    code(script)


def stamp(script: str) -> dict[str, str]:
    """Return what says which code made a row: date, commit, and the hash of the script and the package."""
    command = ["git", "rev-parse", "--short=10", "HEAD"]
    commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    return {"date": datetime.date.today().isoformat(), "commit": commit, "code": code(script)}


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
    """Return what a run that was stopped has found with the same settings and code; else find it, and write it down.

    Args:
        file: Where it is written. The name says which run this is, the folder's name which benchmark.
        about: The benchmark's settings, as JSON gives them back: lists, not tuples.
        make: Does the work and returns its results.
    """
    made_by = {"about": about, "code": code(file.parent.name)}
    if file.exists():
        old = json.loads(file.read_text(encoding="utf-8"))
        if {name: old.get(name) for name in made_by} == made_by:
            return old["row"]
    start = time.process_time()
    row = make()
    file.parent.mkdir(parents=True, exist_ok=True)
    whole = file.with_suffix(".new")
    whole.write_text(json.dumps(made_by | {"row": row}), encoding="utf-8")
    whole.replace(file)  # at once: never half a file
    shown = {name: round(value, 3) for name, value in row.items() if isinstance(value, float)}
    print(f"{file.stem}, {time.process_time() - start:.0f} s:", shown, flush=True)
    return row


def save(name: str, results: dict[str, Any], peers: Iterable[str] = (), script: str | None = None) -> None:
    """Write `results` to benchmarks/results/<name>.json with date, commit, device and versions, the peers' too.

    Args:
        name: Of the file.
        results: What was found.
        peers: More packages whose versions count.
        script: The benchmark's name where it is not the file's.

    Raises:
        SystemExit: If the code is not committed, or not what it was when the run began. Nothing is lost: the results
            are then written, without a commit, to _build/<name>.json.
    """
    script = script or name
    cpu = f"CPU, {platform.machine()}, {torch.get_num_threads()} threads"
    about = {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else cpu,
        "python": platform.python_version(),
        "versions": {package: version(package) for package in ("torch", "torchaudio", "numpy", "accelerate", *peers)},
    }
    changed = uncommitted()
    if not changed and fingerprint(script) != code(script):
        changed = [f"what the run began with (now {fingerprint(script)}, then {code(script)})"]
    path = UNFINISHED / f"{name}.json" if changed else RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    made_by = {"commit": None} if changed else stamp(script)
    path.write_text(json.dumps(made_by | about | results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {path.relative_to(ROOT)}")
    if changed:
        raise SystemExit(f"not committed: {', '.join(changed)}. Commit it and run again: these results name no code")
