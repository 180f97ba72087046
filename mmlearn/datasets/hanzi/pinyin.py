"""How a Chinese character is read: as pinyin, and as the zhuyin name under which its recording is stored.

A character often has several readings (行: xíng, háng). Both functions give the one that pypinyin lists first,
the most frequent one, so that a character always sounds the same in this course.
"""

from functools import cache

from pypinyin import Style, pinyin

TONE_DIGITS = {"ˊ": "2", "ˇ": "3", "ˋ": "4", "˙": "1"}  # zhuyin's tone marks as gcin-voice writes them


@cache
def pinyin_of(char: str) -> str | None:
    """Give the pinyin of one character, with its tone mark.

    Args:
        char: one character, for example "红".

    Returns:
        Its first reading, for example "hóng"; None if the character has no known reading.

    Raises:
        ValueError: if `char` is not exactly one character.

    Source: pypinyin. Chapter: start/dataset.

    Examples:
        >>> pinyin_of("红")
        'hóng'
    """
    return _first_reading(char, Style.TONE)


@cache
def zhuyin_of(char: str) -> str | None:
    """Give the zhuyin of one character as gcin-voice names its recordings.

    The tone is a digit at the end: none for the first tone, 2 to 4 for the others, 1 for the neutral tone.

    Args:
        char: one character, for example "红".

    Returns:
        Its first reading, for example "ㄏㄨㄥ2"; None if the character has no known reading.

    Raises:
        ValueError: if `char` is not exactly one character.

    Source: pypinyin; Debian's gcin-voice. Chapter: start/dataset.

    Examples:
        >>> zhuyin_of("红")
        'ㄏㄨㄥ2'
    """
    reading = _first_reading(char, Style.BOPOMOFO)
    if reading is None:
        return None
    syllable = reading.strip("".join(TONE_DIGITS))  # the neutral tone's dot may stand in front
    return syllable + "".join(TONE_DIGITS[mark] for mark in reading if mark in TONE_DIGITS)


def _first_reading(char: str, style: Style) -> str | None:
    if len(char) != 1:
        raise ValueError(f"char: found {char!r} ({len(char)} characters), expected exactly one character")
    readings = pinyin(char, style=style, errors="ignore")  # [[first reading]], or [] for what is no Chinese character
    return readings[0][0] if readings and readings[0][0] else None
