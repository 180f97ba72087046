"""From lips, voice or both to words: encoders of frames, a recurrent recogniser, and objectives that train it.

Chapter: finetuning/speech.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torchmetrics import Metric
from torchmetrics.text import WordErrorRate

from mmlearn.batch import Batch, check_present
from mmlearn.finetuning.classification.objective import ignoring
from mmlearn.finetuning.speech.decoding import ctc_greedy
from mmlearn.labels import IGNORED
from mmlearn.missing import MissingEmbedding, where_present, zero_missing
from mmlearn.nn.functional import like_weights, standardize

BLANK = 0  # the token that means "nothing new"; in frame labels, silence
CERTAIN = -1e4  # log-probability of all tokens but the blank in padding: zero, and still finite in half precision


class VoiceEncoder(nn.Module):
    """Encode a log-mel spectrogram: two convolutions along time, each halving it; 100 steps a second become 25.

    Args:
        num_mels: Mel bands M of the input.
        dim: Width of the output.
        dropout: Share of features dropped.

    Chapter: finetuning/speech.
    """

    def __init__(self, num_mels: int = 64, dim: int = 128, dropout: float = 0.2) -> None:
        super().__init__()
        self.dim = dim
        self.convolutions = nn.ModuleList(nn.Conv1d(fan_in, dim, 5, stride=2, padding=2) for fan_in in (num_mels, dim))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in self.convolutions)
        self.dropout = nn.Dropout(dropout)

    def forward(self, mel: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Encode log-mel (B, M, T) to (B, N, dim) with N = ⌈T / 4⌉, and its mask (B, T) to (B, N)."""
        x = like_weights(standardize(mel, mask), self)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            if mask is not None:
                x = x.masked_fill(~mask[:, None], 0.0)  # padding looks like what a convolution pads with
                mask = mask[:, ::2]
            x = nn.functional.gelu(norm(convolution(x).transpose(1, 2))).transpose(1, 2)  # (B, dim, N)
        return self.dropout(x.transpose(1, 2)), mask


