"""An encoder that reads step by step: plain recurrent network, LSTM or GRU.

Chapters: finetuning/seq2seq, pretraining/contrastive.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mmlearn.nn.functional import like_weights, standardize
from mmlearn.nn.pooling import AttentionPool

CELLS: dict[str, type[nn.RNN | nn.LSTM | nn.GRU]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class RecurrentEncoder(nn.Module):
    """Encode token ids or a spectrogram with a recurrent network (Elman 1990; Hochreiter & Schmidhuber 1997; Cho 2014).

    Exactly one of `num_tokens` and `num_features` says what it reads.

    Args:
        num_tokens: Size of the vocabulary, for token ids (B, L). Token 0 is padding.
        num_features: Number of features M of each step, for log-mel or the like (B, M, T).
        dim: Width of the output, and of each token's vector.
        cell: "rnn" (tanh), "lstm" or "gru".
        depth: Layers.
        bidirectional: Whether to read backwards, too, each way at half the width.
        dropout: Share of features dropped between layers and before pooling.
        pool: Module from steps (B, N, dim) and their mask to (B, dim); by default `AttentionPool`.

    Raises:
        ValueError: If it is unclear what it reads, the cell is unknown, or `dim` is odd and there are two directions.

    Chapter: finetuning/seq2seq.

    Examples:
        >>> encoder = RecurrentEncoder(num_features=64, dim=32, cell="gru")
        >>> encoder(torch.zeros(2, 64, 100)).shape
        torch.Size([2, 32])
    """

    def __init__(
        self,
        num_tokens: int | None = None,
        num_features: int | None = None,
        dim: int = 128,
        cell: Literal["rnn", "lstm", "gru"] = "gru",
        depth: int = 1,
        bidirectional: bool = True,
        dropout: float = 0.0,
        pool: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if (num_tokens is None) == (num_features is None):
            raise ValueError(f"num_tokens is {num_tokens}, num_features {num_features}; expected exactly one of them")
        if cell not in CELLS:
            raise ValueError(f"cell is {cell!r}; expected one of {sorted(CELLS)}")
        if bidirectional and dim % 2:
            raise ValueError(f"dim is {dim}; expected an even number: each of two directions takes half of it")
        self.dim = dim
        self.embed = None if num_tokens is None else nn.Embedding(num_tokens, dim, padding_idx=0)
        self.recurrent = CELLS[cell](
            num_features or dim,
            dim // 2 if bidirectional else dim,
            depth,
            batch_first=True,
            bidirectional=bidirectional,
            dropout=dropout if depth > 1 else 0.0,
        )
        self.dropout = nn.Dropout(dropout)
        self.pool = pool or AttentionPool(dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode ids (B, N) or features (B, M, N) to (B, dim); `mask` (B, N) is True where a step is real."""
        x, mask = self.steps(x, mask)
        return self.pool(self.dropout(x), mask)

    def steps(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Encode ids (B, N) or features (B, M, N) to one vector a step, (B, N, dim), and their mask (B, N).

        Padding must follow what is real; it is not read, and comes out as zeros. A sample without any real step is read
        as one step of zeros. Features are brought to mean 0 and deviation 1, sample by sample.
        """
        x = self._read(x, mask) if self.embed is None else self.embed(x)  # (B, N, M or dim)
        if mask is None:
            return self.recurrent(x)[0], None
        x = torch.where(mask[..., None], x, 0.0)
        lengths = mask.sum(dim=1).clamp(min=1).cpu()  # where packing wants them
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True, total_length=x.shape[1])
        return y, mask

    def _read(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Return features (B, N, M), standardised, in the type of the weights."""
        return like_weights(standardize(x, mask), self.recurrent).transpose(1, 2)
