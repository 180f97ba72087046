"""Encoders on the Transformer, one a modality, with named sizes. They keep the contract of `mmlearn.nn.encoders`.

`forward(tensor, mask)` gives one vector a sample, (B, dim); `steps(tensor, mask)` gives all steps, (B, N, dim), and
their mask. What stands in padding, be it NaN, changes nothing.

Chapters: pretraining/contrastive, pretraining/masked.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from mmlearn.nn.encoders import standardise
from mmlearn.nn.patches import PatchEmbedding, Positions, TokenEmbedding
from mmlearn.nn.pooling import AttentionPool
from mmlearn.nn.transformer import Transformer
from mmlearn.nn.widening import precise

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"dim": 128, "depth": 4, "num_heads": 4},  # for chapters, on a CPU
    "small": {"dim": 384, "depth": 12, "num_heads": 6},
    "base": {"dim": 768, "depth": 12, "num_heads": 12},  # the shape of ViT-B (Dosovitskiy et al. 2021)
}


class VideoTransformer(nn.Module):
    """Encode frames: tubelets, patches of a few frames (ViViT, Arnab et al. 2021), as steps of a Transformer.

    Args:
        shape: Frames, height and width (T, H, W) of a clip.
        patch: Frames, height and width of a tubelet; they divide `shape`.
        size: A name in `SIZES`, or a dictionary of arguments for `Transformer`: dim, depth, num_heads, …
        positions: See `PatchEmbedding`.
        dropout: Share dropped in the blocks and before pooling.
        drop_path: See `Transformer`.
        checkpoint: See `Transformer`.
        pool: Module from steps (B, N, dim) and their mask to (B, dim); by default `AttentionPool`.

    Chapter: pretraining/masked.
    """

    def __init__(
        self,
        shape: tuple[int, int, int] = (16, 48, 48),
        patch: tuple[int, int, int] = (4, 16, 16),
        size: str | Mapping[str, int] = "tiny",
        positions: Positions = "sincos",
        dropout: float = 0.0,
        drop_path: float = 0.0,
        checkpoint: bool = False,
        pool: nn.Module | None = None,
    ) -> None:
        super().__init__()
        sizes = named_size(size)
        self.dim = sizes["dim"]
        self.embed = PatchEmbedding(shape, patch, self.dim, positions=positions)
        self.transformer = Transformer(**sizes, dropout=dropout, drop_path=drop_path, checkpoint=checkpoint)
        self.dropout = nn.Dropout(dropout)
        self.pool = pool or AttentionPool(self.dim)

    def forward(self, video: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode video (B, 3, T, H, W) to (B, dim); see `steps`."""
        x, mask = self.steps(video, mask)
        return self.pool(self.dropout(x), mask)

    def steps(self, video: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Encode video to one step a tubelet, (B, N, dim), in the order of time, and their mask (B, N).

        Args:
            video: (B, 3, T, H, W), bytes or floats. Each clip is brought to mean 0 and deviation 1.
            mask: bool (B, T), True where a frame is real. A tubelet is real if one of its frames is.

        Raises:
            ValueError: If T, H or W is no multiple of the tubelet's.
        """
        video = precise(video)
        if mask is None:
            return self.transformer(self.embed(standardise(video))), None
        video = standardise(video.movedim(2, -1), mask).movedim(-1, 2)  # padding becomes 0
        x = self.embed(video)  # (B, N, dim)
        real = mask.unflatten(1, (-1, self.embed.patch[0])).any(dim=-1)  # (B, T) → (B, T/T')
        real = real.repeat_interleave(x.shape[1] // real.shape[1], dim=1)  # (B, N)
        return self.transformer(x, real), real


class ImageTransformer(nn.Module):
    """Encode a picture: patches as steps of a Transformer (ViT, Dosovitskiy et al. 2021), without a class token.

    Args:
        shape: Height and width (H, W).
        patch: Height and width of a patch; they divide `shape`.
        size, positions, dropout, drop_path, checkpoint, pool: See `VideoTransformer`.

    Chapter: pretraining/contrastive.
    """

    def __init__(
        self,
        shape: tuple[int, int] = (48, 48),
        patch: tuple[int, int] = (16, 16),
        size: str | Mapping[str, int] = "tiny",
        positions: Positions = "learned",
        dropout: float = 0.0,
        drop_path: float = 0.0,
        checkpoint: bool = False,
        pool: nn.Module | None = None,
    ) -> None:
        super().__init__()
        sizes = named_size(size)
        self.dim = sizes["dim"]
        self.embed = PatchEmbedding(shape, patch, self.dim, positions=positions)
        self.transformer = Transformer(**sizes, dropout=dropout, drop_path=drop_path, checkpoint=checkpoint)
        self.dropout = nn.Dropout(dropout)
        self.pool = pool or AttentionPool(self.dim)

    def forward(self, image: Tensor, mask: None = None) -> Tensor:
        """Encode pictures (B, 3, H, W) to (B, dim); see `steps`."""
        x, _ = self.steps(image, mask)
        return self.pool(self.dropout(x))

    def steps(self, image: Tensor, mask: None = None) -> tuple[Tensor, None]:
        """Encode pictures (B, 3, H, W), bytes or floats, to one step a patch, (B, N, dim); there is no mask.

        Raises:
            ValueError: If H or W is no multiple of the patch's, or a mask is given.
        """
        if mask is not None:
            raise ValueError("ImageTransformer takes no mask; give pictures of equal size")
        return self.transformer(self.embed(standardise(image))), None


class AudioTransformer(nn.Module):
    """Encode a log-mel spectrogram of any length: patches as steps of a Transformer (AST, Gong et al. 2021).

    Args:
        num_mels: Mel bands M of the input.
        patch: Steps of time and mel bands of a patch. The bands divide `num_mels`; time is padded to a multiple.
        length: Most steps of time, where positions are learned; "sincos" knows no bound.
        size, positions, dropout, drop_path, checkpoint, pool: See `VideoTransformer`.

    Chapter: pretraining/masked.
    """

    def __init__(
        self,
        num_mels: int = 64,
        patch: tuple[int, int] = (16, 16),
        length: int = 1024,
        size: str | Mapping[str, int] = "tiny",
        positions: Positions = "sincos",
        dropout: float = 0.0,
        drop_path: float = 0.0,
        checkpoint: bool = False,
        pool: nn.Module | None = None,
    ) -> None:
        super().__init__()
        sizes = named_size(size)
        self.dim = sizes["dim"]
        shape = (math.ceil(length / patch[0]) * patch[0], num_mels)
        self.embed = PatchEmbedding(shape, patch, self.dim, channels=1, positions=positions)
        self.transformer = Transformer(**sizes, dropout=dropout, drop_path=drop_path, checkpoint=checkpoint)
        self.dropout = nn.Dropout(dropout)
        self.pool = pool or AttentionPool(self.dim)

    def forward(self, mel: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode log-mel (B, M, T) to (B, dim); see `steps`."""
        x, mask = self.steps(mel, mask)
        return self.pool(self.dropout(x), mask)

    def steps(self, mel: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Encode log-mel to one step a patch, (B, N, dim), in the order of time, and their mask (B, N).

        Args:
            mel: (B, M, T). Each sample is brought to mean 0 and deviation 1.
            mask: bool (B, T), True where a step of time is real. A patch is real if one of its steps is.

        Raises:
            ValueError: If M is not `num_mels`, or T is longer than learned positions reach.
        """
        if mel.shape[1] != self.embed.grid[1] * self.embed.patch[1]:
            raise ValueError(f"mel has {mel.shape[1]} bands; expected {self.embed.grid[1] * self.embed.patch[1]}")
        short = -mel.shape[2] % self.embed.patch[0]
        x = nn.functional.pad(standardise(mel, mask), (0, short))  # (B, M, T)
        x = self.embed(x.transpose(1, 2)[:, None])  # (B, 1, T, M) → (B, N, dim)
        if mask is None:
            return self.transformer(x), None
        real = nn.functional.pad(mask, (0, short)).unflatten(1, (-1, self.embed.patch[0])).any(dim=-1)  # (B, T/T')
        real = real.repeat_interleave(self.embed.grid[1], dim=1)  # (B, N)
        return self.transformer(x, real), real


class TextTransformer(nn.Module):
    """Encode token ids: a Transformer over tokens.

    Args:
        num_tokens: Size of the vocabulary. Token 0 is padding.
        length: Most tokens of a sentence, where positions are learned.
        size, dropout, drop_path, checkpoint, pool: See `VideoTransformer`.
        positions: See `PatchEmbedding`; "rope" turns queries and keys instead (Su et al. 2021).
        causal: Whether a token sees only those before it, as in CLIP's text encoder.

    Chapters: pretraining/contrastive, pretraining/masked.
    """

    def __init__(
        self,
        num_tokens: int,
        length: int = 128,
        size: str | Mapping[str, int] = "tiny",
        positions: Positions | Literal["rope"] = "learned",
        dropout: float = 0.0,
        drop_path: float = 0.0,
        checkpoint: bool = False,
        causal: bool = False,
        pool: nn.Module | None = None,
    ) -> None:
        super().__init__()
        sizes = named_size(size)
        self.dim = sizes["dim"]
        self.embed = TokenEmbedding(num_tokens, self.dim, length, "none" if positions == "rope" else positions)
        self.transformer = Transformer(
            **sizes,
            dropout=dropout,
            drop_path=drop_path,
            rope=positions == "rope",
            checkpoint=checkpoint,
            causal=causal,
        )
        self.dropout = nn.Dropout(dropout)
        self.pool = pool or AttentionPool(self.dim)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode ids (B, L) to (B, dim); `mask` (B, L) is True where a token is real."""
        x, mask = self.steps(ids, mask)
        return self.pool(self.dropout(x), mask)

    def steps(self, ids: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Encode ids (B, L) to one step a token, (B, L, dim), and their mask (B, L).

        Raises:
            ValueError: If there are more tokens than learned positions.
        """
        return self.transformer(self.embed(ids), mask), mask


def named_size(size: str | Mapping[str, int]) -> dict[str, Any]:
    """Return the arguments dim, depth and num_heads for a name in `SIZES`; a dictionary is passed on.

    Raises:
        ValueError: If there is no such name, or the dictionary lacks one of the three.

    Chapter: pretraining/masked.
    """
    if isinstance(size, str):
        if size not in SIZES:
            raise ValueError(f"size is {size!r}; expected one of {sorted(SIZES)}, or a dictionary")
        return dict(SIZES[size])
    if missing := {"dim", "depth", "num_heads"} - set(size):
        raise ValueError(f"size lacks {sorted(missing)}; it has {sorted(size)}")
    return dict(size)
