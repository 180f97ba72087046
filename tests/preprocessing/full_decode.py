"""The other way to read a file: decode all of it in order, with PyAV or Pillow alone, and look up what was asked for.

What a reader returns must be what stands on the screen, and sounds, in a full decode. One thing is not promised: where
the decoder itself finds the data damaged (it raises, or marks a frame that it patched), what it patches with depends on
what it decoded before, so that a decode from the keyframe may show other pictures than one from the start. Such cases
raise `Patched`, and are counted. And where a splice repeats a span, so that the clock goes back, either copy may be
shown: a reader that jumps meets the second, one that plays on passes it over.
"""

from dataclasses import dataclass, field
from io import BytesIO
from itertools import pairwise
from typing import Any

import av
import numpy as np

from mmlearn.media.container import open_media, streams_of
from mmlearn.media.display import Display

NEAR = 2.0  # levels by which pictures may differ on average: rounding
CLOCK = 1e-3  # seconds: Matroska's clock


class Patched(Exception):
    """The result differs where the decoder itself found damage."""


@dataclass
class Pictures:
    """All frames of a full decode, in the decoder's order."""

    frames: list[np.ndarray] = field(default_factory=list)
    times: list[float | None] = field(default_factory=list)  # seconds
    damaged: bool = False


def require(true: bool, damaged: bool, what: str) -> None:
    """Raise where a result differs from the full decode."""
    if not true:
        raise Patched(what) if damaged else AssertionError(f"differs from a full decode: {what}")


def decode_pictures(source: Any, size: tuple[int, int] | None) -> Pictures:
    """Decode all pictures of the first video stream, on one thread, going on behind damage as a player does."""
    rewind(source)
    found = Pictures()
    with open_media(source) as container:
        stream = streams_of(container, "video")[0]
        stream.codec_context.thread_count = 1
        display = Display(container, stream, "full decode")
        try:
            for packet in container.demux(stream):
                found.damaged |= packet.is_corrupt
                try:
                    frames = packet.decode()
                except av.error.FFmpegError:
                    found.damaged = True
                    continue
                for frame in frames:
                    found.damaged |= frame.is_corrupt
                    size = size or display.size(frame)
                    found.frames.append(display.picture(frame, size))
                    found.times.append(frame.time)
        except av.error.FFmpegError:
            found.damaged = True
    return found


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Tell whether two pictures are one, but for rounding."""
    return a.shape == b.shape and float(np.abs(a.astype(int) - b.astype(int)).mean()) <= NEAR


def compare_shown(source: Any, asked: np.ndarray | None, frames: np.ndarray, shown: np.ndarray) -> None:
    """Compare frames at given times (or None: at those returned) with the full decode."""
    whole = decode_pictures(source, frames.shape[1:3])
    require(bool(whole.frames), whole.damaged, "no frame")
    times = screen_times(whole)
    if times is None:  # a container without clock: frames are counted
        require(all(any(same(f, g) for g in whole.frames) for f in frames), whole.damaged, "a picture of no frame")
        return
    back = len(times) < len(whole.times)
    if back:
        first = whole.times[0] or 0.0
        times = sorted(((n, (t or 0.0) - first) for n, t in enumerate(whole.times)), key=lambda pair: pair[1])
    moments = [t for _, t in times]
    for k, (frame, moment) in enumerate(zip(frames, shown, strict=True)):
        place = max(int(np.searchsorted(moments, (moment if asked is None else asked[k]) + CLOCK, "right")) - 1, 0)
        if back:  # the last moment that either way of playing it has shown by then
            place = max(int(np.searchsorted(moments, moment + CLOCK, "right")) - 1, 0)
        require(abs(moments[place] - moment) <= 2 * CLOCK, whole.damaged,
                f"frame {k} is said to be shown at {moment}, is at {moments[place]}")  # fmt: skip
        at = [whole.frames[n] for n, t in times if abs(t - moments[place]) <= CLOCK]
        require(any(same(frame, g) for g in at), whole.damaged, f"picture {k}, shown at {moment}")


def screen_times(whole: Pictures) -> list[tuple[int, float]] | None:
    """Return (number of the frame, seconds since the first); frames that go back in time are not shown."""
    if any(time is None for time in whole.times):
        return None
    found: list[tuple[int, float]] = []
    for number, time in enumerate(whole.times):
        assert time is not None and whole.times[0] is not None
        if not found or time - whole.times[0] >= found[-1][1]:
            found.append((number, time - whole.times[0]))
    return found


def compare_all(source: Any, media: Any) -> None:
    """Compare what `read_mp4` returns with the full decode: every picture in order, and the sound."""
    if media.video is not None:
        whole = decode_pictures(source, media.video.shape[1:3])
        require(len(whole.frames) == len(media.video), whole.damaged,
                f"{len(media.video)} frames, {len(whole.frames)} in a full decode")  # fmt: skip
        same_all = all(same(a, b) for a, b in zip(media.video, whole.frames, strict=False))
        require(same_all, whole.damaged, "pictures")
        if media.times is not None:
            times = [t for t in whole.times if t is not None]
            wrong = np.abs(media.times - (np.array(times) - times[0])).max() if len(times) == len(media.times) else 9
            require(wrong < CLOCK, whole.damaged, "times")


def compare_sound(source: Any, audio: np.ndarray, rate: int) -> None:
    """Compare sound at the file's own rate with all that is decoded, in order; gaps and cut ends are silence."""
    rewind(source)
    blocks, damaged = [], False
    with open_media(source) as container:
        stream = streams_of(container, "audio")[0]
        try:
            for packet in container.demux(stream):
                for frame in packet.decode():
                    blocks.append((frame.time, mono(frame)))
        except av.error.FFmpegError:
            damaged = True
    samples = np.concatenate([np.clip(block, -1, 1) for _, block in blocks] or [np.zeros(0)])
    gaps = any(a[0] is None or b[0] is None or abs(a[0] + len(a[1]) / rate - b[0]) > 0.02
               for a, b in pairwise(blocks))  # fmt: skip
    if gaps:  # compared by their loudest part only: what was decoded must be there
        power, heard = float((samples**2).sum()), float((audio**2).sum())
        require(heard <= 1.05 * power + 1e-3, damaged, f"more sound ({heard:.3g}) than was decoded ({power:.3g})")
        return
    short = min(len(samples), len(audio))
    if not short:
        return
    lags = {0, len(audio) - len(samples)} | {round(block[0] * rate) for block in blocks[:1] if block[0] is not None}
    error = min(lag_error(audio, samples, lag) for lag in lags)
    require(error < 1e-3, damaged, f"{len(audio)} samples, {len(samples)} decoded; they differ by {error:.3g}")


