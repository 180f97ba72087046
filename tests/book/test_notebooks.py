"""The derived notebooks: plain Markdown, no outputs, and as fresh as their chapters."""

from __future__ import annotations

import json
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
from tools.notebooks import check, notebooks, write
from tools.repository import ROOT
from tools.source import find_source

Scratch = Callable[..., Path]


def cells(root: Path, doc: str = "start/one") -> list[nbformat.NotebookNode]:
    return nbformat.reads(notebooks(root, [doc])[doc], as_version=4).cells[1:]  # without the install cell


def text(root: Path, doc: str = "start/one") -> str:
    return "\n\n".join(cell.source for cell in cells(root, doc))


def test_every_chapter_has_its_fresh_notebook_and_none_is_left_over() -> None:
    assert check() == []


def test_committed_notebooks_are_valid_and_hold_no_outputs() -> None:
    for path in (ROOT / BOOK).rglob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert all(not cell.outputs and cell.execution_count is None for cell in code), path
        assert len({cell.id for cell in notebook.cells}) == len(notebook.cells), path


def test_every_page_of_the_contents_exists_and_every_chapter_is_in_the_contents() -> None:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf8"))
    listed = {toc["root"], *(c["file"] for part in toc["parts"] for c in part["chapters"])}
    assert listed == {f"{BOOK}/{doc}" for doc in read_book()}


def test_stale_missing_and_orphaned_notebooks_are_named(scratch: Scratch) -> None:
    root = scratch({"start/one": "# One\n", "start/two": "# Two\n", "start/three": "# Three\n"})
    assert write(root) == 3
    assert check(root) == []
    assert write(root) == 0
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
    assert f'"mmlearn-course @ git+{url}"' in notebook.cells[0].source
    assert notebook.cells[0].metadata.mmlearn.role == "install"
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
    assert code[0].source == "def add(a, b):\n    ..."
    assert code[1].source == code[3].source == "assert add(1, 2) == 3"
    assert "raises-exception" in code[1].metadata.tags
    assert "raises-exception" not in code[3].metadata.tags
    assert all(cell.metadata.jupyter.source_hidden and cell.metadata.cellView == "form" for cell in code[2:])


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
    assert set(repository.change("https://github.com/someone/else.git", root)) == {"_config.yml", "README.md"}
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
    assert "stale: book/en/start/one.ipynb; `make notebooks` writes them anew" in stale.stderr
    write(root)
    assert subprocess.run(command, cwd=root, capture_output=True).returncode == 0
    json.loads((root / BOOK / "start" / "one.ipynb").read_text())
