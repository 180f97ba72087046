"""What does a model learn by filling in what was hidden? Chapter pretraining/masked over 3 seeds.

Clips of two characters, a number and a thing. Without labels, encoders learn from masked clips: how much is hidden, how
it is hidden and what the loss asks for are varied one at a time. Then a linear probe on the frozen encoder names the
thing in unseen clips. Masked captions, and the joint model, which tells a modality that it does not see.

Run `python -m benchmarks.masked` (about 7 minutes on 2 cores); it writes benchmarks/results/masked.json.
"""

import argparse
import copy
import math
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import mmlearn
from benchmarks.report import save, spread
from mmlearn import Batch, collate, fit, predict
from mmlearn.clip import Clip
from mmlearn.datasets import HanziClips
from mmlearn.finetuning import Classification
from mmlearn.finetuning.probing import few_labels, linear_probe
from mmlearn.nn import AudioEncoder, AudioTransformer, PatchEmbedding, TextTransformer, TokenEmbedding, VideoTransformer
from mmlearn.preprocessing.audio import LogMel
from mmlearn.preprocessing.text import Segmenter, Vocabulary
from mmlearn.preprocessing.video import to_tensor
from mmlearn.pretraining.masked import MaskedAutoencoder, MaskedPrediction
from mmlearn.pretraining.masked_joint import JointMaskedAutoencoder
from mmlearn.pretraining.masked_language import MaskedLanguageModel
from mmlearn.pretraining.masking import (
    Masking,
    mask_tokens,
    random_masking,
    strip_masking,
    tube_masking,
    word_numbers,
)

SEEDS = [0, 1, 2]
CLIPS = {"train": 800, "valid": 200, "test": 400}
SIZE = {"dim": 128, "depth": 3, "num_heads": 2}
PATCH = {"video": (4, 8, 8), "audio": (8, 16)}
UNITS = {"video": (0.5, 0.3), "audio": (-8.0, 4.0)}  # mean and deviation
LABELS = [5, 20, 60]  # a class
SETTINGS = {"batch_size": 32, "lr": 2e-3}
EPOCHS = {"video": 25, "audio": 25, "text": 30, "joint": 25}
Data = dict[str, Batch]


def load() -> tuple[Data, Vocabulary]:
    """Frames, log-mel, characters, and for each character the word it belongs to."""
    parts = {split: HanziClips(size, split=split, length=2) for split, size in CLIPS.items()}
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
    return VideoTransformer((16, 48, 48), PATCH["video"], SIZE)


def audio_encoder() -> AudioTransformer:
    return AudioTransformer(64, PATCH["audio"], size=SIZE)


def pretrain(model: nn.Module, data: Data, epochs: int, seed: int, objective: Any = None) -> nn.Module:
    fit(model, data["train"], data["valid"], objective or MaskedPrediction(), epochs=epochs, seed=seed, progress=False,
        **SETTINGS)  # type: ignore[arg-type] # fmt: skip
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


def probe(x: dict[str, Tensor], data: Data, seed: int, few: int | None = None, label: str = "thing") -> float:
    """Accuracy on unseen clips, of a probe trained with all labels or a few of each class."""
    y = data["train"].labels[label]
    rows = torch.arange(len(y)) if few is None else few_labels(y, few, seed)
    return linear_probe(x["train"][rows], y[rows], x["test"], data["test"].labels[label], seed)


def encode(encoder: nn.Module, name: str, data: Data) -> dict[str, Tensor]:
    encoder.eval()
    return {s: features(lambda b: encoder.steps(b.data[name], b.mask.get(name)), data[s]) for s in ("train", "test")}


# How much is hidden, and how


VIDEO: dict[str, Masking] = {
    "tubes .25": partial(tube_masking, ratio=0.25),
    "tubes .50": partial(tube_masking, ratio=0.5),
    "tubes .75": partial(tube_masking, ratio=0.75),
    "tubes .90": partial(tube_masking, ratio=0.9),
    "random .90": partial(random_masking, ratio=0.9),
}
AUDIO: dict[str, Masking] = {
    "random .50": partial(random_masking, ratio=0.5),
    "random .75": partial(random_masking, ratio=0.75),
    "strips .75": partial(strip_masking, time=0.5, frequency=0.5),
}


