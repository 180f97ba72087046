"""Sequences written from clips by plain networks, LSTMs and GRUs: chapter finetuning/seq2seq over 3 seeds.

Run `python -m benchmarks.seq2seq` (about 12 minutes on one idle core); it writes benchmarks/results/seq2seq.json.
"""

import argparse
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torchmetrics.text import CharErrorRate

import mmlearn
from benchmarks.report import save, spread
from mmlearn import Batch, Clip, collate, fit
from mmlearn.datasets import HanziClips, grammar
from mmlearn.datasets.strokes import stroke_sequence
from mmlearn.finetuning import EncoderDecoder, Seq2Seq
from mmlearn.nn import OrderedPool, RecurrentEncoder, VideoEncoder
from mmlearn.preprocessing.audio import LogMel, mix
from mmlearn.preprocessing.text import Vocabulary, pinyin_syllables
from mmlearn.preprocessing.video import to_tensor

SEEDS = [0, 1, 2]
SIZES = {"train": 1600, "valid": 100, "test": 400}
CELLS = ["rnn", "lstm", "gru"]
EPOCHS = {"shown": 12, "pinyin": 8, "last": 12, "strokes": 10, "caption": 12}
RATE, DIM, TUBELET, FPS = 16_000, 96, 2, 16 / 1.92  # samples a second; width; frames a step; frames a second
RATES = {"audio": 12.5, "seen": FPS / TUBELET}  # steps a second
NOISE_DB = 10.0

log_mel = LogMel()


