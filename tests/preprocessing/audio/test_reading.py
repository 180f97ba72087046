"""read_audio against soundfile, read_mp4 and itself: any format, any window, several streams; and broken files."""

import io
import tempfile
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import librosa
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from mmlearn.media import read_mp4, write_mp4
from mmlearn.preprocessing.audio import read_audio

RATE = 16_000
ENCODERS = {"m4a": "aac", "mkv": "aac", "webm": "libopus", "mp3": "libmp3lame", "mp2": "mp2", "ts": "mp2", "mpg": "mp2",
            "aac": "aac", "flac": "flac", "opus": "libopus", "aiff": "pcm_s16be"}  # fmt: skip


def noise(seconds: float, rate: int = RATE, channels: int = 1) -> np.ndarray:
    """Low-pass noise (S, C): its cross-correlation has one sharp peak."""
    white = np.random.default_rng(0).standard_normal((round(seconds * rate), channels))
    return (0.1 * lfilter([1], [1, -0.9], white, axis=0)).clip(-1, 1).astype(np.float32)


def lag(a: np.ndarray, b: np.ndarray) -> int:
    """By how many samples b comes after a."""
    n = min(len(a), len(b))
    return n - 1 - int(np.argmax(np.correlate(a[:n].astype(np.float64), b[:n].astype(np.float64), "full")))


def add_sound(out: av.container.OutputContainer, codec: str, rate: int) -> av.AudioStream:
    return out.add_stream(codec, rate=rate, layout="mono")


def encode(stream: av.AudioStream, audio: np.ndarray, rate: int, at: int = 0) -> list[av.Packet]:
    """Encode mono sound (S,) whose first sample has the number `at`."""
    frame = av.AudioFrame.from_ndarray(audio[None].astype(np.float32), format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
    size = stream.codec_context.frame_size or 1024
    convert = av.AudioResampler(format=stream.format.name, layout="mono", rate=rate, frame_size=size)
    return [p for f in (*convert.resample(frame), *convert.resample(None)) if f for p in stream.encode(f)]


def write_sound(path: Path, audio: np.ndarray, rate: int, codec: str) -> Path:
    with av.open(str(path), "w", format="mpeg" if path.suffix == ".mpg" else None) as out:
        stream = add_sound(out, codec, rate)
        out.mux([*encode(stream, audio, rate), *stream.encode(None)])
    return path


def write_video(path: Path, audio: np.ndarray, *, late: int, codec: str = "pcm_s16le", frames: int = 30) -> Path:
    """Write a video whose sound begins `late` samples after the pictures."""
    with av.open(str(path), "w", format="mpeg" if path.suffix == ".mpg" else None) as out:
        coding = {"libx264": {"bf": "2"}} if path.suffix == ".mp4" else {"mpeg1video": {}}
        pictures = out.add_stream(next(iter(coding)), rate=25, options=next(iter(coding.values())))
        pictures.height, pictures.width, pictures.pix_fmt = 48, 64, "yuv420p"
        sound = add_sound(out, codec, RATE if codec != "mp2" else 48_000)
        rng = np.random.default_rng(0)
        packets = []
        for k in range(frames):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 256, (48, 64, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            packets += pictures.encode(frame)
        packets += pictures.encode(None)
        packets += [*encode(sound, audio, sound.rate, late), *sound.encode(None)]
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            out.mux(packet)
    return path


@pytest.mark.parametrize(
    ("form", "subtype", "tolerance"),
    [("WAV", "PCM_U8", 0), ("WAV", "PCM_16", 0), ("WAV", "PCM_24", 0), ("WAV", "PCM_32", 0), ("WAV", "FLOAT", 0),
     ("WAV", "DOUBLE", 0), ("WAV", "ALAW", 0), ("WAVEX", "PCM_24", 0), ("W64", "PCM_16", 0), ("AIFF", "PCM_16", 0),
     ("AU", "PCM_16", 0), ("FLAC", "PCM_24", 0), ("OGG", "VORBIS", 2e-3), ("MP3", "MPEG_LAYER_III", 2e-3)],
)  # fmt: skip
@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2)])
def test_equals_soundfile(tmp_path: Path, form: str, subtype: str, tolerance: float, rate: int, channels: int) -> None:
    path = tmp_path / f"文件 1.{form.lower()}"
    soundfile.write(path, noise(0.4, rate, channels), rate, format=form, subtype=subtype)
    expected = soundfile.read(path, dtype="float32", always_2d=True)[0].mean(1)  # (S, C) -> (S,)
    found = read_audio(path, rate)
    assert found.dtype == np.float32 and found.ndim == 1
    if form == "MP3":  # the two decoders disagree about what an encoder puts before the first sample
        assert abs(len(found) - len(expected)) <= 2400 and lag(expected, found) == 0
        n = min(len(found), len(expected))
        found, expected = found[:n], expected[:n]
    if form == "OGG":  # FFmpeg misplaces the end of a file that fits in one page
        assert len(expected) - 256 <= len(found) <= len(expected) + 256
        n = min(len(found), len(expected))
        found, expected = found[:n], expected[:n]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=max(tolerance, 1e-6))
    if form == "WAV":
        with path.open("rb") as file:
            np.testing.assert_array_equal(read_audio(file, rate), found)


