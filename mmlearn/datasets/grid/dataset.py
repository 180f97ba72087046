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
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from mmlearn import files as storage
from mmlearn.clip import Clip, Word
from mmlearn.datasets.arrays import SEAL, is_whole, new_array, open_arrays, seal_arrays, sum_of, write_clip
from mmlearn.datasets.grid.corpus import (
    FPS,
    FRAMES,
    RATE,
    SAMPLES,
    TRACKED,
    WORDS,
    Crop,
    alignment_of,
    crop_of,
    decode,
    find_clips,
    labels_of,
    name_of,
    split_of,
)  # fmt: skip
from mmlearn.media.container import local_path
from mmlearn.runtime import home, quiet


class Grid:
    """Clips of GRID: the mouth (video), the voice (audio), and the sentence (text).

    Each `grid[i]` is a `Clip` with video uint8 (75, H, W, 3) at 25 fps, audio float32 (48000,) at 16 kHz, the sentence
    as text, its words with their times, and six labels: "command" (4 classes), "colour" (4), "preposition" (4),
    "letter" (25), "digit" (10; the class is the digit) and "adverb" (4); `grid.classes` names them.

    Files are decoded once and kept as memory-mapped arrays under `home()/grid`. A file that cannot be used is left out
    with a warning, and stands in `grid.skipped` with the reason. A clip without an alignment is kept, for its name
    spells the sentence, but has no `words`: one warning counts these, and `grid.untimed` names them.

    Args:
        root: The folder with a folder for each talker: `s1/NAME.mp4` and `s1/NAME.align`, or as the corpus comes:
            `s1/NAME.mpg` or `s1/video/NAME.mpg`, with `alignments/s1/NAME.align` or `s1/align/NAME.align`.
        speakers: The talkers, by folder name.
        split: "train" (80 % of each talker), "test" (the rest), or None for all. The files' names alone decide.
        image_size: Height and width of the frames, in pixels.
        crop: What to cut out. "mouth": the mouth, found and followed in each clip (`mmlearn.preprocessing.faces`), in
            the middle and upright; a clip without a face is left out. Or top, left, height and width in fractions of
            the picture, the same for all frames. By default a fixed rectangle, `corpus.MOUTH_S1`, where talker 1
            ("s1") is the only one, and "mouth" for all other talkers.
        seed: Another seed gives another split.
        cache: Keep the decoded arrays on disk; otherwise in memory.
        workers: How many files are decoded at a time; by default the number of CPUs.
        strict: Raise at the first file that cannot be used.

    Raises:
        FileNotFoundError: If `root` or a talker's folder is missing or holds no clip.
        ValueError: If an argument has an unusable value or, with `strict`, at a bad file.
        FetchError: With "mouth", if the networks that find faces (2 MB) are not there and cannot be fetched.

    Chapter: start/dataset.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        speakers: Sequence[str] = ("s1",),
        split: str | None = None,
        image_size: tuple[int, int] = (48, 64),
        crop: Crop | None = None,
        seed: int = 0,
        cache: bool = True,
        workers: int | None = None,
        strict: bool = False,
    ) -> None:
        if split not in ("train", "test", None):
            raise ValueError(f'split is {split!r}; expected "train", "test" or None')
        if len(image_size) != 2 or min(image_size) < 1:
            raise ValueError(f"image_size is {image_size}; expected (height, width) in pixels")
        self.root = Path(local_path(root))
        self.classes = {label: list(words.values()) for label, words in WORDS.items()}
        files = [path for speaker in speakers for path in find_clips(self.root, speaker)]
        how = {"image_size": tuple(image_size), "crop": crop_of(crop, speakers)}
        self._source: dict[str, Any] = {
            "files": files,
            "how": how,
            "cache": cache,
            "workers": workers,
            "strict": strict,
        }
        index = self._open()
        self.skipped: dict[str, str] = index["skipped"]
        if self.skipped:
            name, reason = next(iter(self.skipped.items()))
            warnings.warn(f"Grid left out {len(self.skipped)} of {len(files)} clips; {name}: {reason}", stacklevel=2)
        self.untimed: list[str] = [name for _, name, words in index["clips"] if not words]
        if self.untimed:
            warnings.warn(f"Grid: {len(self.untimed)} of {len(files)} clips have no words with times, because their "
                          f".align file is missing or empty: {', '.join(self.untimed[:3])}", stacklevel=2)  # fmt: skip
        part = split_of(files, seed)
        self._rows: list[tuple[int, str, list[Any]]] = [r for r in index["clips"] if split in (None, part[r[1]])]

    def _open(self) -> dict[str, Any]:
        self._video, self._audio, index = _load(**self._source)
        self._sums = index["sums"]
        self._checked = bytearray(len(self._video))  # 1: this clip is what was written
        return index

    def __getstate__(self) -> dict[str, Any]:
        """Leave arrays that are on disk out of a pickle: they are opened again."""
        own = ("_video", "_audio", "_checked", "_sums") if self._source["cache"] else ()
        return {name: value for name, value in self.__dict__.items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the arrays, or decode the clips again where they are not."""
        self.__dict__.update(state)
        if self._source["cache"]:
            self._open()

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self._rows)

    def __iter__(self) -> Iterator[Clip]:
        """Go through all clips in their order."""
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Clip:
        """Return a clip; its arrays are its own."""
        row, name, words = self._rows[index]
        if not self._checked[row]:
            if sum_of(self._video[row], self._audio[row]) != self._sums[row]:
                warnings.warn(f"the kept copy of {name} was damaged; all clips are decoded again", stacklevel=2)
                (Path(self._video.filename).parent / SEAL).unlink()  # type: ignore[attr-defined]
                self._open()
            self._checked[row] = 1
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
    if not cache:
        return _decode_all(files, None, workers, strict, how)
    stamps = [(name_of(p), *(q.stat().st_size if q else "no file" for q in (p, alignment_of(p)))) for p in files]
    settings = [2, stamps, how, *([TRACKED] if how["crop"] == "mouth" else [])]  # 2: version of this module's output
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
    folder = home() / "grid" / key
    try:
        if not is_whole(folder):
            _make(folder, files, workers, strict, how)
    except OSError as error:
        if error.filename and not str(error.filename).startswith(str(home())):  # one of GRID's files
            raise
        if error.errno not in storage.READ_ONLY:
            raise storage.with_remedy(error, home(), "cache=False") from error
        warnings.warn(f"clips are not kept: {storage.with_remedy(error, home(), 'cache=False')}", stacklevel=4)
        return _decode_all(files, None, workers, strict, how)
    arrays = open_arrays(folder)
    index: Any = arrays.notes
    if strict and index["skipped"]:
        raise ValueError(next(iter(index["skipped"].values())))
    return arrays.video, arrays.audio, index


