"""Every fusion on real talking faces in noise: the digit from lips and voice; chapter fusion/choosing, 3 seeds.

Run `python -m benchmarks.fusion_grid PATH-OF-GRID` (about 13 minutes on one core); it writes
benchmarks/results/fusion_grid.json.

Clips and encoders are those of benchmarks/grid.py; the audio encoder learns from clean sound first, then at all noise
levels. Both are frozen, and each fusion is trained on their features as in benchmarks/fusion.py, with pictures moved a
little and a noise level drawn again for each clip in each epoch. The noise is babble: six of the same talker's training
clips at once, mixed into test clips, too; which six, and where they begin, is drawn for each clip and level.
"""

import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import mmlearn
from benchmarks.first_model import accuracy
from benchmarks.fusion import METHODS, answer, encode, standardize
from benchmarks.grid import EPOCHS, build, load, shift
from benchmarks.report import begin, save, spread
from mmlearn import Batch, Clip, collate, fit, predict
from mmlearn.finetuning import Classification
from mmlearn.preprocessing.audio import LogMel, mix
from mmlearn.preprocessing.video import to_motion

SEEDS = [0, 1, 2]
NAMES = ["video", "audio"]
RATES = {"video": 25 / 3, "audio": 12.5 / 2}  # steps a second that the encoders give
LABEL, CLASSES = "digit", 10
LEVELS = {"clean": None, "5 dB": 5.0, "0 dB": 0.0, "-5 dB": -5.0, "-10 dB": -10.0}  # speech over babble
VOICES = 6
MOVED = 3  # versions of each training picture
FUSION_EPOCHS = 20  # as many steps of the optimiser as in benchmarks/fusion.py


def babble(clip: Clip, crowd: list[Clip], snr_db: float | None, rng: np.random.Generator) -> np.ndarray:
    """Return the clip's sound with six other clips' voices over it."""
    if snr_db is None:
        return clip.audio
    others = [other for other in crowd if other.name != clip.name]
    noise = sum(others[k].audio for k in rng.choice(len(others), VOICES, replace=False))
    return mix(clip.audio, noise, snr_db, rng)


def prepare(clips: list[Clip], crowd: list[Clip], seed: int) -> Batch:
    """Return pictures (B, C, T, H, W), and log-mels at all levels (B, levels, M, T)."""
    rng, mel = np.random.default_rng(seed), LogMel()
    batch = collate([clip.without("audio", "text") for clip in clips], {"video": to_motion})
    heard = [torch.stack([mel(babble(clip, crowd, level, rng)) for level in LEVELS.values()]) for clip in clips]
    data = batch.data | {"audio": torch.stack(heard)}
    return replace(batch, data=data, present=dict.fromkeys(NAMES, batch.present["video"]))


def pick(batch: Batch, name: str, index: Tensor) -> Batch:
    """Take one version of each sample's modality: (B, versions, …) → (B, …) by an index (B,)."""
    rows = torch.arange(len(batch), device=index.device)
    data = {key: value[rows, index] if key.startswith(name) else value for key, value in batch.data.items()}
    return replace(batch, data=data)


def pick_any(batch: Batch, name: str) -> Batch:
    """Take one version of each sample's modality at random."""
    versions = batch.data[name].shape[1]
    return pick(batch, name, torch.randint(versions, (len(batch),), device=batch.data[name].device))


def draw(batch: Batch) -> Batch:
    """Augment features: any noise level, any of the moved pictures."""
    return pick_any(pick_any(batch, "audio"), "video")


def at(level: str, batch: Batch) -> Batch:
    """All clips at one noise level."""
    return pick(batch, "audio", torch.full((len(batch),), list(LEVELS).index(level)))


def every(batch: Batch) -> Batch:
    """All clips at all noise levels, one level after the other."""
    rows = torch.arange(len(batch)).repeat(len(LEVELS))
    return pick(batch[rows], "audio", torch.arange(len(LEVELS)).repeat_interleave(len(batch)))


def move(batch: Batch) -> Batch:
    """Move each clip's picture by an amount of its own."""
    moved = [shift(batch[k : k + 1]).data["video"] for k in range(len(batch))]
    return replace(batch, data=batch.data | {"video": torch.cat(moved)})


def train_alone(data: dict[str, Batch], seed: int) -> dict[str, nn.Module]:
    """One model a modality: lips as in benchmarks/grid.py, the voice first as there and then with noise."""
    alone = {}
    clean = {split: at("clean", data[split]) for split in ("train", "valid")}
    noisy = {"train": data["train"], "valid": every(data["valid"])}
    stages: dict[str, list[tuple[dict[str, Batch], Any]]] = {
        "video": [(clean, shift)],
        "audio": [(clean, None), (noisy, partial(pick_any, name="audio"))],  # noise from the start teaches little
    }
    for name, parts in stages.items():
        mmlearn.seed_everything(seed)
        alone[name] = build([name], CLASSES)
        for part, augment in parts:
            train, valid = (replace(part[split], data={name: part[split].data[name]}) for split in ("train", "valid"))
            kwargs: dict[str, Any] = {"epochs": EPOCHS[name], "batch_size": 16, "seed": seed, "progress": False}
            fit(alone[name], train, valid, Classification(LABEL, CLASSES), augment=augment, **kwargs)
    return alone


