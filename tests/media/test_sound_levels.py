"""Mixing down and range: closed forms, FFmpeg's own mix with the weights of BS.775, and warnings that state a loss."""

import io
import warnings
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from mmlearn.datasets import read_clip
from mmlearn.media import read_mp4, write_mp4
from mmlearn.preprocessing.audio import read_audio, to_mono

RATE = 16_000
VOICE = 0.3 * np.sin(np.arange(RATE) / 7)
SILENCE = 0 * VOICE
OTHER = 0.3 * np.random.default_rng(0).uniform(-1, 1, RATE)


def wav(samples: np.ndarray, subtype: str = "PCM_24", form: str = "WAV") -> io.BytesIO:
    """A sound file of (S,) or (S, C)."""
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, subtype, format=form)
    return file


def quietly(call: Any, *arguments: Any, **options: Any) -> Any:
    """Call a function that must not warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return call(*arguments, **options)


@pytest.mark.parametrize(
    ("channels", "below"),
    [
        ([VOICE, -VOICE], "far"),  # a balanced microphone
        ([VOICE, -0.9 * VOICE], "26 dB"),
        ([SILENCE, SILENCE, VOICE, SILENCE, SILENCE, SILENCE], "16 dB"),  # the centre of 5.1
        ([VOICE, -VOICE, SILENCE, SILENCE], "far"),
        ([*[SILENCE] * 7, VOICE], "18 dB"),
    ],
)
def test_a_mix_that_loses_its_parts_warns(channels: list[np.ndarray], below: str) -> None:
    loudest = int(np.argmax([np.abs(c).max() for c in channels]))
    file = wav(np.stack(channels, axis=1))
    with pytest.warns(UserWarning, match=f"<bytes>: the mix of {len(channels)} channels is {below} quieter") as seen:
        mixed = read_audio(file)
    assert len(seen) == 1 and f"channel {loudest} alone" in str(seen[0].message)
    np.testing.assert_allclose(mixed, np.mean(channels, axis=0), atol=1e-6)
    with pytest.warns(UserWarning, match=f"audio: the mix of {len(channels)}"):
        to_mono(np.stack(channels))
    for channel in ("loudest", loudest):
        np.testing.assert_allclose(quietly(read_audio, file, channel=channel), channels[loudest], atol=1e-6)
        np.testing.assert_array_equal(quietly(to_mono, np.stack(channels), channel), channels[loudest])


@pytest.mark.parametrize(
    "channels", [[VOICE], [VOICE, VOICE], [VOICE, OTHER], [VOICE, SILENCE], [SILENCE, SILENCE], [VOICE] * 8]
)
def test_an_ordinary_mix_does_not_warn(channels: list[np.ndarray]) -> None:
    found = quietly(read_audio, wav(np.stack(channels, axis=1)))
    np.testing.assert_allclose(found, np.mean(channels, axis=0), atol=1e-6)
    np.testing.assert_allclose(quietly(to_mono, np.stack(channels)), np.mean(channels, axis=0))


def test_channels_by_number() -> None:
    file = wav(np.stack([VOICE, OTHER], axis=1))
    for k, sound in enumerate((VOICE, OTHER)):
        np.testing.assert_allclose(read_audio(file, channel=k), sound, atol=1e-6)
        np.testing.assert_allclose(read_audio(file, channel=np.int64(k), start=0.3), sound[4800:], atol=1e-6)
    with pytest.raises(ValueError, match="<bytes>: has no channel 2; found 2, numbered from 0"):
        read_audio(file, channel=2)
    with pytest.raises(ValueError, match="<bytes>: has no channel 1; found 1"):
        read_audio(wav(VOICE), channel=1)
    bad: Any
    for bad in (-1, True, "left", 0.0, None, [0]):
        with pytest.raises(ValueError, match=r"channel is .*; expected a channel's number"):
            read_audio(file, channel=bad)
        with pytest.raises(ValueError, match=r"channel is .*; expected a channel's number"):
            to_mono(np.ones((2, 5)), bad)


def test_the_loudest_is_that_of_the_part_that_is_read() -> None:
    file = wav(np.stack([np.r_[VOICE[:8000], SILENCE[:8000]], np.r_[SILENCE[:8000], 0.9 * VOICE[8000:]]], axis=1))
    np.testing.assert_allclose(read_audio(file, channel="loudest", end=0.4), VOICE[:6400], atol=1e-6)
    np.testing.assert_allclose(read_audio(file, channel="loudest", start=0.6), 0.9 * VOICE[9600:], atol=1e-6)


@pytest.mark.parametrize("layout", ["mono", "stereo", "5.0", "5.1", "5.1(side)", "quad", "4.0"])
def test_bs775_is_ffmpeg_s_mix_of_floats(tmp_path: Path, layout: str) -> None:
    """FFmpeg's resampler mixes floats to mono with the same weights, which it takes from the same document."""
    count = av.AudioLayout(layout).nb_channels
    sound = (0.2 * np.random.default_rng(1).uniform(-1, 1, (count, RATE))).astype(np.float32)
    path = tmp_path / "x.wav"
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound.T).reshape(1, -1), format="flt", layout=layout)
    frame.sample_rate = RATE
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_f32le", rate=RATE, layout=layout)
        out.mux([*stream.encode(frame), *stream.encode(None)])
    mixed = av.AudioResampler(format="flt", layout="mono", rate=RATE).resample(frame)
    expected = np.concatenate([part.to_ndarray()[0] for part in mixed])
    np.testing.assert_allclose(read_audio(path, channel="bs775"), expected, atol=1e-5)
    if layout in ("mono", "stereo", "5.0", "5.1"):
        np.testing.assert_allclose(to_mono(sound, "bs775"), expected, atol=1e-5)


