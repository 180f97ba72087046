"""Weights that others have published, read into models of this package, and written back.

What is read is what Hugging Face's transformers writes: a folder with `config.json` and `model.safetensors`. Nothing of
it is run: a config holds settings, a safetensors file numbers.

Chapters: pretraining/contrastive, pretraining/masked.
"""

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import huggingface_hub
import torch
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError
from safetensors.torch import save_file
from torch import Tensor, nn

from mmlearn import files
from mmlearn.large.pretrained import names
from mmlearn.large.pretrained.clip import CLIP
from mmlearn.large.pretrained.names import Names
from mmlearn.large.pretrained.spectrogram import AST, Classifier
from mmlearn.large.pretrained.tensors import OLD_FILE, look
from mmlearn.large.pretrained.videomae import VideoMAE, VideoMAEEncoder
from mmlearn.nn.patches import PatchEmbedding

SAFE = ["config.json", "model.safetensors", "model.safetensors.index.json", "model-*.safetensors"]
OLD = ["config.json", OLD_FILE]
MOST_PLACES = 10**8  # numbers in tables that a config asks for and no file holds


class Layout(NamedTuple):
    """How a published class is built, and what it calls its tensors."""

    build: Callable[[dict[str, Any]], nn.Module]
    names: Names


LAYOUTS: dict[str, dict[str, Layout]] = {  # model_type → architecture
    "videomae": {
        "VideoMAEModel": Layout(VideoMAEEncoder, names.VIDEOMAE),
        "VideoMAEForPreTraining": Layout(VideoMAE, names.VIDEOMAE_PRETRAINING),
        "VideoMAEForVideoClassification": Layout(
            lambda config: Classifier(VideoMAEEncoder(config), "VideoMAEForVideoClassification", 1e-5),
            names.VIDEOMAE_CLASSIFIER,
        ),
    },
    "clip": {"CLIPModel": Layout(CLIP, names.CLIP)},
    "chinese_clip": {"ChineseCLIPModel": Layout(CLIP, names.CHINESE_CLIP)},
    "audio-spectrogram-transformer": {
        "ASTModel": Layout(AST, names.AST),
        "ASTForAudioClassification": Layout(
            lambda config: Classifier(AST(config), "ASTForAudioClassification", config["layer_norm_eps"]),
            names.AST_CLASSIFIER,
        ),
    },
}


def load_pretrained(name_or_folder: str | os.PathLike[str], revision: str | None = None) -> Any:
    """Return a published model with its weights, in evaluation mode.

    | checkpoint, for example | what is returned |
    |---|---|
    | `MCG-NJU/videomae-base` | `VideoMAE`; its `.encoder` reads video |
    | `MCG-NJU/videomae-base-finetuned-kinetics` | `Classifier` over a `VideoMAEEncoder` |
    | `openai/clip-vit-base-patch32` | `CLIP`, a `ContrastiveModel` of "image" and "text" |
    | `OFA-Sys/chinese-clip-vit-base-patch16` | `CLIP` likewise, for Chinese |
    | `MIT/ast-finetuned-audioset-10-10-0.4593` | `Classifier` over an `AST` |

    Args:
        name_or_folder: A folder with config.json and model.safetensors (or several files and their index; or the older
            pytorch_model.bin, of which only tensors are read, with torch 2.10 or later, for reading it with older
            versions is not safe: CVE-2026-24747), or else a name on the Hugging Face hub, from where it is fetched once
            and then kept.
        revision: Branch, tag or commit on the hub; by default the newest.

    Raises:
        FileNotFoundError: If there is neither such a folder nor such a model, or the folder lacks a file.
        ConnectionError: If the hub cannot be reached.
        ValueError: If the architecture is not among those known here, a file is damaged, or its tensors do not fit the
            settings, which is found out before the model is built.

    Chapters: pretraining/contrastive, pretraining/masked.
    """
    folder = Path(name_or_folder).expanduser()
    if not folder.is_dir():
        if folder.exists():
            raise FileNotFoundError(f"{folder} is a file; expected the folder with config.json and model.safetensors")
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(name_or_folder)) or str(name_or_folder).startswith("."):
            raise FileNotFoundError(f"no folder {folder}")
        folder = _fetch(str(name_or_folder), revision)
    config = _read_config(folder)
    layout = LAYOUTS[config["model_type"]][config["architectures"][0]]
    source, shapes, load = look(folder)
    shapes = _cleared(config, shapes)
    with torch.device("meta"):  # shapes without memory
        outline = _build(layout, config, folder, len(shapes))
    _compare(outline, shapes, layout.names, source)
    model = _build(layout, config, folder, len(shapes))
    _fill(model, _cleared(config, load()), layout.names)
    return model.eval()


