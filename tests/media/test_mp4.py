"""mmlearn.media: what is written comes back, in step, and nothing else is taken for a video."""

import io
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from mmlearn.clip import Clip
from mmlearn.media import read_mp4, write_mp4
from mmlearn.preprocessing.audio import read_audio
from mmlearn.preprocessing.video.sampling import frame_times, read_video


def moving_square(frames: int = 20, height: int = 48, width: int = 64) -> np.ndarray:
    """A white square that moves to the right by two pixels a frame."""
    video = np.full((frames, height, width, 3), 40, np.uint8)
    for k in range(frames):
        video[k, 8:24, 2 * k : 2 * k + 12] = 230
    return video


def noise(samples: int, seed: int = 0) -> np.ndarray:
    """Low-pass noise: its cross-correlation has one sharp peak."""
    white = np.random.default_rng(seed).standard_normal(samples)
    return (0.1 * lfilter([1], [1, -0.8], white)).clip(-1, 1).astype(np.float32)


def lag(a: np.ndarray, b: np.ndarray) -> int:
    """By how many samples b comes after a."""
    n = min(len(a), len(b))
    return n - 1 - int(np.argmax(np.correlate(a[:n].astype(np.float64), b[:n].astype(np.float64), "full")))


def write_mpg(path: Path, video: np.ndarray, audio: np.ndarray, *, rate: int = 44_100, channels: int = 2) -> None:
    """Write MPEG-1 video with layer-2 sound, as GRID's own files have."""
    with av.open(str(path), "w", format="mpeg") as out:
        pictures = out.add_stream("mpeg1video", rate=25)
        pictures.height, pictures.width, pictures.pix_fmt = *video.shape[1:3], "yuv420p"
        pictures.bit_rate = 2_000_000
        sound = out.add_stream("mp2", rate=rate, layout="stereo" if channels == 2 else "mono")
        frame = av.AudioFrame.from_ndarray(
            np.repeat((audio * 32767).astype(np.int16), channels)[None], format="s16", layout=sound.layout.name
        )
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        packets = [p for k in video for p in pictures.encode(av.VideoFrame.from_ndarray(k, format="rgb24"))]
        packets += [*pictures.encode(None), *sound.encode(frame), *sound.encode(None)]
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            out.mux(packet)


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    video, audio = moving_square(), noise(12_801)
    subtitles = [(0.0, 0.25, "三"), (0.3, 0.5, "{红}\\N <b>&"), (0.5, 0.9, "two\nlines")]
    metadata = {"title": "红山", "comment": json.dumps({"number": 3}), "anything": "else"}
    write_mp4(path, video=video, fps=25, audio=audio, sample_rate=16_000, subtitles=subtitles, metadata=metadata)
    back = read_mp4(path)

    assert back.video is not None and back.audio is not None
    assert back.video.shape == video.shape and back.video.dtype == np.uint8
    assert np.abs(back.video.astype(int) - video).mean() < 3
    assert back.fps == 25 and back.sample_rate == 16_000
    assert back.audio.shape == audio.shape and back.audio.dtype == np.float32
    assert np.corrcoef(back.audio, audio)[0, 1] > 0.98
    assert back.subtitles == [(pytest.approx(a), pytest.approx(b), text) for a, b, text in subtitles]
    assert back.metadata == metadata
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]  # no temporary file is left


@pytest.mark.parametrize(("samples", "rate"), [(16_000, 16_000), (30_001, 44_100), (5_000, 8_000)])
def test_sample_n_stays_sample_n(tmp_path: Path, samples: int, rate: int) -> None:
    audio = noise(samples)
    write_mp4(tmp_path / "x.mp4", audio=audio, sample_rate=rate)
    back = read_mp4(tmp_path / "x.mp4")
    assert back.video is None and back.fps is None and back.audio is not None
    assert len(back.audio) == samples
    assert lag(audio, back.audio) == 0


@settings(max_examples=15)
@given(
    frames=st.integers(1, 12),
    height=st.integers(2, 70),
    width=st.integers(2, 70),
    fps=st.sampled_from([8, 12.5, 23.976, 25, 30_000 / 1001, 60]),
    samples=st.integers(1, 9_000),
)
def test_size_and_length_come_back(
    tmp_path_factory: pytest.TempPathFactory, frames: int, height: int, width: int, fps: float, samples: int
) -> None:
    path = tmp_path_factory.mktemp("sizes") / "x.mp4"
    video = np.full((frames, height, width, 3), 128, np.uint8)
    write_mp4(path, video=video, fps=fps, audio=noise(samples), sample_rate=16_000)
    back = read_mp4(path)
    assert back.video is not None and back.audio is not None
    assert back.video.shape == video.shape
    assert back.fps == pytest.approx(fps, rel=1e-3)
    assert len(back.audio) == samples


