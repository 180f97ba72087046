"""Another speaker who says the same: pitch, formants and tempo against closed forms; warped and standardized bands."""

import librosa
import numpy as np
import pytest
import torch

from mmlearn.preprocessing.audio import LogMel
from mmlearn.preprocessing.audio.voice import WarpBands, change_voice, standardize_bands, warp_bands

RATE = 16_000


def vowel(pitch: float, formant: float, seconds: float = 1.0) -> np.ndarray:
    """Harmonics of `pitch` under one resonance: amplitudes are known at each frequency."""
    t = np.arange(round(seconds * RATE)) / RATE
    frequencies = np.arange(pitch, 7_000, pitch)
    amplitudes = 1 / (1 + ((frequencies - formant) / 400) ** 2)
    return (0.05 * (amplitudes[:, None] * np.sin(2 * np.pi * frequencies[:, None] * t)).sum(axis=0)).astype(np.float32)


def spectrum(x: np.ndarray) -> np.ndarray:
    """Magnitude at every whole Hz, from the middle of the sound."""
    middle = x[len(x) // 4 : -len(x) // 4]
    return np.abs(np.fft.rfft(middle * np.hanning(len(middle)), RATE))


def formant_of(x: np.ndarray, pitch: float) -> float:
    """Where the harmonics are strongest, by a parabola through the logarithms of the three highest."""
    found = spectrum(x)
    heights = np.log([found[round(f) - 3 : round(f) + 4].max() for f in np.arange(pitch, 6_500, pitch)])
    k = int(heights[1:-1].argmax()) + 1
    left, top, right = heights[k - 1 : k + 2]
    return float(pitch * (k + 1 + 0.5 * (left - right) / (left - 2 * top + right)))


@pytest.mark.parametrize("semitones", [-12, -5, 4, 12])
def test_every_harmonic_moves_by_the_ratio_and_the_length_stays(semitones: float) -> None:
    sound, new = vowel(160, 1_200), 160 * 2 ** (semitones / 12)
    out = change_voice(sound, RATE, semitones=semitones)
    assert out.shape == sound.shape and out.dtype == sound.dtype
    found = spectrum(out)
    for k in range(1, 5):
        place = round(k * new)
        window = found[place - round(new / 3) : place + round(new / 3)]
        assert place - round(new / 3) + int(window.argmax()) == pytest.approx(k * new, abs=4)


@pytest.mark.parametrize("tempo", [0.5, 0.8, 1.6])
def test_tempo_changes_length_and_nothing_else(tempo: float) -> None:
    tone = (0.3 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.float32)
    out = change_voice(tone, RATE, tempo=tempo)
    assert len(out) == round(RATE / tempo)
    assert spectrum(out).argmax() == pytest.approx(440, abs=3)
    np.testing.assert_allclose(out, librosa.effects.time_stretch(tone, rate=tempo)[: len(out)], atol=1e-6)


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_formants_move_while_the_pitch_stays(factor: float) -> None:
    out = change_voice(vowel(125, 1_600), RATE, formants=factor)
    assert formant_of(out, 125) == pytest.approx(1_600 * factor, rel=0.03)
    between, on = spectrum(out)[1_062], spectrum(out)[1_000]  # half-way between two harmonics, and on one
    assert on > 30 * between


@pytest.mark.parametrize("semitones", [-7, 7])
def test_the_pitch_moves_while_formants_stay(semitones: float) -> None:
    new = 160 * 2 ** (semitones / 12)
    out = change_voice(vowel(160, 1_600), RATE, semitones=semitones)
    assert formant_of(out, new) == pytest.approx(1_600, rel=0.05)
    plain = librosa.effects.pitch_shift(vowel(160, 1_600), sr=RATE, n_steps=semitones)
    assert abs(formant_of(plain, new) / 1_600 - 1) > 0.3  # librosa's moves both


def test_no_change_returns_the_sound() -> None:
    sound = vowel(125, 1_200)
    assert change_voice(sound, RATE) is sound
    np.testing.assert_allclose(change_voice(sound, RATE, formants=1.0 + 1e-9), sound, atol=1e-4)


@pytest.mark.parametrize("size", [1, 100, 3_000])
def test_short_sounds_and_silence(size: int) -> None:
    for sound in (np.zeros(size, np.float32), np.full(size, 0.1)):
        out = change_voice(sound, RATE, semitones=3, formants=1.1, tempo=1.5)
        assert len(out) == max(1, round(size / 1.5)) and np.isfinite(out).all() and out.dtype == sound.dtype


@pytest.mark.parametrize(
    ("options", "message"),
    [({"semitones": 25}, "semitones is 25; expected -24 to 24"), ({"formants": 0.4}, "formants is 0.4"),
     ({"tempo": float("nan")}, "tempo is nan")],
)  # fmt: skip
def test_what_is_out_of_range_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        change_voice(np.ones(100), RATE, **options)
    with pytest.raises(ValueError, match="divide by 32768"):
        change_voice(np.ones(100, np.int16), RATE, semitones=1)


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.3])
def test_warped_bands_are_those_of_a_tone_that_is_as_much_higher(factor: float) -> None:
    t = np.arange(RATE) / RATE
    log_mel = LogMel()
    for frequency in (500, 1_000, 2_500, 3_500):
        if frequency * factor > 4_800 * min(factor, 1):
            continue
        was, is_ = (
            log_mel((0.3 * np.sin(2 * np.pi * f * t)).astype(np.float32))[:, 50]
            for f in (frequency, frequency * factor)
        )
        warped = warp_bands(was[:, None], factor)[:, 0]
        assert int(warped.argmax()) == pytest.approx(int(is_.argmax()), abs=1)


