"""What a run cost, and on which machine with which versions. Used by tools/execute.py."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from dateutil.parser import isoparse
from nbformat import NotebookNode

VERSIONS = [
    "mmlearn-course",
    "torch",
    "torchvision",
    "torchaudio",
    "numpy",
    "opencv-python",
    "av",
    "librosa",
    "accelerate",
]
# Runs inside the kernel: after every cell, write what the process (and the children it waited for) has used.
MEASURE = """\
import json, os, resource
def _write_usage(*_):
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    cpu = sum(used.ru_utime + used.ru_stime for used in (own, children))
    usage = {"cpu": cpu, "peak": max(own.ru_maxrss, children.ru_maxrss)}
    with open(os.environ["MMLEARN_USAGE"], "w") as file:
        json.dump(usage, file)
get_ipython().events.register("post_run_cell", _write_usage)
"""


def device_name() -> str:
    """The accelerator's name, or the processor's."""
    if shutil.which("nvidia-smi"):  # importing torch to ask would take seconds
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
        if asked.returncode == 0 and asked.stdout.strip():
            return asked.stdout.splitlines()[0].strip()
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_mib(peak: float) -> float:
    """Convert `ru_maxrss` to MiB: it counts bytes on macOS, KiB on Linux."""
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def wall_seconds(notebook: NotebookNode) -> float:
    """Time from the first cell's start to the last one's end, from the timestamps that nbclient leaves."""
    times = [c.metadata.get("execution", {}) for c in notebook.cells if c.cell_type == "code"]
    starts = [isoparse(t["iopub.status.busy"]) for t in times if "iopub.status.busy" in t]
    ends = [isoparse(t["shell.execute_reply"]) for t in times if "shell.execute_reply" in t]
    return (max(ends) - min(starts)).total_seconds() if starts and ends else 0.0


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that the results depend on."""
    found = {"Python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    for name in VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
