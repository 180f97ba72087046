"""mmlearn.large.pretrained.videomae: positions, padding, absent clips, masking."""

import pytest
import torch
from transformers import (
    VideoMAEConfig,
    VideoMAEForPreTraining,
)
from transformers.models.videomae.modeling_videomae import get_sinusoid_encoding_table

from mmlearn.batch import Batch
from mmlearn.large.pretrained import layers, load_pretrained
from mmlearn.pretraining.masked.autoencoder import MaskedPrediction
from tests.large.pretrained.conftest import PRETRAINING, batch_of, hidden_split, make, video


def test_places_of_videomae_are_exact_to_the_last():
    torch.testing.assert_close(layers.sine_table(1568, 64), get_sinusoid_encoding_table(1568, 64)[0], rtol=0, atol=1e-6)


def test_padding_of_video_changes_nothing(tmp_path):
    make("videomae").save_pretrained(tmp_path)
    encoder = load_pretrained(tmp_path)
    x = video(make("videomae"))[:2]
    short = encoder.steps(x[:, :, :2])[0]  # two frames of four
    mask = torch.tensor([[True, True, False, False]]).expand(2, -1)
    x[:, :, 2:] = torch.nan
    x.requires_grad_(True)
    steps, real = encoder.steps(x, mask)
    assert real.tolist() == [[True] * 6 + [False] * 6] * 2
    torch.testing.assert_close(steps[real], short.flatten(0, 1))
    vector = encoder(x, mask)
    torch.testing.assert_close(vector, short.mean(dim=1))
    vector.sum().backward()
    assert x.grad[:, :, 2:].eq(0).all()
    assert all(p.grad.isfinite().all() for p in encoder.parameters() if p.grad is not None)


def test_absent_video_changes_nothing(tmp_path):
    make("videomae pretraining").save_pretrained(tmp_path)
    model = load_pretrained(tmp_path)
    x, there = video(make("videomae pretraining")), torch.tensor([True, False, True])
    hidden = torch.arange(8).expand(3, -1) % 4 != 1
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[2, 2:] = False
    results = []
    for rubbish in (torch.nan, 3.0):
        x[1], x[2, :, 2:] = rubbish, rubbish
        batch = Batch({"video": x}, {"video": there}, {"video": mask})
        guess = model(batch, hidden_split(hidden))
        model.zero_grad()
        loss = MaskedPrediction().loss(guess, batch)
        loss.backward()
        results.append([loss, *(p.grad for p in model.parameters())])
    assert all(x.isfinite().all() and x.equal(y) for x, y in zip(*results, strict=True))
    assert guess.counted.tolist() == [[True] * 6, [False] * 6, [True] * 3 + [False] * 3]
    with torch.no_grad():  # the present and whole one by itself
        alone = model(batch_of({"video": x[:1]}), hidden_split(hidden[:1]))
        torch.testing.assert_close(guess.losses[:1], alone.losses)
        assert not guess.losses[1].any()


def test_videomae_hides_tubes_by_itself(tmp_path):
    VideoMAEForPreTraining(VideoMAEConfig(**PRETRAINING | {"image_size": 32})).save_pretrained(tmp_path)
    model = load_pretrained(tmp_path)
    guess = model(batch_of({"video": torch.randint(256, (2, 3, 4, 32, 32), dtype=torch.uint8)}))
    assert guess.visible.shape == (2, 4)  # two of 16 places, at two times
    assert guess.visible[:, 2:].equal(guess.visible[:, :2] + 16)
    with pytest.raises(ValueError, match=r"the batch has no 'video'; it has \['audio'\]"):
        model(batch_of({"audio": torch.zeros(1, 2, 3)}))
