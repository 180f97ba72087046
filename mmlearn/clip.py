"""Clip: one sample, streams that run side by side, as they come out of a file.

Modalities are dictionary keys such as "video", "audio" and "text"; nothing here knows how many there are.
Times are in seconds from the clip's beginning.

Chapters: start/dataset, preprocessing/batching.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor

from mmlearn import media

SYNC = 1e-4  # seconds: streams that are nearer than this count as simultaneous; sound travels 3 cm in that time


@dataclass
class Word:
    """A word and when it is said: `start` and `end` in seconds from the clip's beginning."""

    text: str
    start: float
    end: float


@dataclass
class Clip:
    """One sample: streams that run side by side, as they come out of a file.

    Args:
        streams: What there is: "video" uint8 (T, H, W, C), RGB; "audio" float32 (S,) in [-1, 1]; "text" str.
            A modality that is missing is not in the dictionary.
        rates: "video" in frames a second, "audio" in samples a second.
        words: The words with their times; they become the subtitles of a saved file.
        labels: What is known about the clip: class indices, quantities, vectors, lists of tokens, names. Where
            something is not known, its key is missing.
        name: Where it comes from.
        times: Seconds (T,) at which the steps of a stream begin, where they are not at 0, 1 / rate, 2 / rate, …: frames
            of a variable rate, or chosen ones. `seconds` gives them for every timed stream.

    Chapters: start/dataset, preprocessing/batching.
    """

    streams: dict[str, Any]
    rates: dict[str, float] = field(default_factory=dict)
    words: list[Word] = field(default_factory=list)
    labels: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    times: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def video(self) -> np.ndarray | None:
        """Frames, uint8 (T, H, W, C), or None."""
        return self.streams.get("video")

    @property
    def audio(self) -> np.ndarray | None:
        """Sound, float32 (S,), or None."""
        return self.streams.get("audio")

    @property
    def text(self) -> str | None:
        """The caption, or None."""
        return self.streams.get("text")

    @property
    def duration(self) -> float:
        """Seconds until the last step of the longest timed stream ends; a step lasts 1 / rate."""
        ends = [0.0]
        for name in self._timed():
            if name in self.times and len(self.times[name]):
                ends.append(float(self.times[name][-1]) + self._step(name))
            elif name in self.rates:
                ends.append(len(self.streams[name]) / self.rates[name])
        return max(ends)

    def seconds(self, name: str) -> np.ndarray:
        """Return when each step of a stream begins, in seconds, float64 (T,): its `times`, or k / rate.

        Raises:
            ValueError: If there is no such stream, it has neither rate nor times, or its times do not fit it.

        Chapter: preprocessing/batching.
        """
        if name not in self.streams:
            raise ValueError(f"{self.name or 'clip'}: no stream {name!r}; it has {sorted(self.streams)}")
        if name in self.times:
            times = np.asarray(self.times[name], np.float64)
            if times.shape != (len(self.streams[name]),) or not (np.diff(times, prepend=-np.inf) >= 0).all():
                raise ValueError(f"{self.name or 'clip'}: times of {name!r} are {times.shape}, from "
                                 f"{times.min(initial=np.inf)} to {times.max(initial=-np.inf)} s; expected "
                                 f"{len(self.streams[name])} that never decrease")  # fmt: skip
            return times
        if name not in self.rates:
            raise ValueError(f"{self.name or 'clip'}: {name!r} has neither a rate nor times; timed: {self._timed()}")
        return np.arange(len(self.streams[name])) / self.rates[name]

    def cut(self, start: float, end: float | None = None) -> Clip:
        """Return what begins in [start, end) of every timed stream, on a clock that starts again at `start`.

        Times decide, not indices. Where no step begins at `start` (to 0.1 ms), the stream gets `times`: a frame that
        comes 13 ms after the cut still comes 13 ms after it. A stream without any step in the window is missing
        from the result. Words are shifted and clipped; text and labels stay as they are, which may or may not
        be true of a part. Arrays are views.

        Args:
            start: Seconds, ≥ 0.
            end: Seconds; by default the clip's end.

        Raises:
            ValueError: If the window is empty, or no timed stream has anything in it.

        Chapter: preprocessing/batching.
        """
        end = self.duration + 1 if end is None else end
        if not 0 <= start < end:
            raise ValueError(
                f"the window is {start} to {end} s; expected 0 ≤ start < end (the clip: {self.duration} s)"
            )
        streams, times = dict(self.streams), {}
        for name in self._timed():
            first, last, when = self._window(name, start, end)
            if first == last:
                del streams[name]
                continue
            streams[name] = self.streams[name][first:last]
            if when is not None:
                times[name] = when
        if not any(name in streams for name in self._timed()):
            raise ValueError(f"{self.name or 'clip'}: nothing begins from {start} to {end} s of {self.duration} s")
        inside = [Word(w.text, max(w.start - start, 0.0), min(w.end, end) - start) for w in self.words]
        return replace(self, streams=streams, times=times, words=[w for w in inside if w.start < w.end])

    def _timed(self) -> list[str]:
        return [name for name in self.streams if name in self.rates or name in self.times]

    def _step(self, name: str) -> float:
        """Seconds that a step lasts: 1 / rate, else the median of the steps there are."""
        if name in self.rates:
            return 1 / self.rates[name]
        return float(np.median(np.diff(self.times[name]))) if len(self.times[name]) > 1 else 0.0

    def _window(self, name: str, start: float, end: float) -> tuple[int, int, np.ndarray | None]:
        """First and last + 1 index of the steps that begin in [start, end), and their times where not even."""
        if name in self.times:
            when = self.seconds(name)
            first, last = (int(k) for k in np.searchsorted(when, [start - SYNC, end - SYNC]))
            return first, last, np.maximum(when[first:last] - start, 0.0)
        rate, size = self.rates[name], len(self.streams[name])
        slack = min(SYNC * rate, 0.5)  # in steps: the nearest sample, the next frame
        first, last = (min(max(math.ceil(t * rate - slack), 0), size) for t in (start, end))
        late = first / rate - start
        return first, last, np.arange(first, last) / rate - start if abs(late) > SYNC else None

    def without(self, *names: str) -> Clip:
        """Return a copy that lacks the named modalities."""
        return replace(self, streams={name: stream for name, stream in self.streams.items() if name not in names})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an mp4 file: H.264 picture, AAC sound, words as subtitles; text, labels and name as metadata.

        The file's frames are evenly spaced; `times` go into the metadata, and `load` brings them back. So do words,
        where subtitles cannot hold them as they are: subtitles come in order, never overlap, and last 1 ms or more. A
        player then shows an approximation: a word ends where the next one begins.

        Raises:
            ValueError: If there is neither picture nor sound, a stream has an unfit shape or type, or a word's times
                are not finite.
        """
        subtitles, exact = subtitles_of(self.words)
        notes = {"text": self.text, "labels": self.labels, "name": self.name}
        times = {name: self.seconds(name).tolist() for name in self.times if name in self.streams}
        fps, when = self.rates.get("video", 25.0), times.get("video", [])
        if len(when) > 1 and when[-1] > when[0]:
            fps = (len(when) - 1) / (when[-1] - when[0])  # on average as fast as the sound beside it
        media.write_mp4(
            path,
            video=self.video,
            fps=fps,
            audio=self.audio,
            sample_rate=int(self.rates.get("audio", 16_000)),
            subtitles=subtitles,
            metadata={
                "comment": json.dumps(
                    notes | ({"times": times} if times else {}) | ({} if exact else {"words": _rows(self.words)}),
                    ensure_ascii=False,
                    default=_plain_number,
                )
            },
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Clip:
        """Read a whole video file; what `save` wrote beside the streams comes back too.

        Frames that are not evenly spaced get `times`: those that `save` was given, else those of the file.

        Raises:
            FileNotFoundError, ValueError: If there is no such file, or it cannot be read as video or sound, or holds
                more than memory allows (see `mmlearn.media.read_mp4`).
        """
        found = media.read_mp4(path)
        notes = _Notes(found.metadata.get("comment", ""))
        found_streams = {"video": found.video, "audio": found.audio, "text": notes.get("text", str)}
        streams: dict[str, Any] = {name: stream for name, stream in found_streams.items() if stream is not None}
        rates = {"video": found.fps, "audio": found.sample_rate}
        times = {name: _as_times(when) for name, when in (notes.get("times", dict) or {}).items()}
        times = {"video": found.times} | {n: t for n, t in times.items() if t is not None}
        words = [Word(text, start, end) for start, end, text in found.subtitles]
        return cls(
            streams=streams,
            rates={name: float(rate) for name, rate in rates.items() if rate and name in streams},
            words=_as_words(notes.get("words", list), words),
            labels=notes.get("labels", dict) or {},
            name=notes.get("name", str) or os.fspath(path),
            times={n: t for n, t in times.items() if t is not None and n in streams and len(t) == len(streams[n])},
        )


class _Notes:
    """What `Clip.save` wrote into a file's comment; in somebody else's file a comment is a comment, and is ignored."""

    def __init__(self, comment: str) -> None:
        try:
            found = json.loads(comment)
        except (ValueError, RecursionError):
            found = None
        self.found = found if isinstance(found, dict) else {}

    def get(self, name: str, kind: type) -> Any:
        """Return an entry if it has the type that `save` writes, else None."""
        return self.found[name] if isinstance(self.found.get(name), kind) else None


def _as_times(numbers: Any) -> np.ndarray | None:
    """Return a list of numbers that never decrease as an array; None for anything else."""
    try:
        times = np.array(numbers, np.float64)
    except (TypeError, ValueError):
        return None
    fit = times.ndim == 1 and np.isfinite(times).all() and (np.diff(times) >= 0).all()
    return times if fit else None


def subtitles_of(words: Sequence[Word]) -> tuple[list[tuple[float, float, str]], bool]:
    """Return words as subtitles (start, end, text): in order, without overlap, each 1 ms long or more.

    Recognizers give words that last no time, overlap by some ms, begin before 0 or are out of order: the nearest that
    a file can hold is made of them. Words without any letter are left out.

    Returns:
        The subtitles, in whole ms, and whether they are the words, to 1 ms.

    Raises:
        ValueError: If a time is not finite.

    Chapter: start/dataset.
    """
    for word in words:
        if not (math.isfinite(word.start) and math.isfinite(word.end)):
            raise ValueError(f"word {word.text!r} runs from {word.start} to {word.end} s; expected finite times")
    spoken = sorted((word for word in words if word.text), key=lambda word: (word.start, word.end))
    starts: list[int] = []  # in ms
    for word in spoken:
        starts.append(max(round(word.start * 1000), starts[-1] + 1 if starts else 0))
    found = []
    for k, (word, start) in enumerate(zip(spoken, starts, strict=True)):
        end = min([max(start + 1, round(word.end * 1000)), *starts[k + 1 : k + 2]])
        found.append((start / 1000, end / 1000, word.text))
    near = [abs(start - word.start) < 0.0015 and abs(end - word.end) < 0.0015
            for word, (start, end, _) in zip(spoken, found, strict=True)]  # fmt: skip
    return found, all(near) and spoken == list(words)


def _rows(words: Sequence[Word]) -> list[tuple[str, float, float]]:
    return [(word.text, word.start, word.end) for word in words]


def _as_words(rows: list[Any] | None, shown: list[Word]) -> list[Word]:
    """Return the words that `save` noted, if they are what the subtitles show; else the subtitles'."""
    try:
        words = [Word(str(text), float(start), float(end)) for text, start, end in rows or ()]
        subtitles = subtitles_of(words)[0]
    except (TypeError, ValueError, OverflowError):
        return shown
    same = len(subtitles) == len(shown) and all(
        text == word.text and abs(start - word.start) < 0.0025 and abs(end - word.end) < 0.0025
        for word, (start, end, text) in zip(shown, subtitles, strict=True)
    )
    return words if words and same else shown


def _plain_number(value: Any) -> Any:
    """Turn numbers and arrays of NumPy and torch into Python's own, for JSON."""
    if isinstance(value, (np.generic, np.ndarray, Tensor)):
        return value.tolist()
    raise TypeError(f"labels hold a {type(value).__name__}; expected numbers, strings, lists or dictionaries")
