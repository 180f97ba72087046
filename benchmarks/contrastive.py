"""What decides whether a clip's three views find one another: chapter pretraining/contrastive over several seeds.

Sentences of two characters, a number and a thing. A fifth of the 120 sentences is held out of training: its clips test
whether a sentence never seen together is read. Temperature, batch size, what counts as the same, and the sigmoid loss
are varied one at a time; a probe and few-label curves say what an encoder is worth afterwards.

Run `python -m benchmarks.contrastive` (about 20 minutes of one core). What is finished is kept in
_build/contrastive/, and a run that was stopped goes on from there.
"""

import copy
import math
import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import mmlearn
from benchmarks.report import UNFINISHED, begin, keep, save, spread
from mmlearn import Batch, collate, fit
from mmlearn.datasets import HanziClips
from mmlearn.datasets.hanzi import grammar
from mmlearn.encoders import AudioEncoder, TextEncoder, VideoEncoder
from mmlearn.finetuning.classification import few_shot_subset, linear_probe
from mmlearn.preprocessing.audio import LogMel
from mmlearn.preprocessing.text import Vocabulary
from mmlearn.preprocessing.video import to_tensor
from mmlearn.pretraining.contrastive import (
    Contrastive,
    ContrastiveLoss,
    ContrastiveModel,
    SigmoidLoss,
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
TEMPERATURES = [0.01, 0.07, 0.3, 1.0]  # held fixed; by default it is learned, and starts at 0.07
BATCHES = [16, 64, 256]
LABELS = [1, 5, 20, 100]  # a class
SETTINGS = {"epochs": 6, "batch_size": 64, "lr": 3e-3}
PAIR_EPOCHS = 20  # picture and sound alone, without words, start slowly
FINETUNING: dict[str, Any] = {"steps": 150, "batch_size": 32, "lr": {"head": 1e-2, "pretrained": 3e-4, "new": 3e-3}}
SENTENCES = len(grammar.NUMBERS) * len(grammar.THINGS)
Scores = dict[str, float]


def held_out() -> Tensor:
    """Which of the sentences, number * 12 + thing, are never trained on: bool (120,); two numbers of each thing."""
    held = torch.zeros(SENTENCES, dtype=torch.bool)
    for thing in range(12):
        for number in (thing % 10, (thing + 4) % 10):
            held[number * 12 + thing] = True
    return held


def load() -> tuple[dict[str, Batch], Vocabulary]:
    clips = {split: HanziClips(size, split=split, length=2, frames=8) for split, size in SIZES.items()}
    vocabulary = Vocabulary(clip.text or "" for clip in clips["train"])
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
                colour, way = rng.choice(list(grammar.COLORS)), rng.choice(list(grammar.DIRECTIONS))
                sentence = grammar.Sentence(grammar.TEMPLATES[2][0], number, colour, way, thing, thing)
                texts.append(vocabulary.encode(grammar.caption(rng, sentence)))
    lengths = torch.tensor([len(text) for text in texts])
    ids = nn.utils.rnn.pad_sequence(texts, batch_first=True)
    batch = Batch({"text": ids}, {"text": lengths > 0}, {"text": torch.arange(ids.shape[1]) < lengths[:, None]})
    return batch, torch.arange(SENTENCES).repeat_interleave(each)


def build(vocabulary: Vocabulary, names: list[str], criterion: ContrastiveLoss) -> ContrastiveModel:
    new: dict[str, Callable[[], nn.Module]] = {
        "video": VideoEncoder,
        "audio": AudioEncoder,
        "text": lambda: TextEncoder(len(vocabulary)),
    }
    return ContrastiveModel({name: new[name]() for name in names}, dict.fromkeys(names, 128), 64, criterion)


@torch.inference_mode()
def embed(model: ContrastiveModel, batch: Batch, names: list[str]) -> dict[str, Tensor]:
    model.eval()
    parts = [batch[i : i + 200] for i in range(0, len(batch), 200)]
    return {name: torch.cat([model.embed(name, part) for part in parts]) for name in names}


def judge(model: ContrastiveModel, test: Batch, words: tuple[Batch, Tensor]) -> Scores:
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
    label: str | None = None,
    names: list[str] = NAMES,
    **changes: float,
) -> ContrastiveModel:
    """A model trained on the clips of sentences that are not held out; which say the same it knows by `label` only."""
    known = {split: batch[~held_out()[batch.labels["sentence"]]] for split, batch in data.items()}
    mmlearn.seed_everything(seed)
    model = build(vocabulary, names, criterion)
    settings: dict[str, Any] = SETTINGS | changes
    fit(model, known["train"], known["valid"], Contrastive(criterion, label), seed=seed, progress=False, **settings)
    return model.cpu()


def fixed(temperature: float) -> ContrastiveLoss:
    """A loss whose temperature is not learned."""
    criterion = ContrastiveLoss(temperature)
    criterion.log_scale.requires_grad_(False)
    return criterion


@torch.inference_mode()
def encode(encoder: nn.Module, batch: Batch) -> Tensor:
    encoder.eval()
    return torch.cat([encoder(batch.data["video"][i : i + 200]) for i in range(0, len(batch), 200)]).clone()


