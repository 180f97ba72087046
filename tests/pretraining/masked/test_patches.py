"""mmlearn.pretraining.masked.patches: patches cut, standardized and put back."""

import pytest
import torch
from torch import nn

from mmlearn.nn import patchify
from mmlearn.pretraining.masked.masking import (
    take,
)
from mmlearn.pretraining.masked.patches import cut, put_back
from tests.pretraining.masked.conftest import autoencoder, clips


def test_flat_patches_are_finite() -> None:
    batch, model = clips(), autoencoder("video")
    batch.data["video"] = torch.full_like(batch.data["video"], 200)
    assert float(model(batch).losses.detach().max()) < 100


@pytest.mark.parametrize(("name", "targets"), [("video", "patch"), ("video", "channel"), ("audio", (1.0, 3.0))])
def test_filling_puts_a_perfect_guess_in_its_place(name: str, targets: object) -> None:
    batch, model = clips(), autoencoder(name, targets=targets)
    guess = model(batch)
    filled = model.inpaint(batch, guess)
    x = batch.data[name].float()
    assert filled.shape == x.shape and not torch.allclose(filled, x)
    wrong = filled != x
    if name == "audio":
        wrong = nn.functional.pad(wrong, (0, 2)).transpose(1, 2)[:, None]
    wrong = patchify(wrong, model.encoder.embed.patch).any(dim=-1)
    assert not wrong.gather(1, guess.visible).any()  # what is kept stays
    patches = cut(batch, name, model.encoder.embed.patch)
    y = take(patches.values, guess.masked).float() / (255 if name == "video" else 1)
    if isinstance(targets, tuple):
        y = (y - targets[0]) / targets[1]
    else:
        groups = y.unflatten(-1, (3 if targets == "channel" else 1, -1))
        variance, mean = torch.var_mean(groups, dim=-1, keepdim=True)
        y = ((groups - mean) / (variance + 1e-6).sqrt()).flatten(-2)
    perfect = put_back(patches, y, guess.masked, targets, model.encoder.embed.patch, batch.data[name])
    assert torch.allclose(perfect, x, atol=1e-2 if name == "video" else 1e-4)
