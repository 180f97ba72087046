"""Many streams on one clock: whatever was measured at other moments, and sound that comes too late.

Times are in seconds on the clip's own clock (`Clip.seconds`). Indices count; only times can be compared.

Chapter: preprocessing/batching.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from mmlearn.clip import Clip, Word
from mmlearn.preprocessing.audio.features import LogMel

STEP = 0.01  # seconds: the clock on which sound and picture are compared


def align(values: np.ndarray, times: np.ndarray, starts: np.ndarray, ends: np.ndarray | None = None) -> np.ndarray:
    """Average a sequence over intervals of another clock, e.g. log-mel steps over the time each frame is shown.

    Interval k takes the mean of all steps with starts[k] ≤ time < ends[k]. One without any step takes the step that is
    nearest to its middle.

    Args:
        values: (N, …), one row a step. A log-mel (M, T) is given transposed.
        times: Seconds (N,), never decreasing.
        starts: Seconds (T,), e.g. `clip.seconds("video")`, or where words begin.
        ends: Seconds (T,); by default the next start, and for the last interval the median length of the others.

    Returns:
        float64 (T, …).

    Raises:
        ValueError: If there are no steps, lengths do not agree, or an interval runs backwards.

    Chapter: preprocessing/batching.
    """
    values, times, starts = (np.asarray(array, np.float64) for array in (values, times, starts))
    if not len(values) or times.shape != values.shape[:1] or not (np.diff(times) >= 0).all():
        raise ValueError(f"values are {values.shape}, times {times.shape}; expected at least one step, and for each "
                         "a time, never decreasing")  # fmt: skip
    if ends is None:
        length = np.median(np.diff(starts)) if len(starts) > 1 else np.inf
        ends = np.append(starts[1:], starts[-1:] + length)
    ends = np.asarray(ends, np.float64)
    if starts.ndim != 1 or starts.shape != ends.shape or not (starts <= ends).all():
        raise ValueError(f"starts are {starts.shape}, ends {ends.shape}; expected as many, and none before its start")
    first, last = np.searchsorted(times, starts), np.searchsorted(times, ends)  # (T,) each
    empty = first == last
    bounds = np.stack([first, last], axis=1).ravel()  # first, last, first, last, …
    padded = np.concatenate([values, np.zeros_like(values[:1])])  # an interval may end with the last step
    sums = np.add.reduceat(padded, bounds, axis=0)[::2] if len(bounds) else values[:0]  # (T, …)
    means = sums / np.maximum(last - first, 1).reshape(-1, *[1] * (values.ndim - 1))
    if empty.any():
        means[empty] = values[nearest(times, (starts[empty] + np.minimum(ends[empty], times[-1])) / 2)]
    return means


def nearest(times: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return the index of the step whose time is nearest to each moment; of two equally near ones, the earlier.

    Args:
        times: Seconds (N,), never decreasing, at least one.
        at: Seconds (T,).

    Returns:
        int (T,).

    Chapter: preprocessing/batching.
    """
    times, at = np.asarray(times, np.float64), np.asarray(at, np.float64)
    after = np.clip(np.searchsorted(times, at), 1, max(len(times) - 1, 1))
    before = after - 1
    if len(times) == 1:
        return np.zeros(at.shape, np.int64)
    return np.where(at - times[before] <= times[after] - at, before, after)


