"""mmlearn.media.frames: the very frames of a full decode, from fewer decoded frames; damage is named."""

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlearn.media import frames as decoding
from mmlearn.media import read_mp4, write_mp4
from mmlearn.preprocessing.video.sampling import frame_times, read_frames, read_video
from tests.media.test_display import exact

FRAMES = 40
IRREGULAR = np.cumsum(np.random.default_rng(1).integers(5, 200, FRAMES)).tolist()  # ms


def pictures(frames: int = FRAMES, height: int = 48, width: int = 64) -> np.ndarray:
    """Coloured blocks that move by 2 to 3 pixels a frame: no two frames are alike."""
    world = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    return np.stack([world[3 * k % 150 :, 2 * k % 200 :][:height, :width] for k in range(frames)])


def encode(
    path: Path,
    codec: str = "libx264",
    *,
    video: np.ndarray | None = None,
    stamps: list[int] | None = None,
    pix_fmt: str = "yuv420p",
    **options: str,
) -> Path:
    """Write frames at 25 a second, or at the given milliseconds, in the container of the path's ending."""
    video = pictures() if video is None else video
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(codec, rate=25, options={k.replace("_", "-"): v for k, v in options.items()})
        stream.height, stream.width, stream.pix_fmt = *video.shape[1:3], pix_fmt
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for k, picture in enumerate(video):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = (k, Fraction(1, 25)) if stamps is None else (stamps[k], Fraction(1, 1000))
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def remux(
    source: Path, path: Path, shift: float = 0, keep: Callable[[int, Any], bool] = lambda k, packet: True
) -> Path:
    """Copy the packets that `keep` names into another container, moved by so many seconds."""
    with av.open(str(source)) as container, av.open(str(path), "w") as out:
        stream = container.streams.video[0]
        target, ticks = out.add_stream_from_template(stream), int(shift / stream.time_base)
        for k, packet in enumerate(container.demux(stream)):
            if packet.size and keep(k, packet):
                packet.stream, packet.pts = target, packet.pts + ticks
                packet.dts = None if packet.dts is None else packet.dts + ticks
                out.mux(packet)
    return path


def joined(path: Path) -> Path:
    """Three sizes in one stream, as when a broadcast changes its programme."""
    with av.open(str(path), "w") as out:
        target: Any = None
        for k, (height, width) in enumerate([(48, 64), (32, 48), (64, 80)]):
            with av.open(str(encode(path.with_name(f"{k}.ts"), video=pictures(15, height, width)))) as container:
                stream = container.streams.video[0]
                target = target or out.add_stream_from_template(stream)
                for packet in container.demux(stream):
                    if packet.size:
                        packet.stream, shift = target, k * 15 * 3600
                        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                        out.mux(packet)
    return path


