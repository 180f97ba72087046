"""Execute each chapter once: pytest --nbmake runs the derived notebook, and its outputs feed the site's jupyter-cache.

python -m tools.execute                   # every chapter that changed since it last ran
python -m tools.execute start/setup       # these chapters
python -m tools.execute --force           # all, changed or not

A chapter counts as changed with its code cells, the package, the benchmarks' results or requirements.txt. What a run
cost goes to _build/execution/CHAPTER.json, which "At a glance" and the status page show.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import yaml
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from myst_nb.core.read import read_myst_markdown_notebook
from myst_parser.config.main import MdParserConfig
from nbformat import NotebookNode

from tools.chapter import BOOK, ChapterError
from tools.measure import MEASURE, cores, device_name, peak_mib, versions, wall_seconds
from tools.notebooks import doc_name, notebooks
from tools.outcome import complaints, with_probes
from tools.repository import ROOT

TIMEOUT = 600  # seconds a cell


class ExecutionError(Exception):
    """A chapter failed; the message shows its traceback."""


@dataclass
class Run:
    """One executed chapter: its notebook with outputs, and what it cost."""

    notebook: NotebookNode
    wall_seconds: float
    cpu_seconds: float
    peak_mib: float


def source_notebook(path: Path, root: Path) -> NotebookNode:
    """The chapter as the site's build reads it: the jupyter-cache matches on exactly these code cells."""
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf8"))
    extensions = set(config.get("parse", {}).get("myst_enable_extensions", []))
    settings = MdParserConfig(enable_extensions=extensions)
    return read_myst_markdown_notebook(path.read_text(encoding="utf8"), config=settings, path=path)


def fingerprint(notebook: NotebookNode, root: Path) -> str:
    """Hash of everything a chapter's outputs depend on."""
    digest = hashlib.sha256(f"{platform.python_version()} {device_name()}".encode())
    for cell in notebook.cells:
        if cell.cell_type == "code":
            digest.update(json.dumps([cell.source, cell.metadata], sort_keys=True).encode())
    files = [*sorted((root / "mmlearn").rglob("*.py")), *sorted((root / "benchmarks" / "results").rglob("*.json"))]
    for path in [*files, root / "requirements.txt"]:
        if path.exists():
            digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def run_notebook(doc: str, text: str, root: Path) -> Run:
    """Run one derived notebook under pytest --nbmake.

    Args:
        doc: the chapter, e.g. "start/setup".
        text: the derived notebook.
        root: the root of the repository.

    Raises:
        ExecutionError: a cell failed, an error that the chapter shows was not raised, or an exercise's check passed
            on a function that returns nothing.
    """
    with tempfile.TemporaryDirectory() as folder:  # nbmake passes over whatever stands below a folder "_build"
        path = Path(folder) / BOOK / f"{doc}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text(with_probes(text), encoding="utf8")
        if (root / "benchmarks").is_dir():  # a chapter reads ../../../benchmarks/results from its own folder
            (Path(folder) / "benchmarks").symlink_to(root / "benchmarks", target_is_directory=True)
        startup = Path(folder) / "ipython" / "profile_default" / "startup"
        startup.mkdir(parents=True)
        (startup / "measure.py").write_text(MEASURE if os.name == "posix" else "")
        usage_file = Path(folder) / "usage.json"
        environment = os.environ | {
            "IPYTHONDIR": str(Path(folder) / "ipython"),
            "MMLEARN_USAGE": str(usage_file),
            "TQDM_DISABLE": "1",
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(cores())),
            "PYTHONHASHSEED": "0",
        }
        command = [sys.executable, "-m", "pytest", "--nbmake", "--overwrite", f"--nbmake-timeout={TIMEOUT}", "-q"]
        command += ["-p", "no:cacheprovider", "-p", "no:cov", "-c", os.devnull, f"--rootdir={path.parent}", str(path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=path.parent)
        if done.returncode:
            raise ExecutionError(f"{BOOK}/{doc}.md failed:\n{done.stdout}{done.stderr}")
        notebook = nbformat.read(path, as_version=4)
        usage = json.loads(usage_file.read_text()) if usage_file.exists() else {"cpu": 0.0, "peak": 0}
    if wrong := complaints(notebook):
        raise ExecutionError(f"{BOOK}/{doc}.md: " + "\n".join(wrong))
    return Run(notebook, wall_seconds(notebook), usage["cpu"], peak_mib(usage["peak"]))


def feed_cache(source: NotebookNode, run: Run, uri: str, cache_path: Path) -> None:
    """Put a run's outputs into the jupyter-cache under the source's code cells, where the site's build looks."""
    ran = [c for c in run.notebook.cells if c.metadata.get("mmlearn", {}).get("role") == "source"]
    cells = [cell for cell in source.cells if cell.cell_type == "code"]
    if [c.source for c in ran] != [c.source for c in cells]:
        raise ExecutionError(f"{uri}: the derived notebook's code cells are not the chapter's")
    for count, (cell, executed) in enumerate(zip(cells, ran, strict=True), 1):
        cell.outputs = executed.outputs
        cell.execution_count = count
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
    source.metadata["language_info"] = run.notebook.metadata.get("language_info", {"name": "python"})
    cache = get_cache(cache_path)
    bundle = CacheBundleIn(source, uri, data={"execution_seconds": run.wall_seconds})
    cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)


