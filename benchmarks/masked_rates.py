"""The learning rates of benchmarks/masked.py, chosen by the loss of masked validation clips; no label, no test clip.

Run `python -m benchmarks.masked_rates` (about an hour of one core); it writes benchmarks/results/masked_rates.json.
With names of parts (video, audio, text, joint) it runs these only. What is finished is kept in _build/masked_rates/.

Each model is trained as masked.py trains it, with one seed, at half, at once and at twice the rate. Targets do not
depend on the rate, so the losses of one part can be compared.
"""

import argparse
import shutil
from functools import partial
from typing import Any

import torch
from torch import nn

import mmlearn
from benchmarks import masked
from benchmarks.report import UNFINISHED, begin, keep, save
from mmlearn import Batch, fit
from mmlearn.encoders import TextTransformer, xavier
from mmlearn.preprocessing.text import Vocabulary
from mmlearn.pretraining.masked import MaskedAutoencoder, MaskedLanguageModel, MaskedPrediction

SEED, FACTORS, DRAWS = 0, [0.5, 1.0, 2.0], 5


def build(part: str, vocabulary: Vocabulary) -> nn.Module:
    """The model of a part, as masked.py builds its plain one."""
    if part == "text":
        encoder = TextTransformer(len(vocabulary), 64, masked.SIZE)
        masked.louder(encoder.embed)
        special: dict[str, Any] = {"mask_id": vocabulary.special["<mask>"], "num_special": len(vocabulary.special)}
        return MaskedLanguageModel("text", encoder, **special)
    if part == "joint":
        return masked.joint_model(vocabulary)
    ways: dict[str, Any] = masked.VIDEO if part == "video" else masked.AUDIO
    masking = ways[masked.PLAIN] if part == "video" else next(iter(ways.values()))
    encoder_of: Any = {"video": masked.video_encoder, "audio": masked.audio_encoder}[part]
    return xavier(MaskedAutoencoder(part, encoder_of(), masking, masked.DECODER, masked.TARGETS[part]))


def valid_loss(part: str, data: dict[str, Batch], vocabulary: Vocabulary, rate: float) -> dict[str, float]:
    """Train at a rate; the mean loss of the validation clips over several draws of what is masked."""
    mmlearn.seed_everything(SEED)
    model = build(part, vocabulary)
    groups = [{"params": list(model.parameters()), "betas": masked.BETAS}]
    fit(model, data["train"], data["valid"], MaskedPrediction(), epochs=masked.EPOCHS[part], lr=rate, seed=SEED,
        batch_size=masked.BATCH_SIZE, parameter_groups=groups, progress=False)  # fmt: skip
    mmlearn.seed_everything(SEED)  # the same masks for all
    with torch.inference_mode():
        losses = [MaskedPrediction().loss(model.eval()(data["valid"]), data["valid"]).item() for _ in range(DRAWS)]
    return {"loss": sum(losses) / DRAWS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="run these only, and write no results yet")
    arguments = parser.parse_args()
    begin("masked_rates")
    data, vocabulary = masked.load()
    found: dict[str, dict[str, float]] = {}
    for part, rate in masked.RATES.items():
        if part not in (arguments.parts or [part]):
            continue
        about = {"epochs": masked.EPOCHS[part], "rate": rate, "seed": SEED}
        folder = UNFINISHED / "masked_rates"
        rows = {f: keep(folder / f"{part}, {f}.json", about, partial(valid_loss, part, data, vocabulary, f * rate))
                for f in FACTORS}  # fmt: skip
        found[part] = {f"{f * rate:g}": row["loss"] for f, row in rows.items()}
    if not arguments.parts:
        save("masked_rates", {"seed": SEED, "rates": masked.RATES, "epochs": masked.EPOCHS, "losses": found})
        shutil.rmtree(UNFINISHED / "masked_rates")


if __name__ == "__main__":
    main()
