"""Mix channels down to one, and keep samples in [-1, 1]; where that loses sound, a warning states how much.

Chapter: preprocessing/audio.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

Channel = int | Literal["mean", "loudest", "bs775"]  # how several channels become one: see `Mixdown`
LOUDEST = 2.0  # a peak above this is no overshoot: the samples have another scale
CANCELLED_DB = 10.0  # a mix this far below the loudest of its parts has lost them
AUDIBLE_DB = -60.0  # what is cut off counts if its power is above this, relative to the sound's

# ITU-R BS.775, table 2, 3/2 → 1/0: front left and right -3 dB, centre 0 dB, surround -6 dB each; no low-frequency
# effects. A single surround channel counts as one of two, as in FFmpeg.
_BS775 = {"FC": 1.0, "FL": math.sqrt(0.5), "FR": math.sqrt(0.5), "SL": 0.5, "SR": 0.5, "BL": 0.5, "BR": 0.5, "BC": 0.5,
          "LFE": 0.0, "LFE2": 0.0}  # fmt: skip
_FRONT = ("FL", "FR", "FC")
_ORDER = {1: ("FC",), 2: ("FL", "FR"), 3: _FRONT, 5: (*_FRONT, "BL", "BR"), 6: (*_FRONT, "LFE", "BL", "BR"),
          8: (*_FRONT, "LFE", "BL", "BR", "SL", "SR")}  # fmt: skip


class Mixdown:
    """Mix a sound's channels down to one, block by block.

    Args:
        channel: A channel's number, from 0; "mean", the mean of all; "loudest", the one with the most power in all that
            is mixed; or "bs775", the sum with the weights of ITU-R BS.775 (centre 1, left and right √½, surround ½,
            low-frequency effects 0), which keeps a voice in the centre at its level and may exceed 1.
        name: What errors and warnings call the sound.

    Raises:
        ValueError: If `channel` is something else.
    """

    def __init__(self, channel: Channel, name: str = "audio") -> None:
        number = isinstance(channel, int | np.integer) and not isinstance(channel, bool) and channel >= 0
        if not number and channel not in ("mean", "loudest", "bs775"):
            raise ValueError(
                f'channel is {channel!r}; expected a channel\'s number from 0, "mean", "loudest" or "bs775"'
            )
        self.channel, self.name = channel, name
        self.energy = np.zeros(0)  # (C,), the sum of squares of each channel
        self.mixed = 0.0  # that of the mix
        self.peak = 0.0  # of all channels

    def block(self, samples: np.ndarray, names: Sequence[str] = ()) -> np.ndarray:
        """Return the mix (S,) of floats (C, S); for "loudest", which is found at the end, all channels (C, S).

        Args:
            samples: One block of sound.
            names: FFmpeg's names of its channels; by default, and where they are none, the usual ones of so many.
        """
        count = len(samples)
        self.peak = max(self.peak, peak_of(samples))
        if count == 1 and self.channel in ("mean", "bs775"):
            return samples[0]
        if self.channel == "loudest":
            return samples
        if isinstance(self.channel, str):
            self.energy = np.pad(self.energy, (0, max(0, count - len(self.energy))))
            self.energy[:count] += _energy(samples)
            mix = self._weights(names, count) @ samples
            self.mixed += float(mix @ mix)
            return mix.astype(samples.dtype, copy=False)
        if self.channel >= count:
            raise ValueError(f"{self.name}: has no channel {self.channel}; found {count}, numbered from 0")
        return samples[self.channel]

    def finish(self, samples: np.ndarray) -> np.ndarray:
        """Return the sound (S,) of all blocks put together; warn if its channels cancel one another in the mix."""
        if self.channel == "loudest":
            return samples[_loudest(_energy(samples))]
        loudest = float(self.energy.max(initial=0.0))
        if loudest > 0 and self.mixed < loudest * 10 ** (-CANCELLED_DB / 10):
            below = f"{10 * math.log10(loudest / self.mixed):.0f} dB" if self.mixed > loudest * 1e-12 else "far"
            warnings.warn(
                f"{self.name}: the mix of {len(self.energy)} channels is {below} quieter than channel "
                f'{_loudest(self.energy)} alone; to take one, give its number or "loudest" as `channel`',
                stacklevel=4,
            )
        return samples

    def _weights(self, names: Sequence[str], count: int) -> np.ndarray:
        if self.channel == "mean":
            return np.full(count, 1 / count)
        known = names if names and all(name in _BS775 for name in names) else _ORDER.get(count)
        if known is None:
            raise ValueError(f"{self.name}: channels are {list(names) or count}; expected 1, 2, 3, 5, 6 or 8, or names "
                             'that ITU-R BS.775 has weights for; with others, "mean" or a number')  # fmt: skip
        return np.array([_BS775[name] for name in known])


def _energy(samples: np.ndarray) -> np.ndarray:
    """Return the sum of squares of each channel: (C, S) → float64 (C,)."""
    return np.einsum("cs,cs->c", samples, samples, dtype=np.float64)


def _loudest(energy: np.ndarray) -> int:
    """Return the number of the channel with the most energy, the first of those that are equal but for rounding."""
    return int(np.flatnonzero(energy >= energy.max() * (1 - 1e-6))[0]) if np.isfinite(energy).all() else 0


def peak_of(audio: np.ndarray) -> float:
    """Return the largest absolute value; 0 of nothing."""
    return float(max(audio.max(initial=0), -audio.min(initial=0)))


def check_scale(peak: float, name: str) -> None:
    """Make sure that a peak is that of sound from -1 to 1, with overshoot up to 2.

    Raises:
        ValueError: If it is not; the message has the peak and the likely scale.
    """
    if peak > LOUDEST:
        bits = next((bits for bits in (16, 24, 32) if peak <= 2 ** (bits - 1)), 0) if peak > 16 else 0
        scale = f"these seem to be the numbers of {bits}-bit sound: divide them by {2 ** (bits - 1)}" if bits else (
            f"divide them by {peak:.4g}, their peak, or find out what made them so large")  # fmt: skip
        raise ValueError(f"{name}: samples reach {peak:.6g}; expected floats in [-1, 1] ({scale})")


def cut_to_range(audio: np.ndarray, name: str) -> np.ndarray:
    """Return the sound with what lies outside [-1, 1] cut off; warn if that can be heard.

    It counts as heard if what is cut off has a millionth of the sound's power or more (-60 dB).
    """
    peak = peak_of(audio)
    if peak <= 1:
        return audio
    kept = np.clip(audio, -1, 1)
    outside = np.abs(audio) > 1
    lost = float(np.sum((audio[outside] - kept[outside]).astype(np.float64) ** 2))
    power = float(np.einsum("s,s->", audio, audio, dtype=np.float64))
    if lost > power * 10 ** (AUDIBLE_DB / 10):
        warnings.warn(
            f"{name}: samples reach {peak:.3g}; {int(outside.sum())} of {len(audio)} were cut off at 1 "
            f"({10 * math.log10(lost / power):.0f} dB of the sound)",
            stacklevel=3,
        )
    return kept


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, as rates and times are, and no bool."""
    return (
        isinstance(value, int | float | np.integer | np.floating)
        and not isinstance(value, bool)
        and math.isfinite(value)
    )
