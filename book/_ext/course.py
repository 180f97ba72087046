"""The book's own Sphinx extension: what a page says about itself, package source by inclusion, MathJax without a network.

Directives: `at-a-glance` (reading time, measured cost, prerequisites, module), `package NAME` (source of an object of the
package, with a link to it in the repository), `build-info` (where and with which versions the pages were executed).
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from tools.colab import RECORD, run_on_colab
from tools.header import minutes_to_read
from tools.repository import repository
from tools.source import find_source

BOOK = "book/en"


def execution(doc: str, root: Path = ROOT) -> dict[str, Any]:
    """What tools/execute.py measured for a chapter ("start/setup"); empty where it has not run."""
    path = root / "_build" / "execution" / f"{doc}.json"
    return json.loads(path.read_text(encoding="utf8")) if path.exists() else {}


class MarkdownDirective(SphinxDirective):
    """A directive that writes Markdown and lets the parser do the rest."""

    def markdown(self, lines: list[str]) -> list[nodes.Node]:
        """Parse lines as part of the page."""
        box = nodes.container()
        self.state.nested_parse(StringList(lines, self.get_source_info()[0]), self.content_offset, box)
        return box.children

    def depends_on(self, path: Path) -> None:
        """Build this page again when the file changes."""
        self.env.note_dependency(str(path))


class AtAGlance(MarkdownDirective):
    """`{at-a-glance}`: the numbers come from the last build, never from the author."""

    def run(self) -> list[nodes.Node]:
        """Make the box."""
        source = Path(self.env.doc2path(self.env.docname))
        doc = self.env.docname.removeprefix(f"{BOOK}/")
        text = source.read_text(encoding="utf8")
        front = yaml.safe_load(text.split("---\n")[1]) if text.startswith("---\n") else {}
        own = front.get("mmlearn", {})
        self.depends_on(ROOT / "_build" / "execution" / f"{doc}.json")
        measured = execution(doc)
        cpu = "not measured yet"
        if measured:
            cpu = (
                f"{measured['wall_seconds']:.0f} s on {measured['cores']} CPU cores "
                f"({measured['cpu_seconds']:.0f} CPU seconds), {measured['peak_mib'] / 1024:.1f} GiB of memory"
            )
        gpu = measured.get("gpu_seconds") or self.gpu_seconds(doc)
        before = ", ".join(f"{{doc}}`/{BOOK}/{name}`" for name in own.get("prerequisites", []))
        rows = [
            f"Reading: {minutes_to_read(text)} min",
            f"Running: {cpu}",
            f"Colab: {self.colab(doc)}",
            f"GPU: {gpu}",
            f"Before this: {before or 'nothing'}",
        ]
        if module := own.get("module"):
            try:
                path = find_source(module, ROOT).path
            except LookupError as error:
                raise self.error(f"front matter, module: {error}") from None
            rows.append(f"Module: [`{module}`]({repository(ROOT).page(path)})")
        return self.markdown(
            ["::::{admonition} At a glance", ":class: at-a-glance", "", *[f"- {r}" for r in rows], "::::"]
        )

    def colab(self, doc: str) -> str:
        """When the notebook last ran with Colab's packages, from tools/lanes.json; no claim where it failed or did not run."""
        self.depends_on(ROOT / RECORD)
        run = run_on_colab(doc, ROOT)
        if run is None:
            return "not tested yet"
        return f"runs there: tested on {run['date']} with the packages that Colab had on {run['colab']}"

    def gpu_seconds(self, doc: str) -> str:
        """Seconds on a GPU from benchmarks/results/chapters_gpu.json ({"start/setup": {"seconds": 3, "device": "…"}})."""
        path = ROOT / "benchmarks" / "results" / "chapters_gpu.json"
        self.depends_on(path)
        found = json.loads(path.read_text(encoding="utf8")).get(doc) if path.exists() else None
        return f"{found['seconds']:.0f} s on {found['device']}" if found else "not measured"


class Package(MarkdownDirective):
    """`{package} mmlearn.clip.Clip`: the object's source as it is now, with a link to it in the repository."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Show the source."""
        try:
            found = find_source(self.arguments[0], ROOT)
        except LookupError as error:
            raise self.error(str(error)) from None
        self.depends_on(ROOT / found.path)
        link = f"{repository(ROOT).page(found.path)}#L{found.first}-L{found.last}"
        code = nodes.literal_block(found.text, found.text, language="python")
        caption = self.markdown([f"[`{self.arguments[0]}`]({link})"])
        wrapper = nodes.container("", *caption, code, classes=["package-source"])
        return [wrapper]


class BuildInfo(MarkdownDirective):
    """`{build-info}`: the machine and the versions that executed the pages, and what each page cost."""

    def run(self) -> list[nodes.Node]:
        """Make the tables."""
        folder = ROOT / "_build" / "execution"
        files = sorted(folder.rglob("*.json"))
        for path in files:
            self.depends_on(path)
        runs = {p.relative_to(folder).with_suffix("").as_posix(): json.loads(p.read_text("utf8")) for p in files}
        if not runs:
            return self.markdown(["No page has been executed yet: `make book` does it."])
        lines = ["| page | executed | wall (s) | CPU (s) | peak memory (MiB) | device |", "|---|---|--:|--:|--:|---|"]
        for doc, run in runs.items():
            lines.append(
                f"| {doc} | {run['date']} | {run['wall_seconds']:.1f} | {run['cpu_seconds']:.1f} "
                f"| {run['peak_mib']:.0f} | {run['device']} |"
            )
        newest = max(runs.values(), key=lambda run: run["date"])
        lines += ["", "| what | version |", "|---|---|"]
        lines += [f"| {name} | {version} |" for name, version in newest["versions"].items()]
        return self.markdown(lines)


def copy_mathjax(app: Sphinx, error: Exception | None) -> None:
    """Copy MathJax (one script and its fonts) out of the sphinx-mathjax-offline wheel, so that no page asks another host."""
    spec = importlib.util.find_spec("sphinx-mathjax-offline")
    if error or app.builder.format != "html":
        return
    if spec is None or spec.origin is None:
        raise RuntimeError("MathJax is missing: pip install sphinx-mathjax-offline (it stands in requirements.txt)")
    source = Path(spec.origin).parent / "static" / "mathjax"
    target = Path(app.outdir) / "_static" / "mathjax"
    for name in ["tex-chtml.js", "output/chtml/fonts/woff-v2", "input/tex/extensions"]:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, dirs_exist_ok=True)
        else:
            shutil.copy2(source / name, target / name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("at-a-glance", AtAGlance)
    app.add_directive("package", Package)
    app.add_directive("build-info", BuildInfo)
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
