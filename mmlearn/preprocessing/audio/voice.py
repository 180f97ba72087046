"""Make one speaker sound like others, and make speakers alike: pitch, formants, tempo, vocal-tract length, statistics.

Chapter: preprocessing/audio.
"""

from typing import Any

import librosa
import numpy as np
import torch
from torch import Tensor, nn

from mmlearn.preprocessing.audio.waveform import check_audio, pad_or_cut, resample, time_stretch

WINDOW, HOP = 0.032, 0.008  # seconds
QUEFRENCY = 0.002  # seconds: what is smoother than this in the logarithmic spectrum is the vocal tract's envelope
FLOOR = 1e-5  # of the largest magnitude
ROUNDS = 8  # of the envelope's search


def change_voice(
    audio: np.ndarray, sample_rate: int, *, semitones: float = 0.0, formants: float = 1.0, tempo: float = 1.0
) -> np.ndarray:
    """Return the sound of another speaker who says the same: (S,) → (round(S / tempo),).

    The spectrum is divided into a smooth envelope (the vocal tract's formants) and fine structure (the vocal folds'
    harmonics, or noise) by `_envelope`. Pitch moves the fine structure alone, `formants` the envelope alone.

    Args:
        audio: float (S,), one channel.
        sample_rate: Its samples a second.
        semitones: By how much the pitch rises; negative lowers it.
        formants: Factor on the frequencies of the envelope. Above 1 is a shorter vocal tract, as children have.
        tempo: How many times as fast.

    Raises:
        ValueError: If the audio is not finite floats (S,), `semitones` is not in [-24, 24], `formants` not in [0.5, 2]
            or `tempo` not in [0.25, 4].

    Chapter: preprocessing/audio.
    """
    audio = check_audio(audio)
    for name, value, low, high in (("semitones", semitones, -24, 24), ("formants", formants, 0.5, 2),
                                   ("tempo", tempo, 0.25, 4)):  # fmt: skip
        if not low <= value <= high:
            raise ValueError(f"{name} is {value}; expected {low} to {high}")
    ratio = 2.0 ** (semitones / 12)
    own = time_stretch(audio, tempo) if tempo != 1 else audio  # the speaker's own pitch, at the new tempo
    if semitones == 0 and formants == 1:
        return own
    shifted = own
    if semitones:
        longer = time_stretch(audio, tempo / ratio)
        shifted = pad_or_cut(resample(longer, round(sample_rate * ratio), sample_rate), len(own))
    n_fft, hop = round(WINDOW * sample_rate), round(HOP * sample_rate)
    spectra = [librosa.stft(pad_or_cut(x, max(len(x), n_fft)), n_fft=n_fft, hop_length=hop) for x in (own, shifted)]
    envelopes = [_envelope(spectrum, sample_rate) for spectrum in spectra]  # (F, T)
    fine = spectra[1] / envelopes[1]
    empty = int(len(fine) * ratio)  # above, a lowered sound holds nothing: its own fine structure stays
    fine[empty:] = spectra[0][empty:] / envelopes[0][empty:]
    rows = np.arange(len(fine))
    source: Any = np.clip(rows / formants, 0, len(fine) - 1)
    low = np.floor(source).astype(int)
    high, part = np.minimum(low + 1, len(fine) - 1), (source - low)[:, None]
    moved = envelopes[0][low] ** (1 - part) * envelopes[0][high] ** part  # a straight line between logarithms
    out = librosa.istft(fine * moved, n_fft=n_fft, hop_length=hop, length=max(len(own), n_fft))
    return out[: len(own)].astype(audio.dtype)


