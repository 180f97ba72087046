"""Read one file, whatever it is, into a Clip: chosen frames with their times, the whole sound, subtitles as words.

Chapter: preprocessing/batching.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

import numpy as np
import torch

from mmlearn.clip import Clip, Word
from mmlearn.media import Source, name_of, open_media, streams_of, subtitle_of
from mmlearn.preprocessing.audio import read_audio
from mmlearn.preprocessing.video import MediaInfo, Sampling, probe, read_video


@dataclass(frozen=True)
class Reading:
    """How files become clips: the settings that `VideoFolder` and `read_shards` share; see `read_clip`.

    Raises:
        ValueError: If a setting is out of its range.

    Chapter: preprocessing/batching.
    """

    num_frames: int = 16
    size: tuple[int, int] | None = (48, 48)
    sample_rate: int = 16_000
    sampling: Sampling = "uniform"
    interval: float | None = None

    def __post_init__(self) -> None:
        """Check the settings now, and not at each file."""
        for name, value in {"num_frames": self.num_frames, "sample_rate": self.sample_rate}.items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}; expected an integer ≥ 1")
        if self.size is not None:
            object.__setattr__(self, "size", tuple(self.size))  # JSON, for one, knows only lists
            if len(self.size) != 2 or not all(isinstance(side, int) and side >= 1 for side in self.size):
                raise ValueError(f"size is {self.size}; expected (height, width) in pixels, or None")
        if self.sampling not in get_args(Sampling):
            raise ValueError(f"sampling is {self.sampling!r}; expected one of {get_args(Sampling)}")
        if self.interval is not None and (self.sampling != "dense" or not 0 < self.interval < float("inf")):
            raise ValueError(f"interval is {self.interval}; expected seconds above 0, for dense sampling only")

    @property
    def random(self) -> bool:
        """Whether each reading draws other frames."""
        return self.sampling != "uniform"

    def clip(self, source: Source) -> Clip:
        """Read a file so; what is random is drawn from PyTorch's global generator."""
        return read_clip(source, **asdict(self), generator=torch.default_generator if self.random else None)


def read_clip(
    source: Source,
    *,
    num_frames: int = 16,
    size: tuple[int, int] | None = (48, 48),
    sample_rate: int = 16_000,
    sampling: Sampling = "uniform",
    interval: float | None = None,
    start: float = 0.0,
    end: float | None = None,
    audio_stream: int = 0,
    generator: torch.Generator | None = None,
    name: str = "",
) -> Clip:
    """Read a video or sound file into a `Clip`, on one clock that starts at `start`.

    Only the frames asked for are read. The times at which they are first shown stand in `clip.times["video"]`, their
    average rate in `clip.rates["video"]`. The sound is there from `start` to `end`, as mono. Subtitles become words.
    What the file lacks is missing from the clip.

    Args:
        source: A path, or a binary file object.
        num_frames: Frames to choose.
        size: (H, W) to which frames are resized, whatever their shape; None keeps their own.
        sample_rate: Samples a second of the sound.
        sampling: "uniform", "segment" or "dense": see `mmlearn.preprocessing.video.read_video`.
        interval: Seconds between the frames of dense sampling; by default one frame.
        start: Seconds.
        end: Seconds; by default the file's end.
        audio_stream: Which of several sound tracks.
        generator: For random sampling.
        name: The clip's name; by default the source's.

    Raises:
        FileNotFoundError, PermissionError: If there is no such file, or it must not be read.
        ValueError: If it has neither pictures nor sound, or cannot be decoded.

    Chapters: preprocessing/video, preprocessing/batching.
    """
    info = probe(source)
    if not info.video and not info.audio:
        raise ValueError(f"{name_of(source)}: found neither pictures nor sound; expected at least one of them")
    streams: dict[str, Any] = {}
    rates, times = {}, {}
    if info.video:
        frames, shown = read_video(source, num_frames=num_frames, sampling=sampling, start=start, end=end,
                                   interval=interval, size=size, generator=generator)  # fmt: skip
        streams["video"], times["video"] = frames, np.maximum(shown - start, 0.0)
        span = shown[-1] - shown[0]
        rates["video"] = float((len(shown) - 1) / span) if span > 0 else info.video[0].fps
    if info.audio:
        streams["audio"] = read_audio(source, sample_rate, start=start, end=end, stream=audio_stream)
        rates["audio"] = float(sample_rate)
    words = [Word(text, max(a - start, 0.0), b - start) for a, b, text in _subtitles(source, info) if b > start]
    if end is not None:
        words = [Word(w.text, w.start, min(w.end, end - start)) for w in words if w.start < end - start]
    return Clip(streams, rates, words, name=name or name_of(source), times=times)


def dressed(clip: Clip, name: str, text: str | None, labels: dict[str, Any]) -> Clip:
    """Return a clip with what its file does not say: name, caption (none where it is empty) and labels."""
    return replace(clip, streams=clip.streams | ({"text": text} if text else {}), labels=dict(labels), name=name)


def _subtitles(source: Source, info: MediaInfo) -> Iterator[tuple[float, float, str]]:
    """Yield (start, end, text) of the first subtitle stream, where it is plain text."""
    if not info.subtitles:
        return
    with open_media(source) as container:
        for packet in container.demux(streams_of(container, "subtitle")[0]):
            found = subtitle_of(packet)
            if found and found[2].strip():
                yield found[0], found[1], found[2].strip()
