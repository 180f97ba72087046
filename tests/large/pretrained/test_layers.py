"""mmlearn.large.pretrained.layers: layers as the checkpoints have them."""

import pytest
import torch
from transformers import (
    ChineseCLIPConfig,
    ChineseCLIPModel,
)
from transformers.utils import constants

from mmlearn.large.pretrained import load_pretrained
from tests.large.pretrained.conftest import PAIR, SENTENCE, make, sentences


def test_dropout_is_as_the_config_says(tmp_path):
    config = ChineseCLIPConfig(
        text_config=SENTENCE | {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.3},
        vision_config=PAIR["vision_config"] | {"attention_dropout": 0.4},
    )
    ChineseCLIPModel(config).save_pretrained(tmp_path)
    encoders = load_pretrained(tmp_path).encoders
    assert encoders["text"].dropout.p == 0.2
    assert {block.dropout.p for block in encoders["text"].transformer.blocks} == {0.2}
    assert {block.attention.dropout for block in encoders["text"].transformer.blocks} == {0.3}
    assert {block.dropout.p for block in encoders["image"].transformer.blocks} == {0.0}
    assert {block.attention.dropout for block in encoders["image"].transformer.blocks} == {0.4}
    ids, mask = sentences()
    encoders.train()
    assert not encoders["text"](ids, mask).equal(encoders["text"](ids, mask))


def test_bytes_are_normalised(tmp_path):
    make("videomae").save_pretrained(tmp_path / "v")
    make("clip").save_pretrained(tmp_path / "c")
    x = torch.randint(256, (2, 3, 4, 16, 24), dtype=torch.uint8)
    means, deviations = constants.IMAGENET_DEFAULT_MEAN, constants.IMAGENET_DEFAULT_STD
    floats = torch.stack([(x[:, c] / 255 - means[c]) / deviations[c] for c in range(3)], dim=1)
    encoder = load_pretrained(tmp_path / "v")
    torch.testing.assert_close(encoder(x), encoder(floats))
    x = torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8)
    means, deviations = constants.OPENAI_CLIP_MEAN, constants.OPENAI_CLIP_STD
    floats = torch.stack([(x[:, c] / 255 - means[c]) / deviations[c] for c in range(3)], dim=1)
    encoder = load_pretrained(tmp_path / "c").encoders["image"]
    torch.testing.assert_close(encoder(x), encoder(floats))


def test_sides_that_do_not_fit(tmp_path):
    for name in ("videomae", "clip", "ast"):
        make(name).save_pretrained(tmp_path / name)
    encoder, image, audio = (load_pretrained(tmp_path / name) for name in ("videomae", "clip", "ast"))
    image = image.encoders["image"]
    for shape in ((1, 3, 4, 24, 16), (1, 3, 6, 16, 24), (1, 3, 16, 24)):
        with pytest.raises(ValueError, match=r"the input is .*; expected \(B, 3, 4, 16, 24\)"):
            encoder(torch.zeros(shape))
    with pytest.raises(ValueError, match="video has 3 frames; expected a multiple of 2"):
        encoder(torch.zeros(1, 3, 3, 16, 24), torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"expected \(B, 3, 16, 16\)"):
        image(torch.zeros(1, 3, 16, 24))
    with pytest.raises(ValueError, match="takes no mask"):
        image(torch.zeros(1, 3, 16, 16), torch.ones(1, 4, dtype=torch.bool))
    for shape in ((1, 60, 24), (1, 24, 61), (1, 24, 0)):
        with pytest.raises(ValueError, match=r"mel is .*; expected \(B, 24, at most 60\)"):
            audio(torch.zeros(shape))
