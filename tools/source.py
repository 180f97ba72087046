"""Find the source of a module, class or function of the package by its dotted name, without importing it."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from tools.repository import ROOT


@dataclass(frozen=True)
class Source:
    """A stretch of a file: path relative to the root, first and last line (from 1, inclusive), and the text."""

    path: str
    first: int
    last: int
    text: str


def find_source(name: str, root: Path = ROOT) -> Source:
    """Find the file and the lines that define `name`.

    Args:
        name: e.g. "mmlearn.clip", "mmlearn.clip.Clip", "mmlearn.clip.Clip.save".
        root: folder that holds the top package.

    Raises:
        LookupError: no such module or object.
    """
    parts = name.split(".")
    for depth in range(len(parts), 0, -1):
        base = root.joinpath(*parts[:depth])
        path = base.with_suffix(".py") if base.with_suffix(".py").is_file() else base / "__init__.py"
        if path.is_file():
            break
    else:
        raise LookupError(f"{name}: no module of that name below {root.name}/")
    lines = path.read_text(encoding="utf8").splitlines()
    first, last = 1, len(lines)
    node: ast.AST = ast.parse("\n".join(lines))
    for part in parts[depth:]:
        kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        found = [n for n in getattr(node, "body", []) if isinstance(n, kinds) and n.name == part]
        if not found and path.name == "__init__.py" and (module := _imported_from(node, part)):
            return find_source(".".join([module, *parts[parts.index(part, depth) :]]), root)
        if not found:
            raise LookupError(f"{name}: {path.relative_to(root)} defines no class or function {part!r} there")
        node = found[-1]
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        last = node.end_lineno or last
    return Source(str(path.relative_to(root)), first, last, "\n".join(lines[first - 1 : last]))


def _imported_from(package: ast.AST, name: str) -> str | None:
    """The module from which a package's `__init__` imports a name."""
    for node in ast.walk(package):
        if isinstance(node, ast.ImportFrom) and node.module and any(alias.name == name for alias in node.names):
            return node.module
    return None
