"""Frames for a model: what a file holds, which moments to look at, and the frames on the screen at those moments.

Chapters: start/first_model, preprocessing/video.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, get_args

import av
import numpy as np
import torch
from torch import Tensor

from mmlearn.media.container import Source, name_of, open_media, streams_of
from mmlearn.media.display import Display, turns_of
from mmlearn.media.frames import Timeline, duration_of, fps_of, pick_stream, read_shown, stamps_of

Sampling = Literal["uniform", "segment", "dense"]
_LOOK_AT = 300  # packets in which `probe` looks for a variable rate
# ISO/IEC 23091-2, table 3 -> FFmpeg's names.
_TRANSFERS = {1: "bt709", 4: "gamma22", 5: "gamma28", 6: "smpte170m", 7: "smpte240m", 8: "linear", 11: "iec61966-2-4",
              13: "iec61966-2-1", 14: "bt2020-10", 15: "bt2020-12", 16: "smpte2084", 17: "smpte428",
              18: "arib-std-b67"}  # fmt: skip
# How a player turns the picture (see `turns_of`) -> degrees clockwise.
_ROTATIONS = {(True, True, False): 90, (False, True, True): 180, (True, False, True): 270}


@dataclass(frozen=True)
class VideoStream:
    """Pictures in a file, as `probe` finds them.

    Chapter: preprocessing/video.
    """

    codec: str
    width: int  # as shown: in square pixels, after rotation
    height: int
    fps: float  # frames per second, on average
    variable: bool  # some frame is shown more than half a frame away from index / fps
    num_frames: int | None  # None where the file does not tell
    duration: float | None  # seconds
    rotation: int  # degrees clockwise by which a player turns the stored picture: 0, 90, 180 or 270
    pixel_ratio: float = 1.0  # width / height of a stored pixel, before rotation
    bits: int | None = 8  # of a color's value; None where the codec does not say
    transfer: str | None = None  # FFmpeg's name of the curve, e.g. "bt709"; None where the file does not say
    interlaced: bool = False  # the first frame holds lines of two moments

    @property
    def hdr(self) -> bool:
        """Whether the film is HDR (PQ or HLG); it is read as SDR."""
        return self.transfer in ("smpte2084", "arib-std-b67")

    @property
    def peculiar(self) -> list[str]:
        """What reading has to convert, for a report: "pixels not square", "interlaced", "HDR"."""
        found = {"pixels not square": self.pixel_ratio != 1, "interlaced": self.interlaced, "HDR": self.hdr}
        return [what for what, so in found.items() if so]


@dataclass(frozen=True)
class AudioStream:
    """Sound in a file, as `probe` finds it.

    Chapter: preprocessing/video.
    """

    codec: str
    sample_rate: int
    channels: int
    language: str | None  # as the file says, e.g. "zho"
    duration: float | None  # seconds


@dataclass(frozen=True)
class MediaInfo:
    """What a file holds. Streams are numbered as in the lists; the first one is what a player chooses.

    Chapter: preprocessing/video.
    """

    duration: float | None  # seconds, of the longest stream
    container: str  # FFmpeg's name of the format, e.g. "mov,mp4,m4a,3gp,3g2,mj2"
    video: list[VideoStream]
    audio: list[AudioStream]
    subtitles: list[str]  # codecs


def probe(source: Source) -> MediaInfo:
    """Tell what a file holds, without decoding more than its first picture (some say only there how to turn it).

    Args:
        source: A path, or a binary file object.

    Raises:
        FileNotFoundError, PermissionError: As the operating system says.
        ValueError: If it is not a media file.

    Chapter: preprocessing/video.
    """
    with open_media(source) as container:
        audio = [
            AudioStream(_codec(s), s.rate, s.codec_context.channels, s.language, duration_of(container, s))
            for s in streams_of(container, "audio")
        ]
        subtitles = [_codec(s) for s in streams_of(container, "subtitle")]
        duration = container.duration / 1e6 if container.duration else None
        streams = streams_of(container, "video")
        heads = {s.index: _Head() for s in streams}
        for packet in islice(container.demux(streams), _LOOK_AT * len(streams)) if streams else ():
            heads[packet.stream.index].add(packet)
        video = [_probe_video(container, s, heads[s.index], name_of(source)) for s in streams]
        return MediaInfo(duration, container.format.name, video, audio, subtitles)


def frame_times(source: Source, stream: int = 0) -> np.ndarray:
    """Return when each frame is shown, float64 (N,) seconds since the first one, without decoding.

    Args:
        source: A path, or a binary file object.
        stream: Which video stream.

    Raises:
        ValueError: If there is no such stream, or no frame in it.

    Chapter: preprocessing/video.
    """
    name = name_of(source)
    with open_media(source) as container:
        timeline = Timeline(container, pick_stream(container, "video", stream, name), name)
    with open_media(source) as container:
        stamps = stamps_of(container, pick_stream(container, "video", stream, name), timeline)
    if not stamps:
        raise ValueError(f"{name}: no frame in video stream {stream}")
    return (np.array(stamps) - timeline.origin) * timeline.tick


def uniform_times(start: float, end: float, count: int) -> np.ndarray:
    """Return the centres of `count` equal parts of [start, end): float64 (T,), seconds.

    Chapter: preprocessing/video.
    """
    _check_span(start, end, count)
    return start + (end - start) * (np.arange(count) + 0.5) / count


def segment_times(start: float, end: float, count: int, generator: torch.Generator | None = None) -> np.ndarray:
    """Return one random moment of each of `count` equal parts of [start, end): float64 (T,), seconds.

    Temporal Segment Networks (Wang et al. 2016): as wide a view as `uniform_times`, and another one in every epoch.

    Chapter: preprocessing/video.
    """
    _check_span(start, end, count)
    moments = torch.rand(count, generator=generator, dtype=torch.float64).numpy()  # in [0, 1)
    return np.minimum(start + (end - start) * (np.arange(count) + moments) / count, np.nextafter(end, start))


def dense_times(
    start: float, end: float, count: int, interval: float, generator: torch.Generator | None = None
) -> np.ndarray:
    """Return `count` moments at a fixed interval, a window in [start, end): float64 (T,), seconds.

    The window lies at random, or in the middle without a generator. If it does not fit, it begins at the start and the
    last moment that fits is repeated.

    Args:
        start: Seconds.
        end: Seconds, after the start.
        count: Number of moments T.
        interval: Seconds between two of them.
        generator: Draws where the window lies.

    Raises:
        ValueError: If the span is empty, or `count` or `interval` is not positive.

    Chapter: preprocessing/video.
    """
    _check_span(start, end, count)
    if not 0 < interval < float("inf"):
        raise ValueError(f"interval is {interval}; expected seconds above 0")
    room = max(0.0, end - start - count * interval)  # each moment owns one interval
    where = 0.5 if generator is None else float(torch.rand((), generator=generator, dtype=torch.float64))
    times = start + room * where + interval * (np.arange(count) + 0.5)
    fits = times < end
    last = times[fits][-1] if fits.any() else start + (end - start) / 2
    return np.where(fits, times, last)


def read_frames(
    source: Source, times: Sequence[float] | np.ndarray, *, size: tuple[int, int] | None = None, stream: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Read the frames that stand on the screen at given times, decoding only what they need.

    A frame stands on the screen from its own timestamp until the next frame's; before the first frame it is the first,
    after the end the last. For each time the file is asked for the keyframe before it; times with the same keyframe
    share one pass, in which frames that no other is predicted from are skipped unless wanted.

    Frames come as a player shows them: see `mmlearn.media.display` for pixels that are not square, interlaced films,
    transparency, colors without a label and HDR.

    Args:
        source: A path, or a binary file object.
        times: (T,) seconds since the first frame, in any order, repeated or not.
        size: (H, W) to resize to, by swscale's bilinear filter (it averages when it shrinks); None keeps the size at
            which a player shows them. The aspect is not kept. If the size changes within the stream, it stays that of
            the first one.
        stream: Which video stream.

    Returns:
        Frames uint8 (T, H, W, 3), RGB, and the seconds float64 (T,) at which each was first shown.

    Raises:
        FileNotFoundError, PermissionError: As the operating system says.
        ValueError: If times are no finite numbers, or the file is damaged, too short for a time, or has no such stream;
            or if the frames would take more memory than the limit (`mmlearn.memory`).

    Chapter: preprocessing/video.
    """
    wanted = np.asarray(times, np.float64)
    if wanted.ndim != 1 or not wanted.size or not np.isfinite(wanted).all():
        raise ValueError(f"times have shape {wanted.shape}; expected at least one finite number, (T,)")
    _check_size(size)
    return read_shown(source, lambda *_: wanted, size, stream)


