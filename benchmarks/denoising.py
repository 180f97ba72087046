"""Does denoising help a network? The spoken number from noisy sound, as it is and denoised (preprocessing/audio).

Run `python -m benchmarks.denoising` (about 5 minutes on 2 idle cores); it writes benchmarks/results/denoising.json.
"""

from collections.abc import Callable, Iterable

import numpy as np
from torch import nn
from tqdm.auto import tqdm

import mmlearn
from benchmarks.report import begin, save, spread
from mmlearn import Batch, MultimodalModel, collate, fit, predict
from mmlearn.datasets import HanziClips
from mmlearn.encoders import AudioEncoder
from mmlearn.finetuning import Classification
from mmlearn.fusion import ConcatFusion
from mmlearn.preprocessing.audio import LogMel, spectral_gate, wiener
from mmlearn.runtime import quiet

SEEDS = [0, 1, 2]
SIZES = {"train": 1000, "valid": 200, "test": 1000}
SNR = 0.0  # dB
NUMBER = Classification("number", 10)
METHODS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as it is": lambda audio: audio,
    "spectral gate": lambda audio: spectral_gate(audio, 16_000),
    "Wiener": lambda audio: wiener(audio, 16_000),
}


def load(method: str, **noise: object) -> dict[str, Batch]:
    """The splits as log-mel of the sound, cleaned by a method."""
    data, log_mel, clean = {}, LogMel(), METHODS[method]
    for split, size in SIZES.items():
        clips: Iterable = HanziClips(size, split=split, image_size=8, frames=1, **noise)  # type: ignore[arg-type]
        bar = tqdm(clips, desc=f"{method}, {split}", leave=False, disable=quiet())
        data[split] = collate([clip for clip in bar if clip.audio is not None], {"audio": lambda a: log_mel(clean(a))})
    return data


def train(data: dict[str, Batch], seed: int) -> nn.Module:
    mmlearn.seed_everything(seed)
    head = nn.Sequential(nn.GELU(), nn.Linear(128, 10))
    model = MultimodalModel({"audio": AudioEncoder()}, ConcatFusion({"audio": 128}), head)
    fit(model, data["train"], data["valid"], NUMBER, epochs=8, lr=3e-3, seed=seed, progress=False)
    return model


def accuracy(model: nn.Module, batch: Batch) -> float:
    return float((predict(model, batch).argmax(dim=1) == batch.labels["number"]).float().mean())


def main() -> None:
    begin("denoising")
    quiet_clips = load("as it is")
    models = [train(quiet_clips, seed) for seed in SEEDS]
    results: dict[str, dict] = {"no noise": spread([accuracy(model, quiet_clips["test"]) for model in models])}
    print(f"no noise {results['no noise']['mean']:.3f}")
    for noise in ("white", "babble"):
        results[noise] = {}
        for method in METHODS:
            data = load(method, snr_db=SNR, noise=noise)
            scores = {
                "trained without noise": [accuracy(model, data["test"]) for model in models],
                "trained on the same": [accuracy(train(data, seed), data["test"]) for seed in SEEDS],
            }
            results[noise][method] = {name: spread(values) for name, values in scores.items()}
            for name, row in results[noise][method].items():
                print(f"{noise:7} {method:14} {name:22} {row['mean']:.3f} ± {row['std']:.3f}", flush=True)
    save("denoising", {"seeds": SEEDS, "sizes": SIZES, "snr_db": SNR} | results)


if __name__ == "__main__":
    main()
