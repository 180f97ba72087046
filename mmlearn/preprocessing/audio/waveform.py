"""Sound as an array: rate, level, noise, length. Everything takes and gives floats (S,) and keeps their type.

Chapter: preprocessing/audio.
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
from torch import Tensor

from mmlearn.media.sound_levels import Channel, Mixdown, is_number

MOST_CHANNELS = 64  # more "channels" than this, and more than samples, are samples


def as_array(audio: np.ndarray, name: str = "audio") -> np.ndarray:
    """Return what other libraries give for sound (arrays of any byte order, lists, tensors on the CPU) as an array.

    Raises:
        TypeError: If it is a tensor that is on another device or requires a gradient, or a pair of sound and rate.
        ValueError: If it is a list of lists of unequal length.

    Chapter: preprocessing/audio.
    """
    if isinstance(audio, tuple) and len(audio) == 2 and min(map(np.ndim, audio)) == 0 < max(map(np.ndim, audio)):
        raise TypeError(f"{name} is a pair; expected the sound alone: soundfile, librosa, torchaudio and SciPy return "
                        "sound and rate together")  # fmt: skip
    if isinstance(audio, Tensor) and (audio.requires_grad or audio.device.type != "cpu" or audio.itemsize < 2):
        raise TypeError(f"{name} is a tensor {audio.dtype} on {audio.device}, requires_grad={audio.requires_grad}; "
                        "expected an array: .detach().cpu().numpy() gives it")  # fmt: skip
    try:
        array = np.asarray(audio.float() if isinstance(audio, Tensor) and audio.is_floating_point()
                           and audio.itemsize == 2 else audio)  # fmt: skip
    except ValueError:
        raise ValueError(f"{name} is a {type(audio).__name__} of unequal parts; expected floats (S,)") from None
    if array.dtype.kind == "f" and (not array.dtype.isnative or array.dtype.itemsize > 8):
        array = array.astype(f"f{min(array.dtype.itemsize, 8)}")
    return array


def check_audio(audio: np.ndarray, name: str = "audio", ndim: int = 1) -> np.ndarray:
    """Return the sound if it is finite floats (S,), or (C, S) with `ndim` 2, and not empty.

    Raises:
        ValueError: If it is not; it says what was found.

    Chapter: preprocessing/audio.
    """
    audio = as_array(audio, name)
    shape = "(S,)" if ndim == 1 else "(C, S)"
    if audio.dtype.kind in "iu":
        half = 2 ** (8 * audio.dtype.itemsize - 1)
        remedy = f"divide by {half}" if audio.dtype.kind == "i" else f"subtract {half}, then divide by {half}"
        raise ValueError(f"{name} is {audio.dtype} {audio.shape}; expected floats in [-1, 1], {shape}"
                         + (f": {remedy}" if half < 2**63 else ""))  # fmt: skip
    if audio.ndim == 2 > ndim and 0 not in audio.shape:
        turned = f"{name}.T" if audio.shape[0] > audio.shape[1] else name
        raise ValueError(f"{name} is {audio.dtype} {audio.shape}; expected floats (S,): to_mono({turned}) mixes its "
                         "channels down, or take one of them")  # fmt: skip
    if audio.dtype.kind != "f" or audio.ndim != ndim or audio.size == 0:
        raise ValueError(f"{name} is {audio.dtype} {audio.shape}; expected floats {shape} with S ≥ 1")
    if not np.isfinite(audio).all():
        at = np.argwhere(~np.isfinite(audio))[0]
        raise ValueError(f"{name} has a value {audio[tuple(at)]} at {at.tolist()}; expected finite numbers")
    return audio


def to_mono(audio: np.ndarray, channel: Channel = "mean") -> np.ndarray:
    """Return one channel for all, (C, S) → (S,); mono (S,) stays as it is.

    Args:
        audio: float (C, S). (soundfile and SciPy give (S, C): transpose it.)
        channel: A channel's number, from 0; "mean", the mean of all; "loudest", the one with the most power; or
            "bs775", the sum with the weights of ITU-R BS.775 for channels in the order of wav files (front left, right
            and centre, low-frequency effects, surround left and right): √½, √½, 1, 0, ½, ½. A voice in the centre keeps
            its level; the sum may exceed 1.

    Warns:
        UserWarning: If the mix is 10 dB or more below its loudest channel, as where two channels cancel one another.

    Raises:
        ValueError: If the array is not finite floats of one of these shapes, there is no such channel, or BS.775 has no
            weights for so many.

    Chapter: preprocessing/audio.

    Examples:
        >>> to_mono(np.array([[0.5, -0.5], [0.25, 0.75]], np.float32)).tolist()
        [0.375, 0.125]
    """
    array = as_array(audio)
    array = check_audio(array, ndim=min(array.ndim, 2) or 1)
    mixdown = Mixdown(channel)
    channels = array if array.ndim == 2 else array[None]
    if len(channels) > max(MOST_CHANNELS, channels.shape[1]) or channels.shape[1] == 2 < len(channels):
        raise ValueError(f"audio is {array.dtype} {array.shape}; expected (C, S): is this (S, C)? Then give audio.T")
    return mixdown.finish(mixdown.block(channels))


def resample(audio: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Return the sound at another sample rate, (S,) → (⌈S · to_rate / from_rate⌉,).

    What lies above half the new rate is filtered out first, by soxr's band-limited interpolation ("HQ").

    Args:
        audio: float (S,).
        from_rate: Its samples a second.
        to_rate: Those wanted.

    Raises:
        ValueError: If a rate is not a positive integer, or the audio is not finite floats (S,).

    Chapter: preprocessing/audio.
    """
    import soxr

    audio = check_audio(audio)
    for name, rate in (("from_rate", from_rate), ("to_rate", to_rate)):
        if not is_number(rate) or rate != int(rate) or rate < 1:
            raise ValueError(f"{name} is {rate}; expected a whole number of samples a second, at least 1")
    if from_rate == to_rate:
        return audio
    length = -(-len(audio) * int(to_rate) // int(from_rate))  # rounded up
    samples = audio.astype(np.promote_types(audio.dtype, np.float32), copy=False)  # soxr has no half precision
    return pad_or_cut(soxr.resample(samples, from_rate, to_rate, quality="HQ"), length).astype(audio.dtype, copy=False)


def level(audio: np.ndarray) -> float:
    """Return the mean power in decibels relative to a square wave of amplitude 1 (dBFS); silence is -inf.

    Raises:
        ValueError: If the audio is not finite floats (S,).

    Chapter: preprocessing/audio.

    Examples:
        >>> round(level(np.full(100, 0.1, np.float32)), 3)
        -20.0
    """
    return _decibels(_power(check_audio(audio)))


def snr(clean: np.ndarray, noisy: np.ndarray) -> float:
    """Return the signal-to-noise ratio in decibels; the noise is whatever differs from the clean sound.

    Equal sounds give inf; a silent clean sound gives -inf.

    Args:
        clean: float (S,).
        noisy: The same shape.

    Raises:
        ValueError: If they are not finite floats of one shape.

    Chapter: preprocessing/audio.
    """
    clean, noisy = check_audio(clean, "clean"), check_audio(noisy, "noisy")
    if clean.shape != noisy.shape:
        raise ValueError(f"noisy is {noisy.shape}, clean is {clean.shape}; expected equal shapes")
    noise = _power(noisy.astype(np.float64) - clean)
    return math.inf if noise == 0 else _decibels(_power(clean) / noise)


def mix(
    speech: np.ndarray, noise: np.ndarray, snr_db: float, generator: np.random.Generator | None = None
) -> np.ndarray:
    r"""Add noise so that the mean power of speech over that of noise is exactly the ratio asked for.

    .. math:: x = s + n \sqrt{P_s / P_n} \, 10^{-\mathrm{SNR}/20}

    The result may leave [-1, 1]. Where speech or noise is silent altogether there is no ratio: they are added as they
    are.

    Args:
        speech: float (S,).
        noise: float (N,); what is too long is cut, what is too short is repeated.
        snr_db: Signal-to-noise ratio in decibels.
        generator: Chooses where in the noise to begin; without one, at its first sample.

    Raises:
        ValueError: If a sound is not finite floats (S,), or the ratio is not finite.

    Chapter: preprocessing/audio.
    """
    speech, noise = check_audio(speech, "speech"), check_audio(noise, "noise")
    if not math.isfinite(snr_db):
        raise ValueError(f"snr_db is {snr_db}; expected a finite number of decibels")
    begin = 0 if generator is None else int(generator.integers(len(noise)))
    if begin or len(noise) != len(speech):
        noise = np.take(noise, np.arange(begin, begin + len(speech)), mode="wrap")
    power, other = _power(speech), _power(noise)
    if power == 0 or other == 0:
        return (speech + noise).astype(speech.dtype)
    return (speech + noise * (np.sqrt(power / other) * 10 ** (-snr_db / 20))).astype(speech.dtype)


def trim(audio: np.ndarray, sample_rate: int, top_db: float = 40.0) -> tuple[np.ndarray, tuple[float, float]]:
    """Cut the silence before and after a sound.

    Silent are the blocks of 10 ms whose energy lies at least `top_db` below that of the loudest. No other block is cut.

    Args:
        audio: float (S,).
        sample_rate: Its samples a second.
        top_db: Decibels below the loudest block, positive.

    Returns:
        What is left, and (start, end), in seconds, of where it was. Silence throughout is left whole.

    Raises:
        ValueError: If the audio is not finite floats (S,), or `sample_rate` or `top_db` is not positive.

    Chapter: preprocessing/audio.
    """
    audio = check_audio(audio)
    if not (top_db > 0 and sample_rate > 0):
        raise ValueError(f"top_db is {top_db}, sample_rate is {sample_rate}; expected both above 0")
    step = max(1, int(sample_rate) // 100)
    energy = np.add.reduceat(audio.astype(np.float64) ** 2, np.arange(0, len(audio), step))  # of each 10 ms
    loud = np.flatnonzero(energy > energy.max() * 10 ** (-top_db / 10))
    first, last = (loud[0] * step, min((loud[-1] + 1) * step, len(audio))) if len(loud) else (0, len(audio))
    return audio[first:last], (float(first / sample_rate), float(last / sample_rate))


def pad_or_cut(
    audio: np.ndarray,
    length: int,
    keep: Literal["start", "centre", "random"] = "start",
    generator: np.random.Generator | None = None,
) -> np.ndarray:
    """Return exactly `length` samples: what is too long is cut, what is too short is filled up with zeros.

    Args:
        audio: float (S,); here S may be 0.
        length: Samples wanted.
        keep: Which part of a long sound is kept, and where a short one lies: at the start, in the centre, or anywhere.
        generator: For "random".

    Raises:
        ValueError: If `length` is not positive, `keep` is unknown, or "random" comes without a generator.

    Chapter: preprocessing/audio.

    Examples:
        >>> pad_or_cut(np.ones(2, np.float32), 4).tolist()
        [1.0, 1.0, 0.0, 0.0]
    """
    audio = as_array(audio)
    whole = is_number(length) and length >= 1 and length == int(length)
    if audio.ndim != 1 or audio.dtype.kind not in "fiu" or not whole:
        raise ValueError(f"audio is {audio.dtype} {audio.shape}, length is {length}; expected numbers (S,), and a "
                         "whole length of at least 1")  # fmt: skip
    length = int(length)
    spare = abs(len(audio) - length)
    if keep == "random" and generator is not None:
        before = int(generator.integers(spare + 1))
    elif keep in ("start", "centre"):
        before = spare // 2 if keep == "centre" else 0
    else:
        raise ValueError(f'keep is {keep!r}, generator is {generator}; expected "start", "centre", '
                         'or "random" with a generator')  # fmt: skip
    if len(audio) >= length:
        return audio[before : before + length]
    return np.pad(audio, (before, spare - before))


def pre_emphasis(audio: np.ndarray, coefficient: float = 0.97) -> np.ndarray:
    """Return y[n] = x[n] - coefficient · x[n - 1], with x[-1] = 0: high frequencies stronger, low ones weaker.

    Raises:
        ValueError: If the audio is not finite floats (S,), or the coefficient not in [0, 1).

    Chapter: preprocessing/audio.
    """
    audio = check_audio(audio)
    _check_coefficient(coefficient)
    out = audio.copy()
    out[1:] -= audio.dtype.type(coefficient) * audio[:-1]
    return out


def de_emphasis(audio: np.ndarray, coefficient: float = 0.97) -> np.ndarray:
    """Undo `pre_emphasis`: y[n] = x[n] + coefficient · y[n - 1].

    Raises:
        ValueError: If the audio is not finite floats (S,), or the coefficient not in [0, 1).

    Chapter: preprocessing/audio.
    """
    from scipy.signal import lfilter

    audio = check_audio(audio)
    _check_coefficient(coefficient)
    return lfilter([1.0], [1.0, -coefficient], audio.astype(np.float64)).astype(audio.dtype)


def time_stretch(audio: np.ndarray, rate: float) -> np.ndarray:
    """Return the sound faster (rate above 1) or slower at the same pitch, (S,) → (round(S / rate),): phase vocoder.

    Raises:
        ValueError: If the audio is not finite floats (S,), or the rate not in [0.1, 10].

    Chapter: preprocessing/audio.
    """
    import librosa

    audio = check_audio(audio)
    if not 0.1 <= rate <= 10:
        raise ValueError(f"rate is {rate}; expected 0.1 to 10")
    samples = audio.astype(np.promote_types(audio.dtype, np.float32), copy=False)
    with _without_its_own_warning():
        stretched = librosa.effects.time_stretch(pad_or_cut(samples, max(len(audio), 2048)), rate=rate)  # one window
    return pad_or_cut(stretched, max(1, round(len(audio) / rate))).astype(audio.dtype)


def pitch_shift(audio: np.ndarray, sample_rate: int, semitones: float) -> np.ndarray:
    """Return the sound higher (semitones above 0) or lower at the same length: stretched in time, then resampled.

    Raises:
        ValueError: If the audio is not finite floats (S,), or there are more than 24 semitones.

    Chapter: preprocessing/audio.
    """
    import librosa

    audio = check_audio(audio)
    if not -24 <= semitones <= 24:
        raise ValueError(f"semitones is {semitones}; expected -24 to 24")
    if not is_number(sample_rate) or sample_rate < 1:
        raise ValueError(f"sample_rate is {sample_rate}; expected samples a second, at least 1")
    long = pad_or_cut(audio.astype(np.promote_types(audio.dtype, np.float32), copy=False), max(len(audio), 2048))
    with _without_its_own_warning():
        shifted = librosa.effects.pitch_shift(long, sr=sample_rate, n_steps=semitones)
    return pad_or_cut(shifted, len(audio)).astype(audio.dtype)


@contextmanager
def _without_its_own_warning() -> Iterator[None]:
    """Silence what librosa 1.0 warns of itself: deprecated arguments that it passes, and casts in numba."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"The `(hop_length|n_fft)` parameter is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", "invalid value encountered in cast", RuntimeWarning)  # by NumPy 2.5
        yield


def _power(audio: np.ndarray) -> float:
    return float(np.mean(audio.astype(np.float64) ** 2))


def _decibels(power: float) -> float:
    return 10 * math.log10(power) if power > 0 else -math.inf


def _check_coefficient(coefficient: float) -> None:
    if not 0 <= coefficient < 1:
        raise ValueError(f"coefficient is {coefficient}; expected 0 ≤ coefficient < 1")
