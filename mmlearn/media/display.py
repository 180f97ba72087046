"""Decoded frames as a player shows them: one way for all that read pictures.

In this order: the matrix and range of the colours, the two halves of an interlaced frame, what is transparent, the
padding of odd sizes, one exact conversion to RGB at the size wanted, HDR, turning and mirroring.

Chapter: preprocessing/video.
"""

import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from mmlearn.media import hdr
from mmlearn.memory import Budget

SIZE_KEY = "mmlearn_size"  # metadata entry with the true "HEIGHTxWIDTH" of a picture that was padded to an even size
# swscale's flags, by number because PyAV 17 does not name them. Bilinear averages when it shrinks. Exact rounding and
# full chroma: without both, white of 255 comes out as 253. The same bits on every machine.
EXACT = 0x2 | 0x40000 | 0x2000 | 0x4000 | 0x80000  # BILINEAR, ACCURATE_RND, FULL_CHR_H_INT, FULL_CHR_H_INP, BITEXACT
HD = 720  # lines from which players take unlabelled colours for BT.709 and not BT.601
_IN_DECODER = 8  # bytes a pixel that a decoder takes: about five frames of 4:2:0
_MOST_RATIO = 16  # a pixel that is wider or higher than this is a damaged number
# ISO/IEC 23091-2: matrices that swscale knows; and which matrix goes with primaries and transfer, where it is unknown.
BT709, _UNKNOWN, BT601, _BT2020 = 1, 2, 6, 9
_MATRICES = {0, BT709, 4, 5, BT601, 7, _BT2020}
_OF_PRIMARIES = {1: BT709, 5: 5, 6: BT601, 7: 7, 9: _BT2020}
_CANNOT_SHOW = {8: "YCgCo", 11: "YDzDx", 14: "ICtCp", 15: "IPT-C2", 16: "YCgCo-Re", 17: "YCgCo-Ro"}
_BOTTOM_FIRST = (3, 4)  # FFmpeg's AVFieldOrder: the lower line is shown first

# Degrees counterclockwise -> as `turns_of` returns it.
_TURNS = {-90: (True, True, False), 90: (True, False, True), 180: (False, True, True), -180: (False, True, True)}


