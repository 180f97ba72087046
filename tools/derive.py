"""Derive the notebook that Jupyter and Colab open from a chapter's source: plain Markdown, no outputs.

Cells carry `metadata.mmlearn.role`: "source" (a code cell of the chapter), or what only the notebook has: "header",
"install", "stub" (where the reader writes), "check" (copy of an exercise's check; until the stub is filled in, it asks
for that). No cell of an untouched notebook ends in an error, since Colab's *Run all* stops at the first one.
"""

from __future__ import annotations

import hashlib
import json
import re
import textwrap
from typing import Any

import nbformat
from nbformat import NotebookNode

from tools.chapter import BOOK, Block, Chapter, parse_blocks
from tools.header import header
from tools.inline import Inline
from tools.repository import release
from tools.source import find_source

ADMONITIONS = ("note", "tip", "warning", "important", "admonition")
ONLY_ON_SITE = ("nb-exec-table", "bibliography", "build-info")
TAGS = ("hide-input", "hide-output", "hide-cell", "caught", "check")
STUB = re.compile(r"def (?P<name>\w+)\(.*\):\n(?P<indent> +)\.\.\.\n?")
# The tag, or the branch for as long as the tag does not exist: an address that cannot be missing (see CONTRIBUTING.md).
# No `x = !command`: Colab's IPython 7 cannot read that with Python 3.13.
INSTALL = """\
# On Colab or Kaggle this cell installs the course and fetches its data. Where the course is installed, it does nothing.
import importlib.metadata
import subprocess

try:
    importlib.metadata.version("mmlearn-course")
except importlib.metadata.PackageNotFoundError:
    ask = ["git", "ls-remote", "--tags", "{url}", "{tag}"]
    # the release that this notebook belongs to, once it is out
    release = "{tag}" if subprocess.run(ask, capture_output=True).stdout else "{branch}"
    %pip install -q "mmlearn-course @ git+{url}@{{release}}"
    import mmlearn.datasets.hanzi.download

    mmlearn.datasets.hanzi.download.fetch_hanzi()"""


def derive(chapter: Chapter, inline: Inline) -> NotebookNode:
    """Make the notebook of a chapter.

    Args:
        chapter: a chapter that is a notebook.
        inline: the converter of roles and links, made from the whole book.

    Raises:
        ChapterError: an unknown directive, role, label, image or tag, with file and line.
    """
    return _Writer(chapter, inline).notebook()


