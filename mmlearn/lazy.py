"""Import a package's public names when they are first used (PEP 562), so that importing the package is quick."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def attach(package: str, module_of: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for a package whose names are imported when they are first used.

    Args:
        package: The package's `__name__`.
        module_of: Public name → module below the package that defines it; a module that is public itself → "".

    Source: PEP 562.
    """

    def getattr_(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if not module_of[name]:
            return importlib.import_module(f"{package}.{name}")
        return getattr(importlib.import_module(f"{package}.{module_of[name]}"), name)

    return getattr_, lambda: sorted(module_of)
