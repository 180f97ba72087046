"""Generate many clips into arrays on disk, with several processes.

Chapter: start/dataset.
"""

import hashlib
import multiprocessing
import os
import sys
from collections.abc import Iterable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm.auto import tqdm

from mmlearn import workers as processes
from mmlearn.datasets.arrays import new_array, seal_arrays, write_clip
from mmlearn.datasets.hanzi import grammar, script, synthesis
from mmlearn.datasets.hanzi.drawing import load_glyph
from mmlearn.datasets.hanzi.pinyin import pinyin_of
from mmlearn.datasets.hanzi.script import Recipe
from mmlearn.datasets.hanzi.voices import RATE, SYNTHETIC, VoiceBank
from mmlearn.runtime import quiet

CHUNK = 50  # clips that a process makes at a time
FEW = 4  # chunks for which starting another process takes longer than making them
TYPES = {"video": np.uint8, "audio": np.int16}


class Sources(Protocol):
    """Where the ingredients lie; `mmlearn.datasets.hanzi.download.HanziSources` is one."""

    @property
    def strokes(self) -> Path:
        """Folder of `<character>.json`."""

    @property
    def voices(self) -> Path | None:
        """Folder of `<zhuyin><tone>/<voice>.ogg`, or None."""


class Kitchen:
    """A recipe together with its ingredients: what a process needs to make clips.

    Args:
        recipe: The controls.
        sources: Where strokes and voices lie.
        missing: Rate at which each modality is absent.
        missing_depends_on: A class label on which that rate depends.

    Raises:
        ValueError: If a voice is to be kept for testing that is not there, or nobody is there to babble.

    Chapter: start/dataset.
    """

    def __init__(self, recipe: Recipe, sources: Sources, missing: dict[str, float],
                 missing_depends_on: str | None) -> None:  # fmt: skip
        self.recipe, self.missing, self.missing_depends_on = recipe, missing, missing_depends_on
        self.glyphs = {char: load_glyph(sources.strokes / f"{char}.json") for char in grammar.ALPHABET}
        self.bank = VoiceBank(sources.voices)
        self.voices = voices_for(recipe, self.bank.names)
        babble = recipe.snr_db is not None and recipe.noise == "babble"
        self.crowd = self.bank.crowd(self.voices, grammar.ALPHABET) if babble else []
        if babble and not self.crowd:
            what = f"{sources.voices} holds no other syllables by voice {' or '.join(self.voices)}"
            raise ValueError(f"noise is 'babble', made of syllables that no sentence holds: {what}; expected some, "
                             "or noise='white'")  # fmt: skip

    def cook(self, index: int) -> tuple[np.ndarray, np.ndarray | None, dict[str, Any]]:
        """Make clip `index`.

        Returns:
            Frames uint8 (T, H, W, 3); sound int16 (S,) or None; everything else, as JSON can hold it.
        """
        recipe = self.recipe
        plan = script.plan_clip(recipe, index, self.voices)
        video = synthesis.render_video(plan, recipe, index, self.glyphs, recipe.frames, recipe.image_size)
        audio = synthesis.render_audio(plan, recipe, index, self.bank, self.crowd)
        rng = recipe.rng(index, "text")
        caption = grammar.caption(rng, plan.sentence, recipe.language, script.HIDDEN[recipe.relation]["text"])
        labels = synthesis.label_clip(plan, recipe, self.glyphs)
        labels["pinyin"] = " ".join(pinyin_of(char) or "?" for char in plan.spoken)
        labels["synthetic"] = int(plan.voice == SYNTHETIC)
        times = [round(float(t), 4) for t in plan.onsets]
        note = {
            "text": grammar.mask_text(rng, caption, recipe.text_noise),
            "labels": labels,
            "words": list(zip(plan.written, times[:-1], times[1:], strict=True)),
            "present": self._present(index, labels, audio is not None),
        }
        return video, audio, note

    def _present(self, index: int, labels: dict[str, Any], sounds: bool) -> list[str]:
        """Decide which modalities a clip keeps: always at least one."""
        rng = self.recipe.rng(index, "missing")
        there = [name for name in script.MODALITIES if sounds or name != "audio"]
        lean = 0.0  # from -1 (first class) to 1 (last class)
        if self.missing_depends_on:
            names = grammar.CLASSES[self.missing_depends_on]
            lean = 2 * labels[self.missing_depends_on] / (len(names) - 1) - 1
        draws = dict(zip(script.MODALITIES, rng.random(len(script.MODALITIES)), strict=True))
        rates = {name: self.missing.get(name, 0.0) for name in there}
        kept = [name for name in there if draws[name] >= rates[name] + lean * min(rates[name], 1 - rates[name])]
        return kept or [there[int(rng.integers(len(there)))]]


