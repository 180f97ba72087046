"""mmlearn.large.pretrained.names: transformers' names and settings, both ways."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    ASTConfig,
    ASTModel,
    ChineseCLIPConfig,
    CLIPConfig,
    VideoMAEConfig,
    VideoMAEModel,
)

from mmlearn.large.pretrained import load_pretrained, names, save_published, to_published
from tests.large.pretrained.conftest import (
    MAKE,
    SENTENCE,
    assert_equal_outputs,
    make,
    norm_eps,
)
from tests.large.pretrained.test_reading import needs_biases


@pytest.mark.parametrize("name", [pytest.param(x, marks=[needs_biases] * ("videomae" in x)) for x in MAKE])
def test_both_ways(name, tmp_path):
    model = make(name)
    model.save_pretrained(tmp_path / "theirs")
    ours = load_pretrained(tmp_path / "theirs")
    assert not ours.training
    assert_equal_outputs(model, ours)
    assert sorted(norm_eps(ours)) == sorted(norm_eps(model))

    written = load_file(tmp_path / "theirs/model.safetensors")  # what we write is what they write
    for key, tensor in to_published(ours).items():
        torch.testing.assert_close(tensor, written.pop(key), rtol=0, atol=0)
    assert not written

    torch.manual_seed(5)
    with torch.no_grad():  # other weights, keys' biases among them
        for parameter in ours.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    save_published(ours, tmp_path / "ours")
    other, report = type(model).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    assert_equal_outputs(other.eval(), ours)
    assert_equal_outputs(other, load_pretrained(str(tmp_path / "ours")))


@needs_biases
def test_encoder_of_a_pretrained_model_is_published_alone(tmp_path):
    for name, bare in (("videomae pretraining", VideoMAEModel), ("ast classifier", ASTModel)):
        make(name).save_pretrained(tmp_path / name)
        encoder = load_pretrained(tmp_path / name).encoder
        save_published(encoder, tmp_path / f"{name} encoder")
        model, report = bare.from_pretrained(tmp_path / f"{name} encoder", output_loading_info=True)
        assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
        assert_equal_outputs(model.eval(), encoder)


def test_older_settings(tmp_path):
    model = make("clip")
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["text_config_dict"] = {key: config["text_config"][key] for key in SENTENCE}
    config["text_config"]["hidden_size"] = 7
    config["vision_config"].pop("layer_norm_eps")
    path.write_text(json.dumps(config))
    assert_equal_outputs(model, load_pretrained(tmp_path))


def test_names_that_transformers_uses_in_memory(tmp_path):
    model = make("videomae classifier")
    model.save_pretrained(tmp_path)
    assert "videomae.encoder.layer.0.attention.attention.query.bias" in model.state_dict()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    assert_equal_outputs(model, load_pretrained(tmp_path))


def test_biases_of_keys_change_nothing(tmp_path):
    """Some versions of transformers (5.17) write them. Its own class, with such biases, is the reference."""
    model = make("videomae classifier")
    model.save_pretrained(tmp_path)
    for layer in model.videomae.encoder.layer:
        key = layer.attention.attention.key
        key.bias = torch.nn.Parameter(torch.randn(key.out_features))
    state = model.state_dict()
    assert sum(name.endswith("key.bias") for name in state) == 2
    save_file(state, tmp_path / "model.safetensors")
    assert_equal_outputs(model, load_pretrained(tmp_path))


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        pytest.param("videomae", VideoMAEConfig(), marks=needs_biases),
        ("audio-spectrogram-transformer", ASTConfig()),
        ("clip", CLIPConfig()),
        ("chinese_clip", ChineseCLIPConfig()),
    ],
)
def test_defaults(kind, config):
    theirs = config.to_dict()
    for key, value in names.DEFAULTS[kind].items():
        if isinstance(value, dict):
            assert value == {name: theirs[key][name] for name in value}
        else:
            assert value == theirs[key]
