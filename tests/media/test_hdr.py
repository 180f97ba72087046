"""mmlearn.media.hdr: the curves of BT.2100 and BT.2390, patches of known luminance, a film."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmlearn.media import hdr
from mmlearn.preprocessing.video.sampling import probe, read_video
from tests.media.test_display import filled, shown, write


@pytest.mark.parametrize(("nits", "code"), [(0, 0), (100, 0.508), (203, 0.581), (1000, 0.752), (10_000, 1)])
def test_pq_is_the_curve_of_bt_2100(nits: float, code: float) -> None:
    """Codes of BT.2408-7, table 1 and of SMPTE ST 2084."""
    assert float(hdr.nits_to_pq(np.array(nits))) == pytest.approx(code, abs=5e-4)
    assert float(hdr.pq_to_nits(hdr.nits_to_pq(np.array(nits)))) == pytest.approx(nits, abs=1e-6)


def test_hlg_is_the_curve_of_bt_2100() -> None:
    assert float(hdr.hlg_to_scene(np.array(0.5))) == pytest.approx(1 / 12)
    assert float(hdr.hlg_to_scene(np.array(1.0))) == pytest.approx(1, abs=1e-6)
    assert 1000 * float(hdr.hlg_to_scene(np.array(0.75))) ** 1.2 == pytest.approx(203, abs=0.5)  # reference white


def test_compression_is_bt_2390s() -> None:
    nits = np.linspace(0, 1000, 2001)
    shown = hdr.compress(nits)
    assert np.allclose(shown[nits <= 88], nits[nits <= 88])  # below the knee nothing changes
    assert (np.diff(shown) > 0).all() and (np.diff(shown) <= np.diff(nits) + 1e-9).all()
    assert shown[-1] == pytest.approx(203) and float(hdr.compress(np.array(4000.0))) == pytest.approx(203)
    slope = np.diff(hdr.compress(np.linspace(86, 90, 401))) / 0.01
    assert slope.min() > 0.97  # no corner at the knee


def hdr_frame(code: float, transfer: int, form: str = "yuv420p10le") -> Any:
    return filled(form, (64 + round(876 * code), 512, 512), colorspace=9, color_trc=transfer, color_primaries=9,
                  color_range=1)  # fmt: skip


@pytest.mark.parametrize("transfer", [hdr.PQ, hdr.HLG])
@pytest.mark.parametrize("nits", [0, 1, 10, 80, 100, 203, 500, 1000])
def test_patches_of_known_luminance(transfer: int, nits: float) -> None:
    """Through the frame's ten bits, the matrix and the size: what BT.1886 says for the compressed luminance."""
    if transfer == hdr.PQ:
        code = float(hdr.nits_to_pq(np.array(nits)))
    else:
        scene = (nits / 1000) ** (1 / 1.2)
        code = float(np.sqrt(3 * scene) if scene <= 1 / 12 else
                     0.17883277 * np.log(12 * scene - 0.28466892) + 0.55991073)  # fmt: skip
    want = 255 * (float(hdr.compress(np.array(float(nits)))) / 203) ** (1 / 2.4)
    for size in (None, (24, 32), (100, 90)):
        picture = shown(hdr_frame(code, transfer), size).astype(float)
        assert np.abs(picture - want).max() <= 2.1, (want, picture[0, 0])


def test_hdr_colors_keep_their_hue_and_stay_in_range() -> None:
    """BT.709's red of 50 nits, written in BT.2020 (BT.2087's inverse), comes back as pure red."""
    to_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    code = hdr.nits_to_pq(to_2020 @ np.array([50.0, 0, 0]))
    picture = hdr.to_sdr(np.broadcast_to(np.rint(65535 * code).astype(np.uint16), (2, 2, 3)), hdr.PQ)[0, 0]
    assert picture[0] == pytest.approx(255 * (50 / 203) ** (1 / 2.4), abs=1.5) and picture[1:].max() <= 8
    noise = np.random.default_rng(0).integers(0, 65536, (300, 400, 3), np.uint16)
    for transfer in (hdr.PQ, hdr.HLG):
        whole = hdr.to_sdr(noise, transfer)
        assert np.array_equal(whole[250:], hdr.to_sdr(noise[250:], transfer))  # blocks are only blocks


def test_hdr_film(tmp_path: Path) -> None:
    path = write(tmp_path / "pq.mp4", [hdr_frame(0.508, hdr.PQ) for _ in range(3)], "libx265",
                 x265_params="log-level=none")  # fmt: skip
    video = probe(path).video[0]
    assert (video.transfer, video.bits, video.hdr) == ("smpte2084", 10, True)
    for frames in (read_video(path, num_frames=1)[0], read_video(path, num_frames=1, size=(8, 9))[0]):
        assert np.abs(frames.astype(int) - 189).max() <= 2  # not 127
    assert not probe(write(tmp_path / "sdr.mp4", [filled("yuv420p", (90, 128, 128))])).video[0].hdr
