"""Single characters, cut from clips: how each is written, and how it is said.

Chapters: pretraining/autoencoder, pretraining/gan.
"""

from collections.abc import Iterable

import cv2
import numpy as np
import torch
from torch import Tensor

from mmlearn.batch import Batch, collate
from mmlearn.clip import Clip, Word
from mmlearn.datasets.hanzi import grammar
from mmlearn.datasets.hanzi.voices import RATE
from mmlearn.preprocessing.audio.features import LogMel
from mmlearn.preprocessing.audio.waveform import pad_or_cut

SOUND = 0.63  # seconds of sound a character: 64 steps of log-mel


def cut_characters(clips: Iterable[Clip], size: int = 32, alphabet: str = "".join(grammar.NUMBERS)) -> Batch:
    """Cut characters and their syllables out of clips in which what is written is also said.

    The picture is the last frame in which the character stands, as ink: 0 where there is paper, 1 where the pen was.
    The colours are gone, and the ink's centre of mass is in the middle. The sound begins with the character and ends
    with it; silence follows. Clips without noise are expected: a card over the writing would count as ink.

    Args:
        clips: E.g. `HanziClips(length=2)`, each of which holds a number and a thing.
        size: Side of the pictures in pixels.
        alphabet: The characters to cut; others are passed over.

    Returns:
        A batch with "image", float (B, 1, size, size) in [0, 1]; "audio", log-mel (B, 64, 64); and the label
        "character", an index into `alphabet`. An image or a syllable that a clip lacks is absent; a character that
        lacks both is left out.

    Raises:
        ValueError: If no character of the alphabet is in the clips.

    Chapters: pretraining/autoencoder, pretraining/gan.
    """
    found = [_cut(clip, word, size, alphabet.index(word.text)) for clip in clips for word in clip.words
             if word.text in alphabet]  # fmt: skip
    found = [character for character in found if character.streams]
    if not found:
        raise ValueError(f"the clips hold none of the characters {alphabet!r}; expected at least one, seen or heard")
    log_mel = LogMel()
    like = {"image": torch.zeros(1, size, size), "audio": log_mel(torch.zeros(int(SOUND * RATE)))}
    return collate(found, {"image": _to_tensor, "audio": log_mel}, like=like)


def _cut(clip: Clip, word: Word, size: int, label: int) -> Clip:
    """Return one character as a clip of its own: one frame, uint8 (size, size), and its syllable."""
    streams = {}
    if clip.video is not None:
        middles = clip.seconds("video") + 0.5 / clip.rates["video"]  # a frame is drawn as things are in its middle
        last = max(int(np.searchsorted(middles, word.end)) - 1, 0)
        streams["image"] = _ink(clip.video[last], size)
    if clip.audio is not None:
        said = clip.audio[round(word.start * RATE) : round(word.end * RATE)]
        if said.any():  # a syllable that nobody recorded is silent
            streams["audio"] = pad_or_cut(said, int(SOUND * RATE))
    return Clip(streams, labels={"character": label}, name=f"{clip.name}-{word.text}")


def _ink(frame: np.ndarray, size: int) -> np.ndarray:
    """Return how far each pixel of a frame (H, W, 3) is from the paper's colour: uint8 (size, size), ink = 255."""
    paper = np.median(frame.reshape(-1, 3), axis=0)  # most of a page is paper
    ink = np.linalg.norm(frame - paper, axis=2).astype(np.float32)  # (H, W)
    ink /= max(float(ink.max()), 1.0)
    height, width = ink.shape
    y, x = (float((place * ink).sum() / max(ink.sum(), 1e-6)) for place in np.indices(ink.shape))  # centre of mass
    shift = np.array([[1, 0, (width - 1) / 2 - x], [0, 1, (height - 1) / 2 - y]])
    centred = cv2.warpAffine(ink, shift, (width, height))
    return np.rint(255 * cv2.resize(centred, (size, size), interpolation=cv2.INTER_AREA)).astype(np.uint8)


def _to_tensor(ink: np.ndarray) -> Tensor:
    """Uint8 (H, W) → float (1, H, W) in [0, 1]."""
    return torch.from_numpy(ink)[None].float() / 255
