"""A scratch copy of the book's machinery with chapters of the test's own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.repository import ROOT

FRONT = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
mmlearn: {mmlearn}
---
"""


@pytest.fixture
def scratch(tmp_path: Path) -> Callable[..., Path]:
    """`scratch({"start/one": "body"})` makes a book of these chapters and returns its root."""

    def make(chapters: dict[str, str], mmlearn: str = "{}") -> Path:
        for name in ["tools", "book/_ext", "book/_static"]:
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "_config.yml", tmp_path)
        shutil.copy(ROOT / "pyproject.toml", tmp_path)
        (tmp_path / "mmlearn").mkdir()
        (tmp_path / "mmlearn" / "__init__.py").write_text('"""Top."""\n')
        (tmp_path / "mmlearn" / "tiny.py").write_text(
            '"""Tiny."""\n\n\nclass Adder:\n    """Adds."""\n\n    def add(self, a, b):\n        return a + b\n'
        )
        (tmp_path / "book" / "en").mkdir(parents=True)
        (tmp_path / "book" / "en" / "references.bib").write_text(
            "@article{li2020one, author={Li, Ann and Wang, Bo}, title={One}, journal={J}, year={2020}, doi={10.1/x}}\n"
            "@article{a2021many, author={A, B and C, D and E, F}, title={Two}, journal={J}, year={2021}}\n"
        )
        for doc, body in chapters.items():
            path = tmp_path / "book" / "en" / f"{doc}.md"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(FRONT.replace("{mmlearn}", mmlearn) + body, encoding="utf8")
        first, *rest = [f"book/en/{doc}" for doc in chapters]
        lines = ["format: jb-book", f"root: {first}", "chapters:" if rest else ""]
        (tmp_path / "_toc.yml").write_text("\n".join([*lines, *[f"  - file: {doc}" for doc in rest]]) + "\n")
        return tmp_path

    return make
