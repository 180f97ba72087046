"""The derived notebooks: plain Markdown, no outputs, and as fresh as their chapters."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tools import repository
from tools.chapter import BOOK, ChapterError, parse_blocks, read_book
from tools.lab import update
from tools.notebooks import check, is_as_derived, notebooks, write
from tools.repository import ROOT
from tools.source import find_source

Scratch = Callable[..., Path]
NOTEBOOKS = notebooks()


def lane_record(doc: str, ok: bool, cpu_seconds: float = 1.0) -> str:
    """A tools/lanes.json in which one notebook ran with Colab's packages."""
    run = {"ok": ok, "seconds": 2 * cpu_seconds, "cpu_seconds": cpu_seconds}
    return json.dumps({"colab": {"date": "2030-01-02", "colab": "2029-12-31", "notebooks": {doc: run}}})


def cells(root: Path, doc: str = "start/one") -> list[nbformat.NotebookNode]:
    return nbformat.reads(notebooks(root, [doc])[doc], as_version=4).cells[2:]  # without header and install cell


def text(root: Path, doc: str = "start/one") -> str:
    return "\n\n".join(cell.source for cell in cells(root, doc))


def test_every_chapter_has_its_fresh_notebook_and_none_is_left_over() -> None:
    assert check() == []


def committed() -> dict[str, str]:
    """The notebooks as git has them (staged or committed): what a reader ran or wrote into his files is his."""
    git = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT)]
    listed = subprocess.run([*git, "ls-files", "-z", f"{BOOK}/**.ipynb"], capture_output=True, text=True)
    names = [name for name in listed.stdout.split("\0") if name]
    if not names:  # no git here
        return {str(path): path.read_text(encoding="utf8") for path in (ROOT / BOOK).rglob("*.ipynb")}
    shown = {name: subprocess.run([*git, "show", f":{name}"], capture_output=True, check=True) for name in names}
    return {name: done.stdout.decode() for name, done in shown.items()}


def test_committed_notebooks_are_valid_and_as_derived() -> None:
    found = committed()
    assert len(found) == len(notebooks())
    for name, text in found.items():
        notebook = nbformat.reads(text, as_version=4)
        nbformat.validate(notebook)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert all(not cell.outputs and cell.execution_count is None for cell in code), name
        assert len({cell.id for cell in notebook.cells}) == len(notebook.cells), name
        assert is_as_derived(text), f"{name} was edited by hand: edit the chapter and run `make notebooks`"


@pytest.mark.parametrize("doc", NOTEBOOKS)
def test_run_all_meets_no_error_and_no_empty_solution(doc: str) -> None:
    notebook = nbformat.reads(NOTEBOOKS[doc], as_version=4)
    assert "raises-exception" not in [tag for cell in notebook.cells for tag in cell.metadata.get("tags", [])]
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    folds = re.findall(r"<details><summary>[^<]*</summary>(.*?)</details>", text, re.DOTALL)
    assert all(fold.strip() for fold in folds)
    code = {role: [] for role in ("stub", "check")}
    for cell in notebook.cells:
        if (role := cell.metadata.get("mmlearn", {}).get("role")) in code:
            code[role].append(cell.source)
    if code["stub"]:  # all chapters but the index
        (name,) = re.findall(r"^def (\w+)", code["stub"][0])
        assert f'raise NotImplementedError("fill in {name} first")' in code["stub"][0]
        assert code["check"][0].endswith("\nexcept NotImplementedError as todo:\n    print(todo)")


def test_every_page_of_the_contents_exists_and_every_chapter_is_in_the_contents() -> None:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf8"))
    listed = {toc["root"], *(c["file"] for part in toc["parts"] for c in part["chapters"])}
    assert listed == {f"{BOOK}/{doc}" for doc in read_book()}


def test_stale_missing_and_orphaned_notebooks_are_named(scratch: Scratch) -> None:
    root = scratch({"start/one": "# One\n", "start/two": "# Two\n", "start/three": "# Three\n"})
    assert write(root) == (["start/one", "start/three", "start/two"], [])
    assert check(root) == []
    assert write(root) == ([], [])
    chapter = root / BOOK / "start" / "one.md"
    chapter.write_text(chapter.read_text() + "\nMore.\n")
    (root / BOOK / "start" / "two.ipynb").unlink()
    (root / BOOK / "start" / "four.ipynb").write_text("{}")
    assert set(check(root)) == {f"{BOOK}/start/{name}.ipynb" for name in ("one", "two", "four")}


