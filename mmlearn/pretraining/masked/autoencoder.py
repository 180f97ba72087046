"""Masked autoencoders (掩码自编码器): hide most of a clip, a picture or a spectrogram, and predict it from the rest.

Hidden patches are never embedded, and kept ones never predicted: the encoder works on a tenth of a clip's tokens.

Chapter: pretraining/masked.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from mmlearn.batch import Batch
from mmlearn.encoders.audio import AudioTransformer
from mmlearn.encoders.transformer import Transformer, named_size
from mmlearn.encoders.video import VideoTransformer
from mmlearn.encoders.vision import ImageTransformer
from mmlearn.nn.embeddings import WAVELENGTHS, sinusoidal_encoding_nd
from mmlearn.pretraining.masked.masking import Masking, PatchMask, random_masking, take, tube_masking
from mmlearn.pretraining.masked.patches import (
    Patches,
    Targets,
    check_targets,
    cut,
    embed_kept,
    patch_errors,
    put_back,
    units,
    values_at,
)

LIGHT = {"dim": 64, "depth": 2, "num_heads": 1}  # a decoder for chapters


class MaskedOutput(NamedTuple):
    """What a model predicts for masked tokens, and the loss of each.

    Chapter: pretraining/masked.
    """

    prediction: Tensor  # (B, H, P): patches in the units of the targets; for text, logits of P tokens
    losses: Tensor  # float32 (B, H): the loss of each masked token, 0 where it does not count
    counted: Tensor  # bool (B, H): False for padding and absent modalities
    masked: Tensor  # long (B, H): which tokens these are
    visible: Tensor  # long (B, K): which tokens the encoder sees


class MaskedAutoencoder(nn.Module):
    """Predict the hidden patches of one modality from the kept ones (MAE, He et al. 2022; VideoMAE, Tong et al. 2022).

    Patches are chosen before they are embedded. The encoder sees the kept ones only. A light decoder sees their codes,
    and a learned token in the place of each hidden patch.

    Called with a batch, it returns a `MaskedOutput`. The encoder is then used alone: `encoder.steps(x)` reads
    everything. Its pool is not trained here; take the mean of the steps, or train the pool with what comes next.

    Args:
        name: The modality: frames (B, C, T, H, W), pictures (B, C, H, W) or log-mel (B, M, T).
        encoder: A `VideoTransformer`, `ImageTransformer` or `AudioTransformer`; it is trained.
        masking: What to hide; by default `tube_masking` of 90 % for frames, `random_masking` of 75 % for the others.
        decoder: Arguments for its `Transformer`: dim, depth, num_heads, …, or a name in `mmlearn.encoders.SIZES`.
        targets: "patch": each masked patch at mean 0 and standard deviation 1, as He et al.; "channel": each of its
            channels, as Tong et al. The visible patches are then standardized, too, as the encoder will do it later. Or
            (mean, std): fixed units for both, in which a prediction can be shown without a look at its
            target. Bytes count as numbers from 0 to 1.

    Chapter: pretraining/masked.
    """

    def __init__(
        self,
        name: str,
        encoder: VideoTransformer | ImageTransformer | AudioTransformer,
        masking: Masking | None = None,
        decoder: str | Mapping[str, int] = LIGHT,
        targets: Targets = "patch",
    ) -> None:
        super().__init__()
        check_targets(targets)
        embed = encoder.embed
        self.name, self.encoder, self.targets = name, encoder, targets
        self.masking = masking or (tube_masking if len(embed.grid) == 3 else random_masking)
        self.decoder = Decoder(encoder.dim, embed.project.in_features, decoder)

    def forward(self, batch: Batch, split: PatchMask | None = None) -> MaskedOutput:
        """Return the guess about hidden patches.

        Args:
            batch: It holds the modality; where that is absent, nothing counts.
            split: What to hide; by default it is drawn by `masking`.

        Raises:
            ValueError: If the batch lacks the modality, or everything is hidden, or nothing.
        """
        patches = cut(batch, self.name, self.encoder.embed.patch)
        values, real, grid, channels = patches
        split = split or self.masking(len(values), grid, device=values.device)
        if 0 in (split.visible.shape[1], split.masked.shape[1]):
            raise ValueError(f"{split.visible.shape[1]} patches are visible and {split.masked.shape[1]} masked of a "
                             f"grid of {grid}; expected at least one of each")  # fmt: skip
        encoded = self.encode(patches, split)
        mask = None if real is None else torch.cat([take(real, part).any(dim=-1) for part in split], dim=1)
        prediction = self.decoder(encoded, split, grid, mask)  # (B, H, P)
        hidden, real_hidden = values_at(patches, split.masked)
        mean, std = units(hidden, real_hidden, self.targets, channels)
        counts = batch.present[self.name][:, None].expand_as(split.masked)
        errors, counts = patch_errors(prediction, (hidden - mean) / std, real_hidden, counts)
        return MaskedOutput(prediction, errors, counts, split.masked, split.visible)

    def encode(self, patches: Patches, split: PatchMask) -> Tensor:
        """Return the codes (B, K, dim) of the kept patches; nothing else is looked at."""
        tokens, mask = embed_kept(self.encoder.embed, patches, split.visible, self.targets)
        return self.encoder.transformer(tokens, mask)

    def inpaint(self, batch: Batch, guess: MaskedOutput) -> Tensor:
        """Return the data as floats, in its own units, with the predictions in the hidden places; see `put_back`."""
        patch = self.encoder.embed.patch
        patches = cut(batch, self.name, patch)
        return put_back(patches, guess.prediction, guess.masked, self.targets, patch, batch.data[self.name])


class Decoder(nn.Module):
    """Predict masked patches from the codes of visible ones: a small Transformer over both, and a linear head.

    The order of tokens means nothing to attention, so those to be guessed simply stand last, and only they pass the
    head.

    Args:
        in_dim: Width of the codes.
        out_dim: Numbers P in a patch.
        size: Arguments for `Transformer`, or a name in `mmlearn.encoders.SIZES`.

    Chapter: pretraining/masked.
    """

    def __init__(self, in_dim: int, out_dim: int, size: str | Mapping[str, int]) -> None:
        super().__init__()
        sizes = named_size(size)
        self.dim = sizes["dim"]
        self.project = nn.Linear(in_dim, self.dim)
        self.mask_token = nn.Parameter(0.02 * torch.randn(self.dim))
        self.transformer = Transformer(**sizes)
        self.head = nn.Linear(self.dim, out_dim)

    def forward(self, encoded: Tensor, split: PatchMask, grid: Sequence[int], mask: Tensor | None = None) -> Tensor:
        """Return predictions (B, H, P) of hidden patches from codes (B, K, in_dim) of kept ones.

        Args:
            encoded: Codes of the kept patches.
            split: Which are kept, and which hidden.
            grid: Tokens along each side, here.
            mask: bool (B, K + H), True where a patch is real, the kept ones first.
        """
        seen = self.project(encoded)  # (B, K, dim)
        places = sinusoidal_encoding_nd(grid, self.dim, seen.device, *WAVELENGTHS).to(seen.dtype)  # (N, dim)
        seen = seen + nn.functional.embedding(split.visible, places)
        asked = self.mask_token.to(seen.dtype) + nn.functional.embedding(split.masked, places)  # (B, H, dim)
        x = self.transformer(torch.cat([seen, asked], dim=1), mask)
        return self.head(x[:, seen.shape[1] :])


class MaskedPrediction:
    """Objective of masked models for `mmlearn.fit`: the mean error of the hidden tokens that count.

    A model of several modalities returns a `MaskedOutput` for each; the loss is then the mean of theirs.

    Chapter: pretraining/masked.
    """

    def loss(self, output: MaskedOutput | Mapping[str, MaskedOutput], batch: Batch) -> Tensor:
        """Return the loss, a scalar."""
        guesses = [output] if isinstance(output, MaskedOutput) else list(output.values())
        return torch.stack([g.losses.sum() / g.counted.sum().clamp(min=1) for g in guesses]).mean()

    def metrics(self) -> dict[str, Metric]:
        """Choose the best epoch by the loss."""
        return {}

    def target(self, batch: Batch) -> dict[str, Tensor]:
        """Return what the batch holds; no metric asks for it."""
        return batch.data
