"""Every suffix that FFmpeg can write here is read; TypeScript is distinguished from transport streams."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mmlearn.datasets import VideoFolder, read_clip
from mmlearn.datasets.folder.listing import list_clips
from mmlearn.datasets.folder.suffixes import SUFFIXES, is_text, suffixes_of

# suffixes: FFmpeg's format, codec of pictures, codec of sound
WRITTEN = {
    ".mp4 .m4v": ("mp4", "mpeg4", "aac"), ".f4v": ("f4v", "libx264", "aac"), ".mov .qt": ("mov", "mpeg4", "aac"),
    ".mkv .mk3d": ("matroska", "mpeg4", "aac"), ".avi .divx": ("avi", "mpeg4", "mp2"),
    ".webm": ("webm", "libvpx", "libopus"), ".mpg": ("mpeg", "mpeg1video", "mp2"),
    ".mpeg": ("mpeg", "mpeg2video", "mp2"),
    ".m1v": ("mpeg1video", "mpeg1video", None), ".m2v": ("mpeg2video", "mpeg2video", None),
    ".vob": ("vob", "mpeg2video", "ac3"), ".wmv .asf": ("asf", "wmv2", "mp2"), ".flv": ("flv", "flv1", None),
    ".ts .mts .m2t .m2ts": ("mpegts", "mpeg2video", "mp2"), ".3gp": ("3gp", "mpeg4", "aac"),
    ".3g2": ("3g2", "mpeg4", "aac"), ".rm .rmvb": ("rm", "rv10", "ac3"), ".gif": ("gif", "gif", None),
    ".mxf": ("mxf", "mpeg2video", "pcm_s16le"), ".dv": ("dv", "dvvideo", None), ".nut": ("nut", "mpeg4", "mp2"),
    ".y4m": ("yuv4mpegpipe", "rawvideo", None), ".ivf": ("ivf", "libvpx", None),
    ".h264 .264": ("h264", "libx264", None), ".mjpeg": ("mjpeg", "mjpeg", None), ".wtv": ("wtv", "mpeg2video", "mp2"),
    ".wav .rf64": ("wav", None, "pcm_s16le"), ".mp3": ("mp3", None, "mp3"), ".mp2 .mpa": ("mp2", None, "mp2"),
    ".flac": ("flac", None, "flac"), ".ogg .oga": ("oga", None, "flac"), ".opus": ("opus", None, "libopus"),
    ".m4a .m4b .m4r": ("ipod", None, "aac"), ".aac": ("adts", None, "aac"),
    ".aiff .aif": ("aiff", None, "pcm_s16be"), ".aifc": ("aiff", None, "pcm_s16le"),
    ".mka": ("matroska", None, "flac"), ".weba": ("webm", None, "libopus"), ".caf": ("caf", None, "pcm_s16le"),
    ".wma": ("asf", None, "mp2"), ".ac3": ("ac3", None, "ac3"), ".eac3": ("eac3", None, "eac3"),
    ".wv": ("wv", None, "wavpack"), ".tta": ("tta", None, "tta"), ".au .snd": ("au", None, "pcm_s16be"),
    ".w64": ("w64", None, "pcm_s16le"), ".ra": ("rm", None, "ac3"), ".voc": ("voc", None, "pcm_s16le"),
    ".amr": ("amr", None, "libopencore_amrnb"),
}  # fmt: skip
# No encoder in PyAV's wheels, or too slow a one for a test; FFmpeg has decoders.
ONLY_READ = {".ogv", ".ogm", ".spx", ".awb", ".dts", ".ape", ".mpc", ".hevc", ".265"}


def make(path: Path, form: str, pictures: str | None, sound: str | None) -> None:
    with av.open(str(path), "w", format=form) as out:
        if pictures:
            video = out.add_stream(pictures, rate=25)
            video.width, video.height = (720, 576) if pictures == "dvvideo" else (64, 48)
            video.pix_fmt = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(pictures, "yuv420p")
        if sound:
            rate = 8000 if "amr" in sound else 48_000
            audio = out.add_stream(sound, rate=rate, layout="mono")
        out.start_encoding()
        packets = []
        if pictures:
            for k in range(6):
                grey = np.full((video.height, video.width, 3), 40 * k, np.uint8)
                packets += video.encode(av.VideoFrame.from_ndarray(grey, format="rgb24"))
            packets += video.encode(None)
        if sound:
            tone = (8000 * np.sin(np.arange(rate // 4) / 7)).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            packets += [*audio.encode(frame), *audio.encode(None)]
        for packet in packets:
            out.mux(packet)


def test_every_suffix_is_made_here_or_named_as_only_read() -> None:
    assert {suffix for several in WRITTEN for suffix in several.split()} | ONLY_READ == SUFFIXES


def test_one_file_of_each_suffix_is_a_clip(tmp_path: Path) -> None:
    root = tmp_path / "films"
    root.mkdir()
    expected = {}
    for several, (form, pictures, sound) in WRITTEN.items():
        for suffix in several.split():
            try:
                make(root / f"x{suffix.upper()}", form, pictures, sound)
            except (av.codec.codec.UnknownCodecError, ValueError):  # this wheel has no such encoder
                (root / f"x{suffix.upper()}").unlink(missing_ok=True)
                continue
            kinds = {"video": pictures, "audio": sound}
            expected[f"x{suffix.upper()}"] = {kind for kind, codec in kinds.items() if codec}
    assert len(expected) > 50
    films = VideoFolder(root, cache=False, workers=1, num_frames=2, size=(8, 8))
    assert not films.skipped
    assert {clip.name: set(clip.streams) for clip in films} == expected


def test_typescript_is_no_film(tmp_path: Path) -> None:
    make(tmp_path / "film.ts", "mpegts", "mpeg2video", "mp2")
    data = (tmp_path / "film.ts").read_bytes()
    (tmp_path / "camera.mts").write_bytes(b"".join(b"\0\0\0\1" + data[k : k + 188] for k in range(0, len(data), 188)))
    (tmp_path / "late.ts").write_bytes(b"\0" * 40 + data)  # begins amid a packet
    texts = {"a.ts": b"export const G = 1\n", "G.mts": b"G" * 188 + b"G" * 188, "han.ts": "// 汉字".encode() * 2000,
             "bom.ts": "export {}".encode("utf-16"), "one.ts": b"\n"}  # fmt: skip
    for name, content in texts.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "empty.ts").touch()
    (tmp_path / "broken.ts").write_bytes(bytes(range(256)) * 20)
    listing = list_clips(tmp_path)
    assert [e.name for e in listing.entries] == ["broken.ts", "camera.mts", "empty.ts", "film.ts", "late.ts"]
    assert listing.ignored == {".ts (text)": 4, ".mts (text)": 1}
    for name in ("film.ts", "camera.mts"):
        assert read_clip(tmp_path / name, num_frames=2).video is not None
    assert not is_text(tmp_path / "nowhere.ts")


def test_an_argument_adds_suffixes(tmp_path: Path) -> None:
    make(tmp_path / "x.MOD", "mpeg", "mpeg2video", "mp2")
    make(tmp_path / "y.mp4", "mp4", "mpeg4", None)
    assert VideoFolder(tmp_path, cache=False, workers=1).names == ["y.mp4"]
    for suffixes in ([".mod"], ".MOD"):
        assert VideoFolder(tmp_path, cache=False, workers=1, suffixes=suffixes).names == ["x.MOD", "y.mp4"]
    for bad in ("mod", ".", "", "a/.b"):
        with pytest.raises(ValueError, match=r'expected such as "\.mod"'):
            suffixes_of([bad])
