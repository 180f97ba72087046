"""Connectionist temporal classification: the probability of a short label sequence under a long sequence of outputs.

Graves et al. (2006). At each of T steps a network gives probabilities of V tokens, one of which, the blank, means "no
new token". A path takes one token a step; merging its repeats and then dropping its blanks gives its labelling. A
labelling's probability is the sum over all its paths. These functions are written to be read, and are slower than
`torch.nn.functional.ctc_loss`, which the objectives of `mmlearn.finetuning.speech` use.

Chapter: finetuning/speech.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmlearn.nn.functional import to_float32

LOG_ZERO = -1e30  # log of 0; a finite one, because the gradient of logsumexp over nothing but -inf is NaN


@dataclass(frozen=True)
class Span:
    """A token of an alignment, and the steps [start, end) in which a path says it.

    Chapter: finetuning/speech.
    """

    token: int
    start: int
    end: int


def ctc_log_likelihood(log_probs: Tensor, tokens: Tensor, mask: Tensor | None = None, *, blank: int = 0) -> Tensor:
    """Return the log-probability of each labelling, summed over all its paths: float (B,).

    Its negative is `ctc_loss(…, reduction="none")`. A labelling that no path can give, because there are fewer steps
    than tokens (and a blank between equal neighbours), has -inf and no gradient.

    Args:
        log_probs: Log-probabilities (B, T, V) of the tokens at each step.
        tokens: The labelling, int (B, L), padded at the end with the blank.
        mask: bool (B, T), True where a step is real; padding comes at the end.
        blank: Which token is the blank.

    Raises:
        ValueError: If shapes do not fit, or a token is not in 0 … V - 1.

    Graves et al. (2006), equations 5 to 8. Chapter: finetuning/speech.
    """
    total = _ends(ctc_lattice(log_probs, tokens, mask, blank=blank)[:, -1], tokens, blank).logsumexp(dim=0)
    return torch.where(total > LOG_ZERO / 2, total, -torch.inf)


def ctc_lattice(log_probs: Tensor, tokens: Tensor, mask: Tensor | None = None, *, blank: int = 0) -> Tensor:
    """Return the forward variables log α (B, T, 2 L + 1): all ways to stand at a state of the lattice after a step.

    The states are the labelling with a blank before, between and after its tokens. What cannot be reached is -1e30.
    Arguments and errors as in `ctc_log_likelihood`.

    Chapter: finetuning/speech.
    """
    _, skips, emitted = _states(log_probs, tokens, mask, blank)
    alpha = _first(emitted)  # (B, S)
    steps = [alpha]
    for t in range(1, log_probs.shape[1]):
        new = torch.logsumexp(_ways(alpha, skips), dim=0) + emitted[:, t]
        alpha = new if mask is None else torch.where(mask[:, t, None], new, alpha)  # padding passes it on
        steps.append(alpha)
    return torch.stack(steps, dim=1)


def ctc_align(
    log_probs: Tensor, tokens: Tensor, mask: Tensor | None = None, *, blank: int = 0
) -> tuple[Tensor, Tensor]:
    """Return the most probable path of each labelling (Viterbi), and its log-probability: forced alignment.

    Returns:
        Paths, int64 (B, T), blank in padding and where no path exists; and log-probabilities (B,), -inf there.

    Arguments and errors as in `ctc_log_likelihood`. Chapter: finetuning/speech.
    """
    states, skips, emitted = _states(log_probs, tokens, mask, blank)
    best, came = _first(emitted), []
    for t in range(1, log_probs.shape[1]):
        new, way = _ways(best, skips).max(dim=0)  # (B, S): from this state, the one before, or two before
        new = new + emitted[:, t]
        if mask is not None:
            new, way = torch.where(mask[:, t, None], new, best), torch.where(mask[:, t, None], way, 0)
        best = new
        came.append(way)
    score, end = _ends(best, tokens, blank).max(dim=0)  # (B,)
    score = torch.where(score > LOG_ZERO / 2, score, -torch.inf)
    rows = torch.arange(len(tokens), device=tokens.device)
    state = 2 * (tokens != blank).sum(dim=1) - end  # (B,): the last blank, or the last token
    path = [states[rows, state]]
    for way in reversed(came):
        state = state - way[rows, state]
        path.append(states[rows, state])
    paths = torch.stack(path[::-1], dim=1)  # (B, T)
    real = score.isfinite()[:, None] if mask is None else mask & score.isfinite()[:, None]
    return torch.where(real, paths, blank), score


def spans(path: Tensor, *, blank: int = 0) -> list[Span]:
    """Return the tokens of a path int (T,) and when each is said.

    Chapter: finetuning/speech.
    """
    found: list[Span] = []
    steps = path.tolist()
    start = 0
    for t in range(1, len(steps) + 1):
        if t == len(steps) or steps[t] != steps[start]:
            if steps[start] != blank:
                found.append(Span(steps[start], start, t))
            start = t
    return found


def _states(log_probs: Tensor, tokens: Tensor, mask: Tensor | None, blank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the states (B, S) with S = 2 L + 1, which may be reached by skipping a blank, and emissions (B, T, S)."""
    if log_probs.ndim != 3 or not log_probs.shape[1] or tokens.ndim != 2 or len(tokens) != len(log_probs):
        raise ValueError(f"log_probs is {tuple(log_probs.shape)}, tokens {tuple(tokens.shape)}; expected (B, T, V) "
                         "with at least one step, and (B, L)")  # fmt: skip
    if mask is not None and mask.shape != log_probs.shape[:2]:
        raise ValueError(f"mask is {tuple(mask.shape)}; expected {tuple(log_probs.shape[:2])}")
    if mask is not None and not (bool(mask[:, 0].all()) and bool((mask[:, 1:] <= mask[:, :-1]).all())):
        raise ValueError(
            "mask has padding before a real step, or a sample without any; expected real steps, then padding"
        )
    if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < log_probs.shape[2]:
        raise ValueError(f"tokens run from {int(tokens.min())} to {int(tokens.max())}; expected 0 to "
                         f"{log_probs.shape[2] - 1}")  # fmt: skip
    real = tokens != blank
    if not bool((real[:, 1:] <= real[:, :-1]).all()):
        raise ValueError(f"tokens have a blank ({blank}) before a token; expected blanks as padding at the end only")
    states = tokens.new_full((len(tokens), 2 * tokens.shape[1] + 1), blank, dtype=torch.int64)
    states[:, 1::2] = tokens  # blank, l₁, blank, l₂, …, blank
    skips = torch.zeros_like(states, dtype=torch.bool)
    skips[:, 2:] = (states[:, 2:] != blank) & (states[:, 2:] != states[:, :-2])
    emitted = log_probs.gather(2, states[:, None].expand(-1, log_probs.shape[1], -1))  # (B, T, S)
    return states, skips, to_float32(emitted).clamp(min=LOG_ZERO)


def _first(emitted: Tensor) -> Tensor:
    """A path begins with the first blank or the first token: log α after one step, (B, S)."""
    begins = torch.arange(emitted.shape[2], device=emitted.device) < 2
    return torch.where(begins, emitted[:, 0], LOG_ZERO)


def _ways(alpha: Tensor, skips: Tensor) -> Tensor:
    """Log-probabilities of the three ways into each state, (3, B, S): stay, go on by one, skip a blank."""
    never = torch.full_like(alpha[:, :2], LOG_ZERO)
    one = torch.cat([never[:, :1], alpha[:, :-1]], dim=1)
    two = torch.cat([never, alpha[:, :-2]], dim=1)[:, : alpha.shape[1]]
    return torch.stack([alpha, one, torch.where(skips, two, LOG_ZERO)])


def _ends(alpha: Tensor, tokens: Tensor, blank: int) -> Tensor:
    """What stands at the two states in which a path may end: the last blank and the last token, (2, B)."""
    count = (tokens != blank).sum(dim=1, keepdim=True)  # (B, 1)
    token = alpha.gather(1, (2 * count - 1).clamp(min=0))
    return torch.cat([alpha.gather(1, 2 * count), torch.where(count > 0, token, LOG_ZERO)], dim=1).T
