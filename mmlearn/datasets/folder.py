"""VideoFolder: your own files as clips, from a folder per class or from a table.

Chapter: preprocessing/batching.
"""

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from mmlearn.clip import Clip
from mmlearn.datasets.examining import Choice, examine, in_parallel
from mmlearn.datasets.keeping import Ledger, hash_of, keep, kept, key_of
from mmlearn.datasets.listing import Entry, list_clips
from mmlearn.datasets.reading import Reading, dressed, read_clip
from mmlearn.preprocessing.video import MediaInfo, Sampling, probe

__all__ = ["VideoFolder", "read_clip"]

SHARES = {"train": (0.0, 0.8), "valid": (0.8, 0.9), "test": (0.9, 1.0)}  # parts of [0, 1)


class VideoFolder:
    """Clips out of your own video and sound files, of any format, rate and size.

    Each `folder[i]` is a `Clip`: chosen frames with their times, the whole sound, subtitles as words, and what the
    layout tells. There are two layouts:

    - **A folder per class**: `root/CLASS/…/file`. The folder directly under the root is the class, the label "label";
      folders further down are only places. Files directly in the root have no label. Where all files lie under folders
      called train, valid (val, validation) or test, these are the splits, and the classes lie in them.
    - **A table**, `clips.csv` in UTF-8: a column `path` (relative to the table), and if you like `text` (the caption),
      `split`, and any others, which are labels. A column in which all is numbers stays numbers; any other becomes
      indices of classes. An empty cell is a missing label, or a missing text.

    Order is fixed: by name, or as in the table. Names with a leading dot and other kinds of files are left aside and
    counted in the report. A file that cannot be used stands in `skipped` with the reason; one warning tells how many.

    Every file is read once when the folder is opened, several at a time. The result is kept under
    `mmlearn.home()/folders` by the files' content and the settings: renamed or touched files are not decoded again,
    changed ones are. Random sampling decodes at each access anew, with PyTorch's global generator, which `DataLoader`
    seeds in each worker and epoch.

    Args:
        root: The folder, or the table.
        split: One of the splits that folders or table name. Where they name none, "train", "valid" or "test": 80, 10
            and 10 % by a hash of each file's content, so that equal files fall into one split, and no file changes
            sides when others come. Beware: parts of one film are not equal files; use a table for those.
        num_frames: Frames a clip.
        size: (H, W) to which frames are resized; None keeps each file's own.
        sample_rate: Samples a second of the sound.
        sampling: "uniform", "segment" or "dense": see `mmlearn.preprocessing.video.read_video`.
        interval: Seconds between the frames of dense sampling; by default one frame.
        workers: How many files are read at a time; by default one per core. Where processes can be forked (Linux), 2
            or more protect this one from files that crash a decoder; 1 reads in this process.
        cache: Keep decoded clips on disk; otherwise each access decodes.
        strict: Raise at a file that cannot be used.
        seed: Another seed gives another split by content.

    Attributes:
        classes: Label → names of its classes, over all splits.
        entries: What is known about each clip: name, path, text, labels, split, sha256.
        skipped: Name → why it cannot be used.
        duplicates: Name → an earlier clip whose file has the same bytes.

    Raises:
        FileNotFoundError: If there is no such folder or table.
        ValueError: If an argument has an unusable value, no clip can be used or, with `strict`, one cannot.

    Chapter: preprocessing/batching.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        split: str | None = None,
        num_frames: int = 16,
        size: tuple[int, int] | None = (48, 48),
        sample_rate: int = 16_000,
        sampling: Sampling = "uniform",
        interval: float | None = None,
        workers: int | None = None,
        cache: bool = True,
        strict: bool = False,
        seed: int = 0,
    ) -> None:
        if workers is not None and workers < 1:
            raise ValueError(f"workers is {workers}; expected at least 1, or None")
        self.root, self.split, self.cache = Path(root), split, cache
        self.reading = Reading(num_frames, size, sample_rate, sampling, interval)
        listing = list_clips(self.root)
        self.classes, self.skipped, self._ignored = listing.classes, listing.skipped, listing.ignored
        if strict and self.skipped:
            name, reason = next(iter(self.skipped.items()))
            raise ValueError(f"{self.root / name}: {reason}")
        listed, wanted = _choose(listing.entries, split, seed, self.root)
        ledger = Ledger(self.root) if cache else None
        reading = replace(self.reading, sampling="uniform", interval=None)  # shows whether a file can be read at all
        found = examine({e.path for e in listed}, reading, ledger, wanted, workers, f"Reading {self.root.name}")
        self.entries: list[Entry] = []
        for entry in listed:
            sha256, _, error = found[entry.path]
            if error is not None and strict:
                raise error
            if error is not None:
                self.skipped[entry.name] = _reason(error, entry.path)
            elif wanted(sha256):
                self.entries.append(replace(entry, sha256=sha256))
        self.duplicates = _duplicates(self.entries)
        count = len(self.entries) + len(self.skipped)
        if self.skipped:
            name, reason = next(iter(self.skipped.items()))
            if not self.entries:
                raise ValueError(f"{self.root}: none of {count} clips can be used; {name}: {reason}")
            message = f"{self.root}: left out {len(self.skipped)} of {count} clips; {name}: {reason}"
            warnings.warn(message, stacklevel=2)
        if not self.entries:
            raise ValueError(f"{self.root}: none of {len(listed)} clips falls into split {split!r}; "
                             "name the splits in a table or by folders")  # fmt: skip

    def __len__(self) -> int:
        """Return the number of clips that can be used."""
        return len(self.entries)

    def __getitem__(self, index: int) -> Clip:
        """Return a clip; its arrays are its own. Negative numbers count from the end."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"index is {index}; this folder has {len(self)} clips")
        entry = self.entries[index]
        return dressed(self._read(entry), entry.name, entry.text, entry.labels)

    def __iter__(self) -> Iterator[Clip]:
        """Yield the clips in order."""
        return (self[index] for index in range(len(self)))

    @property
    def names(self) -> list[str]:
        """The clips' names: paths below the root, or as the table writes them."""
        return [entry.name for entry in self.entries]

    def report(self) -> str:
        """Return a short text: how many clips, hours, sizes, rates; what has no sound or text; what was left out."""
        infos = in_parallel(_probe, sorted({entry.path for entry in self.entries}), None, "Probing", _gone)
        return _report(self, [infos[entry.path] for entry in self.entries])

    def _read(self, entry: Entry) -> Clip:
        if not self.cache or self.reading.random:
            return self.reading.clip(entry.path)
        clip = kept(key_of(entry.sha256, self.reading))
        if clip is None:  # somebody has cleared the cache, or its file is damaged
            sha256 = hash_of(entry.path)  # of what the file holds now
            clip = self.reading.clip(entry.path)
            with suppress(OSError):  # no reason to stop a training; or another process clears `unfinished` now
                keep(key_of(sha256, self.reading), clip, Ledger(self.root).unfinished)
        return clip