class Display:
    """Shows the frames of one video stream.

    Pixels that are not square are made so, as players do it, by enlarging the width or the height. Of an interlaced
    frame, whose odd and even lines were filmed at two moments, the lines of the first one are shown, with the mean of
    its neighbours in between. What is transparent lies on black. Colours without a label are BT.709 from 720
    lines on, else BT.601. HDR (PQ and HLG) becomes SDR: see `mmlearn.media.hdr`. Primaries other than BT.709's are not
    converted in SDR films.

    Args:
        container: The open file; it knows the true size of what `write_mp4` had to pad.
        stream: The video stream.
        name: The file, for error messages.

    Chapter: preprocessing/video.
    """

    def __init__(self, container: Any, stream: Any, name: str) -> None:
        self.stream, self.name = stream, name
        self.pixel_ratio = _pixel_ratio(stream)  # a pixel's width / height
        told = re.fullmatch(r"(\d{1,6})x(\d{1,6})", container.metadata.get(SIZE_KEY, ""))
        self._told = (int(told[1]), int(told[2])) if told else (0, 0)
        self._reformatter = VideoReformatter()  # kept, because it remembers its tables

    def size(self, frame: Any = None) -> tuple[int, int]:
        """Return (H, W) at which a frame is shown; without one, as the stream's header says."""
        height, width = self._square(frame or self.stream)
        return (width, height) if frame is not None and turns_of(frame)[0] else (height, width)

    def picture(self, frame: Any, size: tuple[int, int] | None = None) -> np.ndarray:
        """Return a decoded frame as it is shown.

        Args:
            frame: PyAV's frame.
            size: (H, W) to resize to, by swscale's bilinear filter (which averages when it shrinks); None: its own.

        Returns:
            uint8 (H, W, 3), RGB.

        Raises:
            ValueError: If its colours are stored in a way that cannot be shown.
        """
        swap, flip_x, flip_y = turns_of(frame)
        height, width = _true_size(frame, self._told)
        shown = self._square(frame) if size is None else size[::-1] if swap else size
        _label(frame, self._square(frame)[0], self.name)
        if frame.interlaced_frame:
            frame = _first_field(frame, getattr(self.stream.codec_context, "field_order", 0) in _BOTTOM_FIRST)
        if _is_hdr(frame):
            rows, columns = (frame.height, frame.width) if shown == (height, width) else shown
            picture = hdr.to_sdr(self._rgb(frame, rows, columns, "gbrp16le"), frame.color_trc)
        else:
            picture = self._sdr(frame, (height, width), shown)
        picture = picture[: shown[0], : shown[1]]
        picture = picture.transpose(1, 0, 2) if swap else picture
        return picture[:: -1 if flip_y else 1, :: -1 if flip_x else 1]

    def _sdr(self, frame: Any, true: tuple[int, int], shown: tuple[int, int]) -> np.ndarray:
        """Return a frame as RGB of the shown size, or with its padding where that is its true size."""
        picture = None
        if frame.format.has_palette or any(component.is_alpha for component in frame.format.components):
            picture = self._over_black(frame)
        padded = true != (frame.height, frame.width)
        if shown == true or padded:
            picture = self._rgb(frame, frame.height, frame.width) if picture is None else picture
        if shown == true:
            assert picture is not None
            return picture
        if picture is not None:  # cut the padding off before resizing
            cut = np.ascontiguousarray(picture[: true[0], : true[1]])
            frame = av.VideoFrame.from_ndarray(cut, format="rgb24")
        return self._rgb(frame, *shown)

    def _rgb(self, frame: Any, height: int, width: int, form: str = "gbrp") -> np.ndarray:
        """Convert and resize exactly. (To planes: swscale is three times as quick with them as with rgb24.)"""
        bits = max(component.bits for component in frame.format.components)
        whole = frame.format.is_rgb or frame.color_range == 2 or len(frame.format.components) < 3
        if form == "gbrp" and bits > 8 and whole:  # swscale shifts bits here, which makes 128 of 10 bits 129
            return _bytes_of(bits)[self._rgb(frame, height, width, "gbrp16le")]
        planes = self._reformatter.reformat(frame, width, height, form, interpolation=EXACT, threads=1).planes
        green, blue, red = (_lines(plane, 2 if form.endswith("16le") else 1)[:, :width] for plane in planes)
        return cv2.merge([red, green, blue])  # threads would take longer to start than a frame takes

    def _over_black(self, frame: Any) -> np.ndarray | None:
        """Return a frame with its transparent parts laid on black, uint8 (H, W, 3); None where nothing is so."""
        form = self._reformatter.reformat(frame, format="rgba", interpolation=EXACT, threads=1).to_ndarray()
        alpha = form[..., 3:]
        if alpha.min() == 255:
            return None
        return ((form[..., :3].astype(np.uint16) * alpha + 127) // 255).astype(np.uint8)

    def _square(self, picture: Any) -> tuple[int, int]:
        """Return (height, width) of a frame or stream in square pixels, before it is turned."""
        height, width = _true_size(picture, self._told)
        ratio = self.pixel_ratio
        return (height, int(width * ratio + Fraction(1, 2))) if ratio >= 1 else (int(height / ratio + 0.5), width)


@lru_cache
def _bytes_of(bits: int) -> np.ndarray:
    """The nearest byte of each number of so many bits that was shifted to 16: uint8 (65536,)."""
    top = (1 << 16) - (1 << max(16 - bits, 0))
    return np.rint(np.minimum(np.arange(65536) / top, 1) * 255).astype(np.uint8)


def limit_decoder(stream: Any, budget: Budget) -> None:
    """Keep a stream's decoder, which holds several frames at a time, within the budget.

    Raises:
        ValueError: If its frames are too large.
    """
    remedy = "convert the film to a smaller size first"
    budget.check(_IN_DECODER * stream.width * stream.height, f"frames of {stream.height} × {stream.width}", remedy)
    options = {"max_pixels": str(min(budget.limit // _IN_DECODER, 2**31 - 1))}  # where the size changes on the way
    stream.codec_context.options = dict(stream.codec_context.options) | options


def turns_of(frame: Any) -> tuple[bool, bool, bool]:
    """Return how a player turns a frame: swap x and y, then mirror x, then mirror y (ISO/IEC 14496-12, 8.3.2.3)."""
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV stops at a kind that it has no name for, such as EXIF; the angle it tells without them
        return _TURNS.get(round(frame.rotation), (False, False, False))
    if data is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].astype(int)  # x' = ax + cy, y' = bx + dy
    swap = bool(abs(b) > abs(a))
    return swap, bool((c if swap else a) < 0), bool((b if swap else d) < 0)


def _true_size(picture: Any, told: tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) of a frame or stream as stored, without the padding that `write_mp4` adds."""
    padded = (told[0] + told[0] % 2, told[1] + told[1] % 2) == (picture.height, picture.width)
    return told if padded else (picture.height, picture.width)


def _pixel_ratio(stream: Any) -> Fraction:
    """Return the width of a stream's pixels divided by their height; 1 where it says nothing, or nonsense."""
    ratio = Fraction(stream.sample_aspect_ratio or 1)
    return ratio if Fraction(1, _MOST_RATIO) <= ratio <= _MOST_RATIO else Fraction(1)


def _is_hdr(frame: Any) -> bool:
    return frame.color_trc in (hdr.PQ, hdr.HLG) and not frame.format.is_rgb


def _label(frame: Any, lines: int, name: str) -> None:
    """Write into a frame which matrix and range its colours have, where it does not say what swscale understands."""
    matrix = frame.colorspace
    if matrix in _CANNOT_SHOW:
        raise ValueError(f"{name}: colors are stored as {_CANNOT_SHOW[matrix]}; expected RGB or the YCbCr of BT.601, "
                         "BT.709 or BT.2020; convert the film first")  # fmt: skip
    if matrix == 10:  # BT.2020 with constant luminance: nearly the same, and next to no film has it
        frame.colorspace = _BT2020
    elif matrix == _UNKNOWN or matrix not in _MATRICES:
        guess = _BT2020 if _is_hdr(frame) else _OF_PRIMARIES.get(frame.color_primaries)
        frame.colorspace = guess or (BT709 if lines >= HD else BT601)
    if frame.color_range not in (0, 1, 2):
        frame.color_range = 0


def _first_field(frame: Any, bottom_first: bool) -> Any:
    """Return a frame whose lines of the second field are the means of their neighbours, plane by plane."""
    if frame.format.has_palette:
        return frame
    out = av.VideoFrame(frame.width, frame.height, frame.format.name)
    out.colorspace, out.color_range, out.color_trc = frame.colorspace, frame.color_range, frame.color_trc
    deep = frame.format.components[0].bits > 8
    for source, target in zip(frame.planes, out.planes, strict=True):
        lines = _lines(source, 2 if deep else 1).copy()
        first, second = (1, 0) if bottom_first else (0, 1)
        kept = lines[first::2]
        if len(kept):
            above = np.concatenate([kept[:1], kept]) if bottom_first else kept
            below = np.concatenate([kept if bottom_first else kept[1:], kept[-1:]])
            count = len(lines[second::2])
            lines[second::2] = (above[:count].astype(np.uint32) + below[:count] + 1) // 2
        room = np.zeros((target.height, target.line_size // lines.itemsize), lines.dtype)
        width = min(room.shape[1], lines.shape[1])
        room[: len(lines), :width] = lines[: len(room), :width]
        target.update(room.tobytes())
    return out


def _lines(plane: Any, size: int) -> np.ndarray:
    """Return a plane's memory as lines (H, W or more), of one or two bytes an entry."""
    kind = np.uint16 if size == 2 else np.uint8
    return np.frombuffer(plane, kind).reshape(-1, plane.line_size // size)[: plane.height]
