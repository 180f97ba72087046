"""Generate many clips into arrays on disk, with several processes.

Chapter: start/dataset.
"""

import hashlib
import json
import multiprocessing
import os
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from tqdm.auto import tqdm

from mmlearn.datasets import composing, grammar, planning
from mmlearn.datasets.planning import Recipe
from mmlearn.datasets.pronounce import pinyin_of
from mmlearn.datasets.rendering import load_glyph
from mmlearn.datasets.voices import RATE, SYNTHETIC, VoiceBank
from mmlearn.runtime import quiet

CHUNK = 50  # clips that a process makes at a time


class Sources(Protocol):
    """Where the ingredients lie; `mmlearn.datasets.fetch.HanziSources` is one."""

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
        ValueError: If a voice is to be kept for testing that is not there.

    Chapter: start/dataset.
    """

    def __init__(self, recipe: Recipe, sources: Sources, missing: dict[str, float],
                 missing_depends_on: str | None) -> None:  # fmt: skip
        self.recipe, self.missing, self.missing_depends_on = recipe, missing, missing_depends_on
        self.glyphs = {char: load_glyph(sources.strokes / f"{char}.json") for char in grammar.ALPHABET}
        self.bank = VoiceBank(sources.voices)
        self.voices: tuple[str, ...] = self.bank.names
        kept = recipe.test_voice
        if kept is not None:
            if kept not in self.bank.names:
                raise ValueError(f"test_voice is {kept!r}; expected one of {self.bank.names}, or None")
            self.voices = tuple(v for v in self.voices if (v == kept) == (recipe.split == "test"))
        babble = recipe.snr_db is not None and recipe.noise == "babble"
        self.crowd = self.bank.crowd(self.voices, grammar.ALPHABET) if babble else []

    def cook(self, index: int) -> tuple[np.ndarray, np.ndarray | None, dict[str, Any]]:
        """Make clip `index`.

        Returns:
            Frames uint8 (T, H, W, 3); sound int16 (S,) or None; everything else, as JSON can hold it.
        """
        recipe = self.recipe
        plan = planning.plan_clip(recipe, index, self.voices)
        video = composing.render_video(plan, recipe, index, self.glyphs, recipe.frames, recipe.image_size)
        audio = composing.render_audio(plan, recipe, index, self.bank, self.crowd)
        rng = recipe.rng(index, "text")
        caption = grammar.caption(rng, plan.sentence, recipe.language, planning.HIDDEN[recipe.relation]["text"])
        labels = composing.label_clip(plan, recipe, self.glyphs)
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
        there = [name for name in planning.MODALITIES if sounds or name != "audio"]
        lean = 0.0  # from -1 (first class) to 1 (last class)
        if self.missing_depends_on:
            names = grammar.CLASSES[self.missing_depends_on]
            lean = 2 * labels[self.missing_depends_on] / (len(names) - 1) - 1
        draws = dict(zip(planning.MODALITIES, rng.random(len(planning.MODALITIES)), strict=True))
        rates = {name: self.missing.get(name, 0.0) for name in there}
        kept = [name for name in there if draws[name] >= rates[name] + lean * min(rates[name], 1 - rates[name])]
        return kept or [there[int(rng.integers(len(there)))]]


@dataclass
class Arrays:
    """The clips on disk: frames uint8 (N, T, H, W, 3), sound int16 (N, S), and a note on each.

    Chapter: start/dataset.
    """

    video: np.ndarray
    audio: np.ndarray
    notes: list[dict[str, Any]]


def open_arrays(folder: Path) -> Arrays:
    """Open what `generate` wrote; the large arrays stay on disk and are mapped into memory."""
    video, audio = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("video", "audio"))
    return Arrays(video, audio, json.loads((folder / "notes.json").read_text(encoding="utf-8")))


def generate(kitchen: Kitchen, size: int, folder: Path, workers: int | None = None) -> None:
    """Make clips 0 … size - 1 and write them as memory-mapped arrays.

    Processes are forked where that is safe to do (Linux); elsewhere the clips are made one after another. Either way
    the bytes are the same.

    Args:
        kitchen: What to make.
        size: How many.
        folder: Where to; it exists.
        workers: Processes; by default one per core of this process.

    Chapter: start/dataset.
    """
    r = kitchen.recipe
    shapes = {"video": (size, r.frames, r.image_size, r.image_size, 3), "audio": (size, round(r.seconds * RATE))}
    types = {"video": np.uint8, "audio": np.int16}
    out = {n: np.lib.format.open_memmap(folder / f"{n}.npy", "w+", types[n], shapes[n]) for n in shapes}
    chunks = [range(start, min(start + CHUNK, size)) for start in range(0, size, CHUNK)]
    notes: list[dict[str, Any]] = [{}] * size
    with tqdm(total=size, desc="HanziClips", unit="clip", leave=False, disable=quiet()) as bar:
        for chunk, found in _run(kitchen, out, chunks, workers):
            notes[chunk.start : chunk.stop] = found
            bar.update(len(chunk))
    for array in out.values():
        array.flush()
    (folder / "notes.json").write_text(json.dumps(notes, ensure_ascii=False), encoding="utf-8")


def fingerprint(sources: Sources) -> bytes:
    """Return a hash of the ingredients, so that clips made of others are not taken for these.

    Raises:
        FileNotFoundError: If a character's strokes are not there.
    """
    digest = hashlib.sha256()
    for char in grammar.ALPHABET:
        path = sources.strokes / f"{char}.json"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no strokes of {char!r} here; expected a file of hanzi-writer-data")
        digest.update(path.read_bytes())
    names = sorted(path.name for path in sources.voices.iterdir()) if sources.voices else [SYNTHETIC]
    digest.update("\n".join(names).encode())
    return digest.digest()


def _run(kitchen: Kitchen, out: Mapping[str, np.ndarray], chunks: list[range],
         workers: int | None) -> Iterable[tuple[range, list[dict[str, Any]]]]:  # fmt: skip
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
    workers = min(workers or cores, len(chunks))
    if workers == 1 or sys.platform != "linux" or multiprocessing.current_process().daemon:
        _begin(kitchen, out)
        yield from ((chunk, _cook_chunk(chunk)) for chunk in chunks)
        return
    context = multiprocessing.get_context("fork")  # the arrays and the kitchen are inherited, not copied
    with ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(kitchen, out)) as pool:
        jobs = {pool.submit(_cook_chunk, chunk): chunk for chunk in chunks}
        for job in as_completed(jobs):
            yield jobs[job], job.result()


_here: tuple[Kitchen, Mapping[str, np.ndarray]]  # of this process


def _begin(kitchen: Kitchen, out: Mapping[str, np.ndarray]) -> None:
    global _here
    _here = kitchen, out
    if multiprocessing.parent_process() is not None:
        cv2.setNumThreads(0)  # OpenCV's threads did not survive the fork


def _cook_chunk(chunk: range) -> list[dict[str, Any]]:
    kitchen, out = _here
    notes = []
    for index in chunk:
        video, audio, note = kitchen.cook(index)
        out["video"][index] = video
        if audio is not None:
            out["audio"][index] = audio
        notes.append(note)
    return notes
