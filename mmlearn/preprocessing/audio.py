"""Sound for a model.

Chapters: start/first_model, preprocessing/audio.
"""

import numpy as np
import torch
import torchaudio
from torch import Tensor, nn


class LogMel(nn.Module):
    """Log-mel spectrogram: how much energy sounds in each of M bands, in steps of 10 ms, as a natural logarithm.

    Bands follow Slaney's mel scale and are normalised to equal area, as librosa's default; windows last 25 ms.
    Energies are floored at 1e-6 before the logarithm, so silence is -13.8.

    Args:
        sample_rate: Samples a second of the input.
        num_mels: Number of bands M.

    Chapters: start/first_model, preprocessing/audio.
    """

    def __init__(self, sample_rate: int = 16_000, num_mels: int = 64) -> None:
        super().__init__()
        self.mel = torchaudio.transforms.MelSpectrogram(
            sample_rate,
            n_fft=sample_rate // 40,  # windows of 25 ms
            hop_length=sample_rate // 100,
            n_mels=num_mels,
            norm="slaney",
            mel_scale="slaney",
        )

    def forward(self, audio: Tensor | np.ndarray) -> Tensor:
        """Return log-mel (…, M, T) of audio float32 (…, S), with T = S // (sample_rate / 100) + 1.

        Raises:
            ValueError: If the audio is empty or not floating-point.
        """
        samples = torch.as_tensor(audio)
        if samples.shape[-1] == 0 or not samples.is_floating_point():
            raise ValueError(f"audio is {samples.dtype} {tuple(samples.shape)}; expected floats, at least one sample")
        return torch.log(self.mel(samples).clamp(min=1e-6))
