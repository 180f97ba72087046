"""From a clip to a sequence: an encoder of any kind, a recurrent decoder, and attention between them.

Chapter: finetuning/seq2seq.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassExactMatch
from torchmetrics.text import BLEUScore

from mmlearn.batch import Batch
from mmlearn.finetuning.classification.objective import ignoring
from mmlearn.finetuning.seq2seq.decoding import beam_search, greedy_search
from mmlearn.fusion.streams import Masks, StreamEmbedding, Streams
from mmlearn.labels import IGNORED
from mmlearn.missing import zero_missing
from mmlearn.nn.cells import Cell, Kind, State

Scores = Literal["additive", "dot", "general", "mean", "last"]


class SequenceAttention(nn.Module):
    """Let a decoder's state ask the encoder's steps: a mean of them, weighted by softmax of a score.

    With query q, step m, and learned U, W and v the score is

    - "additive": v · tanh(W q + U m) (Bahdanau et al. 2015);
    - "dot": q · m, "general": q · U m (Luong et al. 2015);
    - "mean": the same for all steps, "last": all weight on the last real step. These two do not look at q: one vector
      has to hold everything, as in Cho et al. (2014) and Sutskever et al. (2014).

    Args:
        dim: Width D of queries and steps.
        score: See above.

    Raises:
        ValueError: If the score is unknown.

    Chapter: finetuning/seq2seq.
    """

    def __init__(self, dim: int, score: Scores = "additive") -> None:
        super().__init__()
        if score not in ("additive", "dot", "general", "mean", "last"):
            raise ValueError(f"score is {score!r}; expected 'additive', 'dot', 'general', 'mean' or 'last'")
        self.score = score
        self.key = nn.Linear(dim, dim, bias=False) if score in ("additive", "general") else nn.Identity()
        if score == "additive":
            self.query = nn.Linear(dim, dim)
            self.value = nn.Linear(dim, 1, bias=False)  # v

    def forward(self, query: Tensor, memory: Tensor, mask: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is found, (B, W, D), and the weights (B, W, N).

        Args:
            query: (B, W, D); W queries ask at the same time.
            memory: The encoder's steps (B, N, D).
            mask: bool (B, N), True where a step is real.
            keys: `self.key(memory)`, (B, N, D): computed once for all steps of a decoder.
        """
        if self.score == "additive":
            scores = self.value(torch.tanh(self.query(query)[:, :, None] + keys[:, None]))[..., 0]  # (B, W, N)
        elif self.score in ("dot", "general"):
            scores = query @ keys.transpose(1, 2)  # (B, W, N)
        else:
            if self.score == "last":
                number = torch.arange(1, mask.shape[1] + 1, device=mask.device) * mask  # (B, N)
                mask = number == number.max(dim=1, keepdim=True).values
            scores = query.new_zeros(query.shape[0], query.shape[1], memory.shape[1])
        scores = scores.masked_fill(~mask[:, None], torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=-1)
        return weights @ memory.to(weights.dtype), weights


