"""How long the voice of benchmarks/speech_grid.py is trained: chosen on the 80 validation sentences, over 3 seeds.

Run `python -m benchmarks.speech_epochs PATH-OF-GRID` (about 20 minutes of one core); it writes
benchmarks/results/speech_epochs.json. No test clip is looked at. What is finished is kept in _build/speech_epochs/.
"""

import shutil
import sys
from functools import partial
from typing import Any

import torch

import mmlearn
from benchmarks import speech_grid
from benchmarks.report import UNFINISHED, begin, keep, save, spread
from mmlearn import Batch, fit
from mmlearn.finetuning.speech import CTC, FrameWise

SEEDS = [0, 1, 2]
CLEAN = 10  # epochs of clean sound first, in both
CHOICES = {"fewer": {"noise": 20, "CTC": 8}, "more": {"noise": 36, "CTC": 10}}  # epochs with noise, then of CTC


def train(parts: dict[str, Batch], epochs: dict[str, int], seed: int) -> dict[str, float]:
    """Train the voice as speech_grid does; the word error rates of the validation sentences."""
    crowd = parts["train"].data["audio"]
    valid = {level: speech_grid.at(level, parts["valid"], crowd, seed=1) for level in ("clean", "0 dB")}
    voice, clean = (speech_grid.only(batch, "audio") for batch in (parts["train"], valid["clean"]))
    heard = speech_grid.only(speech_grid.join(*valid.values()), "audio")
    quiet, noisy = (partial(speech_grid.augment, crowd=crowd, noisy=noise) for noise in (False, True))
    mmlearn.seed_everything(seed)
    model = speech_grid.build("audio")
    common: dict[str, Any] = {"batch_size": 24, "seed": seed, "progress": False}
    fit(model, voice, clean, FrameWise(), epochs=CLEAN, lr=3e-3, augment=quiet, **common)
    fit(model, voice, heard, FrameWise(), epochs=epochs["noise"], lr=3e-3, augment=noisy, **common)
    history = fit(model, voice, heard, CTC(), epochs=epochs["CTC"], lr=1e-3, augment=noisy, **common)
    best = min(history, key=lambda row: row["error_rate"])
    return {"error_rate": best["error_rate"], "loss": best["valid_loss"]}


def main(root: str) -> None:
    begin("speech_epochs")
    torch.set_num_threads(1)
    parts = speech_grid.load(root)
    parts["train"].labels["clip"] = torch.arange(len(parts["train"]))
    folder = UNFINISHED / "speech_epochs"
    found = {}
    for name, epochs in CHOICES.items():
        about = {"clean": CLEAN, "epochs": epochs}
        rows = [keep(folder / f"{name}-{seed}.json", about, partial(train, parts, epochs, seed)) for seed in SEEDS]
        found[name] = {key: spread([row[key] for row in rows]) for key in rows[0]} | {"epochs": epochs}
    save("speech_epochs", {"clips": len(parts["valid"]), "seeds": SEEDS, "choices": found})
    shutil.rmtree(folder)


if __name__ == "__main__":
    main(sys.argv[1])