def voices_for(recipe: Recipe, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the voices that speak in a recipe's split.

    Raises:
        ValueError: If a voice is to be kept for testing that is not there.
    """
    kept = recipe.test_voice
    if kept is None:
        return names
    if kept not in names:
        raise ValueError(f"test_voice is {kept!r}; expected one of {names}, or None")
    return tuple(name for name in names if (name == kept) == (recipe.split == "test"))


def generate(kitchen: Kitchen, size: int, folder: Path, workers: int | None = None) -> None:
    """Make clips 0 … size - 1 and write them as arrays that can be mapped into memory.

    Several processes make the same bytes as one.

    Args:
        kitchen: What to make.
        size: How many.
        folder: Where to; it exists.
        workers: Processes; by default one per core of this process, and fewer for few clips.

    Raises:
        OSError: If there is no room. What is there of the files is then of no use.
        RuntimeError: If a process dies at its work.

    Chapter: start/dataset.
    """
    r = kitchen.recipe
    shapes = {"video": (size, r.frames, r.image_size, r.image_size, 3), "audio": (size, round(r.seconds * RATE))}
    arrays = {name: new_array(folder / f"{name}.npy", TYPES[name], shape) for name, shape in shapes.items()}
    chunks = [range(start, min(start + CHUNK, size)) for start in range(0, size, CHUNK)]
    notes: list[dict[str, Any]] = [{}] * size
    with tqdm(total=size, desc="HanziClips", unit="clip", leave=False, disable=quiet()) as bar:
        offsets = {name: offset for name, (_, _, offset, _) in arrays.items()}
        for chunk, found in _run(partial(_cook_chunk, kitchen, folder, offsets), chunks, workers):
            notes[chunk.start : chunk.stop] = found
            bar.update(len(chunk))
    seal_arrays(folder, arrays, notes)


def fingerprint(sources: Sources, recipe: Recipe) -> bytes:
    """Return a hash of the ingredients that are read, so that clips made of others are not taken for these.

    Raises:
        FileNotFoundError: If a character's strokes are not there.
    """
    digest = hashlib.sha256()

    def add(name: str, data: bytes) -> None:
        digest.update(f"{name} {len(data)}\n".encode() + data)

    for char in grammar.ALPHABET:
        path = sources.strokes / f"{char}.json"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no strokes of {char!r} here; expected a file of hanzi-writer-data")
        add(char, path.read_bytes())
    bank = VoiceBank(sources.voices)
    if sources.voices is None:
        add(SYNTHETIC, metadata.version("espeakng-loader").encode())
    for path in bank.recordings(grammar.ALPHABET):
        add(f"{path.parent.name}/{path.name}", path.read_bytes())
    if recipe.snr_db is not None and recipe.noise == "babble":
        for path in bank.crowd_files(voices_for(recipe, bank.names), grammar.ALPHABET):
            add(f"{path.parent.name}/{path.name}", path.read_bytes())
    return digest.digest()


def _run(
    work: "partial[list[dict[str, Any]]]", chunks: list[range], workers: int | None
) -> Iterable[tuple[range, list[dict[str, Any]]]]:
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    workers = min(workers or min(cores, -(-len(chunks) // FEW)), len(chunks))
    if workers == 1 or multiprocessing.current_process().daemon:
        return ((chunk, work(chunk)) for chunk in chunks)
    return processes.call_each(work, chunks, workers, _lost)


def _lost(chunk: range, why: str) -> list[dict[str, Any]]:
    raise RuntimeError(f"clips {chunk.start} to {chunk.stop - 1} were not made: {why.replace('read', 'made')}")


def _cook_chunk(kitchen: Kitchen, folder: Path, offsets: dict[str, int], chunk: range) -> list[dict[str, Any]]:
    notes = []
    for index in chunk:
        video, audio, note = kitchen.cook(index)
        if audio is None:
            audio = np.zeros(round(kitchen.recipe.seconds * RATE), np.int16)
        notes.append(note | {"sum": write_clip(folder, offsets, index, video, audio)})
    return notes