def test_derivation_is_deterministic_and_an_edit_changes_no_other_cells_id(scratch: Scratch) -> None:
    body = "# One\n\nText.\n\n```{code-cell} ipython3\nx = 1\n```\n\nMore.\n\n```{code-cell} ipython3\nx = 1\n```\n"
    root = scratch({"start/one": body})
    assert notebooks(root) == notebooks(root)
    before = [cell.id for cell in cells(root)]
    chapter = root / BOOK / "start" / "one.md"
    chapter.write_text(chapter.read_text().replace("Text.", "Other text."))
    after = [cell.id for cell in cells(root)]
    assert len(set(before)) == 4
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, True, True, True]


def test_install_cell_names_the_repository_of_the_configuration(scratch: Scratch) -> None:
    root = scratch({"start/one": "# One\n"})
    notebook = nbformat.reads(notebooks(root)["start/one"], as_version=4)
    url = yaml.safe_load((root / "_config.yml").read_text())["repository"]["url"]
    assert f"mmlearn-course @ git+{url}@" in notebook.cells[1].source
    assert notebook.cells[1].metadata.mmlearn.role == "install"
    assert "accelerator" not in notebook.metadata


def test_gpu_chapters_ask_colab_for_one(scratch: Scratch) -> None:
    root = scratch({"start/one": "# One\n"}, mmlearn="{gpu: true}")
    assert nbformat.reads(notebooks(root)["start/one"], as_version=4).metadata.accelerator == "GPU"


def test_roles_become_words_and_links(scratch: Scratch) -> None:
    one = """\
(one)=
# One

{cite:p}`li2020one,a2021many`, {cite:t}`li2020one`; {eq}`eq-x`, {numref}`fig-x`, {ref}`two`, {ref}`it <two>`,
{doc}`/book/en/start/two`, {term}`clip`, [two](two.md), [part](two.md#two), [here](#one), `{eq}` $a_{b}$.

```{math}
:label: eq-x
x = 1
```

:::{figure} images/x.svg
:name: fig-x
:alt: a line
A line.
:::
"""
    root = scratch({"start/one": one, "start/two": "(two)=\n# The second\n"})
    (root / BOOK / "start" / "images").mkdir()
    (root / BOOK / "start" / "images" / "x.svg").write_text("<svg/>")
    base = repository.repository(root).page(f"{BOOK}/start")
    found = text(root)
    assert "(one)=" not in found
    assert "([Li and Wang, 2020](https://doi.org/10.1/x); A et al., 2021)" in found
    assert "[Li and Wang (2020)](https://doi.org/10.1/x); (1), Figure 1, [The second](" in found
    assert f"[it]({base}/two.ipynb)" in found
    assert f"clip, [two]({base}/two.ipynb), [part]({base}/two.ipynb), [here](#one)" not in found
    assert f"clip, [two]({base}/two.ipynb), [part]({base}/two.ipynb), here, `{{eq}}` $a_{{b}}$." in found
    assert "$$\nx = 1\n\\tag{1}\n$$" in found
    assert f"![a line]({repository.repository(root).raw(BOOK)}/start/images/x.svg)\n\n**Figure 1.** A line." in found


def test_directives_become_plain_markdown(scratch: Scratch) -> None:
    body = """\
# One

```{at-a-glance}
```

:::{note}
Some {term}`words`.

Second.
:::

:::{admonition} My title
Text.
:::

:::{dropdown} a. Because
**Right.** $x$
:::

```{package} mmlearn.tiny.Adder.add
```

```bash
make book
```
"""
    root = scratch({"start/one": body}, mmlearn="{module: mmlearn.tiny, prerequisites: [start/one]}")
    found = text(root)
    url = repository.repository(root).page("mmlearn/tiny.py")
    assert f"*Module: [`mmlearn.tiny`]({url}) · Before this: [One](" in found
    assert "> **Note**\n>\n> Some words.\n>\n> Second." in found
    assert "> **My title**\n>\n> Text." in found
    assert "<details><summary>a. Because</summary>\n\n**Right.** $x$\n\n</details>" in found
    assert f"[`mmlearn.tiny.Adder.add`]({url}#L7-L8):\n\n```python\n    def add(self, a, b):" in found
    assert "```bash\nmake book\n```" in found
    assert ":::" not in found
    assert "```{" not in found


EXERCISE = """\
# One

```{exercise-start} Add
:label: ex-add
```
Write it.

```python
def add(a, b):
    ...
```
```{exercise-end}
```

```{solution-start} ex-add
:class: dropdown
```
Like this.

```{code-cell} ipython3
def add(a, b):
    return a + b
```

```{code-cell} ipython3
:tags: [check]
assert add(1, 2) == 3
```
```{solution-end}
```
"""


