"""mmlearn.pretraining.masked.language: the loss by a loop, whole words, errors."""

from dataclasses import replace

import pytest
import torch

from mmlearn.encoders import TextTransformer
from mmlearn.pretraining.masked.language import MaskedLanguageModel
from mmlearn.pretraining.masked.masking import (
    mask_tokens,
)
from tests.pretraining.masked.conftest import SMALL, clips, loss_of


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
