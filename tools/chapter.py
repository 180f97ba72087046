"""Read a chapter (MyST-Markdown) into blocks: stretches of Markdown and fences. Used by the notebooks' derivation."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tools.repository import ROOT

BOOK = "book/en"
FENCE = re.compile(r"^(?P<mark>`{3,}|~{3,}|:{3,})(?:\{(?P<name>[^}]*)\})?[ \t]*(?P<arg>.*)$")


class ChapterError(Exception):
    """A chapter's source is not as CONTRIBUTING says; the message names file and line."""


@dataclass
class Block:
    """One stretch of a chapter.

    Args:
        kind: "markdown", "fence" (shown, not run) or the directive's name, e.g. "code-cell".
        line: number of its first line in the file, from 1.
        arg: what follows the directive's name (or the fence's language).
        options: the directive's `:key: value` lines.
        body: its lines.
        body_line: number of the first line of the body.
    """

    kind: str
    line: int
    arg: str = ""
    options: dict[str, str] = field(default_factory=dict)
    body: list[str] = field(default_factory=list)
    body_line: int = 0

    @property
    def tags(self) -> list[str]:
        """The cell's tags, e.g. ["hide-input"]."""
        return list(yaml.safe_load(self.options.get("tags", "[]")) or [])


@dataclass
class Chapter:
    """A chapter: its file, its document name ("start/setup"), its front matter and its blocks."""

    path: Path
    doc: str
    front: dict[str, Any]
    blocks: list[Block]

    def error(self, line: int, message: str) -> ChapterError:
        """An error that names this file and a line."""
        return ChapterError(f"{BOOK}/{self.doc}.md:{line}: {message}")

    @property
    def title(self) -> str:
        """The text of the first heading."""
        for block in self.blocks:
            for text in block.body if block.kind == "markdown" else []:
                if text.startswith("# "):
                    return text[2:].strip()
        raise self.error(1, "no '# Title'")

    @property
    def is_notebook(self) -> bool:
        """Whether the page has a notebook's front matter (else it is plain text, with nothing to run)."""
        return "jupytext" in self.front


def parse_blocks(lines: list[str], first: int, where: str) -> list[Block]:
    """Split lines into Markdown and fences.

    Args:
        lines: the lines.
        first: number of the first one in the file.
        where: name of the file for messages.

    Raises:
        ChapterError: a fence without an end.
    """
    blocks: list[Block] = []
    i = 0
    while i < len(lines):
        match = FENCE.match(lines[i])
        if not match:
            if not blocks or blocks[-1].kind != "markdown":
                blocks.append(Block("markdown", first + i, body_line=first + i))
            blocks[-1].body.append(lines[i])
            i += 1
            continue
        mark, start = match["mark"], i
        end = re.compile(rf"^{re.escape(mark[0])}{{{len(mark)},}}\s*$")
        i += 1
        while i < len(lines) and not end.match(lines[i]):
            i += 1
        if i == len(lines):
            raise ChapterError(f"{where}:{first + start}: the fence {lines[start]!r} has no end")
        block = Block(match["name"] or "fence", first + start, match["arg"].strip(), body=lines[start + 1 : i])
        block.body_line = first + start + 1
        i += 1
        if match["name"]:
            while block.body and (option := re.match(r"^:([\w-]+):\s*(.*)$", block.body[0])):
                block.options[option[1]] = option[2].strip()
                block.body.pop(0)
                block.body_line += 1
        blocks.append(block)
    return blocks


def read_chapter(path: Path, root: Path = ROOT) -> Chapter:
    """Read one chapter.

    Args:
        path: the .md file.
        root: the root of the repository.

    Raises:
        ChapterError: with file and line.
    """
    where = path.resolve().relative_to(root)
    lines = path.read_text(encoding="utf8").splitlines()
    front: dict[str, Any] = {}
    start = 0
    if lines and lines[0] == "---":
        try:
            start = lines.index("---", 1) + 1
        except ValueError:
            raise ChapterError(f"{where}:1: the front matter has no end") from None
        front = yaml.safe_load("\n".join(lines[1 : start - 1])) or {}
    doc = str(path.resolve().relative_to(root / BOOK).with_suffix(""))
    return Chapter(path, doc, front, parse_blocks(lines[start:], start + 1, str(where)))


def read_book(root: Path = ROOT) -> dict[str, Chapter]:
    """Read every chapter below book/en, by document name."""
    paths = [p for p in sorted((root / BOOK).rglob("*.md")) if ".ipynb_checkpoints" not in p.parts]
    chapters = [read_chapter(path, root) for path in paths]
    return {chapter.doc: chapter for chapter in chapters}


def reading_order(root: Path = ROOT) -> list[str]:
    """Document names in the order of the table of contents."""
    contents = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf8"))
    parts = [contents, *contents.get("parts", [])]
    files = [contents["root"], *(chapter["file"] for part in parts for chapter in part.get("chapters") or [])]
    return [file.removeprefix(f"{BOOK}/") for file in files]
