"""The files of the GRID corpus: names that spell sentences, alignments, and what one clip decodes to.

Chapter: start/dataset.
"""

import hashlib
import threading
from collections.abc import Sequence
from math import gcd
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from scipy.signal import resample_poly

from mmlearn import media
from mmlearn.clip import Word
from mmlearn.preprocessing.faces.mtcnn import PACKAGE

HOME = "https://zenodo.org/records/3625687 (CC BY 4.0)"
FRAMES, FPS, RATE = 75, 25, 16_000
SAMPLES = FRAMES * RATE // FPS
TICKS = 25_000  # an alignment's units in a second
VIDEO_FILES = (".mp4", ".mpg", ".avi")

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
# A file's name spells its sentence, one character a word: "bbaf2n" = bin blue at f two now.
WORDS: dict[str, dict[str, str]] = {
    "command": {"b": "bin", "l": "lay", "p": "place", "s": "set"},
    "colour": {"b": "blue", "g": "green", "r": "red", "w": "white"},
    "preposition": {"a": "at", "b": "by", "i": "in", "w": "with"},
    "letter": {letter: letter for letter in "abcdefghijklmnopqrstuvxyz"},  # no w: its name is three syllables long
    "digit": dict(zip("z123456789", DIGITS, strict=True)),
    "adverb": {"a": "again", "n": "now", "p": "please", "s": "soon"},
}

Crop = tuple[float, float, float, float] | Literal["mouth"]
# Top, left, height, width of talker 1's mouth with room for his moving about, in fractions of the picture:
# 48×64 of 144×180 pixels. Whoever else talks sits elsewhere: "mouth" finds it in each frame.
MOUTH_S1 = (82 / 144, 48 / 180, 48 / 144, 64 / 180)
SMALLEST, SMOOTH, WIDTH = 6, 0.1, 2.4  # of a tracked crop: height / smallest face, seconds, distances between the eyes
TRACKED = [
    SMALLEST,
    SMOOTH,
    WIDTH,
    PACKAGE,
    1,
]  # what a tracked crop rests on; 1: version of mmlearn.preprocessing.faces
_one_at_a_time = threading.Lock()


def find_clips(root: Path, speaker: str) -> list[Path]:
    """Return a talker's video files, sorted by name."""
    if not (root / speaker).is_dir():
        raise FileNotFoundError(f"{root / speaker}: no such folder; download the GRID corpus from {HOME}")
    found = [p for folder in (root / speaker / "video", root / speaker) for p in sorted(folder.glob("[!.]*.*"))]
    by_name = {path.stem: path for path in found if path.suffix.lower() in VIDEO_FILES}
    files = [by_name[name] for name in sorted(by_name)]
    if not files:
        raise FileNotFoundError(f"{root / speaker}: no {', '.join(VIDEO_FILES)} file in it; "
                                f"download the GRID corpus from {HOME}")  # fmt: skip
    return files


def labels_of(name: str) -> dict[str, int]:
    """Return the six classes that a clip's name spells.

    Raises:
        ValueError: If the name is not one of GRID's.
    """
    stem = name.rsplit("/", 1)[-1]
    if len(stem) != len(WORDS) or any(c not in words for c, words in zip(stem, WORDS.values(), strict=True)):
        raise ValueError(f"{name}: not a name of the GRID corpus; expected one like bbaf2n for bin blue at f two now")
    return {label: list(words).index(c) for c, (label, words) in zip(stem, WORDS.items(), strict=True)}


def read_words(path: Path) -> list[Word]:
    """Read an alignment: lines of start, end (in 1/25000 s) and word; silence is left out.

    Raises:
        ValueError: If a line is something else, or runs backwards.
    """
    words = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        fields = line.split()
        if len(fields) != 3 or not (fields[0].isdigit() and fields[1].isdigit()) or int(fields[0]) > int(fields[1]):
            raise ValueError(f"{path}: line {number} is {line!r}; expected START END WORD")
        if fields[2] not in ("sil", "sp"):
            words.append(Word(fields[2], int(fields[0]) / TICKS, int(fields[1]) / TICKS))
    return words