def test_exercise_becomes_a_stub_its_check_and_a_folded_solution(scratch: Scratch) -> None:
    code = [cell for cell in cells(scratch({"start/one": EXERCISE})) if cell.cell_type == "code"]
    assert [cell.metadata.mmlearn.role for cell in code] == ["stub", "check", "source", "source"]
    assert code[3].source == "assert add(1, 2) == 3"
    assert code[1].source == f"try:\n    {code[3].source}\nexcept NotImplementedError as todo:\n    print(todo)"
    assert all(cell.metadata.jupyter.source_hidden and cell.metadata.cellView == "form" for cell in code[2:])


@pytest.mark.parametrize(
    ("written", "printed"),
    [
        (None, "fill in add first\n"),
        ("def add(a, b):\n    return a + b", "right\n"),
    ],
)
def test_an_untouched_stub_asks_to_be_filled_in(
    scratch: Scratch, capsys: pytest.CaptureFixture[str], written: str | None, printed: str
) -> None:
    body = EXERCISE.replace("assert add(1, 2) == 3", 'assert add(1, 2) == 3\nprint("right")')
    stub, check_cell, *_ = (cell.source for cell in cells(scratch({"start/one": body})) if cell.cell_type == "code")
    exec(f"{written or stub}\n{check_cell}", {})
    assert capsys.readouterr().out == printed


def test_a_wrong_answer_fails_its_check(scratch: Scratch) -> None:
    _, check_cell, *_ = (c.source for c in cells(scratch({"start/one": EXERCISE})) if c.cell_type == "code")
    with pytest.raises(AssertionError):
        exec(f"def add(a, b):\n    return None\n{check_cell}", {})


def test_no_fold_for_the_blank_line_between_two_cells_of_a_solution(scratch: Scratch) -> None:
    found = text(scratch({"start/one": EXERCISE}))
    assert re.findall(r"<details>.*?</details>", found, re.DOTALL) == [
        "<details><summary>Solution</summary>\n\nLike this.\n\n</details>"
    ]


def test_header_leads_to_the_page_and_around_on_colab(scratch: Scratch) -> None:
    root = scratch({"start/one": "# One\n", "start/two": "# Two\n" + 999 * "word ", "start/three": "# Three\n"})
    (root / "tools" / "lanes.json").write_text(lane_record("start/two", ok=True, cpu_seconds=100.0))
    config = root / "_config.yml"
    config.write_text(repository_of("https://github.com/Some/where"))

    def header(doc: str) -> str:
        cell = nbformat.reads(notebooks(root)[doc], as_version=4).cells[0]
        assert cell.metadata.mmlearn.role == "header"
        return cell.source

    colab = "https://colab.research.google.com/github/Some/where/blob/main/book/en/start"
    assert header("start/two").split(" · ") == [
        f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab}/two.ipynb)",
        "[this page with all its outputs](https://some.github.io/where/book/en/start/two.html)",
        "5 min to read, about 2 min of CPU time to run",
        f"← [One]({colab}/one.ipynb)",
        f"[Three]({colab}/three.ipynb) →",
    ]
    assert header("start/one").endswith(f"1 min to read · [Two]({colab}/two.ipynb) →")
    assert "→" not in header("start/three")
    config.write_text(repository_of("https://code.example/some/where"))  # no Colab, no site: neither is made up
    page = "https://code.example/some/where/blob/main/book/en/start"
    assert header("start/one") == f"1 min to read · [Two]({page}/two.ipynb) →"
    config.write_text(repository_of("https://code.example/some/where") + 'html: {baseurl: "https://course.example/"}')
    assert "(https://course.example/book/en/start/one.html)" in header("start/one")


def repository_of(url: str) -> str:
    return f"repository: {{url: {url}, branch: main}}\n"


@pytest.mark.parametrize(
    ("url", "site"),
    [
        ("https://github.com/Own/Course", "https://own.github.io/Course"),
        ("https://github.com/own/own.github.io", "https://own.github.io"),
        ("https://gitlab.com/own/course", None),
        ("https://github.com.example/own/course", None),
    ],
)
def test_the_site_is_derived_for_github_only(url: str, site: str | None) -> None:
    assert repository.pages(url) == site


