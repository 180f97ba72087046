"""Sequences written from clips by plain networks, LSTMs and GRUs: chapter finetuning/seq2seq over 3 seeds.

Run `python -m benchmarks.seq2seq` (about 20 minutes of one core); it writes benchmarks/results/seq2seq.json. What is
finished is kept in _build/seq2seq/, and a run that was stopped goes on from there.
"""

import argparse
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torchmetrics.text import CharErrorRate

import mmlearn
from benchmarks.report import UNFINISHED, begin, keep, save, spread
from mmlearn import Batch, Clip, collate, fit
from mmlearn.datasets import HanziClips
from mmlearn.datasets.hanzi import grammar
from mmlearn.datasets.hanzi.strokes import stroke_sequence
from mmlearn.encoders import VideoEncoder
from mmlearn.finetuning import EncoderDecoder, Seq2Seq
from mmlearn.nn import PositionwisePool, RecurrentEncoder
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
WIDTH, ALPHAS = 5, [0.0, 0.6, 2.0]  # beam search: hypotheses, penalties of length

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
    return signs + list(grammar.COLORS)[clip.labels["colour"]] + list(grammar.DIRECTIONS)[clip.labels["direction"]]


class Reader(nn.Module):
    """Say what each tubelet shows, and the whole clip's colour and direction: so an encoder learns to read."""

    def __init__(self, num_tokens: int) -> None:
        super().__init__()
        self.encoder = VideoEncoder(tubelet=TUBELET, dim=DIM)
        self.step, self.pool = nn.Linear(DIM, num_tokens), PositionwisePool(DIM, 8)
        self.whole = nn.Linear(DIM, 2 * num_tokens)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return logits (B, V, 10)."""
        steps, _ = self.encoder.steps(batch.data["video"])  # (B, 8, D)
        whole = self.whole(nn.functional.gelu(self.pool(steps))).unflatten(1, (2, -1))  # (B, 2, V)
        return torch.cat([self.step(steps), whole], dim=1).transpose(1, 2)


@cache
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
                {"video": clip.video, "audio": clip.streams["audio"][: round(clip.labels["duration"] * RATE)]}
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
        transforms[name] = partial(known[name].encode, add_ends=True)
    transforms["shown"] = known["shown"].encode
    return {split: collate(part, transforms) for split, part in made.items()}, known, list(clips["test"])


@torch.no_grad()
def look(reader: Reader, batch: Batch) -> Batch:
    """Put the reader's steps into the batch as "seen", (B, D, 8), for recurrent encoders to read."""
    reader.cpu().eval()
    parts = [reader.encoder.steps(batch.data["video"][i : i + 200])[0] for i in range(0, len(batch), 200)]
    there = batch.present | {"seen": torch.ones(len(batch), dtype=torch.bool)}
    return replace(batch, data=batch.data | {"seen": torch.cat(parts).transpose(1, 2).contiguous()}, present=there)


def build(name: str, num_tokens: int, cell: Any, attention: Any = "additive", forcing: float = 1.0) -> EncoderDecoder:
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
    tint, noun = one_of(grammar.COLOR_WORDS[colour][0]), one_of(grammar.THINGS[thing].words)
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
def judge(model: EncoderDecoder, batch: Batch, vocabulary: Vocabulary) -> tuple[dict[str, float], list[str]]:
    """What the model writes, greedily, and its scores.

    Exact match, edits per token, and the share of wrong tokens: after the true ones, and after the model's own.
    """
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
        truths += [vocabulary.decode(row[there]) for row, there in zip(target, real, strict=True)]
    scores = {
        "exact match": float(np.mean([a == b for a, b in zip(texts, truths, strict=True)])),
        "edits": float(CharErrorRate()(texts, truths)),
        "wrong, told": float(torch.cat(told).float().mean()),
        "wrong, own": float(torch.cat(own).float().mean()),
    }
    return scores, texts


def judge_captions(
    model: EncoderDecoder, batch: Batch, vocabulary: Vocabulary, clips: list[Clip], texts: list[str]
) -> dict[str, float]:
    """How often one of all right captions is written, greedily (`texts`) and with beams; their log-probabilities."""
    patterns = [right_captions(clip) for clip in clips]
    limit = batch.data["caption"].shape[1] - 1

    def right(guesses: list[str]) -> float:
        return float(np.mean([p.fullmatch(guess) is not None for p, guess in zip(patterns, guesses, strict=True)]))

    def search(**options: Any) -> tuple[list[str], torch.Tensor]:
        parts = [model.generate(batch[i : i + 100], max_length=limit, **options) for i in range(0, len(batch), 100)]
        return [vocabulary.decode(ids) for tokens, _ in parts for ids in tokens], torch.cat([part[1] for part in parts])

    scores = {"one of all right ones": right(texts), "characters": float(np.mean([len(text) for text in texts]))}
    _, greedy = search()
    for alpha in ALPHAS:
        guesses, ranked = search(width=WIDTH, length_penalty=alpha)
        scores[f"one of all right ones, beam, {alpha}"] = right(guesses)
        scores[f"characters, beam, {alpha}"] = float(np.mean([len(text) for text in guesses]))
        if alpha == 0:  # ranked by log-probability alone
            scores["log-probability gained by the beam"] = float((ranked - greedy).mean())
            scores["clips that gain"] = float((ranked > greedy + 1e-4).float().mean())
    return scores