def digest(notebook: dict[str, Any]) -> str:
    """Hash of a notebook without the digest that it carries: it changes when somebody edits, runs or saves it."""
    metadata = {key: value for key, value in notebook["metadata"].items() if key != "mmlearn"}
    cells = [{**cell, "source": "".join(cell["source"])} for cell in notebook["cells"]]  # lists of lines in a file
    text = json.dumps({**notebook, "metadata": metadata, "cells": cells}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class _Writer:
    """Collects the cells of one notebook."""

    def __init__(self, chapter: Chapter, inline: Inline) -> None:
        self.chapter = chapter
        self.inline = inline
        self.cells: list[NotebookNode] = []
        self.text: list[str] = []  # Markdown that waits for its cell
        self.solution: str | None = None  # label of the exercise whose solution is open
        self.exercise: Block | None = None  # the open exercise

    def notebook(self) -> NotebookNode:
        metadata: dict[str, Any] = {"mmlearn": {"role": "header"}}
        self._add(nbformat.v4.new_markdown_cell(header(self.chapter, self.inline), metadata=metadata))
        url, branch = self.inline.repository.url, self.inline.repository.branch
        self._code(INSTALL.format(url=url, branch=branch, tag=release(self.inline.root)), "install")
        for block in self.chapter.blocks:
            self._block(block)
        self._flush()
        if self.exercise or self.solution:
            line = self.exercise.line if self.exercise else self.chapter.blocks[-1].line
            raise self.chapter.error(line, "an exercise or a solution has no end")
        metadata = {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "colab": {"name": f"{self.chapter.doc.replace('/', '_')}.ipynb"},
        }
        if self.chapter.front.get("mmlearn", {}).get("gpu"):
            metadata |= {"accelerator": "GPU"}
            metadata["colab"]["gpuType"] = "T4"
        node = nbformat.v4.new_notebook(metadata=metadata, cells=self.cells)
        node.nbformat_minor = 5
        node.metadata["mmlearn"] = {"digest": digest(node)}
        return node

    def _add(self, cell: NotebookNode) -> None:
        """Append a cell under an id that depends on its content only, so that an edit changes no other cell's id."""
        kind = f"{cell.cell_type}\n{cell.source}"
        taken = {other.id for other in self.cells}
        count = 0
        while (name := hashlib.sha1(f"{kind}\n{count}".encode()).hexdigest()[:8]) in taken:
            count += 1
        cell["id"] = name
        self.cells.append(cell)

    def _flush(self) -> None:
        text = "\n\n".join(part for part in self.text if part)
        self.text = []
        if text:
            self._add(nbformat.v4.new_markdown_cell(text))

    def _code(self, source: str, role: str, tags: list[str] | None = None, folded: bool = False) -> None:
        self._flush()
        tags = tags or []
        metadata: dict[str, Any] = {"mmlearn": {"role": role}}
        if tags:
            metadata["tags"] = tags
        if folded or "hide-input" in tags or "hide-cell" in tags or role == "install":
            metadata["cellView"] = "form"  # Colab
            metadata["jupyter"] = {"source_hidden": True}
        if "hide-output" in tags or "hide-cell" in tags:
            metadata.setdefault("jupyter", {})["outputs_hidden"] = True
        self._add(nbformat.v4.new_code_cell(source, metadata=metadata))

    def _block(self, block: Block) -> None:
        kind = block.kind
        if kind == "code-cell":
            for tag in block.tags:
                if tag not in TAGS:
                    raise self.chapter.error(block.line, f"unknown tag {tag!r}; allowed: {' '.join(TAGS)}")
            if "check" in block.tags and not self.solution:
                raise self.chapter.error(block.line, "a check stands inside the solution of its exercise")
            self._code("\n".join(block.body), "source", block.tags, folded=self.solution is not None)
        elif kind == "exercise-start":
            self.exercise = block
            self.text.append(f"### Exercise: {block.arg}")
        elif kind == "exercise-end":
            self._end_exercise(block)
        elif kind == "solution-start":
            if block.arg not in self.inline.targets:
                raise self.chapter.error(block.line, f"solution of an exercise {block.arg!r}, which there is not")
            self.solution = block.arg
            self.text.append("**Solution** (folded cells: open them when you have tried)")
        elif kind == "solution-end":
            self.solution = None
        elif kind == "fence" and block.arg == "python" and self.exercise:
            self._stub(block)
        elif self.solution:
            if text := self._markdown(block):  # not for the blank line between two cells
                self.text.append(f"<details><summary>Solution</summary>\n\n{text}\n\n</details>")
        else:
            self.text.append(self._markdown(block))

    def _stub(self, block: Block) -> None:
        """The cell in which the reader writes: a function that asks to be written, instead of returning None."""
        found = STUB.fullmatch("\n".join(block.body))
        if found is None:
            raise self.chapter.error(block.line, "a stub is one function whose body is '...': def NAME(...):")
        empty = f'raise NotImplementedError("fill in {found["name"]} first")  # your code goes here'
        self._code(found[0].replace(f"{found['indent']}...", f"{found['indent']}{empty}"), "stub")

    def _end_exercise(self, end: Block) -> None:
        if self.exercise is None:
            raise self.chapter.error(end.line, "exercise-end without exercise-start")
        label = self.exercise.options.get("label", "")
        inside = False
        for block in self.chapter.blocks:
            inside = (
                inside or (block.kind == "solution-start" and block.arg == label)
            ) and block.kind != "solution-end"
            if inside and block.kind == "code-cell" and "check" in block.tags:
                if any(line.count(mark) % 2 for line in block.body for mark in ('"""', "'''")):
                    raise self.chapter.error(
                        block.line, "a check holds no string of several lines: the notebook indents it"
                    )
                body = textwrap.indent("\n".join(block.body), "    ")
                self._code(f"try:\n{body}\nexcept NotImplementedError as todo:\n    print(todo)", "check", ["check"])
        self.exercise = None

    def _markdown(self, block: Block) -> str:
        """Plain Markdown for a block that is not a cell."""
        chapter, kind, body = self.chapter, block.kind, block.body
        if kind == "markdown":
            return self.inline.convert(chapter, [line for line in body if line.strip() != "+++"], block.line)
        if kind == "fence":
            return "\n".join([f"```{block.arg}", *body, "```"])
        if kind in ADMONITIONS:
            title = block.arg if kind == "admonition" else kind.capitalize()
            title = self.inline.convert(chapter, [title], block.line)
            quoted = [f"> {line}".rstrip() for line in self._nested(block).splitlines()]
            return "\n".join([f"> **{title}**", ">", *quoted])
        if kind == "dropdown":
            return f"<details><summary>{block.arg}</summary>\n\n{self._nested(block)}\n\n</details>"
        if kind == "math":
            lines = [line for line in body if line]
            if label := block.options.get("label"):
                lines.append(f"\\tag{{{self.inline.targets[label].words.strip('()')}}}")
            return "\n".join(["$$", *lines, "$$"])
        if kind in ("figure", "image"):
            picture = f"![{block.options.get('alt', '')}]({self.inline.image(chapter, block.line, block.arg)})"
            name = block.options.get("name")
            number = f"**{self.inline.targets[name].words}.** " if name and kind == "figure" else ""
            caption = self._nested(block)
            return f"{picture}\n\n{number}{caption}" if caption else picture
        if kind == "at-a-glance":
            return self._at_a_glance()
        if kind == "package":
            return self._package(block)
        if kind in ONLY_ON_SITE:
            return ""
        raise chapter.error(block.line, f"unknown directive {{{kind}}}; the ones allowed stand in CONTRIBUTING.md")

    def _nested(self, block: Block) -> str:
        inner = parse_blocks(block.body, block.body_line, f"{BOOK}/{self.chapter.doc}.md")
        for part in inner:
            if part.kind in ("code-cell", "exercise-start", "solution-start"):
                raise self.chapter.error(part.line, f"{{{part.kind}}} cannot stand inside {{{block.kind}}}")
        return "\n\n".join(filter(None, map(self._markdown, inner))).strip()

    def _at_a_glance(self) -> str:
        front = self.chapter.front.get("mmlearn", {})
        parts = []
        if module := front.get("module"):
            parts.append(
                f"Module: [`{module}`]({self.inline.repository.page(find_source(module, self.inline.root).path)})"
            )
        before = []
        for doc in front.get("prerequisites", []):
            if doc not in self.inline.book:
                raise self.chapter.error(1, f"front matter: no chapter {doc!r} among the prerequisites")
            before.append(f"[{self.inline.book[doc].title}]({self.inline.page(doc)})")
        if before:
            parts.append(f"Before this: {', '.join(before)}")
        return f"*{' · '.join(parts)}*" if parts else ""

    def _package(self, block: Block) -> str:
        try:
            source = find_source(block.arg, self.inline.root)
        except LookupError as error:
            raise self.chapter.error(block.line, f"{{package}}: {error}") from None
        link = f"{self.inline.repository.page(source.path)}#L{source.first}-L{source.last}"
        return f"[`{block.arg}`]({link}):\n\n```python\n{source.text}\n```"
