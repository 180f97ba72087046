"""Published checkpoints against transformers' own classes, on tiny random configurations, both ways. No network."""

import json
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file
from torch import nn
from transformers import (
    ASTConfig,
    ASTForAudioClassification,
    ChineseCLIPConfig,
    ChineseCLIPModel,
    CLIPConfig,
    CLIPModel,
    VideoMAEConfig,
    VideoMAEForPreTraining,
)
from transformers.utils import logging

from mmlearn.large.pretrained import load_pretrained, names, reading, to_published
from tests.large.pretrained.conftest import (
    AUDIO,
    VIDEOMAE_HAS_BIASES,
    make,
)

needs_biases = pytest.mark.skipif(not VIDEOMAE_HAS_BIASES, reason="VideoMAE's published biases need transformers 5.23")

logging.set_verbosity_error()
logging.disable_progress_bar()

AUDIO |= {"hidden_size": 28, "intermediate_size": 61}  # 61 / 28 * 28 is less than 61 in floating point


@needs_biases
def test_full_size():
    """What config.json leaves out gives models as large as theirs; on the meta device, which holds no numbers."""
    full = {
        "VideoMAEForPreTraining": ("videomae", VideoMAEForPreTraining, VideoMAEConfig),
        "ASTForAudioClassification": ("audio-spectrogram-transformer", ASTForAudioClassification, ASTConfig),
        "CLIPModel": ("clip", CLIPModel, CLIPConfig),
        "ChineseCLIPModel": ("chinese_clip", ChineseCLIPModel, ChineseCLIPConfig),
    }
    with torch.device("meta"):
        for architecture, (kind, model, config) in full.items():
            ours = reading.LAYOUTS[kind][architecture].build(names.DEFAULTS[kind] | {"model_type": kind})
            sizes = [x.numel() for x in to_published(ours).values()]
            assert sorted(sizes) == sorted(x.numel() for x in model(config()).parameters())


# What goes wrong.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"model_type": "vit"},
            r"model_type 'vit'.*expected one of videomae: VideoMAEModel, .*clip: CLIPModel; chinese",
        ),
        ({"architectures": ["ASTForEverything"]}, "architecture 'ASTForEverything'; expected one of"),
        ({"architectures": None}, "architecture None; expected one of"),
        ({"hidden_act": "relu"}, r"hidden_act is 'relu'; expected one of \['gelu', 'quick_gelu'\]"),
        ({"qkv_bias": False}, "qkv_bias or qv_bias is False; expected True"),
        (
            {"model_type": "videomae", "architectures": ["VideoMAEForVideoClassification"], "use_mean_pooling": False},
            "use_mean_pooling False; expected True",
        ),
    ],
)
def test_settings_that_are_not_supported(folder, settings, message):
    config = json.loads((folder / "config.json").read_text()) | settings
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        load_pretrained(folder)


@pytest.mark.parametrize(
    "text", ["", "[1, 2]", '"clip"', '{"architectures": {}}x', '{"architectures": 1}', '{"model_type": []}']
)
def test_settings_that_are_none(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json is no config"):
        load_pretrained(folder)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("ast", {"num_hidden_layers": 10**9}, "says num_hidden_layers 1000000000; expected an integer up to 39"),
        ("ast", {"num_hidden_layers": "many"}, "says num_hidden_layers 'many'; expected an integer"),
        ("ast", {"num_hidden_layers": -1}, "says num_hidden_layers -1"),
        ("clip", {"text_config": {"num_hidden_layers": 10**9}}, "says num_hidden_layers 1000000000"),
        ("videomae pretraining", {"decoder_num_hidden_layers": 10**9}, "decoder_num_hidden_layers 1000000000"),
        ("ast", {"hidden_size": 28 * 10**6}, r"the tensors in .*model\.safetensors do not fit AST: "),
        ("ast", {"intermediate_size": 10**12}, "do not fit AST: |no model can be built"),
        ("ast", {"max_length": 10**9}, "do not fit AST: "),
        ("ast", {"hidden_size": 0}, "no model can be built with these settings|do not fit"),
        ("ast", {"hidden_size": "wide"}, "no model can be built with these settings"),
        ("ast", {"patch_size": None}, "no model can be built with these settings"),
        ("clip", {"text_config": {"vocab_size": 10**11}}, "do not fit CLIP: "),
        ("clip", {"text_config": {"max_position_embeddings": 10**11}}, "do not fit CLIP: |no model"),
        ("videomae", {"image_size": 16 * 10**6}, "asks for tables of .* numbers; expected at most"),
        ("videomae", {"num_frames": 10**10}, "asks for tables of .* numbers; expected at most"),
    ],
)
def test_settings_that_ask_for_more_than_the_file_holds(tmp_path, name, settings, message):
    """Field: 10⁹ layers beside ten bytes of weights were built until memory or time ended."""
    make(name).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for key, value in settings.items():
        config[key] = config[key] | value if isinstance(value, dict) else value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        load_pretrained(tmp_path)


def test_a_file_of_ten_bytes(folder):
    (folder / "model.safetensors").write_bytes(bytes(10))
    config = json.loads((folder / "config.json").read_text()) | {"num_hidden_layers": 10**9}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"model\.safetensors is no safetensors file, or is cut off"):
        load_pretrained(folder)


def test_deeply_nested_settings_and_index(folder):
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    for text in ("[" * 100_000, '{"weight_map": {"a": "../model-1.safetensors"}}', '{"weight_map": {"a": 3}}'):
        (folder / "model.safetensors.index.json").write_text(text)
        with pytest.raises(ValueError, match=r"index\.json is no index"):
            load_pretrained(folder)
    (folder / "config.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"config\.json is no config"):
        load_pretrained(folder)


def test_files_and_folders_that_are_not_there(folder):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nothing/here/at all$"):
        load_pretrained("nothing/here/at all")
    for name in ("./nothing", "~/nothing", "/nothing/here", "../nothing"):
        with pytest.raises(FileNotFoundError, match=r"no folder .*nothing"):
            load_pretrained(name)
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors is a file; expected the folder"):
        load_pretrained(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"no model\.safetensors in .*; it holds \['config\.json'\]"):
        load_pretrained(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no config\.json in .*; it holds \[\]"):
        load_pretrained(folder)


def test_models_of_others_are_not_written(tmp_path):
    make("clip").save_pretrained(tmp_path)
    for model in (nn.Linear(1, 1), load_pretrained(tmp_path).encoders["image"]):
        with pytest.raises(ValueError, match=f"the model is {type(model).__name__}; expected what load_pretrained"):
            to_published(model)


# The hub.


def test_name_on_the_hub(folder, monkeypatch):
    calls = []

    def download(name, revision, allow_patterns):
        calls.append((name, revision, allow_patterns))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    load_pretrained("MIT/ast-tiny", revision="v1")
    assert calls == [("MIT/ast-tiny", "v1", reading.SAFE)]

    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    load_pretrained("ast")
    assert [call[2] for call in calls[1:]] == [reading.SAFE, reading.OLD]  # the older file only where it is alone


def test_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConnectionError, match=r"hf download MCG-NJU/videomae-base --local-dir FOLDER") as caught:
        load_pretrained("MCG-NJU/videomae-base")
    assert isinstance(caught.value.__cause__, LocalEntryNotFoundError)


def test_names_that_the_hub_does_not_know(monkeypatch):
    def download(name, **_):
        raise huggingface_hub.errors.HFValidationError("a reason")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(FileNotFoundError, match=r"'a--b' is neither a folder here nor open on the .* hub: a reason"):
        load_pretrained("a--b")


# This package's conventions.