def finetune(encoder: nn.Module, is_new: bool, video: Tensor, target: Tensor, seed: int) -> nn.Module:
    """Encoder and a linear head, trained together on few labels; no clip is spared for choosing anything.

    A pretrained encoder is changed slowly, ten times more slowly than a new one, which needs its full rate.
    """
    mmlearn.seed_everything(seed)
    head = nn.Linear(128, len(grammar.NUMBERS))
    model = nn.Sequential(copy.deepcopy(encoder), head).train()
    steps, rates = FINETUNING["steps"], FINETUNING["lr"]
    slow, fast = rates["new" if is_new else "pretrained"], rates["head"]
    groups = [{"params": model[0].parameters(), "lr": slow}, {"params": head.parameters(), "lr": fast}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [slow, fast], total_steps=steps)
    for _ in range(steps):
        rows = torch.randperm(len(video))[: FINETUNING["batch_size"]]
        loss = nn.functional.cross_entropy(model(video[rows]), target[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def few(data: dict[str, Batch], encoder: nn.Module, seed: int, is_new: bool = False) -> Scores:
    """How well the written number is read with few labels: by a probe of an encoder, and after finetuning it."""
    target = {split: data[split].labels["number"] for split in ("train", "test")}
    x, scores = {split: encode(encoder, data[split]) for split in ("train", "test")}, {}
    for count in LABELS:
        chosen = few_shot_subset(target["train"], count, seed)
        y = target["train"][chosen]
        scores[f"probe, {count}"] = linear_probe(x["train"][chosen], y, x["test"], target["test"], seed)
        tuned = finetune(encoder, is_new, data["train"].data["video"][chosen], y, seed)
        right = encode(tuned, data["test"]).argmax(dim=1) == target["test"]
        scores[f"finetuned, {count}"] = float(right.float().mean())
    return scores


def plan() -> dict[str, tuple[list[int], Callable[[], ContrastiveLoss], dict[str, Any]]]:
    """Name of a run → seeds, loss, what is changed. By default no label is used, each clip is like itself only."""
    same, longer = {"label": "sentence"}, max(BATCHES) // SETTINGS["batch_size"] * SETTINGS["epochs"]
    runs: dict[str, tuple[list[int], Callable[[], ContrastiveLoss], dict[str, Any]]] = {
        "default": (MORE_SEEDS, ContrastiveLoss, {}),
        "picture and sound": (MORE_SEEDS, ContrastiveLoss, {"names": ["video", "audio"], "epochs": PAIR_EPOCHS}),
    }
    for size in BATCHES:
        runs[f"batch {size}, repeats known"] = (SEEDS, ContrastiveLoss, {"batch_size": size} | same)
        if size != SETTINGS["batch_size"]:
            runs[f"batch {size}"] = (SEEDS, ContrastiveLoss, {"batch_size": size})
    for value in TEMPERATURES:
        runs[f"temperature {value}"] = (SEEDS, partial(fixed, value), {})
    bias = -math.log(SETTINGS["batch_size"] - 1)  # at the start, one pair of a row is expected to belong together
    runs["sigmoid"] = (SEEDS, partial(SigmoidLoss, init_bias=bias), {})
    many = {"batch_size": max(BATCHES), "epochs": longer}  # as many steps as the default takes
    runs[f"batch {max(BATCHES)}, longer, repeats known"] = (SEEDS, ContrastiveLoss, many | same)
    runs[f"batch {max(BATCHES)}, longer"] = (SEEDS, ContrastiveLoss, many)
    return runs


def main() -> None:
    begin("contrastive")
    data, vocabulary = load()
    words, runs = prompts(vocabulary), plan()
    settings = {"sizes": SIZES, "held_out": int(held_out().sum()), "sentences": SENTENCES, **SETTINGS}
    about = {"seeds": SEEDS, "more_seeds": MORE_SEEDS, "settings": settings, "finetuning": FINETUNING}
    about |= {"temperatures": TEMPERATURES, "batches": BATCHES, "labels": LABELS}
    about["changes"] = {name: changes for name, (_, _, changes) in runs.items()}

    def one(seed: int, criterion: Callable[[], ContrastiveLoss], changes: dict[str, Any], labels: bool) -> Scores:
        model = train(data, vocabulary, seed, criterion(), **changes)
        return judge(model, data["test"], words) | (few(data, model.encoders["video"], seed) if labels else {})

    def scratch(seed: int) -> Scores:
        mmlearn.seed_everything(seed)
        return few(data, VideoEncoder(), seed, is_new=True)

    todo: dict[str, dict[int, Callable[[], Scores]]] = {
        "from scratch": {seed: partial(scratch, seed) for seed in MORE_SEEDS}
    }
    for name, (seeds, criterion, changes) in runs.items():
        todo[name] = {seed: partial(one, seed, criterion, changes, seeds == MORE_SEEDS) for seed in seeds}
    table = {}
    for name, makes in todo.items():
        rows = [keep(UNFINISHED / "contrastive" / f"{name}, {seed}.json", about, make) for seed, make in makes.items()]
        table[name] = {key: spread([row[key] for row in rows]) for key in rows[0]}
    save("contrastive", about | {"runs": table}, peers=["scikit-learn"])
    shutil.rmtree(UNFINISHED / "contrastive")


if __name__ == "__main__":
    main()