class LipEncoder(nn.Module):
    """Encode grey pictures of a mouth, each with its neighbours in time, to one vector a frame.

    Patches of 4x4 pixels in three frames, then a convolution over patches, then one linear layer. Each clip is brought
    to mean 0 and deviation 1, so that light and camera do not matter.

    Args:
        size: Height and width (H, W) of a frame in pixels, multiples of 8.
        dim: Width of the output.
        width: Channels of the patches; doubled by the convolution.
        dropout: Share of features dropped.

    Raises:
        ValueError: If a side is no multiple of 8.

    Chapter: finetuning/speech.
    """

    def __init__(self, size: tuple[int, int] = (24, 32), dim: int = 128, width: int = 32, dropout: float = 0.3) -> None:
        super().__init__()
        if size[0] % 8 or size[1] % 8:
            raise ValueError(f"size is {size}; expected multiples of 8")
        self.dim = dim
        self.patches = nn.Conv2d(3, width, 4, stride=4)  # the three channels are frames t - 1, t, t + 1
        self.convolution = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.norms = nn.ModuleList([nn.GroupNorm(4, width), nn.GroupNorm(4, 2 * width)])
        self.project = nn.Linear(2 * width * (size[0] // 8) * (size[1] // 8), dim)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, video: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Encode video (B, 1, T, H, W), bytes or floats, to (B, T, dim); `mask` (B, T) is passed on."""
        frames = video[:, 0]  # (B, T, H, W)
        x = standardize(frames.movedim(1, -1), mask).movedim(-1, 1)
        if mask is not None:
            x = torch.where(mask[:, :, None, None], x, 0.0)
        still = torch.zeros_like(x[:, :1])
        x = torch.stack([torch.cat([still, x[:, :-1]], 1), x, torch.cat([x[:, 1:], still], 1)], dim=2)
        x = self.patches(like_weights(x.flatten(0, 1), self.patches))  # (B * T, 3, H, W) → (B * T, width, H / 4, W / 4)
        x = self.convolution(nn.functional.gelu(self.norms[0](x)))  # (B * T, 2 width, H / 8, W / 8)
        x = self.project(nn.functional.gelu(self.norms[1](x)).flatten(1)).unflatten(
            0, video.shape[:1] + video.shape[2:3]
        )
        return self.dropout(nn.functional.gelu(self.norm(x))), mask  # (B, T, dim)


class SpeechRecognizer(nn.Module):
    """Encode frames of lips, voice or both, read them both ways with an LSTM, and give each step's token probabilities.

    The streams must run at one rate: their encoders give the same number of steps for a batch, e.g. 25 a second. Their
    vectors are put one after the other, step by step. In the place of an absent modality, and of its padding, stands a
    learned vector, chosen before any layer. In steps that are padding in all streams the blank is certain, so that
    neither CTC nor a decoder needs to know the lengths.

    Args:
        encoders: name → module that maps `(tensor, mask)` to steps (B, N, encoder.dim) and their mask, such as
            `LipEncoder`.
        num_tokens: Number of tokens V; token 0 is the blank.
        hidden: Width of the recurrent layer, each way.
        depth: Recurrent layers.
        dropout: Share of features dropped between layers and before the head.

    Graves et al. (2006) for the network and its training. Chapter: finetuning/speech.
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        num_tokens: int,
        hidden: int = 128,
        depth: int = 1,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        dims: dict[str, int] = {name: encoders[name].dim for name in sorted(encoders)}  # type: ignore[misc]
        self.encoders = nn.ModuleDict({name: encoders[name] for name in dims})
        self.absent = MissingEmbedding(dims)
        self.recurrent = nn.LSTM(
            sum(dims.values()),
            hidden,
            depth,
            batch_first=True,
            bidirectional=True,
            dropout=dropout if depth > 1 else 0.0,
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * hidden, num_tokens)

    def forward(self, batch: Batch) -> Tensor:
        """Return log-probabilities (B, N, V) of the tokens at each step.

        Raises:
            ValueError: If the batch lacks a modality of this model, a sample has none of them, or streams give
                different numbers of steps.
        """
        x, mask = self.steps(batch)
        log_probs = self.head(self.dropout(x)).float().log_softmax(dim=2)  # (B, N, V)
        if mask is None:
            return log_probs
        silence = log_probs.new_full(log_probs.shape[2:], CERTAIN)
        silence[BLANK] = 0.0
        return torch.where(mask[..., None], log_probs, silence)

    def steps(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return what the recurrent layer knows at each step, (B, N, 2 hidden), and which steps are real, (B, N)."""
        lacking = [name for name in self.encoders if name not in batch.data]
        if lacking:
            raise ValueError(f"the batch lacks {lacking}; this model reads {sorted(self.encoders)}")
        check_present({name: batch.present[name] for name in self.encoders})
        vectors, real = [], []
        for name, encoder in self.encoders.items():
            there = batch.present[name]  # (B,)
            mask = batch.mask.get(name)
            if mask is not None:
                mask = mask | ~there[:, None]  # an absent stream's zeros are read, and then not used
            x, mask = encoder(zero_missing(batch.data[name], there), mask)
            steps = there[:, None].expand(x.shape[:2]) if mask is None else mask & there[:, None]  # (B, N)
            vectors.append(where_present(steps, x, self.absent[name]))
            real.append(steps)
        counts = {name: x.shape[1] for name, x in zip(self.encoders, vectors, strict=True)}
        if len(set(counts.values())) > 1:
            raise ValueError(f"the streams have {counts} steps; expected equal numbers: cut or pad them to one length")
        return self._read(torch.cat(vectors, dim=2), torch.stack(real).any(dim=0))

    def _read(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        if bool(mask.all()):
            return self.recurrent(x)[0], None
        lengths = mask.sum(dim=1).cpu()  # where packing wants them
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True, total_length=x.shape[1])
        return y, mask


class TokenErrorRate(WordErrorRate):
    """Edits between greedy decoding and the tokens, per token: the word error rate where tokens are words.

    Chapter: finetuning/speech.
    """

    def update(self, log_probs: Tensor, tokens: Tensor) -> None:  # type: ignore[override]
        """Add samples: log-probabilities (B, N, V), and tokens (B, L) padded with blanks; rows of -100 are left out."""
        known = _known(tokens)
        log_probs, tokens = log_probs[known], tokens[known]
        if not len(tokens):
            return
        said = [" ".join(map(str, labelling)) for labelling in ctc_greedy(log_probs, blank=BLANK)]
        meant = [" ".join(str(token) for token in row if token != BLANK) for row in tokens.tolist()]
        super().update(said, meant)


class CTC:
    """Learn a token sequence whose times are unknown: its negative log-probability by CTC, per token.

    Each sample's loss is divided by its number of tokens before the mean is taken, as `reduction="mean"` of
    `torch.nn.functional.ctc_loss` does. Samples without the label (`Batch.labelled`, or a row of -100) do not count.

    Args:
        label: The key of the batch's labels: tokens, int (B, L), padded with 0, the blank, or with -100.

    Chapter: finetuning/speech.
    """

    def __init__(self, label: str = "tokens") -> None:
        self.label = label

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Return the loss of log-probabilities (B, N, V), in whose padding the blank is certain.

        Raises:
            ValueError: If a sample has fewer steps than its tokens need (found on the CPU; elsewhere the check would
                wait for the device, and the loss is infinite).
        """
        tokens = self.target(batch)
        known = _known(tokens)
        tokens = torch.where(known[:, None], tokens, BLANK)
        counts = (tokens != BLANK).sum(dim=1)  # (B,)
        lengths = torch.full_like(counts, output.shape[1])
        losses = nn.functional.ctc_loss(output.transpose(0, 1), tokens, lengths, counts, BLANK, reduction="none")
        losses = torch.where(known, losses, 0.0)
        if losses.device.type == "cpu" and not bool(losses.isfinite().all()):
            row = int((~losses.isfinite()).nonzero()[0])
            count, now = int(counts[row]), tokens[row]
            repeats = int(((now[1:] == now[:-1]) & (now[1:] != BLANK)).sum())
            raise ValueError(
                f"the loss of sample {row} is {losses[row].item()}: {count} tokens, {repeats} of them repeated, need "
                f"{count + repeats} steps; its output has {output.shape[1]}, padding included"
            )
        return (losses / counts.clamp(min=1)).mean() * (len(known) / known.sum().clamp(min=1))

    def metrics(self) -> dict[str, Metric]:
        """Return fresh metrics; the first is the one that chooses the best epoch."""
        return {"error_rate": TokenErrorRate()}

    def target(self, batch: Batch) -> Tensor:
        """Return the tokens (B, L), padded with the blank; a row of -100 where a sample lacks them.

        Raises:
            ValueError: If the batch has no such label, or it is not whole numbers (B, L).
        """
        tokens, labelled = batch.label(self.label)
        if tokens.device.type == "cpu" and not labelled.any():
            return torch.full((len(tokens), 1), IGNORED)
        if tokens.is_floating_point() or tokens.ndim != 2:
            raise ValueError(
                f"label {self.label!r} is {tokens.dtype} {tuple(tokens.shape)}; expected whole numbers (B, L)"
            )
        missing = ~labelled if self.label in batch.labelled else ~_known(tokens)  # (B,)
        tokens = torch.where(tokens == IGNORED, BLANK, tokens)
        return torch.where(missing[:, None], IGNORED, tokens)


class FrameWise(CTC):
    """Learn a token for each step, where a forced alignment tells it: cross-entropy, step by step.

    Its labels are one path of CTC's lattice, with silence as the blank. So the same network and the same decoders serve
    both, and training may begin with this and go on with `CTC`. The loss on validation samples chooses the best epoch:
    the best tokens of neighbouring steps flicker for long, and greedy decoding counts each change as a word.

    Args:
        frames: The key of the batch's labels: a token for each step, int (B, N); -100 where a step does not count.
        label: As in `CTC`.

    Chapter: finetuning/speech.
    """

    def __init__(self, frames: str = "frames", label: str = "tokens") -> None:
        super().__init__(label)
        self.frames = frames

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Return the mean negative log-probability of the steps' tokens under log-probabilities (B, N, V).

        Raises:
            ValueError: If the batch has no such labels, or they have another number of steps (they may be fewer where
                the rest is padding, in which the blank is certain).
        """
        frames, labelled = batch.label(self.frames)
        if frames.device.type == "cpu" and not labelled.any():
            frames = torch.full(output.shape[:2], IGNORED)
        elif frames.ndim == 2 and frames.shape[1] < output.shape[1]:  # the longest sample may be one without the label
            rest = output.detach()[:, frames.shape[1] :]  # (B, N', V)
            padding = (rest.argmax(dim=2) == BLANK) & (rest[..., BLANK + 1 :].amax(dim=2) <= CERTAIN)
            if bool((padding.all(dim=1) | ~labelled).all()):
                frames = nn.functional.pad(frames, (0, rest.shape[1]), value=IGNORED)
        if frames.shape != output.shape[:2]:
            raise ValueError(f"label {self.frames!r} is {tuple(frames.shape)}; expected {tuple(output.shape[:2])}, a "
                             "token for each step")  # fmt: skip
        frames = torch.where(labelled[:, None], frames, IGNORED)
        return ignoring(lambda target: nn.functional.nll_loss(output.transpose(1, 2), target), frames)

    def metrics(self) -> dict[str, Metric]:
        """Return no metric: the loss decides."""
        return {}


def _known(tokens: Tensor) -> Tensor:
    """Return which rows of (B, L) are not all -100, bool (B,); a row without any place is known: no token."""
    return ~(tokens == IGNORED).all(dim=1) | (tokens.shape[1] == 0)
