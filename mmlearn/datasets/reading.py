"""Read one file, whatever it is, into a Clip: chosen frames with their times, the whole sound, subtitles as words.

Chapter: preprocessing/batching.
"""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from mmlearn.clip import Clip, Word
from mmlearn.datasets.folder.pictures import are_numbered, length_of, read_pictures
from mmlearn.media.container import Source, local_path, name_of, open_media, streams_of, subtitle_of
from mmlearn.media.sound_levels import Channel, Mixdown
from mmlearn.preprocessing.audio.reading import read_audio
from mmlearn.preprocessing.video.sampling import MediaInfo, Sampling, probe, read_video


@dataclass(frozen=True)
class DecodeOptions:
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
    channel: Channel = "mean"
    frame_rate: float | None = None
    start: float = 0.0
    end: float | None = None

    def __post_init__(self) -> None:
        """Check the settings now, and not at each file."""
        for name, value in {"num_frames": self.num_frames, "sample_rate": self.sample_rate}.items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}; expected an integer ≥ 1")
        if self.size is not None:
            object.__setattr__(self, "size", tuple(self.size))  # JSON, for one, knows only lists
            if len(self.size) != 2 or not all(isinstance(side, int) and side >= 1 for side in self.size):
                raise ValueError(f"size is {self.size}; expected (height, width) in pixels, or None")
        if self.frame_rate is not None and not 0 < self.frame_rate <= 1000:
            raise ValueError(f"frame_rate is {self.frame_rate}; expected pictures a second, above 0, at most 1000")
        Mixdown(self.channel)  # raises where there is no such way to mix
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
    channel: Channel = "mean",
    frame_rate: float | None = None,
    generator: torch.Generator | None = None,
    name: str = "",
) -> Clip:
    """Read a video or sound file into a `Clip`, on one clock that starts at `start`.

    Only the frames asked for are read. The times at which they are first shown stand in `clip.times["video"]`, their
    average rate in `clip.rates["video"]`. The sound is there from `start` to `end`, as mono. Subtitles become words.
    What the file lacks is missing from the clip; so is a stream that ends before `start`.

    Args:
        source: A path, or a binary file object. With a `frame_rate`, also a folder of numbered pictures.
        num_frames: Frames to choose.
        size: (H, W) to which frames are resized, whatever their shape; None keeps their own.
        sample_rate: Samples a second of the sound.
        sampling: "uniform", "segment" or "dense": see `mmlearn.preprocessing.video.read_video`.
        interval: Seconds between the frames of dense sampling; by default one frame.
        start: Seconds.
        end: Seconds; by default, or where it lies beyond, the file's end.
        audio_stream: Which of several sound tracks.
        channel: How its channels become one: see `mmlearn.preprocessing.audio.read_audio`.
        frame_rate: Frames a second of a folder of numbered pictures. Numbers count frames, from the first one on.
        generator: For random sampling.
        name: The clip's name; by default the source's.

    Raises:
        FileNotFoundError, PermissionError: If there is no such file, or it must not be read.
        ValueError: If it has neither pictures nor sound, or cannot be decoded.

    Chapters: preprocessing/video, preprocessing/batching.
    """
    if isinstance(source, str | os.PathLike) and os.path.isdir(path := local_path(source)):
        if frame_rate is None and are_numbered(os.listdir(path)):
            raise ValueError(f"{path}: a folder of numbered pictures; give their frame_rate, or a file")
        if frame_rate is not None:
            _check_start(path, start, length_of(Path(path), frame_rate))
            frames, shown = read_pictures(Path(path), frame_rate, num_frames=num_frames, sampling=sampling, start=start,
                                          end=end, interval=interval, size=size, generator=generator)  # fmt: skip
            return Clip({"video": frames}, {"video": _rate(shown, frame_rate)}, name=name or path,
                        times={"video": np.maximum(shown - start, 0.0)})  # fmt: skip
    info = probe(source)
    if not info.video and not info.audio:
        raise ValueError(f"{name_of(source)}: found neither pictures nor sound; expected at least one of them")
    lasts = {"video": info.video[0].duration if info.video else 0.0,
             "audio": info.audio[audio_stream].duration if 0 <= audio_stream < len(info.audio) else None}  # fmt: skip
    if info.video:  # `read_audio` finds the end of sound itself; for mp3 and the like FFmpeg only guesses it
        _check_start(name_of(source), start, info.duration)
    streams: dict[str, Any] = {}
    rates, times = {}, {}
    if info.video and start < (lasts["video"] or np.inf):
        until = end if end is None else min(end, lasts["video"] or end)  # behind it, the last frame would be repeated
        frames, shown = read_video(source, num_frames=num_frames, sampling=sampling, start=start, end=until,
                                   interval=interval, size=size, generator=generator)  # fmt: skip
        streams["video"], times["video"] = frames, np.maximum(shown - start, 0.0)
        rates["video"] = _rate(shown, info.video[0].fps)
    if info.audio and (start < (lasts["audio"] or np.inf) or not streams):
        streams["audio"] = read_audio(source, sample_rate, start=start, end=end, stream=audio_stream,
                                      channel=channel)  # fmt: skip
        rates["audio"] = float(sample_rate)
    words = [Word(text, max(a - start, 0.0), b - start) for a, b, text in _subtitles(source, info) if b > start]
    if end is not None:
        words = [Word(w.text, w.start, min(w.end, end - start)) for w in words if w.start < end - start]
    return Clip(streams, rates, words, name=name or name_of(source), times=times)


def with_metadata(clip: Clip, name: str, text: str | None, labels: dict[str, Any]) -> Clip:
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


def _rate(shown: np.ndarray, otherwise: float) -> float:
    """Return the average rate of chosen frames."""
    span = shown[-1] - shown[0]
    return float((len(shown) - 1) / span) if span > 0 else otherwise


def _check_start(name: str, start: float, length: float | None) -> None:
    if length and start >= length:
        raise ValueError(f"{name}: start is {start} s; the file ends after {length:.2f} s")
