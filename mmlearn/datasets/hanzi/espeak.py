"""A synthetic voice: eSpeak NG says one Mandarin syllable.

It stands in where the recordings of real people cannot be had. What it makes must always be marked as synthetic.
The library and its Mandarin data come with the Python package espeakng-loader; nothing is downloaded.
"""

import _ctypes
import ctypes
import shutil
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import espeakng_loader
import numpy as np
from pypinyin.contrib.tone_convert import to_tone3

from mmlearn.datasets.hanzi.pinyin import pinyin_of

SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: hand the samples to a callback, before espeak_Synth returns
UTF8 = 1  # espeakCHARS_UTF8
RATE, PITCH = 1, 3  # espeak_PARAMETER

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
if sys.platform == "win32":
    _unload = _ctypes.FreeLibrary
else:
    _unload = _ctypes.dlclose


def speak_syllable(char: str, variant: str = "", pitch: int = 50, speed: int = 175) -> tuple[np.ndarray, int]:
    """Say one Chinese character with a synthetic voice. The same arguments always give the same samples.

    Args:
        char: one character, for example "红". It is read as `pinyin_of` says.
        variant: one of `variants()`, a speaker; "" is eSpeak NG's own.
        pitch: eSpeak NG's scale, 0 (low) to 100 (high).
        speed: in words per minute, 80 to 450.

    Returns:
        The sound, float32 (S,) in [-1, 1], and its rate in samples per second.

    Raises:
        ValueError: if `char` is not one character with a known reading, or another argument is out of range.
        RuntimeError: if eSpeak NG fails.

    Source: eSpeak NG's C interface, speak_lib.h. Chapter: start/dataset.
    """
    reading = pinyin_of(char)
    if reading is None:
        raise ValueError(f"char: found {char!r}, expected a Chinese character with a known reading")
    if variant and variant not in variants():
        raise ValueError(f"variant is {variant!r}; expected one of {variants()}, or ''")
    if not 0 <= pitch <= 100 or not 80 <= speed <= 450:
        raise ValueError(f"pitch is {pitch}, speed is {speed}; expected 0 to 100, and 80 to 450 words per minute")
    text = to_tone3(reading, v_to_u=False, neutral_tone_with_five=True)  # "lǜ" → "lv4"
    return _synthesize(text, f"cmn+{variant}" if variant else "cmn", pitch, speed)


@cache
def variants() -> tuple[str, ...]:
    """Return the names of the speakers that come with eSpeak NG: "f1" … "m8", "linda", …, but none with a space.

    Chapter: preprocessing/audio.
    """
    folder = Path(espeakng_loader.get_data_path()) / "voices" / "!v"
    return tuple(sorted(path.name for path in folder.iterdir() if " " not in path.name))


def _synthesize(text: str, voice: str = "cmn", pitch: int = 50, speed: int = 175) -> tuple[np.ndarray, int]:
    """Speak `text` with a fresh copy of the library: its oscillators go on where the last call left them."""
    pieces: list[np.ndarray] = []

    def keep(samples: "ctypes._Pointer[ctypes.c_short]", count: int, _events: int) -> int:
        if samples and count > 0:
            pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0  # go on

    callback = _Callback(keep)  # must outlive the synthesis
    with TemporaryDirectory(prefix="mmlearn-espeak-") as folder:
        library = ctypes.CDLL(shutil.copy(espeakng_loader.get_library_path(), folder))
        try:
            rate = library.espeak_Initialize(SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0)
            if rate <= 0 or library.espeak_SetVoiceByName(voice.encode()) != 0:
                raise RuntimeError(f"eSpeak NG did not start: rate {rate}, voice {voice} (cmn is Mandarin)")
            library.espeak_SetParameter(RATE, speed, 0)
            library.espeak_SetParameter(PITCH, pitch, 0)
            library.espeak_SetSynthCallback(callback)
            data = text.encode()
            failed = library.espeak_Synth(data, len(data) + 1, 0, 1, 0, UTF8, None, None)
            library.espeak_Terminate()
        finally:
            _unload(library._handle)
    sound = np.concatenate(pieces).astype(np.float32) / 32768 if pieces else np.zeros(0, np.float32)  # (S,)
    if failed or not sound.any():
        raise RuntimeError(f"eSpeak NG gave no sound for {text!r} (error {failed})")
    return sound, rate
