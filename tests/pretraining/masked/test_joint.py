"""mmlearn.pretraining.masked.joint: several modalities: the loss by hand, absent and dropped modalities."""

import math
from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from mmlearn import Batch
from mmlearn.nn import TokenEmbedding, patchify
from mmlearn.pretraining.masked.joint import JointMaskedAutoencoder
from mmlearn.pretraining.masked.masking import (
    random_masking,
)
from tests.pretraining.masked.conftest import SMALL, clips, joint, loss_of


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
