"""LogMel against librosa with the same settings."""

import librosa
import numpy as np
import pytest
import torch

from mmlearn.preprocessing.audio import LogMel


def test_equals_librosa() -> None:
    audio = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    energies = librosa.feature.melspectrogram(
        y=audio, sr=16_000, n_fft=400, hop_length=160, n_mels=64, pad_mode="reflect"
    )
    expected = np.log(np.maximum(energies, 1e-6))
    assert np.abs(LogMel()(audio).numpy() - expected).max() < 1e-3


def test_batches_steps_and_silence() -> None:
    mel = LogMel(num_mels=32)(torch.zeros(2, 3, 1600))
    assert mel.shape == (2, 3, 32, 11)
    assert torch.allclose(mel, torch.full_like(mel, np.log(1e-6)))


def test_errors() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        LogMel()(np.zeros(0, np.float32))
    with pytest.raises(ValueError, match=r"torch\.int16"):
        LogMel()(np.zeros(100, np.int16))