def test_bs775_by_hand_and_where_it_has_no_weights() -> None:
    centre = np.stack([SILENCE, SILENCE, VOICE, SILENCE, SILENCE, SILENCE])
    np.testing.assert_allclose(read_audio(wav(centre.T), channel="bs775"), VOICE, atol=1e-6)
    parts = np.diag([0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    np.testing.assert_allclose(to_mono(parts, "bs775"), 0.1 * np.array([0.5**0.5, 0.5**0.5, 1, 0, 0.5, 0.5]))
    with pytest.raises(ValueError, match="channels are 7; expected 1, 2, 3, 5, 6 or 8"):
        to_mono(np.ones((7, 9)), "bs775")
    with pytest.warns(UserWarning, match="<bytes>: the mix of 6 channels is far quieter than channel 3"):
        read_audio(wav(np.stack([SILENCE] * 3 + [VOICE] + [SILENCE] * 2, axis=1)), channel="bs775")  # effects only


def test_a_clip_of_a_channel() -> None:
    file = wav(np.stack([VOICE, OTHER], axis=1))
    np.testing.assert_allclose(read_clip(file, channel=1).audio, OTHER, atol=1e-6)
    with pytest.raises(ValueError, match="no channel 5"):
        read_clip(file, channel=5)


@pytest.mark.parametrize(
    ("scale", "form", "likely"),
    [
        (32768, "WAV", "16-bit sound: divide them by 32768"),
        (1000, "WAV", "16-bit sound: divide them by 32768"),  # quiet
        (2**23, "AU", "24-bit sound: divide them by 8388608"),
        (2**31, "AIFF", "32-bit sound: divide them by 2147483648"),
        (7.5, "W64", "divide them by 2.25, their peak"),
        (1e12, "CAF", "divide them by 3e+11"),
    ],
)
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_sound_of_another_scale_is_refused(scale: float, form: str, likely: str, subtype: str) -> None:
    file = wav(VOICE * scale, subtype, form)
    with pytest.raises(ValueError, match=r"<bytes>: samples reach .*; expected floats in \[-1, 1\] ") as error:
        read_audio(file)
    assert likely in str(error.value) and f"reach {np.abs(VOICE * scale).max():.6g}"[:9] in str(error.value)
    with pytest.raises(ValueError, match="<bytes>: samples reach"):
        read_audio(wav(np.stack([SILENCE, VOICE * scale, SILENCE], axis=1), subtype, form))


@pytest.mark.parametrize("peak", [1.01, 1.2, 2.0])
def test_a_little_outside_is_cut_with_one_warning(tmp_path: Path, peak: float) -> None:
    loud = VOICE / 0.3 * peak
    outside = int((np.abs(loud.astype(np.float32)) > 1).sum())
    for call in (lambda: read_audio(wav(loud, "FLOAT")), lambda: read_mp4(wav(loud, "FLOAT")).audio):
        with pytest.warns(UserWarning, match=f"<bytes>: samples reach {peak:.3g}; {outside} of 16000 were cut") as seen:
            found = call()
        assert len(seen) == 1
        np.testing.assert_allclose(found, loud.clip(-1, 1), atol=1e-6)
    with pytest.warns(UserWarning, match=f"audio: samples reach {peak:.3g}; .* of 16000 were cut off"):
        write_mp4(tmp_path / "x.mp4", audio=loud, sample_rate=RATE)


def test_cutting_after_resampling_is_stated() -> None:
    square = np.sign(np.sin(np.arange(RATE) / 20)) * 0.999  # full scale: band-limited, it overshoots by a tenth
    with pytest.warns(UserWarning, match="samples reach 1.*were cut off at 1"):
        assert np.abs(read_audio(wav(square), 11_025)).max() == 1
    loud = np.stack([0.9 * VOICE / 0.3] * 2, axis=1)  # 2 · √½ · 0.9
    with pytest.warns(UserWarning, match=r"samples reach 1\.27; .* were cut off"):
        read_audio(wav(loud), channel="bs775")


def test_what_cannot_be_heard_is_cut_in_silence(tmp_path: Path) -> None:
    for loud in (VOICE / 0.3, VOICE / 0.3 * 1.001, np.r_[VOICE, 1.02]):
        assert np.abs(quietly(read_audio, wav(loud, "FLOAT"))).max() <= 1
        quietly(write_mp4, tmp_path / "x.mp4", audio=loud.astype(np.float32), sample_rate=RATE)


def test_write_mp4_refuses_another_scale(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"audio: samples reach 9830.*divide them by 32768"):
        write_mp4(tmp_path / "x.mp4", audio=(VOICE * 32767).astype(np.float32), sample_rate=RATE)
    assert not list(tmp_path.iterdir())
