"""Colab: the install cell of the derived notebooks, what it finds there, and what the pages claim of it."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import yaml
from bs4 import BeautifulSoup
from IPython.core.inputtransformer2 import TransformerManager
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import mmlearn.datasets.hanzi.download
from tools import lanes
from tools.chapter import BOOK, read_book
from tools.colab import (
    canonical,
    changes,
    colab,
    colab_date,
    colab_python,
    constraints,
    dependencies,
    install_cell,
    joined,
    record,
    rehearsal,
    run_on_colab,
)
from tools.notebooks import notebooks
from tools.outcome import complaints, with_probes
from tools.repository import ROOT, release, repository

NOTEBOOKS = notebooks()
NOT_THERE = {"av", "espeakng-loader", "mplfonts", "pypinyin", "torchmetrics", "webdataset"}  # the site review's list
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf8")


def source(text: str) -> str:
    return "".join(install_cell(json.loads(text))["source"])


def run(text: str, monkeypatch: pytest.MonkeyPatch, installed: bool, tags: bytes = b"") -> tuple[Mock, Mock]:
    """Run an install cell as IPython would; returns what it asked of IPython, and of the package's fetch."""
    ipython, fetch = Mock(), Mock()
    ipython.ask.return_value.stdout = tags
    monkeypatch.setattr(subprocess, "run", ipython.ask)

    def version(name: str) -> str:
        if not installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return "0.1.0"

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(mmlearn.datasets.hanzi.download, "fetch_hanzi", fetch)
    space: dict[str, Any] = {"get_ipython": lambda: ipython}
    exec(TransformerManager().transform_cell(source(text)), space)
    ipython.release = space.get("release")
    return ipython, fetch


@pytest.mark.parametrize("doc", NOTEBOOKS)
def test_install_cell_is_the_first_code_cell_and_the_same_everywhere(doc: str) -> None:
    cells = json.loads(NOTEBOOKS[doc])["cells"]
    assert [cell["metadata"].get("mmlearn", {}).get("role") for cell in cells[:2]] == ["header", "install"]
    assert source(NOTEBOOKS[doc]) == source(NOTEBOOKS["start/dataset"])


def test_pip_is_asked_for_the_course_and_nothing_else() -> None:
    text = source(NOTEBOOKS["start/dataset"])
    (line,) = (line.strip() for line in text.splitlines() if "pip" in line and not line.startswith("#"))
    asked = ["%pip", "install", "-q", f"mmlearn-course @ git+{repository().url}@{{release}}"]
    assert shlex.split(line) == asked  # no pins, no --upgrade


def test_colabs_old_ipython_can_read_it() -> None:
    """IPython 7 with Python 3.13 takes `x = !command` for a syntax error; lines that begin with % are all right."""
    assert "!" not in source(NOTEBOOKS["start/dataset"])


def test_nothing_happens_where_the_course_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    ipython, fetch = run(NOTEBOOKS["start/dataset"], monkeypatch, installed=True)
    assert not ipython.mock_calls
    assert not fetch.mock_calls


@pytest.mark.parametrize(("tags", "taken"), [(b"", "main"), (b"1a2b3c\trefs/tags/v0.1.0\n", release())])
def test_elsewhere_it_installs_the_release_or_the_branch_and_then_fetches(
    monkeypatch: pytest.MonkeyPatch, tags: bytes, taken: str
) -> None:
    ipython, fetch = run(NOTEBOOKS["start/dataset"], monkeypatch, installed=False, tags=tags)
    (asked,) = ipython.ask.call_args.args
    assert asked == ["git", "ls-remote", "--tags", repository().url, release()]
    ipython.run_line_magic.assert_called_once()
    assert ipython.run_line_magic.call_args.args[0] == "pip"
    assert ipython.release == taken
    fetch.assert_called_once_with()


def test_git_answers_that_question_as_the_cell_expects(tmp_path: Path) -> None:
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-C", str(tmp_path)]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "one"]):
        subprocess.run([*git, *command], check=True)

    def ask(url: str) -> str:
        return subprocess.run(["git", "ls-remote", "--tags", url, release()], capture_output=True, text=True).stdout

    assert ask(tmp_path.as_uri()) == ""
    assert ask((tmp_path / "nowhere").as_uri()) == ""
    subprocess.run([*git, "tag", release()], check=True)
    assert ask(tmp_path.as_uri()).endswith(f"refs/tags/{release()}\n")