def lag_error(audio: np.ndarray, samples: np.ndarray, lag: int) -> float:
    """Return how far sound is from samples put `lag` later (or cut), where both are."""
    audio, samples = audio[max(lag, 0) :], samples[max(-lag, 0) :]
    count = min(len(audio), len(samples))
    if not count:
        return 0.0
    return float(np.abs(audio[:count] - samples[:count]).max())


def mono(frame: Any) -> np.ndarray:
    """Return a block's mean over channels, float64 (S',)."""
    resampler = av.AudioResampler(format="dbl", layout="mono" if frame.layout.nb_channels == 1 else frame.layout.name)
    return np.concatenate([b.to_ndarray().reshape(-1, b.layout.nb_channels).mean(1) for b in resampler.resample(frame)])


def compare_picture(data: bytes, picture: np.ndarray) -> None:
    """Compare a picture with Pillow's."""
    from PIL import Image, ImageFile, ImageOps

    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        with Image.open(BytesIO(data)) as file:
            file.load()
            kept = ImageOps.exif_transpose(file)
            if picture.dtype != np.uint8 or kept.mode not in ("L", "P", "RGB"):
                require(picture.shape[:2] == kept.size[::-1], False, f"{picture.shape}, Pillow {kept.size}")
                return
            if "transparency" in kept.info:
                return
            reference = np.asarray(kept.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise AssertionError(f"differs from a full decode: Pillow refuses it: {error}") from None
    require(same(picture, reference), False, "pixels")


def rewind(source: Any) -> None:
    if hasattr(source, "seek"):
        source.seek(0)
