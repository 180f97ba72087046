"""mmlearn.large.pretrained.clip: padding, absent pictures, in a model of several modalities."""

import pytest
import torch
from torch import nn

from mmlearn.batch import Batch
from mmlearn.fusion import ConcatFusion
from mmlearn.large.pretrained import load_pretrained
from mmlearn.model import MultimodalModel
from tests.large.pretrained.conftest import batch_of, make, sentences


@pytest.mark.parametrize("name", ["clip", "clip with the first end token", "chinese clip"])
def test_padding_of_text_changes_nothing(name, tmp_path):
    make(name).save_pretrained(tmp_path)
    encoder = load_pretrained(tmp_path).encoders["text"]
    ids, mask = sentences()
    other = torch.where(mask, ids, 39)  # end tokens behind the end
    torch.testing.assert_close(encoder(other, mask), encoder(ids, mask))
    longest = int(mask[1].sum())
    torch.testing.assert_close(encoder(ids[1:2, :longest]), encoder(ids, mask)[1:2])
    assert encoder(ids, mask & False).isfinite().all()


def test_absent_pictures_change_nothing(tmp_path):
    make("chinese clip").save_pretrained(tmp_path)
    model = load_pretrained(tmp_path)
    ids, mask = sentences()
    there = torch.tensor([True, False, True, True])
    results = []
    for rubbish in (torch.nan, 3.0):
        image = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(6))
        image[1] = rubbish
        batch = Batch({"image": image, "text": ids}, {"image": there, "text": torch.ones_like(there)}, {"text": mask})
        model.zero_grad()
        loss = model.criterion(model(batch), batch.present)
        loss.backward()
        results.append([loss, *(p.grad for p in model.parameters() if p.grad is not None)])
    assert all(x.isfinite().all() and x.equal(y) for x, y in zip(*results, strict=True))


def test_in_a_multimodal_model(tmp_path):
    for name in ("videomae", "ast", "chinese clip"):
        make(name).save_pretrained(tmp_path / name)
    encoders = {
        "video": load_pretrained(tmp_path / "videomae"),
        "audio": load_pretrained(tmp_path / "ast"),
        "text": load_pretrained(tmp_path / "chinese clip").encoders["text"],
    }
    fusion = ConcatFusion({name: encoder.dim for name, encoder in encoders.items()}, dim=8)
    model = MultimodalModel(encoders, fusion, nn.Linear(fusion.out_dim, 2))
    ids, mask = sentences()
    batch = batch_of(
        {
            "video": torch.randint(256, (4, 3, 4, 16, 24), dtype=torch.uint8),
            "audio": torch.randn(4, 24, 50),
            "text": ids,
        },
        {"audio": torch.arange(50) < torch.tensor([[50], [30], [8], [1]]), "text": mask},
    )
    assert model(batch).shape == (4, 2)
