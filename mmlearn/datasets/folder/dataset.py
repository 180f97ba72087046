"""VideoFolder: your own files as clips, from a folder per class or from a table.

Chapter: preprocessing/batching.
"""

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path

from mmlearn.clip import Clip
from mmlearn.datasets.folder.cache import ScanIndex, file_stat, hash_of, keep, kept, key_of, read_whole
from mmlearn.datasets.folder.columns import Kind
from mmlearn.datasets.folder.layout import Layout
from mmlearn.datasets.folder.listing import list_clips
from mmlearn.datasets.folder.parts import try_parts
from mmlearn.datasets.folder.records import Listing, Record
from mmlearn.datasets.folder.reporting import report
from mmlearn.datasets.folder.scan import scan
from mmlearn.datasets.folder.splitting import anything, by_content, choose, drawn, lacking, nothing
from mmlearn.datasets.folder.suffixes import suffixes_of
from mmlearn.datasets.reading import DecodeOptions, read_clip, with_metadata
from mmlearn.media.container import local_path
from mmlearn.media.sound_levels import Channel
from mmlearn.preprocessing.video.sampling import Sampling

__all__ = ["VideoFolder", "read_clip"]


class VideoFolder:
    """Clips out of your own video and sound files, of any format, rate and size.

    Each `folder[i]` is a `Clip`: chosen frames with their times, the whole sound, subtitles as words, and what the
    layout tells. There are two layouts:

    - **A folder per class**: `root/CLASS/…/file`. The folder directly under the root is the class, the label "label";
      folders further down are only places. Files directly in the root have no label. Folders called train (training),
      valid (val, validation, dev, eval) and test (testing), in any case, are splits, and the classes lie in them, also
      where one folder encloses them all. Other folders beside them are an error until `layout` says what they are.
    - **A table**, in UTF-8, whose name ends with .csv; `clips.csv` in the root is used, too. A column `path` (relative
      to the table), and if you like `text` (the caption), `split`, `start` and `end` (seconds, or h:m:s: the row is
      that part of the file), `group` (a speaker, say: its clips stay in one split), and any others, which are labels. A
      column in which all is numbers stays numbers; any other becomes indices of classes. An empty cell is a missing
      label, or a missing text; so are NA, -, null, ? and the like in a column of numbers. A column with 007 holds
      names. Where most cells are numbers and some are not, it is an error: see `labels`.

    Subtitles beside a file without its own (name.srt, name.vtt, name.zh.srt) become its words and, where the table has
    no text, its text.

    Order is fixed: by name, or as in the table. Names with a leading dot and other kinds of files are left aside and
    counted in the report. A file that cannot be used stands in `skipped` with the reason; one warning tells how many.

    Every file is read once when the folder is opened, several at a time. The result is kept under
    `mmlearn.home()/folders` by the files' content and the settings: renamed or touched files are not decoded again,
    changed ones are. Random sampling decodes at each access again, with PyTorch's global generator, which `DataLoader`
    seeds in each worker and epoch.

    Args:
        root: The folder, or the table.
        split: One of the splits that folders or table name. Where they name none, "train", "valid" or "test": 80, 10
            and 10 % by a hash of each file's content, so that equal files, and rows of one file, fall into one split,
            and no file changes sides when others come. Beware: a film that was cut into files is not equal files; give
            these a `group` in a table, by whose name they are drawn. A split that lacks a class is a warning.
        num_frames: Frames a clip.
        size: (H, W) to which frames are resized; None keeps each file's own.
        sample_rate: Samples a second of the sound.
        sampling: "uniform", "segment" or "dense": see `mmlearn.preprocessing.video.read_video`.
        interval: Seconds between the frames of dense sampling; by default one frame.
        workers: How many files are read at a time; by default one per core. 2 or more read in processes of their own,
            which protect this one from files that crash a decoder or never end; 1 reads in this process.
        cache: Keep decoded clips on disk; otherwise each access decodes. Where that is not possible, a warning says so.
        strict: Raise at a file that cannot be used.
        seed: Another seed gives another split by content.
        layout: "classes" (all folders of the root are classes), "splits" (files beside folders called train, valid and
            test are in no split) or "table"; by default whichever fits.
        labels: The kind of a table's columns, such as {"score": float, "action": str, "ids": list}: numbers, names of
            classes, several values a cell; or a function that turns a cell into a number.
        suffixes: More suffixes to look at, such as [".mod"].
        frame_rate: Frames a second of folders of numbered pictures; with it, each such folder is a clip.
        channel: Which channel of the sound: see `read_clip`.

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
        layout: Layout | None = None,
        labels: Mapping[str, Kind] | None = None,
        suffixes: Iterable[str] = (),
        frame_rate: float | None = None,
        channel: Channel = "mean",
    ) -> None:
        if workers is not None and workers < 1:
            raise ValueError(f"workers is {workers}; expected at least 1, or None")
        self.root, self.split, self.cache = Path(local_path(root)), split, cache
        self.reading = DecodeOptions(num_frames, size, sample_rate, sampling, interval, channel, frame_rate)
        listing = list_clips(self.root, layout, labels, suffixes_of(suffixes), frame_rate is not None)
        self.classes, self.skipped, self._listing = listing.classes, listing.skipped, listing
        if strict and self.skipped:
            name, reason = next(iter(self.skipped.items()))
            raise ValueError(f"{self.root / name}: {reason}")
        listed, to_draw = choose(listing.entries, split, self.root)
        self.entries: list[Record] = []
        for entry, error in self._examine(listed, to_draw, seed, workers):
            if error is not None and strict:
                raise error
            if error is not None:
                self.skipped[entry.name] = _reason(error, entry.path)
            else:
                self.entries.append(entry)
        self.duplicates = _duplicates(self.entries)
        listing.notes += lacking(self.entries, self.classes, split, to_draw is not None)
        self._warn(len(listed))

    def _examine(
        self, listed: list[Record], to_draw: str | None, seed: int, workers: int | None
    ) -> Iterator[tuple[Record, Exception | None]]:
        """Read what is in the split, and yield each clip with its file's hash, or with why it cannot be used."""
        ledger = ScanIndex(self.root) if self.cache else None
        reading = replace(self.reading, sampling="uniform", interval=None)  # shows whether a file can be read at all
        look = partial(scan, reading=reading, ledger=ledger, workers=workers, title=f"Reading {self.root.name}")
        wanted = by_content(to_draw, seed)
        if to_draw and any(entry.group for entry in listed):
            hashes = look({entry.path for entry in listed}, wanted=nothing)
            wanted = drawn(listed, {path: found.sha256 for path, found in hashes.items()}, to_draw, seed)
        whole = {entry.path for entry in listed if not entry.is_part}
        found = look(whole, wanted=wanted)
        if only_parts := {entry.path for entry in listed} - whole:
            found |= look(only_parts, wanted=nothing)
        self._stamps = {path: there.stamp for path, there in found.items()}
        known = [replace(entry, sha256=found[entry.path].sha256) for entry in listed]
        parts = [entry for entry in known if entry.is_part and entry.sha256 and wanted(entry.sha256)]
        reader = copy(self)
        reader.reading, reader._listing = reading, Listing()
        reader._stamps = {part.path: self._stamps[part.path] for part in parts}
        wrong = try_parts(reader._read, parts, workers, look.keywords["title"])
        for entry in known:
            error = found[entry.path].error
            error = error or wrong.get((entry.path, entry.start, entry.end))
            if error is not None or wanted(entry.sha256):
                yield entry, error

    def _warn(self, listed: int) -> None:
        """Warn of what was left out or guessed; raise where nothing is left."""
        count = len(self.entries) + len(self.skipped)
        if self.skipped:
            name, reason = next(iter(self.skipped.items()))
            if not self.entries:
                raise ValueError(f"{self.root}: none of {count} clips can be used; {name}: {reason}")
            message = f"{self.root}: left out {len(self.skipped)} of {count} clips; {name}: {reason}"
            warnings.warn(message, stacklevel=3)
        if not self.entries:
            raise ValueError(f"{self.root}: none of {listed} clips falls into split {self.split!r}; "
                             "name the splits in a table or by folders")  # fmt: skip
        if self._listing.notes:
            warnings.warn(f"{self.root}: {'; '.join(self._listing.notes)}", stacklevel=3)

    def __len__(self) -> int:
        """Return the number of clips that can be used."""
        return len(self.entries)

    def __getitem__(self, index: int) -> Clip:
        """Return a clip; its arrays are its own. Negative numbers count from the end."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"index is {index}; this folder has {len(self)} clips")
        entry = self.entries[index]
        clip = self._read(entry)
        return with_metadata(clip if clip.words else replace(clip, words=list(entry.words)), entry.name, entry.caption,
                       entry.labels)  # fmt: skip

    def __iter__(self) -> Iterator[Clip]:
        """Yield the clips in order."""
        return (self[index] for index in range(len(self)))

    @property
    def names(self) -> list[str]:
        """The clips' names: paths below the root, or as the table writes them."""
        return [entry.name for entry in self.entries]

    def report(self) -> str:
        """Return a short text: how many clips, hours, sizes, rates; what has no sound or text; what was left out."""
        return report(str(self.root), self.entries, self.classes, self._listing, self.duplicates)

    def _read(self, entry: Record) -> Clip:
        reading = replace(self.reading, start=entry.start, end=entry.end)

        def hashed(path: Path) -> str:  # a film with many parts is not hashed for each
            return entry.sha256 if self._stamps.get(path) == file_stat(path) else hash_of(path)

        if not self.cache or reading.random:
            self._compare(entry, hashed(entry.path), file_stat(entry.path))
            return reading.clip(entry.path)
        clip = kept(key_of(entry.sha256, reading))
        if clip is None:  # nothing could be kept, somebody has cleared the cache, or its file is damaged
            stamp, sha256, clip = read_whole(entry.path, reading, anything, hashed)
            assert clip is not None  # all are wanted
            self._compare(entry, sha256, stamp)
            with suppress(OSError):  # no reason to stop a training
                keep(key_of(sha256, reading), clip)
        return clip

    def _compare(self, entry: Record, sha256: str, stamp: list[int]) -> None:
        """Warn where a file is no longer the one that was found when the folder was opened."""
        if sha256 == entry.sha256:
            self._stamps[entry.path] = stamp  # touched only
        else:
            what = "its label, text and split are those of the file that was there; open the folder again"
            warnings.warn(f"{entry.path}: the file has changed since its folder was opened; {what}", stacklevel=4)


def _reason(error: Exception, path: Path) -> str:
    """Return what is wrong with a file, without its name."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    return str(error).removeprefix(f"{path}: ") or type(error).__name__


def _duplicates(entries: list[Record]) -> dict[str, str]:
    """Return name → name of the first clip whose file is another one with the same bytes."""
    first: dict[str, Record] = {}
    for entry in entries:
        first.setdefault(entry.sha256, entry)
    return {e.name: first[e.sha256].name for e in entries if first[e.sha256].path != e.path}
