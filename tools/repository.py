"""Where the repository stands: read the one place in `_config.yml`, or change it and all that is derived from it."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Repository:
    """The published repository.

    Args:
        url: address without a slash at its end, e.g. "https://github.com/OWNER/NAME".
        branch: the branch that is published.
    """

    url: str
    branch: str

    def page(self, path: str) -> str:
        """Address of the page that shows a file of the repository."""
        return f"{self.url}/blob/{self.branch}/{path}"

    def raw(self, path: str) -> str:
        """Address of the bytes of a file of the repository."""
        return f"{self.url}/raw/{self.branch}/{path}"


def repository(root: Path = ROOT) -> Repository:
    """Read the repository's address from `_config.yml`."""
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf8"))
    return Repository(config["repository"]["url"].rstrip("/"), config["repository"]["branch"])


def change(url: str, root: Path = ROOT) -> list[str]:
    """Write a new address into `_config.yml` and every tracked text file that repeats the old one.

    Args:
        url: the new address, e.g. "https://github.com/OWNER/NAME".
        root: the root of the repository.

    Returns:
        The changed files, relative to root. The derived notebooks follow with `python -m tools.notebooks`.

    Raises:
        ValueError: the address is not https://HOST/OWNER/NAME.
    """
    url = url.rstrip("/").removesuffix(".git")
    if not re.fullmatch(r"https://[\w.-]+/[\w.-]+/[\w.-]+", url):
        raise ValueError(f"URL: expected https://HOST/OWNER/NAME, found {url!r}")
    old = repository(root).url
    old_name, new_name = old.split("/", 3)[3], url.split("/", 3)[3]  # OWNER/NAME, as badges spell it
    changed = []
    for name in ["_config.yml", "pyproject.toml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"]:
        path = root / name
        if not path.exists():
            continue
        text = path.read_text(encoding="utf8")
        new = text.replace(old, url).replace(f"/{old_name}", f"/{new_name}")
        if new != text:
            path.write_text(new, encoding="utf8")
            changed.append(name)
    return changed


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1]:
        sys.exit("usage: make repository URL=https://github.com/OWNER/NAME")
    try:
        print(f"repository: {repository().url} -> {sys.argv[1]} in {', '.join(change(sys.argv[1])) or 'no file'}")
    except ValueError as error:
        sys.exit(f"repository: {error}")
