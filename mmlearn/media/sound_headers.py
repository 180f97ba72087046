"""What a sound file's header gives as its length, and what is there: wav (RIFF, RIFX, RF64, BW64), W64, AIFF, AU, CAF.

A recorder writes its header first and fills the sizes in at the end. If it could not (a pipe, a power cut), they are 0,
all ones, or near 2 GiB: then the samples reach to the end of the file. FFmpeg reads some of these; for the others it
gets a header with the sizes filled in.

Chapter: preprocessing/audio.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Literal

import numpy as np

_SLACK = 8  # bytes that may be missing at the end: a block's padding
_MOST_CHUNKS = 1000
_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")


@dataclass(frozen=True)
class Samples:
    """Where a file's samples are."""

    at: int  # number of the first byte
    declared: int | None  # bytes that the header gives; None if it was never filled in
    present: int  # bytes from there to the end of the file
    patches: tuple[tuple[int, bytes], ...] = ()  # (place, bytes) of the header that FFmpeg needs otherwise
    swap: int = 0  # bytes of a sample whose order FFmpeg takes wrongly

    @property
    def missing(self) -> bool:
        """Whether the file ends before its samples do."""
        size = self.at + self.present  # some writers give the size of the whole file
        return (
            self.declared is not None
            and self.declared > self.present + _SLACK
            and self.declared not in (size, size - 8)
        )


@dataclass(frozen=True)
class _Layout:
    """How a format writes its chunks."""

    first: int  # place of the first chunk
    wanted: bytes  # name of the chunk of samples
    order: Literal["little", "big"] = "little"  # of the bytes of sizes
    name: int = 4  # bytes of a chunk's name
    size: int = 4  # bytes of its size
    whole: bool = False  # whether the size counts name and size, too
    pad: int = 2  # chunks begin at multiples of this
    skip: int = 0  # bytes in the chunk of samples before the first sample


def find_samples(file: BinaryIO) -> Samples | None:
    """Return where the samples of a sound file are; None if it has another format, or none. It must be seekable."""
    end, head = file.seek(0, os.SEEK_END), _read(file, 0, 40)
    if head[:4] == b".snd" and len(head) >= 24:
        at, declared = int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:12], "big")
        found = _judge(at, declared, end, 32)
        return found if declared or not found.present else _patch(found, (8, _bytes(found.present, 4, "big")))
    layout = _layout_of(head)
    chunks = list(_chunks(file, layout.first, end, layout)) if layout else []
    if layout is None or not chunks or chunks[-1][0][: len(layout.wanted)] != layout.wanted:
        return None
    place, begin, declared = chunks[-1][1:]
    at, field = begin + layout.skip, place + layout.name
    declared, bits = declared - layout.skip, 8 * layout.size
    sizes = next((at for name, _, at, length in chunks if name == b"ds64" and length >= 24), None)
    if sizes is not None:  # RF64 and BW64 have the size there, in 64 bits
        declared, bits = int.from_bytes(_read(file, sizes + 8, 8), "little"), 64
    elif declared == 0 and _ends_well(file, at, end, layout):
        return Samples(at, 0, max(0, end - at))
    found = _judge(at, declared, end, bits)
    tag, unfilled = head[:4], found.declared is None
    if tag == b"RIFX":  # FFmpeg reads its header, but takes its samples for little-endian
        return replace(found, swap=_width(file, chunks))
    if tag in (b"RF64", b"BW64"):
        if sizes is None:  # a recorder reserves the room for them and calls it JUNK, until the file is large
            return _patch(found, (0, b"RIFF"))
        return _patch(found, (sizes + 8, _bytes(found.present, 8, "little") + bytes(8))) if unfilled else found
    if tag == b"FORM":
        found = _patch(found, (field, _bytes(found.present + 8, 4, "big"))) if unfilled else found
        return found if any(head[4:8]) else _patch(found, (4, _bytes(end - 8, 4, "big")))
    if tag == b"riff":
        found = _patch(found, (field, _bytes(found.present + 24, 8, "little"))) if unfilled else found
        return found if any(head[16:24]) else _patch(found, (16, _bytes(end, 8, "little")))
    return found  # FFmpeg itself reads to the end


@contextmanager
def repaired(file: str | BinaryIO) -> Iterator[Any]:
    """Give a file as FFmpeg can read it: itself, or one whose header has the sizes that a recorder left out."""
    base = open(file, "rb") if isinstance(file, str) else file  # noqa: SIM115
    try:
        found = find_samples(base)
        base.seek(0)
        yield _Patched(base, found) if found and (found.patches or found.swap) else file
    finally:
        if isinstance(file, str):
            base.close()


