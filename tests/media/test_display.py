"""mmlearn.media.display: frames as a player shows them, against closed forms, Pillow and PyAV's other path."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from mmlearn.media import read_mp4, write_mp4
from mmlearn.media.container import open_media
from mmlearn.media.display import EXACT, Display, turns_of
from mmlearn.preprocessing.video.sampling import probe, read_frames, read_video

VIDEO = np.random.default_rng(0).integers(0, 256, (3, 12, 16, 3), np.uint8).repeat(4, 1).repeat(4, 2)  # (3, 48, 64, 3)


def exact(frame: Any, height: int | None = None, width: int | None = None) -> np.ndarray:
    """Convert by swscale's path for packed RGB, with exact rounding."""
    return frame.reformat(width, height, "rgb24", interpolation=EXACT).to_ndarray()


def filled(form: str, values: tuple[int, ...], height: int = 48, width: int = 64, **labels: int) -> Any:
    """Return a frame whose planes hold one value each."""
    frame = av.VideoFrame(width, height, form)
    for plane, value in zip(frame.planes, values, strict=True):
        kind = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
        plane.update(np.full(plane.buffer_size // kind().itemsize, value, kind).tobytes())
    for label, value in labels.items():
        setattr(frame, label, value)
    return frame


def write(path: Path, frames: list[Any], codec: str = "libx264", ratio: Fraction | None = None, **options: str) -> Path:
    """Encode frames as they are, with their labels."""
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(codec, rate=25, options={k.replace("_", "-"): v for k, v in options.items()})
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, frames[0].format.name
        for label in ("colorspace", "color_range", "color_trc", "color_primaries"):
            setattr(stream.codec_context, label, getattr(frames[0], label))
        if ratio is not None:
            stream.codec_context.sample_aspect_ratio = ratio
        for k, frame in enumerate(frames):
            frame.pts, frame.time_base = k, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


class Header:
    """What a display looks at of a stream."""

    def __init__(self, ratio: Fraction | None = None, field_order: int = 0) -> None:
        self.sample_aspect_ratio, self.metadata, self.codec_context = ratio, {}, self
        self.field_order, self.height, self.width = field_order, 48, 64


def shown(frame: Any, size: tuple[int, int] | None = None, header: Header | None = None) -> np.ndarray:
    header = header or Header()
    return Display(header, header, "x").picture(frame, size)


# Exact colors -------------------------------------------------------------------------------------------------------

SIZES = [None, (36, 48), (24, 32), (20, 33), (47, 63), (100, 200)]


@pytest.mark.parametrize(
    "form",
    ["yuv420p", "yuv422p", "yuv444p", "nv12", "yuv410p", "yuv420p10le", "yuv422p10le", "yuv444p12le", "yuvj420p",
     "gray", "gray10le", "gbrp", "gbrp10le", "gbrp12le"],
)  # fmt: skip
def test_flat_gray_stays_what_it_was(form: str) -> None:
    """The nearest byte of every level, at every size: no rounding to one side."""
    parts = av.VideoFormat(form).components
    whole = form in ("yuvj420p", "gray", "gray10le") or form.startswith("gbr")
    bits, off = parts[0].bits, []
    for level in (0, 1, 17, 64, 99, 128, 200, 254, 255):
        step = 1 << (bits - 8)
        luma = round(level / 255 * ((1 << bits) - 1)) if whole else round((16 + 219 * level / 255) * step)
        want = luma / ((1 << bits) - 1) * 255 if whole else (luma / step - 16) / 219 * 255
        planes = len(av.VideoFrame(16, 16, form).planes)
        gray = luma if form.startswith("gbr") else 1 << (bits - 1)
        frame = filled(form, (luma, *[gray] * (planes - 1)))
        for size in SIZES:
            picture = shown(frame, size).astype(float)
            assert np.abs(picture - want).max() < 0.51, (level, size, picture[0, 0])
            assert np.abs(picture - level).max() <= 1
            off.append(picture.mean() - want)
    assert abs(np.mean(off)) < 0.11


def test_noise_is_made_smaller_as_pillow_does_it() -> None:
    """An independent filter that averages: the same triangle, and no difference on average."""
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    frame = av.VideoFrame.from_ndarray(noise, format="rgb24")
    for height, width in [(36, 48), (20, 33), (7, 5)]:
        want = np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BILINEAR)).astype(int)
        off = shown(frame, (height, width)) - want
        assert np.abs(off[1:-1, 1:-1]).max() <= 4  # the two differ in what lies beyond the border
        assert height < 10 or (np.abs(off.mean((0, 1))).max() < 0.2 and np.abs(off).mean() < 0.6)


