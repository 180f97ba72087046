"""When does the digit begin, and how long does it last? On real talking faces; chapter finetuning/regression, 3 seeds.

Run `python -m benchmarks.grid_timing PATH-OF-GRID` (about 4 minutes of one core); it writes
benchmarks/results/grid_timing.json.

Clips are those of benchmarks/grid.py. For each target, one model a modality predicts a Gaussian. Lips and voice are
joined afterwards without training: by the plain product of the two Gaussians, and by the product of those stretched to
fit the validation clips, with the prior counted once. The peer is ridge regression on PCA of the log-mel,
or of a 24x16 grey mouth, its penalty chosen on the validation clips.
"""

import sys
import time
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

import mmlearn
from benchmarks.grid import SIZE, load
from benchmarks.report import begin, save, spread
from mmlearn import Batch, Clip, MultimodalModel, collate, fit, predict
from mmlearn.datasets.grid.corpus import FPS
from mmlearn.encoders import AudioEncoder, VideoEncoder
from mmlearn.finetuning import Regression, Scaling
from mmlearn.fusion import ConcatFusion
from mmlearn.nn import PositionwisePool
from mmlearn.preprocessing.audio import LogMel
from mmlearn.preprocessing.video import to_motion

SEEDS = [0, 1, 2]
WORD = 4  # command, colour, preposition, letter, digit, adverb
TARGETS = ("onset", "duration")
EPOCHS = {"video": 9, "audio": 12}
LEVEL = 0.9
MELS_A_FRAME = 4  # 100 spectra and 25 pictures a second
Gaussian = tuple[Tensor, Tensor]  # estimates and deviations, (B,) each, in seconds
PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10_000.0)


def prepare(clips: list[Clip]) -> Batch:
    """Return mouths, log-mels, and the digit's onset and duration in seconds."""
    batch = collate(clips, {"video": to_motion, "audio": LogMel()})
    spoken = [clip.words[WORD] for clip in clips]
    times = {"onset": [word.start for word in spoken], "duration": [word.end - word.start for word in spoken]}
    return replace(batch, labels={name: torch.tensor(values) for name, values in times.items()})


def move(batch: Batch) -> Batch:
    """Augment: move pictures by up to two pixels, and all of a clip by up to three frames, its onset with it."""
    down, right = (int(torch.randint(-2, 3, ())) for _ in range(2))
    late = int(torch.randint(-3, 4, ()))
    data = {
        "video": batch.data["video"].roll((late, down, right), dims=(2, 3, 4)),
        "audio": batch.data["audio"].roll(late * MELS_A_FRAME, dims=2),
    }
    return replace(batch, data=data, labels=batch.labels | {"onset": batch.labels["onset"] + late / FPS})


def build(name: str, width: int, steps: dict[str, int]) -> MultimodalModel:
    """A model of mouth or voice that knows where in the clip a step stands."""
    pool = PositionwisePool(128, steps=steps[name])
    if name == "video":
        encoder: nn.Module = VideoEncoder(SIZE, tubelet=3, width=12, dropout=0.2, pool=pool)
    else:
        encoder = AudioEncoder(dropout=0.2)
        encoder.pool = pool  # type: ignore[assignment]
    head = nn.Sequential(nn.GELU(), nn.Linear(128, width))
    return MultimodalModel({name: encoder}, ConcatFusion({name: 128}, dim=128), head)


def score(said: Gaussian, target: Tensor) -> dict[str, float]:
    """Judge estimates and their deviations, all (B,) in seconds."""
    estimate, deviation = said
    residual = estimate - target
    reach = float(torch.special.ndtri(torch.tensor((1 + LEVEL) / 2)))
    return {
        "r2": float(1 - residual.square().sum() / (target - target.mean()).square().sum()),
        "mae_ms": float(1000 * residual.abs().mean()),
        "pearson": float(torch.corrcoef(torch.stack([estimate, target]))[0, 1]),
        "coverage": float((residual.abs() <= reach * deviation).double().mean()),
        "deviation_ms": float(1000 * deviation.mean()),
    }


def stretch(said: Gaussian, valid: Gaussian, target: Tensor) -> Gaussian:
    """Widen all deviations by the factor that makes the validation targets most likely."""
    factor = ((target - valid[0]) / valid[1]).square().mean().sqrt()
    return said[0], said[1] * factor


