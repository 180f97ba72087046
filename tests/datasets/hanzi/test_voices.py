import numpy as np
import pytest

from mmlearn.datasets.hanzi.download import HanziSources
from mmlearn.datasets.hanzi.grammar import ALPHABET
from mmlearn.datasets.hanzi.voices import LEVEL, VoiceBank, add_at, babble


@pytest.fixture(scope="module")
def bank(toy_sources: HanziSources) -> VoiceBank:
    return VoiceBank(toy_sources.voices)


def test_voices_of_a_character(bank: VoiceBank) -> None:
    assert bank.voices_of("红") == ("3", "5")
    assert bank.voices_of("绿") == ("3",)
    assert bank.voices_of("龘") == ()  # read, but not recorded here
    assert bank.voices_of("x") == ()  # no reading


def test_a_syllable_is_trimmed_levelled_and_at_16_khz(bank: VoiceBank) -> None:
    sound = bank.say("红", "3")
    assert sound.dtype == np.float64
    assert len(sound) == pytest.approx(12_000 * 16_000 / 44_100, abs=2 * 160)  # the wave, without the silence
    assert np.sqrt(np.mean(sound**2)) == pytest.approx(LEVEL)
    assert bank.say("红", "3") is sound  # read once


def test_pitch_is_speed(bank: VoiceBank) -> None:
    low, middle, high = (bank.say("红", "3", pitch) for pitch in (18, 20, 22))
    assert len(low) == pytest.approx(len(middle) / 0.9, abs=2)
    assert len(high) == pytest.approx(len(middle) / 1.1, abs=2)

    def peak(sound: np.ndarray) -> float:
        return float(np.argmax(np.abs(np.fft.rfft(sound, 2**16))))

    assert peak(high) / peak(low) == pytest.approx(22 / 18, rel=0.01)


def test_what_cannot_be_said_is_refused(bank: VoiceBank) -> None:
    with pytest.raises(ValueError, match="voice '5' cannot say '绿'"):
        bank.say("绿", "5")
    with pytest.raises(ValueError, match="pitch is 17"):
        bank.say("红", "3", 17)


def test_the_crowd_spares_the_vocabulary_and_the_kept_voice(bank: VoiceBank, toy_sources: HanziSources) -> None:
    assert len(bank.crowd(("3", "5"), ALPHABET)) == 20  # ten other characters, two voices
    assert len(bank.crowd(("5",), ALPHABET)) == 10


def test_babble_never_pauses(bank: VoiceBank) -> None:
    noise = babble(np.random.default_rng(0), bank.crowd(("3", "5"), ALPHABET), 32_000)
    assert noise.shape == (32_000,)
    blocks = np.sqrt((noise.reshape(-1, 800) ** 2).mean(1))  # 50 ms each
    assert blocks.min() > 0.5 * LEVEL


@pytest.mark.parametrize(
    ("at", "expected"), [(-2, [1, 0, 0, 0]), (1, [0, 1, 1, 1]), (3, [0, 0, 0, 1]), (9, [0, 0, 0, 0])]
)
def test_sounds_are_cut_at_the_edges(at: int, expected: list[float]) -> None:
    out = np.zeros(4)
    add_at(out, np.ones(3), at)
    np.testing.assert_array_equal(out, expected)


def test_the_synthetic_voice_where_nothing_is_recorded() -> None:
    bank = VoiceBank(None)
    assert bank.voices_of("三") == ("espeak",)
    assert np.sqrt(np.mean(bank.say("三", "espeak") ** 2)) == pytest.approx(LEVEL)
    assert len(bank.crowd(bank.names, "天")) > 5
