"""What Colab ships (the newest dated list, tools/colab-DATE.txt), and when each notebook last ran with it.

Needs nothing but Python's standard library, like tools/lanes.py, which runs them.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RECORD = Path("tools") / "lanes.json"
ADDRESS = re.compile(r"https://[^\s\"@]+")


def constraints(root: Path = ROOT) -> Path:
    """The newest dated list of what Colab ships."""
    return max((root / "tools").glob("colab-*.txt"))


def colab_date(root: Path = ROOT) -> str:
    """The date in that list's name, "2026-08-19"."""
    return constraints(root).stem.removeprefix("colab-")


def colab_python(root: Path = ROOT) -> str:
    """The Python that its first line names, "3.13"."""
    return re.findall(r"Python (\d+\.\d+)", constraints(root).read_text(encoding="utf8"))[0]


def colab(root: Path = ROOT) -> dict[str, str]:
    """Colab's packages and their versions, by canonical name."""
    lines = [line for line in constraints(root).read_text(encoding="utf8").splitlines() if not line.startswith("#")]
    return {canonical(name): version for name, version in (line.split("==") for line in lines)}


def canonical(name: str) -> str:
    """A distribution's name as it is compared: "Scikit_Learn" is "scikit-learn"."""
    return re.sub(r"[-_.]+", "-", name).lower()


def dependencies(root: Path = ROOT) -> dict[str, str]:
    """The requirements of pyproject.toml by canonical name, e.g. {"av": "av>=17,<20"}."""
    lines = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf8"))["project"]["dependencies"]
    return {canonical(re.split(r"[<>=!~;\[ ]", line)[0]): line for line in lines}


def run_on_colab(doc: str, root: Path = ROOT) -> dict[str, Any] | None:
    """The record of a chapter's last run with Colab's packages, if it went well.

    Returns:
        {"date": "2026-11-30", "colab": "2026-08-19", "cpu_seconds": 12.3, …}, or None: not run yet, or failed.
    """
    path = root / RECORD
    lane = json.loads(path.read_text(encoding="utf8")).get("colab", {}) if path.exists() else {}
    run = lane.get("notebooks", {}).get(doc, {})
    return {"date": lane["date"], "colab": lane["colab"]} | run if run.get("ok") else None


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
    """A derived notebook with a repository on this machine in the place of the published one; else unchanged.

    Raises:
        ValueError: the install cell does not name exactly one address.
    """
    notebook = json.loads(text)
    cell = install_cell(notebook)
    source = "".join(cell["source"])
    if len(found := set(ADDRESS.findall(source))) != 1:
        raise ValueError(f"the install cell names {len(found)} addresses https://…; expected one")
    cell["source"] = source.replace(found.pop(), repository.as_uri())
    return json.dumps(notebook)


def changes(before: dict[str, str], after: dict[str, str]) -> dict[str, tuple[str, str | None]]:
    """Which installed packages have another version now (before, after), or are gone (before, None)."""
    return {name: (version, after.get(name)) for name, version in before.items() if after.get(name) != version}


def joined(name: str, result: dict[str, Any], root: Path = ROOT) -> bool:
    """Replace rows of a lane's record by those of another run with the same packages; False where there is no such."""
    path = root / RECORD
    old = json.loads(path.read_text(encoding="utf8")).get(name) if path.exists() else None
    if old is None or any(old.get(key) != result.get(key) for key in ("python", "system", "versions", "colab")):
        return False
    tests = {"tests": result["tests"]} if "tests" in result else {}
    record(name, old | {"notebooks": old["notebooks"] | result["notebooks"]} | tests, root)
    return True


def record(name: str, result: dict[str, Any], root: Path = ROOT) -> None:
    """Write a lane's result into tools/lanes.json beside the others'."""
    path = root / RECORD
    lanes = json.loads(path.read_text(encoding="utf8")) if path.exists() else {}
    part = path.with_suffix(".part")
    part.write_text(json.dumps(lanes | {name: result}, indent=1, sort_keys=True) + "\n", encoding="utf8")
    os.replace(part, path)
