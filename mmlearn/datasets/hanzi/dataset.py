"""HanziClips – 形、音、义 (shape, sound, meaning): sentences written, spoken and described, from real recordings.

Chapter: start/dataset.
"""

import hashlib
import json
import os
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from mmlearn import files
from mmlearn.clip import Clip, Word
from mmlearn.datasets.arrays import is_whole, open_arrays, sum_of, write_clip
from mmlearn.datasets.hanzi import grammar, script, synthesis
from mmlearn.datasets.hanzi.generator import Kitchen, Sources, fingerprint, generate
from mmlearn.datasets.hanzi.script import Recipe
from mmlearn.datasets.hanzi.voices import RATE
from mmlearn.runtime import home

VERSION = 2  # raise it when the same recipe would give other bytes
CHOICES = {
    "split": ("train", "valid", "test"),
    "relation": tuple(script.HIDDEN),
    "noise": ("babble", "white"),
    "language": ("zh", "en", "both"),
}


class HanziClips:
    """Clips in which a sentence of Chinese characters is written, spoken and described.

    A sentence of 2 to 5 characters, such as 三红山, is written stroke by stroke, one character at a time, in ink of the
    colour it names, drifting in a direction; each syllable is heard while its character is written; a caption describes
    it in words. What each modality tells of the clip's factors depends on `relation`:

    ================ ============================= ==================== ====================
    relation         picture                       sound                caption
    ================ ============================= ==================== ====================
    redundant        all four                      what the sentence    all four
                                                   names
    complementary    colour (ink), thing           number               direction
    conflicting      all four                      a number of its own  all four, as in the
                                                   in half the clips    picture
    synergy          all four; the written number  the spoken number    all but the number
    synergy_sum      the same                      the same             the same
    ================ ============================= ==================== ====================

    Where a factor is not told, a neutral character or word stands (几, 色, 向, 物), and nothing drifts.

    Labels: `number`, `colour`, `direction`, `thing` (class indices, names in `.classes`; `number` is the written
    one), `writing_speed` (characters per second of pen time), `stroke_count`, `duration` (seconds), `sentence` (as
    written), `pinyin` (as spoken), `voice`, `synthetic` (1 if the voice is a machine's). Where numbers can disagree
    also `written`, `spoken`, `agree`; for `synergy_sum` also `sum`, (written + spoken) mod 10.

    Args:
        size: How many clips.
        split: "train", "valid" or "test": different clips.
        seed: Same seed, same bytes. Clip i is the same whatever the size.
        length: Characters in a sentence, 2 to 5, or (shortest, longest). Shorter clips are padded by empty paper and
            silence to the longest; the label `duration` keeps their own length.
        frames: Frames per clip.
        image_size: Side of the square frames in pixels.
        relation: See above.
        missing: Rate at which each modality is absent, e.g. {"audio": 0.2}. A clip never loses everything: where that
            would happen, one modality, at random, stays.
        missing_depends_on: A class label on which the rate depends: it grows linearly from the first class to the
            last, around the same mean, from zero to twice the rate (for a rate above ½: from 2 · rate - 1 to 1).
        imbalance: How many times rarer 十 is than 一; the numbers between fall geometrically. Each hundred clips keep
            to these odds.
        snr_db: Speech to noise in decibels, exact in each clip; None = no noise.
        noise: "babble" (six people talking) or "white".
        occlusion: Fraction of the frames in which a grey card hides most of the picture.
        video_noise: Standard deviation of Gaussian noise in each pixel, in grey levels.
        text_noise: Probability that a character (English: a word) of the caption is replaced by "□".
        test_voice: "3" or "5": the voice kept for testing. Clips of the test split are spoken by it alone, those of the
            other splits never. What it has not recorded is then silent (otherwise the other voice steps in).
        language: Of the caption: "zh", "en" or "both".
        sources: Where strokes and voices lie; by default `mmlearn.datasets.hanzi.download.fetch_hanzi()`.
        cache: Keep the arrays in `mmlearn.home()`, so that the next time they are only opened. Where that folder cannot
            be written, and with False, they are in a temporary folder as long as this object exists.
        workers: Processes to generate with; by default one per core.

    What is damaged on disk is noticed and made again. Copies by pickle, as for a `DataLoader`'s workers, open the same
    arrays.

    Raises:
        ValueError: If an argument is out of its range; it says which.
        OSError: If the disk has no room for the arrays.

    Source: strokes from hanzi-writer-data, voices from gcin-voice. Chapter: start/dataset.
    """

    def __init__(
        self,
        size: int = 2000,
        *,
        split: str = "train",
        seed: int = 0,
        length: int | tuple[int, int] = 3,
        frames: int = 16,
        image_size: int = 48,
        relation: str = "redundant",
        missing: Mapping[str, float] | None = None,
        missing_depends_on: str | None = None,
        imbalance: float = 1.0,
        snr_db: float | None = None,
        noise: str = "babble",
        occlusion: float = 0.0,
        video_noise: float = 0.0,
        text_noise: float = 0.0,
        test_voice: str | None = None,
        language: str = "zh",
        sources: Sources | None = None,
        cache: bool = True,
        workers: int | None = None,
    ) -> None:
        lengths = (length, length) if isinstance(length, int) else tuple(length)
        self.recipe = Recipe(
            split=split, seed=seed, length=lengths,  # type: ignore[arg-type] # checked below
            frames=frames, image_size=image_size, relation=relation,
            imbalance=float(imbalance), snr_db=None if snr_db is None else float(snr_db), noise=noise,
            occlusion=float(occlusion), video_noise=float(video_noise), text_noise=float(text_noise),
            test_voice=test_voice, language=language,
        )  # fmt: skip
        self.size = size
        _check(self.recipe, size, missing or {}, missing_depends_on)
        self.missing, self.missing_depends_on = {k: float(v) for k, v in (missing or {}).items()}, missing_depends_on
        if sources is None:
            from mmlearn.datasets.hanzi.download import fetch_hanzi

            sources = fetch_hanzi()
        self.sources = sources
        self.classes = {name: list(names) for name, names in grammar.CLASSES.items()}
        if relation in ("conflicting", "synergy", "synergy_sum"):
            self.classes |= {"written": list(grammar.NUMBERS), "spoken": list(grammar.NUMBERS), "agree": ["no", "yes"]}
        if relation == "synergy_sum":
            self.classes["sum"] = [str(n) for n in range(10)]
        self._cache, self._workers = cache, workers
        self._folder = self._make()
        self._open()

    def _open(self) -> None:
        self._arrays = open_arrays(self._folder)
        self._checked = bytearray(self.size)  # 1: this clip is what was written
        self._mended: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # what is damaged on a disk that is read-only

    def __getstate__(self) -> dict[str, Any]:
        """Leave the arrays out of a pickle: they are opened again."""
        own = ("_arrays", "_checked", "_mended", "_end")
        return {name: value for name, value in self.__dict__.items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the arrays, or make them where they are not."""
        self.__dict__.update(state)
        if not is_whole(self._folder):
            self._folder = self._make()
        self._open()

    def __len__(self) -> int:
        """Return the number of clips."""
        return self.size

    def __getitem__(self, index: int) -> Clip:
        """Return clip `index`; negative ones count from the end."""
        if not -self.size <= index < self.size:
            raise IndexError(f"index is {index}; this data set has {self.size} clips")
        index %= self.size
        note = self._arrays.notes[index]
        video, audio = self._rows(index)
        streams: dict[str, Any] = {}
        if "video" in note["present"]:
            streams["video"] = video
        if "audio" in note["present"]:
            streams["audio"] = audio / np.float32(32767)
        if "text" in note["present"]:
            streams["text"] = note["text"]
        rates = {"video": self.recipe.frames / self.recipe.seconds, "audio": float(RATE)}
        return Clip(
            streams=streams,
            rates={name: rate for name, rate in rates.items() if name in streams},
            words=[Word(*word) for word in note["words"]],
            labels=dict(note["labels"]),
            name=f"hanzi-{self.recipe.split}-{index:05d}",
        )

    def __iter__(self) -> Iterator[Clip]:
        """Yield the clips in order."""
        return (self[i] for i in range(self.size))

    def clip(self, index: int, frames: int | None = None, image_size: int = 256, fps: float = 25.0) -> Clip:
        """Return clip `index` drawn again at another size and rate, with the same content.

        Args:
            index: Which clip.
            frames: Frames in the whole clip; by default as many as `fps` asks for.
            image_size: Side of the frames in pixels.
            fps: Frames per second.
        """
        clip = self[index]
        if "video" not in clip.streams:
            return clip
        index %= self.size
        frames = frames or round(self.recipe.seconds * fps)
        kitchen = self._kitchen()
        plan = script.plan_clip(self.recipe, index, kitchen.voices)
        video = synthesis.render_video(plan, self.recipe, index, kitchen.glyphs, frames, image_size)
        rates = clip.rates | {"video": frames / self.recipe.seconds}
        return replace(clip, streams=clip.streams | {"video": video}, rates=rates)

    def _kitchen(self) -> Kitchen:
        return Kitchen(self.recipe, self.sources, self.missing, self.missing_depends_on)

    def _rows(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a copy of a clip's frames, and its sound; the first time, they are compared with their sum."""
        if index in self._mended:
            video, audio = self._mended[index]
            return video.copy(), audio
        video, audio = np.array(self._arrays.video[index]), self._arrays.audio[index]
        if not self._checked[index]:
            if sum_of(video, audio) != self._arrays.notes[index]["sum"]:
                return self._mend(index)
            self._checked[index] = 1
        return video, audio

    def _mend(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Make a clip that is damaged on disk again."""
        video, sound, _ = self._kitchen().cook(index)
        audio = np.zeros_like(self._arrays.audio[index]) if sound is None else sound
        if sum_of(video, audio) != self._arrays.notes[index]["sum"]:
            raise ValueError(f"{self._folder}: clip {index} is damaged, and its ingredients have changed; "
                             "remove this folder and open the data set again")  # fmt: skip
        warnings.warn(f"{self._folder}: clip {index} was damaged, and has been made again", stacklevel=4)
        offsets = {"video": self._arrays.video.offset, "audio": self._arrays.audio.offset}
        with suppress(OSError):  # others have the same file open: these bytes are right for them, too
            write_clip(self._folder, offsets, index, video, audio)
        self._mended[index] = video, audio
        return video.copy(), audio

    def _make(self) -> Path:
        """Return the folder with this data set's arrays, generated if need be."""
        if not self._cache:
            return self._make_temporary()
        content = [VERSION, self.size, asdict(self.recipe), self.missing, self.missing_depends_on]
        sources = fingerprint(self.sources, self.recipe)
        key = hashlib.sha256(json.dumps(content, sort_keys=True).encode() + sources).hexdigest()
        folder = home() / "hanzi" / "clips" / key
        if is_whole(folder):
            return folder
        try:
            with files.locked(folder.parent / f".{key}.lock", "makes the same HanziClips"):
                if is_whole(folder):  # several processes of one training ask at once
                    return folder
                shutil.rmtree(folder, ignore_errors=True)  # damaged
                with files.unfinished(folder) as part:
                    whole = self._generate(part / "clips")
                    if fingerprint(self.sources, self.recipe) != sources:
                        raise RuntimeError(
                            f"strokes or voices have changed while clips were made of them: {self.sources}"
                        )
                    os.replace(whole, folder)
        except OSError as error:
            if error.errno not in files.READ_ONLY:
                raise files.with_remedy(error, home(), "fewer or smaller clips") from error
            why = files.with_remedy(error, home())
            warnings.warn(f"these clips are not kept, and made again each time: {why}", stacklevel=4)
            return self._make_temporary()
        return folder

    def _make_temporary(self) -> Path:
        """Make the arrays in a temporary folder, which lives as long as this object."""
        with ExitStack() as stack:
            part = stack.enter_context(files.unfinished(Path(tempfile.gettempdir()) / "hanziclips"))
            folder = self._generate(part / "clips")
            end, process = stack.pop_all().close, os.getpid()
        self._end = weakref.finalize(self, lambda: end() if os.getpid() == process else None)  # not in forked processes
        return folder

    def _generate(self, folder: Path) -> Path:
        folder.mkdir()
        generate(self._kitchen(), self.size, folder, self._workers)
        return folder


def _check(recipe: Recipe, size: int, missing: Mapping[str, float], missing_depends_on: str | None) -> None:
    """Raise ValueError where an argument of `HanziClips` is out of its range."""

    def expect(name: str, value: object, good: bool, expected: str) -> None:
        if not good:
            raise ValueError(f"{name} is {value!r}; expected {expected}")

    for name, choices in CHOICES.items():
        expect(name, getattr(recipe, name), getattr(recipe, name) in choices, f"one of {choices}")
    for name, value in {"size": size, "frames": recipe.frames, "image_size": recipe.image_size}.items():
        expect(name, value, isinstance(value, int) and value >= 1, "an integer ≥ 1")
    expect("seed", recipe.seed, isinstance(recipe.seed, int) and recipe.seed >= 0, "an integer ≥ 0")
    lengths, lowest, highest = recipe.length, min(grammar.TEMPLATES), max(grammar.TEMPLATES)
    fits = len(lengths) == 2 and lowest <= lengths[0] <= lengths[1] <= highest
    expect("length", lengths, fits, f"an integer from {lowest} to {highest}, or (shortest, longest) of such")
    for name in ("occlusion", "text_noise"):
        expect(name, getattr(recipe, name), 0 <= getattr(recipe, name) <= 1, "a fraction from 0 to 1")
    expect("video_noise", recipe.video_noise, 0 <= recipe.video_noise < np.inf, "grey levels ≥ 0")
    expect("imbalance", recipe.imbalance, 1 <= recipe.imbalance < np.inf, "a factor ≥ 1")
    balanced = recipe.imbalance == 1 or recipe.relation not in ("synergy", "synergy_sum")
    expect("imbalance", recipe.imbalance, balanced, f"1 with relation={recipe.relation!r}, whose numbers must be even")
    expect("snr_db", recipe.snr_db, recipe.snr_db is None or np.isfinite(recipe.snr_db), "decibels, or None")
    for name, rate in missing.items():
        expect("missing", dict(missing), name in script.MODALITIES, f"keys among {script.MODALITIES}")
        expect(f"missing[{name!r}]", rate, isinstance(rate, Real) and 0 <= rate <= 1, "a rate from 0 to 1")
    everything = len(missing) == len(script.MODALITIES) and min(missing.values()) == 1
    expect("missing", dict(missing), not everything, "at least one modality with a rate below 1")
    labels = tuple(grammar.CLASSES)
    expect("missing_depends_on", missing_depends_on, missing_depends_on in (None, *labels), f"None or one of {labels}")
