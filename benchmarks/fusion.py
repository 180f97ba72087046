"""Every fusion on every kind of question: chapter fusion/choosing, 5 seeds, equal encoders, equal training.

Run `python -m benchmarks.fusion` (under 30 minutes on 2 idle cores); it writes benchmarks/results/fusion.json.

For each seed, encoders learn to name what they can see, hear or read, once on clips with much noise and once with
little; then they are frozen. Each fusion is trained, with a head, on the same features: vectors for fusions of vectors,
steps for fusions of steps (sound in steps of 0.16 s; a caption has no clock, and stays one vector).
"""

import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from torchmetrics.classification import MulticlassAccuracy

import mmlearn
from benchmarks.first_model import NAMES, accuracy, hide_some
from benchmarks.report import begin, measure, save, spread
from mmlearn import Batch, collate, fit, predict
from mmlearn.datasets import HanziClips
from mmlearn.encoders import AudioEncoder, TextEncoder, VideoEncoder
from mmlearn.finetuning import Classification
from mmlearn.fusion import FUSIONS, build_fusion, uses_sequence
from mmlearn.preprocessing.audio import LogMel
from mmlearn.preprocessing.text import Vocabulary
from mmlearn.preprocessing.video import to_tensor

SEEDS = [0, 1, 2, 3, 4]
KEPT = Path("runs/fusion")  # what each seed gave
SIZES = {"train": 2000, "valid": 200, "test": 1000}
DIM = 128  # of what the encoders give
WIDTH = 32  # of what the fusions make of it
RATES = {"video": 16 / 1.92 / 4, "audio": 12.5 / 2, "text": 1.0}  # steps a second
TOLD = {  # what the encoders learn to name: what the questions ask for, of what each modality tells
    "video": ["number", "colour"],
    "audio": ["number"],
    "text": ["number", "direction"],
}
NOISE: dict[str, Any] = {"snr_db": 0.0, "occlusion": 0.3, "video_noise": 20.0, "text_noise": 0.3}
LITTLE: dict[str, Any] = {"snr_db": 5.0, "video_noise": 20.0}
RUINED = {"snr_db": -15.0, "occlusion": 1.0, "video_noise": 80.0, "text_noise": 1.0}
# Question: the clips' relation, their noise, and the label that is asked for with its number of classes.
QUESTIONS: dict[str, tuple[str, dict[str, float], str, int]] = {
    "redundant": ("redundant", NOISE, "number", 10),
    "one noisy": ("redundant", NOISE, "number", 10),
    "complementary": ("complementary", LITTLE, "all of it", 32),
    "conflicting": ("conflicting", NOISE, "written", 10),
    "synergy": ("synergy", LITTLE, "agree", 2),
    "sum modulo 10": ("synergy_sum", LITTLE, "sum", 10),
}


def methods(rates: dict[str, float]) -> dict[str, Callable[..., nn.Module]]:
    """Every fusion, by name; `rates` tells those of steps how many of them a modality has in a second."""
    options: dict[str, dict[str, Any]] = {name: {} for name in FUSIONS}
    for name in filter(uses_sequence, FUSIONS):
        options[name]["steps_per_second"] = rates
    for name in ("FiLM", "cross-attention"):
        options[name]["target"] = "video"
    return {name: partial(build_fusion, name, **more) for name, more in options.items()}


METHODS = list(methods(RATES))


