"""Rehearse Colab: run a derived notebook, install cell and all, where all dependencies have their lowest release.

python -m tools.lower_bounds                      # list the lower bounds of pyproject.toml
python -m tools.lower_bounds FOLDER               # rehearse start/dataset in FOLDER (emptied first; about 9 GB)
python -m tools.lower_bounds FOLDER start/setup   # another chapter

Two rehearsals, in one clean virtual environment: first everything at its lower bound, then without what Colab lacks, so
that the install cell has to fetch the newest releases of that without touching what is there. Only Python's standard
library is needed here, so that it runs without the course's own environment.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CHAPTER = "start/dataset"
NOT_ON_COLAB = ("av", "espeakng-loader", "mplfonts", "pypinyin", "torchmetrics")
KERNEL = ("ipykernel", "nbclient")  # what runs a notebook; Colab has its own
TIMEOUT = 600  # seconds a cell
ADDRESS = re.compile(r"git\+https://[^\s\"]+")
CHECK = "import mmlearn\n\nassert mmlearn.check()"  # imports the libraries, looks for the data, compares lower bounds


def lower_bounds(pyproject: Path = ROOT / "pyproject.toml") -> dict[str, str]:
    """The lowest permitted release of each dependency, by name.

    Args:
        pyproject: the file whose `project.dependencies` are read.

    Raises:
        ValueError: a dependency is not NAME>=RELEASE alone; an upper bound or a pin would change Colab's packages.
    """
    bounds = {}
    for line in tomllib.loads(pyproject.read_text(encoding="utf8"))["project"]["dependencies"]:
        found = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9._-]*)>=(\d+(?:\.\d+)*(?:\.post\d+)?)", line)
        if found is None:
            raise ValueError(f"{pyproject.name}: dependency {line!r}; expected NAME>=RELEASE and nothing else")
        bounds[found[1]] = found[2]
    return bounds


def install_cell(notebook: dict[str, Any]) -> dict[str, Any]:
    """The first code cell of a derived notebook, which must be its install cell.

    Raises:
        ValueError: it is another cell.
    """
    first = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    role = first["metadata"].get("mmlearn", {}).get("role")
    if role != "install":
        raise ValueError(f"the first code cell has the role {role!r}; expected 'install'")
    return first


def rehearsal(text: str, repository: Path) -> str:
    """A notebook that installs from a folder, not from the published address, and checks what it got; else unchanged.

    Args:
        text: the derived notebook.
        repository: a git repository on this machine.

    Raises:
        ValueError: the install cell does not name exactly one address.
    """
    notebook = json.loads(text)
    cell = install_cell(notebook)
    source, count = ADDRESS.subn(f"git+{repository.as_uri()}", "".join(cell["source"]))
    if count != 1:
        raise ValueError(f"the install cell names {count} addresses git+https://…; expected one")
    cell["source"] = source
    check = {"cell_type": "code", "id": "rehearsal", "metadata": {}, "source": CHECK}
    notebook["cells"].insert(notebook["cells"].index(cell) + 1, check | {"execution_count": None, "outputs": []})
    return json.dumps(notebook)


def copy_repository(target: Path) -> None:
    """Commit the working tree, as it is now, to a repository of its own."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    git = ["git", "-c", "user.name=rehearsal", "-c", "user.email=rehearsal@localhost"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "Working tree"]):
        subprocess.run([*git, *command], cwd=target, check=True)


def changes(before: dict[str, str], after: dict[str, str]) -> dict[str, tuple[str, str | None]]:
    """Which installed packages have another version now (before, after), or are gone (before, None)."""
    return {name: (version, after.get(name)) for name, version in before.items() if after.get(name) != version}


class Rehearsal:
    """A clean virtual environment, and notebooks that run in it.

    Args:
        folder: emptied first.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.programs = self.folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
        ours = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
        path = f"{self.programs}{os.pathsep}{ours['PATH']}"
        self.environment = ours | {"PATH": path, "VIRTUAL_ENV": str(self.folder / "venv")}
        venv.create(self.folder / "venv", with_pip=True, upgrade_deps=True)  # pip 23 refuses git+file:///…
        copy_repository(self.folder / "repository")

    def run(self, *command: str, **more: str) -> str:
        """Run a program of the virtual environment; what it prints."""
        program = str(self.programs / command[0])
        result = subprocess.run(
            [program, *command[1:]], cwd=self.folder, env=self.environment | more, stdout=subprocess.PIPE, text=True
        )
        if result.returncode:
            raise SystemExit(f"lower_bounds: {' '.join(command)} failed ({result.returncode})\n{result.stdout[-5000:]}")
        return result.stdout

    def pip(self, *arguments: str) -> str:
        """Run the virtual environment's pip; what it prints."""
        return self.run("python", "-m", "pip", *arguments)

    def versions(self) -> dict[str, str]:
        """What is installed."""
        return {one["name"].lower(): one["version"] for one in json.loads(self.pip("list", "--format=json"))}

    def play(self, doc: str, title: str) -> None:
        """Run a chapter's notebook and look whether it left alone what was installed.

        Args:
            doc: e.g. "start/dataset".
            title: names the rehearsal and its files.

        Raises:
            SystemExit: a cell failed, or an installed package has changed.
        """
        begin, before = time.monotonic(), self.versions()
        path = self.folder / title / f"{doc.replace('/', '_')}.ipynb"
        path.parent.mkdir(exist_ok=True)
        text = (ROOT / "book" / "en" / f"{doc}.ipynb").read_text(encoding="utf8")
        path.write_text(rehearsal(text, self.folder / "repository"), encoding="utf8")
        home = str(path.parent / "home")  # empty: the install cell has to fetch the data
        self.run("jupyter", "execute", f"--timeout={TIMEOUT}", "--inplace", str(path), MMLEARN_HOME=home)
        self.run("mmlearn", "--help")
        after = self.versions()
        if changed := changes(before, after):
            raise SystemExit(f"lower_bounds: {title}: the install cell changed what was installed: {changed}")
        new = [f"{name} {version}" for name, version in after.items() if name not in before]
        print(f"\n== {title}: {doc} ran in {time.monotonic() - begin:.0f} s. The install cell added {', '.join(new)}.")
        executed = json.loads(path.read_text(encoding="utf8"))["cells"]
        (check,) = (cell for cell in executed if cell["id"] == "rehearsal")
        print("".join(line for output in check["outputs"] for line in output.get("text", [])))


def main(folder: Path, docs: list[str]) -> None:
    pins = [f"{name}=={bound}" for name, bound in lower_bounds().items()]
    print("== clean virtual environment:", *pins, flush=True)
    place = Rehearsal(folder)
    place.pip("install", *pins, *KERNEL)
    absent = ["mmlearn-course", *NOT_ON_COLAB]
    for title, removed in (("lower bounds", []), ("without what Colab lacks", absent)):
        for doc in docs:
            place.pip("uninstall", "--yes", *(removed or absent[:1]))
            place.play(doc, title)


if __name__ == "__main__":
    if sys.argv[1:]:
        main(Path(sys.argv[1]), sys.argv[2:] or [CHAPTER])
    else:
        print(*(f"{name}=={bound}" for name, bound in lower_bounds().items()), sep="\n")
