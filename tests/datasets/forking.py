"""Real processes for the tests that kill one."""

import os
import threading
import traceback
from collections.abc import Callable

from tqdm.auto import tqdm


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