KR_KB = {"BT.601": (0.299, 0.114), "BT.709": (0.2126, 0.0722), "BT.2020": (0.2627, 0.0593)}


def yuv_of(color: tuple[int, int, int], matrix: str, whole: bool = False) -> tuple[int, int, int]:
    """Encode a color by the definition: ITU-R BT.601-7, 2.5; BT.709-6, 3; BT.2020-2, table 4."""
    kr, kb = KR_KB[matrix]
    r, g, b = (c / 255 for c in color)
    y = kr * r + (1 - kr - kb) * g + kb * b
    u, v = (b - y) / (2 - 2 * kb), (r - y) / (2 - 2 * kr)
    return (round(255 * y), round(255 * u + 128), round(255 * v + 128)) if whole else (
        round(16 + 219 * y), round(128 + 224 * u), round(128 + 224 * v))  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "height", "matrix"),
    [
        ({"colorspace": 2}, 480, "BT.601"),
        ({"colorspace": 2}, 719, "BT.601"),
        ({"colorspace": 2}, 720, "BT.709"),
        ({"colorspace": 5}, 1080, "BT.601"),
        ({"colorspace": 6}, 720, "BT.601"),
        ({"colorspace": 1}, 240, "BT.709"),
        ({"colorspace": 9}, 240, "BT.2020"),
        ({"colorspace": 10}, 240, "BT.2020"),
        ({"colorspace": 3}, 720, "BT.709"),  # a reserved number
        ({"colorspace": 2, "color_primaries": 1}, 240, "BT.709"),
        ({"colorspace": 2, "color_primaries": 6}, 720, "BT.601"),
        ({"colorspace": 1, "color_range": 2}, 240, "BT.709"),
        ({"colorspace": 2, "color_range": 2}, 240, "BT.601"),
    ],
)
def test_matrix_by_label_else_by_height(labels: dict[str, int], height: int, matrix: str) -> None:
    color = (200, 40, 90)
    frame = filled("yuv420p", yuv_of(color, matrix, labels.get("color_range") == 2), height, 32, **labels)
    for size in (None, (10, 12)):
        assert np.abs(shown(frame, size).reshape(-1, 3) - np.array(color, int)).max() <= 2


def test_colors_that_cannot_be_shown_are_refused() -> None:
    with pytest.raises(ValueError, match="x: colors are stored as YCgCo"):
        shown(filled("yuv420p", (90, 90, 90), colorspace=8))


@pytest.mark.parametrize(("height", "matrix", "number"), [(480, "BT.601", 6), (720, "BT.709", 1)])
def test_written_films_are_labelled(tmp_path: Path, height: int, matrix: str, number: int) -> None:
    color = (200, 40, 90)
    write_mp4(tmp_path / "x.mp4", video=np.full((2, height, 64, 3), color, np.uint8), fps=10)
    with av.open(str(tmp_path / "x.mp4")) as file:
        frame = next(file.decode(video=0))
        assert (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc) == (number, 1, 1, 1)
        stored = [int(np.frombuffer(plane, np.uint8)[0]) for plane in frame.planes]
    assert stored == pytest.approx(yuv_of(color, matrix), abs=1)
    video = read_mp4(tmp_path / "x.mp4").video
    assert video is not None and np.abs(video.astype(int) - color).max() <= 2


