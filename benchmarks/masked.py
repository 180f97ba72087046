"""What does a model learn by filling in what was hidden? Chapter pretraining/masked over several seeds.

Clips of two characters, a number and a thing, that drift in a direction. Without labels, encoders learn from masked
clips: how much is hidden, how it is hidden and how long it goes on are varied one at a time. Then a linear probe on
the frozen encoder names thing and direction in unseen clips, and few labels finetune it. Masked captions, and the joint
model, which tells a modality that it does not see.

Run `python -m benchmarks.masked` (about 2 hours of one core); it writes benchmarks/results/masked.json. With
names of parts (video, audio, text, joint) it runs these only, so that two can run side by side. What is finished is
kept in _build/masked/, and a run that was stopped goes on from there.
"""

import argparse
import copy
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import mmlearn
from benchmarks.report import UNFINISHED, begin, keep, save, spread
from mmlearn import Batch, collate, fit, predict
from mmlearn.clip import Clip
from mmlearn.datasets import HanziClips
from mmlearn.encoders import AudioEncoder, AudioTransformer, TextTransformer, VideoTransformer, xavier
from mmlearn.finetuning import Classification
from mmlearn.finetuning.classification import few_shot_subset, linear_probe
from mmlearn.nn import PatchEmbedding, TokenEmbedding
from mmlearn.preprocessing.audio import LogMel
from mmlearn.preprocessing.text import Segmenter, Vocabulary
from mmlearn.preprocessing.video import to_tensor
from mmlearn.pretraining.masked import (
    JointMaskedAutoencoder,
    MaskedAutoencoder,
    MaskedLanguageModel,
    MaskedPrediction,
    Masking,
    Targets,
    mask_tokens,
    random_masking,
    strip_masking,
    tube_masking,
    word_numbers,
)

SEEDS = [0, 1, 2]
MORE_SEEDS = [0, 1, 2, 3, 4]  # for what is compared by few labels
CLIPS = {"train": 4000, "valid": 100, "test": 400}
FRAMES, SIDE = 8, 32  # a clip has 8 frames of 32 x 32 pixels
SIZE = {"dim": 96, "depth": 2, "num_heads": 4}
DECODER = {"dim": 64, "depth": 1, "num_heads": 4}
PATCH: dict[str, Any] = {"video": (2, 8, 8), "audio": (8, 16)}
UNITS = {"video": (0.5, 0.3), "audio": (-11.0, 4.0)}  # mean and deviation
FACTS = {"direction": 4, "thing": 12}  # what probes are asked for, and how many classes each has
LABELS = [5, 20, 80]  # a class
BATCH_SIZE, BETAS = 64, (0.9, 0.95)  # AdamW's betas, as in MAE
RATES = {"video": 1e-3, "audio": 2e-3, "text": 3e-3, "joint": 2e-3}
EPOCHS = {"video": 30, "audio": 20, "text": 20, "joint": 40}
SHORTER = [3, 10]  # epochs of video, to see what patience is worth
FINETUNING = {"steps": 400, "lr": 1e-3}
Data = dict[str, Batch]
Scores = dict[str, float]


@cache
def load() -> tuple[Data, Vocabulary]:
    """Frames, log-mel, characters, and for each character the word it belongs to."""
    parts = {
        split: HanziClips(size, split=split, length=2, frames=FRAMES, image_size=SIDE) for split, size in CLIPS.items()
    }
    vocabulary = Vocabulary((clip.text or "" for clip in parts["train"]), special=["<mask>"])
    number = partial(word_numbers, words=Segmenter().words)
    transforms = {"video": to_tensor, "audio": LogMel(), "text": vocabulary.encode, "words": number}
    return {
        split: collate([with_words(clip) for clip in clips], transforms) for split, clips in parts.items()
    }, vocabulary


def with_words(clip: Clip) -> Clip:
    """The caption a second time, to be cut into words."""
    return replace(clip, streams=clip.streams | {"words": clip.text})


def video_encoder() -> VideoTransformer:
    return xavier(VideoTransformer((FRAMES, SIDE, SIDE), PATCH["video"], SIZE, "waves"))


def audio_encoder() -> AudioTransformer:
    return xavier(AudioTransformer(64, PATCH["audio"], size=SIZE, positions="waves"))


