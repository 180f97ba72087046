"""Each chapter runs once: nbmake's outputs feed the site, and a chapter that fails makes the build fail."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from tools.chapter import BOOK
from tools.execute import fingerprint, source_notebook

Scratch = Callable[..., Path]

COUNTING = """\
(one)=
# One

```{{at-a-glance}}
```

```{{code-cell}} ipython3
with open({path!r}, "a") as file:
    file.write("ran\\n")
print("six times seven is", 6 * 7)
```

```{{code-cell}} ipython3
:tags: [caught]
try:
    raise ValueError("on purpose")
except ValueError as error:
    print("ValueError:", error)
```

```{{exercise-start}} Add
:label: ex-add
```
```python
def add(a, b):
    ...
```
```{{exercise-end}}
```

```{{solution-start}} ex-add
:class: dropdown
```
```{{code-cell}} ipython3
def add(a, b):
    return a + b
```

```{{code-cell}} ipython3
:tags: [check]
assert add(1, 2) == 3
print("the sum is right")
```
```{{solution-end}}
```

```{{package}} mmlearn.tiny.Adder
```
"""


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a module of the tools in a scratch book."""
    return subprocess.run([sys.executable, "-m", *arguments], cwd=root, capture_output=True, text=True)


def build(root: Path) -> subprocess.CompletedProcess[str]:
    """Build a scratch book's site."""
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", ".", "-W", "--keep-going"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True)


@pytest.mark.slow
def test_a_chapter_runs_once_for_nbmake_and_site_together(scratch: Scratch, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    root = scratch({"start/one": COUNTING.format(path=str(log))})
    first = run(root, "tools.execute")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "unchanged" in run(root, "tools.execute").stdout
    built = build(root)
    assert built.returncode == 0, built.stdout + built.stderr
    assert log.read_text() == "ran\n"
    page = (root / "_build" / "html" / BOOK / "start" / "one.html").read_text(encoding="utf8")
    assert "six times seven is 42" in page
    assert "on purpose" in page
    assert "the sum is right" in page
    assert "class Adder:" in BeautifulSoup(page, "html.parser").select_one(".package-source pre").text
    cost = json.loads((root / "_build" / "execution" / "start" / "one.json").read_text())
    assert cost["cpu_seconds"] > 0
    assert 20 < cost["peak_mib"] < 2000
    assert f"({cost['cpu_seconds']:.0f} CPU seconds)" in page


@pytest.mark.slow
def test_a_failing_chapter_fails_the_execution_and_the_build(scratch: Scratch) -> None:
    body = "# {}\n\n```{{code-cell}} ipython3\n{}\n```\n"
    root = scratch({"start/good": body.format("Good", "1 + 1"), "start/bad": body.format("Bad", "1 / 0")})
    ran = run(root, "tools.execute")
    assert ran.returncode == 1
    assert "start/bad … FAILED" in ran.stdout
    assert "ZeroDivisionError" in ran.stdout
    assert "failed: start/bad" in ran.stderr
    assert (root / "_build" / "execution" / "start" / "good.json").exists()
    assert not (root / "_build" / "execution" / "start" / "bad.json").exists()
    built = build(root)
    assert built.returncode != 0
    assert "ZeroDivisionError" in built.stdout + built.stderr


@pytest.mark.slow
def test_a_check_that_accepts_the_bare_stub_fails(scratch: Scratch, tmp_path: Path) -> None:
    body = COUNTING.format(path=str(tmp_path / "log.txt")).replace("assert add(1, 2) == 3", "add(1, 2)")
    ran = run(scratch({"start/one": body}), "tools.execute")
    assert ran.returncode == 1
    assert "an exercise's check passes on a function that returns nothing" in ran.stdout


@pytest.mark.slow
def test_an_error_that_is_shown_must_be_raised(scratch: Scratch, tmp_path: Path) -> None:
    body = COUNTING.format(path=str(tmp_path / "log.txt")).replace('raise ValueError("on purpose")', "pass")
    ran = run(scratch({"start/one": body}), "tools.execute")
    assert ran.returncode == 1
    assert "no ValueError was raised where the chapter shows one" in ran.stdout


def test_what_a_chapter_depends_on_changes_its_fingerprint(scratch: Scratch, tmp_path: Path) -> None:
    root = scratch({"start/one": COUNTING.format(path="log.txt")})
    chapter = root / BOOK / "start" / "one.md"
    (root / "requirements.txt").write_text("numpy==2.0\n")

    def mark() -> str:
        return fingerprint(source_notebook(chapter, root), root)

    marks = [mark()]
    chapter.write_text(chapter.read_text() + "\nOnly words.\n")
    assert mark() == marks[0]
    chapter.write_text(chapter.read_text().replace("6 * 7", "7 * 6"))
    marks.append(mark())
    (root / "mmlearn" / "tiny.py").write_text("x = 1\n")
    marks.append(mark())
    (root / "benchmarks" / "results").mkdir(parents=True)
    (root / "benchmarks" / "results" / "a.json").write_text("{}")
    marks.append(mark())
    (root / "requirements.txt").write_text("numpy==2.1\n")
    marks.append(mark())
    assert len(set(marks)) == 5
