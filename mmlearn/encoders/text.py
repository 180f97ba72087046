"""Encoders of text, from token ids: a convolution over neighbours, or a Transformer over tokens.

What stands in padding changes nothing.

Chapters: start/first_model, pretraining/contrastive, pretraining/masked.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from mmlearn.encoders.transformer import Transformer, named_size
from mmlearn.nn.patches import Positions, TokenEmbedding
from mmlearn.nn.pooling import AttentionPool


class TextEncoder(nn.Module):
    """Encode token ids: embeddings, one convolution over neighbours, pooling over tokens.

    Args:
        num_tokens: Size of the vocabulary. Token 0 is padding.
        dim: Width of the output.
        dropout: Share of features dropped before pooling.

    Chapter: start/first_model.

    Examples:
        >>> TextEncoder(num_tokens=50)(torch.tensor([[3, 4, 5]])).shape
        torch.Size([1, 128])
    """

    def __init__(self, num_tokens: int, dim: int = 128, dropout: float = 0.1) -> None:
        super().__init__()
        self.dim = dim
        self.embed = nn.Embedding(num_tokens, dim, padding_idx=0)
        self.convolution = nn.Conv1d(dim, dim, 3, padding=1)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.pool = AttentionPool(dim)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode ids (B, L) to (B, dim); `mask` (B, L) is True where a token is real."""
        x, mask = self.steps(ids, mask)
        return self.pool(self.dropout(x), mask)

    def steps(self, ids: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Encode ids (B, L) to one vector a token, (B, L, dim), and their mask (B, L)."""
        x = self.embed(ids)  # (B, L, dim)
        if mask is not None:
            x = torch.where(mask[..., None], x, 0.0)
        x = x + nn.functional.gelu(self.convolution(x.transpose(1, 2)).transpose(1, 2))
        return self.norm(x), mask


class TextTransformer(nn.Module):
    """Encode token ids: a Transformer over tokens.

    Args:
        num_tokens: Size of the vocabulary. Token 0 is padding.
        length: Most tokens of a sentence, where positions are learned.
        size, dropout, drop_path, checkpoint, pool: See `VideoTransformer`.
        positions: See `PatchEmbedding`; "rope" turns queries and keys instead (Su et al. 2021).
        causal: Whether a token sees only those before it, as in CLIP's text encoder.

    Chapters: pretraining/contrastive, pretraining/masked.

    Examples:
        >>> TextTransformer(50)(torch.tensor([[3, 4, 5]])).shape
        torch.Size([1, 128])
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
