"""Turn MyST's roles, labels and links between chapters into plain Markdown, as Jupyter and Colab show it."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from pathlib import Path

from pybtex.database import BibliographyData, Entry, parse_file

from tools.chapter import BOOK, Chapter
from tools.repository import ROOT, Repository, repository

LABEL = re.compile(r"^\((?P<label>[\w-]+)\)=\s*$")
# Alternatives in the order in which they win; roles before code, because a role contains backticks.
INLINE = re.compile(
    r"\{(?P<role>[\w:]+)\}`(?P<arg>[^`]+)`"
    r"|(?P<code>(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`))"
    r"|(?P<math>\$\$.+?\$\$|(?<!\\)\$[^$\n]+\$)"
    r"|(?P<bang>!?)\[(?P<text>[^\[\]]*)\]\((?P<url>[^()\s]*)\)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Target:
    """What a label names: in which chapter, and the words that stand for it, e.g. "(1)" or a heading's text."""

    doc: str
    words: str


def collect_labels(book: dict[str, Chapter]) -> dict[str, Target]:
    """Find every label of the book; equations and figures are numbered within their chapter.

    Raises:
        ChapterError: a label that stands twice.
    """
    targets: dict[str, Target] = {}

    def add(chapter: Chapter, line: int, label: str, words: str) -> None:
        if label in targets:
            raise chapter.error(line, f"the label {label!r} stands already in {targets[label].doc}")
        targets[label] = Target(chapter.doc, words)

    for chapter in book.values():
        equations = figures = 0
        for block in chapter.blocks:
            if block.kind == "markdown":
                waiting: list[tuple[int, str]] = []
                for number, text in enumerate(block.body, block.line):
                    if match := LABEL.match(text):
                        waiting.append((number, match["label"]))
                    elif waiting and text.strip():
                        words = text.lstrip("# ").strip() if text.startswith("#") else chapter.title
                        for at, label in waiting:
                            add(chapter, at, label, words)
                        waiting = []
                for at, label in waiting:
                    add(chapter, at, label, chapter.title)
            elif block.kind == "math" and "label" in block.options:
                equations += 1
                add(chapter, block.line, block.options["label"], f"({equations})")
            elif block.kind == "figure" and "name" in block.options:
                figures += 1
                add(chapter, block.line, block.options["name"], f"Figure {figures}")
            elif block.kind == "exercise-start" and "label" in block.options:
                add(chapter, block.line, block.options["label"], f"Exercise: {block.arg}")
    return targets


def authors_and_year(entry: Entry) -> tuple[str, str]:
    """How a citation names a work: ("Li", ...), ("Li and Wang", ...) or ("Li et al.", ...), and the year."""
    people = entry.persons.get("author") or entry.persons.get("editor") or []
    names = [" ".join(person.prelast_names + person.last_names).replace("{", "").replace("}", "") for person in people]
    who = names[0] if names else entry.fields.get("organization", entry.fields.get("title", "")).strip("{}")
    if len(names) == 2:
        who = f"{names[0]} and {names[1]}"
    elif len(names) > 2:
        who = f"{names[0]} et al."
    return who, entry.fields.get("year", "n.d.")


