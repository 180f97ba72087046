"""Headers of sound files: lengths that are too large, that were never filled in, and files that are cut.

Files are soundfile's, and by hand; what comes out is compared with the samples that went in.
"""

import io
import struct
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io.wavfile
import soundfile

from mmlearn.datasets import VideoFolder, read_clip
from mmlearn.media import read_mp4
from mmlearn.media.sound_headers import find_samples
from mmlearn.preprocessing.audio import read_audio
from mmlearn.preprocessing.video.sampling import probe

RATE = 16_000
SOUND = np.round(9000 * np.sin(np.arange(RATE) / 7)).astype(np.int16)
EXPECTED = SOUND / np.float32(32768)
ALL = 2**32 - 1


def wav(
    magic: bytes = b"RIFF", riff: int | None = None, data: int | None = None, before: bytes = b"", after: bytes = b""
) -> bytes:
    """A wav file by hand, with the sizes given; by default the true ones."""
    order = ">" if magic == b"RIFX" else "<"
    samples = SOUND.astype(order + "i2").tobytes()
    fmt = struct.pack(order + "4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    head = struct.pack(order + "4sI", b"data", len(samples) if data is None else data)
    body = b"WAVE" + before + fmt + head + samples + after
    return struct.pack(order + "4sI", magic, len(body) if riff is None else riff) + body


def ds64(riff: int = 0, data: int = 0, count: int = 0) -> bytes:
    return struct.pack("<4sIQQQI", b"ds64", 28, riff, data, count, 0)


def written(form: str, *changes: tuple[bytes, int, str, int]) -> bytes:
    """A file of soundfile's, with numbers put at places counted from the first occurrence of a mark."""
    file = io.BytesIO()
    soundfile.write(file, SOUND, RATE, "PCM_16", format=form)
    content = bytearray(file.getvalue())
    for mark, offset, kind, value in changes:
        struct.pack_into(kind, content, content.rindex(mark, 0, 5000) + offset, value)
    return bytes(content)


LIST = struct.pack("<4sI4s", b"LIST", 4, b"INFO")
WHOLE = {
    "as it should be": wav(),
    "a RIFF length too large by 100": wav(riff=32_036 + 100),
    "a RIFF length of 0": wav(riff=0),
    "a RIFF length too small": wav(riff=36),
    "the file's size as RIFF length": wav(riff=32_044),
    "sizes 0, as GStreamer writes into a pipe": wav(riff=0, data=0),
    "sizes of an empty file that were never patched": wav(riff=36, data=0),
    "all ones, as FFmpeg writes into a pipe": wav(riff=ALL, data=ALL),
    "all ones less the header": wav(riff=ALL, data=ALL - 36),
    "near 2 GiB, as SoX and eSpeak write into a pipe": wav(riff=0x7FFFF024, data=0x7FFFF000),
    "2 GiB, as arecord writes into a pipe": wav(riff=0x80000024, data=0x80000000),
    "2 GiB - 1": wav(riff=0x7FFFFFFF, data=0x7FFFFFFF),
    "only the data's size is missing": wav(data=0),
    "only the data's size is all ones": wav(data=ALL),
    "the file's size as the data's": wav(data=32_044),
    "the RIFF length as the data's": wav(data=32_036),
    "a chunk before": wav(before=LIST),
    "a chunk after": wav(after=LIST),
    "a chunk after that is cut": wav(after=LIST[:10], riff=32_048),
    "RIFX": wav(b"RIFX"),
    "RIFX, never patched": wav(b"RIFX", riff=0, data=0),
    "RIFX, all ones": wav(b"RIFX", riff=ALL, data=ALL),
    "RIFX, 100 too large": wav(b"RIFX", riff=32_136),
    "RF64": wav(b"RF64", ALL, ALL, before=ds64(32_072, 32_000, RATE)),
    "RF64 with the data's size twice": wav(b"RF64", ALL, 32_000, before=ds64(32_072, 32_000, RATE)),
    "RF64, never patched": wav(b"RF64", ALL, ALL, before=ds64()),
    "RF64, all ones": wav(b"RF64", ALL, ALL, before=ds64(2**64 - 1, 2**64 - 1, 2**64 - 1)),
    "RF64 without its sizes": wav(b"RF64", ALL, ALL),
    "RF64 with JUNK for its sizes": wav(b"RF64", ALL, ALL, before=b"JUNK" + ds64()[4:]),
    "RF64 with a RIFF length too large": wav(b"RF64", ALL, ALL, before=ds64(32_172, 32_000, RATE)),
    "BW64": wav(b"BW64", ALL, ALL, before=ds64(32_072, 32_000, RATE)),
    "BW64, never patched": wav(b"BW64", ALL, ALL, before=ds64()),
    "soundfile's RF64": written("RF64"),
    "W64": written("W64"),
    "W64, 0": written("W64", (b"data", 16, "<q", 0)),
    "W64, the size of nothing": written("W64", (b"data", 16, "<q", 24)),
    "W64, all ones": written("W64", (b"data", 16, "<q", -1)),
    "W64, no size at all": written("W64", (b"data", 16, "<q", 0), (b"riff", 16, "<q", 0)),
    "W64, a whole that is 100 too large": written("W64", (b"riff", 16, "<q", 32_104 + 100)),
    "AIFF": written("AIFF"),
    "AIFF, 0": written("AIFF", (b"SSND", 4, ">I", 0)),
    "AIFF, the size of nothing": written("AIFF", (b"SSND", 4, ">I", 8)),
    "AIFF, all ones": written("AIFF", (b"SSND", 4, ">I", ALL), (b"FORM", 4, ">I", ALL)),
    "AIFF, no size at all": written("AIFF", (b"SSND", 4, ">I", 0), (b"FORM", 4, ">I", 0), (b"COMM", 10, ">I", 0)),
    "AIFF, a whole of 0": written("AIFF", (b"FORM", 4, ">I", 0)),
    "AIFF, a whole that is 100 too large": written("AIFF", (b"FORM", 4, ">I", 32_146)),
    "AU": written("AU"),
    "AU, all ones": written("AU", (b".snd", 8, ">I", ALL)),
    "AU, 0": written("AU", (b".snd", 8, ">I", 0)),
    "CAF": written("CAF"),
    "CAF, -1": written("CAF", (b"data", 4, ">q", -1)),
    "CAF, 0": written("CAF", (b"data", 4, ">q", 0)),
}


@pytest.mark.parametrize("name", WHOLE)
def test_all_samples_are_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(WHOLE[name])
    np.testing.assert_array_equal(read_audio(path), EXPECTED)
    file = io.BytesIO(WHOLE[name])
    np.testing.assert_array_equal(read_audio(file), EXPECTED)
    np.testing.assert_array_equal(read_audio(file, start=0.9, end=0.95), EXPECTED[14_400:15_200])
    assert not file.closed


@pytest.mark.parametrize("name", ["RF64, never patched", "W64, 0", "AIFF, 0", "AU, 0", "RIFX, never patched"])
def test_every_reader_takes_them(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / f"x.{name[:3].lower().replace('rf6', 'wav').replace('rif', 'wav').rstrip(',')}"
    path.write_bytes(WHOLE[name])
    assert probe(path).audio[0].sample_rate == RATE
    for found in (read_clip(path).audio, read_mp4(path).audio):
        np.testing.assert_array_equal(found, EXPECTED)
    if path.suffix == ".wav":
        assert len(VideoFolder(tmp_path, cache=False)[0].audio) == RATE


NOT_SAID = ("never", "ones", "pipe", "2 GiB", "nothing", ", 0", "no size", "-1", "without", "JUNK", "missing")


@pytest.mark.parametrize("name", [name for name in WHOLE if not any(mark in name for mark in NOT_SAID)])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.99])
def test_a_file_that_is_cut_is_refused(name: str, part: float) -> None:
    content = WHOLE[name]
    with pytest.raises(ValueError, match=r"<bytes>: (found \d+ of \d+ bytes; the file ends too early|cannot decode)"):
        read_audio(io.BytesIO(content[: int(len(content) * part)]))