def edit(path: Path, output: str | None = None) -> str:
    """Do what a reader does in Jupyter: write into the stub, run, save. Returns what is in the file then."""
    notebook = nbformat.read(path, as_version=4)
    stub = next(c for c in notebook.cells if c.metadata.get("mmlearn", {}).get("role") == "stub")
    if output is None:
        stub.source = "def add(a, b):\n    return a + b  # mine"
    else:
        stub.outputs, stub.execution_count = [nbformat.v4.new_output("stream", text=output)], 1
    nbformat.write(notebook, path)
    return path.read_text(encoding="utf8")


@pytest.mark.parametrize("output", [None, "it ran"])
def test_what_a_reader_wrote_or_ran_is_not_written_over(scratch: Scratch, output: str | None) -> None:
    root = scratch({"start/one": EXERCISE, "start/two": "# Two\n"})
    write(root)
    path = root / BOOK / "start" / "one.ipynb"
    mine = edit(path, output)
    assert check(root) == []  # it stays green
    assert write(root) == ([], [])
    chapter = path.with_suffix(".md")
    chapter.write_text(chapter.read_text() + "\nMore.\n")
    assert write(root) == ([], [f"{BOOK}/start/one.ipynb"])
    done = subprocess.run([sys.executable, "-m", "tools.notebooks"], cwd=root, capture_output=True, text=True)
    assert f"{BOOK}/start/one.ipynb was edited or run, and is left as it is" in done.stdout
    assert path.read_text(encoding="utf8") == mine
    assert check(root) == [f"{BOOK}/start/one.ipynb"]
    assert write(root, overwrite=True) == (["start/one"], [])


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"metadata": {"mmlearn": {"digest": "x"}}}', "null", "\ufffd"])
def test_a_damaged_notebook_is_stale_and_the_readers(scratch: Scratch, damage: str) -> None:
    root = scratch({"start/one": EXERCISE})
    path = root / BOOK / "start" / "one.ipynb"
    path.write_bytes(damage.encode("utf8").replace("\ufffd".encode(), b"\xff\xfe"))
    before = path.read_bytes()
    assert check(root) == [f"{BOOK}/start/one.ipynb"]
    assert write(root) == ([], [f"{BOOK}/start/one.ipynb"])
    assert path.read_bytes() == before


def test_the_readers_folder(scratch: Scratch) -> None:
    root = scratch({"start/one": EXERCISE, "start/two": "# Two\n"})
    folder, chapter = root / "work", root / BOOK / "start" / "one.md"
    fresh = notebooks(root)
    assert update(folder, root) == [f"2 notebooks copied to {folder}"]
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*.*")} == {"start/one.ipynb", "start/two.ipynb"}
    assert (folder / "start/one.ipynb").read_text(encoding="utf8") == fresh["start/one"]
    assert update(folder, root) == [f"0 notebooks copied to {folder}"]

    mine = {"one.ipynb": edit(folder / "start" / "one.ipynb")}
    assert update(folder, root) == [f"0 notebooks copied to {folder}"]
    for name in ("one.new.ipynb", "one.new-2.ipynb"):
        chapter.write_text(chapter.read_text() + f"\n{name}\n")
        (folder / "start" / "two.ipynb").unlink()
        copied, said = update(folder, root)
        assert copied == f"2 notebooks copied to {folder}"
        assert said == (
            f"{folder}/start/one.ipynb is yours and stays as it is; its chapter has changed: {name} is the new one"
        )
        assert (folder / "start" / name).read_text(encoding="utf8") == notebooks(root)["start/one"]
        assert update(folder, root) == [f"0 notebooks copied to {folder}"]
        mine[name] = edit(folder / "start" / name)
    for name, content in mine.items():
        assert (folder / "start" / name).read_text(encoding="utf8") == content
    chapter.write_text(chapter.read_text().replace("one.new-2.ipynb", "other words"))
    update(folder, root)
    chapter.write_text(chapter.read_text() + "\nmore words\n")  # a new one that nobody touched is brought up to date
    assert "one.new-3.ipynb is the new one" in update(folder, root)[1]
    assert not (folder / "start" / "one.new-4.ipynb").exists()


def test_git_does_not_see_the_readers_folder() -> None:
    assert "work/" in (ROOT / ".gitignore").read_text().split()
    assert "tools.lab" in (makefile := (ROOT / "Makefile").read_text())
    assert "lab work" in makefile


