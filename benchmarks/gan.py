"""GANs: which games cover a ring of eight modes, and characters written from sound and from captions, over 3 seeds.

Run `python -m benchmarks.gan` (about 12 minutes on one idle core); it writes benchmarks/results/gan.json, and a sheet
of samples beside it, gan.png. Chapter: pretraining/gan.

`python -m benchmarks.gan --size 64` (or 128) draws larger pictures with wider networks and trains longer: for a GPU. It
writes gan_64.json and gan_64.png. Nothing was measured with it so far: it has only been run for a few steps on a CPU.
"""

import argparse
from functools import cache
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

import mmlearn
from benchmarks.report import RESULTS, begin, save, spread
from mmlearn import Batch, collate, fit, predict
from mmlearn.datasets import HanziClips
from mmlearn.datasets.hanzi import grammar
from mmlearn.datasets.hanzi.characters import cut_characters
from mmlearn.encoders import AudioEncoder, TextEncoder
from mmlearn.finetuning import Classification
from mmlearn.preprocessing.text import Vocabulary
from mmlearn.pretraining.autoencoder import ConvEncoder
from mmlearn.pretraining.gan import (
    ConditionalGenerator,
    ProjectionDiscriminator,
    classifier_accuracy,
    frechet_distance,
    mode_coverage,
    normalise_spectrally,
    precision_recall,
    train_gan,
)

SEEDS = [0, 1, 2]
ALPHABET = "".join(grammar.THINGS)  # twelve characters
DIM = 64  # width of what ear, eye and reader make of their modality
METRICS = ("reader", "modes", "frechet", "precision", "recall")
MODES = 8
CENTRES = torch.stack([f(torch.arange(MODES) * 2 * torch.pi / MODES) for f in (torch.cos, torch.sin)], dim=1)  # (8, 2)
DEVIATION = 0.05

SIZES: dict[int, dict[str, Any]] = {  # by side of the pictures; clips to learn from, and the widths of both networks
    32: {"clips": 1000, "width": 16, "train": {"steps": 500, "batch_size": 32, "every": 100}},
    64: {"clips": 4000, "width": 32, "train": {"steps": 20_000, "batch_size": 128, "every": 1000, "decay": 0.999,
         "generator_lr": 2e-4, "discriminator_lr": 4e-4}},
    128: {"clips": 4000, "width": 32, "train": {"steps": 30_000, "batch_size": 128, "every": 1000, "decay": 0.999,
          "generator_lr": 2e-4, "discriminator_lr": 4e-4}},
}  # fmt: skip
GAMES: dict[str, dict[str, Any]] = {
    "minimax, spectral norm": {"objective": "minimax"},
    "non-saturating, spectral norm": {"objective": "non-saturating"},
    "hinge, spectral norm": {"objective": "hinge"},
    "Wasserstein, spectral norm": {"objective": "wasserstein"},
    "Wasserstein, gradient penalty": {"objective": "wasserstein", "penalty": 10.0},
}
LARGE = ("hinge, spectral norm", "Wasserstein, gradient penalty")  # what is run beyond 32 pixels

# Each makes 2,000 updates of the discriminator.
MOMENTUM, OFTEN = {"betas": (0.9, 0.999), "steps": 2000}, {"discriminator_steps": 5, "steps": 400}
RING: dict[str, dict[str, Any]] = {
    "minimax, momentum": {"objective": "minimax"} | MOMENTUM,
    "non-saturating, momentum": {"objective": "non-saturating"} | MOMENTUM,
    "non-saturating": {"objective": "non-saturating"} | OFTEN,
    "hinge, spectral norm": {"objective": "hinge"} | OFTEN,
    "Wasserstein, gradient penalty": {"objective": "wasserstein", "penalty": 1.0} | OFTEN,
}


def ring(count: int, seed: int) -> Tensor:
    """Draw points (count, 2) around eight centres on a circle of radius 1."""
    dice = torch.Generator().manual_seed(seed)
    return CENTRES[torch.randint(MODES, (count,), generator=dice)] + DEVIATION * torch.randn(count, 2, generator=dice)


def perceptron(fan_in: int, fan_out: int) -> nn.Module:
    layers = nn.Linear(fan_in, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, fan_out)
    return nn.Sequential(*layers)