def offset_curve(clip: Clip, max_offset: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Correlate changes in the picture with onsets in the sound, the sound being moved by each offset.

    The picture's change is the root mean square of the difference of neighbouring grey frames. The sound's onsets are
    rises of its mel bands, whose energies are compressed (power ¼) and smoothed over 80 ms, two frames. Where one
    stream has ended it counts as average, so that short overlaps earn no high score.

    Args:
        clip: With "video" and "audio", both with times.
        max_offset: Largest offset to try, in seconds.

    Returns:
        Offsets (K,) in seconds, 10 ms apart, and correlations (K,) from -1 to 1. At a positive offset the sound
            is late.

    Raises:
        ValueError: If a stream is missing, frames are fewer than three or more than 0.2 s apart, or nothing changes.

    Chapter: preprocessing/batching.
    """
    shown, samples = clip.seconds("video"), clip.seconds("audio")
    name = clip.name or "clip"
    if len(shown) < 3 or np.median(np.diff(shown)) > 0.2:
        raise ValueError(
            f"{name}: {len(shown)} frames in {np.ptp(shown):.2f} s; expected at least 3, 0.2 s apart or less"
        )
    grey = (frame.mean(axis=-1, dtype=np.float32) for frame in clip.streams["video"])  # one (H, W) at a time
    motion = np.array([np.sqrt(np.square(b - a).mean()) for a, b in pairwise(grey)])  # (T - 1,): into frames 1, 2, …
    energy = LogMel(round(clip.rates["audio"]))(clip.streams["audio"]).double().exp().numpy()  # (M, N)
    onsets = np.diff(energy**0.25, axis=1).clip(min=0).mean(axis=0)  # (N - 1,): between steps
    width = np.hanning(17)  # 80 ms at half its height
    onsets = np.convolve(onsets, width / width.sum(), mode="same")
    heard = samples[0] + (np.arange(len(onsets)) + 0.5) * STEP
    for stream, curve in {"video": motion, "audio": onsets}.items():
        if not np.ptp(curve) > 0:
            raise ValueError(f"{name}: nothing changes in {stream!r}; expected motion and sound")
    clock = np.arange(min(shown[0], heard[0]), max(shown[-1], heard[-1]), STEP)
    offsets = np.arange(-round(max_offset / STEP), round(max_offset / STEP) + 1) * STEP
    picture = np.interp(clock, shown[1:], motion - motion.mean(), left=0, right=0)
    sounds = [np.interp(clock + offset, heard, onsets - onsets.mean(), left=0, right=0) for offset in offsets]
    sound = np.interp(clock, heard, onsets - onsets.mean(), left=0, right=0)
    return offsets, np.array([picture @ moved for moved in sounds]) / np.sqrt((picture @ picture) * (sound @ sound))


def estimate_offset(clips: Clip | Sequence[Clip], max_offset: float = 0.5) -> tuple[float, float]:
    """Estimate by how much the sound comes late, from what moves and what sounds at the same time.

    The offset at which `offset_curve` is highest, refined below its 10 ms by a parabola through three points.
    Clips of one recording share their offset: give them together, and their curves are averaged.

    Args:
        clips: One clip, or several with the same offset.
        max_offset: Largest offset to try, in seconds. What repeats sooner than that is ambiguous.

    Returns:
        Seconds (negative where the sound comes early), and the correlation there, from -1 to 1.

    Raises:
        ValueError: If there is no clip, or as `offset_curve`.

    Chapter: preprocessing/batching. The question is that of Chung & Zisserman (2016), who answer it by learning.
    """
    clips = [clips] if isinstance(clips, Clip) else clips
    if not clips:
        raise ValueError("clips is empty; expected at least one")
    curves = [offset_curve(clip, max_offset) for clip in clips]
    offsets, score = curves[0][0], np.mean([curve for _, curve in curves], axis=0)  # (K,) each
    peak = int(score.argmax())
    if peak in (0, len(score) - 1):
        return float(offsets[peak]), float(score[peak])
    before, here, after = score[peak - 1 : peak + 2]
    bend = before - 2 * here + after  # negative at a peak, 0 on a plateau
    shift = 0.5 * (before - after) / bend if bend < 0 else 0.0  # in steps, from -1/2 to 1/2
    return float(offsets[peak] + shift * STEP), float(here - 0.25 * (before - after) * shift)


def delay_audio(clip: Clip, seconds: float) -> Clip:
    """Return the clip with its sound, and its words, later by that many seconds (earlier where negative).

    The sound keeps its length: silence enters at one end, and what leaves at the other is lost.

    Raises:
        ValueError: If the clip has no sound with a rate.

    Chapter: preprocessing/batching.
    """
    if "audio" not in clip.streams or "audio" not in clip.rates:
        raise ValueError(f"{clip.name or 'clip'}: no 'audio' with a rate; it has {sorted(clip.streams)}")
    sound = clip.streams["audio"]
    by = max(-len(sound), min(len(sound), round(seconds * clip.rates["audio"])))
    silence = np.zeros(abs(by), sound.dtype)
    moved = np.concatenate([silence, sound[: len(sound) - by]] if by >= 0 else [sound[-by:], silence])
    words = [Word(w.text, max(w.start + seconds, 0.0), w.end + seconds) for w in clip.words]
    return replace(clip, streams=clip.streams | {"audio": moved}, words=[w for w in words if w.start < w.end])