def test_streams_that_players_know(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    write_mp4(path, video=moving_square(), fps=25, audio=noise(12_800), sample_rate=16_000, subtitles=[(0, 1, "山")])
    with av.open(str(path)) as container:
        assert [s.codec_context.name for s in container.streams] == ["h264", "aac", "mov_text"]
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # the index first: a browser starts before it has everything


def test_loud_sound_is_clipped(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"samples reach 1\.5; 4000 of 4000 were cut off"):
        write_mp4(tmp_path / "x.mp4", audio=np.full(4_000, 1.5), sample_rate=16_000)
    back = read_mp4(tmp_path / "x.mp4").audio
    assert back is not None and np.abs(back).max() <= 1


def test_sound_of_another_scale_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"samples reach 9830; .*16-bit sound: divide them by 32768"):
        write_mp4(tmp_path / "x.mp4", audio=np.full(4_000, 9830.0), sample_rate=16_000)
    assert not (tmp_path / "x.mp4").exists()


def test_existing_file_is_kept_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.mp4"
    write_mp4(path, audio=noise(4_000), sample_rate=16_000)
    before = path.read_bytes()

    def broken(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("mmlearn.media.mp4._encode_audio", broken)
    with pytest.raises(OSError, match="disk full"):
        write_mp4(path, audio=noise(8_000), sample_rate=16_000)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_reads_mpeg1_and_mixes_down(tmp_path: Path) -> None:
    video, audio = moving_square(), noise(35_280)
    write_mpg(tmp_path / "x.mpg", video, audio)
    back = read_mp4(tmp_path / "x.mpg")
    assert back.video is not None and back.audio is not None
    assert back.video.shape == video.shape and back.fps == 25 and back.sample_rate == 44_100
    assert np.abs(back.video.astype(int) - video).mean() < 8
    assert back.audio.ndim == 1 and abs(len(back.audio) - len(audio)) < 2_400
    assert abs(lag(audio, back.audio)) < 1_200  # within a layer-2 frame


def test_channels_that_cancel_one_another_warn(tmp_path: Path) -> None:
    voice = noise(16_000)
    soundfile.write(tmp_path / "x.wav", np.stack([voice, -0.9 * voice], axis=1), 16_000, subtype="FLOAT")
    with pytest.warns(UserWarning, match=r"x\.wav: the mix of 2 channels is 26 dB quieter than channel 0 alone"):
        mixed = read_mp4(tmp_path / "x.wav").audio
    np.testing.assert_allclose(mixed, 0.05 * voice, atol=1e-7)


def test_late_sound_is_moved_to_its_place(tmp_path: Path) -> None:
    path, audio = tmp_path / "x.mkv", noise(16_000)
    with av.open(str(path), "w") as out:
        pictures = out.add_stream("mpeg4", rate=25)
        pictures.height, pictures.width, pictures.pix_fmt = 48, 64, "yuv420p"
        sound = out.add_stream("pcm_s16le", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray((audio * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16_000, 8_000, Fraction(1, 16_000)  # half a second late
        for picture in moving_square():
            out.mux(pictures.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux([*pictures.encode(None), *sound.encode(frame), *sound.encode(None)])
    back = read_mp4(path).audio
    assert back is not None
    assert len(back) == 24_000 and not back[:8_000].any()
    assert np.abs(back[8_000:] - audio).max() < 1e-3


SUBTITLES = b"1\n00:00:00,000 --> 00:00:01,000\nhello\n\n2\n00:00:01,000 --> 00:00:02,000\nyou\n\n"


@pytest.mark.parametrize("content", [b"", b"no video at all", bytes(5_000), SUBTITLES])
def test_not_a_media_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.mp4"):
        read_mp4(path)


@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9])
def test_truncated_file(tmp_path: Path, part: float) -> None:
    path, video = tmp_path / "cut.mp4", np.random.default_rng(0).integers(0, 256, (30, 48, 64, 3), np.uint8)
    write_mp4(path, video=video, fps=25, audio=noise(19_200), sample_rate=16_000)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(ValueError, match=r"cut\.mp4"):
        read_mp4(path)


def test_truncated_sound(tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    write_mp4(path, audio=noise(32_000), sample_rate=16_000)
    with av.open(str(path)) as container:
        place = [packet.pos for packet in container.demux(audio=0) if packet.size][20]
    path.write_bytes(path.read_bytes()[:place])  # between two packets: no decoder would notice
    with pytest.raises(ValueError, match=r"cut\.mp4: (found \d+ of 32000 samples|cannot decode)"):
        read_mp4(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.mp4"):
        read_mp4(tmp_path / "none.mp4")


GOOD = {"video": moving_square(3), "fps": 25, "audio": noise(2_000), "sample_rate": 16_000}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video": None, "audio": None}, "neither video nor audio"),
        ({"video": np.zeros((3, 4, 4, 3))}, "video is float64"),
        ({"video": np.zeros((3, 4, 4), np.uint8)}, r"\(3, 4, 4\)"),
        ({"video": np.zeros((0, 4, 4, 3), np.uint8)}, r"\(0, 4, 4, 3\)"),
        ({"fps": None}, "fps is None"),
        ({"fps": 0}, "fps is 0"),
        ({"audio": np.zeros((2, 5), np.float32)}, r"audio is float32 \(2, 5\)"),
        ({"audio": np.zeros(9, np.int16)}, "audio is int16"),
        ({"audio": np.array([0.0, np.nan])}, "finite"),
        ({"sample_rate": 12_345}, "sample_rate is 12345"),
        ({"subtitles": [(0.5, 0.2, "x")]}, "subtitle 'x'"),
        ({"subtitles": [(0, 1, "x"), (0.5, 2, "y")]}, "overlap"),
        ({"subtitles": [(0, 1, "")]}, "0 bytes"),
    ],
)
def test_unusable_arguments(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_mp4(tmp_path / "x.mp4", **{**GOOD, **change})
    assert not list(tmp_path.iterdir())


# Times, fragments, memory ---------------------------------------------------------------------------------------------

UNEVEN = [0, 3000, 6000, *[round(6000 + 100 * k / 3) for k in range(1, 30)]]  # ms, of the field's report


def write_film(
    path: Path, stamps: list[int], seconds: float = 0, rate: int = 16_000, options: dict[str, str] | None = None,
    **coding: str,
) -> Path:  # fmt: skip
    """Encode gray frames that are shown at these milliseconds, beside so many seconds of noise."""
    with av.open(str(path), "w", options=options or {}) as out:
        pictures = out.add_stream("libx264", rate=30, options=coding)
        pictures.height, pictures.width, pictures.pix_fmt = 48, 64, "yuv420p"
        pictures.codec_context.time_base = Fraction(1, 1000)
        sound = out.add_stream("aac", rate=rate, layout="mono") if seconds else None
        packets = []
        for k, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 7 * k % 256, np.uint8), format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            packets += pictures.encode(frame)
        packets += pictures.encode(None)
        if sound is not None:
            block = av.AudioFrame.from_ndarray(noise(int(seconds * rate))[None], format="fltp", layout="mono")
            block.sample_rate, block.pts, block.time_base = rate, 0, Fraction(1, rate)
            packets += [*sound.encode(block), *sound.encode(None)]
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            out.mux(packet)
    return path


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts", "mov"])
def test_times_of_a_variable_rate(tmp_path: Path, ending: str) -> None:
    path = write_film(tmp_path / f"v.{ending}", UNEVEN, 8)
    found = read_mp4(path)
    assert found.times is not None and found.times.dtype == np.float64
    assert np.allclose(found.times, np.array(UNEVEN) / 1000, atol=2e-3)
    assert np.allclose(found.times, frame_times(path), atol=1e-9)
    clip = Clip.load(path)
    assert np.array_equal(clip.seconds("video"), found.times) and clip.times["video"][-1] < 7 < clip.duration
    clip.save(tmp_path / "again.mp4")
    again = Clip.load(tmp_path / "again.mp4")
    assert np.allclose(again.seconds("video"), found.times, atol=1e-6)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts", "avi", "flv"])
@pytest.mark.parametrize("fps", [24000 / 1001, 25.0, 30.0])
def test_a_constant_rate_has_no_times(tmp_path: Path, ending: str, fps: float) -> None:
    path = tmp_path / f"c.{ending}"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for picture in moving_square(40, 48, 128)[:, :, :64]:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        out.mux(stream.encode(None))
    found = read_mp4(path)
    assert found.times is None and found.fps == pytest.approx(fps, rel=2e-3)
    assert "video" not in Clip.load(path).times


def test_one_lost_frame_is_noticed(tmp_path: Path) -> None:
    stamps = [40 * k for k in range(30) if k != 20]
    found = read_mp4(write_film(tmp_path / "x.mp4", stamps))
    assert found.times is not None and np.allclose(found.times, np.array(stamps) / 1000, atol=1e-3)


FRAGMENTS = ["frag_keyframe+empty_moov", "frag_keyframe", "frag_keyframe+empty_moov+default_base_moof",
             "frag_keyframe+delay_moov", "dash", "cmaf"]  # fmt: skip


@pytest.mark.parametrize("flags", FRAGMENTS)
@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_fragments(tmp_path: Path, flags: str, rate: int) -> None:
    """Whole ones are read, as a path, in memory and from a pipe; cut ones are refused wherever a box is not whole."""
    stamps = [40 * k for k in range(50)]
    path = write_film(tmp_path / "f.mp4", stamps, 2, rate, {"movflags": flags}, g="12", bf="2")
    found = read_mp4(path)
    assert found.video is not None and found.audio is not None
    assert len(found.video) == 50 and abs(len(found.audio) / rate - 2) < 0.1
    assert np.abs(found.video[:, 20, 20, 0].astype(int) - 7 * np.arange(50) % 256).max() <= 2
    data = path.read_bytes()
    again = read_mp4(io.BytesIO(data))
    assert again.video is not None and np.array_equal(again.video, found.video)
    edges, place = set(), 0
    while place < len(data):
        edges.add(place)
        place += int.from_bytes(data[place : place + 4], "big")
    for cut in np.linspace(2_000, len(data) - 1, 12).astype(int):
        if cut not in edges:
            with pytest.raises(ValueError, match=r"cut\.mp4"):
                (tmp_path / "cut.mp4").write_bytes(data[:cut])
                read_mp4(tmp_path / "cut.mp4")


def test_more_than_memory_allows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, other = tmp_path / "black.mp4", tmp_path / "black.mkv"
    write_mp4(path, video=np.zeros((40, 96, 128, 3), np.uint8), fps=25)  # 1.5 MB of pictures in 3 kB
    with av.open(str(path)) as source, av.open(str(other), "w") as out:  # does not say how many frames there are
        copy = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = copy
                out.mux(packet)
    silence = tmp_path / "silence.mp4"
    write_mp4(silence, audio=np.zeros(400_000), sample_rate=16_000)
    for name, size in (("black.mp4", 40 * 96 * 128 * 3), ("black.mkv", 40 * 96 * 128 * 3), ("silence.mp4", 1_600_000)):
        monkeypatch.setenv("MMLEARN_MEMORY_GB", str(0.9 * size / 1e9))
        with pytest.raises(ValueError, match=rf"{name}: \d+ (frames of 96 × 128|samples of sound) would take") as error:
            read_mp4(tmp_path / name)
        assert "read_" in str(error.value) and "MMLEARN_MEMORY_GB" in str(error.value)
        with pytest.raises(ValueError, match="would take"):
            Clip.load(tmp_path / name)
        monkeypatch.setenv("MMLEARN_MEMORY_GB", str(1.3 * size / 1e9))
        read_mp4(tmp_path / name)
    monkeypatch.setenv("MMLEARN_MEMORY_GB", str(0.003))
    with pytest.raises(ValueError, match=r"silence\.mp4: 25 s of sound would take .*start=…, end=…"):
        read_audio(silence)
    assert len(read_audio(silence, start=20, end=22)) == 32_000
    monkeypatch.setenv("MMLEARN_MEMORY_GB", str(0.0001))
    with pytest.raises(ValueError, match=r"black\.mp4: 16 frames of 96 × 128 would take .*num_frames"):
        read_video(path)
    assert read_video(path, num_frames=4, size=(24, 32))[0].shape == (4, 24, 32, 3)
    for nonsense in ("much", "-1", "0", "inf", "nan"):
        monkeypatch.setenv("MMLEARN_MEMORY_GB", nonsense)
        with pytest.raises(ValueError, match="MMLEARN_MEMORY_GB is"):
            read_mp4(path)


PEAK = """
import sys
from mmlearn.media import read_mp4
from tests.memory import peak_memory
before = peak_memory()
found = read_mp4(sys.argv[1])
size = (0 if found.video is None else found.video.nbytes) + (0 if found.audio is None else found.audio.nbytes)
print((peak_memory() - before) * 1e9 / size)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak_memory needs /proc")
@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "sound.wav"])
def test_no_second_copy(tmp_path: Path, name: str) -> None:
    """A process's peak is less than twice what it gets, whether the file says how much comes or not."""
    path = tmp_path / name
    with av.open(str(path), "w") as out:
        if name.startswith("film"):
            stream: Any = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
            stream.height, stream.width, stream.pix_fmt = 360, 640, "yuv420p"
            frame = av.VideoFrame.from_ndarray(np.zeros((360, 640, 3), np.uint8), format="rgb24")
            for k in range(100):  # 69 MB
                frame.pts, frame.time_base = k, Fraction(1, 25)
                out.mux(stream.encode(frame))
        else:
            stream = out.add_stream("pcm_u8", rate=48_000, layout="mono")
            for k in range(120):  # 69 MB
                block = av.AudioFrame.from_ndarray(np.full((1, 144_000), 128, np.uint8), format="u8", layout="mono")
                block.sample_rate, block.pts, block.time_base = 48_000, 144_000 * k, Fraction(1, 48_000)
                out.mux(stream.encode(block))
        out.mux(stream.encode(None))
    done = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.9, done.stdout