def test_the_top_band_stays_and_each_sample_has_its_factor() -> None:
    mel = torch.randn(3, 64, 5)
    factors = torch.tensor([0.8, 1.0, 1.25])
    out = warp_bands(mel, factors)
    torch.testing.assert_close(out[1], mel[1])
    for k, factor in enumerate(factors.tolist()):
        torch.testing.assert_close(out[k], warp_bands(mel[k], factor))
    ramp = torch.from_numpy(librosa.mel_frequencies(n_mels=66, fmax=8_000)[1:-1]).float()[:, None]  # band → its Hz
    low = ramp[:, 0] < 3_000
    torch.testing.assert_close(warp_bands(ramp, 1.25)[low], ramp[low] / 1.25, atol=15, rtol=0)  # what stood at f / 1.25
    assert float(warp_bands(ramp, 1.25)[-1]) == pytest.approx(float(ramp[-1]), rel=0.02)


def test_a_draw_of_its_own_for_each_sample_the_same_for_a_seed_and_none_in_eval() -> None:
    mel, warp = torch.randn(1, 64, 5).repeat(4, 1, 1), WarpBands(1.3)
    out = warp(mel, torch.Generator().manual_seed(0))
    assert len({one.sum().item() for one in out}) == 4
    torch.testing.assert_close(out, warp(mel, torch.Generator().manual_seed(0)))
    assert warp.eval()(mel) is mel


def test_bands_lose_mean_and_gain_and_padding_has_no_say() -> None:
    mel = torch.randn(2, 6, 40) * torch.rand(2, 6, 1).add(0.5) + torch.randn(2, 6, 1)
    mask = torch.arange(40) < torch.tensor([[40], [25]])
    out = standardize_bands(mel, mask)
    real = out[1, :, :25]
    torch.testing.assert_close(real.mean(dim=1), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(real.std(dim=1, correction=0), torch.ones(6), atol=5e-3, rtol=0)
    assert not out[1, :, 25:].any()
    torch.testing.assert_close(out[:1], standardize_bands(mel[:1]))
    spoilt = torch.where(mask[:, None], mel, torch.nan)
    torch.testing.assert_close(standardize_bands(spoilt, mask), out)
    response = 2.0 * torch.rand(1, 6, 1) - 5.0  # a microphone's, in the logarithm
    torch.testing.assert_close(standardize_bands(mel + response, mask), out, atol=1e-4, rtol=0)


@pytest.mark.parametrize("call", [
    lambda: warp_bands(torch.zeros(64, 5), 3.0), lambda: warp_bands(torch.zeros(2, 64, 5), torch.ones(3)),
    lambda: warp_bands(torch.zeros(64), 1.0), lambda: warp_bands(torch.zeros(2, 64, 5), float("nan")),
    lambda: WarpBands(0.9), lambda: standardize_bands(torch.zeros(64, 5)),
    lambda: standardize_bands(torch.zeros(2, 64, 5), torch.ones(2, 4, dtype=torch.bool)),
])  # fmt: skip
def test_shapes_and_factors_that_do_not_fit_are_refused(call: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        call()  # type: ignore[operator]
