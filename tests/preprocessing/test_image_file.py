"""read_image: what Pillow and OpenCV write comes back upright and in RGB; what is no picture is named."""

import io
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from mmlearn.preprocessing.image import read_image

RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def encoded(kind: str = "PNG", mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RGB).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["a.png", "汉字 with a space.bmp", "é.tiff", "no_ending"])
def test_lossless_files_under_any_name(tmp_path: Path, name: str) -> None:
    kind = {".bmp": "BMP", ".tiff": "TIFF"}.get(Path(name).suffix, "PNG")
    (tmp_path / name).write_bytes(encoded(kind))
    assert np.array_equal(read_image(tmp_path / name), RGB)


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "RGBA"])
def test_modes(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(encoded(mode=mode))
    picture = read_image(path)
    assert picture.shape == (20, 30, 3) and picture.dtype == np.uint8
    assert np.array_equal(picture, np.array(Image.open(path).convert("RGB")))
    with_alpha = read_image(path, alpha=True)
    assert with_alpha.shape == (20, 30, 4) and (with_alpha[..., 3] == 255).all()


def test_transparent_is_laid_on_white(tmp_path: Path) -> None:
    path, rgba = tmp_path / "x.png", np.dstack([RGB, RGB[..., 0]])
    Image.fromarray(rgba).save(path)
    assert np.array_equal(read_image(path, alpha=True), rgba)
    white = Image.new("RGBA", (30, 20), "white")
    expected = np.array(Image.alpha_composite(white, Image.fromarray(rgba)).convert("RGB")).astype(int)
    assert np.abs(read_image(path) - expected).max() <= 1


def test_jpeg_equals_pillow_nearly(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(encoded("JPEG", quality=95))
    assert np.abs(read_image(path) - np.array(Image.open(path)).astype(int)).mean() < 1


def test_sixteen_bits(tmp_path: Path) -> None:
    deep = np.random.default_rng(1).integers(0, 65536, (5, 6, 3), np.uint16)
    cv2.imwrite(str(tmp_path / "x.png"), deep[..., ::-1])  # OpenCV writes BGR
    assert np.array_equal(read_image(tmp_path / "x.png"), deep)
    assert (read_image(tmp_path / "x.png", alpha=True)[..., 3] == 65535).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_orientation_as_pillow_turns_it(tmp_path: Path, orientation: int, mode: str) -> None:
    path, exif = tmp_path / "x.png", Image.Exif()
    exif[274] = orientation
    path.write_bytes(encoded(mode=mode, exif=exif))
    upright = np.array(ImageOps.exif_transpose(Image.open(path)))
    assert np.array_equal(read_image(path, alpha=mode == "RGBA"), upright)


def test_wide_and_one_pixel(tmp_path: Path) -> None:
    for shape in [(1, 1, 3), (2, 20_000, 3)]:
        Image.fromarray(np.full(shape, 7, np.uint8)).save(tmp_path / "x.png")
        assert read_image(tmp_path / "x.png").shape == shape


def png_of_size(width: int, height: int) -> bytes:
    """A small file that claims to be large."""
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


MOVING = {"save_all": True, "append_images": [Image.fromarray(255 - RGB)]}
TIFF_FLOATS = io.BytesIO()
Image.fromarray(RGB[..., 0].astype(np.float32)).save(TIFF_FLOATS, "TIFF")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"not a picture, but text", "begins with b'not a pi'"),
        (encoded()[:40], r"x\.png"),
        (encoded()[:-30], "damaged"),
        (encoded("JPEG")[:-1], "no end marker"),
        (encoded("JPEG")[:400], "damaged"),
        (encoded("JPEG")[:1000], "no end marker"),
        (encoded("WEBP")[:-100], "damaged"),
        (encoded("TIFF")[:-100], r"x\.png: "),
        (encoded("GIF", **MOVING), "holds 2 pictures"),
        (encoded("ICO"), "OpenCV cannot decode"),
        (png_of_size(12_000, 12_000), "12,000 × 12,000 pixels; at most 89,478,485"),
        (png_of_size(20_000, 20_000), "far more than the 89,478,485"),
        (png_of_size(0, 5), r"x\.png"),
        (TIFF_FLOATS.getvalue(), "holds float32 pixels"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_no_picture(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as error:
        read_image(path)
    assert str(path) in str(error.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        read_image(tmp_path / "none.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ValueError, match=r"folder\.png: .*directory"):
        read_image(tmp_path / "folder.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    with pytest.raises(ValueError, match=r"loop\.png: cannot be read"):
        read_image(tmp_path / "loop.png")
    with pytest.raises(ValueError, match="null"):
        read_image("a\0b.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_forbidden_file(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(encoded())
    (tmp_path / "x.png").chmod(0)
    with pytest.raises(ValueError, match="Permission denied"):
        read_image(tmp_path / "x.png")


WHOLE = [encoded(kind) for kind in ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP")]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_in_the_file(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(WHOLE)))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, min(len(content) - 1, 200)))] = data.draw(st.integers(0, 255))
    path = tmp_path / "x.png"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    try:
        picture = read_image(path)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert picture.dtype in (np.uint8, np.uint16) and picture.ndim == 3 and picture.shape[2] == 3