def play_ring(game: str, seed: int) -> dict[str, float]:
    """Play one game on the ring: modes covered of 8, and the share of samples within 4 deviations of a centre."""
    mmlearn.seed_everything(seed)
    generator, discriminator = perceptron(8, 2), perceptron(2, 1)
    if "spectral" in game:
        normalise_spectrally(discriminator)
    settings = {"noise_dim": 8, "batch_size": 128, "seed": seed, "progress": False} | RING[game]
    train_gan(generator, discriminator, ring(4000, seed), **settings)
    with torch.no_grad():
        distance, mode = torch.cdist(generator(torch.randn(1000, 8)), CENTRES).min(dim=1)
    good = distance < 4 * DEVIATION
    return {"modes": mode_coverage(torch.where(good, mode, -1), MODES), "good": float(good.float().mean())}


class Witness(nn.Module):
    """An encoder of one modality with a linear head: it names the character."""

    def __init__(self, name: str, encoder: nn.Module) -> None:
        super().__init__()
        self.name, self.encoder, self.head = name, encoder, nn.Linear(DIM, len(ALPHABET))

    def forward(self, batch: Batch) -> Tensor:
        """Return logits."""
        return self.head(self.features(batch))

    def features(self, batch: Batch) -> Tensor:
        """Return (B, DIM)."""
        return self.encoder(batch.data[self.name], batch.mask.get(self.name))


@cache
def load(size: int, small: bool) -> tuple[dict[str, Batch], int]:
    """Characters with picture, sound and caption, by split; and the number of words that captions use."""
    counts = {
        "train": 60 if small else SIZES[size]["clips"],
        "valid": 60 if small else 200,
        "test": 60 if small else 600,
    }
    side = 3 * size // 2  # of the clips' frames: the character fills two thirds
    frames = {} if size == 32 else {"frames": 8, "image_size": side}
    clips = {split: HanziClips(n, split=split, length=2, **frames) for split, n in counts.items()}  # type: ignore[arg-type]
    vocabulary = Vocabulary(clip.text or "" for clip in clips["train"])
    data = {}
    for split, part in clips.items():
        batch, captions = cut_characters(part, size, ALPHABET), collate(list(part), {"text": vocabulary.encode})
        assert torch.equal(batch.labels["character"], captions.labels["thing"])  # a clip has one of these characters
        for field in ("data", "present", "mask"):
            getattr(batch, field).update(getattr(captions, field))
        data[split] = batch
    return data, len(vocabulary)


@cache
def witnesses(size: int, seed: int, small: bool) -> dict[str, Witness]:
    """A reader of pictures, an ear for syllables and an eye for captions, trained on the training clips."""
    data, words = load(size, small)
    task = Classification("character", len(ALPHABET))
    new = {
        "image": lambda: ConvEncoder((1, size, size), DIM),
        "audio": lambda: AudioEncoder(dim=DIM),
        "text": lambda: TextEncoder(words, dim=DIM),
    }
    found = {}
    for name, make in new.items():
        mmlearn.seed_everything(seed)
        found[name] = Witness(name, make())
        fit(found[name], data["train"], data["valid"], task, epochs=4, lr=3e-3, seed=seed, progress=False)
    return found


@torch.no_grad()
def draw(generator: nn.Module, condition: Tensor) -> Tensor:
    """One picture for each condition, with the same noise every time; the generator's other uses see no difference."""
    noise = torch.randn(len(condition), 64, generator=torch.Generator().manual_seed(1)).to(condition.device)
    return torch.cat([generator(*part) for part in zip(noise.split(200), condition.split(200), strict=True)])


def judge(reader: Witness, pictures: Tensor, asked: Tensor, real: Tensor) -> dict[str, float]:
    """All the metrics of pictures; `real` are features of as many real ones."""
    with torch.no_grad():
        features = reader.features(Batch({"image": pictures}, {}))
        logits = reader.head(features)
    precision, recall = precision_recall(real, features)
    return {
        "reader": classifier_accuracy(logits, asked.to(logits.device)),
        "modes": mode_coverage(logits.argmax(dim=1).cpu(), len(ALPHABET)),
        "frechet": frechet_distance(real, features),
        "precision": precision,
        "recall": recall,
    }


