"""Real processes for the tests that kill one."""

import os
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from tqdm.auto import tqdm

from mmlearn import workers
from tests.places import ROOT


def forked(work: Callable[[], object]) -> int:
    """Do some work in a process of its own, and return the process's number.

    Its exit status is 0 if all went well, 3 after a FileExistsError, else 1. It gets a lock of its own for progress
    bars: tqdm's is shared with the process that forked it, and who is killed while holding it stops the other, too.
    """
    pid = os.fork()
    if pid == 0:
        try:
            tqdm.set_lock(threading.RLock())
            work()
        except FileExistsError:
            os._exit(3)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid


def changed_workers(folder: Path, patch: pytest.MonkeyPatch, code: str) -> None:
    """Let worker processes that start from now on run some code first: it may replace functions there."""
    workers.stop()
    (folder / "sitecustomize.py").write_text(code, encoding="utf-8")
    patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT)]))
    patch.setattr(workers, "_idle", [])
