"""Read a picture file: RGB, upright, or an error that says what is wrong with it.

Chapter: preprocessing/image.
"""

import os
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from mmlearn.preprocessing.color import bgr_to_rgb, drop_alpha
from mmlearn.preprocessing.frames import full

MAX_PIXELS = 2**28 // 3  # the largest picture that `read_image` opens: a quarter of a gigabyte at 3 bytes a pixel
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

    Args:
        path: PNG, JPEG, WebP, TIFF, BMP, GIF and whatever else both OpenCV and Pillow know.
        alpha: Whether to return (H, W, 4), RGBA.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no picture, is damaged or cut short, holds several pictures, has other than 8 or 16 bits,
            or more than `MAX_PIXELS` pixels.

    Chapter: preprocessing/image.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; expected a picture") from None
    except (OSError, ValueError) as error:  # a folder, no permission, a loop of links, a null byte in the name
        raise ValueError(f"{path}: cannot be read ({getattr(error, 'strerror', error)}); expected a picture") from None
    orientation = _check_header(path, data)
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)  # which ignores the orientation
    except cv2.error as error:
        raise ValueError(f"{path}: OpenCV cannot decode it ({error.err})") from None
    if picture is None:
        raise ValueError(f"{path}: damaged or cut short: OpenCV cannot decode these {len(data)} bytes")
    if picture.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{path}: holds {picture.dtype} pixels; expected 8 or 16 bits a channel")
    colours = picture.reshape(*picture.shape[:2], -1)  # (H, W) → (H, W, 1)
    colours = colours.repeat(3, axis=2) if colours.shape[2] == 1 else bgr_to_rgb(colours)
    if alpha and colours.shape[2] == 3:
        colours = np.dstack([colours, np.full_like(colours[..., :1], full(colours))])
    elif not alpha and colours.shape[2] == 4:
        colours = drop_alpha(colours)
    return np.ascontiguousarray(_UPRIGHT.get(orientation, np.asarray)(colours))


def _check_header(path: str | os.PathLike[str], data: bytes) -> int:
    """Check what a file says of itself, before memory is spent on its pixels; return the orientation that it notes."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(BytesIO(data)) as header:  # it warns of large ones
            (width, height), kind = header.size, header.format
            pictures = 1 if kind == "MPO" else getattr(header, "n_frames", 1)  # a phone's photograph with extras
            orientation = Image.Image.getexif(header).get(274, 1)  # PNG's own method would decode the pixels
    except UnidentifiedImageError:
        begin = "is empty" if not data else f"begins with {data[:8]!r}, which no picture does"
        raise ValueError(f"{path}: {begin}; expected a picture such as PNG or JPEG") from None
    except Image.DecompressionBombError:  # twice Pillow's limit
        raise ValueError(f"{path}: has far more than the {MAX_PIXELS:,} pixels that are allowed") from None
    except Exception as error:  # Pillow raises whatever a broken header makes it stumble over
        raise ValueError(f"{path}: damaged ({error}); expected a complete picture") from None
    if height * width > MAX_PIXELS:
        raise ValueError(f"{path}: {height:,} × {width:,} pixels; at most {MAX_PIXELS:,} are allowed")
    if pictures > 1:
        raise ValueError(f"{path}: holds {pictures} pictures; expected one")
    if kind == "PNG":
        _check_chunks(path, data)
    # A JPEG ends after its last scan; OpenCV 4 would fill up with grey what is missing.
    if kind in ("JPEG", "MPO") and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        raise ValueError(f"{path}: cut short: no end marker after the last scan of {len(data)} bytes")
    return int(orientation)


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
