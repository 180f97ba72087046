"""Masking in exact numbers, what a model may see and what counts, and the losses against loops."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmlearn import Batch, fit
from mmlearn.encoders import ImageTransformer, TextTransformer, VideoTransformer
from mmlearn.nn import patchify
from mmlearn.pretraining.masked.autoencoder import Decoder, MaskedAutoencoder, MaskedOutput, MaskedPrediction
from mmlearn.pretraining.masked.joint import CrossDecoder
from mmlearn.pretraining.masked.language import MaskedLanguageModel
from mmlearn.pretraining.masked.masking import (
    PatchMask,
    random_masking,
    tube_masking,
)
from mmlearn.pretraining.masked.patches import cut
from tests.pretraining.masked.conftest import LIGHT, SMALL, autoencoder, clips, joint, loss_of

# ---- what is hidden


# ---- language


# ---- one modality


def brute(model: MaskedAutoencoder, x: Tensor, guess: MaskedOutput, real: Tensor | None = None) -> list[float]:
    """Losses of hidden patches in float64, number by number; x (B, C, …sides), real like x."""
    patch, losses = model.encoder.embed.patch, []
    values, there = patchify(x.double(), patch), patchify(torch.ones_like(x) > 0 if real is None else real, patch)
    for b, hidden in enumerate(guess.masked.tolist()):
        for k, n in enumerate(hidden):
            y, r = values[b, n], there[b, n]
            if not r.any():
                continue
            if isinstance(model.targets, tuple):
                y = (y - model.targets[0]) / model.targets[1]
            else:
                groups = x.shape[1] if model.targets == "channel" else 1
                parts = []
                for part, ok in zip(y.chunk(groups), r.chunk(groups), strict=True):
                    m = part[ok].mean()
                    v = ((part[ok] - m) ** 2).sum() / max(int(ok.sum()) - 1, 1)
                    parts.append((part - m) / (v + 1e-6).sqrt())
                y = torch.cat(parts)
            losses.append(((guess.prediction[b, k].double() - y)[r] ** 2).mean().item())
    return losses


@pytest.mark.parametrize("targets", ["patch", "channel", (0.4, 0.2)])
def test_loss_of_frames_equals_a_loop(targets: object) -> None:
    batch, model = clips(), autoencoder("video", targets=targets)
    guess = model(batch)
    assert guess.prediction.shape == (3, 2 * 14, 3 * 8) and guess.visible.shape == (3, 2 * 2)  # 14.4 of 16 places
    expected = brute(model, batch.data["video"].double() / 255, guess)
    assert len(expected) == 3 * 28
    assert loss_of(guess, batch).item() == pytest.approx(sum(expected) / len(expected), rel=1e-4)


@pytest.mark.parametrize("targets", ["patch", "channel", (-1.0, 2.0)])
def test_loss_of_a_padded_spectrogram_equals_a_loop(targets: object) -> None:
    batch, model = clips(), autoencoder("audio", targets=targets)
    for mask in ({}, batch.mask):  # 14 steps fill three patches and a half
        guess = model(replace(batch, mask=mask))
        x = nn.functional.pad(batch.data["audio"], (0, 2)).transpose(1, 2)[:, None]
        there = mask.get("audio", torch.ones(3, 14, dtype=torch.bool))
        real = nn.functional.pad(there, (0, 2))[:, None, :, None].expand_as(x)
        expected = brute(model, x, guess, real)
        assert int(guess.counted.sum()) == len(expected)
        assert loss_of(guess, batch).item() == pytest.approx(sum(expected) / len(expected), rel=1e-4)


def test_pictures_and_defaults() -> None:
    batch = Batch({"image": torch.rand(2, 3, 8, 8)}, {"image": torch.tensor([True, True])})
    model = MaskedAutoencoder("image", ImageTransformer((8, 8), (2, 2), SMALL), decoder=LIGHT)
    guess = model(batch)
    assert guess.masked.shape == (2, 12) and guess.prediction.shape == (2, 12, 12)
    assert loss_of(guess, batch).item() == pytest.approx(sum(brute(model, batch.data["image"], guess)) / 24, rel=1e-4)


@pytest.mark.parametrize("name", ["video", "audio"])
def test_the_encoder_does_not_see_what_is_hidden(name: str) -> None:
    batch, model = clips(), autoencoder(name)
    guess = model(batch)
    split = PatchMask(guess.visible, guess.masked)
    patches = cut(batch, name, model.encoder.embed.patch)
    codes = model.encode(patches, split)
    index = guess.masked[..., None].expand(-1, -1, patches.values.shape[-1])
    other = torch.full_like(patches.values, 77 if name == "video" else torch.nan)
    changed = patches._replace(values=patches.values.scatter(1, index, other.gather(1, index)))
    assert not torch.equal(changed.values, patches.values)
    assert torch.equal(model.encode(changed, split), codes)
    index = guess.visible[..., None].expand(-1, -1, patches.values.shape[-1])
    seen = patches._replace(values=patches.values.scatter(1, index, other.nan_to_num(5.0).gather(1, index)))
    assert not torch.allclose(model.encode(seen, split), codes)  # but what is kept it does see


def test_predictions_depend_on_places_and_only_hidden_ones_are_made() -> None:
    torch.manual_seed(0)
    decoder, split = Decoder(16, 5, LIGHT), random_masking(2, (3, 4), 0.5)
    encoded = torch.randn(2, 6, 16)
    prediction = decoder(encoded, split, (3, 4))
    assert prediction.shape == (2, 6, 5)
    order = torch.randperm(6)
    shuffled = PatchMask(split.visible[:, order], split.masked)
    assert torch.allclose(decoder(encoded[:, order], shuffled, (3, 4)), prediction, atol=1e-5)
    shuffled = PatchMask(split.visible, split.masked[:, order])
    assert torch.allclose(decoder(encoded, shuffled, (3, 4)), prediction[:, order], atol=1e-5)
    assert (prediction[:, :1] - prediction[:, 1:]).abs().amax(dim=-1).min() > 1e-4  # each place its own
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[:, 2] = False
    encoded[:, 2] = torch.nan
    assert decoder(encoded, split, (3, 4), mask).isfinite().all()


@pytest.mark.parametrize("kind", [Decoder, CrossDecoder])
def test_decoders_write_places_in_waves_of_2_to_20_patches(kind: type[Decoder | CrossDecoder]) -> None:
    """Against sines and cosines in a loop: on a small grid, longer waves would hardly tell neighbours apart."""
    decoder, entered = kind(16, 5, LIGHT), []
    nn.init.zeros_(decoder.mask_token)  # what is left of a hidden token is its place
    first = decoder.transformer if isinstance(decoder, Decoder) else decoder.blocks[0]
    first.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    split, encoded = random_masking(2, (3, 4), 0.5), torch.zeros(2, 6, 16)
    if isinstance(decoder, Decoder):
        nn.init.zeros_(decoder.project.bias)  # nor is there more in a kept one
        decoder(encoded, split, (3, 4))
        places = torch.cat(split, dim=1)
    else:
        decoder(encoded, torch.ones(2, 6, dtype=torch.bool), split.masked, (3, 4))
        places = split.masked
    expected = []
    for n in places.flatten().tolist():
        for p in divmod(n, 4):  # row and column: four of the eight numbers for each
            turns = [p / 2, p / (2 * 10**0.5)]  # wave k of 2 is 2 · 10^(k / 2) patches long
            expected += [f(2 * math.pi * t) for f in (math.sin, math.cos) for t in turns]
    assert torch.allclose(entered[0], torch.tensor(expected).view(*places.shape, 8), atol=1e-5)


@pytest.mark.parametrize("name", ["video", "audio"])
def test_loss_and_gradient_ignore_what_is_absent(name: str) -> None:
    batch, model = clips(), autoencoder(name)
    batch.data["video"] = batch.data["video"].float()
    batch.present[name] = torch.tensor([True, False, True])
    split = model.masking(3, cut(batch, name, model.encoder.embed.patch).grid)

    def gradients(content: float) -> tuple[float, list[Tensor]]:
        model.zero_grad()
        x = batch.data[name].clone()
        x[1] = content
        loss = loss_of(model(replace(batch, data={name: x}), split), batch)
        loss.backward()
        return loss.item(), [p.grad.clone() for p in model.parameters() if p.grad is not None]

    value, grads = gradients(0.0)
    again, same = gradients(torch.nan)
    assert value == again and all(torch.equal(a, b) for a, b in zip(grads, same, strict=True))
    alone = model(batch[[0, 2]], PatchMask(split.visible[[0, 2]], split.masked[[0, 2]]))
    assert loss_of(alone, batch).item() == pytest.approx(value, rel=1e-5)
    nobody = replace(batch, present={name: torch.zeros(3, dtype=torch.bool)})
    assert loss_of(model(nobody, split), nobody).item() == 0


def test_padding_changes_nothing() -> None:
    batch, model = clips(), autoencoder("audio", masking=random_masking)
    split = random_masking(3, (4, 3), 0.5)
    guess = model(batch, split)
    batch.data["audio"] = torch.where(batch.mask["audio"][:, None], batch.data["audio"], torch.nan)
    padded = model(batch, split)
    assert torch.equal(guess.losses, padded.losses) and torch.equal(guess.counted, padded.counted)


def test_errors_of_the_autoencoder() -> None:
    batch, model = clips(), autoencoder("video")
    with pytest.raises(ValueError, match="no 'video'; it has"):
        model(Batch({"audio": batch.data["audio"]}, batch.present))
    for ratio in (0.0, 1.0):
        with pytest.raises(ValueError, match="expected at least one of each"):
            model(batch, random_masking(3, (2, 4, 4), ratio))
    for targets in ("pixel", (0.0, 0.0), (1.0,)):
        with pytest.raises(ValueError, match="targets is"):
            autoencoder("video", targets=targets)


def test_work_grows_with_what_is_kept() -> None:
    """The encoder's products at a ratio are those of the kept tokens, counted by torch and by hand."""
    encoder = VideoTransformer((16, 48, 48), (4, 8, 8), SMALL)
    model = MaskedAutoencoder("video", encoder, decoder=LIGHT)
    batch = Batch({"video": torch.zeros(2, 3, 16, 48, 48)}, {"video": torch.ones(2, dtype=torch.bool)})
    patches, flops = cut(batch, "video", (4, 8, 8)), {}
    for ratio in (0.0, 0.5, 0.9):
        split = tube_masking(2, (4, 6, 6), ratio)
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # products that are counted
            model.encode(patches, split)
        flops[ratio] = counter.get_total_flops()
        kept = split.visible.shape[1]
        linear = kept * (768 * 16 + 2 * 12 * 16 * 16)  # patch embedding, then 12 D² weights a block
        assert flops[ratio] == 2 * 2 * (linear + 2 * 2 * kept**2 * 16)  # attention: two products of K · K · D a block
    assert flops[0.9] < 0.12 * flops[0.0] and flops[0.5] < 0.5 * flops[0.0]
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # products that are counted
        model(batch, split)
    h, n = split.masked.shape[1], 144
    decoder = (n - h) * 16 * 8 + 12 * 8 * 8 * n + 2 * n * n * 8 + h * 8 * 768  # the head: hidden ones only
    assert counter.get_total_flops() == flops[0.9] + 2 * 2 * decoder


