"""Splices of real files: parts of one put into, or after, parts of another; half of them where their boxes meet."""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from hypothesis import strategies as st

# Where the units of a container begin: boxes of mp4 and chunks of png have their length before the name.
BOXES = rb"ftyp|moov|mvhd|trak|tkhd|edts|mdia|mdhd|minf|stbl|stsd|stts|ctts|stss|stsc|stsz|stco|mdat|udta|free"
BOXES += rb"|IHDR|IDAT|IEND"
UNITS = [
    rb"OggS|fLaC|RIFF|LIST|FORM|COMM|SSND|fmt |data|strh|strf|movi|00dc|01wb|idx1|VP8 |II\*\0",
    rb"\x1aE\xdf\xa3|\x15I\xa9f|\x16T\xaek|\x1fC\xb6u|\x1cS\xbbk|\xa3[\x80-\xff]",  # Matroska
    rb"\0\0\x01[\0\xb3\xb8\xba\xbb\xc0\xe0]|G[\0-\x5f]\0[\x10-\x3f]",  # mpg, ts
    rb"\xff[\xc0-\xdf\xf8-\xfb]|!\xf9\x04|,\0\0\0\0",  # jpg, mp3, flac; gif
]
MARK = re.compile(rb"(?=....(?:" + BOXES + rb"))|" + rb"|".join(UNITS), re.DOTALL)
WAYS = ("tail of the other", "other between", "taken out", "doubled", "swapped", "one after the other")


@lru_cache(maxsize=64)
def boundaries(data: bytes) -> list[int]:
    """Return where units of a file begin, and its end."""
    return sorted({0, len(data), *(found.start() for found in MARK.finditer(data))})


def splice(data: bytes, other: bytes, way: str, places: Sequence[tuple[bool, float]]) -> bytes:
    """Return a splice; a place is (at a boundary?, where, in parts of the file)."""

    def at(which: bytes, place: tuple[bool, float]) -> int:
        return boundaries(which)[int(place[1] * len(boundaries(which)))] if place[0] else int(place[1] * len(which))

    a, b, c = sorted(at(data, place) for place in places)
    p, q = sorted(at(other, place) for place in places[:2])
    if way == "tail of the other":
        return data[:a] + other[p:]
    if way == "other between":
        return data[:a] + other[p:q] + data[a:]
    if way == "taken out":
        return data[:a] + data[b:]
    if way == "doubled":
        return data[:b] + data[a:b] + data[b:]
    if way == "swapped":
        return data[:a] + data[b:c] + data[a:b] + data[c:]
    return data + other


@st.composite
def splices(draw: st.DrawFn, others: Callable[[str], bytes], names: Sequence[str]) -> Callable[[bytes], bytes]:
    """Draw a splice of a file with one of these others."""
    place = st.tuples(st.booleans(), st.floats(0, 1, exclude_max=True))
    way, name, places = draw(st.sampled_from(WAYS)), draw(st.sampled_from(names)), draw(st.tuples(place, place, place))
    return lambda data: splice(data, others(name), way, places)
