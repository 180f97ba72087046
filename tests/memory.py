"""How much memory a program under test has used."""

import sys


def peak_memory() -> float:
    """Return the most memory this program has held so far, in gigabytes; 0 where the system does not say.

    Not `ru_maxrss`: that begins at the size of the process that started this one, and hides what is smaller.
    """
    if sys.platform != "linux":
        return 0.0
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024 / 1e9
