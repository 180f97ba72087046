"""Run a notebook's cells on an emulated second device: python -m tests.book.on_second_device book/en/PART/NAME.ipynb

What fails is printed, and the exit status is 1. Trainings are cut short (one epoch, two steps) and data sets are small,
because numbers do not matter here; so assertions about numbers are not looked at.
"""

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

import matplotlib
import nbformat

from tests.second_device import second_device

CLIPS = 700  # of a data set, at most: start/dataset indexes as many


def one_epoch(fit: Callable[..., list[dict[str, float]]]) -> Callable[..., list[dict[str, float]]]:
    """Return `fit` with one epoch, which it reports as often as it was asked for."""

    @functools.wraps(fit)
    def train(*args: Any, epochs: int = 10, **kwargs: Any) -> list[dict[str, float]]:
        rows = fit(*args, epochs=1, **kwargs)
        return [rows[0] | {"epoch": epoch} for epoch in range(1, epochs + 1)]

    return train


def few_steps(train_gan: Callable[..., Any]) -> Callable[..., Any]:
    """Return `train_gan` with two steps."""

    @functools.wraps(train_gan)
    def train(*args: Any, **kwargs: Any) -> Any:
        return train_gan(*args, **kwargs | {"steps": 2, "every": 1})

    return train


def run(path: str) -> list[str]:
    """Run a notebook's own cells in order; return what failed, as "cell N: error"."""
    from IPython.core.interactiveshell import InteractiveShell

    import mmlearn.pretraining.gan
    import mmlearn.training.loop
    from mmlearn.datasets import HanziClips

    mmlearn.training.fit = mmlearn.training.loop.fit = one_epoch(mmlearn.training.loop.fit)
    mmlearn.pretraining.train_gan = mmlearn.pretraining.gan.train_gan = mmlearn.pretraining.gan.training.train_gan = (
        few_steps(mmlearn.pretraining.gan.training.train_gan)
    )
    most = CLIPS
    plain = HanziClips.__init__
    HanziClips.__init__ = lambda self, size=2000, **kwargs: plain(self, min(size, most), **kwargs)  # type: ignore[method-assign]
    shell = InteractiveShell.instance()
    failures = []
    for number, cell in enumerate(nbformat.read(path, 4).cells):
        role = cell.metadata.get("mmlearn", {}).get("role")
        if cell.cell_type != "code" or role != "source":
            continue
        result = shell.run_cell(cell.source, silent=False)
        error = result.error_before_exec or result.error_in_exec
        if error is not None and not isinstance(error, AssertionError):
            failures.append(f"cell {number}: {type(error).__name__}: {error}")
    return failures


def main() -> None:
    """Run the notebooks named on the command line."""
    os.environ["TQDM_DISABLE"] = "1"
    matplotlib.use("Agg")
    failed = 0
    for path in sys.argv[1:]:
        with second_device():
            failures = run(path)
        for failure in failures:
            print(f"{path}: {failure}", file=sys.stderr)
        failed += bool(failures)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
