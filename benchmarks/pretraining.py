"""What is learned without labels worth? Chapters of the part on pretraining, 5 seeds, equal compute.

Run `python -m benchmarks.pretraining` (about 20 minutes on 2 cores); it writes benchmarks/results/pretraining.json.
With names of methods as arguments (or "longer", "writing"), it runs these and leaves the rest of that file as it is.

Pictures of 22 characters in heavy noise, with their syllables, are there without labels. From them, each method of
`METHODS` learns an encoder of the pictures. Then few labels arrive: a linear probe on frozen features, and finetuning,
in which a pretrained encoder gets its head first, and then both move (chapter finetuning/classification says why). How
fast they move is chosen for each method, out of `TRIED`, by the validation characters, with the first seed and 20
labels a class; all seeds and numbers of labels use that rate.
Equal compute: each method sees as many samples as its floating-point operations (FLOPs) buy, those of forward and
backward passes through all that it trains, decoders and sounds included. Principal components need less; they take
all samples once. A further method is one more function `(data, seed, seen) -> encoder`.

"longer": some of them with four times the compute, 3 seeds.
"writing": the multimodal autoencoder writes a character that it only hears, and a classifier reads it.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

import mmlearn
from benchmarks.report import RESULTS, begin, save, spread, stamp
from mmlearn import Batch, fit, predict
from mmlearn.datasets import HanziClips
from mmlearn.datasets.hanzi import grammar
from mmlearn.datasets.hanzi.characters import cut_characters
from mmlearn.encoders import ImageTransformer
from mmlearn.finetuning import Classification, few_shot_subset, linear_probe
from mmlearn.pretraining import (
    ELBO,
    Autoencoder,
    BernoulliLikelihood,
    ConvDecoder,
    ConvEncoder,
    GaussianLikelihood,
    MultimodalVAE,
    Reconstruction,
)
from mmlearn.pretraining.contrastive import Contrastive, ContrastiveModel
from mmlearn.pretraining.gan import Condition, ConditionalGenerator, train_gan
from mmlearn.pretraining.masked import MaskedAutoencoder, MaskedPrediction

SEEDS = [0, 1, 2, 3, 4]
ALPHABET = "".join([*grammar.NUMBERS, *grammar.THINGS])
CLIPS = {"train": 2000, "valid": 100, "test": 500}  # two characters each
LABELS = [1, 5, 20, 100]  # a class
NOISE = 0.5  # standard deviation in each pixel; paper is 0, ink is 1
SHAPE, SOUND = (1, 32, 32), (32, 32)  # of a picture; of a syllable: bands, steps of 20 ms
DIM, WIDTH, LATENT = 64, 8, 32  # of the features; of the convolutions; of a variational code
FLOPS = 6e10  # what each method may spend on pretraining
PER_STEP = 64  # samples
LONGER: dict[str, Any] = {"times": 4, "seeds": [0, 1, 2], "methods": ["denoising", "adversarial",
    "variational, with sound", "contrastive, with sound", "masked, Transformer"]}  # fmt: skip
STEPS = 150  # of finetuning, and of the head before it
RATES = {"head": 1e-2, "new": 3e-3}  # of a head on frozen features; of all that begins from scratch
TRIED = [3e-4, 1e-3, 3e-3]  # of a pretrained encoder and its head
WRITING = {"clips": 1000, "epochs": 10, "latent": 16}
Data = dict[str, Batch]


def load(size: dict[str, int], noise: float = 0.0, **controls: Any) -> Data:
    """Characters as batches of "image" (B, 1, 32, 32) and "audio" (B, 32, 32), which is standardised."""
    data = {}
    for split, clips in size.items():
        batch = cut_characters(HanziClips(clips, split=split, length=2, **controls), alphabet=ALPHABET)
        batch = batch[batch.present["audio"]]  # a voice that is alone has not said everything
        generator = torch.Generator().manual_seed(list(size).index(split))
        image = batch.data["image"] + noise * torch.randn(batch.data["image"].shape, generator=generator)
        audio = nn.functional.avg_pool2d(batch.data["audio"], 2)
        data[split] = replace(batch, data={"image": image, "audio": audio}, mask={})
    mean, deviation = data["train"].data["audio"].mean(), data["train"].data["audio"].std()
    return {n: replace(b, data=b.data | {"audio": (b.data["audio"] - mean) / deviation}) for n, b in data.items()}


class Headed(nn.Module):
    """An encoder with a layer on top that is thrown away after pretraining."""

    def __init__(self, encoder: nn.Module, dim: int) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Sequential(nn.GELU(), nn.Linear(DIM, dim))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return (B, dim)."""
        return self.head(self.encoder(x))


