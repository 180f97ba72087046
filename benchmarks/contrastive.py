"""What decides whether a clip's three views find one another: chapter pretraining/contrastive over several seeds.

Sentences of two characters, a number and a thing. A fifth of the 120 sentences is held out of training: its clips test
whether a sentence never seen together is read. Temperature, batch size, repeated sentences and the sigmoid loss are
varied one at a time; a probe and few-label curves say what an encoder is worth afterwards.

Run `python -m benchmarks.contrastive` (about 12 minutes on 2 idle cores).
"""

import math
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

import mmlearn
from benchmarks.report import save, spread
from mmlearn import Batch, MultimodalModel, collate, fit, predict
from mmlearn.datasets import HanziClips, grammar
from mmlearn.finetuning import Classification
from mmlearn.finetuning.probing import few_labels, linear_probe
from mmlearn.fusion import ConcatFusion
from mmlearn.nn import AudioEncoder, TextEncoder, VideoEncoder
from mmlearn.preprocessing.audio import LogMel
from mmlearn.preprocessing.text import Vocabulary
from mmlearn.preprocessing.video import to_tensor
from mmlearn.pretraining.contrastive import ContrastiveLoss, SigmoidLoss
from mmlearn.pretraining.contrastive_model import Contrastive, ContrastiveModel
from mmlearn.pretraining.retrieval import (
    alignment,
    modality_gap,
    ranks,
    recall_at,
    uniformity,
    zero_shot_classifier,
)

SEEDS, MORE_SEEDS = [0, 1, 2], [0, 1, 2, 3, 4]
SIZES = {"train": 2000, "valid": 200, "test": 600}
NAMES = ["video", "audio", "text"]
TEMPERATURES = [0.01, 0.2, 1.0]  # besides 0.07, where the default starts
BATCHES = [16, 64, 256]
LABELS = [1, 5, 20, 100]
SETTINGS = {"epochs": 6, "batch_size": 64, "lr": 3e-3}
SENTENCES = len(grammar.NUMBERS) * len(grammar.THINGS)


def held_out() -> Tensor:
    """Which of the sentences, number * 12 + thing, are never trained on: bool (120,); two numbers of each thing."""
    held = torch.zeros(SENTENCES, dtype=torch.bool)
    for thing in range(12):
        for number in (thing % 10, (thing + 4) % 10):
            held[number * 12 + thing] = True
    return held


def load() -> tuple[dict[str, Batch], Vocabulary]:
    clips = {split: HanziClips(size, split=split, length=2, frames=8) for split, size in SIZES.items()}
    vocabulary = Vocabulary(clip.text for clip in clips["train"])
    transforms = {"video": to_tensor, "audio": LogMel(), "text": vocabulary.encode}
    data = {split: collate(list(part), transforms) for split, part in clips.items()}
    for batch in data.values():
        batch.labels["sentence"] = batch.labels["number"] * 12 + batch.labels["thing"]
    return data, vocabulary


def prompts(vocabulary: Vocabulary, each: int = 8) -> tuple[Batch, Tensor]:
    """Captions of every sentence in other words, colours and directions; and which sentence each one describes."""
    rng, texts = np.random.default_rng(0), []
    for number in grammar.NUMBERS:
        for thing in grammar.THINGS:
            for _ in range(each):
                colour, way = rng.choice(list(grammar.COLOURS)), rng.choice(list(grammar.DIRECTIONS))
                sentence = grammar.Sentence(grammar.TEMPLATES[2][0], number, colour, way, thing, thing)
                texts.append(vocabulary.encode(grammar.caption(rng, sentence)))
    lengths = torch.tensor([len(text) for text in texts])
    ids = nn.utils.rnn.pad_sequence(texts, batch_first=True)
    batch = Batch({"text": ids}, {"text": lengths > 0}, {"text": torch.arange(ids.shape[1]) < lengths[:, None]})
    return batch, torch.arange(SENTENCES).repeat_interleave(each)


def build(vocabulary: Vocabulary, names: list[str], criterion: ContrastiveLoss) -> ContrastiveModel:
    new = {"video": VideoEncoder, "audio": AudioEncoder, "text": lambda: TextEncoder(len(vocabulary))}
    return ContrastiveModel({name: new[name]() for name in names}, dict.fromkeys(names, 128), 64, criterion)


@torch.inference_mode()
def embed(model: ContrastiveModel, batch: Batch, names: list[str]) -> dict[str, Tensor]:
    model.eval()
    parts = [batch[i : i + 200] for i in range(0, len(batch), 200)]
    return {name: torch.cat([model.embed(name, part) for part in parts]) for name in names}


def judge(model: ContrastiveModel, test: Batch, words: tuple[Batch, Tensor]) -> dict[str, float]:
    """Retrieval, zero-shot reading of sentences seen and unseen, and the shape of the space."""
    names = list(model.encoders)
    x, ids = embed(model, test, names), test.labels["sentence"]
    found = {f"{a} to {b}": recall_at(1, ranks(x[a], x[b], ids)) for a in names for b in names if a != b}
    scores = {"recall": float(np.mean(list(found.values()))), **{f"R@1 {name}": value for name, value in found.items()}}
    scores["scale"] = model.criterion.scale.item()
    for a, b in (("video", "text"), ("video", "audio")):
        if a in x and b in x:
            scores[f"alignment {a}-{b}"] = float(alignment(x[a], x[b]))
            scores[f"gap {a}-{b}"] = float(modality_gap(x[a], x[b]))
    scores["uniformity"] = float(np.mean([float(uniformity(x[name])) for name in names]))
    if "text" not in names:
        return scores
    classes = zero_shot_classifier(embed(model, words[0], ["text"])["text"], words[1])  # (120, D)
    unseen = held_out()[ids]
    for name in ("video", "audio"):
        right = (x[name] @ classes.T).argmax(dim=1) == ids
        scores[f"zero-shot {name}, seen"] = float(right[~unseen].float().mean())
        scores[f"zero-shot {name}, unseen"] = float(right[unseen].float().mean())
    return scores