def _build(layout: Layout, config: dict[str, Any], folder: Path, tensors: int) -> nn.Module:
    """Build a model as its settings say, if they ask for no more than the files may hold."""
    path = folder / "config.json"
    for settings in (config, *(part for part in config.values() if isinstance(part, dict))):
        for name, value in settings.items():
            if str(name).endswith("num_hidden_layers") and not (isinstance(value, int) and 0 <= value <= tensors):
                raise ValueError(f"{path} says {name} {value!r}; expected an integer up to {tensors}, the number of "
                                 "tensors that there are")  # fmt: skip
    try:
        model = layout.build(config)
    except (TypeError, LookupError, ArithmeticError, RuntimeError, AttributeError) as error:
        raise ValueError(f"{path}: no model can be built with these settings ({error!r})") from error
    if (places := sum(x.numel() for x in model.buffers())) > MOST_PLACES:
        raise ValueError(f"{path} asks for tables of {places:.1e} numbers; expected at most {MOST_PLACES:.0e}")
    return model


def _cleared(config: dict[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return names as they are published, without what stands for nothing."""
    found = {name: x for name, x in found.items() if not name.endswith("position_ids")}  # 0, 1, 2, …
    if config["model_type"] == "videomae":  # transformers 5 calls query.bias what published files call q_bias
        found = {re.sub(r"(query|value)\.bias$", lambda m: m[1][0] + "_bias", name): x for name, x in found.items()}
        # Some of its versions give keys a bias, too. It adds one number to all scores of a query; softmax ignores it.
        found = {name: x for name, x in found.items() if not name.endswith(".key.bias")}
    return found


def to_published(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's weights under the published names, in the published shapes: a copy.

    Args:
        model: A model from `load_pretrained`, or its `.encoder`, if it is one of a larger VideoMAE or AST.

    Raises:
        ValueError: If it is another model.

    Chapters: pretraining/contrastive, pretraining/masked.
    """
    config: Any = getattr(model, "config", None)
    try:
        layout = LAYOUTS[config["model_type"]][config["architectures"][0]]
    except (TypeError, LookupError):
        kind = type(model).__name__
        raise ValueError(f"the model is {kind}; expected what load_pretrained returns, or its encoder") from None
    state = model.state_dict()
    published: dict[str, Tensor] = {}
    for key, found, shape in _plan(model, layout.names):
        parts = state[key].chunk(len(found)) if len(found) > 1 else [state[key]]
        published.update({name: x.reshape(shape).clone() for name, x in zip(found, parts, strict=True) if name})
    return published


def save_published(model: nn.Module, folder: str | os.PathLike[str]) -> None:
    """Write config.json and model.safetensors, which transformers reads as well as `load_pretrained`.

    Args:
        model: As in `to_published`.
        folder: Where to; it is made.

    Raises:
        ValueError: If it is another model.

    Chapters: pretraining/contrastive, pretraining/masked.
    """
    tensors = to_published(model)
    folder = Path(folder)
    with files.unfinished(folder / "model") as part:
        save_file(tensors, part / "model.safetensors", metadata={"format": "pt"})
        os.replace(part / "model.safetensors", folder / "model.safetensors")
    config: Any = {key: value for key, value in vars(model)["config"].items() if key != "torch_dtype"}
    config["dtype"] = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    files.write_file(folder / "config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")


def _fetch(name: str, revision: str | None) -> Path:
    """Return the folder into which a model of the hub was fetched, now or before."""
    try:
        folder = Path(huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=SAFE))
        if not any(folder.glob("model*.safetensors")):
            folder = Path(huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=OLD))
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise FileNotFoundError(
            f"{name!r} is neither a folder here nor open on the Hugging Face hub: {error}"
        ) from error
    except Exception as error:  # as the hub's versions differ: requests', httpx' or its own
        raise ConnectionError(
            f"{name!r} is no folder here, and could not be fetched from the Hugging Face hub: {error}\n"
            f"Where there is a network, run `hf download {name} --local-dir FOLDER`, copy the folder, give its path."
        ) from error
    return folder