def test_a_tagged_version_is_not_changed_any_more() -> None:
    """Notebooks of this version install its tag: once that exists, the package may change under a new version only."""
    git = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT)]
    if subprocess.run([*git, "rev-parse", "-q", "--verify", f"refs/tags/{release()}"], capture_output=True).returncode:
        return  # not tagged yet, or no tags in this clone
    done = subprocess.run(
        [*git, "diff", "--stat", release(), "--", "mmlearn", "book/en"], capture_output=True, text=True
    )
    assert done.stdout == "", f"{release()} is out: give pyproject.toml the next version (see CONTRIBUTING.md)"


# --- Colab's versions -----------------------------------------------------------------------------------------------


def test_the_list_of_what_colab_ships_is_dated_and_readable() -> None:
    assert re.fullmatch(r"20\d\d-[01]\d-[0-3]\d", colab_date())
    assert colab_date() in constraints().read_text(encoding="utf8").splitlines()[0]
    listed = colab()
    assert len(listed) > 500
    assert all(Version(version) for version in listed.values())
    assert {"torch", "torchvision", "torchaudio", "numpy", "opencv-python", "ipykernel"} <= set(listed)


@pytest.mark.parametrize("line", dependencies().values(), ids=str)
def test_the_course_leaves_colabs_packages_as_they_are(line: str) -> None:
    """Each requirement has a lower bound, and permits what Colab has: pip changes nothing there."""
    needed = Requirement(line)
    assert not needed.specifier.contains("0.0")
    assert needed.marker is None
    assert not needed.extras
    if (name := canonical(needed.name)) in colab():
        assert needed.specifier.contains(colab()[name])


def test_colab_lacks_what_the_install_cell_has_to_bring() -> None:
    assert {name for name in dependencies() if name not in colab()} == NOT_THERE


def test_workflow_and_docs_agree_with_the_list() -> None:
    python = colab_python()
    assert Version(python) in SpecifierSet(re.search(r'requires-python = "(.*)"', PROJECT)[1])
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf8"))["jobs"]
    included = {one["lane"]: one["python"] for one in jobs["lanes"]["strategy"]["matrix"]["include"]}
    assert included["colab-test"] == python
    assert included["newest"] in lanes.NEWEST
    assert included["lowest"] == lanes.NEWEST[-1] == re.search(r'requires-python = ">=(.*)"', PROJECT)[1]
    makefile = (ROOT / "Makefile").read_text(encoding="utf8")
    assert all(f"\n{lane}: ##" in makefile for lane in included)
    texts = {name: (ROOT / name).read_text(encoding="utf8") for name in ("README.md", "CONTRIBUTING.md", "Makefile")}
    texts |= {path.name: path.read_text(encoding="utf8") for path in (ROOT / BOOK).rglob("*.md")}
    for name, text in texts.items():
        for said in re.findall(r"Colab[^.\n]{0,40}Python (3\.\d+)", text):
            assert said == python, f"{name} names Colab's Python as {said}; {constraints().name} says {python}"
        for said in re.findall(r"tools/colab-(\d{4}-\d\d-\d\d)\.txt", text):
            assert said == colab_date(), f"{name} names an old list: {said}"


# --- lanes ----------------------------------------------------------------------------------------------------------


def test_rehearsal_changes_the_address_only(tmp_path: Path) -> None:
    text = NOTEBOOKS["start/dataset"]
    before, after = json.loads(text), json.loads(rehearsal(text, tmp_path))
    assert "".join(after["cells"][1]["source"]) == source(text).replace(repository().url, tmp_path.as_uri())
    assert source(text).count(repository().url) == 2
    after["cells"][1] = before["cells"][1]
    assert after == before


def test_rehearsal_names_what_is_wrong_with_a_notebook(tmp_path: Path) -> None:
    cell = {"cell_type": "code", "metadata": {"mmlearn": {"role": "source"}}, "source": "1"}
    with pytest.raises(ValueError, match="first code cell has the role 'source'; expected 'install'"):
        rehearsal(json.dumps({"cells": [cell]}), tmp_path)
    cell["metadata"] = {"mmlearn": {"role": "install"}}
    with pytest.raises(ValueError, match=r"names 0 addresses https://…; expected one"):
        rehearsal(json.dumps({"cells": [cell]}), tmp_path)


