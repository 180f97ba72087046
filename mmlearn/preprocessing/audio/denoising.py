"""Take noise out of a sound: spectral gating and the Wiener filter, both a gain for each frequency and moment.

Chapter: preprocessing/audio.
"""

import numpy as np
import torch
from torch import Tensor, nn

from mmlearn.media.sound_levels import is_number
from mmlearn.preprocessing.audio.waveform import check_audio

QUIETEST = 0.1  # share of the frames that the noise is estimated from where no noise is given


def spectral_gate(
    audio: np.ndarray,
    sample_rate: int,
    noise: np.ndarray | None = None,
    *,
    threshold_db: float = 6.0,
    reduction_db: float = 20.0,
) -> np.ndarray:
    """Turn down each frequency at each moment where it is little louder than the noise.

    Boll (1979) subtracts the noise's spectrum; a gate, as audio editors have it, lets through or turns down. Single
    cells that pass by chance are heard as "musical noise", so the power is averaged over neighbours (3 bins, 5 frames)
    before the decision, and the gain over 3 × 3 cells after it.

    Args:
        audio: float (S,).
        sample_rate: Its samples a second.
        noise: float (N,), noise alone; by default it is estimated from the quietest tenth of the sound's own frames.
        threshold_db: How far above the noise's mean power a cell must be to pass.
        reduction_db: How much the others are turned down.

    Raises:
        ValueError: If a sound is not finite floats (S,), its rate is below 1000, or a number of decibels is negative.

    Chapter: preprocessing/audio.
    """
    audio = check_audio(audio)
    if threshold_db < 0 or reduction_db < 0:
        raise ValueError(f"threshold_db is {threshold_db}, reduction_db {reduction_db}; expected none below 0")
    spectrum, floor = _analyse(audio, sample_rate, noise)
    power = _smooth(spectrum.abs().square(), 3, 5)  # (F, T)
    passes = _smooth((power > floor * 10 ** (threshold_db / 10)).double(), 3, 3)
    least = 10 ** (-reduction_db / 20)
    return _synthesise(spectrum * (least + (1 - least) * passes), audio, sample_rate)


def wiener(
    audio: np.ndarray,
    sample_rate: int,
    noise: np.ndarray | None = None,
    *,
    smoothing: float = 0.98,
    reduction_db: float = 20.0,
) -> np.ndarray:
    """Multiply each frequency at each moment by ξ / (1 + ξ), where ξ is the signal-to-noise ratio there.

    Of all gains this one leaves the least squared error, if ξ is known. It is not: ξ is estimated by the
    decision-directed rule of Ephraim & Malah (1984), a mixture of what the last frame was found to hold and of what
    this one shows.

    Args:
        audio: float (S,).
        sample_rate: Its samples a second.
        noise: float (N,), noise alone; by default it is estimated from the quietest tenth of the sound's own frames.
        smoothing: Weight of the last frame, 0 ≤ smoothing < 1.
        reduction_db: How much a cell is turned down at the most.

    Raises:
        ValueError: If a sound is not finite floats (S,), its rate is below 1000, or another number is out of range.

    Chapter: preprocessing/audio.
    """
    audio = check_audio(audio)
    if not 0 <= smoothing < 1 or reduction_db < 0:
        raise ValueError(f"smoothing is {smoothing}, reduction_db {reduction_db}; expected [0, 1), and none below 0")
    spectrum, floor = _analyse(audio, sample_rate, noise)
    ratio = (spectrum.abs().square() / floor.clamp(min=1e-20)).T.numpy()  # (T, F), all that sounds to the noise
    instant = np.maximum(ratio - 1, 0)
    gain, before = np.empty_like(ratio), instant[0]
    for t in range(len(ratio)):
        prior = smoothing * before + (1 - smoothing) * instant[t]  # (F,)
        gain[t] = prior / (1 + prior)
        before = gain[t] ** 2 * ratio[t]
    gain = np.maximum(gain, 10 ** (-reduction_db / 20))
    return _synthesise(spectrum * torch.from_numpy(gain.T), audio, sample_rate)


def _window(sample_rate: int) -> tuple[int, Tensor]:
    """Return a window of 32 ms, and the step from one to the next: a quarter of it."""
    hop = round(0.008 * sample_rate)
    return hop, torch.hann_window(4 * hop, dtype=torch.float64)


def _stft(audio: np.ndarray, sample_rate: int) -> Tensor:
    hop, window = _window(sample_rate)
    samples = torch.from_numpy(np.pad(audio.astype(np.float64), (0, 4 * hop)))
    return torch.stft(samples, 4 * hop, hop, window=window, pad_mode="constant", return_complex=True)  # (F, T)


def _analyse(audio: np.ndarray, sample_rate: int, noise: np.ndarray | None) -> tuple[Tensor, Tensor]:
    """Return a sound's spectrum (F, T), and the noise's mean power in each frequency (F, 1)."""
    if not is_number(sample_rate) or sample_rate < 1000:
        raise ValueError(f"sample_rate is {sample_rate}; expected at least 1000")
    spectrum = _stft(audio, sample_rate)
    if noise is not None:
        noise = check_audio(noise, "noise")
        power = _stft(noise, sample_rate).abs().square()
        whole = max(1, len(noise) // _window(sample_rate)[0] - 3)  # frames that hold nothing but noise
        return spectrum, power[:, 2 : 2 + whole].mean(dim=1, keepdim=True)
    power = spectrum.abs().square()
    count = max(1, round(QUIETEST * power.shape[1]))
    quietest = power.sum(dim=0).topk(count, largest=False).indices
    return spectrum, power[:, quietest].mean(dim=1, keepdim=True)


def _smooth(cells: Tensor, bins: int, frames: int) -> Tensor:
    """Return the mean over neighbours, (F, T) → (F, T); at the edges, over those that there are."""
    around = (bins // 2, frames // 2)
    return nn.functional.avg_pool2d(cells[None], (bins, frames), 1, around, count_include_pad=False)[0]


def _synthesise(spectrum: Tensor, audio: np.ndarray, sample_rate: int) -> np.ndarray:
    hop, window = _window(sample_rate)
    samples = torch.istft(spectrum, 4 * hop, hop, window=window, length=len(audio))
    return samples.numpy().astype(audio.dtype)
