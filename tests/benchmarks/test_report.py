"""Results name code that exists: what `benchmarks/report.py` refuses, keeps and stamps."""

import ast
import json
import subprocess
from pathlib import Path

import pytest

from benchmarks import report
from tests.places import ROOT


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with a package, three benchmarks of which `second` imports `first`, and results."""
    for name, text in {
        "mmlearn/core.py": "ONE = 1\n",
        "benchmarks/first.py": "x = 1\n",
        "benchmarks/second.py": "from benchmarks.first import x\n",
        "benchmarks/third.py": "y = 1\n",
        "benchmarks/results/first.json": "{}\n",
        "README.md": "a\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setattr(report, "RESULTS", tmp_path / "benchmarks" / "results")
    monkeypatch.setattr(report, "UNFINISHED", tmp_path / "_build")
    git("init", "-q", at=tmp_path)
    commit(tmp_path)
    report.code.cache_clear()
    yield tmp_path
    report.code.cache_clear()


def git(*words: str, at: Path) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words]
    return subprocess.run(command, cwd=at, check=True, capture_output=True, text=True).stdout.strip()


def commit(at: Path) -> str:
    git("add", "-A", at=at)
    git("commit", "-q", "--allow-empty", "-m", "a", at=at)
    return git("rev-parse", "--short=10", "HEAD", at=at)


def test_a_clean_tree_is_stamped_with_its_commit(checkout):
    head = commit(checkout)
    report.begin("first")
    report.save("first", {"a": 1})
    saved = json.loads((checkout / "benchmarks/results/first.json").read_text())
    assert saved["commit"] == head and saved["code"] == report.fingerprint("first") and saved["a"] == 1


@pytest.mark.parametrize("path", ["mmlearn/core.py", "benchmarks/first.py", "mmlearn/new.py", "benchmarks/new 二.py"])
def test_uncommitted_code_is_refused_before_and_after_the_run(checkout, path):
    (checkout / path).write_text("changed = True\n")
    with pytest.raises(SystemExit, match=r"not committed: .*commit first") as refusal:
        report.begin("first")
    assert path in str(refusal.value)
    with pytest.raises(SystemExit, match="not committed"):
        report.save("first", {"a": 1})
    assert json.loads((checkout / "benchmarks/results/first.json").read_text()) == {}  # as it was
    lost = json.loads((checkout / "_build/first.json").read_text())
    assert lost["a"] == 1 and lost["commit"] is None  # nothing is lost, and it passes for no result


def test_other_results_and_texts_may_be_uncommitted(checkout):
    (checkout / "benchmarks/results/first.json").write_text("[]")
    (checkout / "benchmarks/results/new.png").write_text("a")
    (checkout / "README.md").write_text("b")
    report.begin("second")
    report.save("second", {})
    assert json.loads((checkout / "benchmarks/results/second.json").read_text())["commit"]


def test_code_that_is_committed_while_it_runs_is_not_what_ran(checkout):
    report.begin("first")
    (checkout / "mmlearn/core.py").write_text("ONE = 2\n")
    commit(checkout)
    with pytest.raises(SystemExit, match="what the run began with"):
        report.save("first", {})


def test_a_script_is_its_own_text_its_imports_and_the_package(checkout):
    before = {name: report.fingerprint(name) for name in ("first", "second", "third")}
    (checkout / "benchmarks/first.py").write_text("x = 2\n")
    after = {name: report.fingerprint(name) for name in before}
    assert [before[name] != after[name] for name in before] == [True, True, False]
    (checkout / "mmlearn/core.py").write_text("ONE = 3\n")
    assert all(report.fingerprint(name) != after[name] for name in after)
    with pytest.raises(ValueError, match="no benchmarks/fourth"):
        report.sources("fourth")


def test_a_stopped_run_goes_on_only_with_the_same_settings_and_code(checkout):
    made = []

    def make():
        made.append(1)
        return {"score": len(made)}

    file, about = checkout / "_build/first/a, 0.json", {"epochs": 2}
    assert report.keep(file, about, make) == report.keep(file, about, make) == {"score": 1}
    assert report.keep(file, {"epochs": 3}, make) == {"score": 2}
    (checkout / "mmlearn/core.py").write_text("ONE = 2\n")
    report.code.cache_clear()  # as in a new process
    assert report.keep(file, {"epochs": 3}, make) == {"score": 3}
    (checkout / "benchmarks/third.py").write_text("y = 2\n")  # nothing that `first` uses
    report.code.cache_clear()
    assert report.keep(file, {"epochs": 3}, make) == {"score": 3}
    file.write_text(json.dumps({"about": {"epochs": 3}, "row": {"score": 9}}))  # of a time before code was asked for
    assert report.keep(file, {"epochs": 3}, make) == {"score": 4}


def test_every_script_that_saves_begins():
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = {node.func.id: node for node in ast.walk(tree) if isinstance(node, ast.Call)
                 and isinstance(node.func, ast.Name)}  # fmt: skip
        if "save" in calls and path.stem != "report":
            begun = calls.get("begin")
            assert begun is not None, f"{path.name} saves results and does not call begin"
            assert [ast.literal_eval(part) for part in begun.args] == [path.stem]