@pytest.mark.parametrize(("rate", "channels"), [(192_000, 1), (48_000, 6), (44_100, 1), (8_000, 2), (11_027, 1)])
def test_other_rates_and_channels(tmp_path: Path, rate: int, channels: int) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, noise(0.3, rate, channels), rate, subtype="PCM_24")
    sound = soundfile.read(path, dtype="float32", always_2d=True)[0].mean(1)
    expected = librosa.resample(sound, orig_sr=rate, target_sr=RATE, res_type="soxr_hq")
    np.testing.assert_allclose(read_audio(path), expected, atol=1e-6)


@pytest.mark.parametrize("suffix", list(ENCODERS))
def test_windows_are_parts_of_the_whole(tmp_path: Path, suffix: str) -> None:
    path = write_sound(tmp_path / f"x.{suffix}", noise(3.1, 48_000)[:, 0], 48_000, ENCODERS[suffix])
    whole = read_audio(path)
    assert len(whole) >= 3.1 * RATE - 16
    assert lag(librosa.resample(noise(3.1, 48_000)[:, 0], orig_sr=48_000, target_sr=RATE), whole) in (
        range(5000) if suffix in ("aac", "mp2", "ts", "mpg", "mkv") else [0]  # these say nothing about their priming
    )
    for start, end in [(0.0, 0.25), (0.3331, 0.7), (1.7, 2.2), (2.9, None), (2.5, 99.0)]:
        part, expected = read_audio(path, start=start, end=end), whole[round(start * RATE) :]
        expected = expected if end is None else expected[: round(end * RATE) - round(start * RATE)]
        if suffix in ("mkv", "webm"):
            assert abs(len(part) - len(expected)) <= 16 and abs(lag(part, expected)) <= 16
        elif suffix == "m4a":  # AAC fills some bands with noise, which is drawn again
            assert len(part) == len(expected) and lag(part, expected) == 0
        else:
            np.testing.assert_allclose(part, expected, atol=1e-5)


@settings(max_examples=25)
@given(
    start=st.floats(0, 1.9), length=st.floats(0.001, 2), rates=st.tuples(*[st.sampled_from([8000, 11_025, 16_000])] * 2)
)
def test_any_window(start: float, length: float, rates: tuple[int, int]) -> None:
    file = io.BytesIO()
    soundfile.write(file, noise(2.0, rates[0]), rates[0], format="WAV", subtype="FLOAT")
    whole = read_audio(file, rates[1])
    part = read_audio(file, rates[1], start=start, end=start + length)
    np.testing.assert_allclose(part, whole[round(start * rates[1]) : round((start + length) * rates[1])], atol=1e-5)


