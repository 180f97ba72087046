"""One concept, one name: chapters, package and tests are three trees of the same shape (CONTRIBUTING.md)."""

import ast
import importlib
import re
from pathlib import Path

import pytest

from tests.places import ROOT

MODULES = sorted(
    path.relative_to(ROOT / "mmlearn") for path in (ROOT / "mmlearn").rglob("*.py") if path.name != "__init__.py"
)
TESTS = sorted(path.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py"))
CHAPTERS = sorted(path.relative_to(ROOT / "book/en").with_suffix("") for path in (ROOT / "book/en").rglob("*.md"))
PACKAGES = sorted(path.parent.relative_to(ROOT) for path in (ROOT / "mmlearn").rglob("__init__.py"))
ACROSS = {  # tests that cut across modules
    "test_from_files.py": "every data set with every objective",
    "test_half_precision.py": "every module in half precision",
    "test_imports.py": "what importing does outside of the process",
    "test_second_device.py": "the emulated device",
    "fusion/test_laws.py": "the laws that all fusions keep",
    "preprocessing/test_bad_input.py": "bad input to all of preprocessing",
    "preprocessing/test_exif_frames.py": "orientation in films and pictures",
    "preprocessing/test_fuzz.py": "damaged files, by every reader",
    "preprocessing/test_kinds_of_input.py": "all kinds of arrays and tensors, to every function",
}
NO_MODULE = ("start", "worked_example", "appendix", "index", "fusion/choosing")  # chapters that use the whole package


def named(paths: list[Path]) -> dict[str, Path]:
    return {path.as_posix(): path for path in paths}


@pytest.mark.parametrize("module", named(MODULES))
def test_each_module_has_its_tests(module: str) -> None:
    folder, name = (ROOT / "tests" / module).parent, Path(module).name
    test = folder / f"test_{name}"
    assert test.is_file(), f"mmlearn/{module} has no {test.relative_to(ROOT)}"
    tree = ast.parse(test.read_text(encoding="utf-8"))
    assert any(isinstance(node, ast.FunctionDef) and node.name.startswith("test_") for node in tree.body)


@pytest.mark.parametrize("test", named([path for path in TESTS if path.parts[0] not in ("book", "benchmarks")]))
def test_each_test_file_has_its_module(test: str) -> None:
    module = ROOT / "mmlearn" / Path(test).parent / Path(test).name.removeprefix("test_")
    assert module.is_file() != (test in ACROSS), (
        f"tests/{test}: expected {module.relative_to(ROOT)}, or a line in ACROSS"
    )


@pytest.mark.parametrize("chapter", [name for name in named(CHAPTERS) if not name.startswith(NO_MODULE)])
def test_each_chapter_has_its_module_or_folder(chapter: str) -> None:
    place = ROOT / "mmlearn" / chapter
    assert place.with_suffix(".py").is_file() or (place / "__init__.py").is_file(), f"no mmlearn/{chapter}"
    header = re.search(r"^  module: ([\w.]+)", (ROOT / f"book/en/{chapter}.md").read_text(encoding="utf-8"), re.M)
    assert header and header[1] == "mmlearn." + chapter.replace("/", ".")


@pytest.mark.parametrize("package", [path.as_posix() for path in PACKAGES])
def test_public_names_are_listed_and_exist(package: str) -> None:
    module = importlib.import_module(package.replace("/", "."))
    names = getattr(module, "__all__", [])
    below = [path for path in PACKAGES if path.parent.as_posix() == package]
    assert names or below, f"{package}/__init__.py has no __all__ and only holds modules"
    assert len(set(names)) == len(names) and all(hasattr(module, name) for name in names)


def test_chapters_and_benchmarks_import_what_is_public() -> None:
    """From a folder, only what its `__all__` lists; or from the exact module, nothing that begins with _."""
    wrong = []
    for path in [*(ROOT / "book/en").rglob("*.md"), *(ROOT / "benchmarks").glob("*.py")]:
        found = re.findall(r"^ *from (mmlearn[\w.]*) import (\([^)]*\)|.*)$", path.read_text(encoding="utf-8"), re.M)
        for module, names in found:
            listed = getattr(importlib.import_module(module), "__all__", None)
            for name in re.findall(r"(\w+)(?: as \w+)?,?", re.sub(r"#.*| as \w+", "", names)):
                is_module = (ROOT / module.replace(".", "/") / f"{name}.py").is_file()
                if name.startswith("_") or (listed is not None and name not in listed and not is_module):
                    wrong.append(f"{path.relative_to(ROOT)}: {name} from {module}")
    assert not wrong, wrong


def test_a_break_of_the_mirror_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mmlearn").mkdir()
    (tmp_path / "tests").mkdir()
    monkeypatch.setattr("tests.book.test_mirror.ROOT", tmp_path)
    with pytest.raises(AssertionError, match=r"mmlearn/new\.py has no tests/test_new\.py"):
        test_each_module_has_its_tests("new.py")
    with pytest.raises(AssertionError, match=r"expected mmlearn/old\.py"):
        test_each_test_file_has_its_module("test_old.py")