def louder(embed: TokenEmbedding, times: float = 15) -> None:
    """Raise embeddings from deviation 0.02: in a model this small, a block's output would drown them."""
    with torch.no_grad():
        for codes in (embed.embed.weight, embed.places.learned):
            codes.mul_(times)  # type: ignore[union-attr]


def pretrain(model: nn.Module, data: Data, part: str, seed: int, epochs: int | None = None) -> nn.Module:
    groups = [{"params": list(model.parameters()), "betas": BETAS}]
    fit(model, data["train"], data["valid"], MaskedPrediction(), epochs=epochs or EPOCHS[part], batch_size=BATCH_SIZE,
        lr=RATES[part], parameter_groups=groups, seed=seed, progress=False)  # fmt: skip
    return model.eval()


@torch.inference_mode()
def features(steps: Callable[[Batch], tuple[Tensor, Tensor | None]], batch: Batch) -> Tensor:
    """The mean of the steps that are real, (B, dim)."""
    rows = []
    for start in range(0, len(batch), 100):
        x, mask = steps(batch[start : start + 100])
        real = torch.ones(x.shape[:2], dtype=torch.bool) if mask is None else mask
        rows.append(torch.where(real[..., None], x, 0.0).sum(dim=1) / real.sum(dim=1, keepdim=True))
    return torch.cat(rows).clone()


def probe(x: dict[str, Tensor], data: Data, seed: int, fact: str, few: int) -> float:
    """Accuracy on unseen clips, of a probe trained with a few labels of each class."""
    y = data["train"].labels[fact]
    rows = few_shot_subset(y, few, seed)
    return linear_probe(x["train"][rows], y[rows], x["test"], data["test"].labels[fact], seed)


def encode(encoder: Any, name: str, data: Data) -> dict[str, Tensor]:
    encoder.eval()
    return {s: features(lambda b: encoder.steps(b.data[name], b.mask.get(name)), data[s]) for s in ("train", "test")}


# How much is hidden, and how


VIDEO: dict[str, Masking] = {
    "tubes .25": partial(tube_masking, ratio=0.25),
    "tubes .50": partial(tube_masking, ratio=0.5),
    "tubes .75": partial(tube_masking, ratio=0.75),
    "tubes .875": partial(tube_masking, ratio=0.875),
    "random .50": partial(random_masking, ratio=0.5),
}
AUDIO: dict[str, Masking] = {
    "random .75": partial(random_masking, ratio=0.75),
    "strips .75": partial(strip_masking, time=0.5, frequency=0.5),
}
TARGETS: dict[str, Targets] = {"video": "channel", "audio": "patch"}
PLAIN = "tubes .50"  # what is finetuned, and stopped earlier