def _choose(entries: list[Entry], split: str | None, seed: int, root: Path) -> tuple[list[Entry], Choice]:
    """Return the clips of a split and, where nobody named any, a function that chooses among them by content."""
    named = sorted({entry.split for entry in entries if entry.split})
    if split is None:
        return entries, _all
    if split in named:
        return [entry for entry in entries if entry.split == split], _all
    if named or split not in SHARES:
        raise ValueError(f"{root}: split is {split!r}; expected one of {named or list(SHARES)}")
    return entries, partial(_is_in, split=split, seed=seed)


def _all(sha256: str) -> bool:
    return True


def _is_in(sha256: str, split: str, seed: int) -> bool:
    """Whether a file's hash falls into a split."""
    draw = int(hashlib.sha256(f"{seed} {sha256}".encode()).hexdigest()[:8], 16) / 16**8  # in [0, 1)
    low, high = SHARES[split]
    return low <= draw < high


def _reason(error: Exception, path: Path) -> str:
    """Return what is wrong with a file, without its name."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    return str(error).removeprefix(f"{path}: ") or type(error).__name__


def _duplicates(entries: list[Entry]) -> dict[str, str]:
    """Return name → name of the first clip whose file is another one with the same bytes."""
    first: dict[str, Entry] = {}
    for entry in entries:
        first.setdefault(entry.sha256, entry)
    return {e.name: first[e.sha256].name for e in entries if first[e.sha256].path != e.path}


def _probe(path: Path) -> MediaInfo | None:
    try:
        return probe(path)
    except (ValueError, OSError):  # it has gone since the folder was opened
        return None


def _gone(path: Path) -> None:
    """Stand for what cannot be probed any more."""


def _report(folder: VideoFolder, found: list[MediaInfo | None]) -> str:
    infos = [info for info in found if info is not None]
    video, audio = [i.video[0] for i in infos if i.video], [i.audio[0] for i in infos if i.audio]
    seconds, silent = sum(info.duration or 0.0 for info in infos), len(infos) - len(audio)
    texts = sum(entry.text is not None for entry in folder.entries)
    lines = [f"{folder.root}: {len(folder)} clips, {seconds / 3600:.2f} hours"]
    if video:
        sizes = _counts(f"{v.width} × {v.height}" for v in video)
        rates = _counts(f"{v.fps:.5g} fps{', variable' if v.variable else ''}" for v in video)
        lines += [f"pictures    {len(video)}: {sizes}", f"rates       {rates}"]
    lines.append(f"sound       {len(audio)}, none in {silent}: {_counts(f'{a.sample_rate} Hz' for a in audio)}")
    lines.append(f"text        {texts}, none for {len(folder) - texts}")
    for label in sorted({label for entry in folder.entries for label in entry.labels} | set(folder.classes)):
        values = [entry.labels[label] for entry in folder.entries if label in entry.labels]
        names = folder.classes.get(label)
        told = _counts(names[int(k)] for k in values) if names else f"{min(values)} to {max(values)}"
        lines.append(f"labels      {label}: {told}; missing in {len(folder) - len(values)}")
    others = _counts(kind for kind, count in folder._ignored.items() for _ in range(count))
    lines += [f"other files {others}"] if others else []
    lines += [f"duplicate   {name} has the bytes of {first}" for name, first in folder.duplicates.items()]
    lines += [f"left out    {name}: {reason}" for name, reason in folder.skipped.items()]
    return "\n".join(lines)


def _counts(values: Iterable[str], most: int = 6) -> str:
    """Return how often each value comes, e.g. "25 fps (7), 30 fps (2)"."""
    counts = Counter(values).most_common()
    rest = sum(count for _, count in counts[most:])
    return ", ".join(f"{value} ({count})" for value, count in counts[:most]) + (f", others ({rest})" if rest else "")