class _Patched(io.RawIOBase):
    """A sound file of which some bytes read otherwise."""

    def __init__(self, base: BinaryIO, found: Samples) -> None:
        self.base, self.found, self.name = base, found, str(getattr(base, "name", "<bytes>"))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self.base.seek(offset, whence)

    def tell(self) -> int:
        return self.base.tell()

    def readinto(self, buffer: Any) -> int:
        at = self.base.tell()
        data = bytearray(self._read(at, len(buffer)))
        for place, patch in self.found.patches:
            low, high = max(place, at), min(place + len(patch), at + len(data))
            if low < high:
                data[low - at : high - at] = patch[low - place : high - place]
        buffer[: len(data)] = data
        self.base.seek(at + len(data))
        return len(data)

    def _read(self, at: int, count: int) -> bytes:
        """Read, with the bytes of each sample the other way round where that is needed."""
        swap, first = self.found.swap, self.found.at
        if not swap or at + count <= first:
            return _read(self.base, at, count)
        head = _read(self.base, at, max(0, first - at))
        extra = max(0, at - first) % swap  # begin with a whole sample
        samples = _read(self.base, max(at, first) - extra, -(-(count - len(head) + extra) // swap) * swap)
        whole = len(samples) // swap * swap
        turned = np.frombuffer(samples[:whole], np.uint8).reshape(-1, swap)[:, ::-1].tobytes() + samples[whole:]
        return head + turned[extra : extra + count - len(head)]


def _layout_of(head: bytes) -> _Layout | None:
    tag, form = head[:4], head[8:12]
    if tag in (b"RIFF", b"RIFX", b"RF64", b"BW64") and form == b"WAVE":
        return _Layout(12, b"data", "big" if tag == b"RIFX" else "little")
    if tag == b"FORM" and form in (b"AIFF", b"AIFC"):
        return _Layout(12, b"SSND", "big", skip=8)
    if head[:16] == _W64_RIFF:
        return _Layout(40, b"data", name=16, size=8, whole=True, pad=8)
    return _Layout(8, b"data", "big", size=8, pad=1, skip=4) if tag == b"caff" else None


def _chunks(file: BinaryIO, at: int, end: int, layout: _Layout) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield (name, place, place of the content, bytes of the content) of each chunk, up to that of the samples."""
    length = layout.name + layout.size
    for _ in range(_MOST_CHUNKS):
        head = _read(file, at, length)
        if len(head) < length:
            return
        size = int.from_bytes(head[layout.name :], layout.order, signed=layout.size == 8)
        size -= length if layout.whole else 0
        yield head[: layout.name], at, at + length, size
        if size < 0 or head.startswith(layout.wanted):
            return
        at += -(-(length + size) // layout.pad) * layout.pad


def _ends_well(file: BinaryIO, at: int, end: int, layout: _Layout) -> bool:
    """Whether nothing but whole chunks stands from here to the end of the file, so that a size of 0 means 0."""
    for name, _, begin, size in _chunks(file, at, end, layout):
        if not 0 <= size <= end - begin or not name[:4].isascii() or not name[:4].decode().isprintable():
            return False
        at = begin + size
    return end - at < layout.pad


def _judge(at: int, declared: int, end: int, bits: int) -> Samples:
    """Return what a size means: what it says, or nothing if it was never filled in, or is more than it can count."""
    present = max(0, end - at)
    unfilled = (declared + 4096) % 2**31 <= 8192 if bits == 32 else not 0 < declared < 2**62
    if unfilled and (declared <= 0 or declared > present):
        return Samples(at, None, present)
    wrapped = bits == 32 and present > 2**32 and (present - declared) % 2**32 < 4096
    return Samples(at, None if wrapped else declared, present)


def _width(file: BinaryIO, chunks: list[tuple[bytes, int, int, int]]) -> int:
    """Return the bytes of a sample of a RIFX file if it holds plain numbers of several bytes, else 0."""
    begin = next((begin for name, _, begin, length in chunks if name == b"fmt " and length >= 16), None)
    form = b"" if begin is None else _read(file, begin, 16)
    plain = int.from_bytes(form[:2], "big") in (1, 3, 0xFFFE)  # whole numbers, floats, either with more to follow
    width = int.from_bytes(form[14:16], "big") // 8
    return width if plain and 1 < width <= 8 else 0


def _patch(found: Samples, patch: tuple[int, bytes]) -> Samples:
    return replace(found, patches=(*found.patches, patch))


def _bytes(number: int, count: int, order: Literal["little", "big"]) -> bytes:
    return min(number, 2 ** (8 * count) - 1).to_bytes(count, order)


def _read(file: BinaryIO, at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)