def product(parts: list[Gaussian], prior: Scaling | None = None) -> Gaussian:
    """Multiply Gaussians; each holds the prior, which is divided out again but for once where it is given."""
    if prior is None:
        prior = Scaling(0.0, 1e6)  # so wide that it says nothing
    precisions = [1 / deviation.clamp(max=0.99 * prior.std).square() for _, deviation in parts]
    known = (len(parts) - 1) / prior.std**2
    total = sum(precisions[1:], start=precisions[0]) - known
    weighted = [weight * estimate for weight, (estimate, _) in zip(precisions, parts, strict=True)]
    return (sum(weighted[1:], start=weighted[0]) - known * prior.mean) / total, total.rsqrt()


def ridge(clips: dict[str, list[Clip]], data: dict[str, Batch]) -> dict[str, dict[str, float]]:
    """The peer: R² of a linear model for each target and modality."""
    mel = LogMel(num_mels=20)

    def features(part: list[Clip], name: str) -> np.ndarray:
        if name == "audio":
            return np.stack([mel(clip.audio).numpy().ravel() for clip in part])
        mouths = [[cv2.resize(f, (24, 16), interpolation=cv2.INTER_AREA).mean(2) for f in c.video] for c in part]
        return np.array(mouths).reshape(len(part), -1)

    found: dict[str, dict[str, float]] = {target: {} for target in TARGETS}
    for name in ("video", "audio"):
        reduce = make_pipeline(PCA(100, random_state=0), StandardScaler()).fit(features(clips["train"], name))
        x = {split: reduce.transform(features(part, name)) for split, part in clips.items()}
        for target in TARGETS:
            y = {split: batch.labels[target].numpy() for split, batch in data.items()}
            models = [Ridge(alpha).fit(x["train"], y["train"]) for alpha in PENALTIES]
            found[target][name] = max(models, key=lambda m: m.score(x["valid"], y["valid"])).score(x["test"], y["test"])
    return found


def main(root: str) -> None:
    begin("grid_timing")
    clips = load(root)
    data = {split: prepare(part) for split, part in clips.items()}
    start = time.process_time()
    linear = ridge(clips, data)
    print("ridge:", linear, flush=True)
    del clips
    steps = {"video": data["train"].data["video"].shape[2] // 3, "audio": -(-data["train"].data["audio"].shape[2] // 8)}
    rows: dict[str, dict[str, list[dict[str, float]]]] = {target: {} for target in TARGETS}
    seen: dict[str, dict[str, Tensor]] = {}
    for target in TARGETS:
        truth = {split: batch.labels[target] for split, batch in data.items()}
        scaling = Scaling.fit(truth["train"])
        task = Regression(target, "gaussian", scaling=scaling, level=LEVEL)
        for seed in SEEDS:
            said, stretched = {}, {}
            for name, epochs in EPOCHS.items():
                mmlearn.seed_everything(seed)
                model = build(name, task.width, steps)
                options: dict[str, Any] = {"epochs": epochs, "batch_size": 16, "seed": seed, "progress": False}
                fit(model, data["train"], data["valid"], task, augment=move, **options)
                outputs = [predict(model, data[split]) for split in ("valid", "test")]
                valid, said[name] = ((task.estimate(output), task.std(output)) for output in outputs)
                stretched[f"{name}, stretched"] = stretch(said[name], valid, truth["valid"])
            joint = {
                "plain product": product(list(said.values())),
                "product, stretched, prior once": product(list(stretched.values()), scaling),
            }
            for name, gaussian in (said | stretched | joint).items():
                found = score(gaussian, truth["test"])
                rows[target].setdefault(name, []).append(found)
                short = {key: round(value, 3) for key, value in found.items()}
                print(f"seed {seed}, {time.process_time() - start:4.0f} s, {target}, {name}:", short, flush=True)
            if seed == SEEDS[0]:
                seen[target] = {"truth": truth["test"]}
                for name, (estimate, deviation) in said.items():
                    seen[target] |= {f"{name} estimate": estimate, f"{name} deviation": deviation}
    table = {
        target: {name: {key: spread([run[key] for run in runs]) for key in runs[0]} for name, runs in by.items()}
        for target, by in rows.items()
    }
    about = {"talker": "s1", "word": "digit", "sizes": {split: len(batch) for split, batch in data.items()},
             "seeds": SEEDS, "epochs": EPOCHS, "level": LEVEL, "cpu_seconds": time.process_time() - start}  # fmt: skip
    targets = {t: {"mean": s.mean, "deviation": s.std} for t in TARGETS
               if (s := Scaling.fit(data["train"].labels[t]))}  # fmt: skip
    listed = {
        t: {name: [round(float(x), 4) for x in values] for name, values in one.items()} for t, one in seen.items()
    }
    save("grid_timing", about | {"targets": targets, "ridge_r2": linear, "scores": table, "first_seed": listed})


if __name__ == "__main__":
    main(sys.argv[1])
