"""Masking in exact numbers, what a model may see and what counts, and the losses against loops."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmlearn import Batch, fit
from mmlearn.encoders import AudioTransformer, ImageTransformer, TextTransformer, VideoTransformer
from mmlearn.nn import PatchEmbedding, TokenEmbedding, patchify
from mmlearn.preprocessing.text import Segmenter, characters
from mmlearn.pretraining.masked.autoencoder import Decoder, MaskedAutoencoder, MaskedOutput, MaskedPrediction
from mmlearn.pretraining.masked.joint import CrossDecoder, JointMaskedAutoencoder
from mmlearn.pretraining.masked.language import MaskedLanguageModel
from mmlearn.pretraining.masked.masking import (
    PatchMask,
    mask_tokens,
    random_masking,
    strip_masking,
    take,
    tube_masking,
    word_numbers,
)
from mmlearn.pretraining.masked.patches import cut, put_back

SMALL = {"dim": 16, "depth": 2, "num_heads": 2}
LIGHT = {"dim": 8, "depth": 1, "num_heads": 1}
RATIOS = st.floats(0, 1)
loss_of = MaskedPrediction().loss


def clips(size: int = 3) -> Batch:
    """Frames of bytes, log-mel whose length is no multiple of a patch's, and token ids; all with padding but frames."""
    torch.manual_seed(0)
    lengths = {"audio": torch.tensor([14, 9, 5])[:size], "text": torch.tensor([6, 3, 5])[:size]}
    data = {
        "video": torch.randint(256, (size, 3, 4, 8, 8), dtype=torch.uint8),
        "audio": torch.randn(size, 6, 14),
        "text": torch.randint(3, 12, (size, 6)),
    }
    mask = {name: torch.arange(data[name].shape[-1]) < length[:, None] for name, length in lengths.items()}
    return Batch(data, {name: torch.ones(size, dtype=torch.bool) for name in data}, mask)


def autoencoder(name: str, **options: object) -> MaskedAutoencoder:
    torch.manual_seed(1)
    if name == "video":
        return MaskedAutoencoder(name, VideoTransformer((4, 8, 8), (2, 2, 2), SMALL), decoder=LIGHT, **options)
    return MaskedAutoencoder(name, AudioTransformer(6, (4, 2), size=SMALL), decoder=LIGHT, **options)


def joint(**options: object) -> JointMaskedAutoencoder:
    torch.manual_seed(1)
    embeds = {
        "video": PatchEmbedding((4, 8, 8), (2, 4, 4), 16, positions="sincos"),
        "audio": PatchEmbedding((16, 6), (4, 2), 16, channels=1),
        "text": TokenEmbedding(12, 16, length=6),
    }
    return JointMaskedAutoencoder(embeds, SMALL, decoder=LIGHT, num_special=3, **options)


# ---- what is hidden


MASKINGS: dict[str, Callable] = {"random": random_masking, "tube": tube_masking, "strip": strip_masking}


@given(st.sampled_from(sorted(MASKINGS)), st.integers(1, 4), st.tuples(*[st.integers(1, 5)] * 3), RATIOS, RATIOS)
@settings(max_examples=60, deadline=None)
def test_kept_and_hidden_are_a_permutation_of_exact_sizes(
    name: str, size: int, grid: tuple[int, int, int], ratio: float, other: float
) -> None:
    if name == "strip":
        split = strip_masking(size, grid[:2], ratio, other)
        shape = grid[:2]
        kept = math.prod(side - round(part * side) for side, part in zip(shape, (ratio, other), strict=True))
    else:
        split = MASKINGS[name](size, grid, ratio)
        shape, places = grid, math.prod(grid[1:])
        kept = grid[0] * (places - round(ratio * places)) if name == "tube" else math.prod(grid) - round(
            ratio * math.prod(grid)
        )  # fmt: skip
    assert split.visible.shape == (size, kept)
    assert split.visible.dtype == split.masked.dtype == torch.long
    for row in torch.cat(split, dim=1).tolist():
        assert sorted(row) == list(range(math.prod(shape)))
    for part in split:
        assert (part.diff(dim=1) > 0).all()


