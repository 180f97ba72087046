"""mmlearn.media: what is written comes back, in step, and nothing else is taken for a video."""

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from mmlearn.media import read_mp4, write_mp4


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


@settings(max_examples=15, deadline=None)
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
    write_mp4(tmp_path / "x.mp4", audio=np.full(4_000, 3.0), sample_rate=16_000)
    back = read_mp4(tmp_path / "x.mp4").audio
    assert back is not None and np.abs(back).max() <= 1


def test_existing_file_is_kept_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.mp4"
    write_mp4(path, audio=noise(4_000), sample_rate=16_000)
    before = path.read_bytes()

    def broken(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("mmlearn.media._encode_audio", broken)
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