class Inline:
    """Converts inline Markdown; knows the book's labels, the bibliography and the repository.

    Args:
        book: every chapter by document name.
        root: the root of the repository.
    """

    def __init__(self, book: dict[str, Chapter], root: Path = ROOT) -> None:
        self.book = book
        self.root = root
        self.repository: Repository = repository(root)
        self.targets = collect_labels(book)
        bib = root / BOOK / "references.bib"
        self.works = parse_file(str(bib)) if bib.exists() else BibliographyData()

    def page(self, doc: str) -> str:
        """Address of a chapter: its notebook where it has one."""
        return self.repository.page(f"{BOOK}/{doc}{'.ipynb' if self.book[doc].is_notebook else '.md'}")

    def convert(self, chapter: Chapter, lines: list[str], first: int) -> str:
        """Convert lines of Markdown that hold no directive.

        Args:
            chapter: where they stand.
            lines: the lines.
            first: number of the first one in the file.

        Raises:
            ChapterError: an unknown role, label, key or link, with file and line.
        """
        kept = ["" if LABEL.match(line) else line for line in lines if not line.startswith("% ")]
        text = "\n".join(kept)

        def replace(match: re.Match[str]) -> str:
            line = first + text.count("\n", 0, match.start())
            if match["role"]:
                return self._role(chapter, line, match["role"], match["arg"])
            if match["url"] is None or match["url"].startswith(("http://", "https://", "mailto:")):
                return match[0]
            return self._link(chapter, line, match["bang"], match["text"], match["url"])

        return re.sub(r"\n{3,}", "\n\n", INLINE.sub(replace, text)).strip("\n")

    def _role(self, chapter: Chapter, line: int, role: str, arg: str) -> str:
        titled = re.fullmatch(r"(?P<text>.*?)\s*<(?P<target>[^<>]+)>", arg, re.DOTALL)
        words, target = (titled["text"], titled["target"]) if titled else ("", arg.strip())
        if role in ("cite:p", "cite:t"):
            return self._cite(chapter, line, role, [key.strip() for key in arg.split(",")])
        if role == "term":
            return words or target
        if role == "doc":
            doc = target.removeprefix(f"/{BOOK}/") if target.startswith("/") else self._relative(chapter, target)
            if doc not in self.book:
                raise chapter.error(line, f"{{doc}}: no chapter {target!r}")
            return f"[{words or self.book[doc].title}]({self.page(doc)})"
        if role in ("ref", "eq", "numref"):
            if target not in self.targets:
                raise chapter.error(line, f"{{{role}}}: no label {target!r}")
            found = self.targets[target]
            words = words or found.words
            return words if found.doc == chapter.doc else f"[{words}]({self.page(found.doc)})"
        raise chapter.error(line, f"unknown role {{{role}}}; allowed: cite:p cite:t doc eq numref ref term")

    def _cite(self, chapter: Chapter, line: int, role: str, keys: list[str]) -> str:
        cited = []
        for key in keys:
            if key not in self.works.entries:
                raise chapter.error(line, f"{{{role}}}: no entry {key!r} in {BOOK}/references.bib")
            entry = self.works.entries[key]
            who, year = authors_and_year(entry)
            url = f"https://doi.org/{entry.fields['doi']}" if "doi" in entry.fields else entry.fields.get("url")
            name = f"{who}, {year}" if role == "cite:p" else f"{who} ({year})"
            cited.append(f"[{name}]({url})" if url else name)
        return f"({'; '.join(cited)})" if role == "cite:p" else ", ".join(cited)

    def _relative(self, chapter: Chapter, target: str) -> str:
        return posixpath.normpath(posixpath.join(posixpath.dirname(chapter.doc), target))

    def _link(self, chapter: Chapter, line: int, bang: str, text: str, url: str) -> str:
        path, _, label = url.partition("#")
        if label and not bang and not path:
            if label not in self.targets:
                raise chapter.error(line, f"link to the label {label!r}, which nothing carries")
            found = self.targets[label]
            return (
                (text or found.words)
                if found.doc == chapter.doc
                else f"[{text or found.words}]({self.page(found.doc)})"
            )
        if bang:
            return f"![{text}]({self.image(chapter, line, path)})"
        doc = self._relative(chapter, path.removesuffix(".md"))
        if not path.endswith(".md") or doc not in self.book:
            raise chapter.error(line, f"link to {url!r}: expected an address or the .md file of a chapter")
        return f"[{text or self.book[doc].title}]({self.page(doc)})"

    def image(self, chapter: Chapter, line: int, path: str) -> str:
        """Address of an image of the repository, given relative to the chapter."""
        file = posixpath.join(BOOK, self._relative(chapter, path))
        if not (self.root / file).is_file():
            raise chapter.error(line, f"no image {path!r} (looked for {file})")
        return self.repository.raw(file)