def coarse(audio: np.ndarray) -> torch.Tensor:
    """Log-mel (64, T), averaged to 12.5 steps a second."""
    mel = log_mel(np.asarray(audio, np.float32))
    return mel[:, : mel.shape[1] // 8 * 8].unflatten(1, (-1, 8)).mean(dim=2)


def shown(clip: Clip) -> str:
    """What stands on the paper in the middle of each tubelet, 〇 for nothing; then the ink's colour and the drift.

    The first sign stands before the first that is to be said, as <start> does.
    """
    signs = "〇"
    for time in (np.arange(8) + 0.5) * TUBELET / FPS:
        begun = [word.text for word in clip.words if word.start <= time < clip.labels["duration"]]
        signs += begun[-1] if begun else "〇"
    return signs + list(grammar.COLOURS)[clip.labels["colour"]] + list(grammar.DIRECTIONS)[clip.labels["direction"]]


class Reader(nn.Module):
    """Say what each tubelet shows, and the whole clip's colour and direction: so an encoder learns to read."""

    def __init__(self, num_tokens: int) -> None:
        super().__init__()
        self.encoder = VideoEncoder(tubelet=TUBELET, dim=DIM)
        self.step, self.pool = nn.Linear(DIM, num_tokens), OrderedPool(DIM, 8)
        self.whole = nn.Linear(DIM, 2 * num_tokens)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return logits (B, V, 10)."""
        steps, _ = self.encoder.steps(batch.data["video"])  # (B, 8, D)
        whole = self.whole(nn.functional.gelu(self.pool(steps))).unflatten(1, (2, -1))  # (B, 2, V)
        return torch.cat([self.step(steps), whole], dim=1).transpose(1, 2)


def load() -> tuple[dict[str, Batch], dict[str, Vocabulary], list[Clip]]:
    """All that is read, and all that may be written, in one batch a split; the test clips also in white noise."""
    clips = {split: HanziClips(size, split=split, length=(2, 3)) for split, size in SIZES.items()}
    strokes = clips["test"].sources.strokes
    write: dict[str, Callable[[Clip], str]] = {
        "pinyin": lambda clip: " ".join(pinyin_syllables(clip.labels["sentence"])),
        "strokes": lambda clip: stroke_sequence(clip.labels["sentence"], strokes),
        "caption": lambda clip: clip.text or "",
        "shown": shown,
    }
    made = {}
    for split, part in clips.items():
        made[split] = [
            Clip(
                {"video": clip.video, "audio": clip.audio[: round(clip.labels["duration"] * RATE)]}
                | {name: function(clip) for name, function in write.items()}
            )
            for clip in part
        ]
    rng = np.random.default_rng(0)
    made["noisy"] = [
        replace(clip, streams=clip.streams | {"audio": mix(clip.audio, rng.standard_normal(len(clip.audio)), NOISE_DB)})
        for clip in made["test"]
    ]
    known = {
        name: Vocabulary([clip.streams[name] for clip in made["train"]], special=["<start>", "<end>"]) for name in write
    }
    transforms: dict[str, Callable[[Any], torch.Tensor]] = {"video": to_tensor, "audio": coarse}
    for name in ("pinyin", "strokes", "caption"):
        transforms[name] = lambda text, name=name: known[name].encode(text, add_ends=True)
    transforms["shown"] = known["shown"].encode
    return {split: collate(part, transforms) for split, part in made.items()}, known, list(clips["test"])


@torch.no_grad()
def look(reader: Reader, batch: Batch) -> Batch:
    """Put the reader's steps into the batch as "seen", (B, D, 8), for recurrent encoders to read."""
    reader.cpu().eval()
    parts = [reader.encoder.steps(batch.data["video"][i : i + 200])[0] for i in range(0, len(batch), 200)]
    there = batch.present | {"seen": torch.ones(len(batch), dtype=torch.bool)}
    return replace(batch, data=batch.data | {"seen": torch.cat(parts).transpose(1, 2).contiguous()}, present=there)


def build(name: str, num_tokens: int, cell: str, attention: str = "additive", forcing: float = 1.0) -> EncoderDecoder:
    """A model that writes pinyin from sound, strokes from the picture, or a caption from both."""
    both = attention != "last"  # with "last" the encoder reads forwards only, as in Sutskever et al. (2014)
    features = {"pinyin": {"audio": 64}, "strokes": {"seen": DIM}, "caption": {"audio": 64, "seen": DIM}}[name]
    encoders = {
        stream: RecurrentEncoder(num_features=count, dim=DIM, cell=cell, bidirectional=both)
        for stream, count in features.items()
    }
    return EncoderDecoder(encoders, dict.fromkeys(features, DIM), num_tokens, DIM, cell=cell, attention=attention,
                          target=name, teacher_forcing=forcing, steps_per_second=RATES)  # fmt: skip


def one_of(words: Any) -> str:
    return "(?:" + "|".join(map(re.escape, sorted(set(words), key=len, reverse=True))) + ")"


def right_captions(clip: Clip) -> re.Pattern[str]:
    """A pattern that fits all right captions of a clip."""
    number, colour, way, thing = (
        grammar.CLASSES[k][clip.labels[k]] for k in ("number", "colour", "direction", "thing")
    )
    amount = one_of(["两" if number == "二" else number, str(clip.labels["number"] + 1)])
    amount += one_of(grammar.THINGS[thing].measures)
    tint, noun = one_of(grammar.COLOUR_WORDS[colour][0]), one_of(grammar.THINGS[thing].words)
    motion = "(?:正在|，)?" + one_of(grammar.DIRECTION_WORDS[way][0]) + one_of(grammar.MOVING[0])
    return re.compile(one_of(grammar.OPENINGS[0]) + f"(?:{amount}{tint}的{noun}|{tint}的{amount}{noun})" + motion)


def gradient_by_distance(encoder: RecurrentEncoder, mel: torch.Tensor) -> list[float]:
    """How much the last state changes with each earlier input, by distance; 1 = as much as with the last input."""
    x = mel.clone().requires_grad_()
    last = encoder.recurrent(x.transpose(1, 2))[0][:, -1]  # (B, D)
    direction = torch.randn(last.shape, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad((last * direction).sum(), x)
    norms = gradient.norm(dim=1).flip(1)  # (B, N): distance 0 first
    return (norms / norms[:, :1]).log().mean(dim=0).exp().tolist()


@torch.no_grad()
def judge(model: EncoderDecoder, batch: Batch, vocabulary: Vocabulary, clips: list[Clip]) -> dict[str, float]:
    """Exact match and edits per token; share of wrong tokens after the true ones, and after the model's own."""
    model.cpu().eval()
    parts = [batch[i : i + 100] for i in range(0, len(batch), 100)]
    task = Seq2Seq(len(vocabulary), model.target)
    limit = batch.data[model.target].shape[1] - 1
    texts, truths, told, own = [], [], [], []
    for part in parts:
        target = task.target(part)  # (B, L)
        ids, _ = model.generate(part, max_length=limit)
        ids = nn.functional.pad(ids, (0, limit - ids.shape[1]))
        real = target >= 0
        told.append((model(part).argmax(dim=1) != target)[real])
        own.append((ids != target)[real])
        texts += [vocabulary.decode(row) for row in ids]
        truths += [vocabulary.decode(row[keep]) for row, keep in zip(target, real, strict=True)]
    scores = {
        "exact match": float(np.mean([a == b for a, b in zip(texts, truths, strict=True)])),
        "edits": float(CharErrorRate()(texts, truths)),
        "wrong, told": float(torch.cat(told).float().mean()),
        "wrong, own": float(torch.cat(own).float().mean()),
    }
    if model.target == "caption":
        fits = [right_captions(clip).fullmatch(text) is not None for clip, text in zip(clips, texts, strict=True)]
        scores["one of all right ones"] = float(np.mean(fits))
    return scores


def train(model: nn.Module, data: dict[str, Batch], name: str, known: Vocabulary, epochs: int, seed: int) -> None:
    task = Seq2Seq(len(known), name)
    fit(model, data["train"], data["valid"], task, epochs=epochs, seed=seed, batch_size=64, lr=5e-3, progress=False)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--smoke", action="store_true", help="one epoch, one seed, nothing written")
    smoke = parser.parse_args().smoke
    data, known, clips = load()
    whole = data["test"].data["audio"][data["test"].mask["audio"].all(dim=1)][:100]  # clips without padding
    whole = (whole - whole.mean(dim=(1, 2), keepdim=True)) / (whole.std(dim=(1, 2), keepdim=True) + 1e-3)
    variants = [(name, cell, "additive", 1.0) for name in ("pinyin", "strokes", "caption") for cell in CELLS]
    variants += [("pinyin", cell, "last", 1.0) for cell in CELLS]
    variants += [("pinyin", "gru", "additive", share) for share in (0.5, 0.0)]
    found: dict[str, list[dict[str, Any]]] = {}
    for seed in SEEDS[:1] if smoke else SEEDS:
        mmlearn.seed_everything(seed)
        reader = Reader(len(known["shown"]))
        train(reader, data, "shown", known["shown"], 1 if smoke else EPOCHS["shown"], seed)
        data |= {split: look(reader, batch) for split, batch in data.items()}
        for name, cell, attention, share in variants:
            title = f"{name}, {cell}" + ", last" * (attention == "last") + f", teacher {share}" * (share < 1)
            mmlearn.seed_everything(seed)
            model = build(name, len(known[name]), cell, attention, share)
            scores: dict[str, Any] = {}
            if attention == "last":
                scores["gradient before"] = gradient_by_distance(model.encoders["audio"], whole)
            epochs = EPOCHS["last" if attention == "last" else name]
            train(model, data, name, known[name], 1 if smoke else epochs, seed)
            scores |= judge(model, data["test"], known[name], clips)
            if name == "pinyin":
                noisy = judge(model, data["noisy"], known[name], clips)
                scores |= {f"{key}, noisy": value for key, value in noisy.items()}
            if attention == "last":
                scores["gradient after"] = gradient_by_distance(model.encoders["audio"], whole)
            found.setdefault(title, []).append(scores)
            print(seed, title, {k: round(v, 3) for k, v in scores.items() if "gradient" not in k}, flush=True)
    if not smoke:
        results = {
            title: {
                key: np.exp(np.mean(np.log([row[key] for row in rows]), axis=0)).tolist()
                if "gradient" in key
                else spread([row[key] for row in rows])
                for key in rows[0]
            }
            for title, rows in found.items()
        }
        save("seq2seq", {"seeds": SEEDS, "sizes": SIZES, "epochs": EPOCHS, "noise_db": NOISE_DB, **results})


if __name__ == "__main__":
    main()
