"""Run every notebook and the unit tests with other packages than the pinned ones.

python -m tools.lanes colab                # Colab's Python and published versions: the newest tools/colab-DATE.txt
python -m tools.lanes newest               # the newest release of everything that pyproject.toml allows
python -m tools.lanes lowest start/dataset # the lowest (its direct dependencies), here with one notebook only
python -m tools.lanes colab tests          # the unit tests alone

The notebooks run as a reader on Colab gets them: unchanged, but that the install cell takes the course from this
checkout. A lane that ran all of them is recorded in tools/lanes.json, from which each page shows when it last ran on
Colab; a run of some of them (or of the tests), with the same packages, replaces their rows there. Needs Python ≥ 3.11
and nothing else; uv is installed beside the environment where there is none. About 6 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

from tools.colab import (
    RECORD,
    ROOT,
    canonical,
    changes,
    colab,
    colab_date,
    colab_python,
    constraints,
    dependencies,
    joined,
    record,
    rehearsal,
)
from tools.outcome import complaints

LANES = ("colab", "newest", "lowest")
NEWEST = ("3.15", "3.14", "3.13", "3.12", "3.11")  # what all dependencies have wheels for, the newest first
KERNEL = ("ipykernel", "nbclient", "IPython")  # what runs a notebook
TESTS = ("pytest", "hypothesis", "transformers", "peft")  # what the unit tests need besides the course
SHOWN: tuple[str, ...] = ("torch", "torchvision", "torchaudio", "numpy", "scipy", "scikit-learn", "opencv-python")
SHOWN += ("av", "librosa")
SHOWN += ("matplotlib", "transformers", "accelerate", "ipython", "ipykernel", "ipywidgets")  # versions in the record
TIMEOUT = 900  # seconds a cell: lanes also run on busy machines


def copy_repository(target: Path, tag: str | None) -> None:
    """Commit the working tree, as it is now, to a repository of its own, and tag it as a release."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    git = ["git", "-c", "user.name=rehearsal", "-c", "user.email=rehearsal@localhost"]
    commands = [["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "Working tree"]]
    for command in [*commands, *([["tag", tag]] if tag else [])]:
        subprocess.run([*git, *command], cwd=target, check=True)


class Lane:
    """An environment of a lane and what runs in it.

    Args:
        name: "colab", "newest" or "lowest".
        folder: everything is made in it; what an earlier run left there is removed first.
        python: the interpreter, e.g. "3.13" or a path; by default the lane's own.
    """

    def __init__(self, name: str, folder: Path, python: str | None = None) -> None:
        self.name, self.folder = name, folder.resolve()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.bin = self.folder / "env" / "bin"
        pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(
            "versions/*/bin"
        )  # uv finds its shims only
        path = os.pathsep.join([str(self.bin), os.environ["PATH"], *sorted(map(str, pyenv))])
        # A machine's own pip settings may cap releases; the lane's packages are chosen here alone.
        self.environ = os.environ | {
            "PATH": path,
            "VIRTUAL_ENV": str(self.folder / "env"),
            "PIP_CONSTRAINT": os.devnull,
        }
        for variable in ("PYTHONPATH", "PYTHONHOME"):
            self.environ.pop(variable, None)
        self.uv = shutil.which("uv") or self._install_uv()
        python = python or {"colab": colab_python(), "newest": self._newest_python(), "lowest": NEWEST[-1]}[name]
        self.run(self.uv, "venv", "--quiet", "--seed", "--python", python, str(self.folder / "env"))
        self._install()

    def _install_uv(self) -> str:
        self.run(sys.executable, "-m", "venv", str(self.folder / "uv"))
        self.run(str(self.folder / "uv" / "bin" / "python"), "-m", "pip", "install", "--quiet", "uv")
        return str(self.folder / "uv" / "bin" / "uv")

    def _newest_python(self) -> str:
        """The newest one on this machine; where there is none, uv fetches one."""
        for version in NEWEST:
            command = [self.uv, "python", "find", "--quiet", version]
            if subprocess.run(command, env=self.environ, capture_output=True, check=False).returncode == 0:
                return version
        return NEWEST[0]

    def _install(self) -> None:
        """What is there before the reader opens a notebook."""
        bound = ["--constraint", str(constraints())] if self.name == "colab" else []
        needed = dependencies()
        if self.name == "colab":
            needed = {name: line for name, line in needed.items() if name in colab()}
        lowest = ["--resolution", "lowest-direct"] if self.name == "lowest" else []
        install = [self.uv, "pip", "install", "--quiet", "--python", str(self.bin / "python")]
        self.run(*install, *bound, *lowest, *needed.values())
        self.run(*install, *bound, *KERNEL, *TESTS)

    def run(self, *command: str, cwd: Path | None = None) -> str:
        """Run a program; what it prints.

        Raises:
            SystemExit: it failed; with the end of what it said.
        """
        done = subprocess.run(
            command,
            cwd=cwd or self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"{self.name}: {' '.join(command)} failed ({done.returncode})\n{done.stdout[-5000:]}")
        return done.stdout

    def versions(self) -> dict[str, str]:
        """What is installed."""
        listed = self.run(self.uv, "pip", "list", "--format=json", "--python", str(self.bin / "python"))
        return {
            canonical(one["name"]): one["version"] for one in json.loads(listed[listed.index("[") :].splitlines()[0])
        }

    def play(self, doc: str) -> dict[str, Any]:
        """Run a chapter's notebook, as committed, to its end.

        Returns:
            {"ok": True, "seconds": 12.3, "cpu_seconds": 10.1}, with "error" where it is not ok.
        """
        path = self.folder / "notebooks" / f"{doc}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        repository = self.folder / "repository"  # the tree as it was when the lane began, whoever edits it meanwhile
        text = (repository / "book" / "en" / f"{doc}.ipynb").read_text(encoding="utf8")
        path.write_text(rehearsal(text, repository), encoding="utf8")
        begin, used = time.monotonic(), cpu_seconds()
        try:
            self.run("jupyter", "execute", f"--timeout={TIMEOUT}", "--inplace", str(path), cwd=path.parent)
            wrong = complaints(json.loads(path.read_text(encoding="utf8")))
        except SystemExit as error:
            wrong = [str(error)]
        cost = {"seconds": round(time.monotonic() - begin, 1), "cpu_seconds": round(cpu_seconds() - used, 1)}
        return {"ok": not wrong} | cost | ({"error": "\n".join(wrong)[-2000:]} if wrong else {})

    def test(self) -> dict[str, Any]:
        """Run the unit tests; how many passed, failed and were skipped."""
        command = [str(self.bin / "python"), "-m", "pytest", "--ignore=tests/book", "-p", "no:cacheprovider"]
        done = subprocess.run(
            command, cwd=self.folder / "repository", env=self.environ, stdout=subprocess.PIPE, text=True
        )
        (self.folder / "tests.txt").write_text(done.stdout, encoding="utf8")
        print(done.stdout[-3000:])
        counts = re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout.strip().splitlines()[-1])
        return {"ok": done.returncode == 0} | {kind: int(count) for count, kind in counts}


def cpu_seconds() -> float:
    """CPU time of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_notebooks(lane: Lane, docs: list[str]) -> dict[str, Any]:
    """Run notebooks, the first of them in an environment without the course; the record of the lane."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]["version"]
    copy_repository(lane.folder / "repository", tag=f"v{version}" if lane.name == "colab" else None)
    git = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    made_by = {"date": time.strftime("%Y-%m-%d"), "commit": commit}
    before, played = lane.versions(), {}
    for number, doc in enumerate(docs, 1):
        print(f"{lane.name} [{number}/{len(docs)}] {doc} … ", end="", flush=True)
        played[doc] = lane.play(doc) | made_by
        if number == 1 and (changed := changes(before, lane.versions())):
            played[doc] |= {"ok": False, "error": f"the install cell changed what was installed: {changed}"}
        print("{seconds} s, {cpu_seconds} CPU s".format(**played[doc]) + f"\n{played[doc].get('error', '')}".rstrip())
    installed = lane.versions()
    result = {
        "python": lane.run(str(lane.bin / "python"), "--version").split()[1],
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: installed[name] for name in SHOWN if name in installed},
        "notebooks": played,
    }
    return made_by | result | ({"colab": colab_date()} if lane.name == "colab" else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lane", choices=LANES)
    parser.add_argument("chapters", nargs="*", help='e.g. "start/setup", "tests"; all by default')
    parser.add_argument("--folder", type=Path, help="emptied first; _build/lanes/LANE by default")
    parser.add_argument("--python", help='e.g. "3.14" or a path; by default the lane\'s own')
    args = parser.parse_args()
    found = sorted((ROOT / "book" / "en").rglob("*.ipynb"))
    docs = [path.relative_to(ROOT / "book" / "en").with_suffix("").as_posix() for path in found]
    lane = Lane(args.lane, args.folder or ROOT / "_build" / "lanes" / args.lane, args.python)
    print(
        f"{args.lane}: {', '.join(f'{name} {version}' for name, version in lane.versions().items() if name in SHOWN)}"
    )
    result = run_notebooks(lane, [doc for doc in args.chapters if doc != "tests"] if args.chapters else docs)
    failed = [doc for doc, run in result["notebooks"].items() if not run["ok"]]
    if not args.chapters:
        record(args.lane, result)  # already now: the tests take longer than the notebooks
    if not args.chapters or "tests" in args.chapters:
        result["tests"] = lane.test() | {key: result[key] for key in ("date", "commit") if key in result}
        failed += [] if result["tests"]["ok"] else ["unit tests"]
    if args.chapters and joined(args.lane, result):
        print(f"{args.lane}: rows replaced in {RECORD}")
    elif not args.chapters:
        record(args.lane, result)
        print(f"{args.lane}: recorded in {RECORD}; commit it after `make notebooks`, and the pages show it")
    if failed:
        sys.exit(f"{args.lane}: failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
