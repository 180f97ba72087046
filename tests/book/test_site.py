"""The built site in a real browser: nothing breaks, nothing is asked of another host, everything shows and plays."""

from __future__ import annotations

import functools
import http.server
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlparse

import pytest
import yaml
from bs4 import BeautifulSoup
from playwright.sync_api import Browser, Page, sync_playwright

from tools import chromium
from tools.chapter import BOOK, read_book
from tools.repository import ROOT

HTML = ROOT / "_build" / "html"
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf8"))
DOCS = [TOC["root"], *[c["file"] for part in TOC["parts"] for c in part["chapters"]]]
NOTEBOOKS = [doc for doc in DOCS if (ROOT / f"{doc}.md").exists() and read_book()[doc[len(BOOK) + 1 :]].is_notebook]

pytestmark = pytest.mark.skipif(not (HTML / "index.html").exists(), reason="no site: `make book` builds it")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The site served on this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(HTML)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    path = chromium.find()
    assert path, "no Chromium; `python -m tools.chromium` installs one"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--mute-audio"])
        yield browser
        browser.close()


@dataclass
class Visit:
    """An open page, and what it complained of and asked for elsewhere while it loaded."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)


def visit(browser: Browser, url: str, **context: Any) -> Visit:
    """Open a page, refuse it every other host, and wait until its maths is set."""
    page = browser.new_context(**context).new_page()
    found = Visit(page)

    def route(route: Any) -> None:
        if urlparse(route.request.url).hostname == "127.0.0.1":
            route.continue_()
        else:
            found.foreign.append(route.request.url)
            route.abort()

    page.route(re.compile(r"^(https?|wss?):"), route)
    page.on("console", lambda m: found.complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    page.on("response", lambda r: found.complaints.append(f"{r.status} {r.url}") if r.status >= 400 else None)
    page.goto(url, wait_until="load")
    if page.locator("script#MathJax-script, script[src*=mathjax]").count():
        page.wait_for_function("() => window.MathJax && MathJax.startup && MathJax.startup.promise")
        page.evaluate("() => MathJax.startup.promise")
    return found


@pytest.fixture(scope="module")
def wide(browser: Browser, address: str) -> Iterator[Any]:
    """Each page once, on a wide screen: `wide(doc)`."""
    visits: dict[str, Visit] = {}

    def get(doc: str) -> Visit:
        if doc not in visits:
            visits[doc] = visit(browser, f"{address}/{doc}.html")
        return visits[doc]

    yield get
    for found in visits.values():
        found.page.context.close()


@pytest.mark.parametrize("doc", DOCS)
def test_page_has_no_error_and_asks_no_other_host(wide: Any, doc: str) -> None:
    found = wide(doc)
    assert "\n".join(found.complaints) == ""
    assert "\n".join(found.foreign) == ""


@pytest.mark.parametrize("doc", DOCS)
def test_maths_is_rendered(wide: Any, doc: str) -> None:
    page = wide(doc).page
    raw = BeautifulSoup((HTML / f"{doc}.html").read_text(encoding="utf8"), "html.parser").select(".math")
    assert page.locator("mjx-container").count() >= len(raw)
    assert page.locator("mjx-merror, [data-mjx-error]").count() == 0


@pytest.mark.parametrize("doc", DOCS)
def test_videos_and_sounds_play(wide: Any, doc: str) -> None:
    for element in wide(doc).page.locator("video, audio").all():
        element.evaluate("e => { e.muted = true; e.loop = true; return e.play(); }")
        element.evaluate(
            """e => new Promise((done, fail) => {
                const begin = Date.now(), from = e.currentTime;
                const look = () => e.currentTime > from + 0.05 ? done()
                    : Date.now() - begin > 5000 ? fail(new Error('does not play')) : setTimeout(look, 20);
                look(); })"""
        )
        element.evaluate("e => e.pause()")


def test_the_book_has_something_to_see_and_something_to_hear(wide: Any) -> None:
    page = wide(f"{BOOK}/start/dataset").page
    assert page.locator("video").count() >= 1
    assert page.locator("audio").count() >= 1


@pytest.mark.parametrize("doc", DOCS)
def test_no_image_is_broken(wide: Any, doc: str) -> None:
    broken = wide(doc).page.evaluate(
        """async () => { const bad = [];
        for (const i of document.querySelectorAll('img')) {
            i.loading = 'eager';
            try { await i.decode(); } catch { bad.push(i.src.slice(0, 120)); } }
        return bad; }"""
    )
    assert broken == []


@pytest.mark.parametrize("doc", DOCS)
def test_pictures_have_alternative_text(doc: str) -> None:
    soup = BeautifulSoup((HTML / f"{doc}.html").read_text(encoding="utf8"), "html.parser")
    figures = soup.select("article figure img")
    assert [str(i)[:100] for i in figures if not i.get("alt")] == []


@pytest.mark.parametrize("doc", DOCS)
def test_nothing_scrolls_sideways_on_a_phone(browser: Browser, address: str, doc: str) -> None:
    found = visit(browser, f"{address}/{doc}.html", viewport={"width": 375, "height": 700}, is_mobile=True)
    wide = found.page.evaluate(
        """() => [...document.querySelectorAll('article *')].filter(e => e.getBoundingClientRect().right > 376
              && !e.closest('pre, table, mjx-container, .dropdown-menu, .sd-tab-set, .output'))
              .map(e => e.tagName + '.' + e.className).slice(0, 5)"""
    )
    width = found.page.evaluate("() => document.documentElement.scrollWidth")
    found.page.context.close()
    assert width <= 375, f"{width} px wide; what sticks out: {wide}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("doc", DOCS)
def test_light_and_dark_are_readable(wide: Any, doc: str, scheme: str) -> None:
    page = wide(doc).page
    page.emulate_media(color_scheme=scheme)  # the page follows the reader's system
    page.wait_for_function("scheme => document.documentElement.dataset.theme === scheme", arg=scheme, timeout=5000)
    ratio = page.evaluate(
        """() => { const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(v => { v /= 255;
                return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
                return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
            const a = light(getComputedStyle(document.querySelector('article p')).color);
            const b = light(getComputedStyle(document.body).backgroundColor);
            return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); }"""
    )
    assert ratio >= 4.5  # WCAG 2, level AA


@pytest.mark.parametrize("doc", NOTEBOOKS)
def test_colab_button_points_at_a_notebook_of_the_repository(wide: Any, doc: str) -> None:
    links = wide(doc).page.locator("a[href*='colab.research.google.com']")
    assert links.count() >= 1, "no Colab button"
    path = urlparse(links.first.get_attribute("href")).path
    match = re.fullmatch(r"/github/[^/]+/[^/]+/blob/[^/]+/(?P<path>.+\.ipynb)", path)
    assert match, path
    assert (ROOT / match["path"]).is_file()


@pytest.mark.parametrize("doc", NOTEBOOKS)
def test_search_finds_a_word_of_the_chapter(browser: Browser, address: str, doc: str) -> None:
    title = read_book()[doc[len(BOOK) + 1 :]].title
    word = max(re.findall(r"[A-Za-z]+", title), key=len)
    found = visit(browser, f"{address}/search.html?q={word}")
    result = found.page.locator(f"#search-results a[href*='{Path(doc).name}.html']")
    result.first.wait_for(timeout=10_000)
    assert result.count() >= 1
    assert "\n".join(found.complaints) == ""
    assert "\n".join(found.foreign) == ""
    found.page.context.close()


def test_no_link_of_the_site_is_dead() -> None:
    soups = {
        p: BeautifulSoup(p.read_text(encoding="utf8"), "html.parser")
        for p in HTML.rglob("*.html")
        if "_static" not in p.parts
    }
    anchors = {path: {tag["id"] for tag in soup.select("[id]")} for path, soup in soups.items()}
    dead = []
    for path, soup in soups.items():
        for link in soup.select("a[href]"):
            url, anchor = urldefrag(urljoin(path.as_uri(), link["href"]))
            if urlparse(url).scheme != "file":
                continue
            target = Path(unquote(urlparse(url).path))
            missing_anchor = anchor and target in anchors and unquote(anchor) not in anchors[target]
            if not target.is_file() or missing_anchor:
                dead.append(f"{path.relative_to(HTML)}: {link['href']}")
    assert dead == []


def test_chinese_characters_come_with_the_site(wide: Any) -> None:
    page = wide(f"{BOOK}/start/dataset").page
    loaded = page.evaluate("async () => (await document.fonts.load('16px \"Course Chinese\"', '义')).length")
    assert loaded == 1
    family = page.evaluate("() => getComputedStyle(document.querySelector('article p')).fontFamily")
    assert "Course Chinese" in family