def test_jumps_instead_of_decoding_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, noise(60), RATE)
    decoded = []

    from mmlearn.preprocessing.audio import reading

    blocks = reading._blocks

    def counting(*args):
        for at, block in blocks(*args):
            decoded.append(len(block))
            yield at, block

    monkeypatch.setattr(reading, "_blocks", counting)
    read_audio(path, start=50, end=51)
    assert sum(decoded) < 3 * RATE


@pytest.mark.parametrize("late", [0, 8_000, -4_000])
def test_sound_is_where_the_pictures_are(tmp_path: Path, late: int) -> None:
    path = tmp_path / "x.mkv"
    audio = noise(1.5)[:, 0]
    pictures, sound = (8_000, 8_000 + late) if late < 0 else (0, late)
    with av.open(str(path), "w") as out:
        video = out.add_stream("mpeg4", rate=25)
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        stream = add_sound(out, "pcm_s16le", RATE)
        packets = []
        for k in range(30):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 8 * k, np.uint8), format="rgb24")
            frame.pts, frame.time_base = k + 25 * pictures // RATE, Fraction(1, 25)
            packets += video.encode(frame)
        packets += [*video.encode(None), *encode(stream, audio, RATE, sound), *stream.encode(None)]
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            out.mux(packet)
    found = read_audio(path)
    np.testing.assert_allclose(found, read_mp4(path).audio, atol=1e-6)
    expected = np.concatenate([np.zeros(max(late, 0), np.float32), audio[max(-late, 0) :]])
    assert abs(len(found) - len(expected)) <= 320  # a picture's time is rounded to whole frames
    assert abs(lag(expected, found)) <= 320 and (late != 8_000 or not found[:7_900].any())
    part = read_audio(path, start=1.2, end=1.4)
    assert abs(lag(found[19_200:22_400], part)) <= 16


@pytest.mark.parametrize(("name", "codec"), [("x.mp4", "aac"), ("x.mpg", "mp2")])
def test_equals_read_mp4(tmp_path: Path, name: str, codec: str) -> None:
    path = write_video(tmp_path / name, noise(1.2, 48_000 if codec == "mp2" else RATE)[:, 0], late=0, codec=codec)
    back = read_mp4(path)
    assert back.audio is not None and back.sample_rate is not None
    found = read_audio(path, back.sample_rate)
    assert found.shape == back.audio.shape
    np.testing.assert_allclose(found, back.audio, atol=0.05 if codec == "aac" else 1e-6)
    assert lag(found, back.audio) == 0


def test_round_trip_with_write_mp4(tmp_path: Path) -> None:
    audio = noise(0.8001)[:, 0]
    write_mp4(tmp_path / "x.mp4", video=np.full((20, 32, 32, 3), 99, np.uint8), fps=25, audio=audio, sample_rate=RATE)
    found = read_audio(tmp_path / "x.mp4")
    assert len(found) == len(audio) and lag(audio, found) == 0


