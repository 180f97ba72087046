"""Property tests: the same examples in every run of `make test`, random ones where that is asked for."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from tests.places import ROOT

PROPERTY = """
from hypothesis import given, settings, strategies as st
seen = []
@given(st.integers())
@settings(max_examples=10)
def test_property(x):
    seen.append(x)
def test_what_was_seen():
    print("seen", seen)
"""


def run(folder: Path, profile: str | None) -> list[int]:
    (folder / "test_it.py").write_text(PROPERTY)
    (folder / "conftest.py").write_text((ROOT / "conftest.py").read_text(encoding="utf-8"))
    environ = {name: value for name, value in os.environ.items() if name != "MMLEARN_PROPERTIES"}
    environ |= {"MMLEARN_PROPERTIES": profile} if profile else {}
    command = [sys.executable, "-m", "pytest", "-s", "-q", "-p", "no:cacheprovider", "test_it.py"]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    return ast.literal_eval(next(line.split("seen ", 1)[1] for line in done.stdout.splitlines() if "seen [" in line))


def test_the_same_examples_every_time(tmp_path: Path) -> None:
    first = run(tmp_path, None)
    assert first == run(tmp_path, None) and len(first) <= 10


def test_random_and_many_where_asked_for(tmp_path: Path) -> None:
    first = run(tmp_path, "random")
    assert len(first) > 100 and first != run(tmp_path, "random")


@pytest.mark.skipif(os.environ.get("MMLEARN_PROPERTIES", "fixed") != "fixed", reason="examples are random in this run")
def test_this_run_is_reproducible() -> None:
    assert settings().derandomize and settings().database is None
