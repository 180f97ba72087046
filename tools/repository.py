"""Where the repository stands: read the one place in `_config.yml`, or change it and all that is derived from it."""

from __future__ import annotations

import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
COLAB = "https://colab.research.google.com"


@dataclass(frozen=True)
class Repository:
    """The published repository.

    Args:
        url: address without a slash at its end, e.g. "https://github.com/OWNER/NAME".
        branch: the branch that is published.
        site: address of the built pages without a slash at its end, or None where there is none to be derived.
    """

    url: str
    branch: str
    site: str | None = None

    def page(self, path: str) -> str:
        """Address of the page that shows a file of the repository."""
        return f"{self.url}/blob/{self.branch}/{path}"

    def raw(self, path: str) -> str:
        """Address of the bytes of a file of the repository."""
        return f"{self.url}/raw/{self.branch}/{path}"

    def colab(self, path: str) -> str | None:
        """Address that opens a notebook of the repository on Colab; None where it is not on GitHub."""
        host, name = self.url.removeprefix("https://").split("/", 1)
        return f"{COLAB}/github/{name}/blob/{self.branch}/{path}" if host == "github.com" else None


def repository(root: Path = ROOT) -> Repository:
    """Read the repository's address from `_config.yml`, and the site's (`html: baseurl:`; by default GitHub Pages)."""
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf8"))
    url = config["repository"]["url"].rstrip("/")
    site = config.get("html", {}).get("baseurl", "").rstrip("/") or pages(url)
    return Repository(url, config["repository"]["branch"], site)


def pages(url: str) -> str | None:
    """Where GitHub Pages publishes a repository, which is where the workflow puts the site; None for other hosts."""
    found = re.fullmatch(r"https://github\.com/([\w.-]+)/([\w.-]+)", url)
    if found is None:
        return None
    owner, name = found[1].lower(), found[2]
    return f"https://{owner}.github.io" + ("" if name.lower() == f"{owner}.github.io" else f"/{name}")


def release(root: Path = ROOT) -> str:
    """The tag under which pyproject.toml's version is, or will be, published: "v0.1.0"."""
    return "v" + tomllib.loads((root / "pyproject.toml").read_text(encoding="utf8"))["project"]["version"]


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
