"""read_image: what Pillow and OpenCV write comes back upright and in RGB; what is no picture is named."""

import io
import os
import struct
import zlib
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


def tiff(pixels: np.ndarray, planar: int = 1, orientation: int = 1, photometric: int | None = None) -> bytes:
    """A TIFF by hand, as TIFF 6.0 has it: little-endian, without compression, interleaved (1) or in planes (2)."""
    height, width, channels = (*pixels.shape, 1)[:3]
    parts = [pixels] if planar == 1 else [pixels[..., k] for k in range(channels)]
    begin, tail = 8 + 2 + 12 * 12 + 4, b""

    def put(data: bytes) -> int:
        nonlocal tail
        tail += data
        return begin + len(tail) - len(data)

    bits = 8 * pixels.dtype.itemsize
    depths = put(struct.pack(f"<{channels}H", *[bits] * channels)) if channels > 2 else bits
    places = [put(np.ascontiguousarray(part).tobytes()) for part in parts]
    sizes = [pixels.nbytes // len(parts)] * len(parts)
    many = len(parts) > 1
    where = put(struct.pack(f"<{len(parts)}I", *places)) if many else places[0]
    lengths = put(struct.pack(f"<{len(parts)}I", *sizes)) if many else sizes[0]
    shade = (2 if channels > 2 else 1) if photometric is None else photometric
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, channels, depths), (259, 3, 1, 1), (262, 3, 1, shade),
               (273, 4, len(parts), where), (274, 3, 1, orientation), (277, 3, 1, channels), (278, 4, 1, height),
               (279, 4, len(parts), lengths), (284, 3, 1, planar), (339, 3, 1, 1)]  # fmt: skip
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4) + tail


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """TIFF 6.0, page 36: which sides of the picture the first row and the first column are."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return pixels[::rows, ::columns]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [None, 3])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("planar", [1, 2])
def test_tiff_is_turned_once(tmp_path: Path, orientation: int, channels: int | None, kind: type, planar: int) -> None:
    shape = (5, 7) if channels is None else (5, 7, channels)
    pixels = np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape).astype(kind)
    path = tmp_path / "x.tif"
    path.write_bytes(tiff(pixels, planar if channels else 1, orientation))
    if planar == 2 and channels and kind == np.uint16:
        with pytest.raises(ValueError, match=r"x\.tif: a TIFF of 3 × 16 bits in separate planes, which is not read"):
            read_image(path)
        return
    found = read_image(path)
    expected = upright(pixels, orientation)
    assert found.dtype == kind
    assert np.array_equal(found, expected if channels else expected[..., None].repeat(3, axis=2))


def test_tiff_of_other_kinds(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    for kind in (np.uint8, np.uint16):
        grey = np.arange(35, dtype=kind).reshape(5, 7) * 7
        path.write_bytes(tiff(grey, photometric=0))  # 0 is white
        assert np.array_equal(read_image(path)[..., 0], np.iinfo(kind).max - grey)
    for kind in (np.int32, np.uint32):
        path.write_bytes(tiff(np.ones((5, 7), kind)))
        with pytest.raises(ValueError, match=r"x\.tif: "):
            read_image(path)
    for options in ({"compression": "tiff_lzw"}, {"compression": "packbits"}, {"compression": "tiff_deflate"}):
        path.write_bytes(encoded("TIFF", **options))
        assert np.array_equal(read_image(path), RGB)
    assert np.abs(RGB - read_image_of(path, encoded("TIFF", "CMYK")).astype(int)).max() <= 1
    rgba = np.dstack([RGB, RGB[..., 0]])
    Image.fromarray(rgba).save(path)
    assert np.array_equal(read_image(path, alpha=True), rgba)


def read_image_of(path: Path, content: bytes, **options: bool) -> np.ndarray:
    path.write_bytes(content)
    return read_image(path, **options)


def psd() -> bytes:
    """A drawing of Photoshop's without layers, by hand: RGB, 8 bits, in planes."""
    head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, 20, 30, 8, 3)
    return head + bytes(12) + struct.pack(">H", 0) + RGB.transpose(2, 0, 1).tobytes()


