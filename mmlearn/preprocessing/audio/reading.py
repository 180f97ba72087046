"""Read the sound of any file.

Chapter: preprocessing/audio.
"""

import os
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from math import ceil, gcd, inf
from typing import Any

import numpy as np

from mmlearn.media.container import Source, name_of, open_media, samples_of, streams_of
from mmlearn.media.sound_headers import Samples, find_samples
from mmlearn.media.sound_levels import Channel, Mixdown, check_scale, cut_to_range, is_number
from mmlearn.memory import Budget
from mmlearn.preprocessing.audio.waveform import check_audio, resample

_MP4 = "mov,mp4,m4a,3gp,3g2,mj2"  # FFmpeg's name for the family
# Containers in which one can jump to a time and know where one is; the others are decoded from their beginning.
_SEEKABLE = {_MP4, "matroska,webm", "wav", "w64", "aiff", "flac", "ogg"}
_LEAD = 0.5  # seconds decoded before the part asked for: a compressed block leans on those before it
_GAP = 0.05  # seconds that timestamps may stray before they count as a gap
_RATES = (1_000, 1_000_000)  # samples a second that a sound can have
_MOST_SILENCE = 1800.0  # seconds in gaps; with more, the clock is damaged


def read_audio(
    source: Source,
    sample_rate: int = 16_000,
    *,
    start: float = 0.0,
    end: float | None = None,
    stream: int = 0,
    channel: Channel = "mean",
) -> np.ndarray:
    """Read a file's sound as mono float32 (S,) in [-1, 1]: wav, mp3, ogg, flac, m4a, mp4, mkv, and whatever PyAV opens.

    Times count from the first picture where the file has pictures (a cover is none), else from the first sample. So
    sample n is heard n / sample_rate seconds after it; sound that begins later has silence before it, and gaps are
    silence, too. What an encoder puts before the first sample (its priming) is left out. Only
    the part asked for is decoded, where the container allows to jump; in Matroska, whose clock ticks in
    ms, it may then lie up to 1 ms off.

    Channels are averaged unless `channel` names another way. A mix that is 10 dB or more below its loudest channel
    (channels that cancel one another, or one voice among many channels) comes with a warning.

    Samples a little outside [-1, 1], as loud music has them and resampling adds them, are cut off, with a warning where
    that can be heard (-60 dB of the sound or more). Above 2 they are an error: the file has another scale.

    A file that gives its length and ends before that is an error. Some do not (ogg, mpg, ts, bare aac, recordings whose
    header was never filled in): of these you get what is there. (FFmpeg loses up to 32 ms at the end of an Ogg Vorbis
    file of a second or less.)

    Args:
        source: A path, or a binary file object.
        sample_rate: Samples a second wanted.
        start: Seconds.
        end: Seconds; by default, or if it lies beyond, the end of the sound.
        stream: Which of the file's audio streams, the default one first.
        channel: A channel's number, from 0; "mean"; "loudest", the one with the most power in the part that is read; or
            "bs775", the weights of ITU-R BS.775: see `mmlearn.preprocessing.audio.to_mono`.

    Raises:
        FileNotFoundError, PermissionError, TypeError: As `mmlearn.media.open_media`.
        ValueError: If the file is empty, no media file, damaged or too short, has no such audio stream or channel, has
            no sample between `start` and `end`, or holds values that are not finite or above 2.

    Chapter: preprocessing/audio.
    """
    if not is_number(sample_rate) or sample_rate != int(sample_rate) or sample_rate < 1:
        raise ValueError(f"sample_rate is {sample_rate}; expected a whole number of samples a second, at least 1")
    sample_rate = int(sample_rate)
    if not 0 <= start < (inf if end is None else end):
        raise ValueError(f"start is {start}, end is {end}; expected 0 ≤ start < end")
    name = name_of(source)
    mixdown = Mixdown(channel, name)
    with open_media(source) as container:
        sounds, pictures = streams_of(container, "audio"), streams_of(container, "video")
        if not 0 <= stream < len(sounds):
            raise ValueError(
                f"{name}: no audio stream {stream}; found {len(sounds)} of sound, {len(pictures)} of pictures"
            )
        rate = sounds[stream].rate if sounds[stream].codec_context else 0
        if not _RATES[0] <= rate <= _RATES[1]:
            raise ValueError(f"{name}: audio stream {stream} has {rate} samples a second; expected {_RATES[0]} to "
                             f"{_RATES[1]}, in a format that FFmpeg knows; the file seems damaged")  # fmt: skip
        step_in, step_out = rate // gcd(rate, sample_rate), sample_rate // gcd(rate, sample_rate)
        first, last = round(start * sample_rate), None if end is None else round(end * sample_rate)
        # begin a little earlier, for the filter of `resample`, at a moment where both rates have a sample
        steps = max(0, first - sample_rate // 20) // step_out
        limit = None if last is None else ceil(last / step_out) * step_in + rate // 20
        audio = _decode(mixdown, container, sounds[stream], pictures, steps * step_in, limit)
    found = _check_whole(source)
    if found is not None and found.declared == 0:  # what stands behind no samples is none; FFmpeg reads it
        audio = audio[..., :0]
    first, last = first - steps * step_out, None if last is None else last - steps * step_out
    if len(audio):
        check_audio(audio, name)
        check_scale(mixdown.peak, name)
        audio = resample(audio, rate, sample_rate)[first:last]
    if len(audio) == 0:
        raise ValueError(f"{name}: no sound" + (f" after {start} s" if start else "; expected at least one sample"))
    return cut_to_range(audio, name)


def _decode(
    mixdown: Mixdown, container: Any, stream: Any, pictures: list[Any], first: int, last: int | None
) -> np.ndarray:
    """Return samples first … last (or the end) of an audio stream, at its own rate, counted from the first picture."""
    frames = container.decode(stream)
    head = next(frames, None)
    if head is None:
        return np.zeros(0, np.float32)
    zero = _begin(pictures[0]) if pictures else head.time or 0.0
    frames = chain([head], frames)
    if first > 2 * _LEAD * stream.rate and container.format.name in _SEEKABLE:
        container.seek(int((zero + first / stream.rate - _LEAD) / stream.time_base), stream=stream)
        frames = container.decode(stream)
    blocks, end = [], first  # end: the number of the sample after the last one
    budget, told = Budget(mixdown.name), _declared_end(container, stream)
    expected = round((told - zero) * stream.rate) if told is not None else 0
    _check_memory(budget, min(expected, last or expected) - first, stream.rate)
    for at, block in _blocks(mixdown, frames, stream.rate, zero):
        blocks.append((at, block))
        end = at + block.shape[-1]
        _check_memory(budget, (end - first) * (block.size // max(block.shape[-1], 1)), stream.rate)
        if last is not None and end >= last:
            end = last
            break
    else:
        missing = 0 if told is None else expected - end
        if told is not None and missing > 4096:
            found = zero + end / stream.rate
            raise ValueError(f"{mixdown.name}: found {found:.2f} of {told:.2f} s of sound; the file ends too early")
        if container.format.name == _MP4 and -2048 < missing < 0:  # silence that fills the last AAC block
            end += missing
    out = np.zeros((*blocks[0][1].shape[:-1], max(0, end - first)), np.float32) if blocks else np.zeros(0, np.float32)
    for at, block in blocks:
        if block.shape[:-1] != out.shape[:-1]:
            raise ValueError(f"{mixdown.name}: {len(out)} channels become {len(block)} on the way; expected one number "
                             'of them, or another `channel` than "loudest"')  # fmt: skip
        part = block[..., max(first - at, 0) : max(end - at, 0)]
        place = max(at - first, 0)
        out[..., place : place + part.shape[-1]] = part
    return mixdown.finish(out) if blocks else out


def _check_memory(budget: Budget, samples: int, rate: int) -> None:
    """Make sure that there is room for so many samples: once in blocks, once put together."""
    budget.check(8 * samples, f"{samples / rate:.0f} s of sound", "read a part with read_audio(start=…, end=…)")


def _blocks(mixdown: Mixdown, frames: Iterable[Any], rate: int, zero: float) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the number of each block's first sample, and the block, float32 (S',) or what `mixdown` makes of it.

    Sample 0 is heard at `zero`.
    """
    after, silent, name = None, 0, mixdown.name
    for frame in frames:
        if frame.sample_rate != rate:
            raise ValueError(f"{name}: the sample rate changes from {rate} to {frame.sample_rate} on the way")
        at = after or 0
        if frame.time is not None:
            told = round((frame.time - zero) * rate)
            if after is None or told - after > _GAP * rate:
                at = told
        silent += max(at - (after or 0), 0)
        if silent > _MOST_SILENCE * rate:
            raise ValueError(f"{name}: gaps of {silent / rate:.0f} s in the sound; the file seems damaged")
        names = [channel.name for channel in frame.layout.channels]
        block = mixdown.block(samples_of(frame), names).astype(np.float32)
        yield at, block
        after = at + block.shape[-1]


def _begin(stream: Any) -> float:
    """Return when a stream begins, in seconds."""
    return float((stream.start_time or 0) * stream.time_base)


def _declared_end(container: Any, stream: Any) -> float | None:
    """Return when the sound ends, in seconds, where the file itself says so (for others FFmpeg guesses)."""
    form = container.format.name
    told = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if form == "matroska,webm" and told:
        return int(told[1]) * 3600 + int(told[2]) * 60 + float(told[3])
    says = form in {_MP4, "flac"} or (form == "mp3" and stream.start_time)  # mp3: LAME's header
    return _begin(stream) + float(stream.duration * stream.time_base) if says and stream.duration else None


def _check_whole(source: Source) -> Samples | None:
    """Compare the length that the header of a wav file and its like gives with the file's own; FFmpeg does not.

    Returns where the samples are, for files of that kind.
    """
    found: Samples | None = None
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as file:
            found = find_samples(file)
    elif source.seekable():
        found = find_samples(source)
    if found and found.missing:
        size, declared = found.at + found.present, found.at + (found.declared or 0)
        raise ValueError(f"{name_of(source)}: found {size} of {declared} bytes; the file ends too early")
    return found
