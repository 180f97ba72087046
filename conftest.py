"""Puts this folder on the path, so that tests can import `tools`, and settles how properties are tried.

`make test` tries the same examples every time: a stranger's first run is not red by chance. `make properties`, weekly
in the workflow, draws new ones, and many more; what it finds becomes an `@example`.
"""

import os

import pytest
from hypothesis import settings

PROFILE = os.environ.get("MMLEARN_PROPERTIES", "fixed")
MORE = 20  # times as many examples where they are random
settings.register_profile("fixed", derandomize=True, database=None, deadline=None)
settings.register_profile("random", derandomize=False, deadline=None, print_blob=True)
settings.load_profile(PROFILE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where examples are random, try more of them."""
    for item in items if PROFILE == "random" else ():
        function = getattr(item, "obj", None)
        own = getattr(function, "_hypothesis_internal_use_settings", None)
        if own is not None:
            function._hypothesis_internal_use_settings = settings(own, max_examples=MORE * own.max_examples)
