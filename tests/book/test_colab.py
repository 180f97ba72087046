"""The install cell of the derived notebooks; `make colab-test` runs it for real (tools/lower_bounds.py)."""

from __future__ import annotations

import importlib.metadata
import json
import shlex
import tomllib
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from IPython.core.inputtransformer2 import TransformerManager
from packaging.requirements import Requirement
from packaging.version import Version

import mmlearn.datasets.fetch
from tools.lower_bounds import NOT_ON_COLAB, changes, install_cell, lower_bounds, rehearsal
from tools.notebooks import notebooks
from tools.repository import ROOT, repository

COLAB = {  # what Colab had in autumn 2025, as far as known
    "torch": "2.9.0",
    "torchvision": "0.24.0",
    "torchaudio": "2.9.0",
    "numpy": "2.0.2",
    "opencv-python": "4.12.0.88",
    "librosa": "0.11.0",
}
NOTEBOOKS = notebooks()


def source(text: str) -> str:
    return "".join(install_cell(json.loads(text))["source"])


def pip_line(text: str) -> list[str]:
    (line,) = (line.strip() for line in source(text).splitlines() if "pip" in line and not line.startswith("#"))
    return shlex.split(line)


def run(text: str, monkeypatch: pytest.MonkeyPatch, installed: bool) -> tuple[Mock, Mock]:
    """Run an install cell as IPython would; returns what it asked of IPython, and of the package's fetch."""
    ipython, fetch = Mock(), Mock()

    def version(name: str) -> str:
        if not installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return "0.1.0"

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(mmlearn.datasets.fetch, "fetch_hanzi", fetch)
    exec(TransformerManager().transform_cell(source(text)), {"get_ipython": lambda: ipython})
    return ipython, fetch


@pytest.mark.parametrize("doc", NOTEBOOKS)
def test_install_cell_opens_every_notebook(doc: str) -> None:
    committed = (ROOT / "book" / "en" / f"{doc}.ipynb").read_text(encoding="utf8")
    assert json.loads(committed)["cells"][0] == install_cell(json.loads(committed))  # before any text, too
    assert source(committed) == source(NOTEBOOKS[doc])


@pytest.mark.parametrize("doc", NOTEBOOKS)
def test_pip_is_asked_for_the_course_and_nothing_else(doc: str) -> None:
    line = pip_line(NOTEBOOKS[doc])
    assert line == ["%pip", "install", "-q", f"mmlearn-course @ git+{repository().url}"]  # no pins, no --upgrade


def test_nothing_happens_where_the_course_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    ipython, fetch = run(NOTEBOOKS["start/dataset"], monkeypatch, installed=True)
    assert not ipython.mock_calls
    assert not fetch.mock_calls


def test_elsewhere_it_installs_and_then_fetches(monkeypatch: pytest.MonkeyPatch) -> None:
    ipython, fetch = run(NOTEBOOKS["start/dataset"], monkeypatch, installed=False)
    ipython.run_line_magic.assert_called_once()
    assert ipython.run_line_magic.call_args.args[0] == "pip"
    fetch.assert_called_once_with()


def test_every_dependency_has_a_lower_bound_that_it_permits() -> None:
    lines = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]["dependencies"]
    bounds = lower_bounds()
    assert set(bounds) == {Requirement(line).name for line in lines}
    for line in lines:
        needed = Requirement(line)
        assert needed.specifier.contains(bounds[needed.name])
        assert not needed.specifier.contains("0.0")
    assert set(NOT_ON_COLAB) <= set(bounds)


@pytest.mark.parametrize("name", COLAB)
def test_colab_is_not_below_the_lower_bounds(name: str) -> None:
    assert Version(lower_bounds()[name]) <= Version(COLAB[name])


@pytest.mark.parametrize("line", ["torch", "torch==2.9", "numpy>=2,<3", "numpy~=2.0", "av>=17; python_version>'3.11'"])
def test_what_could_change_colabs_packages_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(f"[project]\ndependencies = [{json.dumps(line)}]\n")
    with pytest.raises(ValueError, match=r"pyproject\.toml: dependency .*; expected NAME>=RELEASE"):
        lower_bounds(path)


def test_rehearsal_changes_the_address_only(tmp_path: Path) -> None:
    text = NOTEBOOKS["start/dataset"]
    before: list[dict[str, Any]] = json.loads(text)["cells"]
    after: list[dict[str, Any]] = json.loads(rehearsal(text, tmp_path))["cells"]
    assert after[0]["source"] == source(text).replace(repository().url, tmp_path.as_uri())
    assert "mmlearn.check()" in after[1]["source"]
    assert after[2:] == before[1:]


def test_rehearsal_names_what_is_wrong_with_a_notebook(tmp_path: Path) -> None:
    cell = {"cell_type": "code", "metadata": {"mmlearn": {"role": "source"}}, "source": "1"}
    with pytest.raises(ValueError, match="first code cell has the role 'source'; expected 'install'"):
        rehearsal(json.dumps({"cells": [cell]}), tmp_path)
    cell["metadata"] = {"mmlearn": {"role": "install"}}
    with pytest.raises(ValueError, match=r"names 0 addresses git\+https://…; expected one"):
        rehearsal(json.dumps({"cells": [cell]}), tmp_path)


def test_changes_are_upgrades_and_losses_but_not_additions() -> None:
    before = {"torch": "2.9.0", "numpy": "2.0.0", "av": "17.0.0"}
    after = {"torch": "2.9.0", "numpy": "2.4.6", "mmlearn-course": "0.1.0"}
    assert changes(before, after) == {"numpy": ("2.0.0", "2.4.6"), "av": ("17.0.0", None)}
