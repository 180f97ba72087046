"""The synthetic voice: is it sound, is it the syllable asked for, and is it the same every time?"""

import subprocess
import sys
from hashlib import sha256

import librosa
import numpy as np
import pytest

from mmlearn.datasets.hanzi import espeak
from mmlearn.datasets.hanzi.espeak import speak_syllable


@pytest.mark.parametrize("char", "红绿一十二吗行")
def test_sound_is_float32_in_range_and_audible(char: str) -> None:
    sound, rate = speak_syllable(char)
    assert sound.dtype == np.float32 and sound.ndim == 1
    assert rate == 22050
    assert 0.1 < len(sound) / rate < 1.0  # seconds: one syllable, not a spelled word
    assert 0.05 < np.abs(sound).max() <= 1.0


def test_same_character_same_samples_whatever_was_said_before() -> None:
    first = speak_syllable("红")[0]
    other = speak_syllable("绿")[0]
    again = speak_syllable("红")[0]
    np.testing.assert_array_equal(first, again)
    assert len(first) != len(other)


def test_same_samples_in_another_process() -> None:
    program = (
        "from hashlib import sha256; from mmlearn.datasets.hanzi.espeak import speak_syllable; "
        "speak_syllable('山'); print(sha256(speak_syllable('水')[0].tobytes()).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    assert there == sha256(speak_syllable("水")[0].tobytes()).hexdigest()


def test_homophones_sound_alike_and_tones_differ() -> None:
    np.testing.assert_array_equal(speak_syllable("十")[0], speak_syllable("石")[0])  # both shí
    assert len(speak_syllable("妈")[0]) != len(speak_syllable("马")[0])  # mā, mǎ


@pytest.mark.parametrize(("char", "found"), [("A", "'A'"), ("红绿", "'红绿'")])
def test_what_has_no_reading_is_refused(char: str, found: str) -> None:
    with pytest.raises(ValueError, match=f"char: found {found}"):
        speak_syllable(char)


def test_silence_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="no sound for ''"):
        espeak._synthesize("")


def test_variants_pitch_and_speed_make_other_speakers() -> None:
    own, rate = speak_syllable("三")
    slow, fast = (len(speak_syllable("三", speed=speed)[0]) for speed in (100, 300))
    assert fast < len(own) < slow
    woman, high = (speak_syllable("三", **options)[0] for options in ({"variant": "f2"}, {"pitch": 95}))
    pitch = [np.median(librosa.yin(x, fmin=60, fmax=500, sr=rate)) for x in (own, woman, high)]
    assert pitch[1] > 1.5 * pitch[0] and pitch[2] > 1.3 * pitch[0]
    assert {"f1", "f5", "m1", "m8"} <= set(espeak.variants())


@pytest.mark.parametrize(
    ("options", "message"),
    [({"variant": "f99"}, "variant is 'f99'"), ({"pitch": 101}, "pitch is 101"), ({"speed": 20}, "speed is 20")],
)
def test_speakers_that_there_are_not_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        speak_syllable("三", **options)
