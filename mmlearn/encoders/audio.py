"""Encoders of sound, from log-mel spectrograms: convolutions along time, or a Transformer over patches.

What stands in padding, be it NaN, changes nothing.

Chapters: start/first_model, pretraining/masked.
"""

import math
from collections.abc import Mapping
from itertools import pairwise

from torch import Tensor, nn

from mmlearn.encoders.transformer import Transformer, named_size
from mmlearn.nn.functional import like_weights, standardize
from mmlearn.nn.patches import PatchEmbedding, Positions
from mmlearn.nn.pooling import AttentionPool


class AudioEncoder(nn.Module):
    """Encode a log-mel spectrogram: three convolutions along time, each halving it, then pooling over time.

    Args:
        num_mels: Mel bands M of the input.
        dim: Width of the output.
        width: Channels of the first two convolutions.
        dropout: Share of features dropped before pooling.

    Chapter: start/first_model.

    Examples:
        >>> import torch
        >>> AudioEncoder()(torch.zeros(2, 64, 100)).shape
        torch.Size([2, 128])
    """

    def __init__(self, num_mels: int = 64, dim: int = 128, width: int = 64, dropout: float = 0.1) -> None:
        super().__init__()
        self.dim = dim
        widths = [num_mels, width, width, dim]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(fan_in, fan_out, 5, stride=2, padding=2) for fan_in, fan_out in pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(fan_out) for fan_out in widths[1:])  # over channels, step by step
        self.dropout = nn.Dropout(dropout)
        self.pool = AttentionPool(dim)

    def forward(self, mel: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode log-mel (B, M, T) to (B, dim); `mask` (B, T) is True where a step is real."""
        x, mask = self.steps(mel, mask)
        return self.pool(self.dropout(x), mask)

    def steps(self, mel: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Encode log-mel (B, M, T) to one vector for eight of its steps, (B, T/8, dim), and their mask (B, T/8)."""
        x = like_weights(standardize(mel, mask), self.convolutions)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            if mask is not None:
                x = x.masked_fill(~mask[:, None], 0.0)  # padding looks like what a convolution pads with
                mask = mask[:, ::2]
            x = nn.functional.gelu(norm(convolution(x).transpose(1, 2))).transpose(1, 2)  # (B, C, T/2)
        return x.transpose(1, 2), mask


class AudioTransformer(nn.Module):
    """Encode a log-mel spectrogram of any length: patches as steps of a Transformer (AST, Gong et al. 2021).

    Args:
        num_mels: Mel bands M of the input.
        patch: Steps of time and mel bands of a patch. The bands divide `num_mels`; time is padded to a multiple.
        length: Most steps of time, where positions are learned; "sincos" knows no bound.
        size, positions, dropout, drop_path, checkpoint, pool: See `VideoTransformer`.

    Chapter: pretraining/masked.

    Examples:
        >>> import torch
        >>> AudioTransformer()(torch.zeros(2, 64, 100)).shape
        torch.Size([2, 128])
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
        x = nn.functional.pad(standardize(mel, mask), (0, short))  # (B, M, T)
        x = self.embed(x.transpose(1, 2)[:, None])  # (B, 1, T, M) → (B, N, dim)
        if mask is None:
            return self.transformer(x), None
        real = nn.functional.pad(mask, (0, short)).unflatten(1, (-1, self.embed.patch[0])).any(dim=-1)  # (B, T/T')
        real = real.repeat_interleave(self.embed.grid[1], dim=1)  # (B, N)
        return self.transformer(x, real), real