def test_changes_are_upgrades_and_losses_but_not_additions() -> None:
    before = {"torch": "2.9.0", "numpy": "2.0.0", "av": "17.0.0"}
    after = {"torch": "2.9.0", "numpy": "2.4.6", "mmlearn-course": "0.1.0"}
    assert changes(before, after) == {"numpy": ("2.0.0", "2.4.6"), "av": ("17.0.0", None)}


def test_lanes_need_nothing_but_python() -> None:
    code = "import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]; import tools.lanes"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def code_cell(
    text: str, outputs: list[dict[str, Any]], role: str = "source", tags: tuple[str, ...] = ()
) -> dict[str, Any]:
    metadata = {"mmlearn": {"role": role}, "tags": list(tags)}
    return {"cell_type": "code", "id": "x", "metadata": metadata, "source": text, "outputs": outputs}


def stream(*text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": "stdout", "text": list(text)}


CATCH = "try:\n    f()\nexcept ValueError as error:\n    print(error)"


@pytest.mark.parametrize(
    ("cell", "complaint"),
    [
        (code_cell(CATCH, [stream("ValueError: ", "found 3")], tags=("caught",)), None),
        (code_cell(CATCH, [stream("no error")], tags=("caught",)), "no ValueError was raised"),
        (code_cell(CATCH, [], tags=("caught",)), "no ValueError was raised"),
        (code_cell(CATCH, []), None),
        (
            code_cell("f()", [{"output_type": "error", "ename": "KeyError", "evalue": "'x'"}]),
            "KeyError: 'x', raised by",
        ),
        (code_cell("check", [stream("fill in f first\n")], "check"), None),
        (code_cell("check", [stream("right\n")], "check"), "check passes on the bare stub"),
        (code_cell("check", [], "check"), "check passes on the bare stub"),
        ({"cell_type": "markdown", "source": CATCH, "metadata": {"tags": ["caught"]}}, None),
    ],
)
def test_what_an_executed_notebook_must_show(cell: dict[str, Any], complaint: str | None) -> None:
    found = complaints({"cells": [cell]})
    assert [complaint in line for line in found] == ([True] if complaint else [])


@pytest.mark.parametrize("doc", NOTEBOOKS)
def test_every_check_is_probed_with_a_function_that_returns_nothing(doc: str) -> None:
    cells = json.loads(with_probes(NOTEBOOKS[doc]))["cells"]
    roles = [cell["metadata"].get("mmlearn", {}).get("role") for cell in cells]
    for at in (k for k, role in enumerate(roles) if role == "check"):
        probe = cells[at + 1]["source"]
        compile(probe, doc, "exec")
        assert "\n    pass\n" in probe.partition("try:")[0]
        assert "NotImplementedError" not in probe
    assert roles.count("check") == len(cells) - len(json.loads(NOTEBOOKS[doc])["cells"])


# --- what the pages claim -------------------------------------------------------------------------------------------


def lane(**outcomes: bool) -> dict[str, Any]:
    runs = {f"start/{doc}": {"ok": ok, "seconds": 2.0, "cpu_seconds": 1.0} for doc, ok in outcomes.items()}
    return {"date": "2030-01-02", "colab": "2029-12-31", "notebooks": runs}


def test_a_record_keeps_the_other_lanes(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    assert run_on_colab("start/one", tmp_path) is None
    record("newest", {"date": "2030-01-01"}, tmp_path)
    assert run_on_colab("start/one", tmp_path) is None
    record("colab", lane(one=True, two=False), tmp_path)
    assert run_on_colab("start/one", tmp_path)["date"] == "2030-01-02"
    assert run_on_colab("start/two", tmp_path) is None
    assert run_on_colab("start/three", tmp_path) is None
    assert json.loads((tmp_path / "tools" / "lanes.json").read_text())["newest"] == {"date": "2030-01-01"}


def test_a_run_of_some_replaces_their_rows_if_the_packages_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    again = lane(two=True) | {"date": "2030-01-05"}
    again["notebooks"]["start/two"] |= {"date": "2030-01-05"}
    assert not joined("colab", again, tmp_path)  # no run of all
    record("colab", lane(one=True, two=False) | {"python": "3.13.0"}, tmp_path)
    assert not joined("colab", again | {"python": "3.13.1"}, tmp_path)
    assert run_on_colab("start/two", tmp_path) is None
    assert joined("colab", again | {"python": "3.13.0"}, tmp_path)
    assert run_on_colab("start/two", tmp_path)["date"] == "2030-01-05"
    assert run_on_colab("start/one", tmp_path)["date"] == "2030-01-02"
    tests = {"ok": True, "passed": 3, "date": "2030-01-06"}
    assert joined("colab", lane() | {"python": "3.13.0", "tests": tests}, tmp_path)  # "make colab-test CHAPTERS=tests"
    assert joined("colab", again | {"python": "3.13.0"}, tmp_path)
    kept = json.loads((tmp_path / "tools" / "lanes.json").read_text())["colab"]
    assert kept["tests"] == tests and set(kept["notebooks"]) == {"start/one", "start/two"}


@pytest.mark.slow
def test_a_page_claims_colab_only_where_its_notebook_ran(scratch: Callable[..., Path]) -> None:
    body = "# {}\n\n```{{at-a-glance}}\n```\n"
    root = scratch({f"start/{name}": body.format(name.title()) for name in ("one", "two", "three")})
    record("colab", lane(one=True, two=False), root)
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", ".", "--keep-going"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

    def claim(name: str) -> str:
        page = BeautifulSoup((root / f"_build/html/{BOOK}/start/{name}.html").read_text(encoding="utf8"), "html.parser")
        (line,) = (li.text.strip() for li in page.select(".at-a-glance li") if li.text.strip().startswith("Colab"))
        return line

    assert claim("one") == "Colab: runs there: tested on 2030-01-02 with the packages that Colab had on 2029-12-31"
    assert claim("two") == claim("three") == "Colab: not tested yet"


@pytest.mark.skipif(not (ROOT / "tools" / "lanes.json").exists(), reason="no lane has run yet")
def test_the_recorded_runs_are_of_todays_chapters_and_list() -> None:
    lanes_run = json.loads((ROOT / "tools" / "lanes.json").read_text(encoding="utf8"))
    assert set(lanes_run) <= set(lanes.LANES)
    docs = {doc for doc, chapter in read_book().items() if chapter.is_notebook}
    for result in lanes_run.values():
        assert set(result["notebooks"]) <= docs
    if "colab" in lanes_run:
        assert lanes_run["colab"]["python"].startswith(f"{colab_python()}.")
        for name, version in lanes_run["colab"]["versions"].items():
            assert version == colab().get(name, version)
    # An upper bound is the next major after one that was tested.
    newest = lanes_run.get("newest", {}).get("versions", {})
    for name, line in dependencies().items():
        for bound in (one for one in Requirement(line).specifier if one.operator == "<"):
            assert Version(newest[name]) in Requirement(line).specifier
            assert Version(bound.version).major == Version(newest[name]).major + 1


def test_a_failed_lane_is_recorded_and_fails_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = {"start/one": {"ok": True, "seconds": 1.0, "cpu_seconds": 1.0}, "start/two": {"ok": False, "error": "no"}}
    kept: dict[str, Any] = {}
    counts = {"ok": False, "passed": 8, "failed": 1}
    monkeypatch.setattr(lanes, "Lane", lambda *_: SimpleNamespace(versions=dict, test=lambda: counts))
    monkeypatch.setattr(lanes, "run_notebooks", lambda *_: {"notebooks": runs})
    monkeypatch.setattr(lanes, "record", lambda name, result: kept.update({name: result}))
    monkeypatch.setattr(sys, "argv", ["lanes", "newest", "--folder", str(tmp_path)])
    with pytest.raises(SystemExit, match="newest: failed: start/two, unit tests"):
        lanes.main()
    assert kept["newest"] == {"notebooks": runs, "tests": counts}
    kept.clear()
    monkeypatch.setattr(lanes, "joined", lambda *_: False)
    monkeypatch.setattr(sys, "argv", ["lanes", "newest", "start/two", "--folder", str(tmp_path)])
    with pytest.raises(SystemExit, match="newest: failed: start/two"):
        lanes.main()
    assert not kept  # a part of a lane is no record
    monkeypatch.setattr(lanes, "run_notebooks", lambda lane, docs: {"notebooks": {doc: {"ok": False} for doc in docs}})
    monkeypatch.setattr(lanes, "joined", lambda name, result: not kept.update({name: result}))
    monkeypatch.setattr(sys, "argv", ["lanes", "newest", "tests", "--folder", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"newest: failed: unit tests$"):
        lanes.main()
    assert kept["newest"] == {"notebooks": {}, "tests": counts}
    assert shutil.which("git")