def _make(folder: Path, files: list[Path], workers: int | None, strict: bool, how: dict[str, Any]) -> None:
    """Decode all files into arrays in a folder."""
    with storage.locked(folder.with_name(f".{folder.name}.lock"), "decodes the same clips of GRID"):
        if not is_whole(folder):  # else another process was faster
            shutil.rmtree(folder, ignore_errors=True)  # damaged
            with storage.unfinished(folder) as part:
                (part / "clips").mkdir()
                _decode_all(files, part / "clips", workers, strict, how)
                os.replace(part / "clips", folder)


def _decode_all(
    files: list[Path], folder: Path | None, workers: int | None, strict: bool, how: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Decode files into arrays in memory or, with a folder, on disk. PyAV and OpenCV let threads run side by side."""

    def attempt(path: Path) -> tuple[np.ndarray, np.ndarray, list[Word]] | ValueError:
        try:
            return decode(path, **how)
        except ValueError as error:
            return error

    shapes = {"video": (len(files), FRAMES, *how["image_size"], 3), "audio": (len(files), SAMPLES)}
    memory = {name: np.zeros(shapes[name] if folder is None else 0, kind) for name, kind in TYPES.items()}
    disk = {name: new_array(folder / f"{name}.npy", TYPES[name], shapes[name]) for name in TYPES if folder}
    offsets = {name: offset for name, (_, _, offset, _) in disk.items()}
    index: dict[str, Any] = {"clips": [], "skipped": {}, "sums": [0] * len(files)}
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        try:
            results = tqdm(pool.map(attempt, files), "Decoding GRID", len(files), unit="clip", disable=quiet())
            for row, (path, result) in enumerate(zip(files, results, strict=True)):
                if isinstance(result, ValueError):
                    if strict:
                        raise result
                    index["skipped"][name_of(path)] = str(result)
                    continue
                video, audio, words = result
                if folder:
                    write_clip(folder, offsets, row, video, audio)
                else:
                    memory["video"][row], memory["audio"][row] = video, audio
                index["sums"][row] = sum_of(video, audio)
                index["clips"].append([row, name_of(path), [(word.text, word.start, word.end) for word in words]])
        finally:
            pool.shutdown(cancel_futures=True)
    if not index["clips"]:
        raise ValueError(f"none of {len(files)} clips can be used; {next(iter(index['skipped'].values()))}")
    if folder:
        seal_arrays(folder, disk, index)
    return memory["video"], memory["audio"], index


TYPES = {"video": np.uint8, "audio": np.int16}