def split_of(files: Sequence[Path], seed: int) -> dict[str, str]:
    """Return each clip's split: of every talker, the fifth of the names with the lowest hash is "test"."""
    part: dict[str, str] = {}
    for folder in {folder_of(path) for path in files}:
        names = [name_of(path) for path in files if folder_of(path) == folder]
        names.sort(key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
        part |= {name: "test" if k < len(names) // 5 else "train" for k, name in enumerate(names)}
    return part


def crop_of(crop: Any, speakers: Sequence[str]) -> Crop:
    """Return what to cut out, as four numbers or "mouth"; None is the fixed mouth where talker 1 is the only one.

    Raises:
        ValueError: If it is something else.
    """
    if crop is None:
        return MOUTH_S1 if set(speakers) == {"s1"} else "mouth"
    if isinstance(crop, str) and crop == "mouth":
        return "mouth"
    try:
        top, left, height, width = crop
        good = min(top, left) >= 0 and min(height, width) > 0 and top + height <= 1.000001 and left + width <= 1.000001
    except (TypeError, ValueError):
        good = False
    if not good:
        raise ValueError(f'crop is {crop!r}; expected "mouth", or (top, left, height, width) within the picture, which '
                         "is 1 by 1")  # fmt: skip
    return top, left, height, width


def decode(path: Path, image_size: tuple[int, int], crop: Crop) -> tuple[np.ndarray, np.ndarray, list[Word]]:
    """Read one clip: its frames, its sound and its words.

    Args:
        path: The video file.
        image_size: Height and width of the result.
        crop: Top, left, height and width in fractions of the picture, or "mouth", which finds it.

    Returns:
        video uint8 (75, H, W, 3), audio int16 (48000,), and the words; none where there is no alignment.

    Raises:
        ValueError: If the video, its name or its alignment is unusable.
    """
    labels_of(path.stem)
    align = alignment_of(path)
    words = [] if align is None else read_words(align)

    found = media.read_mp4(path, overshoot=True)  # cut below, where it becomes 16 bit
    if found.video is None or found.audio is None or found.sample_rate is None or not len(found.audio):
        raise ValueError(f"{path}: found no {'pictures' if found.video is None else 'sound'}; expected both")
    if abs(len(found.video) - FRAMES) > 1:
        raise ValueError(f"{path}: found {len(found.video)} frames; expected {FRAMES}")
    video = np.empty((FRAMES, *image_size, 3), np.uint8)
    pictures = _mouth(path, found.video, image_size) if crop == "mouth" else _cut(path, found.video, image_size, crop)
    for k in range(FRAMES):  # where one frame is lacking, the last one stays
        video[k] = pictures[min(k, len(pictures) - 1)]
    audio = found.audio.astype(np.float64)
    if found.sample_rate != RATE:
        common = gcd(RATE, found.sample_rate)
        audio = resample_poly(audio, RATE // common, found.sample_rate // common)
    audio = np.pad(audio, (0, max(0, SAMPLES - len(audio))))[:SAMPLES]
    return video, np.clip(np.round(audio * 32768), -32768, 32767).astype(np.int16), words


def _cut(path: Path, video: np.ndarray, size: tuple[int, int], crop: tuple[float, float, float, float]) -> np.ndarray:
    """Cut the same rectangle out of all frames."""
    height, width = video.shape[1:3]
    top, bottom = round(crop[0] * height), round((crop[0] + crop[2]) * height)
    left, right = round(crop[1] * width), round((crop[1] + crop[3]) * width)
    if top == bottom or left == right:
        raise ValueError(f"{path}: crop {crop} leaves no pixel of {height}×{width}")
    inside = video[:, top:bottom, left:right]
    return np.stack([cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA) for picture in inside])


def _mouth(path: Path, video: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Find the mouth in all frames and cut it out; a face is at least a sixth as high as the picture."""
    from mmlearn.preprocessing.faces.tracking import crop_mouth, track_face  # here: torchvision takes seconds to import

    smallest = max(20, min(video.shape[1:3]) // SMALLEST)
    with _one_at_a_time:  # the networks use all cores themselves
        try:
            track = track_face(video, np.arange(len(video)) / FPS, min_size=smallest, smooth=SMOOTH)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    return crop_mouth(video, track, size, width=WIDTH)


def alignment_of(path: Path) -> Path | None:
    """Return a clip's alignment file, wherever the layout keeps it."""
    folder = folder_of(path)
    places = (folder, folder / "align", folder.parent / "alignments" / folder.name)
    return next((p for place in places if (p := place / f"{path.stem}.align").is_file()), None)


def folder_of(path: Path) -> Path:
    """Return the talker's folder."""
    return path.parent.parent if path.parent.name == "video" else path.parent


def name_of(path: Path) -> str:
    """Return a clip's name, such as "s1/bbaf2n"."""
    return f"{folder_of(path).name}/{path.stem}"
