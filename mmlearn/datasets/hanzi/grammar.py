"""What HanziClips say: the characters, the sentences made of them, and their captions.

The dictionaries at the top are the whole vocabulary; add a line to one of them and every other module follows.

Chapter: start/dataset.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Thing(NamedTuple):
    """How a caption speaks of a thing."""

    measures: tuple[str, ...]  # Chinese measure words: 三*座*山
    words: tuple[str, ...]
    one: str
    many: str


# Each label's classes, in the order of their integer labels.
NUMBERS = tuple("一二三四五六七八九十")
COLORS = {"红": (214, 48, 40), "绿": (24, 150, 72), "蓝": (48, 92, 222), "黄": (226, 178, 24)}  # ink, RGB
DIRECTIONS = {"上": (0, -1), "下": (0, 1), "左": (-1, 0), "右": (1, 0)}  # drift: x to the right, y downwards
THINGS = {
    "山": Thing(("座",), ("山", "高山", "大山"), "mountain", "mountains"),
    "水": Thing(("滴", "杯"), ("水", "清水"), "drop of water", "drops of water"),
    "火": Thing(("团", "把"), ("火", "大火"), "fire", "fires"),
    "木": Thing(("棵", "根"), ("木", "树木"), "tree", "trees"),
    "日": Thing(("轮", "个"), ("日", "太阳"), "sun", "suns"),
    "月": Thing(("轮", "弯"), ("月", "月亮"), "moon", "moons"),
    "人": Thing(("个", "位"), ("人", "行人"), "person", "people"),
    "马": Thing(("匹",), ("马", "骏马"), "horse", "horses"),
    "鸟": Thing(("只",), ("鸟", "小鸟"), "bird", "birds"),
    "花": Thing(("朵", "枝"), ("花", "鲜花"), "flower", "flowers"),
    "云": Thing(("朵", "片"), ("云", "云彩"), "cloud", "clouds"),
    "鱼": Thing(("条",), ("鱼", "小鱼"), "fish", "fish"),
}
NEUTRAL = {"number": "几", "colour": "色", "direction": "向", "thing": "物"}  # stands where a factor is not told

COLOR_WORDS = {
    "红": (("红色", "大红", "赤红"), ("red", "scarlet", "crimson")),
    "绿": (("绿色", "翠绿", "碧绿"), ("green", "emerald", "leafy green")),
    "蓝": (("蓝色", "天蓝", "湛蓝"), ("blue", "azure", "navy")),
    "黄": (("黄色", "金黄", "鹅黄"), ("yellow", "golden", "amber")),
}
DIRECTION_WORDS = {
    "上": (("向上", "往上", "朝上方"), ("up", "upwards")),
    "下": (("向下", "往下", "朝下方"), ("down", "downwards")),
    "左": (("向左", "往左", "朝左边"), ("left", "to the left")),
    "右": (("向右", "往右", "朝右边"), ("right", "to the right")),
}
NUMBER_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
MOVING = (("移动", "飘去", "慢慢移", "走"), ("moving", "drifting", "going", "floating"))
OPENINGS = (("", "", "画面里", "看，", "这里有", "我看见"), ("", "", "look, ", "here: ", "we see ", "there go "))

TEMPLATES: dict[int, tuple[tuple[str, ...], ...]] = {  # by length; the number is always told
    2: (("number", "thing"),),
    3: (("number", "colour", "thing"), ("direction", "number", "thing")),
    4: (("direction", "number", "colour", "thing"),),
    5: (("direction", "number", "colour", "thing", "thing2"),),
}
CLASSES: dict[str, list[str]] = {
    "number": list(NUMBERS),
    "colour": list(COLORS),
    "direction": list(DIRECTIONS),
    "thing": list(THINGS),
}
ALPHABET = "".join(sorted({c for names in CLASSES.values() for c in names} | set(NEUTRAL.values())))


@dataclass(frozen=True)
class Sentence:
    """The factors of one clip, as characters, and the order in which the sentence names them.

    Chapter: start/dataset.
    """

    template: tuple[str, ...]
    number: str
    colour: str
    direction: str
    thing: str
    thing2: str

    def characters(self, hide: Sequence[str] = (), number: str | None = None) -> str:
        """Return the sentence, with a neutral character where a factor is hidden.

        Args:
            hide: Names of factors that are not told; `thing` hides both things.
            number: A number to name in place of the sentence's own (one that disagrees).
        """
        factors = {**vars(self), "number": number or self.number}
        names = {f: f.rstrip("2") for f in self.template}
        return "".join(NEUTRAL[names[f]] if names[f] in hide else factors[f] for f in self.template)


def draw_sentence(rng: np.random.Generator, length: int, number: str) -> Sentence:
    """Draw a sentence at random, but for its number.

    Args:
        rng: Where the randomness comes from.
        length: Characters in the sentence, 2 to 5.
        number: The number it tells.
    """
    templates = TEMPLATES[length]
    template = templates[int(rng.integers(len(templates)))]
    colour, direction = _pick(rng, list(COLORS)), _pick(rng, list(DIRECTIONS))
    first, second = (list(THINGS)[i] for i in rng.permutation(len(THINGS))[:2])
    return Sentence(template, number, colour, direction, first, second)


def caption(rng: np.random.Generator, sentence: Sentence, language: str = "zh", hide: Sequence[str] = ()) -> str:
    """Describe a sentence's picture in words, with varying templates and synonyms.

    Args:
        rng: Where the choice of template and synonyms comes from.
        sentence: What to describe.
        language: "zh", "en" or "both" (Chinese, a space, English).
        hide: Names of factors that the caption must not tell.
    """
    chinese, english = _chinese(rng, sentence, hide), _english(rng, sentence, hide)
    return {"zh": chinese, "en": english, "both": f"{chinese} {english}"}[language]


def mask_text(rng: np.random.Generator, text: str, rate: float) -> str:
    """Replace each Chinese character and each other word by "□" with a probability, as bad recognition does.

    Args:
        rng: Where the randomness comes from.
        text: A caption; spaces and punctuation are kept.
        rate: The probability, 0 to 1.
    """
    out, word = [], ""
    for c in text + " ":
        if c.isascii() and c.isalnum():
            word += c
            continue
        units = [word, c] if c.isalnum() else [word]
        out += ["□" if rng.random() < rate else unit for unit in units if unit]
        out += [] if c.isalnum() else [c]
        word = ""
    return "".join(out)[:-1]


def _chinese(rng: np.random.Generator, s: Sentence, hide: Sequence[str]) -> str:
    thing = THINGS[s.thing]
    number = "" if "number" in hide else _pick(rng, ["两" if s.number == "二" else s.number, str(_value(s.number))])
    amount = (number or NEUTRAL["number"]) + ("个" if "thing" in hide else _pick(rng, thing.measures))
    noun = "东西" if "thing" in hide else _pick(rng, thing.words)
    if "thing2" in s.template and "thing" not in hide:
        noun += _pick(rng, ["和", "跟"]) + _pick(rng, THINGS[s.thing2].words)
    colour = "" if "colour" in hide else _pick(rng, COLOR_WORDS[s.colour][0])
    phrases = [f"{amount}{colour}的{noun}", f"{colour}的{amount}{noun}"] if colour else [f"{amount}{noun}"] * 2
    phrase = _pick(rng, phrases)
    way, move = _pick(rng, DIRECTION_WORDS[s.direction][0]), _pick(rng, MOVING[0])
    motion = "" if "direction" in hide else _pick(rng, [way + move, f"正在{way}{move}", f"，{way}{move}"])
    return _pick(rng, OPENINGS[0]) + phrase + motion


def _english(rng: np.random.Generator, s: Sentence, hide: Sequence[str]) -> str:
    one = s.number == "一" and "number" not in hide
    number = "some" if "number" in hide else NUMBER_WORDS[_value(s.number) - 1]
    colour = "" if "colour" in hide else _pick(rng, COLOR_WORDS[s.colour][1]) + " "
    noun = ("thing" if one else "things") if "thing" in hide else THINGS[s.thing].one if one else THINGS[s.thing].many
    if "thing2" in s.template and "thing" not in hide:
        noun += f" and {THINGS[s.thing2].many}"
    way, move = _pick(rng, DIRECTION_WORDS[s.direction][1]), _pick(rng, MOVING[1])
    motion = "" if "direction" in hide else f" {move} {way}"
    return _pick(rng, OPENINGS[1]) + f"{number} {colour}{noun}" + motion


def _value(number: str) -> int:
    return NUMBERS.index(number) + 1


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]
