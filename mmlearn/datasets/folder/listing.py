"""Which clips there are, and what is known about them: from a tree of folders, or from a table.

Chapter: preprocessing/batching.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from mmlearn.datasets.folder.captions import add_captions
from mmlearn.datasets.folder.columns import Kind
from mmlearn.datasets.folder.layout import Layout, places
from mmlearn.datasets.folder.pictures import are_numbered
from mmlearn.datasets.folder.records import Listing, Record, printable
from mmlearn.datasets.folder.suffixes import SUFFIXES, TYPESCRIPT, is_text
from mmlearn.datasets.folder.table import list_table

__all__ = ["Listing", "Record", "list_clips", "printable"]

TABLE = "clips.csv"  # where it lies beside the films


def list_clips(
    root: Path,
    layout: Layout | None = None,
    labels: Mapping[str, Kind] | None = None,
    suffixes: Iterable[str] = SUFFIXES,
    pictures: bool = False,
) -> Listing:
    """List the clips of a folder or of a table; `VideoFolder` describes what either means.

    Args:
        root: The folder, or the table.
        layout: What the folders mean: see `VideoFolder`.
        labels: Columns of a table whose kind is declared.
        suffixes: What names of video and sound files end with.
        pictures: Whether folders of numbered pictures are clips.

    Raises:
        FileNotFoundError: If there is no such folder or table.
        ValueError: If it holds no clip, or the table or the folders cannot be understood.

    Chapter: preprocessing/batching.
    """
    if layout not in (None, "table", "classes", "splits"):
        raise ValueError(f"layout is {layout!r}; expected None, 'table', 'classes' or 'splits'")
    if not root.exists():
        raise FileNotFoundError(2, "no such folder or table", str(root))
    table = _table_of(root) if root.is_dir() else root
    if table is not None and layout in (None, "table"):
        if table.suffix.lower() != ".csv":
            raise ValueError(f"{root}: a file; expected a folder, or a table whose name ends with .csv")
        listing = list_table(table, labels or {})
        if root.is_dir():
            _count_unlisted(root, table, listing, set(suffixes), pictures)
    elif not root.is_dir() or layout == "table":
        raise ValueError(f"{root}: layout is {layout!r}; expected " +
                         (f"a folder with a table {TABLE}" if root.is_dir() else "a folder, not a table"))  # fmt: skip
    elif labels:
        raise ValueError(f"{root}: labels declares columns of a table: {list(labels)}; there is no {TABLE} here")
    else:
        listing = _list_folder(root, layout, set(suffixes), pictures)
    add_captions(listing)
    if not listing.entries:
        others = ", ".join(f"{n} {kind}" for kind, n in listing.ignored.most_common(5)) or "nothing"
        skipped = "".join(f"; {name}: {reason}" for name, reason in list(listing.skipped.items())[:1])
        hint = "".join(f"; {note}" for note in listing.notes)
        raise ValueError(f"{root}: found no video or sound file, but {others}{skipped}{hint}")
    return listing


def _table_of(root: Path) -> Path | None:
    """Return the table directly in a folder, whatever the case of its name."""
    try:
        return next((root / name for name in sorted(os.listdir(root)) if name.lower() == TABLE), None)
    except OSError:
        return None


def _count_unlisted(root: Path, table: Path, listing: Listing, suffixes: set[str], pictures: bool) -> None:
    """Note which files beside a table do not stand in it."""
    around = Listing()
    listed = {os.path.realpath(entry.path) for entry in listing.entries}
    left = [path for path in _walk(root, around, suffixes, pictures) if os.path.realpath(path) not in listed]
    listing.ignored = around.ignored
    listing.ignored[".csv"] -= 1
    listing.ignored += type(listing.ignored)()  # drops what is 0
    if left:
        listing.notes.append(f"{len(left)} files beside {table.name} do not stand in it and are left out, e.g. "
                             f"{_name(left[0], root)}; layout='classes' reads the folders instead")  # fmt: skip


def _list_folder(root: Path, layout: Layout | None, suffixes: set[str], pictures: bool) -> Listing:
    """List `[split/]CLASS/**/file`; files directly in the root have no class."""
    listing = Listing()
    files = sorted(_walk(root, listing, suffixes, pictures), key=lambda path: path.parts)
    parts = [path.relative_to(root).parts for path in files]
    found, note = places(parts, layout, root)
    listing.notes += [note] if note else []
    names = sorted({name for _, name in found if name is not None})
    if names:
        listing.classes["label"] = [printable(name) for name in names]
    number = {name: k for k, name in enumerate(names)}
    for path, p, (split, name) in zip(files, parts, found, strict=True):
        labels = {} if name is None else {"label": number[name]}
        listing.entries.append(Record(name=printable("/".join(p)), path=path, labels=labels, split=split))
    for path in sorted(root.glob("*.csv")):
        if _has_paths(path) and layout is None:
            listing.notes.append(f"{path.name} has a column path but is not read; open it itself, "
                                 f"VideoFolder({str(path)!r}), or name it {TABLE}")  # fmt: skip
    return listing


def _has_paths(path: Path) -> bool:
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            header = file.readline(10_000)
    except OSError:
        return False
    return "path" in [cell.strip(' \r\n"').lower() for cell in header.replace(";", ",").replace("\t", ",").split(",")]


def _walk(root: Path, listing: Listing, suffixes: set[str], pictures: bool) -> list[Path]:
    """Return all media files under a folder; links are followed, and each real folder is entered once."""
    files: list[Path] = []
    entered, folders, series = {os.path.realpath(root)}, [root], 0
    while folders:
        folder = folders.pop()
        try:
            found = sorted(os.scandir(folder), key=lambda entry: (entry.is_symlink(), entry.name))
        except OSError as error:
            listing.skipped[_name(folder, root)] = f"cannot list this folder ({error.strerror})"
            continue
        plain = [entry.name for entry in found if not os.path.isdir(entry.path)]
        if folder != root and are_numbered(plain) and not any(Path(n).suffix.lower() in suffixes for n in plain):
            series += 1
            if pictures:
                files.append(folder)
                continue
        for entry in found:
            path = Path(entry.path)
            suffix = path.suffix.lower()
            media = suffix in suffixes
            if entry.name.startswith("."):
                listing.ignored["hidden"] += 1
            elif os.path.isdir(path):
                real = os.path.realpath(path)
                if media:
                    listing.skipped[_name(path, root)] = "a folder; expected a file"
                elif real in entered:
                    listing.skipped[_name(path, root)] = f"a link back to {real}, whose files are listed already"
                else:
                    entered.add(real)
                    folders.append(path)
            elif media and suffix in TYPESCRIPT and os.path.isfile(path) and is_text(path):
                listing.ignored[f"{suffix} (text)"] += 1
            elif media:
                files.append(path)
            else:
                listing.ignored[suffix or "without suffix"] += 1
    if series and not pictures:
        listing.notes.append(f"{series} folders of numbered pictures are not read; frame_rate=25, or whatever their "
                             "rate is, makes each a clip")  # fmt: skip
    return files


def _name(path: Path, root: Path) -> str:
    return printable(path.relative_to(root).as_posix())
