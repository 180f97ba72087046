"""Grid: real people who speak six-word sentences into a camera.

The GRID audio-visual sentence corpus (Cooke, Barker, Cunningham and Shao, JASA 2006): "bin blue at f two now", three
seconds each, 25 frames a second, with the time of every word.

Chapter: start/dataset.
"""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from mmlearn.clip import Clip, Word
from mmlearn.datasets.grid_corpus import (
    FPS,
    FRAMES,
    MOUTH_S1,
    RATE,
    SAMPLES,
    WORDS,
    alignment_of,
    decode,
    find_clips,
    labels_of,
    name_of,
    split_of,
)  # fmt: skip
from mmlearn.runtime import home, quiet


class Grid:
    """Clips of GRID: the mouth (video), the voice (audio), and the sentence (text).

    Each `grid[i]` is a `Clip` with video uint8 (75, H, W, 3) at 25 fps, audio float32 (48000,) at 16 kHz, the sentence
    as text, its words with their times, and six labels: "command" (4 classes), "colour" (4), "preposition" (4),
    "letter" (25), "digit" (10; the class is the digit) and "adverb" (4); `grid.classes` names them.

    Files are decoded once and kept as memory-mapped arrays under `home()/grid`. A file that cannot be used is left out
    with a warning, and stands in `grid.skipped` with the reason.

    Args:
        root: The folder with a folder for each talker: `s1/NAME.mp4` and `s1/NAME.align`, or as the corpus comes:
            `s1/NAME.mpg` or `s1/video/NAME.mpg`, with `alignments/s1/NAME.align` or `s1/align/NAME.align`.
        speakers: The talkers, by folder name.
        split: "train" (80 % of each talker), "test" (the rest), or None for all. The files' names alone decide.
        image_size: Height and width of the frames, in pixels.
        crop: Top, left, height and width of what to cut out, in fractions of the picture. By default the mouth of
            talker 1; other talkers need their own.
        seed: Another seed gives another split.
        cache: Keep the decoded arrays on disk; otherwise in memory.
        workers: How many files are decoded at a time; by default the number of CPUs.
        strict: Raise at the first file that cannot be used.

    Raises:
        FileNotFoundError: If `root` or a talker's folder is missing or holds no clip.
        ValueError: If an argument has an unusable value or, with `strict`, at a bad file.

    Chapter: start/dataset.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        speakers: Sequence[str] = ("s1",),
        split: str | None = None,
        image_size: tuple[int, int] = (48, 64),
        crop: tuple[float, float, float, float] = MOUTH_S1,
        seed: int = 0,
        cache: bool = True,
        workers: int | None = None,
        strict: bool = False,
    ) -> None:
        if split not in ("train", "test", None):
            raise ValueError(f'split is {split!r}; expected "train", "test" or None')
        if len(image_size) != 2 or min(image_size) < 1:
            raise ValueError(f"image_size is {image_size}; expected (height, width) in pixels")
        top, left, height, width = crop
        if min(top, left) < 0 or min(height, width) <= 0 or top + height > 1.000001 or left + width > 1.000001:
            raise ValueError(f"crop is {crop}; expected (top, left, height, width) within the picture, which is 1 by 1")
        self.root = Path(root)
        self.classes = {label: list(words.values()) for label, words in WORDS.items()}
        files = [path for speaker in speakers for path in find_clips(self.root, speaker)]
        how = {"image_size": tuple(image_size), "crop": tuple(crop)}
        self._video, self._audio, index = _load(files, how, cache=cache, workers=workers, strict=strict)
        self.skipped: dict[str, str] = index["skipped"]
        if self.skipped:
            name, reason = next(iter(self.skipped.items()))
            warnings.warn(f"Grid left out {len(self.skipped)} of {len(files)} clips; {name}: {reason}", stacklevel=2)
        part = split_of(files, seed)
        self._rows: list[tuple[int, str, list[Any]]] = [r for r in index["clips"] if split in (None, part[r[1]])]

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self._rows)

    def __getitem__(self, index: int) -> Clip:
        """Return a clip; its arrays are its own."""
        row, name, words = self._rows[index]
        labels = labels_of(name)
        text = " ".join(self.classes[label][k] for label, k in labels.items())
        audio = self._audio[row].astype(np.float32) / 32768  # (48000,)
        return Clip(
            streams={"video": np.array(self._video[row]), "audio": audio, "text": text},
            rates={"video": FPS, "audio": RATE},
            words=[Word(*word) for word in words],
            labels=dict(labels),
            name=name,
        )

    @property
    def names(self) -> list[str]:
        """The clips' names, such as "s1/bbaf2n", in order."""
        return [name for _, name, _ in self._rows]


def _load(
    files: list[Path], how: dict[str, Any], *, cache: bool, workers: int | None, strict: bool
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Return all clips' frames and sounds, and their index, decoded now or before."""
    stamps = [(name_of(p), *(q.stat().st_size if q else None for q in (p, alignment_of(p)))) for p in files]
    key = hashlib.sha256(json.dumps([1, stamps, how]).encode()).hexdigest()[:16]  # 1: version of this module's output
    folder = home() / "grid" / key
    if not cache or not folder.is_dir():
        part = folder.with_name(f".{key}.{os.getpid()}.part")
        if cache:
            part.mkdir(parents=True)
        try:
            arrays = _decode_all(files, part if cache else None, workers, strict, how)
            if not cache:
                return arrays
            (part / "index.json").write_text(json.dumps(arrays[2]), encoding="utf-8")
            del arrays
            if not folder.is_dir():  # else another process was faster
                os.replace(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    if strict and index["skipped"]:
        raise ValueError(next(iter(index["skipped"].values())))
    return np.load(folder / "video.npy", mmap_mode="r"), np.load(folder / "audio.npy", mmap_mode="r"), index


def _decode_all(
    files: list[Path], folder: Path | None, workers: int | None, strict: bool, how: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Decode files into arrays in memory or, with a folder, on disk. PyAV and OpenCV let threads run side by side."""

    def new(name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        if folder is None:
            return np.zeros(shape, dtype)
        return np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, shape)

    def attempt(path: Path) -> tuple[np.ndarray, np.ndarray, list[Word]] | ValueError:
        try:
            return decode(path, **how)
        except ValueError as error:
            return error

    video = new("video", (len(files), FRAMES, *how["image_size"], 3), np.uint8)
    audio = new("audio", (len(files), SAMPLES), np.int16)
    index: dict[str, Any] = {"clips": [], "skipped": {}}
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        try:
            results = tqdm(pool.map(attempt, files), "Decoding GRID", len(files), unit="clip", disable=quiet())
            for row, (path, result) in enumerate(zip(files, results, strict=True)):
                if isinstance(result, ValueError):
                    if strict:
                        raise result
                    index["skipped"][name_of(path)] = str(result)
                    continue
                video[row], audio[row], words = result
                index["clips"].append([row, name_of(path), [(word.text, word.start, word.end) for word in words]])
        finally:
            pool.shutdown(cancel_futures=True)
    if not index["clips"]:
        raise ValueError(f"none of {len(files)} clips can be used; {next(iter(index['skipped'].values()))}")
    return video, audio, index
