"""Video files ↔ arrays: pictures, sound and subtitles in one mp4, through PyAV alone (its wheels carry FFmpeg).

Chapter: start/dataset.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from mmlearn.media.container import (
    Source,
    buffered,
    is_fragmented,
    metadata_of,
    name_of,
    open_media,
    samples_of,
    streams_of,
    subtitle_of,
)
from mmlearn.media.display import BT601, BT709, EXACT, HD, SIZE_KEY, Display, limit_decoder
from mmlearn.media.sound_levels import Mixdown, check_scale, cut_to_range, peak_of
from mmlearn.memory import Budget, Pile

# The sample rates that AAC knows (ISO/IEC 14496-3, table 1.18).
AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_CONTAINER_KEYS = {"major_brand", "minor_version", "compatible_brands", "encoder", SIZE_KEY}
_ALL_THE_SAME = 0.25  # frames that a frame may be shown away from index / fps in a file of constant rate
_REMEDY = "read fewer or smaller frames with mmlearn.preprocessing.video.read_video(num_frames=…, size=…)"
_SUBTITLE_STYLE = b"""[Script Info]
ScriptType: v4.00+
[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, Alignment
Style: Default,Arial,18,&Hffffff,2
[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


@dataclass
class MediaFile:
    """What `read_mp4` found in a file; what the file lacks is None or empty.

    Chapter: start/dataset.
    """

    video: np.ndarray | None = None  # uint8 (T, H, W, 3), RGB
    fps: float | None = None  # frames per second
    audio: np.ndarray | None = None  # float32 (S,), mono, in [-1, 1]; sample 0 sounds when frame 0 is shown
    sample_rate: int | None = None  # samples per second
    subtitles: list[tuple[float, float, str]] = field(default_factory=list)  # (start, end, text), in seconds
    metadata: dict[str, str] = field(default_factory=dict)
    times: np.ndarray | None = None  # float64 (T,): when frames are shown, seconds since frame 0; None: at index / fps


def write_mp4(
    path: str | os.PathLike[str],
    *,
    video: np.ndarray | None = None,
    fps: float | None = None,
    audio: np.ndarray | None = None,
    sample_rate: int | None = None,
    subtitles: Sequence[tuple[float, float, str]] = (),
    metadata: dict[str, str] | None = None,
    crf: int = 18,
) -> None:
    """Write an mp4 file that every browser plays: H.264 pictures, AAC sound, mov_text subtitles.

    H.264 with 4:2:0 colour wants an even height and width: an odd picture is padded at its bottom or right by
    repeating the edge, and its true size is kept in the metadata, so that `read_mp4` returns it as it was.
    Colors are encoded and labelled as players expect them: primaries and transfer curve of BT.709 (those of computer
    screens), limited range, and the matrix of BT.709 from 720 lines on, else of BT.601.
    The file appears under its name only when it is complete.

    Args:
        path: The file to write; an existing one is replaced.
        video: uint8 (T, H, W, 3), RGB.
        fps: Frames per second of `video`.
        audio: float (S,), mono, in [-1, 1]. What lies a little outside is cut off, with a warning where that can be
            heard (-60 dB of the sound or more); above 2 it is an error.
        sample_rate: Samples per second of `audio`, one of `AAC_RATES`.
        subtitles: (start, end, text) in seconds and in order; they must not overlap, and times are kept to 1 ms.
        metadata: Any entries, such as {"title": "...", "comment": "..."}.
        crf: H.264's quality, 0 (lossless) to 51; 18 looks like the original.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If there is neither video nor audio, if an argument has an unusable shape, type or value, or if the
            encoder refuses it (H.264 takes no side above 16,384).

    Chapter: start/dataset.
    """
    path = Path(path)
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(2, "no such folder to write to", str(path))
    if video is None and audio is None:
        raise ValueError(f"{path}: neither video nor audio given; an mp4 file needs at least one of them")
    if video is not None:
        _check_video(video, fps)
    if audio is not None:
        audio = _check_audio(audio, sample_rate)
    _check_subtitles(subtitles)

    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    options = {
        "movflags": "faststart+use_metadata_tags",  # the index comes first: browsers start at once
        "movie_timescale": str(sample_rate or 90000),  # the clock that says, to the sample, how long the sound is
    }
    try:
        with av.open(str(part), "w", format="mp4", options=options) as out:
            out.metadata.update(metadata or {})
            streams: dict[str, Any] = {}
            if video is not None and fps is not None:
                height, width = video.shape[1:3]
                out.metadata[SIZE_KEY] = f"{height}x{width}"
                rate = Fraction(fps).limit_denominator(1001)
                coding = {"crf": str(crf), "preset": "veryfast"}
                stream: Any = out.add_stream("libx264", rate=rate, options=coding)
                stream.height, stream.width, stream.pix_fmt = height + height % 2, width + width % 2, "yuv420p"
                coder = stream.codec_context
                coder.color_primaries = coder.color_trc = BT709
                coder.colorspace, coder.color_range = BT709 if stream.height >= HD else BT601, 1  # 1: limited
                streams["video"] = stream
            if audio is not None:
                streams["audio"] = out.add_stream("aac", rate=sample_rate, layout="mono")
            if subtitles:
                stream = streams["subtitle"] = out.add_stream("mov_text")
                stream.codec_context.subtitle_header = _SUBTITLE_STYLE
                stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
            out.start_encoding()

            packets: list[Any] = []
            if video is not None:
                packets += _encode_video(streams["video"], video)
            if audio is not None:
                packets += _encode_audio(streams["audio"], audio)
            packets += [_subtitle_packet(streams["subtitle"], *subtitle) for subtitle in subtitles]
            for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
                out.mux(packet)
        os.replace(part, path)
    except av.error.FFmpegError as error:
        what = "no video" if video is None else f"video {video.shape}"
        raise ValueError(f"{path}: the encoder refuses {what} at {fps} fps ({error.strerror})") from error
    finally:
        part.unlink(missing_ok=True)


def read_mp4(source: Source, *, overshoot: bool = False) -> MediaFile:
    """Read a whole video file into arrays: mp4, and whatever else PyAV opens (mov, mpg, avi, mkv, wav, …).

    Pictures come as a player shows them: turned as the file says (phones film upright pictures lying down), in square
    pixels, in the colors of an ordinary screen; see `mmlearn.media.display.Display`. Where
    there are several streams of a kind, the one marked as default is read; a cover picture is no video.
    Sound is mixed down to the mean of its channels, with a warning where they cancel one another. The samples that an
    AAC encoder puts before the first one (its priming) are left out, and where sound and pictures start at different
    times, silence is added or sound cut, so that both start with the first frame: sample n is heard n / sample_rate
    seconds after it. `fps` is the average rate; where frames are not shown at index / fps (to a quarter of a frame),
    `times` says when.

    A file of a few kilobytes may hold hours: what would take more memory than the limit (`mmlearn.memory`: half of what
    is free, or `MMLEARN_MEMORY_GB`) is refused, before it is decoded where the file says how long it is.

    Args:
        source: A path, or a binary file object.
        overshoot: Keep what a codec adds beyond [-1, 1]; otherwise it is cut off, with a warning where it can be heard.

    Returns:
        A `MediaFile`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is empty, is not a media file, is damaged, ends too early, or holds too much.

    Chapter: start/dataset.
    """
    source = buffered(source)
    with open_media(source) as container:
        if not streams_of(container, "video") and not streams_of(container, "audio"):
            raise ValueError(f"{name_of(source)}: found neither pictures nor sound; expected at least one of them")
        fragmented = "mp4" in container.format.name and is_fragmented(source)
        found = _decode(name_of(source), container, fragmented)
    if found.audio is not None and not overshoot:
        found.audio = cut_to_range(found.audio, name_of(source))
    return found


def _decode(name: str, container: Any, fragmented: bool) -> MediaFile:
    """Decode one stream of each kind in one pass."""
    kinds = {kind: streams_of(container, kind)[:1] for kind in ("video", "audio", "subtitle")}
    streams = [stream for found in kinds.values() for stream in found]
    media = MediaFile(metadata={k: v for k, v in metadata_of(container).items() if k not in _CONTAINER_KEYS})
    budget = Budget(name)
    pictures = [_Pictures(container, stream, name, budget) for stream in kinds["video"]]
    sounds = [_Sound(stream, name, budget) for stream in kinds["audio"]]
    for packet in container.demux(streams):
        kind = packet.stream.type
        if kind == "subtitle":
            found = subtitle_of(packet)
            media.subtitles += [found] if found else []
            continue
        for reader in pictures if kind == "video" else sounds:
            reader.add(packet)

    for reader in pictures:
        media.video, media.fps, media.times = reader.result(name)
    for reader in sounds:
        declared = None  # a file in fragments does not say how long it is: `is_fragmented` has counted them
        if "mp4" in container.format.name and reader.stream.duration and not fragmented:
            declared = round(reader.stream.duration * reader.stream.time_base * reader.stream.rate)
        media.audio, media.sample_rate = reader.result(name, pictures[0].start if pictures else None, declared)
        check_scale(peak_of(media.audio), name)
    return media


class _Pictures:
    """Decodes the frames of a video stream into one array."""

    def __init__(self, container: Any, stream: Any, name: str, budget: Budget) -> None:
        self.stream, self.budget, self.display = stream, budget, Display(container, stream, name)
        limit_decoder(stream, budget)
        self.hidden = 0  # frames that an edit list leaves out
        self.stamps: list[float | None] = []  # seconds
        self.size, self.frames = self.display.size(), Pile(budget, "", "", (), np.uint8)
        budget.check(stream.frames * math.prod(self.size) * 3, f"{stream.frames} {self._what()}", _REMEDY)

    def add(self, packet: Any) -> None:
        """Decode one packet."""
        self.hidden += bool(packet.is_discard)
        for frame in packet.decode():
            if not self.stamps:
                self.size = self.display.size(frame)
                shape, count = (*self.size, 3), self.stream.frames
                self.frames = Pile(self.budget, self._what(), _REMEDY, shape, np.uint8, count)
            self.stamps.append(frame.time)
            self.frames.append(self.display.picture(frame, self.size)[None])

    def result(self, name: str) -> tuple[np.ndarray, float, np.ndarray | None]:
        """Return frames (T, H, W, 3), their average rate and, where it is not constant, their times (T,)."""
        if len(self.stamps) < max(1, self.stream.frames - self.hidden):
            raise ValueError(f"{name}: found {len(self.stamps)} of {self.stream.frames or 'its'} frames; the file ends "
                             "too early")  # fmt: skip
        fps = float(self.stream.average_rate or self.stream.guessed_rate or 25)
        return self.frames.array(), fps, _uneven(self.stamps, fps)

    @property
    def start(self) -> float:
        """When the first frame is shown, in seconds."""
        return (self.stamps[0] if self.stamps else None) or 0.0

    def _what(self) -> str:
        return "frames of {} × {}".format(*self.size)


class _Sound:
    """Decodes the sound of an audio stream into one array."""

    def __init__(self, stream: Any, name: str, budget: Budget) -> None:
        self.stream, self.mixdown, self.budget = stream, Mixdown("mean", name), budget
        self.start, self.rate = 0.0, stream.rate
        self.samples = Pile(budget, "samples of sound", "read a part with read_audio(start=…, end=…)", (), np.float32)

    def add(self, packet: Any) -> None:
        """Decode one packet."""
        for frame in packet.decode():
            if not len(self.samples):
                self.start, self.rate = frame.time or 0.0, frame.sample_rate
            self.samples.append(self.mixdown.block(samples_of(frame).astype(np.float32)))  # (C, S') → (S',)

    def result(self, name: str, zero: float | None, declared: int | None) -> tuple[np.ndarray, int]:
        """Return samples (S,), from the first picture's time on, and their rate.

        Args:
            name: The file.
            zero: When the first picture is shown, in seconds; None: there is none.
            declared: How many samples the file says there are; the last AAC block is filled up with silence.
        """
        late = 0 if zero is None else round((self.start - zero) * self.rate)
        audio = self.mixdown.finish(self.samples.array())
        if declared is not None:
            if len(audio) < declared - 2048:  # two AAC blocks
                raise ValueError(f"{name}: found {len(audio)} of {declared} samples; the file ends too early")
            audio = audio[:declared]
        if late > 0:
            self.budget.take(4 * late, f"silence of {late / self.rate:.0f} s before the sound", _REMEDY)
            audio = np.concatenate([np.zeros(late, np.float32), audio])
        return audio[max(-late, 0) :], self.rate


def _uneven(stamps: list[float | None], fps: float) -> np.ndarray | None:
    """Return when frames are shown, in seconds since the first; None where it is at index / fps, or unknown."""
    known = [stamp for stamp in stamps if stamp is not None]
    times = np.array(known) - (known[0] if known else 0.0)
    if len(known) < len(stamps) or (np.diff(times) < 0).any():  # raw H.264 has no times, avi no order of display
        return None
    off = np.abs(times - np.arange(len(times)) / fps)
    return times if off.max(initial=0.0) * fps > _ALL_THE_SAME else None


def _encode_video(stream: Any, video: np.ndarray) -> list[Any]:
    """Encode (T, H, W, 3) into H.264 packets."""
    packets, convert, coder = [], VideoReformatter(), stream.codec_context
    height, width = video.shape[1:3]
    for picture in video:
        if height % 2 or width % 2:
            picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        matrix = Colorspace.ITU709 if coder.colorspace == BT709 else Colorspace.ITU601
        frame = convert.reformat(frame, format="yuv420p", dst_colorspace=matrix, dst_color_range=ColorRange.MPEG,
                                 interpolation=EXACT, threads=1)  # fmt: skip
        packets += stream.encode(frame)
    return packets + list(stream.encode(None))


def _encode_audio(stream: Any, audio: np.ndarray) -> list[Any]:
    """Encode (S,) into AAC packets."""
    frame = av.AudioFrame.from_ndarray(audio[None], format="fltp", layout="mono")  # (1, S)
    frame.sample_rate, frame.pts, frame.time_base = stream.rate, 0, Fraction(1, stream.rate)
    return list(stream.encode(frame)) + list(stream.encode(None))


def _subtitle_packet(stream: Any, start: float, end: float, text: str) -> Any:
    """Return a mov_text sample: two bytes of length, big-endian, then UTF-8 (3GPP TS 26.245, 5.17)."""
    data = text.encode()
    packet = av.Packet(len(data).to_bytes(2, "big") + data)
    packet.stream, packet.time_base = stream, stream.time_base
    packet.pts = packet.dts = round(start * 1000)
    packet.duration = round(end * 1000) - packet.pts
    return packet


def _check_video(video: np.ndarray, fps: float | None) -> None:
    if video.dtype != np.uint8 or video.ndim != 4 or video.shape[3] != 3 or 0 in video.shape:
        raise ValueError(f"video is {video.dtype} {video.shape}; expected uint8 (T, H, W, 3) with T, H, W ≥ 1")
    if fps is None or not 0 < fps < 1000:
        raise ValueError(f"fps is {fps}; expected frames per second, above 0 and below 1000")


def _check_audio(audio: np.ndarray, sample_rate: int | None) -> np.ndarray:
    if audio.dtype.kind != "f" or audio.ndim != 1 or not len(audio) or not np.isfinite(audio).all():
        raise ValueError(f"audio is {audio.dtype} {audio.shape}; expected finite floats (S,) with S ≥ 1")
    if sample_rate not in AAC_RATES:
        raise ValueError(f"sample_rate is {sample_rate}; expected one that AAC knows: {', '.join(map(str, AAC_RATES))}")
    check_scale(peak_of(audio), "audio")
    return cut_to_range(audio, "audio").astype(np.float32)


def _check_subtitles(subtitles: Sequence[tuple[float, float, str]]) -> None:
    before = 0.0
    for start, end, text in subtitles:
        if not before <= start < end or round(start * 1000) == round(end * 1000):
            raise ValueError(f"subtitle {text!r} runs from {start} to {end} s; expected a start at or after {before} s "
                             "(subtitles must not overlap) and an end at least 1 ms later")  # fmt: skip
        if len(text.encode()) > 65535 or not text:
            raise ValueError(f"subtitle {text[:20]!r} has {len(text.encode())} bytes; expected 1 to 65535")
        before = end