def test_several_streams(tmp_path: Path) -> None:
    path = tmp_path / "two.mka"
    with av.open(str(path), "w", format="matroska") as out:
        streams = [add_sound(out, "pcm_s16le", RATE) for _ in range(2)]
        for stream, volume in zip(streams, (0.1, 0.5), strict=True):
            out.mux([*encode(stream, np.full(RATE // 2, volume), RATE), *stream.encode(None)])
    assert [round(float(read_audio(path, stream=k).max()), 2) for k in (0, 1)] == [0.1, 0.5]
    for stream in (2, -1):
        with pytest.raises(ValueError, match=rf"two\.mka: no audio stream {stream}; found 2 of sound, 0 of pictures"):
            read_audio(path, stream=stream)


def test_eight_channels(tmp_path: Path) -> None:
    path, audio = tmp_path / "surround.mp4", noise(0.5, 48_000)[:, 0]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=48_000, layout="7.1")
        frame = av.AudioFrame.from_ndarray(np.repeat(audio, 8)[None], format="flt", layout="7.1")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
        out.mux([*stream.encode(frame), *stream.encode(None)])
    for _ in range(20):  # what PyAV's to_ndarray finds behind the eighth channel depends on chance
        found = read_audio(path, 48_000)
        assert len(found) == len(audio) and np.corrcoef(found, audio)[0, 1] > 0.9
        whole = read_mp4(path).audio
        assert whole is not None and np.allclose(whole, found, atol=1e-6)


def test_a_cover_is_no_video(tmp_path: Path) -> None:
    path, audio = tmp_path / "song.mp3", noise(0.5, 48_000)[:, 0]
    with av.open(str(path), "w") as out:
        stream, cover = add_sound(out, "libmp3lame", 48_000), out.add_stream("png", rate=1)
        cover.height, cover.width, cover.pix_fmt = 16, 16, "rgb24"
        picture = cover.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24"))
        out.mux([*picture, *cover.encode(None)])
        out.mux([*encode(stream, audio, 48_000), *stream.encode(None)])
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1
    found = read_audio(path, 48_000)
    assert len(found) == len(audio) and lag(audio, found) == 0


def test_gaps_are_silence(tmp_path: Path) -> None:
    path, audio = tmp_path / "gap.mkv", np.full(RATE // 4, 0.5)
    with av.open(str(path), "w") as out:
        stream = add_sound(out, "pcm_s16le", RATE)
        out.mux(encode(stream, audio, RATE))
        out.mux([*encode(stream, audio, RATE, at=RATE // 2), *stream.encode(None)])
    found = read_audio(path)
    expected = np.concatenate([audio, 0 * audio, audio])
    assert len(found) == len(expected)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_gap_of_an_hour_is_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "gap.mkv"
    with av.open(str(path), "w") as out:
        stream = add_sound(out, "pcm_s16le", RATE)
        out.mux(encode(stream, np.zeros(RATE), RATE))
        out.mux([*encode(stream, np.zeros(RATE), RATE, at=3600 * RATE), *stream.encode(None)])
    with pytest.raises(ValueError, match=r"gap\.mkv: gaps of 3599 s in the sound; the file seems damaged"):
        read_audio(path)


def test_a_stream_that_cannot_seek() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    audio = noise(0.1)[:, 0]
    np.testing.assert_allclose(read_audio(Pipe(wav(audio))), audio, atol=1e-4)


def wav(audio: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, audio, rate, format="WAV", subtype=subtype)
    return file.getvalue()


def silent_video(folder: Path) -> bytes:
    write_mp4(folder / "silent.mp4", video=np.zeros((3, 16, 16, 3), np.uint8), fps=25)
    return (folder / "silent.mp4").read_bytes()


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (lambda _: b"", {}, "empty"),
        (lambda _: b"no sound at all", {}, "cannot decode these 15 bytes"),
        (lambda _: bytes(4000), {}, "cannot decode"),
        (lambda _: wav(np.zeros(0)), {}, "no sound; expected at least one sample"),
        (silent_video, {}, "no audio stream 0; found 0 of sound, 1 of pictures"),
        (lambda _: wav(noise(1), rate=2), {}, "audio stream 0 has 2 samples a second; expected 1000 to 1000000"),
        (lambda _: wav(np.array([0.1, np.nan, 0.2]), subtype="FLOAT"), {}, r"value nan at \[1\]"),
        (lambda _: wav(np.array([0.1, np.inf, 0.2]), subtype="FLOAT"), {}, r"value inf at \[1\]"),
        (lambda _: wav(noise(1))[:9000], {}, "found 9000 of 32044 bytes; the file ends too early"),
        (lambda _: wav(noise(1)), {"start": 1.0}, r"no sound after 1\.0 s"),
        (lambda _: wav(noise(1)), {"start": 9.0, "end": 10.0}, r"no sound after 9\.0 s"),
        (lambda _: wav(noise(1)), {"start": -1.0}, "start is -1.0"),
        (lambda _: wav(noise(1)), {"start": 0.5, "end": 0.5}, "start is 0.5, end is 0.5"),
        (lambda _: wav(noise(1)), {"start": np.nan}, "start is nan"),
        (lambda _: wav(noise(1)), {"sample_rate": 0}, "sample_rate is 0"),
        (lambda _: wav(noise(1)), {"sample_rate": 16_000.5}, "sample_rate is 16000.5"),
    ],
)
@pytest.mark.parametrize("as_path", [True, False])
def test_bad_input(tmp_path: Path, content, options: dict, message: str, as_path: bool) -> None:
    path = tmp_path / "bad.wav"
    path.write_bytes(content(tmp_path))
    with pytest.raises(ValueError, match=message) as error:
        read_audio(path if as_path else io.BytesIO(path.read_bytes()), **options)
    if "is" not in message.split():
        assert ("bad.wav" if as_path else "<bytes>") in str(error.value)


def test_one_sample() -> None:
    np.testing.assert_array_equal(read_audio(io.BytesIO(wav(np.array([0.5])))), [0.5])


@pytest.mark.parametrize("rate", [16_000, 8_000])
def test_hours_of_silence_stay_within_the_limit(monkeypatch: pytest.MonkeyPatch, rate: int) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros((60 * RATE, 2)), RATE, format="FLAC")
    assert len(file.getvalue()) < 50_000
    monkeypatch.setenv("MMLEARN_MEMORY_GB", "0.002")  # a minute takes 0.00384
    with pytest.raises(ValueError, match=r"<bytes>: .* s of sound would take .* GB.*read a part with"):
        read_audio(file, rate)
    assert len(read_audio(file, rate, start=40, end=50)) == 10 * rate
    monkeypatch.setenv("MMLEARN_MEMORY_GB", "0.02")
    assert len(read_audio(file, rate, channel="loudest")) == 60 * rate


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.wav"):
        read_audio(tmp_path / "none.wav")
    with pytest.raises(ValueError, match="a folder"):
        read_audio(tmp_path)


@pytest.mark.parametrize("suffix", ["m4a", "mkv", "mp3", "flac", "aiff", "webm"])
@pytest.mark.parametrize("part", [0.05, 0.3, 0.6, 0.9])
def test_truncated(tmp_path: Path, suffix: str, part: float) -> None:
    path = write_sound(tmp_path / f"cut.{suffix}", noise(2, 48_000)[:, 0], 48_000, ENCODERS[suffix])
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(ValueError, match=r"cut\."):
        read_audio(path)


def test_rate_that_changes_on_the_way(tmp_path: Path) -> None:
    parts = [
        write_sound(tmp_path / "x.mp3", noise(0.5, r)[:, 0], r, "libmp3lame").read_bytes() for r in (48_000, 32_000)
    ]
    (tmp_path / "both.mp3").write_bytes(b"".join(parts))
    with pytest.raises(ValueError, match=r"both\.mp3: the sample rate changes"):
        read_audio(tmp_path / "both.mp3")


@cache
def intact(suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        codec = ENCODERS.get(suffix, "pcm_s16le")
        return write_sound(Path(folder) / f"x.{suffix}", noise(0.5, 48_000)[:, 0], 48_000, codec).read_bytes()


@settings(max_examples=80)
@given(data=st.data())
def test_damaged_files_give_sound_or_a_clear_error(data: st.DataObject) -> None:
    content = bytearray(intact(data.draw(st.sampled_from([*ENCODERS, "wav"]))))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(content) - 1) | st.integers(0, min(400, len(content) - 1)))
        piece = data.draw(st.binary(min_size=1, max_size=8))
        content[at : at + len(piece)] = piece
    content = content[: data.draw(st.integers(len(content) // 2, len(content)))]
    try:
        audio = read_audio(io.BytesIO(bytes(content)), start=data.draw(st.sampled_from([0.0, 0.1])))
    except ValueError as error:
        assert "<bytes>" in str(error)
    else:
        assert audio.dtype == np.float32 and len(audio) and np.isfinite(audio).all() and np.abs(audio).max() <= 1
