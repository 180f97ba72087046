"""Chinese characters on every page: a web font with just the characters that the book uses, served from the site itself.

The font is Noto Sans CJK SC (SIL Open Font License), which the package mplfonts carries; course.css names it.
"""

from __future__ import annotations

from pathlib import Path

import mplfonts
from fontTools import subset
from sphinx.application import Sphinx

FONT = Path(mplfonts.__file__).parent / "fonts" / "NotoSansCJKsc-Regular.otf"
FIRST = "\u2e80"  # where Unicode's East Asian characters begin


def write_font(app: Sphinx, error: Exception | None) -> None:
    """Write _static/chinese.woff with all East Asian characters of the built pages."""
    if error or app.builder.format != "html":
        return
    folder = Path(app.outdir)
    texts = (path.read_text(encoding="utf8") for path in folder.rglob("*.html"))
    used = {character for text in texts for character in text if character >= FIRST}
    options = subset.Options(flavor="woff", layout_features=[], notdef_outline=True)
    font = subset.load_font(str(FONT), options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(text="□" + "".join(sorted(used)))
    subsetter.subset(font)
    subset.save_font(font, str(folder / "_static" / "chinese.woff"), options)


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the font when the pages are built."""
    app.connect("build-finished", write_font)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