class EncoderDecoder(nn.Module):
    """Encode the modalities, then write a sequence, token by token, looking back at what was encoded.

    Each encoder's steps are brought to one width and one clock (`mmlearn.fusion.streams.StreamEmbedding`), and put one
    after the other: the decoder may look at any step of any modality. In step t, with e(y) the embedding of the last
    token:

    - h_t = cell([e(y_{t-1}); c_{t-1}], h_{t-1}), with the last context fed in (Luong et al. 2015, section 3.3);
    - c_t = attention(h_t, steps);
    - logits_t = V tanh(W [h_t; c_t]).

    It starts from h_0 = tanh(S c_0), where c_0 is the mean of all real steps (the last one if `attention` is "last").

    Args:
        encoders: name → module whose method `steps(tensor, mask)` returns (B, N, dims[name]) and a mask (B, N).
        dims: name → width of that encoder's steps.
        num_tokens: Size V of the vocabulary to write in. Token 0 is padding.
        dim: Width D of the decoder.
        cell: The decoder's cell: "rnn", "lstm" or "gru".
        attention: See `SequenceAttention`.
        target: The batch's key of the sequence to write: ids (B, L) that begin with `start` and finish with `end`.
        start: Id of the token before the first.
        end: Id of the token after the last.
        dropout: Share of features dropped before the logits.
        teacher_forcing: In training, the share of tokens that are followed by the true next input; elsewhere the model
            goes on from its own best guess (scheduled sampling, Bengio et al. 2015). It may be changed at any time.
        steps_per_second: name → rate of that encoder's steps.

    Raises:
        ValueError: If the cell or attention is unknown, or `teacher_forcing` is not in [0, 1].

    Chapter: finetuning/seq2seq.
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        dims: Mapping[str, int],
        num_tokens: int,
        dim: int = 128,
        *,
        cell: Kind = "gru",
        attention: Scores = "additive",
        target: str = "target",
        start: int = 2,
        end: int = 3,
        dropout: float = 0.0,
        teacher_forcing: float = 1.0,
        steps_per_second: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= teacher_forcing <= 1:
            raise ValueError(f"teacher_forcing is {teacher_forcing}; expected a share from 0 to 1")
        self.target, self.start, self.end, self.teacher_forcing = target, start, end, teacher_forcing
        self.encoders: Any = nn.ModuleDict(encoders)
        self.tokens = StreamEmbedding(dims, dim, steps_per_second)
        self.embed = nn.Embedding(num_tokens, dim, padding_idx=0)
        self.cell = Cell(cell, 2 * dim, dim)
        self.attention = SequenceAttention(dim, attention)
        self.summary = SequenceAttention(dim, "last" if attention == "last" else "mean")
        self.begin = nn.Linear(dim, dim)
        self.mix = nn.Linear(2 * dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(dim, num_tokens)

    def forward(self, batch: Batch) -> Tensor:
        """Return logits (B, V, L - 1) for the target's tokens 1 … L - 1, as `cross_entropy` takes them.

        Raises:
            ValueError: If the batch lacks a modality or the target, or a sample has none of the modalities. A sample
                may lack the target: what comes out for it then means nothing.
        """
        return torch.stack([logits for logits, _ in self._follow(batch, *self._read(batch))], dim=2)

    @torch.no_grad()
    def weights(self, batch: Batch) -> dict[str, Tensor]:
        """Return name → where the decoder looks while it is given the target's tokens, (B, L - 1, N).

        To see where it looked while it wrote what `generate` returned, put that into the batch as the target.
        """
        steps, masks = self._read(batch)
        looked = torch.cat([weights for _, weights in self._follow(batch, steps, masks)], dim=1)  # (B, L - 1, N)
        return dict(zip(steps, looked.split([x.shape[1] for x in steps.values()], dim=2), strict=True))

    @torch.no_grad()
    def generate(
        self, batch: Batch, *, max_length: int = 32, width: int = 1, length_penalty: float = 0.6
    ) -> tuple[Tensor, Tensor]:
        """Write the sequences, without a look at the target: greedily, or by beam search if `width` is more than 1.

        The model should be in evaluation mode, and the batch on its device.

        Returns:
            Ids (B, L) with the end token and then padding; their log-probabilities, divided by `length_norm` if
            `width` is more than 1, (B,).
        """
        memory, mask = self._join(*self._read(batch))
        keys = self.attention.key(memory)

        def step(tokens: Tensor, state: State) -> tuple[Tensor, State]:
            logits, after, _ = self._step(tokens, state, memory, mask, keys)
            return logits, after

        state = self._first(memory, mask)
        if width == 1:
            return greedy_search(step, state, start=self.start, end=self.end, max_length=max_length)
        tokens, scores = beam_search(
            step,
            state,
            start=self.start,
            end=self.end,
            max_length=max_length,
            width=width,
            length_penalty=length_penalty,
        )
        return tokens[:, 0], scores[:, 0]

    def _read(self, batch: Batch) -> tuple[Streams, Masks]:
        """Encode: name → steps (B, N, D), and name → bool (B, N), True where a step is real."""
        features, masks, present = {}, {}, {}
        for name, encoder in self.encoders.items():
            if name not in batch.data:
                raise ValueError(f"the batch has no {name!r}; this model reads {sorted(self.encoders)}")
            present[name] = batch.present[name]
            x = zero_missing(batch.data[name], present[name])
            features[name], masks[name] = encoder.steps(x, batch.mask.get(name))
        return self.tokens(features, present, masks)

    def _join(self, steps: Streams, masks: Masks) -> tuple[Tensor, Tensor]:
        """Put the modalities' steps one after the other: (B, N of all, D), and their mask (B, N of all)."""
        real = [mask for mask in masks.values() if mask is not None]  # given `present`, none is None
        return torch.cat(list(steps.values()), dim=1), torch.cat(real, dim=1)

    def _first(self, memory: Tensor, mask: Tensor) -> State:
        """Return the state before the first token: the cell's, then the context; each (B, 1, D)."""
        context, _ = self.summary(memory[:, :1], memory, mask, memory)
        return (*self.cell.start(torch.tanh(self.begin(context))), context)

    def _step(
        self, tokens: Tensor, state: State, memory: Tensor, mask: Tensor, keys: Tensor
    ) -> tuple[Tensor, State, Tensor]:
        """Read tokens (B, W); return logits (B, W, V), the next state, and where it looked, (B, W, N)."""
        hidden = self.cell(torch.cat([self.embed(tokens), state[-1]], dim=-1), state[:-1])
        context, weights = self.attention(hidden[0], memory, mask, keys)
        mixed = torch.tanh(self.mix(torch.cat([hidden[0], context], dim=-1)))  # (B, W, D)
        return self.head(self.dropout(mixed)), (*hidden, context), weights

    def _follow(self, batch: Batch, steps: Streams, masks: Masks) -> list[tuple[Tensor, Tensor]]:
        """Write along the target: logits (B, V) and weights (B, 1, N) of each step."""
        ids, real = target_of(batch, self.target)
        ids = ids * real  # padding is 0, whatever stood there
        memory, mask = self._join(steps, masks)
        keys = self.attention.key(memory)
        state, written, tokens = self._first(memory, mask), [], ids[:, :1]
        for t in range(1, ids.shape[1]):
            logits, state, weights = self._step(tokens, state, memory, mask, keys)
            written.append((logits[:, 0], weights))
            tokens = ids[:, t : t + 1]
            if self.training and self.teacher_forcing < 1:
                told = torch.rand(tokens.shape, device=tokens.device) < self.teacher_forcing  # (B, 1)
                tokens = torch.where(told, tokens, logits.detach().argmax(dim=-1))
        return written