def _read_config(folder: Path) -> dict[str, Any]:
    """Return the settings, complete, if the architecture is known."""
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"no config.json in {folder}; it holds {sorted(file.name for file in folder.iterdir())}"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        kind, architecture = config.get("model_type"), (config.get("architectures") or [None])[0]
        known = architecture in LAYOUTS.get(kind, {})
    except (ValueError, AttributeError, TypeError, LookupError, RecursionError) as error:
        raise ValueError(f"{path} is no config: {error!r}") from error
    if not known:
        every = "; ".join(f"{kind}: {', '.join(classes)}" for kind, classes in LAYOUTS.items())
        raise ValueError(f"{path} says model_type {kind!r}, architecture {architecture!r}; expected one of {every}")
    complete = names.DEFAULTS[kind] | config
    for part in ("vision_config", "text_config"):
        if part in names.DEFAULTS[kind]:  # some write it twice, and mean the second
            given = config.get(f"{part}_dict") or config.get(part) or {}
            complete[part] = names.DEFAULTS[kind][part] | given
            complete.pop(f"{part}_dict", None)
    if architecture == "VideoMAEForVideoClassification" and not complete["use_mean_pooling"]:
        raise ValueError(f"{path} says use_mean_pooling False; expected True, as in the published classifiers")
    return complete


def _compare(model: nn.Module, shapes: Mapping[str, tuple[int, ...]], names: Names, source: Path) -> None:
    """Raise ValueError where published tensors do not fit a model."""
    expected = {name: shape for _, found, shape in _plan(model, names) for name in found if name}
    problems = [
        *(f"{name} is missing" for name in sorted(expected.keys() - shapes.keys())),
        *(f"{name} is not expected" for name in sorted(shapes.keys() - expected.keys())),
        *(
            f"{name} is {shapes[name]}, expected {shape}"
            for name, shape in sorted(expected.items())
            if name in shapes and shapes[name] != shape
        ),
    ]
    if problems:
        more = f"; and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise ValueError(f"the tensors in {source} do not fit {type(model).__name__}: {'; '.join(problems[:10])}{more}")


def _fill(model: nn.Module, tensors: Mapping[str, Tensor], names: Names) -> None:
    """Copy published tensors, which fit, into a model."""
    state = {}
    for key, found, shape in _plan(model, names):
        parts = [tensors[name] if name else torch.zeros(shape) for name in found]
        state[key] = (torch.cat(parts) if len(parts) > 1 else parts[0]).reshape(model.state_dict()[key].shape)
    model.load_state_dict(state)


def _plan(model: nn.Module, names: Names) -> list[tuple[str, tuple[str | None, ...], tuple[int, ...]]]:
    """Return for each of a model's tensors its name, the published name or names, and the shape each of these has."""
    kernels = {
        f"{name}.project.weight": (module.dim, -1, *module.patch)  # published as a convolution's
        for name, module in model.named_modules()
        if isinstance(module, PatchEmbedding)
    }
    plan = []
    for key, tensor in model.state_dict().items():
        pattern = re.sub(r"\.blocks\.\d+\.", ".blocks.*.", key)
        stem, _, leaf = pattern.rpartition(".")
        found: Any = names.get(pattern) or names[stem]
        found = (found,) if isinstance(found, str) else found
        if pattern not in names:
            found = tuple(f"{part}.{leaf}" for part in found)
        number = re.search(r"\.blocks\.(\d+)\.", key)
        found = tuple(part and part.replace("*", number[1] if number else "") for part in found)
        shape = (len(tensor) // len(found), *tensor.shape[1:]) if tensor.ndim else ()
        if key in kernels:
            shape = tuple(tensor.reshape(kernels[key]).shape)
        plan.append((key, found, shape))
    return plan
