"""Masked prediction across modalities: predict the masked tokens of each modality from the visible tokens of all.

Chapter: pretraining/masked.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmlearn.batch import Batch, check_present
from mmlearn.encoders.transformer import Transformer, named_size
from mmlearn.missing import zero_missing
from mmlearn.nn.attention import Block
from mmlearn.nn.embeddings import WAVELENGTHS, sinusoidal_encoding_nd
from mmlearn.nn.patches import PatchEmbedding, TokenEmbedding
from mmlearn.pretraining.masked.autoencoder import LIGHT, MaskedOutput
from mmlearn.pretraining.masked.language import token_errors
from mmlearn.pretraining.masked.masking import Masking, PatchMask, random_masking, take
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


class JointMaskedAutoencoder(nn.Module):
    """One encoder over the kept tokens of all modalities, one light decoder for each (MultiMAE, Bachmann et al. 2022).

    A masked token is predicted from the visible ones of every modality. In training, whole modalities are dropped at
    random from the encoder's input and still predicted, so that it learns to predict one it has not seen at all. What
    is absent from a sample is neither read nor predicted.

    Called with a batch, it returns name → `MaskedOutput`. `steps` encodes everything, for use afterwards.

    Args:
        embeds: name → `PatchEmbedding` or `TokenEmbedding`, all of width `dim` of the size.
        size: Arguments for the encoder's `Transformer`, or a name in `mmlearn.encoders.SIZES`.
        maskings: name → what to hide of it; by default `random_masking` of 75 %.
        decoder: Arguments for the decoders: dim, depth, num_heads and mlp_ratio; or a name.
        targets: name → see `MaskedAutoencoder`; by default "patch".
        drop_modalities: Chance that a modality is withheld, for each sample by itself; one always stays.
        num_special: Ids of tokens below it are not predicted.

    Raises:
        ValueError: If there are fewer than two modalities, a width does not fit, or `targets` or `drop_modalities` is
            unknown.

    Chapter: pretraining/masked.
    """

    def __init__(
        self,
        embeds: Mapping[str, PatchEmbedding | TokenEmbedding],
        size: str | Mapping[str, int] = "tiny",
        maskings: Mapping[str, Masking] | None = None,
        decoder: str | Mapping[str, int] = LIGHT,
        targets: Mapping[str, Targets] | None = None,
        drop_modalities: float = 0.3,
        num_special: int = 2,
    ) -> None:
        super().__init__()
        sizes = named_size(size)
        self.dim, self.names = sizes["dim"], sorted(embeds)
        if len(embeds) < 2:
            raise ValueError(f"embeds holds {self.names}; expected at least two modalities")
        if not 0 <= drop_modalities < 1:
            raise ValueError(f"drop_modalities is {drop_modalities}; expected from 0 to below 1")
        self.embeds: Any = nn.ModuleDict(embeds)
        self.modality_embedding = nn.ParameterDict({name: 0.02 * torch.randn(self.dim) for name in self.names})
        self.transformer = Transformer(**sizes)
        self.maskings = {name: (maskings or {}).get(name, random_masking) for name in self.names}
        self.targets: dict[str, Targets] = {name: (targets or {}).get(name, "patch") for name in self.names}
        self.drop_modalities, self.num_special = drop_modalities, num_special
        self.decoders: Any = nn.ModuleDict()
        for name, embed in embeds.items():
            check_targets(self.targets[name])
            if isinstance(embed, TokenEmbedding):
                out_dim, width = embed.embed.weight.shape
            else:
                width, out_dim = embed.project.weight.shape
            if width != self.dim:
                raise ValueError(f"the embedding of {name!r} is {width} wide; expected {self.dim}, as the encoder")
            self.decoders[name] = CrossDecoder(self.dim, out_dim, decoder)

    def forward(self, batch: Batch, splits: Mapping[str, PatchMask] | None = None) -> dict[str, MaskedOutput]:
        """Return a guess about each modality of which something is hidden.

        Args:
            batch: It holds all of the modalities; samples may lack some.
            splits: name → what to hide; by default it is drawn.

        Raises:
            ValueError: If the batch lacks a modality, a sample has none, or nothing at all is kept.
        """
        streams = self._streams(batch)
        splits = splits or self._draw(streams)
        encoded, mask = self._encode(batch, streams, splits, self._shown(batch))
        guesses = {}
        for name, stream in streams.items():
            hidden = splits[name].masked
            if hidden.shape[1] == 0:
                continue
            prediction = self.decoders[name](encoded, mask, hidden, stream.grid)
            counts = batch.present[name][:, None].expand_as(hidden)
            if isinstance(self.embeds[name], TokenEmbedding):
                ids = take(stream.values, hidden)[..., 0]  # (B, H)
                counts = counts & (ids >= self.num_special)
                if stream.real is not None:
                    counts = counts & take(stream.real, hidden)[..., 0]
                errors = token_errors(prediction, ids, counts)
            else:
                values, real = values_at(stream, hidden)
                mean, std = units(values, real, self.targets[name], stream.channels)
                errors, counts = patch_errors(prediction, (values - mean) / std, real, counts)
            guesses[name] = MaskedOutput(prediction, errors, counts, hidden, splits[name].visible)
        return guesses

    def steps(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Encode everything a sample has: steps (B, N, dim) of all modalities in order of names, and their mask (B, N).

        Raises:
            ValueError: As `forward`.
        """
        streams = self._streams(batch)
        splits = {name: _split(stream, hide=False) for name, stream in streams.items()}
        return self._encode(batch, streams, splits, batch.present)

    def reconstruct_modality(self, batch: Batch, name: str) -> Tensor:
        """Tell one modality from all the others; what the batch holds of it is not looked at.

        Args:
            batch: It holds the others, and something of the wanted one's shape.
            name: The wanted one.

        Returns:
            Like the data: frames, pictures or log-mel in their own units (which with targets "patch" are not known:
            these need fixed units); for text the most probable ids (B, L).

        Raises:
            ValueError: If nothing else is there, or targets are no fixed units.
        """
        text = isinstance(self.embeds[name], TokenEmbedding)
        if not text and isinstance(self.targets[name], str):
            raise ValueError(f"targets of {name!r} are {self.targets[name]!r}; expected (mean, std): the units "
                             "of a patch that nobody has seen are not known")  # fmt: skip
        streams = self._streams(batch)
        splits = {other: _split(stream, hide=other == name) for other, stream in streams.items()}
        seen = {other: there for other, there in batch.present.items() if other != name and other in streams}
        check_present(seen)
        encoded, mask = self._encode(batch, streams, splits, batch.present)
        hidden = splits[name].masked
        prediction = self.decoders[name](encoded, mask, hidden, streams[name].grid)
        if text:
            return prediction.argmax(dim=-1)
        return put_back(
            streams[name], prediction, hidden, self.targets[name], self.embeds[name].patch, batch.data[name]
        )

    def _streams(self, batch: Batch) -> dict[str, Patches]:
        """Cut every modality; a token of text counts as a patch of one number."""
        streams = {}
        for name in self.names:
            if isinstance(self.embeds[name], PatchEmbedding):
                streams[name] = cut(batch, name, self.embeds[name].patch)
                continue
            if name not in batch.data:
                raise ValueError(f"the batch has no {name!r}; it has {sorted(batch.data)}")
            ids, mask = zero_missing(batch.data[name], batch.present[name])[..., None], batch.mask.get(name)
            streams[name] = Patches(ids, None if mask is None else mask[..., None], (ids.shape[1],), 1)
        if not torch.compiler.is_compiling():  # the check waits for the device
            check_present({name: batch.present[name] for name in self.names})
        return streams

    def _draw(self, streams: Mapping[str, Patches]) -> dict[str, PatchMask]:
        return {
            name: self.maskings[name](len(stream.values), stream.grid, device=stream.values.device)
            for name, stream in streams.items()
        }

    def _shown(self, batch: Batch) -> dict[str, Tensor]:
        """Return which modalities of which samples the encoder gets to see."""
        present = {name: batch.present[name] for name in self.names}
        if not self.training or self.drop_modalities == 0:
            return present
        left = {name: there & (torch.rand(there.shape, device=there.device) >= self.drop_modalities)
                for name, there in present.items()}  # fmt: skip
        nothing = ~torch.stack(list(left.values())).any(dim=0)  # (B,): these keep everything
        return {name: left[name] | (nothing & there) for name, there in present.items()}

    def _encode(
        self, batch: Batch, streams: Mapping[str, Patches], splits: Mapping[str, PatchMask], shown: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the codes (B, sum of K, dim) of all kept tokens, and which are real."""
        tokens, masks = [], []
        for name, stream in streams.items():
            kept = splits[name].visible
            if isinstance(self.embeds[name], TokenEmbedding):
                x, real = self._embed_ids(name, stream, kept)
            else:
                x, real = embed_kept(self.embeds[name], stream, kept, self.targets[name])
            tokens.append(x + self.modality_embedding[name].to(x.dtype))
            there = shown[name][:, None].expand_as(kept)
            masks.append(there if real is None else there & real)
        mask = torch.cat(masks, dim=1)
        if mask.shape[1] == 0:
            raise ValueError("everything of every modality is hidden; expected at least one token to tell it from")
        return self.transformer(torch.cat(tokens, dim=1), mask), mask

    def _embed_ids(self, name: str, stream: Patches, kept: Tensor) -> tuple[Tensor, Tensor | None]:
        embed = self.embeds[name]
        x = embed.embed(take(stream.values, kept)[..., 0])  # (B, K, dim)
        places = embed.places.codes(stream.grid, kept.device).to(x.dtype)  # (L, dim)
        real = None if stream.real is None else take(stream.real, kept)[..., 0]
        return x + nn.functional.embedding(kept, places), real


class CrossDecoder(nn.Module):
    """Predict masked tokens, each by itself, by attention to the codes of the visible ones (CrossMAE, Fu et al. 2024).

    Hidden tokens do not ask one another, so the work grows with H · K instead of (H + K)².

    Args:
        in_dim: Width of the codes.
        out_dim: Numbers P to tell of each token.
        size: dim, depth, num_heads and, if wanted, mlp_ratio; or a name in `mmlearn.encoders.SIZES`.

    Chapter: pretraining/masked.
    """

    def __init__(self, in_dim: int, out_dim: int, size: str | Mapping[str, int]) -> None:
        super().__init__()
        sizes = {"mlp_ratio": 4.0, **named_size(size)}
        self.dim, depth = sizes.pop("dim"), sizes.pop("depth")
        dim = self.dim
        self.mask_token = nn.Parameter(0.02 * torch.randn(dim))
        self.blocks: Any = nn.ModuleList(Block(dim, context_dim=in_dim, **sizes) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, out_dim)

    def forward(self, encoded: Tensor, mask: Tensor, hidden: Tensor, grid: Sequence[int]) -> Tensor:
        """Return predictions (B, H, P).

        Args:
            encoded: Codes (B, K, in_dim) of kept tokens.
            mask: bool (B, K), True where these are real.
            hidden: long (B, H), which tokens to tell.
            grid: Tokens along each side, here.
        """
        places = sinusoidal_encoding_nd(grid, self.dim, encoded.device, *WAVELENGTHS).to(encoded.dtype)  # (N, dim)
        x = self.mask_token.to(encoded.dtype) + nn.functional.embedding(hidden, places)  # (B, H, dim)
        context = torch.where(mask[..., None], encoded, 0.0)
        mask = mask | ~mask.any(dim=1, keepdim=True)  # a sample that has nothing to ask gets zeros for an answer
        for block in self.blocks:
            x = block(x, context, mask)
        return self.head(self.norm(x))


def _split(stream: Patches, hide: bool) -> PatchMask:
    """Return the split that keeps everything, or hides everything."""
    size, count = len(stream.values), math.prod(stream.grid)
    every = torch.arange(count, device=stream.values.device).expand(size, count)
    return PatchMask(every[:, :0], every) if hide else PatchMask(every, every[:, :0])