def train(
    data: dict[str, Batch],
    vocabulary: Vocabulary,
    seed: int,
    criterion: ContrastiveLoss,
    label: str | None = "sentence",
    names: list[str] = NAMES,
    **changes: float,
) -> ContrastiveModel:
    """A model trained on the sentences that are not held out."""
    seen = {split: batch[~held_out()[batch.labels["sentence"]]] for split, batch in data.items()}
    mmlearn.seed_everything(seed)
    model = build(vocabulary, names, criterion)
    settings = SETTINGS | changes
    fit(model, seen["train"], seen["valid"], Contrastive(criterion, label), seed=seed, progress=False, **settings)
    return model


def fixed(temperature: float) -> ContrastiveLoss:
    """A loss whose temperature is not learned."""
    criterion = ContrastiveLoss(temperature)
    criterion.log_scale.requires_grad_(False)
    return criterion


def plan() -> list[tuple[str, int, Callable[[], ContrastiveLoss], dict]]:
    """All runs: name, seed, loss, what is changed."""
    runs: list[tuple[str, int, Callable[[], ContrastiveLoss], dict]] = []
    for seed in MORE_SEEDS:
        runs.append(("default", seed, ContrastiveLoss, {}))
        runs.append(("picture and sound", seed, ContrastiveLoss, {"names": ["video", "audio"]}))
    for seed in SEEDS:
        runs += [(f"temperature {value}", seed, partial(fixed, value), {}) for value in TEMPERATURES]
        for size in BATCHES:
            if size != SETTINGS["batch_size"]:
                runs.append((f"batch {size}", seed, ContrastiveLoss, {"batch_size": size}))
            runs.append(
                (f"batch {size}, repeats as negatives", seed, ContrastiveLoss, {"batch_size": size, "label": None})
            )
        bias = -math.log(SETTINGS["batch_size"] - 1)  # at the start, one pair of a row is expected to belong together
        runs.append(("sigmoid", seed, partial(SigmoidLoss, init_bias=bias), {}))
    return runs


def few(data: dict[str, Batch], encoders: dict[str, nn.Module], seed: int) -> dict[str, float]:
    """How well the written number is read with few labels: by a probe of each encoder, and after finetuning it."""
    target = {split: data[split].labels["number"] for split in ("train", "test")}
    scores = {}
    for name, encoder in encoders.items():
        x = {split: encode(encoder, data[split]) for split in ("train", "test")}
        for count in LABELS:
            chosen = few_labels(target["train"], count, seed)
            probed = linear_probe(x["train"][chosen], target["train"][chosen], x["test"], target["test"], seed)
            scores[f"probe, {name}, {count}"] = probed
            mmlearn.seed_everything(seed)
            model = MultimodalModel({"video": VideoEncoder()}, ConcatFusion({"video": 128}, 128), nn.Linear(128, 10))
            model.encoders["video"].load_state_dict(encoder.state_dict())
            clips, task = data["train"][chosen], Classification("number", 10)
            epochs = max(4, round(60 / math.ceil(len(clips) / 32)))  # sixty steps, or more
            fit(model, clips, clips, task, epochs=epochs, lr=1e-3, seed=seed, progress=False)
            right = predict(model, data["test"]).argmax(dim=1) == target["test"]
            scores[f"finetuned, {name}, {count}"] = float(right.float().mean())
    return scores


@torch.inference_mode()
def encode(encoder: nn.Module, batch: Batch) -> Tensor:
    encoder.eval()
    return torch.cat([encoder(batch.data["video"][i : i + 200]) for i in range(0, len(batch), 200)]).clone()


def table(rows: list[dict[str, float]]) -> dict[str, dict]:
    return {name: spread([row[name] for row in rows]) for name in rows[0]}


def main() -> None:
    data, vocabulary = load()
    words, rows, encoders = prompts(vocabulary), {}, {seed: {} for seed in MORE_SEEDS}
    for name, seed, criterion, changes in plan():
        start = time.perf_counter()
        model = train(data, vocabulary, seed, criterion(), **changes)
        rows.setdefault(name, []).append(judge(model, data["test"], words))
        if name in ("default", "picture and sound"):
            encoders[seed][name] = model.encoders["video"]
        seconds = time.perf_counter() - start
        print(f"{name:32} seed {seed}  R@1 {rows[name][-1]['recall']:.3f}  {seconds:5.1f} s", flush=True)
    labels = []
    for seed in MORE_SEEDS:
        mmlearn.seed_everything(seed)
        encoders[seed]["from scratch"] = VideoEncoder()
        labels.append(few(data, encoders[seed], seed))
        print(f"few labels, seed {seed}:", {name: round(value, 3) for name, value in labels[-1].items()}, flush=True)
    finish({name: table(part) for name, part in rows.items()}, table(labels))


def finish(runs: dict[str, dict], labels: dict[str, dict]) -> None:
    settings = {"sizes": SIZES, "held_out": int(held_out().sum()), "sentences": SENTENCES, **SETTINGS}
    about = {"seeds": SEEDS, "more_seeds": MORE_SEEDS, "settings": settings, "temperatures": TEMPERATURES}
    save("contrastive", about | {"batches": BATCHES, "labels": LABELS, "runs": runs, "few_labels": labels})


if __name__ == "__main__":
    main()