def is_cached(source: NotebookNode, cache_path: Path) -> bool:
    """Whether the site's build would find this chapter's outputs."""
    try:
        get_cache(cache_path).match_cache_notebook(source)
    except KeyError:
        return False
    return True


def execute(doc: str, text: str, root: Path = ROOT, force: bool = False) -> dict[str, Any] | None:
    """Execute one chapter if it changed.

    Args:
        doc: the chapter, e.g. "start/setup".
        text: its derived notebook.
        root: the root of the repository.
        force: run it even if nothing changed.

    Returns:
        What it cost, or None where its last run still holds.

    Raises:
        ExecutionError: it failed.
    """
    path = root / BOOK / f"{doc}.md"
    record = root / "_build" / "execution" / f"{doc}.json"
    cache_path = root / "_build" / ".jupyter_cache"
    source = source_notebook(path, root)
    mark = fingerprint(source, root)
    if (
        not force
        and record.exists()
        and json.loads(record.read_text())["fingerprint"] == mark
        and is_cached(source, cache_path)
    ):
        return None
    run = run_notebook(doc, text, root)
    feed_cache(source, run, str(path), cache_path)
    cost: dict[str, Any] = {
        "wall_seconds": round(run.wall_seconds, 2),
        "cpu_seconds": round(run.cpu_seconds, 2),
        "peak_mib": round(run.peak_mib, 1),
        "cores": cores(),
        "device": device_name(),
        "date": time.strftime("%Y-%m-%d"),
        "versions": versions(),
        "fingerprint": mark,
    }
    record.parent.mkdir(parents=True, exist_ok=True)
    part = record.with_suffix(".part")
    part.write_text(json.dumps(cost, indent=1), encoding="utf8")
    os.replace(part, record)
    return cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*", help='e.g. "start/setup"; all by default')
    parser.add_argument("--force", action="store_true", help="run what has not changed, too")
    args = parser.parse_args()
    try:
        texts = notebooks(only=[doc_name(name) for name in args.chapters])
    except ChapterError as error:
        sys.exit(str(error))
    failed = []
    for number, (doc, text) in enumerate(texts.items(), 1):
        print(f"execute [{number}/{len(texts)}] {doc} … ", end="", flush=True)
        try:
            cost = execute(doc, text, force=args.force)
        except ExecutionError as error:
            failed.append(doc)
            print(f"FAILED\n{error}")
            continue
        if cost is None:
            print("unchanged")
        else:
            print(f"{cost['wall_seconds']:.1f} s, {cost['cpu_seconds']:.1f} CPU s, {cost['peak_mib']:.0f} MiB")
    if not args.chapters:  # runs of chapters that are no more
        for record in (ROOT / "_build" / "execution").rglob("*.json"):
            doc = record.relative_to(ROOT / "_build" / "execution").with_suffix("").as_posix()
            if doc not in texts:
                record.unlink()
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
