"""Decide what happens in a clip, before anything is drawn or mixed.

Each kind of choice has a random stream of its own, seeded by (seed, split, index, stream). So a clip depends neither
on the others nor on who computes it, and turning one control changes nothing else: noise in the sound leaves the
picture as it was.

Chapter: start/dataset.
"""

from dataclasses import dataclass

import numpy as np

from mmlearn.datasets.hanzi import grammar
from mmlearn.datasets.hanzi.voices import PITCHES

SLOT = 0.64  # seconds per character: a clip of n characters lasts n · SLOT
MODALITIES = ("video", "audio", "text")
STREAMS = {"content": 0, "picture": 1, "sound": 2, "text": 3, "missing": 4, "pair": 5, "number": 6}
# What each modality keeps to itself or may not tell, by relation: modality -> factors it hides.
HIDDEN: dict[str, dict[str, tuple[str, ...]]] = {
    "redundant": {"video": (), "audio": (), "text": ()},
    "complementary": {
        "video": ("number", "direction"),
        "audio": ("colour", "direction", "thing"),
        "text": ("number", "colour", "thing"),
    },
    "conflicting": {"video": (), "audio": (), "text": ()},
    "synergy": {"video": (), "audio": (), "text": ("number",)},
    "synergy_sum": {"video": (), "audio": (), "text": ("number",)},
}


@dataclass(frozen=True)
class Recipe:
    """The controls that decide what a clip holds; `HanziClips` explains each.

    Chapter: start/dataset.
    """

    split: str = "train"
    seed: int = 0
    length: tuple[int, int] = (3, 3)
    frames: int = 16
    image_size: int = 48
    relation: str = "redundant"
    imbalance: float = 1.0
    snr_db: float | None = None
    noise: str = "babble"
    occlusion: float = 0.0
    video_noise: float = 0.0
    text_noise: float = 0.0
    test_voice: str | None = None
    language: str = "zh"

    @property
    def seconds(self) -> float:
        """Length of every clip, that of the longest sentence."""
        return self.length[1] * SLOT

    def rng(self, index: int, stream: str) -> np.random.Generator:
        """Return the random numbers of one clip for one purpose."""
        split = ("train", "valid", "test").index(self.split)
        return np.random.default_rng([self.seed, split, index, STREAMS[stream]])


@dataclass(frozen=True)
class Plan:
    """What happens in a clip, before anything is drawn or mixed; times are in seconds, lengths in picture sizes.

    Chapter: start/dataset.
    """

    sentence: grammar.Sentence
    written: str  # the characters in the picture
    spoken: str  # the characters in the sound
    spoken_number: str
    voice: str
    pitch: int
    onsets: np.ndarray  # (characters + 1,): when each begins, and when the last ends
    pen_seconds: float  # to write one character
    matrix: np.ndarray  # (2, 2): scale, rotation and shear
    width: float
    start: np.ndarray  # (2,): where the writing is at the beginning
    drift: np.ndarray  # (2,): how far it goes until the end
    paper: np.ndarray  # (3,) RGB
    ink: np.ndarray  # (3,) RGB
    gain: float

    @property
    def seconds(self) -> float:
        """The clip's own length."""
        return len(self.written) * SLOT


def plan_clip(recipe: Recipe, index: int, voices: tuple[str, ...]) -> Plan:
    """Decide what happens in clip `index`.

    Args:
        recipe: The controls.
        index: Which clip.
        voices: Voices to choose from.

    Chapter: start/dataset.
    """
    rng = recipe.rng(index, "content")
    hidden = HIDDEN[recipe.relation]
    length = int(rng.integers(recipe.length[0], recipe.length[1] + 1))
    sentence = grammar.draw_sentence(rng, length, draw_number(recipe, index))
    spoken_number = _spoken_number(recipe, index, sentence.number, rng)
    # tempo: how much of the clip is filled, and how unequal its slots are
    slots = rng.uniform(0.85, 1.15, length)
    slots *= length * SLOT * rng.uniform(0.88, 0.98) / slots.sum()
    onsets = np.concatenate([[0.0], np.cumsum(slots)])
    onsets += rng.uniform(0.2, 0.8) * (length * SLOT - onsets[-1])
    # writing
    angle, shear = np.deg2rad(rng.uniform(-12, 12)), rng.uniform(-0.15, 0.15)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[1.0, shear], [0.0, 1.0]]) @ np.diag(rng.uniform(0.62, 0.76, 2))
    way = np.array(grammar.DIRECTIONS[sentence.direction]) * rng.uniform(0.2, 0.3)
    drift = way * ("direction" not in hidden["video"])
    dark = rng.random() < 0.3
    paper = np.clip(rng.uniform(15, 55) if dark else rng.uniform(185, 250), 0, 255) + rng.uniform(-12, 5, 3)
    ink = np.array(grammar.COLORS[sentence.colour]) + (30 if dark else 0) + rng.uniform(-18, 18, 3)
    return Plan(
        sentence=sentence,
        written=sentence.characters(hidden["video"]),
        spoken=sentence.characters(hidden["audio"], spoken_number),
        spoken_number=spoken_number,
        voice=voices[int(rng.random() * len(voices))],  # one draw, however many there are
        pitch=PITCHES[int(rng.integers(len(PITCHES)))],
        onsets=onsets,
        pen_seconds=1 / rng.uniform(2.2, 6.0),
        matrix=matrix,
        width=rng.uniform(0.75, 1.35),
        start=rng.uniform(-0.03, 0.03, 2) - drift / 2,
        drift=drift,
        paper=np.clip(np.rint(paper), 0, 255).astype(np.int64),
        ink=np.clip(np.rint(ink), 0, 255).astype(np.int64),
        gain=10 ** (rng.uniform(-6, 3) / 20),
    )


def number_odds(imbalance: float) -> np.ndarray:
    """Return each number's probability, (10,), falling geometrically from the first to the last by `imbalance`."""
    odds = imbalance ** (-np.arange(10) / 9)
    return odds / odds.sum()


def draw_number(recipe: Recipe, index: int) -> str:
    """Draw a clip's number, so that each hundred clips hold every number as often as its probability says.

    The unit interval is cut into a hundred pieces, and each clip of the hundred gets a point in one of them.
    """
    rng = recipe.rng(index // 100, "number")
    points = (rng.permutation(100) + rng.random(100)) / 100
    bounds = np.cumsum(number_odds(recipe.imbalance))[:-1]  # (9,)
    return grammar.NUMBERS[int(np.searchsorted(bounds, points[index % 100], side="right"))]


def _spoken_number(recipe: Recipe, index: int, written: str, rng: np.random.Generator) -> str:
    other = int(rng.integers(1, 10))  # drawn in every relation, so that what follows is the same in all
    anything = int(rng.integers(10))
    if recipe.relation in ("synergy", "conflicting"):
        # of the clips 2k and 2k + 1 one agrees and one does not: exactly half
        agree_first = recipe.rng(index // 2, "pair").random() < 0.5
        agree = agree_first == (index % 2 == 0)
        return written if agree else grammar.NUMBERS[(grammar.NUMBERS.index(written) + other) % 10]
    return grammar.NUMBERS[anything] if recipe.relation == "synergy_sum" else written