OPEN = {"x264_params": "open-gop=1:keyint=12"}
OPEN_HEVC = {"x265_params": "open-gop=1:keyint=12:log-level=none"}
REFRESH = {"x264_params": "intra-refresh=1:keyint=12"}  # no keyframe after the first: pictures heal column by column
FILES: dict[str, Callable[[Path], Path]] = {
    "one_group.mp4": encode,
    "short_groups.mp4": lambda p: encode(p, g="8"),
    "open_groups.mp4": lambda p: encode(p, **OPEN),
    "open_groups.mkv": lambda p: encode(p, **OPEN),
    "open_groups.ts": lambda p: encode(p, **OPEN),
    "open_hevc.mp4": lambda p: encode(p, "libx265", **OPEN_HEVC),
    "open_hevc.ts": lambda p: encode(p, "libx265", **OPEN_HEVC),
    "many_b.mp4": lambda p: encode(p, bf="16", refs="16", x264_params="b-adapt=0"),
    "no_b.mp4": lambda p: encode(p, bf="0", g="10"),
    "interlaced.mp4": lambda p: encode(p, x264_params="interlaced=1:keyint=12"),
    "refresh.mkv": lambda p: encode(p, **REFRESH),
    "refresh.mp4": lambda p: encode(p, **REFRESH),
    "mpeg1.mpg": lambda p: encode(p, "mpeg1video", bf="2"),
    "mpeg2.mpg": lambda p: encode(p, "mpeg2video", bf="2"),
    "mpeg2.mov": lambda p: encode(p, "mpeg2video", bf="2", g="12"),
    "mpeg4.avi": lambda p: encode(p, "mpeg4", g="10"),
    "mpeg4_b.avi": lambda p: encode(p, "mpeg4", g="10", bf="2"),
    "h264.avi": encode,
    "mjpeg.avi": lambda p: encode(p, "mjpeg", pix_fmt="yuvj420p"),
    "vp8.webm": lambda p: encode(p, "libvpx", g="12"),
    "vp9.webm": lambda p: encode(p, "libvpx-vp9", g="12", auto_alt_ref="1", lag_in_frames="16"),
    "ffv1.mkv": lambda p: encode(p, "ffv1"),
    "wmv2.wmv": lambda p: encode(p, "wmv2"),
    "h264.flv": lambda p: encode(p, g="12"),
    "animated.gif": lambda p: encode(p, "gif", pix_fmt="rgb8"),
    "raw.h264": encode,  # not one timestamp
    "irregular.mp4": lambda p: encode(p, stamps=IRREGULAR, g="10"),
    "irregular.mkv": lambda p: encode(p, stamps=IRREGULAR, g="10"),
    "irregular.ts": lambda p: encode(p, stamps=IRREGULAR, g="10"),
    "irregular.webm": lambda p: encode(p, "libvpx-vp9", stamps=IRREGULAR),
    "edited.mp4": lambda p: remux(encode(p.with_name("e.mp4"), **OPEN), p, shift=-0.3),  # an edit list hides a part
    "late.mkv": lambda p: remux(encode(p.with_name("l.mkv")), p, shift=3),
    "cut_in.ts": lambda p: remux(encode(p.with_name("c.ts"), **OPEN), p, keep=lambda k, packet: k >= 5),
    "cut_in_hevc.mkv": lambda p: remux(
        encode(p.with_name("h.ts"), "libx265", **OPEN_HEVC), p, keep=lambda k, _: k > 14
    ),
    "cut_in.mpg": lambda p: remux(encode(p.with_name("m.mpg"), "mpeg2video", bf="2"), p, keep=lambda k, _: k > 11),
    "one_frame.mp4": lambda p: encode(p, video=pictures(1)),
    "one_frame.mpg": lambda p: encode(p, "mpeg1video", video=pictures(1)),
    "sizes.ts": joined,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


def made(folder: Path, name: str) -> Path:
    """Write one of FILES, once."""
    path = folder / name
    return path if path.exists() else FILES[name](path)


def full_decode(path: Path) -> tuple[list[Any], np.ndarray]:
    """Decode everything in order, with PyAV alone: frames, and seconds since the first one."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        stamps = [frame.pts for frame in frames]
        if None in stamps or stamps != sorted(stamps):  # raw H.264, avi with B-frames: no timestamps for display
            return frames, np.arange(len(frames)) / 25
        return frames, (np.array(stamps) - stamps[0]) * float(stream.time_base)


def by_field(frame: Any) -> Any:
    """Return a frame; of an interlaced one its upper field, with the mean of two lines between them."""
    if not frame.interlaced_frame:
        return frame
    packed = frame.to_ndarray(format="yuv420p")
    for plane in np.split(packed.reshape(-1), [frame.height * frame.width, frame.height * frame.width * 5 // 4]):
        lines = plane.reshape(-1, frame.width if plane.size == frame.height * frame.width else frame.width // 2)
        lines[1:-1:2] = (lines[:-2:2].astype(int) + lines[2::2] + 1) // 2
        lines[-1] = lines[-2]
    return av.VideoFrame.from_ndarray(packed, format="yuv420p")


def questions(times: np.ndarray) -> list[np.ndarray]:
    """Times to ask for: all frames, random ones in any order, one near the end, outside, and repeated ones."""
    rng, end = np.random.default_rng(0), times[-1] + 0.1
    random = [rng.uniform(-0.1, end, count) for count in (1, 2, 3, 5, 8, 16)]
    return [times, *random, np.array([end - 0.15]), np.array([-5.0, 1e300, 0.0, 0.0, 1e300, 1e9])]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", FILES)
def test_equals_a_full_decode(folder: Path, name: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(folder, name)
    frames, times = full_decode(path)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(decoding, "_SMALL", 0)
    assert np.allclose(frame_times(path), times, atol=1e-9)
    for asked in questions(times):
        got, shown = read_frames(path, asked)
        index = np.clip(np.searchsorted(times, asked + decoding.EPSILON, side="right") - 1, 0, None)
        assert np.allclose(shown, times[index], atol=1e-9)
        height, width = frames[index[np.argsort(asked, kind="stable")[0]]].to_ndarray(format="rgb24").shape[:2]
        for picture, k in zip(got, index, strict=True):  # of one size all, that of the first in time
            off = picture.astype(int) - exact(by_field(frames[k]), height, width)
            assert np.abs(off).max() <= (name == "sizes.ts"), (k, asked)  # enlarging rounds otherwise on the two paths


def test_times_of_frames_that_matroska_rounded(tmp_path: Path) -> None:
    """Frame k of 24000/1001 a second is shown at k · 1001/24000 s, but mkv keeps whole milliseconds."""
    exact = np.arange(FRAMES) * 1001 / 24_000
    path = encode(tmp_path / "x.mkv", stamps=[round(1000 * time) for time in exact])
    shown = read_frames(path, exact)[1]
    assert np.allclose(shown, frame_times(path), atol=1e-9)
    assert (shown > exact).any()  # or this would test nothing


@pytest.mark.parametrize("name", ["open_groups.mp4", "edited.mp4", "mpeg2.mpg", "irregular.mkv", "sizes.ts"])
def test_read_mp4_gives_the_same_frames(folder: Path, name: str) -> None:
    path = made(folder, name)
    video = read_mp4(path).video
    assert video is not None
    assert np.array_equal(video, read_frames(path, frame_times(path))[0])


@pytest.mark.parametrize("name", ["open_groups.mp4", "mpeg1.mpg", "raw.h264", "irregular.mkv", "refresh.mkv"])
def test_file_objects_and_sizes(folder: Path, name: str) -> None:
    path = made(folder, name)
    asked = [0.9, 0.1, 0.5]
    frames, shown = read_frames(path, asked, size=(20, 33))
    again, times = read_frames(io.BytesIO(path.read_bytes()), asked, size=(20, 33))
    assert np.array_equal(frames, again) and np.array_equal(shown, times)
    decoded, times = full_decode(path)
    for picture, time in zip(frames, shown, strict=True):
        frame = decoded[int(np.argmin(np.abs(times - time)))]
        assert np.array_equal(picture, exact(frame, 20, 33))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The timestamps of all frames that passes decode, in ticks."""
    stamps: list[int] = []
    original = decoding._Pass._decoded

    def watched(self: Any) -> Any:
        for stamp, frame in original(self):
            stamps.append(stamp)
            yield stamp, frame

    monkeypatch.setattr(decoding._Pass, "_decoded", watched)
    return stamps


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_decodes_only_what_is_needed(tmp_path: Path, decoded: list[int], ending: str) -> None:
    path = encode(
        tmp_path / f"x.{ending}", video=pictures(200), bf="0", x264_params="keyint=20:min-keyint=20:scenecut=0"
    )
    read_frames(path, [5.9])  # frame 147; keyframe 140
    assert len(decoded) <= 9
    decoded.clear()
    read_frames(path, [7.1, 1.1, 1.14])  # frames 177, 27, 28; keyframes 160, 20
    assert len(decoded) <= 9 + 1 + 18 + 1
    decoded.clear()
    read_frames(path, np.arange(200) / 25)  # everything: in one pass, each frame once
    assert len(decoded) == 200


def test_frames_that_nobody_needs_are_skipped(tmp_path: Path, decoded: list[int]) -> None:
    path = encode(tmp_path / "x.mp4", video=pictures(100), bf="3", x264_params="b-adapt=0:scenecut=0")
    read_frames(path, [0.0, 3.9])  # in a pattern of P b B b, every other frame is no other's reference
    assert len(decoded) < 60
    decoded.clear()
    path = encode(tmp_path / "y.mp4", video=pictures(100), bf="0", x264_params="scenecut=0")
    read_frames(path, [0.0, 3.9])  # every frame is the next one's reference
    assert len(decoded) >= 98


def test_cover_by_one_forward_pass_where_seeking_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, asked = made(folder, "open_groups.mp4"), [1.2, 0.3]
    want = read_frames(path, asked)

    def fails(*_: object) -> None:
        raise av.error.PermissionError(1, "Operation not permitted", "seek")

    for replacement in (fails, lambda *_: None):
        monkeypatch.setattr(decoding, "_keyframe", replacement)
        got = read_frames(path, asked)
        assert np.array_equal(got[0], want[0]) and np.array_equal(got[1], want[1])


def noisy_mp4(path: Path) -> bytes:
    video = np.random.default_rng(0).integers(0, 256, (30, 48, 64, 3), np.uint8)
    write_mp4(path, video=video, fps=25, audio=np.zeros(19_200, np.float32), sample_rate=16_000)
    return path.read_bytes()


@pytest.mark.parametrize("part", np.linspace(0.02, 0.9, 10).round(2))
def test_truncated_file(tmp_path: Path, part: float) -> None:
    """What is left comes as it was; what is lost is an error that says how far the file goes."""
    path = tmp_path / "cut.mp4"
    data = noisy_mp4(path)
    whole, times = read_frames(path, np.arange(30) / 25)
    path.write_bytes(data[: int(len(data) * part)])
    reached = 0
    for k, time in enumerate(times):
        try:
            frames, shown = read_frames(path, [time])
        except ValueError as error:
            assert "cut.mp4" in str(error)
            assert "0 bytes" not in str(error)
        else:
            assert reached == k  # no gaps
            assert shown[0] == time and np.array_equal(frames[0], whole[k])
            reached = k + 1
    assert 30 * part - 4 <= reached <= 30 * part + 1
    if reached:
        with pytest.raises(ValueError, match=rf"cut off {reached / 25:.2f} s after.*no frame for 1\.16 s"):
            read_frames(path, [1.16])
    with pytest.raises(ValueError, match=r"cut\.mp4"):
        read_video(path, num_frames=30)


def test_cut_mkv_is_a_shorter_file(tmp_path: Path) -> None:
    """Matroska tells no number of frames: the last one that is there stays on the screen."""
    path = encode(tmp_path / "x.mkv", video=pictures(60), g="5")
    whole = read_frames(path, np.arange(60) / 25)[0]
    path.write_bytes(path.read_bytes()[:-2_000])
    times = frame_times(path)
    frames, shown = read_frames(path, times)
    assert 0 < len(times) < 60
    assert np.array_equal(frames, whole[: len(frames)])
    assert np.allclose(shown, times)


def test_damage_where_frames_are_counted(folder: Path) -> None:
    """Without timestamps a lost packet would move all others in time: better no frame than one of another moment."""
    data = made(folder, "mpeg4_b.avi").read_bytes()
    want, times = read_frames(io.BytesIO(data), np.arange(FRAMES) / 25)
    place = data.index(b"\0\0\1\xb6", len(data) // 2)  # a picture's header
    for damaged in (data[:place], data[:place] + bytes(4_000) + data[place + 4_000 :]):
        for call in (frame_times, read_video):
            with pytest.raises(ValueError, match=r"<bytes>: damaged or cut off; found \d+ of 40 frames"):
                call(io.BytesIO(damaged))
    raw = made(folder, "raw.h264").read_bytes()  # the number of frames stands nowhere
    frames, shown = read_frames(io.BytesIO(raw[: len(raw) // 2]), [0.0, 0.2, 9.0])
    assert np.array_equal(frames[:2], read_frames(io.BytesIO(raw), [0.0, 0.2])[0])
    assert 0.2 < shown[2] < times[-1]
    assert len(want) == FRAMES


@settings(max_examples=60, deadline=10_000)
@given(data=st.data())
@pytest.mark.parametrize("name", ["open_groups.mp4", "mpeg1.mpg", "short.mkv", "mpeg4.avi", "open_groups.ts"])
def test_damaged_bytes_never_crash(folder: Path, name: str, data: st.DataObject) -> None:
    FILES.setdefault("short.mkv", lambda p: encode(p, g="8"))
    original = made(folder, name).read_bytes()
    damaged = bytearray(original[: data.draw(st.integers(1, len(original)), "length")])
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=20), "places"):
        damaged[place] = data.draw(st.integers(0, 255))
    try:
        frames, shown = read_video(io.BytesIO(damaged), num_frames=5, size=(8, 8))
    except ValueError as error:
        assert "<bytes>" in str(error)
    else:
        assert frames.shape == (5, 8, 8, 3) and np.isfinite(shown).all()
        assert (np.diff(shown) >= 0).all()