def write(game: str, modality: str, size: int, seed: int, small: bool = False) -> tuple[dict[str, Any], np.ndarray]:
    """Learn to write from sound or captions; return the scores on test clips, and a sheet of samples.

    One half of the test clips gives the real pictures, the other what is asked for.
    """
    data, _ = load(size, small)
    on, judges = mmlearn.device(), witnesses(size, seed, small)
    for judge_of in judges.values():
        judge_of.to(on).eval()
    train, test = data["train"].to(on), data["test"].to(on)
    half = len(test) // 2
    seen, asked = test[:half], test[half : 2 * half]
    with torch.no_grad():
        condition, ask = (judges[modality].features(batch) for batch in (train, asked))
        real = judges["image"].features(seen)
    labels = asked.labels["character"]
    settings = SIZES[size]["train"] | GAMES[game] | ({"steps": 4, "every": 2, "batch_size": 8} if small else {})
    mmlearn.seed_everything(seed)
    width = SIZES[size]["width"]
    generator = ConditionalGenerator(DIM, size=size, width=width).to(on)
    discriminator = ProjectionDiscriminator(DIM, size=size, width=width, spectral="spectral" in game).to(on)

    def watch(step: int, average: nn.Module) -> dict[str, float]:
        return judge(judges["image"], draw(average, ask), labels, real)

    settings |= {"seed": seed, "watch": watch, "progress": False}
    average, history = train_gan(generator, discriminator, train.data["image"], condition, **settings)
    final = {key: value for key, value in history[-1].items() if key in METRICS}
    raw = judge(judges["image"], draw(generator, ask), labels, real)
    ceiling = judge(judges["image"], asked.data["image"], labels, real)
    correct = (predict(judges[modality], asked).argmax(dim=1) == labels.cpu()).float().mean()
    scores = {"final": final, "raw": raw, "real": ceiling, "heard": float(correct), "history": history}
    rows = [torch.nonzero(labels == k)[:, 0] for k in labels.unique().tolist()]
    chosen = torch.cat([row[torch.arange(8, device=row.device) % len(row)] for row in rows])  # eight of each class
    return scores, sheet(draw(average, ask[chosen]).cpu(), 8)


def sheet(pictures: Tensor, columns: int) -> np.ndarray:
    """Lay pictures (N, 1, H, W) out as rows of one uint8 image, ink black."""
    size = pictures.shape[-1]
    tiles = (255 * (1 - pictures[:, 0])).byte().view(-1, columns, size, size)  # (rows, columns, H, W)
    return tiles.permute(0, 2, 1, 3).reshape(-1, columns * size).numpy()  # (rows · H, columns · W)


def rounded(value: Any) -> Any:
    """Return numbers with four digits after the point: more would only make the file larger."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return round(value, 4) if isinstance(value, float) else value


def collect(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Gather the runs of all seeds: means and spreads of the scores, and the histories as they are."""
    scores = ("final", "raw", "real")
    table = {part: {name: spread([run[part][name] for run in runs]) for name in runs[0][part]} for part in scores}
    heard = spread([run["heard"] for run in runs])
    return table | {"heard": heard, "history": [run["history"] for run in runs]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=32, choices=SIZES, help="side of the pictures in pixels")
    parser.add_argument("--small", action="store_true", help="a few steps on a few clips: only to see that it runs")
    args = parser.parse_args()
    if not args.small:
        begin("gan")
    name = "gan" if args.size == 32 else f"gan_{args.size}"
    tasks = [(game, "audio") for game in (GAMES if args.size == 32 else LARGE)] + [("hinge, spectral norm", "text")]
    runs: dict[str, list[dict[str, Any]]] = {}
    for seed in SEEDS:
        for game, modality in tasks:
            scores, samples = write(game, modality, args.size, seed, args.small)
            runs.setdefault(f"{game}, from {modality}", []).append(scores)
            print(f"seed {seed}: {game}, from {modality}: {rounded(scores['final'])}", flush=True)
            if not args.small and seed == SEEDS[0] and game == "hinge, spectral norm" and modality == "audio":
                cv2.imwrite(str(RESULTS / f"{name}.png"), samples)
    results: dict[str, Any] = {"seeds": SEEDS, "settings": SIZES[args.size], "alphabet": ALPHABET}
    results["characters"] = {task: collect(found) for task, found in runs.items()}
    if args.size == 32:
        rings = {game: [play_ring(game, seed) for seed in SEEDS] for game in RING}
        results["ring"] = {g: {k: spread([run[k] for run in found]) for k in found[0]} for g, found in rings.items()}
    if args.small:
        print("no results written: that takes a run without --small")
        return
    save(name, rounded(results), script="gan")


if __name__ == "__main__":
    main()