class Perceptron(nn.Module):
    """One hidden layer, from anything flat."""

    def __init__(self, dim: int, hidden: int = 256) -> None:
        super().__init__()
        size = SOUND[0] * SOUND[1]
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(size, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return (B, dim)."""
        return self.layers(x)


def from_code(dim: int, shape: tuple[int, ...], hidden: int = 256) -> nn.Module:
    """A decoder with one hidden layer."""
    size = SOUND[0] * SOUND[1]
    return nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, size), nn.Unflatten(1, shape))


# The methods: pretrain on data["train"] with `seen` samples, return an encoder (B, 1, 32, 32) → (B, DIM)


def train(model: nn.Module, objective: Any, data: Data, seed: int, seen: int) -> None:
    rows = torch.arange(seen) % len(data["train"])  # each sample equally often, but for one time
    kwargs: dict[str, Any] = {"batch_size": PER_STEP, "lr": 5e-3, "weight_decay": 0.01, "seed": seed, "progress": False}
    fit(model, data["train"][rows], data["valid"], objective, epochs=1, **kwargs)


def nothing(data: Data, seed: int, seen: int) -> nn.Module:
    return ConvEncoder(SHAPE, DIM, WIDTH)


def principal_components(data: Data, seed: int, seen: int) -> nn.Module:
    x = data["train"].data["image"].flatten(1)
    encoder = nn.Linear(x.shape[1], DIM)
    with torch.no_grad():
        mean = x.mean(dim=0)
        encoder.weight.copy_(torch.pca_lowrank(x, DIM, niter=4)[2].T)
        encoder.bias.copy_(-encoder.weight @ mean)
    return nn.Sequential(nn.Flatten(), encoder)


def autoencoder(data: Data, seed: int, seen: int, noise: float = 0.0) -> nn.Module:
    model = Autoencoder("image", ConvEncoder(SHAPE, DIM, WIDTH), ConvDecoder(DIM, SHAPE, WIDTH), noise)
    train(model, Reconstruction("image"), data, seed, seen)
    return model.encoder


def denoising(data: Data, seed: int, seen: int) -> nn.Module:
    return autoencoder(data, seed, seen, noise=NOISE)


def variational(data: Data, seed: int, seen: int) -> nn.Module:
    encoder = ConvEncoder(SHAPE, DIM, WIDTH)
    likelihoods = {"image": GaussianLikelihood(0.5, learned=True)}
    parts = {"image": Headed(encoder, 2 * LATENT)}, {"image": ConvDecoder(LATENT, SHAPE, WIDTH)}
    train(MultimodalVAE(*parts, LATENT, likelihoods=likelihoods), ELBO(), data, seed, seen)
    return encoder


def with_sound(data: Data, seed: int, seen: int) -> nn.Module:
    encoder = ConvEncoder(SHAPE, DIM, WIDTH)
    encoders = {"image": Headed(encoder, 2 * LATENT), "audio": Perceptron(2 * LATENT)}
    decoders = {"image": ConvDecoder(LATENT, SHAPE, WIDTH), "audio": from_code(LATENT, SOUND)}
    likelihoods = {name: GaussianLikelihood(0.5, learned=True) for name in encoders}
    train(MultimodalVAE(encoders, decoders, LATENT, likelihoods=likelihoods), ELBO(), data, seed, seen)
    return encoder


def contrastive(data: Data, seed: int, seen: int) -> nn.Module:
    encoder = ConvEncoder(SHAPE, DIM, WIDTH)
    encoders = {"image": Headed(encoder, 2 * LATENT), "audio": Perceptron(2 * LATENT)}
    model = ContrastiveModel(encoders, dict.fromkeys(encoders, 2 * LATENT), DIM)
    train(model, Contrastive(model.criterion), data, seed, seen)
    return encoder


class Judge(nn.Module):
    """A discriminator by projection, on top of the encoder."""

    def __init__(self, encoder: nn.Module, condition_dim: int) -> None:
        super().__init__()
        self.encoder, self.score = encoder, nn.Linear(DIM, 1)
        self.condition = Condition(condition_dim, DIM) if condition_dim else None

    def forward(self, x: Tensor, sound: Tensor | None = None) -> Tensor:
        """Return scores (B,)."""
        phi = nn.functional.gelu(self.encoder(x))  # (B, DIM)
        score = self.score(phi)[:, 0]
        return score if self.condition is None else score + (phi * self.condition(sound)).sum(dim=1)


class Noisy(nn.Module):
    """A generator whose clean pictures get the noise that real ones have (AmbientGAN, Bora et al. 2018)."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, *args: Tensor) -> Tensor:
        """Return pictures (B, 1, 32, 32)."""
        clean = self.generator(*args)
        return clean + NOISE * torch.randn_like(clean)


def adversarial(data: Data, seed: int, seen: int, sound: bool = False) -> nn.Module:
    encoder = ConvEncoder(SHAPE, DIM, WIDTH)
    condition = data["train"].data["audio"].flatten(1) if sound else None  # (N, 1024)
    width = 0 if condition is None else condition.shape[1]
    players = Noisy(ConditionalGenerator(width, width=WIDTH)), Judge(encoder, width)
    game: dict[str, Any] = {"objective": "wasserstein", "penalty": 10.0, "batch_size": PER_STEP}
    train_gan(*players, data["train"].data["image"], condition, steps=max(1, seen // PER_STEP), seed=seed,
              progress=False, **game)  # fmt: skip
    return encoder


def adversarial_with_sound(data: Data, seed: int, seen: int) -> nn.Module:
    return adversarial(data, seed, seen, sound=True)


class Patched(nn.Module):
    """A small Transformer over 16 patches; its features are the mean of the steps."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = ImageTransformer(SHAPE[1:], (8, 8), {"dim": DIM, "depth": 4, "num_heads": 1}, "sincos")

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return features (B, DIM) of pictures (B, 1, 32, 32)."""
        return self.transformer.steps(x.expand(-1, 3, -1, -1))[0].mean(dim=1)


def untrained_transformer(data: Data, seed: int, seen: int) -> nn.Module:
    return Patched()


def masked(data: Data, seed: int, seen: int) -> nn.Module:
    encoder = Patched()
    coloured = {}
    for split, batch in data.items():
        image = batch.data["image"].expand(-1, 3, -1, -1)
        coloured[split] = Batch({"image": image}, {"image": batch.present["image"]})
    train(MaskedAutoencoder("image", encoder.transformer), MaskedPrediction(), coloured, seed, seen)
    return encoder


METHODS: dict[str, Callable[[Data, int, int], nn.Module]] = {
    "nothing": nothing,
    "principal components": principal_components,
    "autoencoder": autoencoder,
    "denoising": denoising,
    "variational": variational,
    "adversarial": adversarial,
    "variational, with sound": with_sound,
    "adversarial, with sound": adversarial_with_sound,
    "contrastive, with sound": contrastive,
    "nothing, Transformer": untrained_transformer,
    "masked, Transformer": masked,
}


# What the encoders are worth


@torch.no_grad()
def features(encoder: nn.Module, batch: Batch) -> Tensor:
    return encoder.eval()(batch.data["image"])


def descend(model: nn.Module, x: Tensor, y: Tensor, lr: float) -> None:
    """Train on batches of 64 samples, which are drawn from few; no sample is spared for choosing anything."""
    optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=STEPS)
    for _ in range(STEPS):
        rows = torch.randperm(len(x))[:64]
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def finetune(encoder: nn.Module, batch: Batch, seed: int, rate: float | None) -> nn.Module:
    """A linear head on few labels' frozen features; then encoder and head together. From scratch (None): at once."""
    mmlearn.seed_everything(seed)
    encoder, head = copy.deepcopy(encoder), nn.Linear(DIM, len(ALPHABET))
    y = batch.labels["character"]
    if rate is not None:
        descend(head, nn.functional.gelu(features(encoder, batch)), y, RATES["head"])
    model = nn.Sequential(encoder, nn.GELU(), head).train()
    descend(model, batch.data["image"], y, rate or RATES["new"])
    return model


def right(model: nn.Module, batch: Batch) -> float:
    return float((features(model, batch).argmax(dim=1) == batch.labels["character"]).float().mean())


def try_rates(encoder: nn.Module, data: Data, seed: int) -> dict[float, float]:
    """Each of TRIED → accuracy on the validation characters, after finetuning with 20 labels a class."""
    few = data["train"][few_shot_subset(data["train"].labels["character"], 20, seed)]
    return {rate: right(finetune(encoder, few, seed, rate), data["valid"]) for rate in TRIED}


def judge(
    method: str, data: Data, seed: int, times: int = 1, tried: dict[float, float] | None = None
) -> dict[str, Any]:
    """Pretrain once, for some times FLOPS; probe and, for 1 x FLOPS, finetune with each number of labels.

    `tried` are the rates of finetuning and what they were worth, as the first seed found them; None finds them.
    """
    seen = times * affordable(method, data)
    mmlearn.seed_everything(seed)
    encoder = METHODS[method](data, seed, seen)
    row: dict[str, Any] = {"probe": {}, "finetune": {}, "rates": tried or {}}
    if seen and times == 1 and not tried:
        row["rates"] = try_rates(encoder, data, seed)
    rate = max(row["rates"], key=row["rates"].get) if seen and times == 1 else None
    test, x = data["test"], {split: features(encoder, data[split]) for split in ("train", "test")}
    for count in LABELS:
        few = few_shot_subset(data["train"].labels["character"], count, seed)
        y = data["train"].labels["character"][few]
        row["probe"][count] = linear_probe(x["train"][few], y, x["test"], test.labels["character"], seed)
        if times == 1:
            row["finetune"][count] = right(finetune(encoder, data["train"][few], seed, rate), test)
    return row


class NoModules(ModuleTracker):
    """Follows no module: the hooks of its parent fail where the gradient of a gradient is taken."""

    def __enter__(self) -> "NoModules":
        return self

    def __exit__(self, *error: object) -> None:
        pass


def flops(method: str, data: Data) -> float:
    """Floating-point operations that pretraining takes a sample seen, but for those of a decomposition."""
    small = {"train": data["train"][:256], "valid": data["valid"][:1]}
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = NoModules()
    with counter:
        METHODS[method](small, 0, 256)
    return counter.get_total_flops() / 256


def affordable(method: str, data: Data) -> int:
    """Samples to see for FLOPS, in whole steps; all, once, for those who do not learn step by step."""
    count = flops(method, data)
    if method == "principal components" or not count:
        return len(data["train"]) if count else 0
    return round(FLOPS / count / PER_STEP) * PER_STEP


def cost(method: str, data: Data) -> dict[str, float]:
    """What pretraining takes: samples seen, FLOPs a sample, milliseconds of one core a sample."""
    torch.set_num_threads(1)
    small, seen = {"train": data["train"][:256], "valid": data["valid"][:1]}, 10 * 256
    start = time.process_time()
    METHODS[method](small, 0, seen)
    milliseconds = 1000 * (time.process_time() - start) / seen
    return {"seen": affordable(method, data), "flops": flops(method, data), "ms": milliseconds}


# Writing what is heard


def writer(how: dict[str, Any]) -> MultimodalVAE:
    latent, shapes = WRITING["latent"], {"image": SHAPE, "audio": SOUND}
    encoders = {name: Perceptron(2 * latent) for name in shapes}
    decoders = {name: from_code(latent, shape) for name, shape in shapes.items()}
    likelihoods = {"image": BernoulliLikelihood(), "audio": GaussianLikelihood(learned=True)}
    return MultimodalVAE(encoders, decoders, latent, likelihoods=likelihoods, **how)


WRITERS: dict[str, dict[str, Any]] = {
    "product": {},
    "product, as in MVAE": {"reconstruct": "given"},
    "mixture": {"experts": "mixture"},
}


class Reader(nn.Module):
    """Names the character in a picture."""

    def __init__(self) -> None:
        super().__init__()
        head = nn.Sequential(nn.GELU(), nn.Dropout(0.1), nn.Linear(128, len(ALPHABET)))
        self.encoder, self.head = ConvEncoder(SHAPE, 128), head

    def forward(self, batch: Batch) -> Tensor:
        """Return logits (B, 22)."""
        return self.head(self.encoder(batch.data["image"]))


def read(reader: Reader, image: Tensor, labels: Tensor) -> float:
    batch = Batch({"image": image}, {"image": torch.ones(len(image), dtype=torch.bool)})
    return float((predict(reader, batch).argmax(dim=1) == labels).float().mean())


@cache
def reader_and_its_accuracy() -> tuple[Reader, float]:
    """A judge that has seen real characters of other clips, and nothing that a model wrote."""
    data = load({"train": 1000, "valid": 100, "test": 500}, seed=1)
    mmlearn.seed_everything(0)
    reader = Reader()
    task = Classification("character", len(ALPHABET))
    fit(reader, data["train"], data["valid"], task, epochs=6, progress=False)
    return reader, read(reader, data["test"].data["image"], data["test"].labels["character"])


def write(data: Data, how: dict[str, Any], seed: int) -> float:
    """Train a writer; return how often the reader reads the character that was said."""
    mmlearn.seed_everything(seed)
    model = writer(how)
    fit(model, data["train"], data["valid"], ELBO(), epochs=WRITING["epochs"], lr=5e-3, weight_decay=0.01, seed=seed,
        progress=False)  # fmt: skip
    with torch.no_grad():
        image = model.eval().decode(model.code(data["test"].only("audio")))["image"]
    return read(reader_and_its_accuracy()[0], image, data["test"].labels["character"])


def run_seed(seed: int, chosen: list[str], first: dict[str, Any] | None = None) -> dict[str, Any]:
    """The chosen methods, and all writers where they are chosen, with one seed; `first` is what the first one found."""
    torch.set_num_threads(1)  # two seeds run side by side on two cores
    run: dict[str, Any] = {"methods": {}, "longer": {}, "writing": {}}
    data = load(CLIPS, NOISE)
    for method in METHODS:
        if method in chosen:
            tried = first["methods"][method]["rates"] if first else None
            run["methods"][method] = judge(method, data, seed, tried=tried)
            print(f"seed {seed}, {method}:", run["methods"][method], flush=True)
    if "longer" in chosen and seed in LONGER["seeds"]:
        for method in LONGER["methods"]:
            run["longer"][method] = judge(method, data, seed, LONGER["times"])["probe"]
            print(f"seed {seed}, {method}, longer:", run["longer"][method], flush=True)
    if "writing" in chosen:
        size = {"train": WRITING["clips"], "valid": 100, "test": 500}
        clear, strange = load(size), load(size, test_voice="5")
        run["writing"] = {name: write(clear, how, seed) for name, how in WRITERS.items()}
        run["writing"]["product, a voice never heard"] = write(strange, WRITERS["product"], seed)
        print(f"seed {seed}, writing:", run["writing"], flush=True)
    return run


def report(runs: list[dict[str, Any]], old: dict[str, Any]) -> None:
    """Put the seeds' results together with older ones of what was not run. Each row has the stamp of its own code."""
    data = load(CLIPS, NOISE)
    made = {"made": stamp("pretraining")}
    earlier = {"made": {name: old.get(name) for name in ("date", "commit", "code")}}  # of files without rows' stamps
    old |= {part: {name: earlier | row for name, row in old.get(part, {}).items()} for part in ("methods", "writing")}
    old["longer"] = earlier | old.get("longer", {})
    methods = dict(old["methods"])
    for method in runs[0]["methods"]:
        rows = [run["methods"][method] for run in runs]
        methods[method] = made | {kind: {str(count): spread([row[kind][count] for row in rows]) for count in LABELS}
                                  for kind in ("probe", "finetune")}  # fmt: skip
        methods[method]["rates"] = {f"{rate:g}": worth for rate, worth in rows[0]["rates"].items()}
        methods[method]["cost"] = cost(method, data)
    long_runs = [run["longer"] for run in runs if run["longer"]]
    longer = made | {"probe": {m: {str(count): spread([run[m][count] for run in long_runs]) for count in LABELS}
                               for m in LONGER["methods"]}} if long_runs else old["longer"]  # fmt: skip
    writing = old["writing"] | {n: made | spread([r["writing"][n] for r in runs]) for n in runs[0]["writing"]}
    settings = {"seeds": SEEDS, "clips": CLIPS, "labels": LABELS, "noise": NOISE, "flops": FLOPS, "dim": DIM,
                "finetuning": {"steps": STEPS, "rates": RATES, "tried": TRIED}}  # fmt: skip
    details = {"reader": reader_and_its_accuracy()[1], "writing settings": WRITING}
    in_order = {method: methods[method] for method in METHODS if method in methods}
    found = {"methods": in_order, "longer": LONGER | longer, "writing": writing}
    save("pretraining", settings | found | details, peers=["scikit-learn"])


def main() -> None:
    everything = [*METHODS, "longer", "writing"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"what to run; by default all of {everything}")
    parser.add_argument("--processes", type=int, default=2, help="seeds that run side by side, each on one core")
    arguments = parser.parse_args()
    chosen = arguments.names or everything
    if unknown := [name for name in chosen if name not in everything]:
        parser.error(f"unknown: {unknown}; expected some of {everything}")
    begin("pretraining")
    path = RESULTS / "pretraining.json"
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() and chosen != everything else {}
    HanziClips(10)  # fetch what is missing before processes start
    with ProcessPoolExecutor(arguments.processes, mp_context=get_context("spawn")) as pool:
        first = pool.submit(run_seed, SEEDS[0], chosen).result()  # it chooses the rates
        others = pool.map(run_seed, SEEDS[1:], [chosen] * len(SEEDS[1:]), [first] * len(SEEDS[1:]))
        report([first, *others], old)


if __name__ == "__main__":
    main()
