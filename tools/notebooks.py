"""Derive the committed .ipynb beside each chapter, or check that they are fresh.

python -m tools.notebooks                 # all
python -m tools.notebooks start/setup     # some
python -m tools.notebooks --check         # write nothing; fail where a notebook is stale
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import nbformat

from tools.chapter import BOOK, ChapterError, read_book
from tools.derive import derive
from tools.inline import Inline
from tools.repository import ROOT


def doc_name(text: str) -> str:
    """Accept "start/setup" as well as "book/en/start/setup.md"."""
    return text.removeprefix(f"{BOOK}/").removesuffix(".md").removesuffix(".ipynb")


def notebooks(root: Path = ROOT, only: list[str] | None = None) -> dict[str, str]:
    """The text of each derived notebook by document name.

    Args:
        root: the root of the repository.
        only: document names; all chapters when None or empty.

    Raises:
        ChapterError: with file and line.
    """
    book = read_book(root)
    inline = Inline(book, root)
    docs = only or [doc for doc, chapter in book.items() if chapter.is_notebook]
    if unknown := [doc for doc in docs if doc not in book or not book[doc].is_notebook]:
        raise ChapterError(f"{BOOK}/{unknown[0]}.md: no such chapter (or it has no notebook's front matter)")
    return {doc: nbformat.writes(derive(book[doc], inline), indent=1) + "\n" for doc in docs}


def check(root: Path = ROOT) -> list[str]:
    """Names of what is stale: notebooks that differ from their chapter, are missing, or have no chapter."""
    fresh = {f"{BOOK}/{doc}.ipynb": text for doc, text in notebooks(root).items()}
    found = [
        p.relative_to(root).as_posix() for p in (root / BOOK).rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts
    ]
    stale = [name for name in sorted(found) if name not in fresh]
    for name, text in fresh.items():
        path = root / name
        if not path.exists() or path.read_text(encoding="utf8") != text:
            stale.append(name)
    return stale


def write(root: Path = ROOT, only: list[str] | None = None) -> int:
    """Write the notebooks; returns how many changed."""
    changed = 0
    for doc, text in notebooks(root, only).items():
        path = root / BOOK / f"{doc}.ipynb"
        if not path.exists() or path.read_text(encoding="utf8") != text:
            part = path.with_suffix(".part")
            part.write_text(text, encoding="utf8")
            os.replace(part, path)
            changed += 1
    return changed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*", help='e.g. "start/setup"; all by default')
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a notebook is stale")
    args = parser.parse_args()
    try:
        if not args.check:
            print(f"notebooks: {write(only=[doc_name(name) for name in args.chapters])} changed")
        elif stale := check():
            sys.exit(f"stale: {', '.join(stale)}; `make notebooks` writes them anew")
        else:
            print("notebooks: all fresh")
    except ChapterError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