class Seq2Seq:
    """Learn to write the batch's sequence: cross-entropy of each token, given those before it; padding is ignored.

    The loss is the mean over the batch's real tokens; samples without a sequence do not count. The metric
    "token_accuracy" is the share of tokens that are the most probable ones *after the true ones before them*;
    "exact_match" is the share of sequences all of whose tokens are. By induction that is the share that greedy search
    writes without a mistake, so nothing has to be decoded to find it. It does not choose the best epoch, for it stays
    at 0 where there are many right answers.

    Args:
        num_tokens: Size V of the vocabulary.
        target: The batch's key of the sequence.
        label_smoothing: Share ε of the target's probability that is spread over all tokens (Szegedy et al. 2016).

    Chapter: finetuning/seq2seq.
    """

    def __init__(self, num_tokens: int, target: str = "target", label_smoothing: float = 0.0) -> None:
        self.num_tokens, self.name, self.label_smoothing = num_tokens, target, label_smoothing

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Return the mean cross-entropy of logits (B, V, L - 1)."""
        return ignoring(
            lambda target: nn.functional.cross_entropy(output, target, label_smoothing=self.label_smoothing),
            self.target(batch),
        )

    def metrics(self) -> dict[str, Metric]:
        """Return fresh metrics; the first is the one that chooses the best epoch."""
        return {
            "token_accuracy": MulticlassAccuracy(self.num_tokens, average="micro", ignore_index=IGNORED),
            "exact_match": _ExactMatch(self.num_tokens, ignore_index=IGNORED),
        }

    def target(self, batch: Batch) -> Tensor:
        """Return the tokens to write, without the start, -100 in place of padding: (B, L - 1), at least one.

        Raises:
            ValueError: If the batch has no such sequence.
        """
        ids, real = target_of(batch, self.name)
        return torch.where(real, ids, IGNORED)[:, 1:]


class BLEU(BLEUScore):
    """BLEU (Papineni et al. 2002) of texts, whose words are divided by spaces; references may come in any order.

    The brevity penalty compares with the reference whose length is nearest; of two that are equally near, with the
    shorter one, as sacrebleu does. (torchmetrics takes the one that comes first: .85 or 1.0 for the same references.)

    Chapter: finetuning/seq2seq.
    """

    def update(self, preds: Sequence[str], target: Sequence[Sequence[str]]) -> None:
        """Add texts, and for each its references."""
        super().update(preds, [sorted(references, key=lambda text: (len(text.split()), text)) for references in target])


class _ExactMatch(MulticlassExactMatch):
    """The share of sequences without a mistake. (torchmetrics counts one that has no token as right.)"""

    def update(self, preds: Tensor, target: Tensor) -> None:
        known = (target != IGNORED).any(dim=1)
        if known.any():
            super().update(preds[known], target[known])


def target_of(batch: Batch, name: str) -> tuple[Tensor, Tensor]:
    """Return a batch's sequences (B, L), L at least 2, and their mask (B, L): all False where a sample has none.

    Raises:
        ValueError: If the batch has no such sequence.
    """
    if name not in batch.data:
        raise ValueError(f"the batch has no {name!r}; it has {sorted(batch.data)}")
    short = max(0, 2 - batch.data[name].shape[1])  # of a batch in which no sample has one
    ids, mask = (nn.functional.pad(part, (0, short)) for part in (batch.data[name], batch.mask[name]))
    return ids, mask & batch.present[name][:, None]
