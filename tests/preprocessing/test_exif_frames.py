"""Films whose frames carry EXIF, of which PyAV has no name: found by splices (`test_fuzz.py`)."""

from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageOps

from mmlearn.media import read_mp4
from mmlearn.preprocessing.video.sampling import frame_times, probe, read_video


def motion_jpeg(path: Path, orientation: int) -> np.ndarray:
    """Write two JPEG pictures with an EXIF tag as a film; return the first as Pillow shows it."""
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:16, :24] = 255, 60, 0
    pixels[16:, :24] = 0, 200, 90
    exif = Image.Exif()
    exif[274] = orientation
    data = BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=95, subsampling=0, exif=exif)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuvj444p"
        for number in range(2):
            packet = av.Packet(data.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 25)
            packet.is_keyframe = True
            out.mux(packet)
    return np.asarray(ImageOps.exif_transpose(Image.open(data)))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".mov"])
def test_film_with_exif_is_read(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"film{suffix}"
    expected = motion_jpeg(path, orientation)
    frames, _ = read_video(path, num_frames=2)
    film = read_mp4(path).video
    assert film is not None and len(frame_times(path)) == 2
    for found in (frames[0], film[0]):
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected.astype(int)).mean() < 6
    assert (probe(path).video[0].height, probe(path).video[0].width) == expected.shape[:2]
