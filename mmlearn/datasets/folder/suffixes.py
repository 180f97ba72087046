"""Which files are looked at: by their suffix and, where a suffix has two meanings, by their first bytes.

Chapter: preprocessing/batching.
"""

from collections.abc import Iterable
from pathlib import Path

VIDEO = """.mp4 .m4v .f4v .mov .qt .mkv .mk3d .avi .divx .webm .mpg .mpeg .m1v .m2v .vob .wmv .asf .flv .ts .mts .m2ts
    .m2t .3gp .3g2 .ogv .ogm .rm .rmvb .gif .mxf .dv .nut .y4m .ivf .h264 .264 .hevc .265 .mjpeg .wtv"""
AUDIO = """.wav .mp3 .mp2 .mpa .flac .ogg .oga .opus .spx .m4a .m4b .m4r .aac .wma .aiff .aif .aifc .amr .awb .mka .weba
    .caf .ac3 .eac3 .dts .wv .tta .ape .mpc .au .snd .w64 .rf64 .ra .voc"""
SUFFIXES = {*VIDEO.split(), *AUDIO.split()}
TYPESCRIPT = {".ts", ".mts"}  # also films: MPEG transport streams
_HEAD = 4096  # bytes


def suffixes_of(more: Iterable[str]) -> set[str]:
    """Return the suffixes to look at: those of `SUFFIXES` and more.

    Raises:
        ValueError: If one does not begin with a dot.
    """
    more = [more] if isinstance(more, str) else list(more)
    for suffix in more:
        if not suffix.startswith(".") or len(suffix) < 2 or "/" in suffix:
            raise ValueError(f'suffixes holds {suffix!r}; expected such as ".mod": a dot, then what names end with')
    return SUFFIXES | {suffix.lower() for suffix in more}


def is_text(path: Path) -> bool:
    """Whether a file is text: TypeScript, and no transport stream, in which 0x47 begins every packet.

    Packets have 188 bytes, in cameras 192, on the air 204; there are zeros in the first ones.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
    except (OSError, ValueError):
        return False  # reading it will raise the reason
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return True  # UTF-16
    try:
        head[:-4].decode() if len(head) == _HEAD else head.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data" and b"\0" not in head
    return bool(head) and b"\0" not in head
