"""Numbers read from noisy clips, and whether picture and sound agree: chapter start/first_model over 3 seeds.

Run `python -m benchmarks.first_model` (about 6 minutes on 2 idle cores); it writes benchmarks/results/first_model.json.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

import mmlearn
from benchmarks.report import begin, save, spread
from mmlearn import Batch, MultimodalModel, collate, fit, predict
from mmlearn.datasets import HanziClips
from mmlearn.encoders import AudioEncoder, TextEncoder, VideoEncoder
from mmlearn.finetuning import Classification
from mmlearn.fusion import ConcatFusion
from mmlearn.preprocessing.audio import LogMel
from mmlearn.preprocessing.text import Vocabulary
from mmlearn.preprocessing.video import to_tensor

SEEDS = [0, 1, 2]
NAMES = ["video", "audio", "text"]
NUMBER = Classification("number", 10)
SIZES = {"train": 2000, "valid": 300, "test": 1000}
NOISE: dict[str, Any] = {"snr_db": 0.0, "noise": "babble", "occlusion": 0.3, "video_noise": 20.0, "text_noise": 0.3}
SYNERGY_NOISE: dict[str, Any] = {"snr_db": 5.0, "noise": "babble", "video_noise": 20.0}


def load(relation: str, noise: dict, vocabulary: Vocabulary | None = None) -> tuple[dict[str, Batch], Vocabulary]:
    clips = {split: HanziClips(size, split=split, relation=relation, **noise) for split, size in SIZES.items()}
    vocabulary = vocabulary or Vocabulary(clip.text for clip in clips["train"] if clip.text)
    transforms = {"video": to_tensor, "audio": LogMel(), "text": vocabulary.encode}
    return {split: collate(list(part), transforms) for split, part in clips.items()}, vocabulary


def assemble(
    encoders: dict[str, nn.Module], num_classes: int, trained: dict[str, nn.Module] | None = None
) -> MultimodalModel:
    """Encoders, concatenation and a linear head; the weights of `trained` encoders are copied into the new ones."""
    fusion = ConcatFusion(dict.fromkeys(encoders, 128), dim=128)
    model = MultimodalModel(encoders, fusion, nn.Sequential(nn.GELU(), nn.Linear(128, num_classes)))
    for name, encoder in (trained or {}).items():
        model.encoders[name].load_state_dict(encoder.state_dict())
    return model


def build(
    names: list[str], num_tokens: int, num_classes: int, trained: dict[str, nn.Module] | None = None
) -> MultimodalModel:
    """A model of some modalities of the clips."""
    new: dict[str, Callable[[], nn.Module]] = {
        "video": VideoEncoder,
        "audio": AudioEncoder,
        "text": lambda: TextEncoder(num_tokens),
    }
    return assemble({name: new[name]() for name in names}, num_classes, trained)


def hide_some(batch: Batch, rate: float = 0.4) -> Batch:
    """Modality dropout: hide each modality of each sample at this rate, but never all of a sample."""
    hidden = {name: torch.rand(len(batch), device=there.device) < rate for name, there in batch.present.items()}
    nothing_left = torch.stack(list(hidden.values())).all(dim=0)
    return replace(batch, present={n: there & (~hidden[n] | nothing_left) for n, there in batch.present.items()})


def accuracy(model: nn.Module, batch: Batch, label: str) -> float:
    return float((predict(model, batch).argmax(dim=1) == batch.labels[label]).float().mean())


def train_alone(data: dict[str, Batch], num_tokens: int, seed: int) -> dict[str, MultimodalModel]:
    """One model a modality."""
    alone = {}
    for name in NAMES:
        mmlearn.seed_everything(seed)
        alone[name] = build([name], num_tokens, 10)
        fit(alone[name], data["train"], data["valid"], NUMBER, epochs=6, lr=3e-3, seed=seed, progress=False)
    return alone


def join(
    alone: dict[str, MultimodalModel],
    data: dict[str, Batch],
    num_tokens: int,
    seed: int,
    augment: Callable[[Batch], Batch] | None = hide_some,
) -> MultimodalModel:
    """All three: from the encoders that were trained alone, three epochs more."""
    mmlearn.seed_everything(seed)
    model = build(NAMES, num_tokens, 10, {name: alone[name].encoders[name] for name in NAMES})
    parts = data["train"], data["valid"]
    fit(model, *parts, NUMBER, epochs=3, lr=3e-3, augment=augment, seed=seed, progress=False)
    return model


def numbers(data: dict[str, Batch], alone: dict[str, MultimodalModel], num_tokens: int, seed: int) -> dict[str, float]:
    """Each modality alone, all three from scratch, all three joined; and what is left when one is taken away."""
    test = data["test"]
    scores = {name: accuracy(alone[name], test, "number") for name in NAMES}
    logs = sum(predict(alone[name], test).log_softmax(dim=1) for name in NAMES)
    scores["product of the three alone"] = float((logs.argmax(dim=1) == test.labels["number"]).float().mean())
    mmlearn.seed_everything(seed)
    scratch = build(NAMES, num_tokens, 10)
    fit(scratch, data["train"], data["valid"], NUMBER, epochs=9, lr=3e-3, seed=seed, progress=False)
    scores["all three from scratch"] = accuracy(scratch, test, "number")
    for title, augment in (("all three", hide_some), ("all three, never hidden", None)):
        joined = join(alone, data, num_tokens, seed, augment)
        scores[title] = accuracy(joined, test, "number")
        for name in NAMES:
            scores[f"{title}, without {name}"] = accuracy(joined, test.without(name), "number")
            scores[f"{title}, only {name}"] = accuracy(joined, test.only(name), "number")
    return scores


class Fused(nn.Module):
    """Fusion and head on features that were computed once."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names
        self.fusion = ConcatFusion(dict.fromkeys(names, 128), dim=256)
        self.head = nn.Sequential(nn.GELU(), nn.Linear(256, 2))

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return logits (B, 2)."""
        return self.head(self.fusion({name: batch.data[name] for name in self.names}, batch.present))


@torch.inference_mode()
def encode(alone: dict[str, MultimodalModel], batch: Batch) -> Batch:
    """Replace raw data by the features of encoders that were trained on the numbers."""
    parts = [batch[i : i + 200] for i in range(0, len(batch), 200)]
    features = {
        name: torch.cat([model.eval().encoders[name](p.data[name], p.mask.get(name)) for p in parts]).clone()
        for name, model in alone.items()
    }
    return Batch(features, batch.present, labels=batch.labels)


def synergy(data: dict[str, Batch], num_tokens: int, alone: dict[str, MultimodalModel], seed: int) -> dict[str, float]:
    """Do the written and the spoken number agree? From encoders that know the numbers, and from scratch."""
    task, scores = Classification("agree", 2), {}
    features = {split: encode(alone, batch) for split, batch in data.items()}
    for names in [[name] for name in NAMES] + [NAMES]:
        mmlearn.seed_everything(seed)
        model = Fused(names)
        fit(
            model,
            features["train"],
            features["valid"],
            task,
            epochs=8,
            lr=3e-3,
            weight_decay=0.3,
            seed=seed,
            progress=False,
        )
        scores[" + ".join(names)] = accuracy(model, features["test"], "agree")
    for name, label in (("video", "written"), ("audio", "spoken")):
        numbers_of = replace(data["test"], labels={"number": data["test"].labels[label]})
        scores[f"{label} number read"] = accuracy(alone[name], numbers_of, "number")
    mmlearn.seed_everything(seed)
    scratch = build(NAMES, num_tokens, 2)
    history = fit(scratch, data["train"], data["valid"], task, epochs=12, lr=2e-3, seed=seed, progress=False)
    scores["from scratch"] = accuracy(scratch, data["test"], "agree")
    scores["from scratch, last training loss"] = history[-1]["train_loss"]
    return scores


def main() -> None:
    begin("first_model")
    noisy, vocabulary = load("redundant", NOISE)
    agreeing, _ = load("synergy", SYNERGY_NOISE, vocabulary)
    rows: dict[str, list[Any]] = {"numbers": [], "synergy": []}
    for seed in SEEDS:
        alone = train_alone(noisy, len(vocabulary), seed)
        rows["numbers"].append(numbers(noisy, alone, len(vocabulary), seed))
        rows["synergy"].append(synergy(agreeing, len(vocabulary), alone, seed))
        for part in rows:
            print(
                f"seed {seed}, {part}:", {name: round(value, 3) for name, value in rows[part][-1].items()}, flush=True
            )
    tables = {part: {name: spread([row[name] for row in rows[part]]) for name in rows[part][0]} for part in rows}
    save("first_model", {"seeds": SEEDS, "sizes": SIZES, "noise": NOISE, "synergy_noise": SYNERGY_NOISE, **tables})


if __name__ == "__main__":
    main()