# Pixels, fields, transparency -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "size"),
    [
        (Fraction(3, 2), (96, 144)),
        (Fraction(4, 3), (96, 128)),
        (Fraction(8, 9), (108, 96)),  # narrow pixels: players enlarge the height
        (Fraction(1), (96, 96)),
        (Fraction(1, 500), (96, 96)),  # nonsense
    ],
)
@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_pixels_become_square(tmp_path: Path, ratio: Fraction, size: tuple[int, int], ending: str) -> None:
    frames = [filled("yuv420p", (99, 128, 128), 96, 96) for _ in range(3)]
    path = write(tmp_path / f"x.{ending}", frames, ratio=ratio)
    video = probe(path).video[0]
    assert (video.height, video.width) == size
    assert video.pixel_ratio == pytest.approx(float(ratio) if ratio > Fraction(1, 16) else 1)
    assert read_video(path, num_frames=2)[0].shape == (2, *size, 3)
    whole = read_mp4(path).video
    assert whole is not None and whole.shape == (3, *size, 3)
    assert read_video(path, num_frames=1, size=(10, 20))[0].shape == (1, 10, 20, 3)


def test_a_circle_is_round() -> None:
    y, x = np.mgrid[:96, :64]
    disc = np.where((y - 47.5) ** 2 + ((x - 31.5) * 1.5) ** 2 < 40**2, 255, 0).astype(np.uint8)
    picture = shown(av.VideoFrame.from_ndarray(disc, format="gray"), header=Header(Fraction(3, 2)))[..., 0] > 127
    assert picture.shape == (96, 96)
    assert abs(picture.any(0).sum() - picture.any(1).sum()) <= 2


