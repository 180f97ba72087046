"""One clip as a folder or a table describes it, and all of them.

Chapter: preprocessing/batching.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmlearn.clip import Word


@dataclass
class Record:
    """One clip: where it lies, and what is known about it. `sha256` of its file's bytes is found out later.

    Labels are class indices, numbers, or lists of them. `start` and `end` (seconds) choose a part of the file; clips of
    one `group`, such as a speaker, are in one split. `words` are subtitles from a file beside it.

    Chapter: preprocessing/batching.
    """

    name: str
    path: Path
    text: str | None = None
    labels: dict[str, Any] = field(default_factory=dict)
    split: str | None = None
    sha256: str = ""
    group: str | None = None
    start: float = 0.0
    end: float | None = None
    words: list[Word] = field(default_factory=list)

    @property
    def caption(self) -> str | None:
        """Its text or, without, its subtitles in one line."""
        return self.text or " ".join(word.text for word in self.words) or None

    @property
    def is_part(self) -> bool:
        """Whether it is a part of its file."""
        return self.start > 0 or self.end is not None


@dataclass
class Listing:
    """All clips in a fixed order; the names of classes; what was left out and why; how many other files there are.

    `notes` are what was guessed, `respelled` the paths that mean another spelling.

    Chapter: preprocessing/batching.
    """

    entries: list[Record] = field(default_factory=list)
    classes: dict[str, list[str]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    respelled: dict[str, str] = field(default_factory=dict)


def printable(name: str) -> str:
    """Return a name in which bytes that are not UTF-8 are written as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()