class Factors:
    """Objective of the encoders: name each of several labels; the output holds their logits side by side."""

    def __init__(self, classes: dict[str, int]) -> None:
        self.classes = classes

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Return the sum of the cross-entropies."""
        parts = output.split(list(self.classes.values()), dim=1)
        losses = [
            nn.functional.cross_entropy(part, batch.labels[n]) for n, part in zip(self.classes, parts, strict=True)
        ]
        return torch.stack(losses).sum()

    def metrics(self) -> dict[str, MulticlassAccuracy]:
        """Choose the best epoch by the loss."""
        return {}

    def target(self, batch: Batch) -> Tensor:
        """Return nothing that is used: there is no metric."""
        return batch.labels[next(iter(self.classes))]


class Fused(nn.Module):
    """A fusion and its head, on features that were computed once: vectors under "video", steps under "video steps"."""

    def __init__(
        self, method: str, num_classes: int, names: list[str] = NAMES, rates: dict[str, float] = RATES
    ) -> None:
        super().__init__()
        self.names = names
        late = method.startswith("late:")
        self.fusion = methods(rates)[method](dict.fromkeys(names, DIM), dim=num_classes if late else WIDTH)
        self.uses_sequence = getattr(self.fusion, "uses_sequence", False)
        self.head = nn.Identity() if late else nn.Sequential(nn.GELU(), nn.Linear(WIDTH, num_classes))

    def forward(self, batch: Batch) -> Tensor:
        """Return logits (B, num_classes)."""
        present = {name: batch.present[name] for name in self.names}
        if not self.uses_sequence:
            return self.head(self.fusion({name: batch.data[name] for name in self.names}, present))
        return self.head(self.fusion({name: batch.data[f"{name} steps"] for name in self.names}, present))


class Alone(nn.Module):
    """An encoder with a linear head: what one modality knows."""

    def __init__(self, name: str, encoder: nn.Module, classes: int) -> None:
        super().__init__()
        self.name, self.encoder, self.head = name, encoder, nn.Linear(DIM, classes)

    def forward(self, batch: Batch) -> Tensor:
        """Return logits."""
        return self.head(self.encoder(batch.data[self.name], batch.mask.get(self.name)))


def load(relation: str, noise: dict[str, float], vocabulary: Vocabulary) -> dict[str, Batch]:
    """Clips as batches, and the label that only all three modalities together know."""
    transforms = {"video": to_tensor, "audio": LogMel(), "text": vocabulary.encode}
    batches = {}
    for split, size in SIZES.items():
        batch = collate(list(HanziClips(size, split=split, relation=relation, **noise)), transforms)  # type: ignore[arg-type]
        labels = batch.labels
        labels["all of it"] = labels["colour"] * 8 + labels["direction"] * 2 + (labels["number"] >= 5).long()
        batches[split] = batch
    return batches


def train_encoders(data: dict[str, Batch], classes: dict[str, int], num_tokens: int, seed: int) -> dict[str, nn.Module]:
    """One encoder a modality, which can name what that modality tells."""
    new: dict[str, Callable[[], nn.Module]] = {
        "video": VideoEncoder,
        "audio": AudioEncoder,
        "text": lambda: TextEncoder(num_tokens),
    }
    encoders = {}
    for name in NAMES:
        mmlearn.seed_everything(seed)
        task = Factors({label: classes[label] for label in TOLD[name]})
        model = Alone(name, new[name](), sum(task.classes.values()))
        epochs = 3 if name == "text" else 8
        fit(model, data["train"], data["valid"], task, epochs=epochs, lr=3e-3, seed=seed, progress=False)
        encoders[name] = model.encoder.eval()
    return encoders


@torch.inference_mode()
def encode(encoders: dict[str, nn.Module], batch: Batch) -> Batch:
    """Return vectors (B, D), and under "… steps" steps (B, N, D), of frozen encoders."""
    device = mmlearn.device()
    parts: dict[str, list[Tensor]] = {}
    for start in range(0, len(batch), 250):
        part = batch[start : start + 250].to(device)
        for name, encoder in encoders.items():
            encoder.to(device)
            steps, mask = encoder.steps(part.data[name], part.mask.get(name))  # type: ignore[operator]
            vector = encoder.pool(steps, mask)  # type: ignore[operator]
            if name == "audio":  # steps of 0.16 s; clips are of equal length, and an odd step at the end holds nothing
                pairs = steps.shape[1] // 2
                steps = steps[:, : 2 * pairs].unflatten(1, (pairs, 2)).mean(dim=2)
            for key, value in {name: vector, f"{name} steps": vector if name == "text" else steps}.items():
                parts.setdefault(key, []).append(value.cpu().clone())
    present = dict(batch.present) | {f"{name} steps": batch.present[name] for name in encoders}
    return Batch({key: torch.cat(values) for key, values in parts.items()}, present, labels=batch.labels)


def standardize(data: dict[str, Batch], by: Batch) -> dict[str, Batch]:
    """Give each feature mean 0 and standard deviation 1 over the clips `by`: what all have in common says nothing."""
    moments = {key: torch.std_mean(x.flatten(0, -2), dim=0) for key, x in by.data.items()}  # (D,) each

    def change(batch: Batch) -> Batch:
        return replace(batch, data={k: (x - moments[k][1]) / (moments[k][0] + 1e-3) for k, x in batch.data.items()})

    return {split: change(batch) for split, batch in data.items()}


def ruin_one(features: Batch, ruined: Batch, seed: int) -> Batch:
    """In each sample, take one modality, drawn at random, from the ruined version of the same clip."""
    victim = torch.randint(len(NAMES), (len(features),), generator=torch.Generator().manual_seed(seed))
    data = dict(features.data)
    for key, value in data.items():
        hit = (victim == NAMES.index(key.split()[0])).view(-1, *[1] * (value.ndim - 1))
        data[key] = torch.where(hit, ruined.data[key], value)
    return replace(features, data=data)


def answer(
    method: str,
    data: dict[str, Batch],
    label: str,
    num_classes: int,
    seed: int,
    *,
    augment: Callable[[Batch], Batch] | None = None,
    names: list[str] = NAMES,
    rates: dict[str, float] = RATES,
    epochs: int = 8,
) -> nn.Module:
    """Train one fusion on one question."""
    mmlearn.seed_everything(seed)
    model = Fused(method, num_classes, names, rates)
    task = Classification(label, num_classes)
    kwargs: dict[str, Any] = {"epochs": epochs, "lr": 5e-3, "weight_decay": 0.1, "seed": seed, "progress": False}
    fit(model, data["train"], data["valid"], task, batch_size=64, augment=augment, **kwargs)
    return model


def hide(batch: Batch) -> Batch:
    """Modality dropout, vectors and steps of a modality together."""
    hidden = hide_some(replace(batch, present={name: batch.present[name] for name in NAMES})).present
    return replace(batch, present=hidden | {f"{name} steps": there for name, there in hidden.items()})


def missing(model: nn.Module, test: Batch) -> float:
    """Mean accuracy on the numbers over three tests, each without one modality."""
    scores = []
    for name in NAMES:
        present = dict(test.present) | {name: torch.zeros_like(test.present[name])}
        scores.append(accuracy(model, replace(test, present=present), "number"))
    return sum(scores) / len(scores)


def run_seed(seed: int) -> dict[str, dict[str, float]]:
    """All methods on all questions with one seed: method → question → accuracy."""
    torch.set_num_threads(1)  # two seeds run side by side on two cores
    start = time.perf_counter()
    clips = HanziClips(SIZES["train"], **NOISE)
    vocabulary = Vocabulary([*(clip.text or "" for clip in clips), "□"])
    data: dict[str, dict[str, Batch]] = {}
    for noise in (NOISE, LITTLE):
        redundant = load("redundant", noise, vocabulary)
        encoders = train_encoders(redundant, {k: len(v) for k, v in clips.classes.items()}, len(vocabulary), seed)
        learned_on = encode(encoders, redundant["train"])
        for question, (relation, its_noise, _, _) in QUESTIONS.items():
            if its_noise == noise and question != "one noisy":
                batches = redundant if relation == "redundant" else load(relation, noise, vocabulary)
                features = {split: encode(encoders, batch) for split, batch in batches.items()}
                data[question] = standardize(features, learned_on)
        if noise == NOISE:
            ruined = {split: encode(encoders, batch) for split, batch in load("redundant", RUINED, vocabulary).items()}
            ruined = standardize(ruined, learned_on)
    splits = enumerate(data["redundant"].items())
    data["one noisy"] = {split: ruin_one(features, ruined[split], 10 * seed + k) for k, (split, features) in splits}
    print(f"seed {seed}: encoders and features after {time.perf_counter() - start:.0f} s", flush=True)

    scores: dict[str, dict[str, float]] = {}
    for method in METHODS:
        row = scores[method] = {}
        for question, (_, _, label, classes) in QUESTIONS.items():
            model = answer(method, data[question], label, classes, seed)
            row[question] = accuracy(model, data[question]["test"], label)
            if question == "redundant":
                row["one missing"] = missing(model, data[question]["test"])
        model = answer(method, data["redundant"], "number", 10, seed, augment=hide)
        row["one missing, trained for it"] = missing(model, data["redundant"]["test"])
        print(
            f"seed {seed}, {time.perf_counter() - start:4.0f} s, {method}:",
            *(f"{v:.2f}" for v in row.values()),
            flush=True,
        )
    for name in NAMES:
        scores[f"{name} alone"] = {
            question: accuracy(answer("concatenation", data[question], label, classes, seed, names=[name]),
                               data[question]["test"], label)
            for question, (_, _, label, classes) in QUESTIONS.items()
        }  # fmt: skip
    scores["from scratch"] = {"synergy": from_scratch(vocabulary, seed)}
    return scores


def from_scratch(vocabulary: Vocabulary, seed: int) -> float:
    """Synergy with encoders that begin at random: concatenation, trained end to end."""
    from benchmarks.first_model import build

    data = load("synergy", LITTLE, vocabulary)
    mmlearn.seed_everything(seed)
    model = build(NAMES, len(vocabulary), 2)
    task = Classification("agree", 2)
    fit(model, data["train"], data["valid"], task, epochs=10, lr=2e-3, seed=seed, progress=False)
    return accuracy(model, data["test"], "agree")


def cost(method: str) -> dict[str, float]:
    """Parameters, FLOPs a sample, and milliseconds a sample in a batch of 256, of fusion and head for ten classes."""
    data = {name: torch.randn(256, DIM) for name in (*NAMES, "text steps")}
    data |= {"video steps": torch.randn(256, 4, DIM), "audio steps": torch.randn(256, 12, DIM)}
    present = {name: torch.ones(256, dtype=torch.bool) for name in data}
    batch = Batch(data, present).to(mmlearn.device())
    model = Fused(method, 10).to(mmlearn.device()).eval()
    parameters = sum(parameter.numel() for parameter in model.requires_grad_(False).parameters())
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # of other kernels it knows nothing
        model(batch)
    seconds = measure({method: lambda: predict(model, batch)}, repeats=9)[method]["median"]
    return {"parameters": parameters, "flops": counter.get_total_flops() / 256, "ms": 1000 * seconds / 256}


def main() -> None:
    begin("fusion")
    start = time.perf_counter()
    HanziClips(10)  # fetch what is missing before processes start
    costs = {method: cost(method) for method in METHODS}
    workers = 1 if torch.cuda.is_available() else 2
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        runs = []
        for seed, run in zip(SEEDS, pool.map(run_seed, SEEDS), strict=True):
            runs.append(run)
            KEPT.mkdir(parents=True, exist_ok=True)  # half an hour's work, should something stop before the end
            (KEPT / f"{seed}.json").write_text(json.dumps(run, indent=1), encoding="utf-8")
    table = {
        method: {question: spread([run[method][question] for run in runs]) for question in row}
        for method, row in runs[0].items()
    }
    results = {"seeds": SEEDS, "sizes": SIZES, "seconds": round(time.perf_counter() - start), "cost": costs}
    questions = {
        q: {"relation": r, "noise": n, "label": label, "classes": k} for q, (r, n, label, k) in QUESTIONS.items()
    }
    save("fusion", results | {"questions": questions, "accuracy": table})


if __name__ == "__main__":
    main()
