"""Loudness against the standard's own constants and test tone, and against torchaudio."""

import math

import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlearn.preprocessing.audio.loudness import k_weighting, loudness, set_loudness

RATE = 16_000


def tone(amplitude: float, rate: int, seconds: float = 5.0) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * 997 * np.arange(round(seconds * rate)) / rate)


def test_filters_are_those_of_the_standard() -> None:
    (b1, a1), (b2, a2) = k_weighting(48_000)  # ITU-R BS.1770-4, tables 1 and 2
    np.testing.assert_allclose(b1, [1.53512485958697, -2.69169618940638, 1.19839281085285], atol=1e-9)
    np.testing.assert_allclose(a1, [1, -1.69065929318241, 0.73248077421585], atol=1e-9)
    np.testing.assert_allclose(b2, [1, -2, 1])
    np.testing.assert_allclose(a2, [1, -1.99004745483398, 0.99007225036621], atol=1e-9)


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
@pytest.mark.parametrize("amplitude", [1.0, 0.1, 0.01])
def test_the_standard_s_tone(rate: int, amplitude: float) -> None:
    # BS.1770-4: a 997 Hz sine at 0 dBFS in one channel reads -3.01
    expected = -3.01 + 20 * math.log10(amplitude)
    assert loudness(tone(amplitude, rate), rate) == pytest.approx(expected, abs=0.05 if rate == 16_000 else 0.02)


def speech_like(seconds: float = 6.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    swell = np.clip(np.sin(2 * np.pi * 1.3 * np.arange(round(seconds * RATE)) / RATE), 0, 1) ** 2
    return 0.02 * swell * rng.standard_normal(len(swell))


def test_agrees_with_torchaudio_where_that_does_not_clip() -> None:
    audio = speech_like()
    other = float(torchaudio.functional.loudness(torch.from_numpy(audio)[None], RATE))
    assert loudness(audio, RATE) == pytest.approx(other, abs=0.15)  # its filters are rounder than the standard's


def test_pauses_do_not_count() -> None:
    audio = tone(0.1, RATE)
    assert loudness(np.concatenate([audio, np.zeros(20 * RATE)]), RATE) == pytest.approx(loudness(audio, RATE), abs=0.2)
    quiet = np.concatenate([audio, tone(0.01, RATE, 20)])  # 20 dB below: under the relative gate, too
    assert loudness(quiet, RATE) == pytest.approx(loudness(audio, RATE), abs=0.2)


@settings(max_examples=25)
@given(target=st.floats(-60, -12), gain=st.floats(-15, 20))
def test_set_loudness(target: float, gain: float) -> None:
    audio = (speech_like(2.0) * 10 ** (gain / 20)).astype(np.float32)
    found = set_loudness(audio, RATE, target)
    assert found.dtype == np.float32 and np.abs(found).max() <= 1 + 1e-6
    if np.abs(found).max() < 0.999:
        assert loudness(found, RATE) == pytest.approx(target, abs=0.1)
    else:
        assert loudness(found, RATE) < target + 0.1


def test_set_loudness_does_not_clip() -> None:
    spiky = speech_like(2.0)
    spiky[1000] = 0.9  # a click, far above the rest
    found = set_loudness(spiky, RATE, -10)
    assert np.abs(found).max() == pytest.approx(1) and loudness(found, RATE) < -20


def test_silence_and_bad_arguments() -> None:
    silence = np.zeros(RATE, np.float32)
    assert loudness(silence, RATE) == -math.inf and loudness(1e-5 * tone(1, RATE), RATE) == -math.inf
    np.testing.assert_array_equal(set_loudness(silence, RATE), silence)
    with pytest.raises(ValueError, match=r"audio has 6399 samples; expected at least 6400"):
        loudness(silence[:6399], RATE)
    with pytest.raises(ValueError, match="sample_rate is 4000"):
        loudness(silence, 4000)
    with pytest.raises(ValueError, match="target_lufs is 3"):
        set_loudness(silence, RATE, 3)
    with pytest.raises(ValueError, match="audio is int16"):
        loudness(np.zeros(RATE, np.int16), RATE)
