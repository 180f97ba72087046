"""Every module the package exports, in bfloat16 and float16 on the CPU: it runs, stays finite and near float32."""

import copy
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchmetrics import Metric

import mmlearn
from mmlearn import Batch, MultimodalModel, predict
from mmlearn.nn import TokenEmbedding
from tests.fusion import methods

SIZE = {"dim": 16, "depth": 1, "num_heads": 2}
DICE = torch.Generator().manual_seed(0)
THERE = torch.tensor([True, True, False, True])


def rand(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=DICE)


CLIP = torch.randint(256, (4, 3, 4, 16, 16), generator=DICE, dtype=torch.uint8)
GRAY, MEL, IDS = CLIP[:, :1, :, :8, :8], 10 * rand(4, 8, 16) - 40, torch.randint(1, 9, (4, 16), generator=DICE)
MASK = torch.arange(16) < torch.tensor([16, 9, 0, 3])[:, None]
STEPS, VECTORS = rand(4, 6, 16), {"a": rand(4, 16), "b": rand(4, 16)}


class Flat(nn.Module):
    """An encoder of a reader's own, without weights."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return x.flatten(1)


def batch_of(**data: Tensor) -> Batch:
    masks = {name: MASK for name, x in data.items() if x.shape[-1] == 16 and x.ndim < 4}
    target = {"target": IDS[:, :5]}, {"target": torch.ones(4, dtype=torch.bool)}, {"target": IDS[:, :5] > 0}
    present = {name: THERE if len(data) > 1 and name == min(data) else torch.ones(4, dtype=torch.bool) for name in data}
    masks = {name: mask | ~present[name][:, None] | (torch.arange(16) == 0) for name, mask in masks.items()}
    return Batch(data | target[0], present | target[1], masks | target[2])


e, n, f, p = mmlearn.encoders, mmlearn.nn, mmlearn.finetuning, mmlearn.pretraining
VIDEO: Callable[[], nn.Module] = lambda: e.VideoTransformer((4, 16, 16), (2, 8, 8), SIZE)  # noqa: E731
TEXT: Callable[[], nn.Module] = lambda: e.TextTransformer(9, 16, SIZE)  # noqa: E731
AUDIO: Callable[[], nn.Module] = lambda: e.AudioTransformer(8, (4, 4), 16, SIZE)  # noqa: E731
# name → what builds it, and its inputs; floats come as they come out of files: in float32.
MODULES: dict[str, tuple[Callable[[], nn.Module], tuple]] = {
    "Attention": (lambda: n.Attention(16, 2), (STEPS,)),
    "AttentionPool": (lambda: n.AttentionPool(16), (STEPS, MASK[:, :6])),
    "AudioEncoder": (lambda: e.AudioEncoder(8, 16, 8), (MEL, MASK)),
    "AudioTransformer": (AUDIO, (MEL, MASK)),
    "Block": (lambda: n.Block(16, 2), (STEPS,)),
    "DropPath": (lambda: n.DropPath(0.5), (STEPS,)),
    "ImageTransformer": (lambda: e.ImageTransformer((16, 16), (8, 8), SIZE), (CLIP[:, :, 0],)),
    "PositionwisePool": (lambda: n.PositionwisePool(16, 6), (STEPS, MASK[:, :6])),
    "PatchEmbedding": (lambda: n.PatchEmbedding((16, 16), (8, 8), 16), (rand(4, 3, 16, 16),)),
    "RecurrentEncoder": (lambda: n.RecurrentEncoder(num_features=8, dim=16), (MEL, MASK)),
    "RecurrentEncoder of tokens": (lambda: n.RecurrentEncoder(9, dim=16, cell="lstm"), (IDS, MASK)),
    "TextEncoder": (lambda: e.TextEncoder(9, 16), (IDS, MASK)),
    "TextTransformer": (TEXT, (IDS, MASK)),
    "TextTransformer, turned": (lambda: e.TextTransformer(9, 16, SIZE, "rope"), (IDS, MASK)),
    "TokenEmbedding": (lambda: TokenEmbedding(9, 16, 16), (IDS,)),
    "Transformer": (lambda: e.Transformer(**SIZE, rope=True), (STEPS,)),
    "VideoEncoder": (lambda: e.VideoEncoder((16, 16), 2, 16, 4), (CLIP,)),
    "VideoTransformer": (VIDEO, (CLIP, MASK[:, :4] | (torch.arange(4) < 1))),
    "EncoderDecoder": (
        lambda: f.EncoderDecoder({"video": VIDEO(), "audio": e.AudioEncoder(8, 16, 8)}, {"video": 16, "audio": 16}, 9,
                                 16), (batch_of(video=CLIP, audio=MEL),)),
    "LipEncoder": (lambda: f.LipEncoder((8, 8), 16, 4), (GRAY, MASK[:, :4])),
    "VoiceEncoder": (lambda: f.VoiceEncoder(8, 16), (MEL, MASK)),
    "SpeechRecognizer": (
        lambda: f.SpeechRecognizer({"audio": f.VoiceEncoder(8, 16), "video": f.LipEncoder((8, 8), 16, 4)}, 9, 8),
        (batch_of(audio=MEL, video=GRAY),)),
    "LoRALinear": (lambda: f.LoRALinear(nn.Linear(16, 16)), (STEPS,)),
    "Autoencoder": (
        lambda: p.Autoencoder("audio", p.ConvEncoder((8, 16), 4, 4), p.ConvDecoder(4, (8, 16), 4)),
        (batch_of(audio=MEL),)),
    "ConvDecoder": (lambda: p.ConvDecoder(16, (8, 16), 4), (VECTORS["a"],)),
    "ConvEncoder": (lambda: p.ConvEncoder((3, 16, 16), 4, 4), (CLIP[:, :, 0],)),
    "ContrastiveLoss": (lambda: p.ContrastiveLoss(), (VECTORS,)),
    "SigmoidLoss": (lambda: p.SigmoidLoss(), (VECTORS,)),
    "ContrastiveModel": (
        lambda: p.ContrastiveModel({"video": VIDEO(), "text": TEXT()}, {"video": 16, "text": 16}, 8),
        (batch_of(video=CLIP, text=IDS),)),
    "ConditionalGenerator": (lambda: p.ConditionalGenerator(16, noise_dim=16, size=8), (VECTORS["a"], VECTORS["b"])),
    "ProjectionDiscriminator": (lambda: p.ProjectionDiscriminator(16, size=8), (rand(4, 1, 8, 8), VECTORS["b"])),
    "GaussianLikelihood": (lambda: p.GaussianLikelihood(), ()),
    "BernoulliLikelihood": (lambda: p.BernoulliLikelihood(), ()),
    "MultimodalVAE": (
        lambda: p.MultimodalVAE({"audio": p.ConvEncoder((8, 16), 8, 4), "video": p.ConvEncoder((3, 16, 16), 8, 4)},
                                {"audio": p.ConvDecoder(4, (8, 16), 4), "video": p.ConvDecoder(4, (3, 16, 16), 4)}, 4),
        (batch_of(audio=MEL, video=CLIP[:, :, 0]),)),
    "MaskedAutoencoder": (
        lambda: p.MaskedAutoencoder("video", VIDEO(), p.random_masking, decoder=SIZE), (batch_of(video=CLIP),)),
    "MaskedLanguageModel": (lambda: p.MaskedLanguageModel("text", TEXT(), 1, 2), (batch_of(text=IDS),)),
    "JointMaskedAutoencoder": (
        lambda: p.JointMaskedAutoencoder(
            {"video": n.PatchEmbedding((4, 16, 16), (2, 8, 8), 16), "text": TokenEmbedding(9, 16, 16)}, SIZE,
            decoder=SIZE), (batch_of(video=CLIP, text=IDS),)),
}  # fmt: skip
OWN = {"ContrastiveLoss", "SigmoidLoss", "GaussianLikelihood", "BernoulliLikelihood"}  # take what models give
WEIGHTED = {
    "Attention",
    "AttentionPool",
    "Block",
    "PositionwisePool",
    "Transformer",
    "LoRALinear",
}  # stand behind layers


def exported() -> set[str]:
    return {name for home in (e, n, f, p) for name in home.__all__
            if inspect.isclass(getattr(home, name)) and issubclass(getattr(home, name), nn.Module)
            and not issubclass(getattr(home, name), Metric)}  # fmt: skip


def test_nothing_that_is_exported_is_forgotten() -> None:
    """A new module has to be in the list above, a new fusion in `tests/fusion/methods.py`."""
    listed = {name.split(",")[0].split(" of ")[0] for name in MODULES}
    assert exported() | {"GaussianLikelihood", "BernoulliLikelihood"} == listed
    built = {type(methods.build(name)).__name__ for name in methods.ALL}
    assert built == {name for name in mmlearn.fusion.__all__ if inspect.isclass(getattr(mmlearn.fusion, name))}


def tensors(found: Any) -> list[Tensor]:
    if isinstance(found, Tensor):
        return [found.float()] if found.is_floating_point() else []
    parts = found.values() if isinstance(found, dict) else found if isinstance(found, (list, tuple)) else ()
    return [tensor for part in parts for tensor in tensors(part)]


def cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, dict):
        return {name: cast(part, dtype) for name, part in value.items()}
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", [name for name in MODULES if "Likelihood" not in name])
def test_a_module_in_half_precision(name: str, dtype: torch.dtype) -> None:
    build, inputs = MODULES[name]
    torch.manual_seed(1)
    model = build().eval()
    half = copy.deepcopy(model).to(dtype)
    if name in WEIGHTED | OWN or not list(model.parameters()):
        inputs = tuple(cast(value, dtype) for value in inputs)
    with torch.no_grad():
        torch.manual_seed(2)
        wide = tensors(model(*(cast(value, torch.float32) for value in inputs)))
        torch.manual_seed(2)
        narrow = tensors(half(*inputs))
    assert wide and len(wide) == len(narrow)
    for ours, theirs in zip(narrow, wide, strict=True):
        assert ours.isfinite().all()
        if name not in (
            "MultimodalVAE",
            "MaskedLanguageModel",
            "MaskedAutoencoder",
            "JointMaskedAutoencoder",
        ):  # chance
            assert (ours - theirs).norm() <= 0.1 * theirs.norm() + 1e-2
    if name not in WEIGHTED | OWN:  # inputs of the weights' own type do as well
        with torch.no_grad():
            given = [cast(value, dtype) if not isinstance(value, Batch) else
                     Batch(cast(value.data, dtype), value.present, value.mask) for value in inputs]  # fmt: skip
            assert all(tensor.isfinite().all() for tensor in tensors(half(*given)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("fusion", methods.ALL)
def test_a_model_with_every_fusion(fusion: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    encoders = {"video": e.VideoEncoder((16, 16), 2, 3, 4, dropout=0.0), "audio": e.AudioEncoder(8, 2, 4, dropout=0.0),
                "text": e.TextEncoder(9, 4, dropout=0.0)}  # fmt: skip
    model = MultimodalModel(encoders, methods.build(fusion), nn.Linear(6, 3))
    batch = batch_of(video=CLIP, audio=MEL, text=IDS)
    wide = predict(model, batch)
    narrow = predict(copy.deepcopy(model).to(dtype), batch)
    assert narrow.dtype == torch.float32 and narrow.isfinite().all()
    assert (narrow - wide).norm() <= 0.25 * wide.norm() + 0.05


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_what_else_models_offer(dtype: torch.dtype) -> None:
    """Codes, decoded data, generated sequences, weights, imagined modalities."""

    def half(name: str) -> tuple[Any, Batch]:
        build, (batch,) = MODULES[name]
        torch.manual_seed(0)
        return build().eval().to(dtype), batch

    model, batch = half("MultimodalVAE")
    assert all(x.isfinite().all() for x in model.decode(model.code(batch)).values())
    model, batch = half("EncoderDecoder")
    for width in (1, 3):
        ids, scores = model.generate(batch, max_length=4, width=width)
        assert ids.shape[0] == 4 and scores.isfinite().all() and not scores.is_inference()
    assert all(weights.isfinite().all() for weights in model.weights(batch).values())
    model, batch = half("JointMaskedAutoencoder")
    assert model.steps(batch)[0].isfinite().all() and model.reconstruct_modality(batch, "text").shape == IDS.shape
    model, batch = half("MaskedAutoencoder")
    assert model.inpaint(batch, model(batch)).isfinite().all()
    model, batch = half("Autoencoder")
    assert model.code(batch).isfinite().all()
    model, batch = half("ContrastiveModel")
    assert model.embed("text", batch).isfinite().all()


def test_float32_is_as_it_was() -> None:
    """Numbers that the code of before gave, to the bit: nothing is rounded on the way."""
    from mmlearn.nn.functional import standardize

    x = rand(3, 4, 7)
    std, mean = torch.std_mean(x, dim=(1, 2), keepdim=True, correction=0)
    assert torch.equal(standardize(x), (x - mean) / (std + 1e-3))
    assert standardize(x.double()).dtype == torch.float64 and standardize(x.half()).dtype == torch.float32
    model = AUDIO()
    assert model.double()(MEL.double()).dtype == torch.float64
