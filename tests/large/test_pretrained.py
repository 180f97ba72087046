"""Published checkpoints against transformers' own classes, on tiny random configurations, both ways. No network."""

import json
import os
import pickle

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import huggingface_hub
import pytest
import torch
import transformers
from huggingface_hub.errors import LocalEntryNotFoundError
from packaging.version import Version
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    ASTConfig,
    ASTForAudioClassification,
    ASTModel,
    ChineseCLIPConfig,
    ChineseCLIPModel,
    CLIPConfig,
    CLIPModel,
    VideoMAEConfig,
    VideoMAEForPreTraining,
    VideoMAEForVideoClassification,
    VideoMAEModel,
)
from transformers.models.videomae.modeling_videomae import get_sinusoid_encoding_table
from transformers.utils import constants, logging

from mmlearn.batch import Batch
from mmlearn.fusion import ConcatFusion
from mmlearn.large.pretrained import layers, load_pretrained, names, reading, save_published, to_published
from mmlearn.model import MultimodalModel
from mmlearn.pretraining.masked.autoencoder import MaskedPrediction
from mmlearn.pretraining.masked.masking import PatchMask

VIDEOMAE_HAS_BIASES = Version(transformers.__version__) >= Version("5.23")  # 5.15 has others than are published
needs_biases = pytest.mark.skipif(not VIDEOMAE_HAS_BIASES, reason="VideoMAE's published biases need transformers 5.23")

logging.set_verbosity_error()
logging.disable_progress_bar()

BODY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 50}
VIDEO = BODY | {"image_size": [16, 24], "patch_size": 8, "num_frames": 4, "tubelet_size": 2}
PRETRAINING = VIDEO | {
    "decoder_hidden_size": 16,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 24,
}
AUDIO = BODY | {"num_mel_bins": 24, "max_length": 60, "patch_size": 8, "frequency_stride": 6, "time_stride": 5}
AUDIO |= {"hidden_size": 28, "intermediate_size": 61}  # 61 / 28 * 28 is less than 61 in floating point
SENTENCE = BODY | {"vocab_size": 40, "max_position_embeddings": 9, "bos_token_id": 38, "eos_token_id": 39}
PAIR = {"vision_config": BODY | {"image_size": 16, "patch_size": 8}, "projection_dim": 24}
MAKE = {
    "videomae": lambda: VideoMAEModel(VideoMAEConfig(**VIDEO)),
    "videomae with a last norm": lambda: VideoMAEModel(VideoMAEConfig(**VIDEO, use_mean_pooling=False)),
    "videomae pretraining": lambda: VideoMAEForPreTraining(VideoMAEConfig(**PRETRAINING | {"image_size": 16})),
    "videomae pretraining in pixels": lambda: VideoMAEForPreTraining(
        VideoMAEConfig(**PRETRAINING | {"image_size": 16}, norm_pix_loss=False, use_mean_pooling=False)
    ),
    "videomae classifier": lambda: VideoMAEForVideoClassification(VideoMAEConfig(**VIDEO, num_labels=5)),
    "ast": lambda: ASTModel(ASTConfig(**AUDIO)),
    "ast classifier": lambda: ASTForAudioClassification(ASTConfig(**AUDIO, num_labels=5)),
    "clip": lambda: CLIPModel(CLIPConfig(text_config=SENTENCE, **PAIR)),
    "clip with the first end token": lambda: CLIPModel(CLIPConfig(text_config=SENTENCE | {"eos_token_id": 2}, **PAIR)),
    "chinese clip": lambda: ChineseCLIPModel(
        ChineseCLIPConfig(text_config=SENTENCE | {"bos_token_id": 0, "eos_token_id": None}, **PAIR)
    ),
}


def make(name, seed=0):
    """A model of transformers, in which no weight is zero, nor one."""
    torch.manual_seed(seed)
    model = MAKE[name]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def video(model, seed=1):
    sides = model.config.image_size
    height, width = (sides, sides) if isinstance(sides, int) else sides
    return torch.randn(3, 3, 4, height, width, generator=torch.Generator().manual_seed(seed))


def sentences():
    """Ids that end with 39, and which of them are real."""
    ids = torch.randint(3, 38, (4, 9), generator=torch.Generator().manual_seed(2))
    ends = torch.tensor([8, 5, 2, 1])
    ids[torch.arange(4), ends] = 39
    mask = torch.arange(9) <= ends[:, None]
    return torch.where(mask, ids, 0), mask


def batch_of(data, mask=None):
    return Batch(data, {name: torch.ones(len(x), dtype=torch.bool) for name, x in data.items()}, mask or {})


