"""The first model on real talking faces: digit and colour of GRID's talker 1, 800 clips to learn from, 200 to judge.

Run `python -m benchmarks.grid PATH-OF-GRID` (about 15 minutes on 2 idle cores); it writes benchmarks/results/grid.json.
The peer in the same run is a linear baseline: a 20x12 grey mouth or the log-mel, PCA, logistic regression.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import mmlearn
from benchmarks.first_model import accuracy, assemble, hide_some
from benchmarks.report import begin, save, spread
from mmlearn import Batch, Clip, MultimodalModel, collate, fit
from mmlearn.datasets import Grid
from mmlearn.encoders import AudioEncoder, VideoEncoder
from mmlearn.finetuning import Classification
from mmlearn.nn import PositionwisePool
from mmlearn.preprocessing.audio import LogMel
from mmlearn.preprocessing.video import to_motion

SEEDS = [0, 1, 2]
LABELS = {"digit": 10, "colour": 4}
SIZE = (32, 48)
EPOCHS = {"video": 24, "audio": 15, "video + audio": 5}


def shift(batch: Batch) -> Batch:
    """Augment: move the batch's pictures by up to two pixels and two frames."""
    by = [int(torch.randint(-2, 3, ())) for _ in range(3)]
    return replace(batch, data=batch.data | {"video": batch.data["video"].roll(by, dims=(2, 3, 4))})


def load(root: str) -> dict[str, list[Clip]]:
    """Talker 1's clips: 720 to learn from, 80 to choose the best epoch without a look at the test, 200 to judge."""
    clips = list(Grid(root, split="train", image_size=SIZE))
    order = torch.randperm(len(clips), generator=torch.Generator().manual_seed(0)).tolist()
    parts = {"train": [clips[k] for k in order[80:]], "valid": [clips[k] for k in order[:80]]}
    return parts | {"test": list(Grid(root, split="test", image_size=SIZE))}


def build(names: list[str], num_classes: int, trained: dict[str, nn.Module] | None = None) -> MultimodalModel:
    """A model of mouth, voice or both."""
    new: dict[str, Callable[[], nn.Module]] = {
        "video": lambda: VideoEncoder(SIZE, tubelet=3, width=24, dropout=0.3, pool=PositionwisePool(128, steps=25)),
        "audio": AudioEncoder,
    }
    return assemble({name: new[name]() for name in names}, num_classes, trained)


def baseline(train: list[Clip], test: list[Clip], label: str) -> dict[str, float]:
    """PCA to 100 components and logistic regression on pixels, on log-mel, and on both."""
    mel = LogMel(num_mels=20)

    def features(clips: list[Clip]) -> dict[str, np.ndarray]:
        mouths = [
            [cv2.resize(frame, (20, 12), interpolation=cv2.INTER_AREA).mean(2) for frame in c.streams["video"]]
            for c in clips
        ]
        return {
            "video": np.array(mouths).reshape(len(clips), -1),
            "audio": np.stack([mel(clip.audio).numpy().ravel() for clip in clips]),
        }

    seen, unseen = features(train), features(test)
    reduced: dict[str, tuple[np.ndarray, ...]] = {}
    for name in seen:
        pipe = make_pipeline(PCA(100, random_state=0), StandardScaler()).fit(seen[name])
        reduced[name] = (pipe.transform(seen[name]), pipe.transform(unseen[name]))
    reduced["video + audio"] = tuple(np.hstack(parts) for parts in zip(*reduced.values(), strict=True))
    targets = [[clip.labels[label] for clip in clips] for clips in (train, test)]
    return {
        name: LogisticRegression(C=0.01, max_iter=2000).fit(a, targets[0]).score(b, targets[1])
        for name, (a, b) in reduced.items()
    }


def main(root: str) -> None:
    begin("grid")
    clips = load(root)
    transforms = {"video": to_motion, "audio": LogMel()}
    train, valid, test = (collate(part, transforms) for part in clips.values())
    linear = {label: baseline(clips["train"] + clips["valid"], clips["test"], label) for label in LABELS}
    print("linear baseline:", linear, flush=True)
    rows: dict[str, list[Any]] = {label: [] for label in LABELS}
    for seed in SEEDS:
        for label, num_classes in LABELS.items():
            task, scores, alone = Classification(label, num_classes), {}, {}
            for name in ("video", "audio"):
                mmlearn.seed_everything(seed)
                alone[name] = build([name], num_classes)
                fit(
                    alone[name], train, valid, task, epochs=EPOCHS[name], batch_size=16, seed=seed, progress=False,
                    augment=shift if name == "video" else None,
                )  # fmt: skip
                scores[name] = accuracy(alone[name], test, label)
            mmlearn.seed_everything(seed)
            both = build(["video", "audio"], num_classes, {name: alone[name].encoders[name] for name in alone})
            fit(
                both, train, valid, task, epochs=EPOCHS["video + audio"], batch_size=16, seed=seed, progress=False,
                augment=lambda batch: hide_some(shift(batch)),
            )  # fmt: skip
            scores["video + audio"] = accuracy(both, test, label)
            scores["both, sound taken away"] = accuracy(both, test.only("video"), label)
            rows[label].append(scores)
            print(f"seed {seed}, {label}:", {name: round(value, 3) for name, value in scores.items()}, flush=True)
    tables = {label: {name: spread([row[name] for row in rows[label]]) for name in rows[label][0]} for label in LABELS}
    sizes = {"train": len(train), "valid": len(valid), "test": len(test)}
    save("grid", {"talker": "s1", "sizes": sizes, "seeds": SEEDS, "epochs": EPOCHS, "linear": linear, **tables})


if __name__ == "__main__":
    main(sys.argv[1])