def warp_bands(mel: Tensor, factor: float | Tensor, f_max: float = 8_000.0, knee: float = 4_800.0) -> Tensor:
    r"""Move the bands of a log-mel spectrogram as a vocal tract of another length does, (…, M, T) → (…, M, T).

    What stood at frequency f stands at `factor` · f afterwards. Above the knee a straight line leads to `f_max`, which
    stays. Bands are those of `LogMel` with `f_min` 0.

    Args:
        mel: Log-mel (…, M, T).
        factor: Above 1 moves everything up; a number, or (B,) for mel (B, M, T).
        f_max: Where the highest band ends, in Hz.
        knee: Up to which frequency the factor holds, in Hz.

    Raises:
        ValueError: If a factor is not in [0.5, 2], or shapes do not fit.

    Source: vocal tract length perturbation, Jaitly and Hinton (2013). Chapter: preprocessing/audio.
    """
    factors = torch.as_tensor(factor, dtype=torch.float64).cpu()
    if mel.ndim < 2 or factors.ndim > 1 or (factors.ndim == 1 and (mel.ndim != 3 or len(factors) != len(mel))):
        raise ValueError(f"mel is {tuple(mel.shape)}, factor {tuple(factors.shape)}; expected (…, M, T) and a number, "
                         "or (B, M, T) and (B,)")  # fmt: skip
    if not ((factors >= 0.5) & (factors <= 2)).all():
        raise ValueError(f"factor is {factor}; expected 0.5 to 2")
    bands = mel.shape[-2]
    centers = librosa.mel_frequencies(n_mels=bands + 2, fmin=0.0, fmax=f_max)[1:-1]  # (M,)
    places = []
    for one in factors.reshape(-1).tolist():
        bend = knee * min(one, 1.0)
        source = np.interp(centers, [0.0, bend, f_max], [0.0, bend / one, f_max])  # where each band's value comes from
        places.append(np.interp(source, centers, np.arange(bands)))
    place = torch.tensor(np.array(places), dtype=mel.dtype, device=mel.device)  # (B or 1, M)
    low = place.floor().long()
    part = (place - low)[..., None]  # (B or 1, M, 1)
    if factors.ndim == 0:
        rows, above, part = low[0], (low[0] + 1).clamp(max=bands - 1), part[0]
        return mel.index_select(-2, rows) * (1 - part) + mel.index_select(-2, above) * part
    at_least_float32 = (len(mel), bands, mel.shape[-1])
    lower = mel.gather(1, low[..., None].expand(at_least_float32))
    upper = mel.gather(1, (low + 1).clamp(max=bands - 1)[..., None].expand(at_least_float32))
    return lower * (1 - part) + upper * part


def standardize_bands(mel: Tensor, mask: Tensor | None = None, eps: float = 1e-3) -> Tensor:
    """Give each band of each clip mean 0 and standard deviation 1 over its real steps, (B, M, T) → (B, M, T).

    What is constant through a clip goes: the microphone's frequency response, and much of the speaker's average
    spectrum. Padding becomes 0.

    Args:
        mel: Log-mel (B, M, T).
        mask: bool (B, T), True where a step is real.
        eps: Added to the standard deviation, so that silence stays finite.

    Raises:
        ValueError: If the shapes do not fit.

    Source: cepstral mean and variance normalization, Viikki and Laurila (1998). Chapter: preprocessing/audio.
    """
    if mel.ndim != 3 or (mask is not None and mask.shape != mel[:, 0].shape):
        raise ValueError(f"mel is {tuple(mel.shape)}, mask {None if mask is None else tuple(mask.shape)}; expected "
                         "(B, M, T) and (B, T)")  # fmt: skip
    if mask is None:
        std, mean = torch.std_mean(mel, dim=2, keepdim=True, correction=0)
        return (mel - mean) / (std + eps)
    real = mask[:, None]  # (B, 1, T)
    count = real.sum(dim=2, keepdim=True).clamp(min=1)
    mean = torch.where(real, mel, 0.0).sum(dim=2, keepdim=True) / count
    centered = torch.where(real, mel - mean, 0.0)
    std = (centered.square().sum(dim=2, keepdim=True) / count).sqrt()
    return centered / (std + eps)


class WarpBands(nn.Module):
    """Augmentation: each sample of a batch gets a vocal tract of another length, see `warp_bands`. Nothing in `eval`.

    Args:
        widest: Factors are drawn between 1 / widest and widest, evenly in their logarithm.

    Raises:
        ValueError: If `widest` is not in [1, 2].

    Chapter: preprocessing/audio.
    """

    def __init__(self, widest: float = 1.25) -> None:
        super().__init__()
        if not 1 <= widest <= 2:
            raise ValueError(f"widest is {widest}; expected 1 to 2")
        self.widest = widest

    def forward(self, mel: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return log-mel (B, M, T), warped; drawn on the CPU, so that a seed gives the same on every device."""
        if not self.training:
            return mel
        return warp_bands(mel, self.widest ** (2 * torch.rand(len(mel), generator=generator) - 1))


def _envelope(spectrum: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return the smooth magnitude (F, T) that lies over a spectrum's peaks, not half-way down to its valleys.

    Source: the "true envelope" of Imai and Abe (1979): smooth by the cepstrum, raise to what is above, again.
    """
    magnitude = np.abs(spectrum)
    peaks = np.log(np.maximum(magnitude, FLOOR * max(float(magnitude.max()), 1e-9)))  # (F, T)
    keep, smooth = round(QUEFRENCY * sample_rate), peaks
    for _ in range(ROUNDS):
        cepstrum = np.fft.irfft(np.maximum(peaks, smooth), axis=0)  # (N, T)
        cepstrum[keep + 1 : len(cepstrum) - keep] = 0
        smooth = np.fft.rfft(cepstrum, axis=0).real
    return np.exp(smooth)
