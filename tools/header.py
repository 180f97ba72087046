"""The first cell of a derived notebook: where it is from, what it costs, and the way to the chapters around it."""

from __future__ import annotations

import re

from tools.chapter import BOOK, Chapter, reading_order
from tools.colab import run_on_colab
from tools.inline import Inline
from tools.repository import COLAB

WORDS_PER_MINUTE = 200


def minutes_to_read(text: str) -> int:
    """Reading time of a chapter's source in minutes, at least 1; a Chinese character counts as half a word."""
    text = re.sub(r"\A---.*?\n---\n", "", text, flags=re.DOTALL)
    words = len(re.findall(r"[A-Za-z0-9_]+(?:['’-][A-Za-z]+)*", text)) + len(re.findall(r"[\u4e00-\u9fff]", text)) / 2
    return max(1, round(words / WORDS_PER_MINUTE))


def header(chapter: Chapter, inline: Inline) -> str:
    """One line of links and measured costs; what cannot be known (no site, no Colab, not measured) is left out."""
    repository = inline.repository
    order = [doc for doc in reading_order(inline.root) if doc in inline.book and inline.book[doc].is_notebook]
    parts = []
    if here := repository.colab(f"{BOOK}/{chapter.doc}.ipynb"):
        parts.append(f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({here})")
    if repository.site:
        parts.append(f"[this page with all its outputs]({repository.site}/{BOOK}/{chapter.doc}.html)")
    cost = f"{minutes_to_read(chapter.path.read_text(encoding='utf8'))} min to read"
    if measured := run_on_colab(chapter.doc, inline.root):
        cost += f", about {max(1, round(measured['cpu_seconds'] / 60))} min of CPU time to run"
    parts.append(cost)
    if chapter.doc in order:
        at = order.index(chapter.doc)
        for words, docs in (("← {}", order[:at][-1:]), ("{} →", order[at + 1 :][:1])):
            for doc in docs:
                url = repository.colab(f"{BOOK}/{doc}.ipynb") or inline.page(doc)
                parts.append(words.format(f"[{inline.book[doc].title}]({url})"))
    return " · ".join(parts)
