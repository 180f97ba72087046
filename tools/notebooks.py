"""Derive the committed .ipynb beside each chapter, or check that they are fresh.

python -m tools.notebooks                 # all
python -m tools.notebooks start/setup     # some
python -m tools.notebooks --check         # write nothing; fail where a notebook is stale
python -m tools.notebooks --overwrite     # also those that somebody edited or ran

A notebook carries the digest of what was derived. By it, one that a reader edited or ran is known: it is never written
over, and it is not stale as long as its chapter is the one it was derived from.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import nbformat

from tools.chapter import BOOK, ChapterError, read_book
from tools.derive import derive, digest
from tools.inline import Inline
from tools.repository import ROOT

HINT = "Move it elsewhere (`make lab` gives you a folder of your own) and run `make notebooks` again."


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


def derived_from(text: str) -> str | None:
    """The digest of what was derived, which stays in a notebook when it is edited or run; None where there is none."""
    try:
        return json.loads(text)["metadata"]["mmlearn"]["digest"]
    except (ValueError, KeyError, TypeError):
        return None


def is_as_derived(text: str) -> bool:
    """Whether nobody has edited, run or saved a notebook since it was derived."""
    try:
        return derived_from(text) == digest(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError):  # no notebook, or a damaged one
        return False


def check(root: Path = ROOT) -> list[str]:
    """Names of what is stale: notebooks of another state of their chapter, missing ones, and ones without a chapter."""
    fresh = {f"{BOOK}/{doc}.ipynb": text for doc, text in notebooks(root).items()}
    found = [
        p.relative_to(root).as_posix() for p in (root / BOOK).rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts
    ]
    stale = [name for name in sorted(found) if name not in fresh]
    for name, text in fresh.items():
        path = root / name
        if derived_from(read(path) or "") != derived_from(text):
            stale.append(name)
    return stale


def read(path: Path) -> str | None:
    """The text of a file, whatever its bytes; None where there is no file."""
    return path.read_text(encoding="utf8", errors="replace") if path.exists() else None


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf8")
    os.replace(part, path)


def write(root: Path = ROOT, only: list[str] | None = None, overwrite: bool = False) -> tuple[list[str], list[str]]:
    """Write the notebooks that are not up to date.

    Args:
        root: the root of the repository.
        only: document names; all chapters when None or empty.
        overwrite: write also over those that somebody edited or ran.

    Returns:
        What was written, and what would have been but was left alone, because somebody edited or ran it.
    """
    written, kept = [], []
    for doc, text in notebooks(root, only).items():
        path = root / BOOK / f"{doc}.ipynb"
        now = read(path)
        if now == text:
            continue
        if now is None or overwrite or is_as_derived(now):
            write_whole(path, text)
            written.append(doc)
        elif derived_from(now) != derived_from(text):
            kept.append(f"{BOOK}/{doc}.ipynb")
    return written, kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*", help='e.g. "start/setup"; all by default')
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a notebook is stale")
    parser.add_argument("--overwrite", action="store_true", help="write over what somebody edited or ran, too")
    args = parser.parse_args()
    try:
        if not args.check:
            written, kept = write(only=[doc_name(name) for name in args.chapters], overwrite=args.overwrite)
            print(f"notebooks: {len(written)} written")
            for name in kept:
                print(
                    f"notebooks: {name} was edited or run, and is left as it is; its chapter has changed since. {HINT}"
                )
        elif stale := check():
            sys.exit(f"stale: {', '.join(stale)}; `make notebooks` writes them again")
        else:
            print("notebooks: all fresh")
    except ChapterError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