def flops(model: MaskedAutoencoder, batch: Batch) -> float:
    """Products of one forward pass, for each clip."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model(batch[:2])
    return counter.get_total_flops() / 2


def one_modality(
    name: str, masking: Masking, data: Data, seed: int, finetuned: bool = False, epochs: int | None = None
) -> Scores:
    """Pretrain with one way to hide; probe."""
    mmlearn.seed_everything(seed)
    encoder = video_encoder() if name == "video" else audio_encoder()
    model = xavier(MaskedAutoencoder(name, encoder, masking, DECODER, TARGETS[name]))
    start = time.process_time()
    pretrain(model, data, name, seed, epochs)
    row = {"seconds": time.process_time() - start, "flops": flops(model, data["valid"])}
    mmlearn.seed_everything(0)  # everybody's guesses are judged with the same masks
    with torch.inference_mode():
        row["error"] = float(MaskedPrediction().loss(model(data["valid"]), data["valid"]))
    return row | judge(encoder, name, data, seed, finetuned)


def untrained(name: str, data: Data, seed: int) -> Scores:
    mmlearn.seed_everything(seed)
    return judge(video_encoder() if name == "video" else audio_encoder(), name, data, seed, name == "video")


def judge(encoder: nn.Module, name: str, data: Data, seed: int, finetuned: bool) -> Scores:
    """Probes; and, if wanted, encoders finetuned with as few labels."""
    row = probes(encode(encoder, name, data), data, seed, ["thing"] if name == "audio" else [*FACTS])
    tasks = [(fact, few) for fact in FACTS for few in LABELS if finetuned]
    return row | {f"{fact}, finetuned {few}": finetune(encoder, data, fact, few, seed) for fact, few in tasks}


def probes(x: dict[str, Tensor], data: Data, seed: int, facts: list[str]) -> Scores:
    return {f"{fact}, probe {few}": probe(x, data, seed, fact, few) for fact in facts for few in LABELS}


def finetune(encoder: nn.Module, data: Data, fact: str, few: int, seed: int) -> float:
    """Train encoder and a linear head on few labels of clips; accuracy on unseen ones."""
    mmlearn.seed_everything(seed)
    steps, lr = int(FINETUNING["steps"]), FINETUNING["lr"]
    model = nn.Sequential(copy.deepcopy(encoder), nn.Linear(SIZE["dim"], FACTS[fact])).train()
    y = data["train"].labels[fact]
    rows = few_shot_subset(y, few, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for _ in range(steps):
        some = rows[torch.randint(len(rows), (16,))]
        loss = nn.functional.cross_entropy(model(data["train"].data["video"][some]), y[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.inference_mode():
        guesses = torch.cat([model.eval()(part).argmax(dim=1) for part in data["test"].data["video"].split(100)])
    return float((guesses == data["test"].labels[fact]).float().mean())


# Captions


def language(data: Data, vocabulary: Vocabulary, words: str | None, seed: int) -> Scores:
    """How often a masked character is guessed: one alone, and where its whole word is hidden."""
    mmlearn.seed_everything(seed)
    encoder = TextTransformer(len(vocabulary), 64, SIZE)
    louder(encoder.embed)
    special = {"mask_id": vocabulary.special["<mask>"], "num_special": len(vocabulary.special)}
    model = MaskedLanguageModel("text", encoder, **special, words=words)
    pretrain(model, data, "text", seed)
    batch, scores = data["test"], {}
    ids, real = batch.data["text"], batch.mask["text"]
    for title, numbers in (("one character", None), ("whole word", batch.data["words"])):
        generator = torch.Generator().manual_seed(0)
        changed, chosen = mask_tokens(
            ids, real, num_tokens=len(vocabulary), words=numbers, generator=generator, **special
        )
        changed = torch.where(chosen, special["mask_id"], ids)
        with torch.inference_mode():
            scores[title] = float((model.logits(changed, real).argmax(dim=-1) == ids)[chosen].float().mean())
    return scores


# All modalities


def joint_model(vocabulary: Vocabulary, drop_modalities: float = 0.3) -> JointMaskedAutoencoder:
    embeds: dict[str, Any] = {
        "video": PatchEmbedding((FRAMES, SIDE, SIDE), PATCH["video"], SIZE["dim"], positions="waves"),
        "audio": PatchEmbedding((136, 64), PATCH["audio"], SIZE["dim"], channels=1, positions="waves"),
        "text": TokenEmbedding(len(vocabulary), SIZE["dim"], 64),
    }
    maskings = {"video": partial(tube_masking, ratio=0.5), "text": partial(random_masking, ratio=0.5)}
    special = len(vocabulary.special)
    model = JointMaskedAutoencoder(
        embeds, SIZE, maskings, DECODER, UNITS, drop_modalities=drop_modalities, num_special=special
    )
    louder(xavier(model).embeds["text"])
    return model


class Listener(nn.Module):
    """Names the thing that a log-mel says."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = AudioEncoder(), nn.Linear(128, 12)

    def forward(self, batch: Batch) -> Tensor:
        """Return logits (B, 12)."""
        return self.head(self.encoder(batch.data["audio"]))


@cache
def listener() -> Listener:
    """A judge that hears real sound only."""
    data, _ = load()
    mmlearn.seed_everything(0)
    model = Listener()
    fit(model, data["train"], data["valid"], Classification("thing", 12), epochs=8, lr=3e-3, progress=False)
    return model


def hear(mel: Tensor, batch: Batch) -> float:
    """How often the judge hears the thing that the batch is about."""
    told = Batch({"audio": mel}, {"audio": torch.ones(len(mel), dtype=torch.bool)})
    return float((predict(listener(), told).argmax(dim=1) == batch.labels["thing"]).float().mean())


