"""How loud a sound is to ears: ITU-R BS.1770.

Chapter: preprocessing/audio.
"""

import math

import numpy as np

from mmlearn.media.sound_levels import is_number
from mmlearn.preprocessing.audio.waveform import check_audio


def loudness(audio: np.ndarray, sample_rate: int) -> float:
    """Return the integrated loudness in LUFS, as ITU-R BS.1770-4 defines it: weighted as ears hear, pauses left out.

    torchaudio's function of this name clips sounds near full scale and is 0.3 dB off there; hence this one.

    Args:
        audio: float (S,), mono; at least the 0.4 s of one block of the standard.
        sample_rate: Its samples a second, at least 8000.

    Returns:
        LUFS; -inf where no block is louder than the standard's gate at -70 LUFS.

    Raises:
        ValueError: If the audio is not finite floats (S,), shorter than 0.4 s, or its rate is below 8000.

    Chapter: preprocessing/audio.
    """
    from scipy.signal import lfilter

    audio = check_audio(audio)
    if not is_number(sample_rate) or sample_rate < 8000:
        raise ValueError(f"sample_rate is {sample_rate}; expected at least 8000")
    block = round(0.4 * sample_rate)
    if len(audio) < block:
        raise ValueError(f"audio has {len(audio)} samples; expected at least {block}, the 0.4 s that loudness needs")
    weighted = audio.astype(np.float64)
    for numerator, denominator in k_weighting(sample_rate):
        weighted = lfilter(numerator, denominator, weighted)
    total = np.concatenate([[0.0], np.cumsum(weighted**2)])
    starts = np.arange(0, len(audio) - block + 1, round(0.1 * sample_rate))
    power = np.maximum(total[starts + block] - total[starts], 0.0) / block  # (blocks,), overlapping by three quarters
    power = power[power > 10 ** ((-70 + 0.691) / 10)]
    if len(power) == 0:
        return -math.inf
    return 10 * math.log10(power[power > power.mean() / 10].mean()) - 0.691


def set_loudness(audio: np.ndarray, sample_rate: int, target_lufs: float = -23.0) -> np.ndarray:
    """Return the sound at a given loudness; -23 LUFS is that of European broadcasting (EBU R 128).

    The gain is limited so that no sample leaves [-1, 1]; the result is then quieter than asked for. Silence stays
    silence.

    Raises:
        ValueError: As `loudness`, or if the target is not in [-70, 0].

    Chapter: preprocessing/audio.
    """
    if not -70 <= target_lufs <= 0:
        raise ValueError(f"target_lufs is {target_lufs}; expected -70 to 0")
    audio = check_audio(audio)
    now = loudness(audio, sample_rate)
    if now == -math.inf:
        return audio
    peak = float(np.abs(audio).max())
    return (audio * min(10 ** ((target_lufs - now) / 20), 1 / peak)).astype(audio.dtype)


def k_weighting(sample_rate: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the two filters of BS.1770, (numerator, denominator) each: a high shelf (the head), then a high-pass.

    The standard lists coefficients for 48 kHz only. They belong to the analogue filters below, which the bilinear
    transform brings to any rate.

    Chapter: preprocessing/audio.
    """
    k, q = math.tan(math.pi * 1681.974450955533 / sample_rate), 0.7071752369554196
    high = 10 ** (3.999843853973347 / 20)
    middle = high**0.4996667741545416
    shelf = np.array([high + middle * k / q + k * k, 2 * (k * k - high), high - middle * k / q + k * k])
    shelf_below = np.array([1 + k / q + k * k, 2 * (k * k - 1), 1 - k / q + k * k])
    k, q = math.tan(math.pi * 38.13547087602444 / sample_rate), 0.5003270373238773
    high_pass_below = np.array([1 + k / q + k * k, 2 * (k * k - 1), 1 - k / q + k * k])
    return [
        (shelf / shelf_below[0], shelf_below / shelf_below[0]),
        (np.array([1.0, -2.0, 1.0]), high_pass_below / high_pass_below[0]),
    ]
