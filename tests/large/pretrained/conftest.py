"""What several test files of this folder use."""

import pytest
import torch
import transformers
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

from mmlearn.batch import Batch
from mmlearn.pretraining.masked.autoencoder import MaskedPrediction
from mmlearn.pretraining.masked.masking import PatchMask

VIDEOMAE_HAS_BIASES = Version(transformers.__version__) >= Version("5.23")  # 5.15 has others than are published


BODY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 50}


VIDEO = BODY | {"image_size": [16, 24], "patch_size": 8, "num_frames": 4, "tubelet_size": 2}


PRETRAINING = VIDEO | {
    "decoder_hidden_size": 16,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 24,
}


AUDIO = BODY | {"num_mel_bins": 24, "max_length": 60, "patch_size": 8, "frequency_stride": 6, "time_stride": 5}


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


@pytest.fixture
def folder(tmp_path):
    make("ast").save_pretrained(tmp_path)
    return tmp_path


def change(folder, **tensors):
    """Replace tensors in the file; None takes one out."""
    found = load_file(folder / "model.safetensors") | tensors
    save_file({name: x for name, x in found.items() if x is not None}, folder / "model.safetensors")
