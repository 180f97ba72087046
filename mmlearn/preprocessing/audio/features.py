"""From samples to features: log-mel, MFCC and SpecAugment.

Chapters: start/first_model, preprocessing/audio.
"""

from typing import Any

import numpy as np
import torch
import torchaudio
from torch import Tensor, nn

from mmlearn.media.sound_levels import is_number
from mmlearn.preprocessing.audio.waveform import (
    as_array,
)

CACHED = 8  # sounds at a time on a CPU: their spectra stay in its cache


class LogMel(nn.Module):
    """Log-mel spectrogram: how much energy sounds in each of M bands, in steps of 10 ms, as a natural logarithm.

    Bands follow Slaney's mel scale and are normalised to equal area, as librosa's default. Energies are floored at
    1e-6 before the logarithm, so silence is -13.8.

    Args:
        sample_rate: Samples a second of the input.
        num_mels: Number of bands M.
        n_fft: Samples in a window; by default 25 ms.
        hop_length: Samples from one window to the next; by default 10 ms.
        f_min: Where the lowest band begins, in Hz.
        f_max: Where the highest ends; by default half the sample rate.

    Raises:
        ValueError: If one of these is out of range.

    Chapters: start/first_model, preprocessing/audio.

    Examples:
        >>> LogMel()(torch.zeros(2, 16_000)).shape
        torch.Size([2, 64, 101])
    """

    filters: Tensor
    window: Tensor

    def __init__(
        self,
        sample_rate: int = 16_000,
        num_mels: int = 64,
        *,
        n_fft: int | None = None,
        hop_length: int | None = None,
        f_min: float = 0.0,
        f_max: float | None = None,
    ) -> None:
        super().__init__()
        if not is_number(sample_rate) or sample_rate < 1 or sample_rate != int(sample_rate):
            raise ValueError(f"sample_rate is {sample_rate}; expected a whole number of samples a second, at least 1")
        sample_rate = int(sample_rate)
        self.n_fft = sample_rate // 40 if n_fft is None else n_fft
        self.hop_length = sample_rate // 100 if hop_length is None else hop_length
        top = sample_rate / 2 if f_max is None else f_max
        if min(num_mels, self.n_fft, self.hop_length) < 1 or not 0 <= f_min < top <= sample_rate / 2:
            raise ValueError(
                f"num_mels is {num_mels}, n_fft {self.n_fft}, hop_length {self.hop_length}, f_min {f_min}, f_max {top}"
                f"; expected positive numbers, and 0 ≤ f_min < f_max ≤ {sample_rate / 2}"
            )
        filters = torchaudio.functional.melscale_fbanks(
            self.n_fft // 2 + 1, f_min, top, num_mels, sample_rate, norm="slaney", mel_scale="slaney"
        )  # (F, M)
        self.register_buffer("filters", filters.T.contiguous(), persistent=False)  # (M, F)
        self.register_buffer("window", torch.hann_window(self.n_fft), persistent=False)

    def forward(self, audio: Tensor | np.ndarray) -> Tensor:
        """Return log-mel (…, M, T) of audio (…, S), with T = S // hop_length + 1, in the type of the filters.

        Audio may have any floating type, be an array of NumPy's or a list. It is calculated in float32 at least, also
        under autocast. A sound shorter than half a window is filled up with silence.

        Raises:
            ValueError: If the audio is empty, not floating-point, or (S, C), as soundfile gives it; or, on the CPU, not
                finite. (Elsewhere the check would wait for the device: there, what is not finite stays so, in the steps
                that hear it.)
        """
        samples = self._samples(audio)
        if samples.device.type == "cpu" and not torch.compiler.is_compiling() and not samples.sum().isfinite():
            raise ValueError("audio holds values that are not finite; expected numbers in [-1, 1]")
        steps = samples.shape[-1] // self.hop_length + 1
        short = max(0, self.n_fft // 2 + 1 - samples.shape[-1])  # the window's reflection needs that much
        if short:
            samples = nn.functional.pad(samples, (0, short))
        flat = samples.reshape(-1, samples.shape[-1])  # (B, S)
        with torch.autocast(flat.device.type, enabled=False):  # half precision overflows at the power of a loud sound
            if flat.device.type == "cpu" and not torch.compiler.is_compiling():
                mels = torch.cat([self._log_mel(part) for part in flat.split(CACHED)])  # (B, M, T)
            else:
                mels = self._log_mel(flat)
        return mels.unflatten(0, samples.shape[:-1])[..., :steps] if samples.ndim > 1 else mels[0, :, :steps]

    def _samples(self, audio: Tensor | np.ndarray) -> Tensor:
        """Check the type and shape of audio, and bring it to the type that is calculated in."""
        if not isinstance(audio, Tensor):
            array = as_array(audio)
            if array.dtype.kind not in "fiu":
                raise ValueError(f"audio is {array.dtype} {array.shape}; expected floats, at least one sample")
            audio = torch.from_numpy(np.array(array)).to(self.filters.device)  # a copy, whatever the strides
        shape = tuple(audio.shape)
        if audio.ndim == 0 or 0 in shape or not audio.is_floating_point():
            raise ValueError(f"audio is {audio.dtype} {shape}; expected floats in [-1, 1], at least one sample")
        if audio.ndim > 1 and not torch.compiler.is_compiling():
            last, before = shape[-1], shape[-2]
            if last < self.n_fft <= before or last <= 8 < before:
                raise ValueError(f"audio is {audio.dtype} {shape}; expected (…, S): is this (S, C), as soundfile gives "
                                 f"it? Transpose it to (C, S), or mix it down")  # fmt: skip
        return audio.to(torch.promote_types(self.filters.dtype, torch.float32))

    def _log_mel(self, audio: Tensor) -> Tensor:
        """(B, S) → (B, M, T), any S that the window can reflect."""
        window = self.window.to(audio.dtype)
        spectrum = torch.stft(
            audio, self.n_fft, self.hop_length, window=window, pad_mode="reflect", return_complex=True
        )
        power = spectrum.real.square() + spectrum.imag.square()  # (B, F, T)
        return (self.filters.to(audio.dtype) @ power).clamp(min=1e-6).log().to(self.filters.dtype)


class MFCC(nn.Module):
    """Mel-frequency cepstral coefficients: the cosine transform of the log-mel spectrogram over its bands.

    Davis & Mermelstein (1980). Coefficient 0 is loudness, the next ones the coarse shape of the spectrum.

    Args:
        sample_rate: Samples a second of the input.
        num_mfcc: How many coefficients K are kept.
        num_mels: Bands M that they are computed from.
        **settings: Further arguments of `LogMel`.

    Raises:
        ValueError: If there are more coefficients than bands.

    Chapter: preprocessing/audio.
    """

    dct: Tensor

    def __init__(self, sample_rate: int = 16_000, num_mfcc: int = 13, num_mels: int = 64, **settings: Any) -> None:
        super().__init__()
        if not 1 <= num_mfcc <= num_mels:
            raise ValueError(f"num_mfcc is {num_mfcc}; expected 1 to {num_mels}, the number of bands")
        self.log_mel = LogMel(sample_rate, num_mels, **settings)
        self.register_buffer("dct", torchaudio.functional.create_dct(num_mfcc, num_mels, norm="ortho"))  # (M, K)

    def forward(self, audio: Tensor | np.ndarray) -> Tensor:
        """Return coefficients (…, K, T) of audio float32 (…, S); short or bad sounds as in `LogMel`."""
        return self.dct.T @ self.log_mel(audio)  # (K, M) @ (…, M, T)


class SpecAugment(nn.Module):
    """Hide some bands and some steps of a log-mel spectrogram, while training; in evaluation it changes nothing.

    Park et al. (2019), without their time warping, which they found to matter least. What is hidden becomes the
    sample's mean. Each sample of a batch has its own draw; padding stays as it is.

    Args:
        freq_masks: Stretches of bands hidden in each sample.
        freq_width: Bands in a stretch, at most; its width is drawn from 0 … freq_width.
        time_masks: Stretches of steps hidden.
        time_width: Steps in a stretch, at most.
        time_share: Share of a sample's real steps in a stretch, at most.

    Raises:
        ValueError: If a number is negative or `time_share` not in [0, 1].

    Chapter: preprocessing/audio.
    """

    def __init__(
        self,
        freq_masks: int = 2,
        freq_width: int = 10,
        time_masks: int = 2,
        time_width: int = 20,
        time_share: float = 0.2,
    ) -> None:
        super().__init__()
        if min(freq_masks, freq_width, time_masks, time_width) < 0 or not 0 <= time_share <= 1:
            raise ValueError(f"masks are {freq_masks} × {freq_width} bands, {time_masks} × {time_width} steps, share "
                             f"{time_share}; expected no negative number, and a share in [0, 1]")  # fmt: skip
        self.freq_masks, self.freq_width = freq_masks, freq_width
        self.time_masks, self.time_width, self.time_share = time_masks, time_width, time_share

    def forward(self, mel: Tensor, mask: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return log-mel (B, M, T) with stretches hidden; `mask` bool (B, T) is True where a step is real.

        Draws are made on the CPU, so that a seed gives the same ones on every device.

        Raises:
            TypeError: If `mel` is no floating tensor, or `mask` no bool tensor.
            ValueError: If the shape is another one, or `freq_width` exceeds the bands M.
        """
        if not isinstance(mel, Tensor) or not mel.is_floating_point():
            raise TypeError(f"mel is a {getattr(mel, 'dtype', type(mel).__name__)}; expected a tensor of floats")
        if mask is not None and not (isinstance(mask, Tensor) and mask.dtype == torch.bool):
            raise TypeError(
                f"mask is a {getattr(mask, 'dtype', type(mask).__name__)}; expected a bool tensor, True = real"
            )
        if mel.ndim != 3 or mel.shape[1] < self.freq_width or (mask is not None and mask.shape != mel[:, 0].shape):
            raise ValueError(f"mel is {tuple(mel.shape)}, mask {None if mask is None else tuple(mask.shape)}; expected "
                             f"(B, M, T) and (B, T), with at least {self.freq_width} bands M")  # fmt: skip
        if not self.training:
            return mel
        size, bands, steps = mel.shape
        real = torch.ones(size, steps, dtype=torch.bool, device=mel.device) if mask is None else mask
        lengths = real.sum(dim=1)  # (B,)
        widest = (lengths * self.time_share).long().clamp(max=self.time_width)  # (B,)
        all_bands = lengths.new_full((size,), bands)
        in_bands = _stretches(self.freq_masks, all_bands.clamp(max=self.freq_width), all_bands, bands, generator)
        in_steps = _stretches(self.time_masks, widest, lengths, steps, generator)
        hidden = (in_bands[:, :, None] | in_steps[:, None]) & real[:, None]  # (B, M, T)
        count = (lengths * bands).clamp(min=1)
        mean = torch.where(real[:, None], mel, 0.0).sum(dim=(1, 2)) / count  # (B,)
        return torch.where(hidden, mean[:, None, None].to(mel.dtype), mel)


def _stretches(count: int, widest: Tensor, lengths: Tensor, size: int, generator: torch.Generator | None) -> Tensor:
    """Return bool (B, size), True in `count` random stretches of 0 … widest (B,) among the first lengths (B,)."""
    draw = torch.rand(2, len(widest), count, generator=generator).to(widest.device)  # widths, beginnings
    width = (draw[0] * (widest[:, None] + 1)).long()  # (B, count)
    begin = (draw[1] * (lengths[:, None] - width + 1)).long()
    place = torch.arange(size, device=widest.device)
    inside = (place >= begin[..., None]) & (place < (begin + width)[..., None])  # (B, count, size)
    return inside.any(dim=1)
