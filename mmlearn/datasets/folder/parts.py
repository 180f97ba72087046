"""Parts of films, as rows of a table with start and end: which of them can be read.

Chapter: preprocessing/batching.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

from mmlearn.datasets.folder.records import Record
from mmlearn.datasets.folder.scan import in_parallel

Span = tuple[float, float | None]  # start and end in seconds


class Film(NamedTuple):
    """A file with the parts of it to read."""

    path: Path
    sha256: str
    spans: tuple[Span, ...]

    def stat(self) -> os.stat_result:
        """Return the file's size and dates."""
        return self.path.stat()


def try_parts(
    read: Callable[[Record], Any], parts: Sequence[Record], workers: int | None, title: str
) -> dict[tuple[Path, float, float | None], Exception]:
    """Read parts, several files at a time, and return (path, start, end) of those that cannot be read, and why.

    Args:
        read: Reads a part, and keeps it.
        parts: The parts, with their files' hashes.
        workers: How many files at a time.
        title: What the progress bar says.
    """
    if not parts:
        return {}
    spans: dict[tuple[Path, str], dict[Span, None]] = {}
    for part in parts:
        spans.setdefault((part.path, part.sha256), {})[part.start, part.end] = None
    films = [Film(path, sha256, tuple(several)) for (path, sha256), several in sorted(spans.items())]
    results = in_parallel(partial(_try, read=read), cast(list[Path], films), workers, title, cast(Any, _died))
    return {(film.path, *span): error for film in films for span, error in results[cast(Path, film)].items()}


def _try(film: Any, read: Callable[[Record], Any]) -> dict[Span, Exception]:
    wrong: dict[Span, Exception] = {}
    for start, end in film.spans:
        try:
            read(Record("", film.path, sha256=film.sha256, start=start, end=end))
        except (ValueError, OSError, MemoryError) as error:
            wrong[start, end] = error
    return wrong


def _died(film: Film, why: str = "the process that read it died") -> dict[Span, Exception]:
    return dict.fromkeys(film.spans, RuntimeError(f"{film.path}: {why}"))
