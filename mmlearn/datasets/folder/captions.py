"""Subtitles that lie beside a film: name.srt or name.vtt, also name.zh.srt, as words and as text.

Chapter: preprocessing/batching.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from mmlearn.clip import Word
from mmlearn.datasets.folder.records import Listing, Record
from mmlearn.datasets.folder.table import decode

_TIME = r"(?:(\d+):)?(\d\d?):(\d\d?(?:[.,]\d+)?)"
_SPAN = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}.*")
_MARKS = re.compile(r"<[^>]*>|\{\\[^}]*\}")  # <i>, <c.yellow>, {\an8}
_LANGUAGE = re.compile(r"\.[A-Za-z]{2,3}([-_][A-Za-z]{2,4})?")


def add_captions(listing: Listing) -> None:
    """Give each clip the words of the subtitles beside its file; those that cannot be read are noted."""
    folders: dict[Path, dict[str, list[Path]]] = {}
    read: dict[Path, list[Word]] = {}
    wrong: dict[Path, ValueError] = {}
    for entry in listing.entries:
        folder = entry.path.parent
        if folder not in folders:
            folders[folder] = _captions_in(folder)
        found = folders[folder].get(entry.path.stem, [])
        if len(found) != 1 or found[0] in wrong:  # of several languages none is the one
            continue
        if found[0] not in read:
            try:
                read[found[0]] = read_captions(found[0])
            except ValueError as error:
                wrong[found[0]] = error
                continue
            listing.ignored[found[0].suffix.lower()] -= 1
        entry.words = within(read[found[0]], entry)
    listing.ignored += type(listing.ignored)()  # drops what is 0
    if wrong:
        listing.notes.append(f"{len(wrong)} files of subtitles are not used; {next(iter(wrong.values()))}")


def read_captions(path: Path) -> list[Word]:
    """Read a file of subtitles (SubRip or WebVTT): each is a word, with its start and end in seconds.

    Raises:
        ValueError: If it is not UTF-8, or has no subtitle.
    """
    words: list[Word] = []
    for block in re.split(r"\n[ \t]*\n", decode(path, "it as UTF-8").replace("\r\n", "\n").replace("\r", "\n")):
        lines = block.split("\n")
        where = next((k for k, line in enumerate(lines) if _SPAN.fullmatch(line)), None)
        span = None if where is None else _SPAN.fullmatch(lines[where])
        if where is None or span is None:
            continue
        text = " ".join(_MARKS.sub("", " ".join(lines[where + 1 :])).split())
        parts = [3600 * int(h or 0) + 60 * int(m) + float(s.replace(",", "."))
                 for h, m, s in (span.groups()[:3], span.groups()[3:])]  # fmt: skip
        if text and parts[0] < parts[1]:
            words.append(Word(text, *parts))
    if not words:
        raise ValueError(f"{path}: found no subtitle; expected lines such as 00:00:01,500 --> 00:00:02,000")
    return sorted(words, key=lambda word: word.start)


def within(words: Sequence[Word], entry: Record) -> list[Word]:
    """Return the words in an entry's part of the film, on the part's clock."""
    end = float("inf") if entry.end is None else entry.end
    return [Word(word.text, max(word.start - entry.start, 0.0), min(word.end, end) - entry.start)
            for word in words if word.end > entry.start and word.start < end]  # fmt: skip


def _captions_in(folder: Path) -> dict[str, list[Path]]:
    """Return stem of a film → its subtitles in a folder: those of its own name or, without, of a language."""
    own: dict[str, list[Path]] = {}
    translated: dict[str, list[Path]] = {}
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return {}
    for name in names:
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in (".srt", ".vtt") and not name.startswith("."):
            own.setdefault(stem, []).append(folder / name)
            bare, language = os.path.splitext(stem)
            if bare and _LANGUAGE.fullmatch(language):
                translated.setdefault(bare, []).append(folder / name)
    return translated | own
