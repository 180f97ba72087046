"""Masked language modelling (掩码语言模型): guess characters or words that were made unreadable.

Chapter: pretraining/masked.
"""

import torch
from torch import Tensor, nn

from mmlearn.batch import Batch
from mmlearn.encoders.text import TextTransformer
from mmlearn.missing import zero_missing
from mmlearn.pretraining.masked.autoencoder import MaskedOutput
from mmlearn.pretraining.masked.masking import mask_tokens


class MaskedLanguageModel(nn.Module):
    """Predict tokens of a sentence from the others, in both directions (BERT, Devlin et al. 2019).

    The head is one layer and the embeddings again: a token is likely where its own vector fits (Press & Wolf 2017).
    All tokens pass it: a sentence is short, and how many are chosen is left to chance.

    Called with a batch, it returns a `MaskedOutput` of all tokens; those count that were chosen.

    Args:
        name: The modality.
        encoder: A `TextTransformer`; it is trained.
        mask_id: Id of the mask token, `vocabulary.special["<mask>"]`.
        num_special: Ids below it are special, `len(vocabulary.special)`.
        rate: Share of tokens, or of words, that are chosen.
        words: Key of the batch's data that holds the words' numbers (B, L), see `word_numbers`, for whole-word masking.

    Raises:
        ValueError: If the encoder is causal: it would see only what stands before.

    Chapter: pretraining/masked.
    """

    def __init__(
        self,
        name: str,
        encoder: TextTransformer,
        mask_id: int,
        num_special: int,
        rate: float = 0.15,
        words: str | None = None,
    ) -> None:
        super().__init__()
        if encoder.transformer.causal:
            raise ValueError("the encoder is causal; expected one that sees the tokens on both sides")
        self.name, self.encoder, self.words = name, encoder, words
        self.mask_id, self.num_special, self.rate = mask_id, num_special, rate
        self.head = nn.Sequential(nn.Linear(encoder.dim, encoder.dim), nn.GELU(), nn.LayerNorm(encoder.dim))
        self.bias = nn.Parameter(torch.zeros(encoder.embed.embed.num_embeddings))

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> MaskedOutput:
        """Return logits (B, L, number of tokens) and the errors of the chosen tokens.

        Args:
            batch: It holds the modality as ids (B, L), with a mask.
            generator: Source of chance; by default PyTorch's own.

        Raises:
            ValueError: If the batch lacks the modality, its mask, or the words.
        """
        for key, part in ((self.name, batch.data), (self.name, batch.mask), (self.words, batch.data)):
            if key is not None and key not in part:
                raise ValueError(f"the batch has no {key!r}; expected data and mask of {self.name!r}; it has "
                                 f"{sorted(batch.data)}, masks of {sorted(batch.mask)}")  # fmt: skip
        ids = zero_missing(batch.data[self.name], batch.present[self.name])
        real = batch.mask[self.name] & batch.present[self.name][:, None]  # (B, L)
        changed, chosen = mask_tokens(
            ids,
            real,
            mask_id=self.mask_id,
            num_tokens=len(self.bias),
            num_special=self.num_special,
            rate=self.rate,
            words=None if self.words is None else batch.data[self.words],
            generator=generator,
        )
        logits = self.logits(changed, real)
        places = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        return MaskedOutput(logits, token_errors(logits, ids, chosen), chosen, places, places)

    def logits(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return logits (B, L, number of tokens) for what each of the ids (B, L) should be."""
        x = self.head(self.encoder.steps(ids, mask)[0])  # (B, L, D)
        return nn.functional.linear(x, self.encoder.embed.embed.weight, self.bias)


def token_errors(logits: Tensor, ids: Tensor, counts: Tensor) -> Tensor:
    """Return the cross-entropy of each token, float32 (B, L), 0 where it does not count.

    Args:
        logits: (B, L, number of tokens).
        ids: What they should have said, long (B, L).
        counts: bool (B, L).

    Chapter: pretraining/masked.
    """
    wanted = torch.where(counts, ids, -100)  # cross_entropy's sign for "does not count"
    return nn.functional.cross_entropy(
        logits.float().flatten(0, 1), wanted.flatten(), reduction="none", ignore_index=-100
    ).view_as(ids)
