"""Recorded Mandarin syllables: read, trimmed, made equally loud, brought to 16 kHz at several pitches; and noise.

Chapter: start/dataset.
"""

from functools import cache
from math import gcd
from pathlib import Path

import numpy as np
import soundfile
from scipy import signal

from mmlearn.datasets.hanzi.pinyin import zhuyin_of
from mmlearn.preprocessing.audio.waveform import trim

RATE = 16_000  # samples per second of everything this module returns
PITCHES = (18, 19, 20, 21, 22)  # twentieths of the speaker's own pitch (and tempo): 20 leaves a recording as it is
LEVEL = 0.08  # root mean square of a syllable
SYNTHETIC = "espeak"  # the voice where no recordings are at hand
TALKERS = 6  # people who talk at once in babble
CROWD = 160  # syllables that babble is made of


class VoiceBank:
    """The recordings, each read once and kept in memory.

    Args:
        folder: Holds `<zhuyin><tone>/<voice>.ogg`, as Debian's gcin-voice does; None = synthetic speech by eSpeak NG.

    Chapter: start/dataset.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.names: tuple[str, ...] = ("3", "5") if folder else (SYNTHETIC,)
        self._read: dict[tuple[str, str], tuple[np.ndarray, int]] = {}  # trimmed, at their own rate
        self._ready: dict[tuple[str, str, int], np.ndarray] = {}

    def voices_of(self, char: str) -> tuple[str, ...]:
        """Return the voices that can say a character; none where it has no reading or no recording."""
        syllable = zhuyin_of(char)
        if syllable is None:
            return ()
        if self.folder is None:
            return self.names
        return tuple(name for name in self.names if (self.folder / syllable / f"{name}.ogg").is_file())

    def say(self, char: str, voice: str, pitch: int = 20) -> np.ndarray:
        """Return a character's syllable, float64 of shape (samples,) at 16 kHz, with a root mean square of 0.08.

        Args:
            char: One character.
            voice: One of `voices_of(char)`.
            pitch: In twentieths of the speaker's own, one of 18 … 22.

        Raises:
            ValueError: If that voice cannot say it, or the pitch is another one.
        """
        if pitch not in PITCHES:
            raise ValueError(f"pitch is {pitch}; expected one of {PITCHES}")
        syllable = zhuyin_of(char) or ""
        key = (syllable, voice, pitch)
        if key not in self._ready:
            if voice not in self.voices_of(char):
                raise ValueError(f"voice {voice!r} cannot say {char!r}; expected one of {self.voices_of(char)}")
            if (syllable, voice) not in self._read:
                self._read[syllable, voice] = self._load(syllable, voice) if self.folder else _synthesise(char)
            self._ready[key] = _finish(*self._read[syllable, voice], pitch)
        return self._ready[key]

    def crowd(self, voices: tuple[str, ...], spared: str) -> list[np.ndarray]:
        """Return syllables for babble, all by the given voices and none of them a reading of `spared`'s characters."""
        if self.folder is None:
            return [_finish(*_synthesise(char), 20) for char in "天地来去开关东南西北春夏秋冬" if char not in spared]
        chosen = self.crowd_files(voices, spared)
        return [_finish(*self._load(path.parent.name, path.stem), 20) for path in chosen]

    def crowd_files(self, voices: tuple[str, ...], spared: str) -> list[Path]:
        """Return the recordings that `crowd` is made of."""
        if self.folder is None:
            return []
        taken = {zhuyin_of(char) for char in spared}
        files = [p for p in sorted(self.folder.glob("*/*.ogg")) if p.stem in voices and p.parent.name not in taken]
        return files[:: max(1, len(files) // CROWD)]

    def recordings(self, chars: str) -> list[Path]:
        """Return the recordings of some characters, by all voices."""
        if self.folder is None:
            return []
        return [self.folder / str(zhuyin_of(char)) / f"{name}.ogg" for char in chars for name in self.voices_of(char)]

    def _load(self, syllable: str, voice: str) -> tuple[np.ndarray, int]:
        assert self.folder is not None
        path = self.folder / syllable / f"{voice}.ogg"
        try:
            samples, rate = soundfile.read(path, dtype="float64", always_2d=True)
        except (soundfile.LibsndfileError, OSError) as error:
            raise ValueError(f"{path}: cannot read this recording ({error})") from error
        sound = trim(samples.mean(1), rate)[0] if len(samples) else samples[:, 0]
        if not sound.any():  # babble would wait for it to end for ever
            raise ValueError(f"{path}: the recording is silent; expected a syllable")
        return sound, rate


def babble(rng: np.random.Generator, crowd: list[np.ndarray], length: int) -> np.ndarray:
    """Let six people talk at once: syllables at random, one after another, six times over each other.

    Args:
        rng: Where the randomness comes from.
        crowd: The syllables.
        length: Samples wanted.

    Returns:
        float64 of shape (length,).

    Chapter: start/dataset.
    """
    out = np.zeros(length)
    for _ in range(TALKERS):
        at = -int(rng.integers(RATE // 3))  # everyone is in the middle of a word
        while at < length:
            syllable = crowd[int(rng.integers(len(crowd)))]
            add_at(out, syllable, at)
            at += len(syllable)
    return out


def add_at(out: np.ndarray, sound: np.ndarray, at: int) -> None:
    """Add a sound to `out` in place from sample `at` on; what lies outside is cut off."""
    first, last = max(0, at), min(len(out), at + len(sound))
    if first < last:
        out[first:last] += sound[first - at : last - at]


def _synthesise(char: str) -> tuple[np.ndarray, int]:
    from mmlearn.datasets.hanzi.espeak import speak_syllable

    samples, rate = speak_syllable(char)
    return trim(samples.astype(np.float64), rate)[0], rate


def _finish(samples: np.ndarray, rate: int, pitch: int) -> np.ndarray:
    """Bring a sound to 16 kHz at a pitch, and to the common level."""
    up, down = RATE * 20, rate * pitch
    up, down = up // gcd(up, down), down // gcd(up, down)
    out = signal.resample_poly(samples, up, down, window=_low_pass(max(up, down)))
    return out * (LEVEL / max(float(np.sqrt(np.mean(out**2))), 1e-9))


@cache
def _low_pass(factor: int) -> np.ndarray:
    """Return the filter that `resample_poly` would design again for each sound."""
    return signal.firwin(20 * factor + 1, 1 / factor, window=("kaiser", 5.0))
