"""Find a Chromium for the site's browser tests, or install one: a program on PATH, Playwright's own, Debian's package.

python -m tools.chromium      # prints its path; installs one where there is none
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find() -> str | None:
    """Path of a Chromium, or None."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def install() -> str:
    """Install a Chromium: Debian's package where this is root on Debian, else Playwright's download.

    Raises:
        RuntimeError: neither worked.
    """
    commands = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        commands.insert(
            0, ["sh", "-c", "apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium"]
        )
    for command in commands:
        print(f"chromium: none found; {command[-1]} …", file=sys.stderr, flush=True)
        subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
        if path := find():
            return path
    raise RuntimeError(
        "chromium: none found, and neither apt-get (needs root) nor `playwright install chromium` (needs network) "
        "could install one; install a Chromium or Chrome and run again"
    )


if __name__ == "__main__":
    try:
        print(f"chromium: {find() or install()}")
    except RuntimeError as error:
        sys.exit(str(error))
