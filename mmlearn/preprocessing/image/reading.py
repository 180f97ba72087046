"""Read a picture file: RGB, upright, or an error that says what is wrong with it.

Chapter: preprocessing/image.
"""

import os
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import StubImageFile

from mmlearn.preprocessing.image.color import bgr_to_rgb, drop_alpha
from mmlearn.preprocessing.image.layout import full

MAX_PIXELS = 2**28 // 3  # the largest picture that `read_image` opens: a quarter of a gigabyte at 3 bytes a pixel
# What OpenCV decodes: format and Pillow's modes.
_BY_OPENCV = {
    "JPEG": ("L", "RGB"),
    "MPO": ("L", "RGB"),
    "PNG": ("L", "LA", "RGB", "RGBA", "I", "I;16", "I;16B"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("RGB",),
}
_OTHER_PROGRAMS = ("EPS", "WMF", "EMF", "MPEG")  # Pillow would start Ghostscript, ask Windows, or only knows the size
_NOT_READ = [
    *((4, b"ftyp" + brand, "a HEIC picture") for brand in (b"heic", b"heix", b"heim", b"hevc", b"mif1", b"msf1")),
    (4, b"ftypavif", "an AVIF picture, for which Pillow here has no decoder"),
    (4, b"ftyp", "a film or another file of the MP4 family"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR picture"),
    (0, b"#?R", "a Radiance HDR picture"),
    (0, b"%PDF", "a PDF"),
    (0, b"<svg", "a drawing in SVG"),
    (0, b"<?xml", "XML (a drawing in SVG?)"),
    (128, b"DICM", "a DICOM picture"),
]  # (place, bytes, name)
# What turns a picture upright, for each value of EXIF's tag 274, orientation.
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda picture: np.rot90(picture, 2),
    4: np.flipud,
    5: lambda picture: picture.swapaxes(0, 1),
    6: lambda picture: np.rot90(picture, -1),
    7: lambda picture: np.rot90(picture, 2).swapaxes(0, 1),
    8: np.rot90,
}


def read_image(path: str | os.PathLike[str], *, alpha: bool = False) -> np.ndarray:
    """Read a picture as RGB, upright: uint8 or uint16 (H, W, 3).

    Grey becomes three equal channels. What is transparent is laid on white, unless `alpha` asks for it. The orientation
    that a camera notes (EXIF) is applied, with or without transparency. Any path will do, also 汉字.png.

    JPEG, PNG, WebP and BMP are decoded by OpenCV, with 16 bits where the file has them; the others by Pillow. There 16
    bits are kept for grey, and for colours of TIFF.

    Args:
        path: PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF and whatever else Pillow opens without another program.
        alpha: Whether to return (H, W, 4), RGBA.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no picture, of a format that is not read here, damaged or cut short, holds several
            pictures, has other than 8 or 16 bits, or more than `MAX_PIXELS` pixels.

    Chapter: preprocessing/image.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; expected a picture") from None
    except (OSError, ValueError) as error:  # a folder, no permission, a loop of links, a null byte in the name
        raise ValueError(f"{path}: cannot be read ({getattr(error, 'strerror', error)}); expected a picture") from None
    header = _check_header(path, data)
    picture = _by_opencv(data, header) if header.opencv else None
    if picture is None and header.opencv and header.kind == "TIFF":
        raise ValueError(f"{path}: damaged or cut short: OpenCV cannot decode these {len(data)} bytes")
    if picture is None:
        picture = _by_pillow(path, data, header)
    colours = picture.reshape(*picture.shape[:2], -1)  # (H, W) → (H, W, 1)
    if colours.shape[2] < 3:  # grey, perhaps with transparency
        colours = np.dstack([colours[..., :1].repeat(3, axis=2), colours[..., 1:]])
    if alpha and colours.shape[2] == 3:
        colours = np.dstack([colours, np.full_like(colours[..., :1], full(colours))])
    elif not alpha and colours.shape[2] == 4:
        colours = drop_alpha(colours)
    return np.ascontiguousarray(colours)


class _Header(NamedTuple):
    """What a file's header gives."""

    kind: str  # Pillow's name of the format
    mode: str  # Pillow's name of the pixels' type
    opencv: bool  # whether OpenCV decodes it
    orientation: int  # EXIF's; 1 where OpenCV or Pillow's decoder turns the picture itself
    clear: int | None = None  # the grey that stands for transparency, which OpenCV does not know


def _check_header(path: str | os.PathLike[str], data: bytes) -> _Header:
    """Check what a file says of itself, before memory is spent on its pixels."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(BytesIO(data)) as header:  # it warns of large ones
            (width, height), kind, mode = header.size, header.format or "", header.mode
            # A phone's photograph with extras, and a drawing's layers beside the whole, are one picture.
            pictures = 1 if kind in ("MPO", "PSD") else getattr(header, "n_frames", 1)
            orientation = Image.Image.getexif(header).get(274, 1)  # PNG's own method would decode the pixels
            opencv, stub = kind in _BY_OPENCV and mode in _BY_OPENCV[kind], isinstance(header, StubImageFile)
            clear = header.info.get("transparency") if kind == "PNG" and mode in ("L", "I", "I;16", "I;16B") else None
            if kind == "TIFF":
                bits, planes = header.tag_v2.get(258, (1,)), header.tag_v2.get(284, 1)  # type: ignore[attr-defined]
                if len(bits) > 1 and max(bits) > 8:  # of which Pillow keeps 8 bits
                    if planes != 1 or set(bits) != {16} or mode not in ("RGB", "RGBA", "RGBX", "RGBa"):
                        raise _Refused(f"a TIFF of {len(bits)} × {bits[0]} bits"
                                       + (" in separate planes" if planes != 1 else ""))  # fmt: skip
                    opencv, orientation = True, 1  # which turns a TIFF, and only a TIFF
    except UnidentifiedImageError:
        raise ValueError(f"{path}: {_unidentified(data)}") from None
    except _Refused as refused:
        raise ValueError(f"{path}: {refused}, which is not read here; convert it to PNG or JPEG") from None
    except Image.DecompressionBombError:  # twice Pillow's limit
        raise ValueError(f"{path}: has far more than the {MAX_PIXELS:,} pixels that are allowed") from None
    except Exception as error:  # Pillow raises whatever a broken header makes it stumble over
        raise ValueError(f"{path}: damaged ({error}); expected a complete picture") from None
    if height * width > MAX_PIXELS:
        raise ValueError(f"{path}: {height:,} × {width:,} pixels; at most {MAX_PIXELS:,} are allowed")
    if pictures > 1:
        raise ValueError(f"{path}: holds {pictures} pictures; expected one")
    if stub or kind in _OTHER_PROGRAMS:
        raise ValueError(f"{path}: a picture in the format {kind}, which is not read here; convert it to PNG or JPEG")
    if kind == "PNG":
        _check_chunks(path, data)
    # A JPEG ends after its last scan; OpenCV 4 would fill up with grey what is missing.
    if kind in ("JPEG", "MPO") and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        raise ValueError(f"{path}: cut short: no end marker after the last scan of {len(data)} bytes")
    if kind in ("JPEG", "MPO") and opencv:
        _check_scans(path, data)
    return _Header(kind, mode, opencv, int(orientation), clear if isinstance(clear, int) else None)


def _check_scans(path: str | os.PathLike[str], data: bytes) -> None:
    """Check that Pillow decodes a JPEG; OpenCV fills up what it cannot follow, in silence."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(BytesIO(data)) as picture:
            picture.draft("L", (1, 1))  # an eighth of the size: all is read, little is computed
            picture.load()
    except Exception as error:  # Pillow raises whatever broken pixels make it stumble over
        raise ValueError(f"{path}: damaged or cut short ({error}); expected a complete picture") from None


class _Refused(Exception):
    """A picture that is sound but not read."""


def _by_opencv(data: bytes, header: _Header) -> np.ndarray | None:
    """Decode a picture that OpenCV reads rightly: (H, W) or (H, W, C), RGB, upright; None where it cannot."""
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)  # which ignores the orientation
    except cv2.error:
        return None
    if picture is None or picture.dtype not in (np.uint8, np.uint16):
        return None
    picture = picture.reshape(*picture.shape[:2], -1)
    picture = bgr_to_rgb(picture) if picture.shape[2] in (3, 4) else picture
    if header.clear is not None and picture.shape[2] == 1:
        picture = np.dstack([picture, np.where(picture == header.clear, 0, full(picture)).astype(picture.dtype)])
    return _UPRIGHT.get(header.orientation, np.asarray)(picture)