def features(alone: dict[str, Any], batch: Batch, moved: int = 0) -> Batch:
    """Return vectors and steps of frozen encoders: the voice's at all levels, the lips' once or in `moved` versions."""
    video, audio = ({name: alone[name].encoders[name].eval()} for name in NAMES)
    heard = stack([encode(audio, at(level, batch)) for level in LEVELS])
    seen = stack([encode(video, move(batch)) for _ in range(moved)]) if moved else encode(video, batch)
    return replace(seen, data=seen.data | heard.data, present=seen.present | heard.present)


def stack(batches: list[Batch]) -> Batch:
    """Versions of the same samples, (B, …) each, as one batch (B, versions, …)."""
    data = {key: torch.stack([batch.data[key] for batch in batches], dim=1) for key in batches[0].data}
    return replace(batches[0], data=data)


def products(alone: dict[str, nn.Module], data: dict[str, Batch]) -> tuple[dict[str, dict[str, float]], list[float]]:
    """Multiply the probabilities of the two single models; then, with exponents that fit the validation clips best."""

    def logs(batch: Batch) -> Tensor:
        return torch.stack([predict(model, batch).log_softmax(dim=1) for model in alone.values()])  # (2, B, classes)

    valid = every(data["valid"])
    said, exponents = logs(valid), torch.ones(2, requires_grad=True)
    optimizer = torch.optim.LBFGS([exponents], max_iter=50, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = cross_entropy(torch.einsum("m,mbk->bk", exponents, said), valid.labels[LABEL])
        value.backward()
        return value

    optimizer.step(loss)
    rows: dict[str, dict[str, float]] = {"product of the two alone": {}, "product, two exponents fitted": {}}
    for level in LEVELS:
        test = at(level, data["test"])
        for row, weights in zip(rows.values(), (torch.ones(2), exponents.detach()), strict=True):
            guess = torch.einsum("m,mbk->bk", weights, logs(test)).argmax(dim=1)
            row[level] = float((guess == test.labels[LABEL]).float().mean())
    return rows, exponents.tolist()


def run_seed(seed: int, root: str) -> dict[str, Any]:
    """All methods with one seed: method → level → accuracy; and what was seen on the way."""
    torch.set_num_threads(1)  # two seeds run side by side on two cores
    start = time.perf_counter()
    clips = load(root)
    data = {split: prepare(part, clips["train"], k) for k, (split, part) in enumerate(clips.items())}
    alone = train_alone(data, seed)
    scores, exponents = products(alone, data)
    lips = {split: accuracy(alone["video"], batch, LABEL) for split, batch in data.items()}
    found = {split: features(alone, batch, MOVED if split == "train" else 0) for split, batch in data.items()}
    found = standardize(found, found["train"])
    parts = {"train": found["train"], "valid": every(found["valid"])}
    tests = {level: at(level, found["test"]) for level in LEVELS}
    print(f"seed {seed}: encoders and features after {time.perf_counter() - start:.0f} s", flush=True)
    for name in NAMES:  # the encoders' own heads
        scores[f"{name} alone"] = {level: accuracy(alone[name], at(level, data["test"]), LABEL) for level in LEVELS}
    for method in METHODS:
        settings: dict[str, Any] = {"augment": draw, "names": NAMES, "rates": RATES, "epochs": FUSION_EPOCHS}
        model = answer(method, parts, LABEL, CLASSES, seed, **settings)
        scores[method] = {level: accuracy(model, test, LABEL) for level, test in tests.items()}
        values = " ".join(f"{value:.2f}" for value in scores[method].values())
        print(f"seed {seed}, {time.perf_counter() - start:4.0f} s, {method}: {values}", flush=True)
    return {"accuracy": scores, "exponents": exponents, "lips": lips}


def main(root: str) -> None:
    begin("fusion_grid")
    sizes = {split: len(part) for split, part in load(root).items()}  # decode before processes start
    workers = 1 if torch.cuda.is_available() else 2
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        runs = list(pool.map(partial(run_seed, root=root), SEEDS))
    table = {
        method: {level: spread([run["accuracy"][method][level] for run in runs]) for level in LEVELS}
        for method in runs[0]["accuracy"]
    }
    about = {"talker": "s1", "label": LABEL, "levels": LEVELS, "voices": VOICES, "sizes": sizes, "seeds": SEEDS}
    about["epochs"] = EPOCHS | {"fusion": FUSION_EPOCHS}
    lips = {split: spread([run["lips"][split] for run in runs]) for split in sizes}
    save("fusion_grid", about | {"lips": lips, "exponents": [run["exponents"] for run in runs], "accuracy": table})


if __name__ == "__main__":
    main(sys.argv[1])
