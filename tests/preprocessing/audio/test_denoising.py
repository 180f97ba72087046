"""Denoising: what it gains in known noise, what it leaves alone, and the Wiener gain against SciPy's transform."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import signal

from mmlearn.preprocessing.audio.denoising import spectral_gate, wiener
from mmlearn.preprocessing.audio.waveform import level, mix, snr

RATE = 16_000
METHODS = [spectral_gate, wiener]


def speech_like(seconds: float = 2.0) -> np.ndarray:
    """Harmonics of a gliding voice in syllables with pauses between them, (S,)."""
    t = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * (120 * t + 15 * np.sin(2 * np.pi * 1.5 * t))
    voice = sum(np.sin(k * phase) / k for k in range(1, 20))
    return 0.1 * voice * np.clip(np.sin(2 * np.pi * 1.25 * t), 0, 1) ** 0.5


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("method", "least"), [(spectral_gate, 8.0), (wiener, 8.0)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gains_in_white_noise(method, least: float, known: bool, seed: int) -> None:
    clean, noise = speech_like(), np.random.default_rng(seed).standard_normal(5 * RATE)
    noisy = mix(clean, noise[: len(clean)], 0)
    alone = noise[len(clean) :] * np.std(noisy - clean)
    found = method(noisy, RATE, alone if known else None)
    assert snr(clean, found) > least and found.shape == clean.shape


def test_hum_goes_when_it_is_known() -> None:
    clean, t = speech_like(), np.arange(4 * RATE) / RATE
    hum = sum(np.sin(2 * np.pi * 50 * k * t) / k for k in (1, 3, 5))
    noisy = mix(clean, hum[: len(clean)], 0)
    alone = hum[len(clean) :] * (np.std(noisy - clean) / np.std(hum[: len(clean)]))
    assert snr(clean, wiener(noisy, RATE, alone)) > 5


def test_wiener_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    noisy, noise = rng.standard_normal(RATE) * np.linspace(0, 3, RATE), rng.standard_normal(RATE)
    settings = {"fs": RATE, "window": "hann", "nperseg": 512, "noverlap": 384, "boundary": "zeros", "padded": False}
    power = np.abs(signal.stft(noise, **settings)[2][:, 2:-2]) ** 2
    spectrum = signal.stft(np.pad(noisy, (0, 512)), **settings)[2]
    ratio = np.maximum(np.abs(spectrum) ** 2 / power.mean(axis=1, keepdims=True) - 1, 0)
    expected = signal.istft(spectrum * ratio / (1 + ratio), **{k: v for k, v in settings.items() if k != "padded"})[1]
    found = wiener(noisy, RATE, noise, smoothing=0, reduction_db=200)
    np.testing.assert_allclose(found, expected[:RATE], atol=1e-9)


def test_decision_directed_rule_cell_by_cell() -> None:
    rng = np.random.default_rng(0)
    noisy, noise, smoothing = rng.standard_normal(4000) * np.linspace(0, 3, 4000), rng.standard_normal(RATE), 0.9
    settings = {"fs": RATE, "window": "hann", "nperseg": 512, "noverlap": 384, "boundary": "zeros"}
    power = np.mean(np.abs(signal.stft(noise, padded=False, **settings)[2][:, 2:-2]) ** 2, axis=1)  # (F,)
    spectrum = signal.stft(np.pad(noisy, (0, 512)), padded=False, **settings)[2]
    for k in range(len(power)):
        amplitude = max(abs(spectrum[k, 0]) ** 2 - power[k], 0) ** 0.5  # of the speech in the last frame
        for t in range(spectrum.shape[1]):
            posterior = abs(spectrum[k, t]) ** 2 / power[k]
            prior = smoothing * amplitude**2 / power[k] + (1 - smoothing) * max(posterior - 1, 0)  # eq. 51
            spectrum[k, t] *= max(prior / (1 + prior), 10 ** (-15 / 20))
            amplitude = prior / (1 + prior) * (posterior * power[k]) ** 0.5
    expected = signal.istft(spectrum, **settings)[1][:4000]
    np.testing.assert_allclose(wiener(noisy, RATE, noise, smoothing=smoothing, reduction_db=15), expected, atol=1e-9)


def test_wiener_remembers_the_last_frame() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(4 * RATE)
    # noise alone: with memory, single cells that happen to be loud do not pass
    with_memory, without = (wiener(noise[:RATE], RATE, noise[RATE:], smoothing=s) for s in (0.98, 0.0))
    assert level(with_memory) < level(without) - 5


def test_gate_lets_through_or_turns_down() -> None:
    rng = np.random.default_rng(0)
    noise, t = rng.standard_normal(4 * RATE), np.arange(RATE) / RATE
    shut = spectral_gate(noise[:RATE], RATE, noise[RATE:], threshold_db=15, reduction_db=12)
    np.testing.assert_allclose(shut, noise[:RATE] * 10 ** (-12 / 20), atol=1e-9)
    loud = 100 * rng.standard_normal(RATE)
    assert snr(loud, spectral_gate(loud, RATE, noise[RATE:])) > 40
    tone = 10 * np.sin(2 * np.pi * 1000 * t)
    assert snr(tone, spectral_gate(tone + noise[:RATE], RATE, noise[RATE:])) > snr(tone, tone + noise[:RATE]) + 10


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=30)
@given(audio=arrays(np.float32, st.integers(1, 2500), elements=st.floats(-1, 1, width=32)), known=st.booleans())
def test_any_sound(method, audio: np.ndarray, known: bool) -> None:
    found = method(audio, RATE, audio[::-1].copy() if known else None)
    assert found.shape == audio.shape and found.dtype == np.float32 and np.isfinite(found).all()
    energy = float((audio.astype(np.float64) ** 2).sum())
    assert float((found.astype(np.float64) ** 2).sum()) <= 1.2 * energy + 1e-9  # a gain of at most 1 in each cell


@pytest.mark.parametrize("method", METHODS)
def test_no_noise_and_silence(method) -> None:
    clean = speech_like()
    assert snr(clean, method(clean, RATE, np.zeros(RATE))) > 40  # there is nothing to take away
    np.testing.assert_array_equal(method(np.zeros(3000), RATE), np.zeros(3000))
    assert len(method(clean[:: RATE // 8000], 8000)) == len(clean) // 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wiener(np.zeros(0), RATE), "audio is float64"),
        (lambda: wiener(np.ones(9), RATE, np.zeros(0)), "noise is float64"),
        (lambda: wiener(np.ones(9), RATE, smoothing=1.0), "smoothing is 1.0"),
        (lambda: wiener(np.ones(9), RATE, reduction_db=-1), "reduction_db -1"),
        (lambda: spectral_gate(np.array([np.nan]), RATE), "value nan"),
        (lambda: spectral_gate(np.ones(9), RATE, threshold_db=-1), "threshold_db is -1"),
        (lambda: spectral_gate(np.ones(9), 0), "sample_rate is 0"),
    ],
)
def test_unusable_arguments(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