def flops(model: MaskedAutoencoder, batch: Batch) -> float:
    """Products of one forward pass, for each clip."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model(batch[:2])
    return counter.get_total_flops() / 2


def one_modality(name: str, masking: Masking, data: Data, seed: int) -> tuple[nn.Module, dict[str, Any]]:
    """Pretrain with one way to hide; probe."""
    mmlearn.seed_everything(seed)
    encoder = video_encoder() if name == "video" else audio_encoder()
    model = MaskedAutoencoder(name, encoder, masking)
    start = time.perf_counter()
    pretrain(model, data, EPOCHS[name], seed)
    row: dict[str, Any] = {"seconds": time.perf_counter() - start, "flops": flops(model, data["valid"])}
    mmlearn.seed_everything(0)  # everybody's guesses are judged with the same masks
    with torch.inference_mode():
        row["error"] = float(MaskedPrediction().loss(model(data["valid"]), data["valid"]))
    x = encode(encoder, name, data)
    row |= {"probe": probe(x, data, seed), **{f"probe {few}": probe(x, data, seed, few) for few in LABELS}}
    return encoder, row


def untrained(name: str, data: Data, seed: int) -> dict[str, Any]:
    mmlearn.seed_everything(seed)
    x = encode(video_encoder() if name == "video" else audio_encoder(), name, data)
    return {"probe": probe(x, data, seed), **{f"probe {few}": probe(x, data, seed, few) for few in LABELS}}


def finetune(encoder: nn.Module, data: Data, few: int, seed: int, steps: int = 80) -> float:
    """Train encoder and a linear head on few labels; accuracy on unseen clips."""
    mmlearn.seed_everything(seed)
    model = nn.Sequential(copy.deepcopy(encoder), nn.Linear(SIZE["dim"], 12)).train()
    y = data["train"].labels["thing"]
    rows = few_labels(y, few, seed)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
    for _ in range(steps):
        some = rows[torch.randint(len(rows), (16,))]
        loss = nn.functional.cross_entropy(model(data["train"].data["video"][some]), y[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.inference_mode():
        guesses = torch.cat([model.eval()(part).argmax(dim=1) for part in data["test"].data["video"].split(100)])
    return float((guesses == data["test"].labels["thing"]).float().mean())


# Captions


def language(data: Data, vocabulary: Vocabulary, words: str | None, seed: int) -> dict[str, float]:
    """How often a masked character is guessed: one alone, and where its whole word is hidden."""
    mmlearn.seed_everything(seed)
    encoder = TextTransformer(len(vocabulary), 64, SIZE)
    special = {"mask_id": vocabulary.special["<mask>"], "num_special": len(vocabulary.special)}
    model = MaskedLanguageModel("text", encoder, **special, words=words)
    pretrain(model, data, EPOCHS["text"], seed)
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


def joint_model(vocabulary: Vocabulary, withhold: float = 0.3) -> JointMaskedAutoencoder:
    embeds = {
        "video": PatchEmbedding((16, 48, 48), PATCH["video"], 128, positions="sincos"),
        "audio": PatchEmbedding((136, 64), PATCH["audio"], 128, channels=1, positions="sincos"),
        "text": TokenEmbedding(len(vocabulary), 128, 64),
    }
    maskings = {"video": partial(tube_masking, ratio=0.75), "text": partial(random_masking, ratio=0.5)}
    special = len(vocabulary.special)
    return JointMaskedAutoencoder(embeds, SIZE, maskings, targets=UNITS, withhold=withhold, num_special=special)


class Listener(nn.Module):
    """Names the thing that a log-mel says."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = AudioEncoder(), nn.Linear(128, 12)

    def forward(self, batch: Batch) -> Tensor:
        """Return logits (B, 12)."""
        return self.head(self.encoder(batch.data["audio"]))


def listen(data: Data) -> Listener:
    """A judge that hears real sound only."""
    mmlearn.seed_everything(0)
    listener = Listener()
    fit(listener, data["train"], data["valid"], Classification("thing", 12), epochs=12, lr=3e-3, progress=False)
    return listener


