"""The text of `VideoFolder.report`: what there is, and what was left out.

Chapter: preprocessing/batching.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mmlearn.datasets.folder.records import Listing, Record
from mmlearn.datasets.folder.scan import in_parallel
from mmlearn.datasets.folder.splitting import count
from mmlearn.preprocessing.video.sampling import MediaInfo, probe


def report(
    root: str, entries: Sequence[Record], classes: Mapping[str, list[str]], listing: Listing, duplicates: dict[str, str]
) -> str:
    """Return a short text: how many clips, hours, sizes, rates; what has no sound or text; what was left out.

    Args:
        root: What was opened.
        entries: The clips.
        classes: Label → names of its classes.
        listing: What was left out, guessed and ignored.
        duplicates: Name → the first clip whose file has the same bytes.
    """
    series = sum(entry.path.is_dir() for entry in entries)
    probed = in_parallel(_probe, sorted({entry.path for entry in entries}), None, "Probing", _gone)
    found = [(entry, info) for entry in entries if (info := probed[entry.path]) is not None]
    infos = [info for _, info in found]
    video, audio = [i.video[0] for i in infos if i.video], [i.audio[0] for i in infos if i.audio]
    seconds, silent = sum(_seconds(*pair) for pair in found), len(infos) - len(audio)
    texts = sum(entry.caption is not None for entry in entries)
    lines = [f"{root}: {len(entries)} clips, {seconds / 3600:.2f} hours"]
    if video:
        sizes = counts(f"{v.width} × {v.height}" for v in video)
        rates = counts(f"{v.fps:.5g} fps{', variable' if v.variable else ''}" for v in video)
        lines += [f"pictures    {len(video)}: {sizes}", f"rates       {rates}"]
        odd = counts(kind for v in video for kind in getattr(v, "peculiar", ()))
        lines += [f"converted   {odd}"] if odd else []
    lines += [f"series      {series} folders of numbered pictures"] if series else []
    lines.append(f"sound       {len(audio)}, none in {silent}: {counts(f'{a.sample_rate} Hz' for a in audio)}")
    lines.append(f"text        {texts}, none for {len(entries) - texts}")
    for label in sorted({label for entry in entries for label in entry.labels} | set(classes)):
        missing = sum(label not in entry.labels for entry in entries)
        lines.append(f"labels      {label}: {_labels(entries, label, classes.get(label))}; missing in {missing}")
    others = counts(kind for kind, number in listing.ignored.items() for _ in range(number))
    lines += [f"other files {others}"] if others else []
    for name, path in list(listing.respelled.items())[:1]:
        lines.append(f"spelled     {len(listing.respelled)} paths in another way, e.g. {name} for {path}")
    lines += [f"note        {note}" for note in listing.notes]
    lines += [f"duplicate   {name} has the bytes of {first}" for name, first in duplicates.items()]
    lines += [f"left out    {name}: {reason}" for name, reason in listing.skipped.items()]
    return "\n".join(lines)


def counts(values: Iterable[str], most: int = 6) -> str:
    """Return how often each value comes, e.g. "25 fps (7), 30 fps (2)"."""
    found = Counter(values).most_common()
    rest = sum(number for _, number in found[most:])
    return ", ".join(f"{value} ({number})" for value, number in found[:most]) + (f", others ({rest})" if rest else "")


def _labels(entries: Sequence[Record], label: str, names: list[str] | None, most: int = 20) -> str:
    """Return how many clips each class has, those without any last; or from where to where numbers go."""
    if names is None:
        values = [entry.labels[label] for entry in entries if label in entry.labels]
        flat = [number for value in values for number in (value if isinstance(value, list) else [value])]
        return f"{min(flat)} to {max(flat)}" if flat else "none"
    found = count(entries, label)
    there = counts((names[k] for k, number in found.items() for _ in range(number)), most if len(names) <= most else 6)
    gone = [name for k, name in enumerate(names) if k not in found]
    rest = f" and {len(gone) - most} more (0)" if len(gone) > most else ""
    return ", ".join([*([there] if there else []), *(f"{name} (0)" for name in gone[:most])]) + rest


def _seconds(entry: Record, info: MediaInfo) -> float:
    """Return how long a clip lasts."""
    length = info.duration or 0.0
    end = entry.end if entry.end is not None and entry.end < (length or entry.end + 1) else length
    return max(end - entry.start, 0.0)


def _probe(path: Path) -> MediaInfo | None:
    try:
        return probe(path)
    except (ValueError, OSError):  # it has gone since the folder was opened
        return None


def _gone(path: Path, why: str = "") -> None:
    """Stand for what cannot be probed any more."""