SQUARE = io.BytesIO()
Image.fromarray(RGB[:16, :16]).save(SQUARE, "ICO", sizes=[(16, 16)])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tga", encoded("TGA")), ("tga", encoded("TGA", compression="tga_rle")), ("dds", encoded("DDS")),
        ("psd", psd()), ("pcx", encoded("PCX")), ("sgi", encoded("SGI")), ("ppm", encoded("PPM")),
        ("jp2", encoded("JPEG2000", irreversible=False)), ("ico", SQUARE.getvalue()),
        ("png", encoded("PNG", "P")), ("bmp", encoded("BMP", "P")), ("bmp", encoded("BMP", "1")),
        ("tga", encoded("TGA", "P")), ("gif", encoded("GIF", "P")), ("pcx", encoded("PCX", "L")),
        ("pgm", encoded("PPM", "L")), ("pbm", encoded("PPM", "1")), ("xbm", encoded("XBM", "1")),
        ("tga", encoded("TGA", "RGBA")), ("dds", encoded("DDS", "RGBA")), ("tga", encoded("TGA", "LA")),
        ("bmp", encoded("BMP", "L")), ("bmp", encoded("BMP", "RGBA")), ("webp", encoded("WEBP", lossless=True)),
    ],
)  # fmt: skip
def test_sound_pictures_of_odd_formats(tmp_path: Path, name: str, content: bytes) -> None:
    found = read_image_of(tmp_path / f"x.{name}", content)
    with Image.open(io.BytesIO(content)) as picture:
        assert np.array_equal(found, np.asarray(picture.convert("RGB")))
        rgba = np.asarray(picture.convert("RGBA"))
    assert np.array_equal(read_image(tmp_path / f"x.{name}", alpha=True), rgba)


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_one_color_that_is_transparent(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(RGB).convert(mode)
    first = picture.getpixel((0, 0))
    picture.save(tmp_path / "x.png", transparency=first)
    with Image.open(tmp_path / "x.png") as other:
        assert np.array_equal(read_image(tmp_path / "x.png", alpha=True), np.asarray(other.convert("RGBA")))
    assert (read_image(tmp_path / "x.png")[0, 0] == 255).all()


def test_one_deep_grey_that_is_transparent(tmp_path: Path) -> None:
    deep = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    cv2.imwrite(str(tmp_path / "x.png"), deep)
    content = (tmp_path / "x.png").read_bytes()
    chunk = b"tRNS" + struct.pack(">H", 300)
    where = content.index(b"IDAT") - 4
    content = content[:where] + struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[where:]
    found = read_image_of(tmp_path / "x.png", content, alpha=True)
    assert np.array_equal(found[..., 0], deep) and np.array_equal(found[..., 3] == 0, deep == 300)
    assert (read_image(tmp_path / "x.png")[0, 3] == 65535).all()


@pytest.mark.parametrize("quality", [95, 50])
def test_cmyk_jpeg_equals_pillow(tmp_path: Path, quality: int) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(encoded("JPEG", "CMYK", quality=quality))
    with Image.open(path) as picture:
        assert np.array_equal(read_image(path), np.asarray(picture.convert("RGB")))


def test_wide_and_one_pixel(tmp_path: Path) -> None:
    for shape in [(1, 1, 3), (2, 20_000, 3)]:
        Image.fromarray(np.full(shape, 7, np.uint8)).save(tmp_path / "x.png")
        assert read_image(tmp_path / "x.png").shape == shape


def png_of_size(width: int, height: int) -> bytes:
    """A small file that claims to be large."""

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
        (png_of_size(12_000, 12_000), "12,000 × 12,000 pixels; at most 89,478,485"),
        (png_of_size(20_000, 20_000), "far more than the 89,478,485"),
        (png_of_size(0, 5), r"x\.png"),
        (TIFF_FLOATS.getvalue(), "a TIFF that holds float32 pixels"),
        (encoded("TGA")[:-100], "damaged or cut short, or a TGA"),
        (encoded("ICO")[:-100], r"x\.png: damaged"),
        (encoded("PPM")[:-1], "damaged or cut short, or a PPM"),
        (encoded("EPS"), "in the format EPS, which is not read here"),
        (encoded("TIFF", "LAB"), "a TIFF that holds LAB pixels"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "is a HEIC picture, which is not read here"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "is a film"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "is a JPEG XL picture"),
        (b"\xff\x0a1234", "is a JPEG XL picture"),
        (b"%PDF-1.7", "is a PDF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is a drawing in SVG"),
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


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


def test_jpeg_with_a_foreign_marker_in_its_scan_is_refused(tmp_path: Path) -> None:
    """OpenCV fills up what follows, in silence; Pillow refuses. Found by `test_fuzz.py`."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    whole = cv2.imencode(".jpg", pixels)[1].tobytes()
    middle = (whole.rfind(b"\xff\xda") + len(whole)) // 2
    path = tmp_path / "x.jpg"
    path.write_bytes(whole[:middle] + b"\xff\xaa" + whole[middle + 2 :])
    with pytest.raises(ValueError, match="damaged or cut short"):
        read_image(path)