def train(model: nn.Module, data: dict[str, Batch], name: str, known: Vocabulary, epochs: int, seed: int) -> None:
    task = Seq2Seq(len(known), name)
    fit(model, data["train"], data["valid"], task, epochs=epochs, seed=seed, batch_size=64, lr=5e-3, progress=False)


@cache
def seen(seed: int) -> dict[str, Batch]:
    """All batches, with what a reader trained from this seed sees in them."""
    data, known, _ = load()
    mmlearn.seed_everything(seed)
    reader = Reader(len(known["shown"]))
    train(reader, data, "shown", known["shown"], EPOCHS["shown"], seed)
    return {split: look(reader, batch) for split, batch in data.items()}


def run(name: str, cell: str, attention: str, forcing: float, seed: int) -> dict[str, Any]:
    """Train one model from one seed, and judge it on the test clips."""
    data, known, clips = load()
    data = data if name == "pinyin" else seen(seed)
    whole = data["test"].data["audio"][data["test"].mask["audio"].all(dim=1)][:100]  # clips without padding
    whole = (whole - whole.mean(dim=(1, 2), keepdim=True)) / (whole.std(dim=(1, 2), keepdim=True) + 1e-3)
    mmlearn.seed_everything(seed)
    model = build(name, len(known[name]), cell, attention, forcing)
    found: dict[str, Any] = {}
    if attention == "last":
        found["gradient before"] = gradient_by_distance(model.encoders["audio"], whole)
    train(model, data, name, known[name], EPOCHS["last" if attention == "last" else name], seed)
    scores, texts = judge(model, data["test"], known[name])
    found |= scores
    if name == "pinyin":
        noisy, _ = judge(model, data["noisy"], known[name])
        found |= {f"{key}, noisy": value for key, value in noisy.items()}
    if name == "caption":
        found |= judge_captions(model, data["test"], known[name], clips, texts)
    if attention == "last":
        found["gradient after"] = gradient_by_distance(model.encoders["audio"], whole)
    return found


def plan() -> dict[str, Callable[[int], dict[str, Any]]]:
    """Title of a run → what is done with a seed."""
    every = {f"{name}, {cell}": (name, cell, "additive", 1.0) for name in ("pinyin", "strokes", "caption")
             for cell in CELLS}  # fmt: skip
    every |= {f"pinyin, {cell}, last": ("pinyin", cell, "last", 1.0) for cell in CELLS}
    every |= {f"pinyin, gru, {score}": ("pinyin", "gru", score, 1.0) for score in ("dot", "general")}
    every |= {f"pinyin, gru, teacher {share}": ("pinyin", "gru", "additive", share) for share in (0.5, 0.0)}
    return {title: partial(run, *options) for title, options in every.items()}


def smoke() -> None:
    """The same code with tiny sizes; nothing is written."""
    SIZES.update(train=96, valid=16, test=32)
    EPOCHS.update(dict.fromkeys(EPOCHS, 1))
    for title, make in plan().items():
        print(title, make(0), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, nothing is written")
    if parser.parse_args().smoke:
        smoke()
        return
    begin("seq2seq")
    about = {"seeds": SEEDS, "sizes": SIZES, "epochs": EPOCHS, "noise_db": NOISE_DB, "width": WIDTH, "alphas": ALPHAS}
    runs = plan()
    found: dict[str, list[dict[str, Any]]] = {title: [] for title in runs}
    for seed in SEEDS:
        for title, make in runs.items():
            found[title].append(keep(UNFINISHED / "seq2seq" / f"{title}, {seed}.json", about, partial(make, seed)))
    table = {
        title: {
            key: [row[key] for row in rows] if "gradient" in key else spread([row[key] for row in rows])
            for key in rows[0]
        }
        for title, rows in found.items()
    }
    save("seq2seq", about | table)
    shutil.rmtree(UNFINISHED / "seq2seq")


if __name__ == "__main__":
    main()
