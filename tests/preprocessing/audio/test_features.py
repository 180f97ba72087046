"""LogMel and MFCC against librosa and torchaudio; SpecAugment by counting what it hides."""

import librosa
import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlearn.preprocessing.audio import MFCC, LogMel, SpecAugment

RATE = 16_000


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


SETTINGS = [
    {},
    {"num_mels": 40, "f_min": 60.0, "f_max": 7_600.0},
    {"num_mels": 80, "n_fft": 512, "hop_length": 128},
    {"sample_rate": 44_100, "num_mels": 96, "n_fft": 2048, "hop_length": 512, "f_max": 16_000.0},
]


@pytest.mark.parametrize("options", SETTINGS)
def test_equals_librosa(options: dict) -> None:
    audio, rate, hop = noise(16_000), options.get("sample_rate", RATE), options.get("hop_length", 160)
    energies = librosa.feature.melspectrogram(
        y=audio, sr=rate, n_fft=options.get("n_fft", 400), hop_length=hop, n_mels=options.get("num_mels", 64),
        fmin=options.get("f_min", 0.0), fmax=options.get("f_max"), pad_mode="reflect"
    )  # fmt: skip
    expected = np.log(np.maximum(energies, 1e-6))
    found = LogMel(**options)(audio).numpy()
    assert found.shape == expected.shape == (options.get("num_mels", 64), 16_000 // hop + 1)
    assert np.abs(found - expected).max() < 1e-4


def test_is_torchaudio_s_and_never_changes() -> None:
    audio = torch.from_numpy(noise(8_000).reshape(2, 4_000))
    mel = torchaudio.transforms.MelSpectrogram(
        RATE, n_fft=400, hop_length=160, n_mels=64, norm="slaney", mel_scale="slaney"
    )
    expected = mel(audio).clamp(min=1e-6).log()
    torch.testing.assert_close(LogMel()(audio), expected, atol=1e-5, rtol=0)
    many = torch.randn(3, 7, 4_000)  # more than one part
    torch.testing.assert_close(LogMel()(many)[2, 6], LogMel()(many[2, 6]), atol=1e-5, rtol=0)


def test_from_the_definition() -> None:
    audio, mel = noise(1_600), LogMel()
    padded = np.pad(audio.astype(np.float64), 200, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = np.stack([padded[160 * t : 160 * t + 400] * window for t in range(11)])  # (T, 400)
    power = np.abs(np.fft.rfft(frames)) ** 2  # (T, 201)
    expected = np.log(np.maximum(librosa.filters.mel(sr=RATE, n_fft=400, n_mels=64) @ power.T, 1e-6))
    assert np.abs(mel(audio).numpy() - expected).max() < 1e-4


def test_batches_steps_and_silence() -> None:
    mel = LogMel(num_mels=32)(torch.zeros(2, 3, 1600))
    assert mel.shape == (2, 3, 32, 11)
    assert torch.allclose(mel, torch.full_like(mel, np.log(1e-6)))


@settings(max_examples=20)
@given(samples=st.integers(1, 900))
def test_any_length(samples: int) -> None:
    found = LogMel()(noise(samples))
    assert found.shape == (64, samples // 160 + 1) and found.isfinite().all()


def test_errors() -> None:
    for audio, message in [
        (np.zeros(0, np.float32), "at least one sample"),
        (np.float32(1), r"torch\.float32 \(\)"),
        (np.zeros(100, np.int16), r"torch\.int16"),
        (np.array([0, np.nan], np.float32), "not finite"),
        (np.array([0, np.inf], np.float32), "not finite"),
    ]:
        with pytest.raises(ValueError, match=message):
            LogMel()(audio)
    for options in ({"num_mels": 0}, {"n_fft": 0}, {"hop_length": 0}, {"f_min": -1.0}, {"f_max": 9000.0},
                    {"f_min": 500.0, "f_max": 400.0}):  # fmt: skip
        with pytest.raises(ValueError, match="f_min < f_max ≤ 8000"):
            LogMel(**options)


def test_mfcc_equals_librosa_and_torchaudio() -> None:
    audio = noise(16_000)
    found = MFCC(num_mfcc=20)(audio)
    assert found.shape == (20, 101)
    expected = librosa.feature.mfcc(S=LogMel()(audio).numpy(), n_mfcc=20)  # the same input, its cosine transform
    assert np.abs(found.numpy() - expected).max() < 1e-4
    settings = {"n_fft": 400, "hop_length": 160, "n_mels": 64, "norm": "slaney", "mel_scale": "slaney"}
    other = torchaudio.transforms.MFCC(RATE, 20, log_mels=True, melkwargs=settings)(torch.from_numpy(audio))
    assert (found - other).abs().max() < 0.05  # it adds 1e-6 where LogMel takes at least 1e-6


def test_mfcc_of_all_bands_loses_nothing_and_of_a_batch_is_that_of_each() -> None:
    audio = torch.from_numpy(noise(4_800).reshape(3, 1_600))
    full = MFCC(num_mfcc=64)
    np.testing.assert_allclose(full.dct @ full(audio), LogMel()(audio), atol=1e-3)  # an orthogonal transform
    torch.testing.assert_close(full(audio)[1], full(audio[1]))
    assert MFCC(8_000, 5, 20, hop_length=40)(audio).shape == (3, 5, 41)
    for count in (0, 65):
        with pytest.raises(ValueError, match=f"num_mfcc is {count}; expected 1 to 64"):
            MFCC(num_mfcc=count)


def stretches(hidden: torch.Tensor) -> list[int]:
    """Lengths of the runs of True in bool (N,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], hidden.numpy(), [False]]).astype(int)))
    return list(edges[1::2] - edges[::2])


@settings(max_examples=60)
@given(
    bands=st.integers(4, 20),
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=4),
    counts=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    widths=st.tuples(st.integers(0, 4), st.integers(0, 12)),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_spec_augment_hides_no_more_than_it_may(
    bands: int, lengths: list[int], counts: tuple[int, int], widths: tuple[int, int], share: float, seed: int
) -> None:
    steps = max(1, *lengths) if len(lengths) > 1 else max(1, lengths[0])
    mask = torch.arange(steps) < torch.tensor(lengths)[:, None]
    mel = torch.rand(len(lengths), bands, steps, generator=torch.Generator().manual_seed(seed)) + 1
    mel[~mask[:, None].expand_as(mel)] = torch.nan  # what is not real has no influence
    augment = SpecAugment(counts[0], widths[0], counts[1], widths[1], share)
    found = augment(mel, mask, torch.Generator().manual_seed(seed))
    again = augment(mel, mask, torch.Generator().manual_seed(seed))
    torch.testing.assert_close(found, again, rtol=0, atol=0, equal_nan=True)
    for before, after, length in zip(mel, found, lengths, strict=True):
        torch.testing.assert_close(before[:, length:], after[:, length:], equal_nan=True)
        if not length:
            continue
        before, after = before[:, :length], after[:, :length]
        hidden = before != after
        torch.testing.assert_close(after[hidden], before.mean().expand(int(hidden.sum())))
        whole_bands, whole_steps = hidden.all(dim=1), hidden.all(dim=0)
        assert (hidden == (whole_bands[:, None] | whole_steps)).all() or not hidden.any()
        most = min(widths[1], int(length * np.float32(share)))
        if not whole_steps.all():
            assert whole_bands.sum() <= counts[0] * widths[0] and len(stretches(whole_bands)) <= counts[0]
        if not whole_bands.all():
            assert whole_steps.sum() <= counts[1] * most and len(stretches(whole_steps)) <= counts[1]


def test_spec_augment_draws_widths_evenly_and_for_each_sample() -> None:
    mel = torch.rand(4_000, 16, 40)
    hidden = SpecAugment(1, 4, 0, 0)(mel) != mel
    widths = hidden.all(dim=2).sum(dim=1)
    share = torch.bincount(widths, minlength=5) / 4_000
    assert (share - 0.2).abs().max() < 0.03  # 0 to 4 bands
    first = hidden.all(dim=2).float().argmax(dim=1)[widths == 4]
    assert set(first.tolist()) == set(range(13))  # everywhere, both ends included
    hidden = SpecAugment(0, 0, 1, 10, time_share=0.1)(mel) != mel
    assert hidden.all(dim=1).sum(dim=1).max() == 4  # a tenth of the steps


def test_spec_augment_only_trains() -> None:
    mel = torch.rand(2, 64, 100)
    augment = SpecAugment()
    torch.manual_seed(0)
    assert not torch.equal(augment(mel), mel)
    assert torch.equal(augment.eval()(mel), mel)
    assert augment.train()(mel.to(torch.bfloat16)).dtype == torch.bfloat16


def test_spec_augment_errors() -> None:
    for arguments in ({"freq_masks": -1}, {"time_width": -1}, {"time_share": 1.1}):
        with pytest.raises(ValueError, match="expected no negative number"):
            SpecAugment(**arguments)
    for shape, mask in [((64, 100), None), ((1, 8, 100), None), ((1, 64, 100), torch.ones(1, 99, dtype=torch.bool))]:
        with pytest.raises(ValueError, match=r"expected \(B, M, T\)"):
            SpecAugment()(torch.zeros(shape), mask)