def hear(listener: Listener, mel: Tensor, batch: Batch) -> float:
    told = Batch({"audio": mel}, {"audio": torch.ones(len(mel), dtype=torch.bool)})
    return float((predict(listener, told).argmax(dim=1) == batch.labels["thing"]).float().mean())


def joint(data: Data, vocabulary: Vocabulary, withhold: float, listener: Listener, seed: int) -> dict[str, float]:
    """Tell the sound from the picture; the caption's characters from the picture; probe on the picture alone."""
    mmlearn.seed_everything(seed)
    model = joint_model(vocabulary, withhold)
    pretrain(model, data, EPOCHS["joint"], seed)
    test = data["test"]
    with torch.inference_mode():
        told = torch.cat([model.imagine(test[i : i + 100].only("video"), "audio") for i in range(0, len(test), 100)])
        blind = torch.cat([model.imagine(test[i : i + 100].only("text"), "audio") for i in range(0, len(test), 100)])
    x = {split: features(lambda b: model.steps(b.only("video")), data[split]) for split in ("train", "test")}
    return {
        "sound from picture, heard": hear(listener, told, test),
        "sound from caption, heard": hear(listener, blind, test),
        "sound from picture, error": float((told - test.data["audio"]).square().mean()),
        "mean sound, error": float((data["train"].data["audio"].mean(dim=0) - test.data["audio"]).square().mean()),
        "probe": probe(x, data, seed),
        **{f"probe {few}": probe(x, data, seed, few) for few in LABELS},
    }


Tables = dict[str, dict[str, dict[str, Any]]]


def run_seed(seed: int) -> Tables:
    """Everything with one seed: part → title → numbers."""
    torch.set_num_threads(1)  # two seeds run side by side on two cores
    data, vocabulary = load()
    listener = listen(data)
    tables: Tables = {"video": {}, "audio": {}, "text": {}, "joint": {}, "finetune": {}}

    def note(part: str, title: str, row: dict[str, Any]) -> None:
        tables[part][title] = row
        print(f"seed {seed}, {part}, {title}:", {name: round(value, 3) for name, value in row.items()}, flush=True)

    for name, ways in (("video", VIDEO), ("audio", AUDIO)):
        note(name, "untrained", untrained(name, data, seed))
        for title, masking in ways.items():
            encoder, row = one_modality(name, masking, data, seed)
            note(name, title, row)
            if title == "tubes .90":
                few = LABELS[len(LABELS) // 2]
                scores = {"pretrained": finetune(encoder, data, few, seed)}
                mmlearn.seed_everything(seed)
                note("finetune", f"{few} labels", scores | {"scratch": finetune(video_encoder(), data, few, seed)})
    for title, words in (("characters", None), ("words", "words")):
        note("text", title, language(data, vocabulary, words, seed))
    for withhold in (0.0, 0.3):
        note("joint", f"withheld {withhold}", joint(data, vocabulary, withhold, listener, seed))
    note("joint", "real", {"sound, heard": hear(listener, data["test"].data["audio"], data["test"])})
    return tables


def report(runs: list[Tables]) -> None:
    """Put the seeds' results together."""
    merged = {part: {title: {name: spread([run[part][title][name] for run in runs]) for name in row}
                     for title, row in table.items()} for part, table in runs[0].items()}  # fmt: skip
    about = {"seeds": SEEDS, "clips": CLIPS, "size": SIZE, "labels": LABELS, "epochs": EPOCHS, "settings": SETTINGS}
    save("masked", about | merged, peers=["scikit-learn"])


def smoke() -> None:
    """The same code with tiny sizes; nothing is written."""
    CLIPS.update(train=96, valid=16, test=32)
    EPOCHS.update(dict.fromkeys(EPOCHS, 1))
    SIZE.update(dim=128, depth=1)
    LABELS[:] = [2]
    tables = run_seed(0)
    assert all(math.isfinite(value) for table in tables.values() for row in table.values() for value in row.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, nothing is written")
    if parser.parse_args().smoke:
        smoke()
        return
    HanziClips(10)  # fetch what is missing before processes start
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        report(list(pool.map(run_seed, SEEDS)))


if __name__ == "__main__":
    main()
