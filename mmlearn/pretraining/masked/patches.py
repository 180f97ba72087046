"""Patches of a batch: cut, chosen, embedded, compared with what was guessed, and put together again.

Chapter: pretraining/masked.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from mmlearn.batch import Batch
from mmlearn.missing import zero_missing
from mmlearn.nn.functional import standardize
from mmlearn.nn.patches import patchify, unpatchify
from mmlearn.pretraining.masked.masking import take

Targets = Literal["patch", "channel"] | tuple[float, float]


class Patches(NamedTuple):
    """A batch of one modality, cut up.

    Chapter: pretraining/masked.
    """

    values: Tensor  # (B, N, P), of the type of the data
    real: Tensor | None  # bool (B, N, P), True where a number is real; None: everywhere
    grid: tuple[int, ...]  # patches along each side
    channels: int


def cut(batch: Batch, name: str, patch: Sequence[int]) -> Patches:
    """Cut a modality into patches, in the order of `PatchEmbedding`; zeros stand where it is absent.

    A spectrogram (B, M, T) is cut as (B, 1, T, M), and its time filled up to a multiple with numbers that are not real.

    Raises:
        ValueError: If the batch lacks the modality, or a side is no multiple of the patch's.

    Chapter: pretraining/masked.
    """
    if name not in batch.data:
        raise ValueError(f"the batch has no {name!r}; it has {sorted(batch.data)}")
    x, mask = zero_missing(batch.data[name], batch.present[name]), batch.mask.get(name)
    if x.ndim == 3:
        short = -x.shape[-1] % patch[0]
        if mask is None and short:
            mask = torch.ones(len(x), x.shape[-1], dtype=torch.bool, device=x.device)
        x = nn.functional.pad(x, (0, short)).transpose(1, 2)[:, None]  # (B, 1, T, M)
        mask = None if mask is None else nn.functional.pad(mask, (0, short))
    grid = tuple(side // p for side, p in zip(x.shape[2:], patch, strict=False))
    values = patchify(x, patch)
    if mask is None:
        return Patches(values, None, grid, x.shape[1])
    real = mask.view(len(x), 1, -1, *[1] * (x.ndim - 3)).expand_as(x)  # time is the first side
    return Patches(values, patchify(real, patch), grid, x.shape[1])


def values_at(patches: Patches, index: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the chosen patches (B, K, P) as floats, bytes as numbers from 0 to 1, and which numbers are real.

    What is not real becomes 0.

    Chapter: pretraining/masked.
    """
    values = take(patches.values, index)
    values = values.float() / 255 if values.dtype == torch.uint8 else values.float()
    if patches.real is None:
        return values, None
    real = take(patches.real, index)
    return torch.where(real, values, 0.0), real


def embed_kept(embed: Any, patches: Patches, kept: Tensor, targets: Targets) -> tuple[Tensor, Tensor | None]:
    """Embed only the kept patches: (B, K, D), and which of them are real.

    Where targets have fixed units, so has the input. Else each sample is brought to mean 0 and standard deviation 1, as
    in the encoders, but by its visible patches alone: the mean of all would give away the masked ones.

    Args:
        embed: A `PatchEmbedding`.
        patches: What it is about.
        kept: long (B, K), which patches are kept.
        targets: See `MaskedAutoencoder`.

    Chapter: pretraining/masked.
    """
    if isinstance(targets, str):
        values = take(patches.values, kept).float()  # (B, K, P)
        real = None if patches.real is None else take(patches.real, kept)
        if kept.shape[1]:  # nothing has no mean
            values = standardize(values.flatten(1), None if real is None else real.flatten(1)).view_as(values)
    else:
        values, real = values_at(patches, kept)
        values = (values - targets[0]) / targets[1]
        values = values if real is None else torch.where(real, values, 0.0)
    tokens = embed.project(values.to(embed.project.weight.dtype))
    places = embed.positions(patches.grid).to(tokens.dtype)  # (N, D)
    return tokens + nn.functional.embedding(kept, places), None if real is None else real.any(dim=-1)


def units(hidden: Tensor, real: Tensor | None, targets: Targets, channels: int) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation that bring patches (B, H, P) to the units of the targets.

    They are numbers, (B, H, 1) or (B, H, P). The deviation is the unbiased one; 1e-6 is added to its square, as in the
    papers' code, for patches that are flat.

    Chapter: pretraining/masked.
    """
    if not isinstance(targets, str):
        return tuple(hidden.new_tensor(value) for value in targets)  # type: ignore[return-value]
    groups = hidden.unflatten(-1, (channels if targets == "channel" else 1, -1))  # (B, H, C, P / C)
    if real is None:
        variance, mean = torch.var_mean(groups, dim=-1, keepdim=True)
    else:
        there = real.view_as(groups)
        count = there.sum(dim=-1, keepdim=True)
        mean = groups.sum(dim=-1, keepdim=True) / count.clamp(min=1)  # what is not real is 0
        squares = torch.where(there, groups - mean, 0.0).square().sum(dim=-1, keepdim=True)
        variance = squares / (count - 1).clamp(min=1)
    std = (variance + 1e-6).sqrt()
    size = groups.shape[-1] if targets == "channel" else 1
    mean, std = (x.flatten(-2).repeat_interleave(size, dim=-1) for x in (mean, std))  # (B, H, 1) or (B, H, P)
    return mean, std


def patch_errors(prediction: Tensor, target: Tensor, real: Tensor | None, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean squared error of each patch (B, H), 0 where it does not count, and which count.

    Chapter: pretraining/masked.
    """
    squares = (prediction.float() - target).square()
    if real is None:
        errors = squares.mean(dim=-1)
    else:
        errors = torch.where(real, squares, 0.0).sum(dim=-1) / real.sum(dim=-1).clamp(min=1)
        counts = counts & real.any(dim=-1)
    return torch.where(counts, errors, 0.0), counts


def put_back(
    patches: Patches, prediction: Tensor, hidden: Tensor, targets: Targets, patch: Sequence[int], like: Tensor
) -> Tensor:
    """Return the data as floats, in its own units, with predictions where patches were hidden.

    With targets "patch" or "channel", each masked patch lends its own mean and standard deviation: good for a figure,
    not for a claim. With fixed units, only the prediction is shown.

    Args:
        patches: The data, cut.
        prediction: (B, H, P), in the units of the targets.
        hidden: long (B, H), which patches these are.
        targets: See `MaskedAutoencoder`.
        patch: Sides of a patch.
        like: The data as it was, (B, C, …sides), or log-mel (B, M, T).

    Returns:
        A tensor of the shape of `like`.

    Chapter: pretraining/masked.
    """
    mean, std = units(*values_at(patches, hidden), targets, patches.channels)
    shown = prediction.float() * std + mean
    shown = 255 * shown if like.dtype == torch.uint8 else shown
    x = patches.values.float().scatter(1, hidden[..., None].expand_as(shown), shown)
    x = unpatchify(x, patches.grid, patch)
    return x[:, 0].transpose(1, 2)[..., : like.shape[-1]] if like.ndim == 3 else x  # (B, 1, T, M) → (B, M, T)


def check_targets(targets: Targets) -> None:
    """Make sure that targets are known.

    Raises:
        ValueError: If they are not.
    """
    fixed = isinstance(targets, tuple) and len(targets) == 2 and targets[1] > 0
    if not fixed and targets not in ("patch", "channel"):
        raise ValueError(f"targets is {targets!r}; expected 'patch', 'channel' or (mean, std > 0)")
