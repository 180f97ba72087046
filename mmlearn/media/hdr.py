"""High dynamic range for ordinary screens: from the curves PQ and HLG, in BT.2020, to BT.709 with a white of 203 nits.

The luminance that a code stands for follows ITU-R BT.2100-2 (tables 4 and 5), the compression of highlights
ITU-R BT.2390 (section 5.4.1), the reference white BT.2408, the colours BT.2087, the screen's curve BT.1886.

Chapter: preprocessing/video.
"""

from functools import lru_cache

import numpy as np

PQ, HLG = 16, 18  # ISO/IEC 23091-2, table 3: transfer characteristics
WHITE = 203.0  # nits: HDR's reference white (BT.2408), PQ's code of 58 % and HLG's of 75 %; here the brightest SDR has
PEAK = 1000.0  # nits: what HLG is defined for and most PQ films were graded to; what is brighter is white
GAMMA = 2.4  # of the ordinary screen (BT.1886)

# BT.2100-2, table 4.
_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 4096 * 128, 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_A, _B, _C = 0.17883277, 0.28466892, 0.55991073  # table 5
_LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)  # of BT.2020
_TO_709 = np.array(  # linear light, BT.2020 → BT.709 (BT.2087-0, annex 2)
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
_ROWS = 1 << 16  # pixels converted at a time: floats take much more memory than the result


def pq_to_nits(code: np.ndarray) -> np.ndarray:
    """Return the luminance in nits of PQ's code in [0, 1]."""
    power = np.maximum(code, 0) ** (1 / _M2)
    return 10_000 * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1)


def nits_to_pq(nits: np.ndarray) -> np.ndarray:
    """Return PQ's code in [0, 1] of a luminance in nits."""
    power = (np.maximum(nits, 0) / 10_000) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


def hlg_to_scene(code: np.ndarray) -> np.ndarray:
    """Return the light of the scene, in [0, 1], of HLG's code in [0, 1]: the inverse OETF."""
    return np.where(code <= 0.5, code**2 / 3, (np.exp((code - _C) / _A) + _B) / 12)


def compress(nits: np.ndarray) -> np.ndarray:
    """Return a luminance for a screen that reaches `WHITE`: as it is up to a knee, then ever less (BT.2390's EETF)."""
    peak, white = nits_to_pq(np.array(PEAK)), nits_to_pq(np.array(WHITE)) / nits_to_pq(np.array(PEAK))
    code = np.minimum(nits_to_pq(nits) / peak, 1)
    knee = 1.5 * white - 0.5
    t = np.maximum(code - knee, 0) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * white
    return np.where(code < knee, nits, pq_to_nits(np.where(code < knee, code, spline) * peak))


def to_sdr(rgb: np.ndarray, transfer: int) -> np.ndarray:
    """Return HDR pictures for an ordinary screen.

    The brightest of the three colours is compressed and the others with it, so that hues stay; what BT.709 cannot
    show is cut off.

    Args:
        rgb: uint16 (H, W, 3), RGB in BT.2020, full range: code 1 is 65535.
        transfer: `PQ` or `HLG`.

    Returns:
        uint8 (H, W, 3), RGB in BT.709.
    """
    flat = rgb.reshape(-1, 3)
    out = np.empty(flat.shape, np.uint8)
    for first in range(0, len(flat), _ROWS):
        part = flat[first : first + _ROWS]
        light = _light(transfer)[part]  # (N, 3)
        if transfer == HLG:  # the OOTF: the scene's luminance to the power of 1.2 (BT.2100 for a peak of 1000 nits)
            light *= np.maximum(light @ _LUMA, 1e-12)[:, None] ** 0.2 * np.float32(PEAK)
        most = np.maximum(light.max(1), 1e-3)
        nits, shares = _shares()
        light *= np.interp(np.log(most), nits, shares).astype(np.float32)[:, None]
        linear = np.clip(light @ _TO_709.T / np.float32(WHITE), 0, 1)
        out[first : first + _ROWS] = _screen()[np.rint(65535 * np.sqrt(linear)).astype(np.uint16)]
    return out.reshape(rgb.shape)


@lru_cache
def _light(transfer: int) -> np.ndarray:
    """Light of each code, float32 (65536,): nits for PQ, the scene's light for HLG."""
    code = np.arange(65536) / 65535
    return (pq_to_nits(code) if transfer == PQ else hlg_to_scene(code)).astype(np.float32)


@lru_cache
def _shares() -> tuple[np.ndarray, np.ndarray]:
    """What remains of a luminance, by its logarithm: two arrays (4096,)."""
    nits = np.geomspace(1e-3, 10_000, 4096)
    return np.log(nits), compress(nits) / nits


@lru_cache
def _screen() -> np.ndarray:
    """The byte of each linear light, by the square root of it (which has more steps in the dark): uint8 (65536,)."""
    return np.round(255 * (np.arange(65536) / 65535) ** (2 / GAMMA)).astype(np.uint8)
