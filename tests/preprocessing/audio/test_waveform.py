"""Waveforms against closed forms, scipy and librosa; what must hold for any sound by hypothesis."""

import math

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import signal

from mmlearn.preprocessing import audio as facade
from mmlearn.preprocessing.audio.waveform import (
    de_emphasis,
    level,
    mix,
    pad_or_cut,
    pitch_shift,
    pre_emphasis,
    resample,
    snr,
    time_stretch,
    to_mono,
    trim,
)

RATE = 16_000
sounds = arrays(np.float32, st.integers(1, 3000), elements=st.floats(-1, 1, width=32))


def sine(frequency: float, seconds: float = 1.0, rate: int = RATE, amplitude: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def test_everything_can_be_imported_from_one_place() -> None:
    assert all(callable(getattr(facade, name)) for name in facade.__all__)


def test_to_mono() -> None:
    np.testing.assert_allclose(to_mono(np.array([[1.0, 0.0], [0.0, 0.5]])), [0.5, 0.25])
    np.testing.assert_array_equal(to_mono(np.array([0.25, 0.5])), [0.25, 0.5])


@pytest.mark.parametrize(
    ("from_rate", "to_rate"), [(48_000, 16_000), (44_100, 16_000), (8_000, 16_000), (16_000, 11_025)]
)
def test_resampled_sine_is_the_sine(from_rate: int, to_rate: int) -> None:
    found = resample(sine(440, rate=from_rate), from_rate, to_rate)
    expected = sine(440, rate=to_rate)
    assert len(found) == len(expected) and found.dtype == np.float32
    inner = slice(to_rate // 10, -to_rate // 10)
    assert np.abs(found - expected)[inner].max() < 1e-4
    other = signal.resample_poly(sine(440, rate=from_rate), to_rate, from_rate)
    assert np.abs(found - other)[inner].max() < 5e-3  # scipy's shorter filter


def test_resampling_keeps_out_what_the_new_rate_cannot_hold() -> None:
    high = sine(7_000)  # above 4 kHz, half of 8 kHz
    inner = resample(high, RATE, 8_000)[200:-200]  # it is switched on and off: a click
    assert level(inner) < level(high) - 90
    assert level(high[::2]) > level(high) - 0.1  # every other sample: it comes back as another tone


@settings(max_examples=40)
@given(audio=sounds, rates=st.tuples(*[st.sampled_from([8_000, 11_025, 16_000, 44_100])] * 2))
def test_resampled_length(audio: np.ndarray, rates: tuple[int, int]) -> None:
    assert len(resample(audio, *rates)) == math.ceil(len(audio) * rates[1] / rates[0])
    assert rates[0] != rates[1] or np.array_equal(resample(audio, *rates), audio)


def test_level_and_snr_in_closed_form() -> None:
    assert level(np.ones(8)) == 0 and level(np.zeros(8)) == -math.inf
    assert level(sine(1000, amplitude=1.0)) == pytest.approx(-3.0103, abs=1e-3)
    clean = sine(1000)
    assert snr(clean, 1.1 * clean) == pytest.approx(20, abs=1e-3)
    assert snr(clean, clean) == math.inf and snr(np.zeros(4), np.ones(4)) == -math.inf


@settings(max_examples=60)
@given(
    speech=sounds.filter(lambda x: np.abs(x).max() > 1e-3),
    noise=sounds,
    snr_db=st.floats(-30, 50),
    seed=st.none() | st.integers(0, 9),
)
def test_mix_has_the_ratio_asked_for(speech: np.ndarray, noise: np.ndarray, snr_db: float, seed: int | None) -> None:
    noise = noise + np.float32(0.01) * (-1) ** np.arange(len(noise), dtype=np.float32)  # at no place silent for long
    found = [
        mix(speech.astype(np.float64), noise, snr_db, None if seed is None else np.random.default_rng(seed))
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*found)
    if np.any(found[0] != speech):
        assert snr(speech.astype(np.float64), found[0]) == pytest.approx(snr_db, abs=1e-6)


def test_mix_repeats_cuts_and_begins_anywhere() -> None:
    speech, noise = np.ones(7), np.array([1.0, -1.0, 3.0])
    added = mix(speech, noise, 0) - 1
    np.testing.assert_allclose(added / added[0], [1, -1, 3, 1, -1, 3, 1])
    begins = {round((a := mix(speech, noise, 0, np.random.default_rng(k)) - 1)[0] / np.abs(a).min()) for k in range(20)}
    assert begins == {1, -1, 3}
    assert mix(speech.astype(np.float32), noise, 3).dtype == np.float32


@settings(max_examples=60)
@given(audio=sounds, rate=st.sampled_from([50, 1000, 8000]), top_db=st.floats(1, 80))
def test_trim_never_cuts_above_the_threshold(audio: np.ndarray, rate: int, top_db: float) -> None:
    kept, (start, end) = trim(audio, rate, top_db)
    first, last = round(start * rate), round(end * rate)
    np.testing.assert_array_equal(kept, audio[first:last])
    step = max(1, rate // 100)
    energy = [float((audio[i : i + step].astype(np.float64) ** 2).sum()) for i in range(0, len(audio), step)]
    threshold = max(energy) * 10 ** (-top_db / 10)
    loud = [k for k, value in enumerate(energy) if value > threshold * (1 + 1e-4)]
    assert all(first <= k * step and min((k + 1) * step, len(audio)) <= last for k in loud)
    if max(energy) > 1e-30:  # and it cuts what is silent: the first and the last block kept are loud
        assert energy[first // step] >= threshold * (1 - 1e-4) and energy[(last - 1) // step] >= threshold * (1 - 1e-4)


def test_trim_agrees_with_librosa() -> None:
    audio = np.concatenate([np.zeros(5000), sine(300, 0.5), np.zeros(7000)]).astype(np.float32)
    _, (start, end) = trim(audio, RATE)
    _, (first, last) = librosa.effects.trim(audio, top_db=40, frame_length=320, hop_length=160, ref=np.max)
    assert abs(start * RATE - first) <= 320 and abs(end * RATE - last) <= 320
    assert abs(start * RATE - 5000) < 160 and abs(end * RATE - 13_000) < 160


@settings(max_examples=60)
@given(
    audio=sounds,
    length=st.integers(1, 4000),
    keep=st.sampled_from(["start", "centre", "random"]),
    seed=st.integers(0, 3),
)
def test_pad_or_cut(audio: np.ndarray, length: int, keep: str, seed: int) -> None:
    found = pad_or_cut(audio, length, keep, np.random.default_rng(seed))  # type: ignore[arg-type]
    assert len(found) == length and found.dtype == audio.dtype
    np.testing.assert_array_equal(found, pad_or_cut(audio, length, keep, np.random.default_rng(seed)))  # type: ignore
    spare = abs(len(audio) - length)
    places = {"start": [0], "centre": [spare // 2], "random": range(spare + 1)}[keep]
    if len(audio) >= length:
        assert any(np.array_equal(found, audio[k : k + length]) for k in places)
    else:
        assert any(np.array_equal(found[k : k + len(audio)], audio) for k in places)
        assert np.count_nonzero(found) == np.count_nonzero(audio)


@settings(max_examples=40)
@given(audio=sounds, coefficient=st.floats(0, 0.99))
def test_emphasis_and_back(audio: np.ndarray, coefficient: float) -> None:
    found = de_emphasis(pre_emphasis(audio.astype(np.float64), coefficient), coefficient)
    np.testing.assert_allclose(found, audio, atol=1e-9)
    found = pre_emphasis(audio, coefficient)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, librosa.effects.preemphasis(audio, coef=coefficient, zi=[0.0]), atol=1e-6)


def frequency(audio: np.ndarray) -> float:
    """Of the strongest tone, in Hz."""
    return float(np.abs(np.fft.rfft(audio * np.hanning(len(audio)))).argmax()) * RATE / len(audio)


@pytest.mark.parametrize("rate", [0.5, 0.8, 1.0, 1.3, 2.0])
def test_time_stretch_changes_length_and_not_pitch(rate: float) -> None:
    found = time_stretch(sine(440), rate)
    assert len(found) == round(RATE / rate) and found.dtype == np.float32
    assert frequency(found) == pytest.approx(440, abs=4)


@pytest.mark.parametrize("semitones", [-12, -2.5, 0, 3, 12])
def test_pitch_shift_changes_pitch_and_not_length(semitones: float) -> None:
    found = pitch_shift(sine(440), RATE, semitones)
    assert len(found) == RATE and found.dtype == np.float32
    assert frequency(found) == pytest.approx(440 * 2 ** (semitones / 12), rel=0.01)


@pytest.mark.parametrize("length", [1, 100, 2047])
def test_short_sounds_can_be_stretched(length: int) -> None:
    audio = np.full(length, 0.1, np.float32)
    assert len(time_stretch(audio, 2.0)) == max(1, round(length / 2)) and len(pitch_shift(audio, RATE, 2)) == length


one = np.zeros(10, np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: to_mono(np.zeros((2, 2, 2))), r"\(2, 2, 2\); expected floats \(C, S\)"),
        (lambda: to_mono(np.array(0.5)), r"audio is float64 \(\); expected floats \(S,\)"),
        (lambda: level(np.zeros(0)), r"audio is float64 \(0,\)"),
        (lambda: level(np.zeros(4, np.int16)), "audio is int16 .* divide by 32768"),
        (lambda: level(np.zeros(4, np.int32)), "divide by 2147483648"),
        (lambda: level(np.array(["a"])), "audio is <U1"),
        (lambda: level(np.array([0, math.nan])), r"audio has a value nan at \[1\]"),
        (lambda: to_mono(np.array([[0, 1], [math.inf, 0]])), r"value inf at \[1, 0\]"),
        (lambda: snr(one, one[:4]), r"noisy is \(4,\), clean is \(10,\)"),
        (lambda: mix(one, np.zeros(0), 3), "noise is float64"),
        (lambda: mix(one, one, math.nan), "snr_db is nan"),
        (lambda: resample(one, 0, 8000), "from_rate is 0"),
        (lambda: resample(one, 8000, 0.5), "to_rate is 0.5"),  # type: ignore[arg-type]
        (lambda: trim(one, 8000, 0), "top_db is 0"),
        (lambda: trim(one, 0), "sample_rate is 0"),
        (lambda: pad_or_cut(one, 0), "length is 0"),
        (lambda: pad_or_cut(one, 5, "end"), 'keep is \'end\''),  # type: ignore[arg-type]
        (lambda: pad_or_cut(one, 5, "random"), "generator is None"),
        (lambda: pre_emphasis(one, 1.0), "coefficient is 1.0"),
        (lambda: de_emphasis(one, -0.1), "coefficient is -0.1"),
        (lambda: time_stretch(one, 0), "rate is 0"),
        (lambda: time_stretch(one, math.nan), "rate is nan"),
        (lambda: pitch_shift(one, RATE, 25), "semitones is 25"),
    ],
)  # fmt: skip
def test_unusable_arguments(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