def joint(data: Data, vocabulary: Vocabulary, drop_modalities: float, seed: int) -> Scores:
    """Tell the sound from the picture, and from the caption; probe on the picture alone."""
    mmlearn.seed_everything(seed)
    model = joint_model(vocabulary, drop_modalities)
    pretrain(model, data, "joint", seed)
    test = data["test"]
    with torch.inference_mode():
        told = {
            other: torch.cat(
                [model.reconstruct_modality(test[i : i + 100].only(other), "audio") for i in range(0, len(test), 100)]
            )
            for other in ("video", "text")
        }
    x = {split: features(lambda b: model.steps(b.only("video")), data[split]) for split in ("train", "test")}
    return {
        "sound from picture, heard": hear(told["video"], test),
        "sound from caption, heard": hear(told["text"], test),
        "sound from picture, error": float((told["video"] - test.data["audio"]).square().mean()),
        "mean sound, error": float((data["train"].data["audio"].mean(dim=0) - test.data["audio"]).square().mean()),
        "real sound, heard": hear(test.data["audio"], test),
        **probes(x, data, seed, [*FACTS]),
    }


# All of it

Plan = dict[str, dict[str, tuple[list[int], Callable[..., Scores]]]]


def plan(data: Data, vocabulary: Vocabulary) -> Plan:
    """Part → title → its seeds, and what is done with each."""
    parts: Plan = {}
    for name, ways in (("video", VIDEO), ("audio", AUDIO)):
        many = MORE_SEEDS if name == "video" else SEEDS
        parts[name] = {"untrained": (many, partial(untrained, name, data))}
        for title, masking in ways.items():
            is_plain = title == PLAIN
            parts[name][title] = (
                many if is_plain else SEEDS, partial(one_modality, name, masking, data, finetuned=is_plain)
            )  # fmt: skip
    for epochs in SHORTER:
        parts["video"][f"{PLAIN}, {epochs} epochs"] = (
            SEEDS, partial(one_modality, "video", VIDEO[PLAIN], data, epochs=epochs)
        )  # fmt: skip
    parts["text"] = {title: (SEEDS, partial(language, data, vocabulary, words))
                     for title, words in (("characters", None), ("words", "words"))}  # fmt: skip
    parts["joint"] = {f"withheld {rate}": (SEEDS, partial(joint, data, vocabulary, rate)) for rate in (0.3, 0.0)}
    return parts


def smoke() -> None:
    """The same code with tiny sizes; nothing is written."""
    CLIPS.update(train=96, valid=16, test=32)
    EPOCHS.update(dict.fromkeys(EPOCHS, 1))
    FINETUNING.update(steps=2)
    SIZE.update(depth=1)
    LABELS[:] = [2]
    SHORTER[:] = [1]
    for part, runs in plan(*load()).items():
        for title, (_, run) in runs.items():
            row = run(0)
            print(part, title, row, flush=True)
            assert all(math.isfinite(value) for value in row.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="run these only, and write no results yet")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, nothing is written")
    arguments = parser.parse_args()
    if arguments.smoke:
        smoke()
        return
    begin("masked")
    about = {"seeds": SEEDS, "more_seeds": MORE_SEEDS, "clips": CLIPS, "frames": FRAMES, "side": SIDE, "size": SIZE,
             "decoder": DECODER, "facts": FACTS, "labels": LABELS, "epochs": EPOCHS, "shorter": SHORTER,
             "batch_size": BATCH_SIZE, "betas": list(BETAS), "rates": RATES, "finetuning": FINETUNING}  # fmt: skip
    parts = {part: runs for part, runs in plan(*load()).items() if part in (arguments.parts or [part])}
    rows: dict[tuple[str, str], list[Scores]] = {(part, title): [] for part, runs in parts.items() for title in runs}
    for seed in MORE_SEEDS:  # seed by seed: after the first one there is something to look at
        for part, title in rows:
            seeds, run = parts[part][title]
            if seed in seeds:
                file = UNFINISHED / "masked" / f"{part}, {title}, {seed}.json"
                rows[part, title].append(keep(file, about, partial(run, seed=seed)))
    table: dict[str, dict[str, Any]] = {part: {} for part in parts}
    for (part, title), found in rows.items():
        table[part][title] = {name: spread([row[name] for row in found]) for name in found[0]}
    if not arguments.parts:
        save("masked", about | table, peers=["scikit-learn"])
        shutil.rmtree(UNFINISHED / "masked")


if __name__ == "__main__":
    main()