def hidden_split(hidden):
    """A split as a bool mask (B, N) says, True where hidden."""
    return PatchMask(*(flags.nonzero()[:, 1].view(len(hidden), -1) for flags in (~hidden, hidden)))


def outputs(model, ours):
    """The same quantities from transformers' model and from ours, as two lists."""
    name = type(model).__name__
    if name.startswith("VideoMAE"):
        x = video(model)
        x[0] *= 0.02  # nearly flat, where it matters what is added to a deviation
        theirs = x.transpose(1, 2)  # (B, T, C, H, W)
        if name == "VideoMAEModel":
            state = model(theirs).last_hidden_state
            return [state, state.mean(dim=1)], [ours.steps(x)[0], ours(x)]
        if name == "VideoMAEForVideoClassification":
            return [model(theirs).logits], [ours(x)]
        hidden = torch.stack([torch.randperm(8, generator=torch.Generator().manual_seed(k)) < 5 for k in range(3)])
        found = model(theirs, bool_masked_pos=hidden)
        guess = ours(batch_of({"video": x}), hidden_split(hidden))
        patches = guess.prediction.unflatten(-1, (3, -1)).transpose(-1, -2).flatten(2)  # theirs: colours last
        loss = MaskedPrediction().loss(guess, batch_of({"video": x}))
        return [found.logits, found.loss], [patches, loss]
    if name.startswith("AST"):
        mel = torch.randn(3, 24, 60, generator=torch.Generator().manual_seed(3))
        if name == "ASTForAudioClassification":
            return [model(mel.transpose(1, 2)).logits], [ours(mel)]
        found = model(mel.transpose(1, 2))
        return [found.last_hidden_state, found.pooler_output], [ours.steps(mel)[0], ours(mel)]
    image = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(4))
    ids, mask = sentences()
    found = model(input_ids=ids, pixel_values=image, attention_mask=mask.long())
    picture, text = found.vision_model_output.last_hidden_state, found.text_model_output.last_hidden_state
    there = {"image": torch.ones(3, dtype=torch.bool), "text": torch.ones(4, dtype=torch.bool)}
    vectors = ours(Batch({"image": image, "text": ids}, there, {"text": mask}))
    logits = ours.criterion.scale * vectors["image"] @ vectors["text"].T
    steps = ours.encoders["text"].steps(ids, mask)[0]
    return (
        [found.image_embeds, found.text_embeds, found.logits_per_image, model.vision_model.post_layernorm(picture),
         text[mask]],
        [vectors["image"], vectors["text"], logits, ours.encoders["image"].steps(image)[0], steps[mask]],
    )  # fmt: skip


@torch.no_grad()
def assert_equal_outputs(model, ours):
    for theirs, own in zip(*outputs(model, ours), strict=True):
        assert own.shape == theirs.shape
        assert theirs.ndim == 0 or theirs.std() > 0.01  # else equality would say little
        torch.testing.assert_close(own, theirs, atol=1e-5, rtol=1e-5)


def norm_eps(model):
    return [module.eps for module in model.modules() if isinstance(module, nn.LayerNorm)]


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


def test_several_files(tmp_path):
    model = make("clip")
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert_equal_outputs(model, load_pretrained(tmp_path))
    lost = sorted(tmp_path.glob("model-*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(FileNotFoundError, match=rf"index\.json names \['{lost.name}'\]"):
        load_pretrained(tmp_path)
    for text in ("", "{}", '{"weight_map": 1}'):
        (tmp_path / "model.safetensors.index.json").write_text(text)
        with pytest.raises(ValueError, match=r"index\.json is no index"):
            load_pretrained(tmp_path)


def test_older_file(tmp_path):
    model = make("chinese clip")
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    torch.save(tensors | {"text_model.embeddings.position_ids": torch.arange(9)[None]}, tmp_path / "pytorch_model.bin")
    assert_equal_outputs(model, load_pretrained(tmp_path))

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "broken into"),)

    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Evil()}, protocol=2))
    with pytest.raises(ValueError, match=r"pytorch_model\.bin cannot be read, or holds more than tensors"):
        load_pretrained(tmp_path)
    assert not (tmp_path / "broken into").exists()


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


def test_half_precision_is_read_as_single(tmp_path):
    make("ast").half().save_pretrained(tmp_path)
    ours = load_pretrained(tmp_path)
    assert {x.dtype for x in ours.parameters()} == {torch.float32}
    assert_equal_outputs(ASTModel.from_pretrained(tmp_path, dtype=torch.float32).eval(), ours)
    save_published(ours, tmp_path / "again")
    assert_equal_outputs(ASTModel.from_pretrained(tmp_path / "again").eval(), ours)  # whose config asks for no halves


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


def test_places_of_videomae_are_exact_to_the_last():
    torch.testing.assert_close(layers.sine_table(1568, 64), get_sinusoid_encoding_table(1568, 64)[0], rtol=0, atol=1e-6)