def test_tubes_are_equal_over_time() -> None:
    kept, hidden = tube_masking(5, (4, 6, 6), 0.9)
    assert kept.shape == (5, 4 * 4) and hidden.shape == (5, 4 * 32)  # 32.4 of 36 are 32
    for part in (kept, hidden):
        steps = part.unflatten(1, (4, -1)) - 36 * torch.arange(4)[:, None]
        assert (steps == steps[:, :1]).all() and steps.min() >= 0 and steps.max() < 36
    assert any((kept[0] != row).any() for row in kept[1:])  # each clip has its own


def test_strips_are_whole_rows_and_columns() -> None:
    for row in strip_masking(20, (5, 4), 0.4, 0.5).visible:
        times, bands = {int(i) // 4 for i in row}, {int(i) % 4 for i in row}
        assert len(times) == 3 and len(bands) == 2
        assert sorted(row.tolist()) == sorted(4 * t + f for t in times for f in bands)


@pytest.mark.parametrize("name", sorted(MASKINGS))
def test_every_patch_is_as_likely_and_seeds_repeat(name: str) -> None:
    grid = (6, 5) if name == "strip" else (3, 2, 5)
    draw = partial(MASKINGS[name], 4000, grid)
    splits = [draw(generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(splits[0].visible, splits[1].visible) and torch.equal(splits[0].masked, splits[1].masked)
    assert not torch.equal(splits[0].visible, splits[2].visible)
    # Draws of one sample depend on each other (tubes, strips, no repetition), so one patch of each sample is counted.
    which = torch.randint(splits[0].visible.shape[1], (4000, 1), generator=torch.Generator().manual_seed(0))
    counts = splits[0].visible.gather(1, which).flatten().bincount(minlength=30)
    assert chisquare(counts.numpy()).pvalue > 1e-4


def test_pairs_are_as_likely() -> None:
    """Not only each patch by itself: all ten sets of two out of five."""
    kept = random_masking(5000, (5,), 0.6, generator=torch.Generator().manual_seed(3)).visible
    counts = Counter(map(tuple, kept.tolist()))
    assert len(counts) == 10 and chisquare(list(counts.values())).pvalue > 1e-4


def test_ratios_out_of_range() -> None:
    for call in (random_masking, tube_masking, partial(strip_masking, frequency=0.1)):
        with pytest.raises(ValueError, match=r"(ratio|time) is 1.5; expected from 0 to 1"):
            call(2, (3, 4), 1.5)


def test_take() -> None:
    x, index = torch.randn(3, 5, 2), torch.tensor([[4, 0], [1, 1], [2, 3]])
    assert torch.equal(take(x, index), torch.stack([row[i] for row, i in zip(x, index, strict=True)]))


# ---- language


def test_tokens_are_masked_as_in_bert() -> None:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 40, (400, 50), generator=generator)
    real = torch.arange(50) < torch.randint(1, 51, (400, 1), generator=generator)
    changed, chosen = mask_tokens(
        ids, real, mask_id=2, num_tokens=40, num_special=4, rate=0.15, generator=generator
    )  # fmt: skip
    may = real & (ids >= 4)
    assert not (chosen & ~may).any()
    assert torch.equal(changed[~chosen], ids[~chosen])
    n, candidates = int(chosen.sum()), int(may.sum())
    assert binomtest(n, candidates, 0.15).pvalue > 1e-4
    masked = int((changed[chosen] == 2).sum())
    kept = int((changed[chosen] == ids[chosen]).sum())
    assert binomtest(masked, n, 0.8).pvalue > 1e-4
    assert binomtest(kept, n, 0.1 + 0.1 / 36).pvalue > 1e-4  # some are replaced by themselves
    others = changed[chosen & (changed != 2) & (changed != ids)]
    assert len(others) > 100 and others.min() >= 4
    assert chisquare(others.bincount(minlength=40)[4:].numpy()).pvalue > 1e-4


def test_words_are_chosen_whole() -> None:
    words = torch.tensor([[0, 0, 1, 2, 2, 2, 3, 3]]).repeat(3000, 1)
    ids, real = torch.full((3000, 8), 7), torch.ones(3000, 8, dtype=torch.bool)
    real[:, 7] = False
    _, chosen = mask_tokens(ids, real, mask_id=2, num_tokens=9, num_special=3, rate=0.3, words=words)
    first = chosen[:, [0, 2, 3, 6]]  # one token a word
    assert torch.equal(chosen, torch.where(real, first[:, [0, 0, 1, 2, 2, 2, 3, 3]], False))
    assert binomtest(int(first.sum()), first.numel(), 0.3).pvalue > 1e-4
    both = int((first[:, 0] & first[:, 1]).sum())  # words do not depend on each other
    assert binomtest(both, 3000, 0.09).pvalue > 1e-4


def test_masking_of_tokens_says_what_is_wrong() -> None:
    ids = torch.ones(1, 2, dtype=torch.long)
    with pytest.raises(ValueError, match=r"rate is -0\.1"):
        mask_tokens(ids, ids > 0, mask_id=2, num_tokens=9, num_special=3, rate=-0.1)
    with pytest.raises(ValueError, match="mask_id is 5, num_special 3"):
        mask_tokens(ids, ids > 0, mask_id=5, num_tokens=9, num_special=3)


def test_word_numbers() -> None:
    assert word_numbers("三座高山", lambda text: ["三座", "高山"]).tolist() == [0, 0, 1, 1]
    assert word_numbers("三座mountains", lambda text: list(text), characters).tolist() == [0, 1, 2]
    assert word_numbers("三big山", lambda text: ["三", "bi", "g", "山"], characters).tolist() == [0, 1, 2]
    assert word_numbers("", list).tolist() == [0]
    text = "画面里有三座红色的高山，慢慢移向上方"
    numbers, words = word_numbers(text, Segmenter().words), Segmenter().words(text)
    assert [sum(numbers == k) for k in range(len(words))] == [len(word) for word in words]
    with pytest.raises(ValueError, match="when joined"):
        word_numbers("三座", lambda text: ["三"])


def test_language_model_equals_a_loop() -> None:
    batch = clips()
    batch.present["text"] = torch.tensor([True, True, False])
    model = MaskedLanguageModel("text", TextTransformer(12, size=SMALL), mask_id=2, num_special=3, rate=0.5)
    guess = model(batch, generator=torch.Generator().manual_seed(0))
    real = batch.mask["text"] & batch.present["text"][:, None]
    changed, chosen = mask_tokens(
        torch.where(batch.present["text"][:, None], batch.data["text"], 0), real, mask_id=2, num_tokens=12,
        num_special=3, rate=0.5, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert chosen.any() and torch.equal(guess.counted, chosen) and not chosen[2].any()
    expected = []
    for b, n in chosen.nonzero().tolist():
        length = int(real[b].sum())
        logits = model.logits(changed[b : b + 1, :length])[0, n].detach().double()  # alone, without padding
        expected.append(float(logits.logsumexp(0) - logits[batch.data["text"][b, n]]))
    assert loss_of(guess, batch).item() == pytest.approx(sum(expected) / len(expected), abs=1e-5)
    assert not guess.losses[~chosen].any()


def test_language_model_with_words_and_errors() -> None:
    batch, encoder = clips(), TextTransformer(12, size=SMALL)
    model = MaskedLanguageModel("text", encoder, mask_id=2, num_special=3, rate=0.5, words="words")
    with pytest.raises(ValueError, match="no 'words'"):
        model(batch)
    batch.data["words"] = torch.arange(6).div(2, rounding_mode="floor").expand(3, 6)
    chosen = model(batch).counted[0]  # its six tokens are real
    assert (chosen[0::2] == chosen[1::2]).all()
    with pytest.raises(ValueError, match="no 'text'"):
        model(replace(batch, mask={}))
    with pytest.raises(ValueError, match="is causal"):
        MaskedLanguageModel("text", TextTransformer(12, size=SMALL, causal=True), 2, 3)
    assert model.logits(batch.data["text"]).shape == (3, 6, 12)


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


def test_flat_patches_are_finite() -> None:
    batch, model = clips(), autoencoder("video")
    batch.data["video"] = torch.full_like(batch.data["video"], 200)
    assert float(model(batch).losses.detach().max()) < 100


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


def test_joint_loss_is_the_mean_of_the_modalities() -> None:
    batch, model = clips(), joint(drop_modalities=0.0, targets={"audio": (0.0, 1.0)})
    guesses = model(batch)
    assert set(guesses) == {"audio", "text", "video"}
    assert loss_of(guesses, batch).item() == pytest.approx(
        sum(g.losses.sum().item() / int(g.counted.sum()) for g in guesses.values()) / 3
    )
    text = guesses["text"]
    assert torch.equal(text.counted, batch.mask["text"].gather(1, text.masked))
    for b, n in text.counted.nonzero().tolist():
        logits = text.prediction[b, n].double()
        expected = logits.logsumexp(0) - logits[batch.data["text"][b, text.masked[b, n]]]
        assert text.losses[b, n].item() == pytest.approx(expected.item(), abs=1e-5)
    audio, embed = guesses["audio"], model.embeds["audio"]
    x = nn.functional.pad(batch.data["audio"], (0, 2)).transpose(1, 2)[:, None]
    real = patchify(nn.functional.pad(batch.mask["audio"], (0, 2))[:, None, :, None].expand_as(x), embed.patch)
    values = patchify(x, embed.patch)
    for b, k in audio.counted.nonzero().tolist():
        n = audio.masked[b, k]
        difference = (audio.prediction[b, k] - values[b, n])[real[b, n]].double()
        assert audio.losses[b, k].item() == pytest.approx((difference**2).mean().item(), rel=1e-4)
    special = replace(batch, data=batch.data | {"text": torch.full_like(batch.data["text"], 2)})
    assert not model(special)["text"].counted.any()  # nobody asks for special tokens


def test_joint_ignores_absent_modalities_with_nan() -> None:
    batch, model = clips(), joint(drop_modalities=0.0)
    batch.data["video"] = batch.data["video"].float()
    batch.present = {
        "video": torch.tensor([True, False, True]),
        "audio": torch.tensor([True, True, False]),
        "text": torch.tensor([False, True, True]),
    }
    torch.manual_seed(5)
    splits = {name: random_masking(3, grid, 0.5) for name, grid in
              (("video", (2, 2, 2)), ("audio", (4, 3)), ("text", (6,)))}  # fmt: skip

    def gradients(content: float) -> tuple[float, list[Tensor], Tensor]:
        model.zero_grad()
        data = {name: batch.data[name].clone() for name in batch.data}
        data["video"][1], data["audio"][2] = content, content
        data["text"][0] = 0 if content == 0 else 11
        changed = replace(batch, data=data)
        loss = loss_of(model(changed, splits), changed)
        loss.backward()
        steps, mask = model.steps(changed)
        return loss.item(), [p.grad.clone() for p in model.parameters()], torch.where(mask[..., None], steps, 0.0)

    value, grads, steps = gradients(0.0)
    again, same, other = gradients(torch.nan)
    assert math.isfinite(value) and value == again and torch.equal(steps, other)
    assert all(torch.equal(a, b) for a, b in zip(grads, same, strict=True))
    guesses = model(batch, splits)
    for name, guess in guesses.items():
        assert not guess.counted[~batch.present[name]].any() and guess.counted[batch.present[name]].any()


def test_a_modality_is_told_from_the_others_alone() -> None:
    batch, model = clips(), joint(targets={"video": (0.5, 0.2), "audio": (0.0, 1.0)})
    model.eval()
    batch.data["video"] = batch.data["video"].float() / 255
    for name in ("video", "audio", "text"):
        told = model.reconstruct_modality(batch, name)
        assert told.shape == batch.data[name].shape
        other = batch.data[name] * torch.nan if name != "text" else batch.data[name] * 0 + 5
        assert torch.equal(model.reconstruct_modality(replace(batch, data=batch.data | {name: other}), name), told)
        absent = model.reconstruct_modality(replace(batch.without(name), data=batch.data | {name: other}), name)
        assert torch.equal(absent, told)
        if name != "text":  # it does look at the rest; of text, one sees only the most probable ids
            assert not torch.equal(model.reconstruct_modality(batch[[1, 2, 0]], name), told)
    with pytest.raises(ValueError, match=r"sample 0 has none of the modalities \['audio', 'text'\]"):
        model.reconstruct_modality(batch.only("video"), "video")
    with pytest.raises(ValueError, match="that nobody has seen"):
        joint().reconstruct_modality(batch, "video")


def test_withheld_modalities_are_not_read_but_told() -> None:
    batch = clips()
    batch.present["audio"] = torch.tensor([True, True, False])
    model = joint(drop_modalities=0.9)
    seen = Counter()
    for seed in range(200):
        torch.manual_seed(seed)
        shown = model._shown(batch)
        for name, there in shown.items():
            assert not (there & ~batch.present[name]).any()
        counts = torch.stack(list(shown.values())).sum(dim=0)
        assert counts.min() >= 1
        seen.update(counts.tolist())
    assert {1, 2, 3} <= set(seen)
    assert model(batch)["video"].counted.all()  # whoever was withheld
    model.eval()
    assert all(torch.equal(there, batch.present[name]) for name, there in model._shown(batch).items())


def test_joint_hides_nothing_or_everything_where_told() -> None:
    batch = clips()
    everything = partial(random_masking, ratio=1.0)
    nothing = partial(random_masking, ratio=0.0)
    model = joint(maskings={"video": everything, "audio": nothing, "text": nothing})
    guesses = model(batch)
    assert set(guesses) == {"video"} and guesses["video"].visible.shape == (3, 0)
    loss_of(guesses, batch).backward()
    steps, mask = model.steps(batch)
    assert steps.shape == (3, 12 + 6 + 8, 16) and mask.shape == (3, 26)
    blind = joint(drop_modalities=0.0, maskings=dict.fromkeys(("video", "audio", "text"), everything))
    with pytest.raises(ValueError, match="everything of every modality is hidden"):
        blind(batch)
    plain = replace(batch, mask={}, data=batch.data | {"audio": torch.randn(3, 6, 16)})
    assert model.steps(plain)[1].all()


def test_errors_of_the_joint_model() -> None:
    batch = clips()
    for name in ("video", "text"):
        less = Batch(*({k: v for k, v in part.items() if k != name} for part in (batch.data, batch.present)))
        with pytest.raises(ValueError, match=f"no '{name}'"):
            joint()(less)
    with pytest.raises(ValueError, match="drop_modalities is 1"):
        joint(drop_modalities=1)
    with pytest.raises(ValueError, match="'text' is 8 wide; expected 16"):
        JointMaskedAutoencoder({"text": TokenEmbedding(9, 8), "more": TokenEmbedding(9, 16)}, SMALL)
    with pytest.raises(ValueError, match="expected at least two modalities"):
        JointMaskedAutoencoder({"text": TokenEmbedding(9, 16)}, SMALL)
    batch.present = {name: torch.tensor([True, False, True]) for name in batch.present}
    with pytest.raises(ValueError, match="sample 1 has none"):
        joint()(batch)


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