def _by_pillow(path: str | os.PathLike[str], data: bytes, header: _Header) -> np.ndarray:
    """Decode a picture by Pillow: (H, W) or (H, W, C), RGB, upright."""
    what = header.kind
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(BytesIO(data)) as picture:
            picture.load()
            upright = ImageOps.exif_transpose(picture)  # of TIFF, `load` has turned the picture and dropped the tag
            if upright.size[0] * upright.size[1] > MAX_PIXELS:
                raise ValueError(f"{upright.size} pixels")
            if upright.mode in ("I", "F", "LAB", "HSV") and not (upright.mode == "I" and what in ("PNG", "PPM")):
                bits = {"I": "int32", "F": "float32"}.get(upright.mode, upright.mode)
                raise _Refused(
                    f"{path}: a {what} that holds {bits} pixels; expected 8 or 16 bits a channel, RGB or grey"
                )
            if upright.mode.startswith("I"):
                deep = np.asarray(upright).astype(np.uint16)
                inverted = what == "TIFF" and picture.tag_v2.get(262) == 0  # type: ignore[attr-defined]
                return 65535 - deep if inverted else deep
            clear = "A" in upright.mode or "a" in upright.mode or "transparency" in upright.info
            return np.asarray(upright.convert("RGBA" if clear else "RGB"))
    except _Refused as refused:
        raise ValueError(str(refused)) from None
    except Exception as error:  # Pillow raises whatever broken pixels make it stumble over
        raise ValueError(f"{path}: damaged or cut short, or a {what} of a kind that is not read here ({error}); "
                         "expected a complete picture") from None  # fmt: skip


def _unidentified(data: bytes) -> str:
    """Return what to call a file in which Pillow finds no picture, by its first bytes."""
    if not data:
        return "is empty; expected a picture such as PNG or JPEG"
    for begin, mark, name in _NOT_READ:
        if data[begin : begin + 64].startswith(mark):
            return f"is {name}, which is not read here; expected a picture such as PNG or JPEG"
    return f"begins with {data[:8]!r}, which no picture does; expected a picture such as PNG or JPEG"


def _check_chunks(path: str | os.PathLike[str], data: bytes) -> None:
    """Check that no chunk of a PNG claims more bytes than follow; OpenCV reserves them before it finds out."""
    at = 8  # after the signature: each chunk is length (4 bytes), kind (4), data, checksum (4)
    while at + 12 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if at + 12 + length > len(data):
            raise ValueError(f"{path}: damaged or cut short: chunk {kind!r} claims {length:,} bytes of {len(data):,}")
        at += 12 + length
        if kind == b"IEND":
            return