def test_hidden_cells_stay_hidden(scratch: Scratch) -> None:
    body = "# One\n\n```{code-cell} ipython3\n:tags: [hide-cell]\nx = 1\n```\n"
    (cell,) = (c for c in cells(scratch({"start/one": body})) if c.cell_type == "code")
    assert cell.metadata.jupyter == {"source_hidden": True, "outputs_hidden": True}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("# One\n\n{kbd}`x`\n", r"start/one\.md:14: unknown role \{kbd\}"),
        ("# One\n\n```{tabs} x\n```\n", r"start/one\.md:14: unknown directive \{tabs\}"),
        ("# One\n\n:::{note}\n\n{eq}`no`\n:::\n", r"start/one\.md:16: \{eq\}: no label 'no'"),
        ("# One\n\n:::{note}\n", r"start/one\.md:14: the fence ':::\{note\}' has no end"),
        ("# One\n\n{cite:p}`nobody`\n", r"start/one\.md:14: .* no entry 'nobody'"),
        ("# One\n\n[x](nowhere.md)\n", r"start/one\.md:14: link to 'nowhere\.md'"),
        ("# One\n\n![x](nowhere.png)\n", r"start/one\.md:14: no image 'nowhere\.png'"),
        ("# One\n\n(a)=\n## A\n\n(a)=\n## B\n", r"start/one\.md:17: the label 'a' stands already"),
        ("# One\n\n```{code-cell} ipython3\n:tags: [slow]\n1\n```\n", r"start/one\.md:14: unknown tag 'slow'"),
        ("# One\n\n```{package} mmlearn.tiny.Nobody\n```\n", r"start/one\.md:14: .*no class or function 'Nobody'"),
        (
            "# One\n\n````{note}\n```{code-cell} ipython3\n1\n```\n````\n",
            r"start/one\.md:15: \{code-cell\} cannot stand",
        ),
        (
            "# One\n\n```{code-cell} ipython3\n:tags: [raises-exception]\n1\n```\n",
            r"unknown tag 'raises-exception'; .*caught",
        ),
        (
            EXERCISE.replace("    ...\n", "    pass\n"),
            r"start/one\.md:19: a stub is one function whose body is '\.\.\.'",
        ),
        (EXERCISE.replace("== 3", '== """\n"""'), r"start/one\.md:\d+: a check holds no string of several lines"),
        ("# One\n\n```{solution-start} ex-no\n```\n", r"start/one\.md:14: solution of an exercise 'ex-no'"),
    ],
)
def test_what_is_not_allowed_is_named_with_file_and_line(scratch: Scratch, body: str, message: str) -> None:
    with pytest.raises(ChapterError, match=message):
        notebooks(scratch({"start/one": body}))


@given(st.lists(st.sampled_from(["text", "", "# Title", "`code`", "$x$", "- item"]), max_size=20))
def test_parsing_loses_no_line_of_markdown(lines: list[str]) -> None:
    blocks = parse_blocks(lines, 1, "x.md")
    assert [line for block in blocks for line in block.body] == lines


def test_source_is_found_without_importing() -> None:
    found = find_source("mmlearn.runtime.home")
    assert found.path == "mmlearn/runtime.py"
    assert found.text.startswith("def home(")
    assert (ROOT / found.path).read_text().splitlines()[found.first - 1].startswith("def home(")
    with pytest.raises(LookupError, match=r"mmlearn\.nothing\.Here: "):
        find_source("mmlearn.nothing.Here")


def test_one_command_changes_the_repository_everywhere(scratch: Scratch) -> None:
    root = scratch({"start/one": "# One\n"})
    old = repository.repository(root).url
    (root / "README.md").write_text(
        f"[x]({old}/blob/main/x) ![badge](https://badge.example/{old.split('/', 3)[3]}.svg)"
    )
    assert set(repository.change("https://github.com/someone/else.git", root)) == {
        "_config.yml",
        "pyproject.toml",
        "README.md",
    }
    assert (root / "README.md").read_text() == (
        "[x](https://github.com/someone/else/blob/main/x) ![badge](https://badge.example/someone/else.svg)"
    )
    assert "git+https://github.com/someone/else" in notebooks(root)["start/one"]
    with pytest.raises(ValueError, match=r"expected https://HOST/OWNER/NAME, found 'nonsense'"):
        repository.change("nonsense", root)


def test_the_command_fails_where_a_notebook_is_stale(scratch: Scratch) -> None:
    root = scratch({"start/one": "# One\n"})
    command = [sys.executable, "-m", "tools.notebooks", "--check"]
    stale = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert stale.returncode == 1
    assert "stale: book/en/start/one.ipynb; `make notebooks` writes them again" in stale.stderr
    write(root)
    assert subprocess.run(command, cwd=root, capture_output=True).returncode == 0
    json.loads((root / BOOK / "start" / "one.ipynb").read_text())
