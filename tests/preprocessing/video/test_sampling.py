"""mmlearn.preprocessing.video: what a file holds, which moments are looked at, and the frames on the screen then."""

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlearn.media import read_mp4, write_mp4
from mmlearn.preprocessing.video.sampling import (
    dense_times,
    frame_times,
    probe,
    read_frames,
    read_video,
    segment_times,
    to_motion,
    to_tensor,
    uniform_times,
)
from tests.media.test_display import TURNS, write_turned
from tests.media.test_frames import IRREGULAR, encode, pictures


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 s at 25 frames/s, 48×64, with sound and subtitles."""
    path = tmp_path_factory.mktemp("clip") / "红山 clip.mp4"
    sound = np.zeros(32_000, np.float32)
    write_mp4(path, video=pictures(50), fps=25, audio=sound, sample_rate=16_000, subtitles=[(0, 1, "山")])
    return path


def test_probe(clip: Path) -> None:
    for source in (clip, str(clip), io.BytesIO(clip.read_bytes())):
        info = probe(source)
        assert info.duration == pytest.approx(2, abs=0.1)
        assert "mp4" in info.container
        assert info.subtitles == ["mov_text"]
        (video,), (audio,) = info.video, info.audio
        assert (video.codec, video.width, video.height, video.fps) == ("h264", 64, 48, 25)
        assert (video.num_frames, video.duration, video.rotation, video.variable) == (50, 2, 0, False)
        assert (audio.codec, audio.sample_rate, audio.channels) == ("aac", 16_000, 1)
        assert audio.duration == pytest.approx(2, abs=0.1)


def test_probe_agrees_with_opencv(clip: Path) -> None:
    capture = cv2.VideoCapture(str(clip))
    video = probe(clip).video[0]
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == video.num_frames
    assert capture.get(cv2.CAP_PROP_FPS) == video.fps
    assert capture.get(cv2.CAP_PROP_FRAME_WIDTH) == video.width
    capture.release()


def test_probe_several_streams(tmp_path: Path) -> None:
    path = tmp_path / "x.mkv"
    with av.open(str(path), "w") as out:
        small, large = (out.add_stream("mpeg4", rate=rate) for rate in (25, 10))
        (small.width, small.height), (large.width, large.height) = (32, 16), (64, 48)
        sounds = [
            out.add_stream("pcm_s16le", rate=rate, layout=kind) for rate, kind in ((8_000, "mono"), (48_000, "5.1"))
        ]
        sounds[1].metadata["language"] = "zho"
        small.pix_fmt = large.pix_fmt = "yuv420p"
        for stream in (small, large):
            for _ in range(5):
                picture = np.full((stream.height, stream.width, 3), 10 + stream.width, np.uint8)
                out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            out.mux(stream.encode(None))
        for stream, channels in zip(sounds, (1, 6), strict=True):
            samples = np.zeros((1, 800 * channels), np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=stream.layout.name)
            frame.sample_rate, frame.pts, frame.time_base = stream.rate, 0, Fraction(1, stream.rate)
            out.mux([*stream.encode(frame), *stream.encode(None)])
    info = probe(path)
    assert [(v.width, v.height, v.fps) for v in info.video] == [(32, 16, 25), (64, 48, 10)]
    assert [v.duration for v in info.video] == [pytest.approx(0.2, abs=0.05), pytest.approx(0.5, abs=0.05)]
    assert [(a.sample_rate, a.channels, a.language) for a in info.audio] == [(8_000, 1, None), (48_000, 6, "zho")]
    for number, video in enumerate(info.video):
        frames, _ = read_video(path, num_frames=2, stream=number)
        assert frames.shape == (2, video.height, video.width, 3)
        assert np.abs(frames.astype(int) - 10 - video.width).max() < 5
        assert len(frame_times(path, number)) == 5
    with pytest.raises(ValueError, match=r"x\.mkv: no video stream 2; found 2"):
        read_video(path, stream=2)


@pytest.mark.parametrize(
    ("turn", "degrees"), [("upright", 0), ("90 clockwise", 90), ("180", 180), ("90 counterclockwise", 270)]
)
def test_rotation(tmp_path: Path, turn: str, degrees: int) -> None:
    write_turned(tmp_path / "x.mp4", TURNS[turn][0])
    video = probe(tmp_path / "x.mp4").video[0]
    frames, _ = read_frames(tmp_path / "x.mp4", [0.0])
    assert video.rotation == degrees
    assert frames.shape == (1, video.height, video.width, 3) == (1, *((64, 48) if degrees % 180 else (48, 64)), 3)
    whole = read_mp4(tmp_path / "x.mp4").video
    assert whole is not None and np.array_equal(frames[0], whole[0])


def test_no_pictures(tmp_path: Path) -> None:
    write_mp4(tmp_path / "sound.mp4", audio=np.zeros(8_000, np.float32), sample_rate=16_000)
    assert probe(tmp_path / "sound.mp4").video == []
    for call in (read_video, frame_times):
        with pytest.raises(ValueError, match=r"sound\.mp4: no video stream 0; found 0 to decode \(all: audio\)"):
            call(tmp_path / "sound.mp4")


def test_unknown_codec(clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(clip.read_bytes().replace(b"avc1", b"zzzz").replace(b"avcC", b"zzzC"))
    assert probe(path).video == [] and len(probe(path).audio) == 1
    with pytest.raises(
        ValueError, match=r"x\.mp4: no video stream 0; found 0 to decode \(all: video, audio, subtitle\)"
    ):
        read_video(path)
    media = read_mp4(path)
    assert media.video is None and media.audio is not None


def test_no_frames(tmp_path: Path) -> None:
    """A header, and not one frame behind it."""
    path = tmp_path / "none.avi"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        out.start_encoding()
    assert probe(path).video[0].width == 32
    for call in (read_video, frame_times, read_mp4):
        with pytest.raises(ValueError, match=r"none\.avi.*(frame|0 of)"):
            call(path)


def test_damaged_first_frame(tmp_path: Path) -> None:
    path = encode(tmp_path / "x.mp4", video=pictures(5))
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packet = next(container.demux(video=0))
        place = data.index(bytes(packet))
    data[place : place + packet.size] = b"\xff" * packet.size
    path.write_bytes(data)
    assert probe(path).video[0].num_frames == 5  # the header is whole
    with pytest.raises(ValueError, match=r"x\.mp4"):
        read_video(path)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_variable_rate(tmp_path: Path, ending: str) -> None:
    path = encode(tmp_path / f"v.{ending}", stamps=IRREGULAR, bf="0")
    want = (np.array(IRREGULAR) - IRREGULAR[0]) / 1000
    assert np.allclose(frame_times(path), want, atol=1e-3)
    video = probe(path).video[0]
    assert video.variable
    assert video.fps == pytest.approx((len(want) - 1) / want[-1], rel=0.01)
    assert not probe(encode(tmp_path / f"c.{ending}")).video[0].variable


def test_one_frame_lasts(tmp_path: Path) -> None:
    for name in ("one.mp4", "one.mkv", "one.mpg"):
        path = encode(tmp_path / name, "mpeg1video" if name.endswith("mpg") else "libx264", video=pictures(1))
        frames, shown = read_video(path, num_frames=4, sampling="dense")
        assert frames.shape == (4, 48, 64, 3) and not shown.any()
        assert frame_times(path).tolist() == [0]


# Sampling -----------------------------------------------------------------------------------------------------------

SPANS = st.tuples(st.floats(-1e4, 1e4), st.floats(1e-3, 1e5)).map(lambda pair: (pair[0], pair[0] + pair[1]))
COUNTS = st.integers(1, 64)


@settings(max_examples=60)
@given(span=SPANS, count=COUNTS)
def test_uniform_times_are_centres(span: tuple[float, float], count: int) -> None:
    times = uniform_times(*span, count)
    edges = np.linspace(*span, count + 1)
    assert np.allclose(times, (edges[:-1] + edges[1:]) / 2)
    assert (times >= span[0]).all() and (times < span[1]).all()


@settings(max_examples=60)
@given(span=SPANS, count=COUNTS, seed=st.integers(0, 2**32))
def test_segment_times_take_one_moment_a_part(span: tuple[float, float], count: int, seed: int) -> None:
    times = segment_times(*span, count, torch.Generator().manual_seed(seed))
    again = segment_times(*span, count, torch.Generator().manual_seed(seed))
    assert np.array_equal(times, again)
    assert (times >= span[0]).all() and (times < span[1]).all()
    edges, slack = np.linspace(*span, count + 1), 1e-9 * max(1, abs(span[0]), abs(span[1]))
    assert (times >= edges[:-1] - slack).all() and (times <= edges[1:] + slack).all()
    assert (np.diff(times) >= 0).all()


def test_segment_times_fill_their_parts() -> None:
    """Uniform in each part: the mean is the centre, the standard deviation its width / √12."""
    generator = torch.Generator().manual_seed(0)
    draws = np.stack([segment_times(2, 6, 4, generator) for _ in range(4_000)])
    assert np.allclose(draws.mean(0), uniform_times(2, 6, 4), atol=0.02)
    assert np.allclose(draws.std(0), 1 / np.sqrt(12), atol=0.02)


@settings(max_examples=100)
@given(span=SPANS, count=COUNTS, interval=st.floats(1e-3, 1e3), seed=st.none() | st.integers(0, 2**32))
def test_dense_times_keep_their_interval(
    span: tuple[float, float], count: int, interval: float, seed: int | None
) -> None:
    start, end = span
    times, again = (
        dense_times(start, end, count, interval, None if seed is None else torch.Generator().manual_seed(seed))
        for _ in range(2)
    )
    assert np.array_equal(times, again)
    assert len(times) == count
    assert (times >= start).all() and (times < end).all()
    steps, slack = np.diff(times), 1e-9 * max(1, abs(start), abs(end))
    if count * interval <= end - start:
        assert np.allclose(steps, interval, atol=slack)
    else:  # as many as fit from the start, then the last one again
        kept = int((steps > 0).sum())
        assert (steps[:kept] > 0).all() and not steps[kept:].any()
        assert times[-1] + interval >= end - slack


def test_dense_window_is_central_or_random() -> None:
    assert np.allclose(dense_times(0, 10, 4, 0.5), [4.25, 4.75, 5.25, 5.75])
    generator = torch.Generator().manual_seed(0)
    first = np.array([dense_times(0, 10, 4, 0.5, generator)[0] for _ in range(2_000)])
    assert first.min() < 0.3 and first.max() > 8.2
    assert first.mean() == pytest.approx(4.25, abs=0.15)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: uniform_times(1, 1, 4), "span is 1 to 1"),
        (lambda: uniform_times(0, float("inf"), 4), "finite"),
        (lambda: segment_times(0, 1, 0), "count is 0"),
        (lambda: uniform_times(0, 1, 2.5), "count is 2.5"),  # type: ignore[arg-type]
        (lambda: dense_times(0, 1, 4, 0), "interval is 0"),
        (lambda: dense_times(0, 1, 4, float("nan")), "interval is nan"),
    ],
)
def test_unusable_spans(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# Reading ------------------------------------------------------------------------------------------------------------


def test_read_video_reads_at_the_sampled_times(clip: Path) -> None:
    times = frame_times(clip)
    assert np.allclose(times, np.arange(50) / 25)

    def want(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return read_frames(clip, moments, size=(24, 32))

    def same(got: tuple[np.ndarray, np.ndarray], moments: np.ndarray) -> bool:
        return all(np.array_equal(a, b) for a, b in zip(got, want(moments), strict=True))

    seeded = torch.Generator().manual_seed
    size = (24, 32)
    assert same(read_video(clip, size=size), uniform_times(0, 2, 16))
    assert same(read_video(clip, num_frames=5, start=0.5, end=1.1, size=size), uniform_times(0.5, 1.1, 5))
    got = read_video(clip, num_frames=5, sampling="segment", generator=seeded(3), size=size)
    assert same(got, segment_times(0, 2, 5, seeded(3)))
    got = read_video(clip, num_frames=5, sampling="dense", generator=seeded(3), size=size)
    assert same(got, dense_times(0, 2, 5, 1 / 25, seeded(3)))
    assert np.allclose(np.diff(got[1]), 1 / 25)  # consecutive frames
    got = read_video(clip, num_frames=3, sampling="dense", interval=0.2, size=size)
    assert same(got, dense_times(0, 2, 3, 0.2))


def test_read_video_sees_all_of_files_without_a_length(tmp_path: Path) -> None:
    """Nothing in an mpg says how long it is; the last of its frames must be found all the same."""
    for name, codec in (("x.mpg", "mpeg1video"), ("x.ts", "libx264"), ("raw.h264", "libx264")):
        path = encode(tmp_path / name, codec)
        assert probe(path).video[0].duration is None
        _, shown = read_video(path, num_frames=40)
        assert np.allclose(shown, np.arange(40) / 25), name


def test_colours_and_order(tmp_path: Path) -> None:
    """Red is in channel 0, and frame k holds colour k."""
    colours = np.array([[250, 10, 10], [10, 250, 10], [10, 10, 250], [250, 250, 250]], np.uint8)
    write_mp4(tmp_path / "x.mp4", video=np.broadcast_to(colours[:, None, None], (4, 32, 32, 3)), fps=10)
    frames, shown = read_frames(tmp_path / "x.mp4", [0.3, 0.0, 0.2, 0.1, 0.1])
    assert np.abs(frames.mean((1, 2)) - colours[[3, 0, 2, 1, 1]]).max() < 12
    assert np.allclose(shown, [0.3, 0.0, 0.2, 0.1, 0.1])


@settings(max_examples=12)
@given(height=st.integers(2, 41), width=st.integers(2, 41), frames=st.integers(1, 5))
def test_any_size_comes_back(tmp_path_factory: pytest.TempPathFactory, height: int, width: int, frames: int) -> None:
    path = tmp_path_factory.mktemp("sizes") / "x.mp4"
    write_mp4(path, video=np.full((frames, height, width, 3), 90, np.uint8), fps=25)
    got, _ = read_video(path, num_frames=frames)
    assert got.shape == (frames, height, width, 3)
    assert np.abs(got.astype(int) - 90).max() <= 3
    assert (probe(path).video[0].height, probe(path).video[0].width) == (height, width)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sampling": "random"}, "sampling is 'random'; expected one of uniform, segment, dense"),
        ({"interval": 0.1}, "interval is for dense sampling"),
        ({"sampling": "dense", "interval": -1.0}, "interval is -1"),
        ({"num_frames": 0}, "count is 0"),
        ({"start": 5.0}, "clip.mp4: the span is 5.0 to 2.0"),
        ({"end": float("nan")}, "span is 0.0 to nan"),
        ({"size": (0, 5)}, r"size is \(0, 5\)"),
        ({"size": (5,)}, r"size is \(5,\)"),
        ({"stream": -1}, r"no video stream -1; found 1"),
    ],
)
def test_unusable_arguments(clip: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_video(clip, **arguments)


@pytest.mark.parametrize("times", [[], [[0.0]], [np.nan], [0.0, np.inf]])
def test_unusable_times(clip: Path, times: list) -> None:
    with pytest.raises(ValueError, match="expected at least one finite number"):
        read_frames(clip, times)


# Tensors ------------------------------------------------------------------------------------------------------------


def test_axes_move_and_bytes_stay() -> None:
    video = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    tensor = to_tensor(video)
    assert tensor.shape == (3, 2, 4, 5)
    assert tensor.dtype == torch.uint8
    assert tensor[1, 0, 2, 3] == video[0, 2, 3, 1]


@pytest.mark.parametrize("wrong", [np.zeros((2, 4, 5, 3), np.float32), np.zeros((4, 5, 3), np.uint8)])
def test_errors(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \(T, H, W, C\)"):
        to_tensor(wrong)


def test_motion_is_grey_where_nothing_moves() -> None:
    video = np.full((4, 2, 2, 3), 200, np.uint8)
    video[:2, 0, 0] = 100  # mean 150: 50 below it, then 50 above
    motion = to_motion(video)
    assert motion[:, :, 1, 1].unique().tolist() == [128]
    assert motion[0, :, 0, 0].tolist() == [78, 78, 178, 178]