@pytest.mark.parametrize("form", ["yuv420p", "yuv422p10le", "rgb24"])
@pytest.mark.parametrize("order", [0, 3])
def test_fields_do_not_comb(form: str, order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar that jumps between two fields: only the first field is seen, its own lines untouched."""
    lines = np.full((48, 64, 3), 40, np.uint8)
    lines[0::2, 10:20], lines[1::2, 30:40] = 220, 220
    woven = av.VideoFrame.from_ndarray(lines, format="rgb24")
    woven = woven.reformat(format=form, interpolation=EXACT) if form != "rgb24" else woven
    header = Header(field_order=order)
    picture = Display(header, header, "x")
    field = np.full((48, 64, 3), 40, np.uint8)
    field[:, 10:20] = 220
    if order == 3:
        field = field[:, (np.arange(64) - 20) % 64]

    class Woven:
        """PyAV's frame says `interlaced_frame`, but cannot be told."""

        interlaced_frame = True

        def __getattr__(self, name: str) -> Any:
            return getattr(woven, name)

    got = picture.picture(Woven())
    want = field if form == "rgb24" else exact(av.VideoFrame.from_ndarray(field, format="rgb24").reformat(format=form))
    columns = [5, 15, 25, 35, 45]  # away from edges, where chroma is shared
    assert np.abs(got[:, columns].astype(int) - want[:, columns]).max() <= 2
    assert np.abs(np.diff(got[:, columns].astype(int), axis=0)).max() <= 1


def test_interlaced_films_are_told_and_shown_by_field(tmp_path: Path) -> None:
    frames = []
    for _ in range(4):
        lines = np.full((48, 64), 60, np.uint8)
        lines[0::2, 8:24], lines[1::2, 40:56] = 200, 200
        frames.append(av.VideoFrame.from_ndarray(np.repeat(lines[..., None], 3, 2), format="rgb24").reformat(
            format="yuv420p"))  # fmt: skip
    path = write(tmp_path / "i.mp4", frames, crf="0", x264_params="interlaced=1")
    assert probe(path).video[0].interlaced
    assert not probe(write(tmp_path / "p.mp4", frames)).video[0].interlaced
    picture = read_frames(path, [0.04])[0][0, ..., 0].astype(int)
    assert np.abs(np.diff(picture, axis=0)).max() <= 2  # woven lines differ by 140
    assert picture[:, 16].min() > 190 and picture[:, 48].max() < 70


@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_transparency_lies_on_black(alpha: int) -> None:
    rgba = np.empty((48, 64, 4), np.uint8)
    rgba[:] = 200, 100, 50, alpha
    frame = av.VideoFrame.from_ndarray(rgba, format="rgba")
    want = np.array([200, 100, 50]) * alpha / 255
    for size in (None, (12, 16)):
        assert np.abs(shown(frame, size) - want).max() <= 1


def test_hidden_colors_do_not_leak_into_edges() -> None:
    rgba = np.zeros((48, 64, 4), np.uint8)
    rgba[:, :32] = 0, 0, 0, 255
    rgba[:, 32:] = 255, 255, 255, 0  # white that nobody sees
    assert shown(av.VideoFrame.from_ndarray(rgba, format="rgba"), (9, 13)).max() == 0


def test_frames_too_large_for_a_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked for is small, but a decoder needs whole frames: by the header, or where the size grows later."""
    path = write(tmp_path / "x.mp4", [filled("yuv420p", (90, 128, 128), 480, 640)])
    monkeypatch.setenv("MMLEARN_MEMORY_GB", "0.002")
    for call in (lambda: read_video(path, num_frames=1, size=(8, 8)), lambda: read_mp4(path)):
        with pytest.raises(ValueError, match=r"x\.mp4: frames of 480 × 640 would take 0.00246 GB.*convert"):
            call()
    small = write(tmp_path / "small.ts", [filled("yuv420p", (90, 128, 128), 48, 64) for _ in range(9)])
    large = write(tmp_path / "large.ts", [filled("yuv420p", (90, 128, 128), 480, 640) for _ in range(9)])
    (tmp_path / "both.ts").write_bytes(small.read_bytes() + large.read_bytes())
    with pytest.raises(ValueError, match=r"both\.ts"):
        read_mp4(tmp_path / "both.ts")


# HDR ------------------------------------------------------------------------------------------------------------------


# Turned and mirrored --------------------------------------------------------------------------------------------------

# How each of the eight ways to turn a picture is written as (a, b, c, d), and what it does: ISO/IEC 14496-12, 8.3.2.3.
TURNS = {
    "upright": ((1, 0, 0, 1), lambda p: p),
    "90 clockwise": ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
    "180": ((-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
    "90 counterclockwise": ((0, -1, 1, 0), lambda p: np.rot90(p, 1)),
    "mirrored": ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda p: p[::-1]),
    "transposed": ((0, 1, 1, 0), lambda p: p.transpose(1, 0, 2)),
    "transposed the other way": ((0, -1, -1, 0), lambda p: np.rot90(p, 2).transpose(1, 0, 2)),
}


def write_turned(path: Path, matrix: tuple[int, int, int, int], video: np.ndarray = VIDEO) -> None:
    """Write an mp4 file whose header says how to turn the picture."""
    a, b, c, d = (value * 65536 for value in matrix)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "0"})
        stream.height, stream.width, stream.pix_fmt = *video.shape[1:3], "yuv420p"
        stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        for picture in video:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("size", [None, (32, 24)])
def test_turned_as_the_header_says(tmp_path: Path, turn: str, size: tuple[int, int] | None) -> None:
    matrix, turned = TURNS[turn]
    write_turned(tmp_path / "x.mp4", matrix)
    with open_media(tmp_path / "x.mp4") as container:
        frame = next(container.decode(video=0))
        display = Display(container, container.streams.video[0], "x.mp4")
        picture = display.picture(frame, size)
        stored = exact(frame)
        assert display.size(frame) == turned(stored).shape[:2]
        if size is not None:
            height, width = size[::-1] if turns_of(frame)[0] else size
            stored = exact(frame, height, width)
        assert np.array_equal(picture, turned(stored))
    video = read_mp4(tmp_path / "x.mp4").video
    assert video is not None and video.shape[1:] == turned(VIDEO[0]).shape


def test_resizing_leaves_the_padding_out(tmp_path: Path) -> None:
    """An odd picture is padded in the file; resized, it must not shrink towards the padding."""
    video = np.full((2, 5, 5, 3), 200, np.uint8)
    video[:, :, 2:] = 20
    write_mp4(tmp_path / "odd.mp4", video=video, fps=25)
    with open_media(tmp_path / "odd.mp4") as container:
        frame = next(container.decode(video=0))
        display = Display(container, container.streams.video[0], "odd.mp4")
        small = display.picture(frame, (5, 10))
        whole = display.picture(frame)
        assert display.size(frame) == (5, 5) and (frame.height, frame.width) == (6, 6)
    assert whole.shape == (5, 5, 3) and small.shape == (5, 10, 3)
    want = av.VideoFrame.from_ndarray(np.ascontiguousarray(whole), format="rgb24")
    assert np.array_equal(small, exact(want, 5, 10))
