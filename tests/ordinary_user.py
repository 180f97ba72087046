"""Start a command as an ordinary user, where the tests run as root."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

NOBODY = 65534


def as_ordinary_user(*folders: Path) -> list[str]:
    """Give folders and what is in them to nobody, and return what starts a command as nobody; nothing if not root."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return []
    command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    if not shutil.which("setpriv"):
        pytest.skip("we are root, and there is no setpriv to become an ordinary user")
    if subprocess.run([*command, sys.executable, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip("an ordinary user cannot start this Python: it lies in a closed folder")
    for top in folders:
        for path in [top, *top.rglob("*")]:
            os.chown(path, NOBODY, NOBODY)
    return command