# What goes wrong.


@pytest.fixture
def folder(tmp_path):
    make("ast").save_pretrained(tmp_path)
    return tmp_path


def change(folder, **tensors):
    """Replace tensors in the file; None takes one out."""
    found = load_file(folder / "model.safetensors") | tensors
    save_file({name: x for name, x in found.items() if x is not None}, folder / "model.safetensors")


def test_missing_unexpected_and_wrong_tensors_are_named(folder):
    change(folder, **{"layernorm.bias": None, "more": torch.zeros(2), "embeddings.cls_token": torch.zeros(1, 28)})
    with pytest.raises(ValueError) as caught:
        load_pretrained(folder)
    message = str(caught.value)
    assert message.startswith(f"the tensors in {folder / 'model.safetensors'} do not fit AST: ")
    assert "layernorm.bias is missing" in message
    assert "more is not expected" in message
    assert "embeddings.cls_token is (1, 28), expected (1, 1, 28)" in message


def test_many_problems_are_counted(folder):
    change(folder, **{name: None for name in load_file(folder / "model.safetensors") if "layer.0" in name})
    with pytest.raises(ValueError, match=r"; and 6 more$"):
        load_pretrained(folder)


def test_kernels_of_another_patch_do_not_fit(folder):
    weight = load_file(folder / "model.safetensors")["embeddings.patch_embeddings.projection.weight"]
    change(folder, **{"embeddings.patch_embeddings.projection.weight": weight.view(28, 1, 4, 16)})
    with pytest.raises(ValueError, match=r"projection\.weight is \(28, 1, 4, 16\), expected \(28, 1, 8, 8\)"):
        load_pretrained(folder)


def test_kernels_that_are_linear_here_keep_their_shape(tmp_path):
    make("videomae").save_pretrained(tmp_path)
    weight = load_file(tmp_path / "model.safetensors")["embeddings.patch_embeddings.projection.weight"]
    change(tmp_path, **{"embeddings.patch_embeddings.projection.weight": weight.view(32, 3, 8, 4, 4)})
    with pytest.raises(ValueError, match=r"projection\.weight is \(32, 3, 8, 4, 4\), expected \(32, 3, 2, 8, 8\)"):
        load_pretrained(tmp_path)


def test_damaged_file(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model\.safetensors is no safetensors file, or is cut off"):
        load_pretrained(folder)


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


@pytest.mark.parametrize("version", ["2.9.1", "2.9.0+cpu", "2.8.0"])
def test_the_older_file_is_refused_where_reading_it_is_not_safe(tmp_path, monkeypatch, version):
    """CVE-2026-24747: before torch 2.10, memory could be corrupted although only tensors are read."""
    model = make("clip")
    model.save_pretrained(tmp_path)
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    assert_equal_outputs(model, load_pretrained(tmp_path))
    monkeypatch.setattr(torch, "__version__", version)
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(ValueError, match=r"pytorch_model\.bin: reading such a file .* is not safe \(CVE-2026-24747\)"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"a": {"b": torch.zeros(1)}}, torch.zeros(1), {"a": 1}])
def test_an_older_file_of_other_things(folder, content):
    (folder / "model.safetensors").unlink()
    torch.save(content, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin cannot be read, or holds more than tensors"):
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


def test_shorter_sound(tmp_path):
    """Fewer steps, or padding: what transformers gives when it attends only to patches with something real in them."""
    model = make("ast")
    model.save_pretrained(tmp_path)
    encoder = load_pretrained(tmp_path)
    for length in (1, 7, 33, 49, 50, 60):
        x = torch.randn(2, 24, length, generator=torch.Generator().manual_seed(length))
        full = nn.functional.pad(x, (0, 60 - length))
        starts = 5 * torch.arange(11)
        real = torch.cat([torch.ones(2, dtype=torch.bool), (starts < length).repeat(3)])
        with torch.no_grad():
            theirs = model(full.transpose(1, 2), attention_mask=real.expand(2, -1).long())
            torch.testing.assert_close(encoder.steps(x)[0], theirs.last_hidden_state[:, real], atol=1e-5, rtol=1e-5)
        full[:, :, length:] = torch.nan
        full.requires_grad_(True)
        steps, found = encoder.steps(full, (torch.arange(60) < length).expand(2, -1))
        assert found.equal(real.expand(2, -1))
        torch.testing.assert_close(steps[found], theirs.last_hidden_state[:, real].flatten(0, 1), atol=1e-5, rtol=1e-5)
        steps[found].sum().backward()
        assert full.grad[:, :, length:].eq(0).all()
        assert full.grad.isfinite().all()


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