def read_video(
    source: Source,
    *,
    num_frames: int = 16,
    sampling: Sampling = "uniform",
    start: float = 0.0,
    end: float | None = None,
    interval: float | None = None,
    size: tuple[int, int] | None = None,
    generator: torch.Generator | None = None,
    stream: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose moments and read the frames that stand on the screen then.

    Args:
        source: A path, or a binary file object.
        num_frames: Number of moments T.
        sampling: "uniform", "segment" or "dense": see `uniform_times`, `segment_times`, `dense_times`.
        start: Seconds since the first frame.
        end: Seconds; by default the end of the pictures.
        interval: Seconds between the moments of "dense"; by default one frame.
        size: (H, W) to resize to; None keeps the size.
        generator: Random numbers for "segment" and "dense".
        stream: Which video stream.

    Returns:
        Frames uint8 (T, H, W, 3), RGB, and the seconds float64 (T,) at which each was first shown.

    Raises:
        FileNotFoundError, PermissionError: As the operating system says.
        ValueError: If an argument has an unusable value, or the file is damaged or has no such stream; or if the frames
            would take more memory than the limit (`mmlearn.memory`).

    Chapter: preprocessing/video.
    """
    if sampling not in get_args(Sampling):
        raise ValueError(f"sampling is {sampling!r}; expected one of {', '.join(get_args(Sampling))}")
    if interval is not None and sampling != "dense":
        raise ValueError(f"interval is for dense sampling; sampling is {sampling!r}")
    _check_size(size)

    def choose(length: float, rate: float) -> np.ndarray:
        until = length if end is None else end
        if sampling == "uniform":
            return uniform_times(start, until, num_frames)
        if sampling == "segment":
            return segment_times(start, until, num_frames, generator)
        return dense_times(start, until, num_frames, 1 / rate if interval is None else interval, generator)

    return read_shown(source, choose, size, stream)


def to_tensor(video: np.ndarray) -> Tensor:
    """Return frames uint8 (T, H, W, C) as a tensor uint8 (C, T, H, W); encoders make it float on their device.

    Raises:
        ValueError: If the array has another shape or type.
    """
    if video.dtype != np.uint8 or video.ndim != 4:
        raise ValueError(f"video is {video.dtype} {video.shape}; expected uint8 (T, H, W, C)")
    return torch.from_numpy(np.ascontiguousarray(video.transpose(3, 0, 1, 2)))


def to_motion(video: np.ndarray) -> Tensor:
    """Return what moves, as a tensor uint8 (C, T, H, W): each frame minus the clip's mean frame, plus 128.

    What stays the same (skin, beard, light) says who speaks; what differs says what is spoken.

    Raises:
        ValueError: If the array is not uint8 (T, H, W, C).
    """
    frames = to_tensor(video).float()
    return (frames - frames.mean(dim=1, keepdim=True) + 128).round().clamp(0, 255).to(torch.uint8)


def _probe_video(container: Any, stream: Any, head: "_Head", name: str) -> VideoStream:
    """Describe one video stream, from its header, its packets' timestamps and its first frame."""
    display, frame = Display(container, stream, name), head.frame
    height, width = display.size(frame)
    rotation = _ROTATIONS.get(turns_of(frame), 0) if frame is not None else 0
    stamps = np.sort(head.stamps)
    even = np.linspace(stamps[0], stamps[-1], len(stamps)) if len(stamps) > 2 else stamps
    variable = bool((np.abs(stamps - even) > (even[1] - even[0]) / 2).any()) if len(stamps) > 2 else False
    fps = 1 / float((even[1] - even[0]) * stream.time_base) if variable else fps_of(stream)
    num_frames, duration = stream.frames or None, duration_of(container, stream)
    form = frame.format if frame is not None else stream.codec_context.format
    bits = max((component.bits for component in form.components), default=None) if form else None
    transfer = _TRANSFERS.get(frame.color_trc if frame is not None else stream.codec_context.color_trc)
    interlaced = frame is not None and bool(frame.interlaced_frame)
    return VideoStream(_codec(stream), width, height, fps, variable, num_frames, duration, rotation,
                       float(display.pixel_ratio), bits, transfer, interlaced)  # fmt: skip


class _Head:
    """The timestamps of a stream's first packets, and its first frame."""

    def __init__(self) -> None:
        self.stamps: list[int] = []
        self.frame: Any = None
        self._damaged = False  # reading it will say so

    def add(self, packet: Any) -> None:
        """Look at one more packet."""
        stamp = packet.dts if packet.pts is None else packet.pts
        self.stamps += [stamp] if packet.size and stamp is not None else []
        if self.frame is None and not self._damaged:
            try:
                self.frame = next(iter(packet.decode()), None)
            except av.error.FFmpegError:
                self._damaged = True


def _codec(stream: Any) -> str:
    return stream.codec_context.codec.canonical_name


def _check_size(size: tuple[int, int] | None) -> None:
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise ValueError(f"size is {size}; expected (height, width), both at least 1")


def _check_span(start: float, end: float, count: int) -> None:
    if not (np.isfinite(start) and np.isfinite(end) and start < end):
        raise ValueError(f"the span is {start} to {end} s; expected a start before its end, both finite")
    if count < 1 or count != int(count):
        raise ValueError(f"count is {count}; expected a whole number, at least 1")
