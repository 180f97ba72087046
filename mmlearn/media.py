"""Video files ↔ arrays: pictures, sound and subtitles in one mp4, through PyAV alone (its wheels carry FFmpeg).

Chapter: start/dataset.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from mmlearn.containers import SIZE_KEY, Source, name_of, open_media, streams_of, subtitle_of, to_rgb

# The sample rates that AAC knows (ISO/IEC 14496-3, table 1.18).
AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_CONTAINER_KEYS = {"major_brand", "minor_version", "compatible_brands", "encoder", SIZE_KEY}
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
    The file appears under its name only when it is complete.

    Args:
        path: The file to write; an existing one is replaced.
        video: uint8 (T, H, W, 3), RGB.
        fps: Frames per second of `video`.
        audio: float (S,), mono, in [-1, 1]; what lies outside is clipped.
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


def read_mp4(source: Source) -> MediaFile:
    """Read a whole video file into arrays: mp4, and whatever else PyAV opens (mov, mpg, avi, mkv, wav, …).

    Pictures come as a player shows them: turned as the file says (phones film upright pictures lying down). Where
    there are several streams of a kind, the one marked as default is read; a cover picture is no video.
    Sound is mixed down to mono. The samples that an AAC encoder puts before the first one (its priming) are left out,
    and where sound and pictures start at different times, silence is added or sound cut, so that both start with
    the first frame: sample n is heard n / sample_rate seconds after it. `fps` is the average rate.

    Args:
        source: A path, or a binary file object.

    Returns:
        A `MediaFile`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is empty, is not a media file, is damaged, or ends too early.

    Chapter: start/dataset.
    """
    with open_media(source) as container:
        if not streams_of(container, "video") and not streams_of(container, "audio"):
            raise ValueError(f"{name_of(source)}: found neither pictures nor sound; expected at least one of them")
        return _decode(name_of(source), container)


def _decode(name: str, container: Any) -> MediaFile:
    """Decode one stream of each kind in one pass."""
    kinds = {kind: streams_of(container, kind)[:1] for kind in ("video", "audio", "subtitle")}
    streams = [stream for found in kinds.values() for stream in found]
    media = MediaFile(metadata={k: v for k, v in container.metadata.items() if k not in _CONTAINER_KEYS})
    frames: list[np.ndarray] = []
    blocks: list[np.ndarray] = []
    start = {"video": 0.0, "audio": 0.0}  # seconds
    reformatter, to_float, hidden = VideoReformatter(), av.AudioResampler(format="flt"), 0
    for packet in container.demux(streams):
        kind = packet.stream.type
        if kind == "subtitle":
            found = subtitle_of(packet)
            media.subtitles += [found] if found else []
            continue
        hidden += kind == "video" and packet.is_discard  # an edit list leaves it out
        for frame in packet.decode():
            if kind == "video":
                start[kind] = start[kind] if frames else frame.time or 0.0
                frames.append(to_rgb(container, frame, reformatter, frames[0].shape[:2] if frames else None))
            else:
                start[kind] = start[kind] if blocks else frame.time or 0.0
                media.sample_rate = frame.sample_rate
                for block in to_float.resample(frame):  # interleaved: PyAV 18 reads planes of eight channels wrongly
                    blocks.append(block.to_ndarray().reshape(-1, block.layout.nb_channels).mean(1))  # (S',)

    for stream in kinds["video"]:
        if len(frames) < max(1, stream.frames - hidden):
            raise ValueError(f"{name}: found {len(frames)} of {stream.frames or 'its'} frames; the file ends too early")
        media.video, media.fps = np.stack(frames), float(stream.average_rate or stream.guessed_rate)
    for stream in kinds["audio"]:
        media.audio = np.concatenate(blocks).astype(np.float32) if blocks else np.zeros(0, np.float32)
        if "mp4" in container.format.name and stream.duration:  # the last AAC block is filled up with silence
            length = round(stream.duration * stream.time_base * stream.rate)
            if len(media.audio) < length - 2048:  # two AAC blocks
                raise ValueError(f"{name}: found {len(media.audio)} of {length} samples; the file ends too early")
            media.audio = media.audio[:length]
        if media.video is not None and media.sample_rate:
            late = round((start["audio"] - start["video"]) * media.sample_rate)
            media.audio = np.pad(media.audio, (max(late, 0), 0))[max(-late, 0) :]
        media.audio = np.clip(media.audio, -1, 1)
        media.sample_rate = media.sample_rate or stream.rate
    return media


def _encode_video(stream: Any, video: np.ndarray) -> list[Any]:
    """Encode (T, H, W, 3) into H.264 packets."""
    packets = []
    height, width = video.shape[1:3]
    for picture in video:
        if height % 2 or width % 2:
            picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        packets += stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24"))
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
    return np.clip(audio, -1, 1).astype(np.float32)


def _check_subtitles(subtitles: Sequence[tuple[float, float, str]]) -> None:
    before = 0.0
    for start, end, text in subtitles:
        if not before <= start < end or round(start * 1000) == round(end * 1000):
            raise ValueError(f"subtitle {text!r} runs from {start} to {end} s; expected a start at or after {before} s "
                             "(subtitles must not overlap) and an end at least 1 ms later")  # fmt: skip
        if len(text.encode()) > 65535 or not text:
            raise ValueError(f"subtitle {text[:20]!r} has {len(text.encode())} bytes; expected 1 to 65535")
        before = end
