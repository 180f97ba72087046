"""The reader's own folder: copies of the notebooks to work in, which no later version of the course writes over.

python -m tools.lab           # work/
python -m tools.lab FOLDER

A copy that is as it was derived is brought up to date. One that was edited or run is left alone; if its chapter has
changed since, the new notebook is put beside it as NAME.new.ipynb (NAME.new-2.ipynb, if that, too, is yours by now).
"""

from __future__ import annotations

import sys
from pathlib import Path

from tools.chapter import ChapterError
from tools.notebooks import derived_from, is_as_derived, notebooks, read, write_whole
from tools.repository import ROOT

FOLDER = "work"


def place(path: Path, text: str) -> Path | None:
    """Put a notebook into the reader's folder, over nothing that is the reader's.

    Args:
        path: where it belongs, e.g. work/start/setup.ipynb.
        text: the notebook as derived now.

    Returns:
        The file that was written; None where the reader has this version already.
    """
    number = 0
    while True:
        name = path.stem + ("" if not number else ".new" if number == 1 else f".new-{number}")
        target = path.with_name(f"{name}.ipynb")
        now = read(target)
        if now is not None and derived_from(now) == derived_from(text):
            return None
        if now is None or is_as_derived(now):
            write_whole(target, text)
            return target
        number += 1


def update(folder: Path, root: Path = ROOT) -> list[str]:
    """Bring a reader's folder up to date.

    Args:
        folder: the reader's folder; made where it is missing.
        root: the root of the repository.

    Returns:
        What happened, one line each.
    """
    messages, copied = [], 0
    for doc, text in notebooks(root).items():
        path = folder / f"{doc}.ipynb"
        written = place(path, text)
        copied += written is not None
        if written is not None and written != path:
            messages.append(
                f"{path} is yours and stays as it is; its chapter has changed: {written.name} is the new one"
            )
    return [f"{copied} notebooks copied to {folder}", *messages]


if __name__ == "__main__":
    try:
        print(*(f"lab: {line}" for line in update(Path(sys.argv[1] if sys.argv[1:] else FOLDER))), sep="\n")
    except ChapterError as error:
        sys.exit(str(error))