@pytest.mark.parametrize("form", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF"])
@pytest.mark.parametrize(("subtype", "channels"), [("PCM_24", 2), ("FLOAT", 1), ("ULAW", 3)])
def test_where_the_samples_are(form: str, subtype: str, channels: int) -> None:
    """soundfile wrote them; so a whole file has as many bytes as its header gives, and one byte less has not."""
    file = io.BytesIO()
    soundfile.write(file, np.tile(SOUND[:99, None], channels), RATE, subtype, format=form)
    found = find_samples(file)
    size = 99 * channels * {"PCM_24": 3, "FLOAT": 4, "ULAW": 1}[subtype]
    assert found is not None and found.declared in (size, size + size % 2) and not found.missing and not found.patches
    assert found.at + size <= len(file.getvalue()) and found.present >= size


def test_an_empty_file_is_empty() -> None:
    chunk = struct.pack("<4sI", b"data", 0)
    head = wav()[12:36]
    for after in (b"", LIST):
        body = b"WAVE" + head + chunk + after
        with pytest.raises(ValueError, match="no sound; expected at least one sample"):
            read_audio(io.BytesIO(struct.pack("<4sI", b"RIFF", len(body)) + body))


def test_independent_writers(tmp_path: Path) -> None:
    scipy.io.wavfile.write(tmp_path / "numbers.wav", RATE, SOUND)
    scipy.io.wavfile.write(tmp_path / "bytes.wav", RATE, (SOUND // 256 + 128).astype(np.uint8))
    scipy.io.wavfile.write(tmp_path / "floats.wav", RATE, EXPECTED)
    scipy.io.wavfile.write(tmp_path / "big.wav", RATE, SOUND.astype(">i2"))
    with wave.open(str(tmp_path / "wave.wav"), "wb") as out:
        out.setparams((1, 2, RATE, 0, "NONE", ""))
        out.writeframes(SOUND.tobytes())
    for path in tmp_path.iterdir():
        np.testing.assert_allclose(read_audio(path), soundfile.read(path, dtype="float32")[0])


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "PCM_U8"])
@pytest.mark.parametrize("channels", [1, 3])
def test_rifx(subtype: str, channels: int) -> None:
    file = io.BytesIO()
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (RATE, channels))
    soundfile.write(file, sound, RATE, subtype, endian="BIG", format="WAV")
    assert file.getvalue()[:4] == b"RIFX"
    expected = soundfile.read(io.BytesIO(file.getvalue()), dtype="float32", always_2d=True)[0].mean(axis=1)
    np.testing.assert_allclose(read_audio(file), expected, atol=1e-6)
    np.testing.assert_allclose(read_audio(file, start=0.8, end=0.9), expected[12_800:14_400], atol=1e-6)


def test_more_than_a_size_can_count(tmp_path: Path) -> None:
    """A wav of more than 4 GiB whose size has wrapped around; the file is sparse."""
    path = tmp_path / "long.wav"
    with open(path, "wb") as out:
        out.write(wav(riff=32_036, data=32_000))
        out.truncate(2**32 + 32_044)
    with open(path, "rb") as file:
        found = find_samples(file)
    assert found is not None and found.declared is None and found.present == 2**32 + 32_000


@pytest.mark.parametrize(
    "damage", [lambda b: b[:12], lambda b: b[:40], lambda b: b[:12] + b"\xff" * 400, lambda b: b[:4] * 99]
)
@pytest.mark.parametrize("form", ["WAV", "RF64", "W64", "AIFF", "AU", "CAF"])
def test_broken_headers(form: str, damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ValueError, match="<bytes>: "):
        read_audio(io.BytesIO(damage(written(form))))