# ---- all modalities


# ---- training


MODELS: dict[str, Callable[[], nn.Module]] = {
    "video": partial(autoencoder, "video"),
    "audio": partial(autoencoder, "audio"),
    "text": lambda: MaskedLanguageModel("text", TextTransformer(12, size=SMALL), 2, 3, rate=0.5),
    "joint": joint,
}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_loss_falls_with_fit(name: str) -> None:
    batch, model = clips()[[0, 0, 0]], MODELS[name]()
    history = fit(model, batch, batch, MaskedPrediction(), epochs=60, lr=1e-2, progress=False)
    first, last = (sum(row["train_loss"] for row in part) / 5 for part in (history[:5], history[-5:]))
    assert last < 0.8 * first
    if name == "joint":  # whatever is drawn, each parameter has its part in it
        loss_of(model.train()(batch), batch).backward()
        assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", ["joint", "text", "video"])
def test_compiles_in_one_graph_and_in_bfloat16(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SMALL, "depth", 1)  # tracing takes its time
    batch, model = clips(), MODELS[name]()
    torch._dynamo.reset()
    compiled = torch.compile(lambda b: loss_of(model(b), b), fullgraph=True, backend="aot_eager")
    torch.manual_seed(2)
    expected = loss_of(model(batch), batch)
    torch.manual_seed(2)
    found = compiled(batch)
    assert torch.allclose(found, expected, atol=1e-5)
    found.backward()
    torch.manual_seed(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = loss_of(model(batch), batch)
    assert half.dtype == torch.float32 and torch.allclose(half, expected, rtol=0.05)
