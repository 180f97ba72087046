"""From a model that gives the next token's probabilities to a sequence: greedy search and beam search.

Both ask a function for one step of many hypotheses, and know nothing else of the model:

    logits, state = step(tokens, state)

`tokens` (B, W) are the last token of each of W hypotheses of each sample, `logits` (B, W, V), and `state` is a tuple of
tensors (B, W, …). What is the same for all hypotheses of a sample, such as the encoder's steps, need not be in it.

Chapter: finetuning/seq2seq.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mmlearn.nn.cells import State

PAD = 0  # follows the end token
Step = Callable[[Tensor, State], tuple[Tensor, State]]


def length_norm(length: Tensor, penalty: float) -> Tensor:
    """Return what a log-probability is divided by: ((5 + length) / 6) ** penalty (Wu et al. 2016, equation 14).

    Args:
        length: Tokens of a hypothesis, the end token included.
        penalty: 0 = no normalisation, which favours short sequences; 1 = nearly the mean per token.

    Chapter: finetuning/seq2seq.
    """
    return ((5 + length) / 6) ** penalty


@torch.no_grad()
def greedy_search(step: Step, state: State, *, start: int, end: int, max_length: int) -> tuple[Tensor, Tensor]:
    """Take the most probable token, again and again, until the end token.

    Args:
        step: See above.
        state: The state before the first token, tensors (B, 1, …).
        start: Token that stands before the first.
        end: Token that ends a sequence.
        max_length: Most tokens, the end included.

    Returns:
        Tokens (B, L), with the end token and then padding, and their log-probabilities (B,).

    Chapter: finetuning/seq2seq.
    """
    last = torch.full((len(state[0]), 1), start, device=state[0].device)  # (B, 1)
    ended = torch.zeros_like(last, dtype=torch.bool)
    total = torch.zeros_like(last, dtype=torch.float32)
    tokens = []
    for _ in range(max_length):
        logits, state = step(last, state)
        best, last = logits.float().log_softmax(dim=-1).max(dim=-1)  # (B, 1)
        total = total + torch.where(ended, 0.0, best)
        last = torch.where(ended, PAD, last)
        tokens.append(last)
        ended = ended | (last == end)
        if bool(ended.all()):
            break
    return torch.cat(tokens, dim=1), total[:, 0]


@torch.no_grad()
def beam_search(
    step: Step, state: State, *, start: int, end: int, max_length: int, width: int = 5, length_penalty: float = 0.6
) -> tuple[Tensor, Tensor]:
    """Keep the `width` best hypotheses at each step instead of one.

    Hypotheses are ranked by log-probability / `length_norm`. One that has ended stays in the beam as long as it is
    among the best; one that has not ended at `max_length` counts as it is. Width 1 is greedy search. With a width of
    at least the number of all sequences nothing is ever dropped, and the search is exhaustive.

    Args:
        step: See above.
        state: The state before the first token, tensors (B, 1, …).
        start: Token that stands before the first.
        end: Token that ends a sequence.
        max_length: Most tokens, the end included.
        width: Hypotheses W that are kept.
        length_penalty: See `length_norm`.

    Returns:
        Tokens (B, W, L), the best hypothesis first, and what each is ranked by, (B, W). If there are fewer than W
        hypotheses, the last ones have the score -inf.

    Raises:
        ValueError: If `width` is not positive.

    Chapter: finetuning/seq2seq.
    """
    if width < 1:
        raise ValueError(f"width is {width}; expected at least 1")
    size, on = len(state[0]), state[0].device
    state = tuple(part.expand(-1, width, *part.shape[2:]) for part in state)  # (B, W, …)
    tokens = torch.full((size, width, 1), start, device=on)  # (B, W, 1 + steps so far)
    total = torch.full((size, width), -torch.inf, device=on)  # log-probabilities
    total[:, 0] = 0.0  # at first there is one hypothesis: the empty one
    score, ended, length = total, torch.zeros_like(total, dtype=torch.bool), torch.zeros_like(total)
    rows = torch.arange(size, device=on)[:, None]  # (B, 1)
    for _ in range(max_length):
        logits, state = step(tokens[:, :, -1], state)
        log_p = logits.float().log_softmax(dim=-1)  # (B, W, V)
        padding = torch.full_like(log_p[:1, :1], -torch.inf)  # after the end comes padding, for sure
        padding[..., PAD] = 0.0
        extended = total[..., None] + torch.where(ended[..., None], padding, log_p)  # (B, W, V)
        length = length + ~ended
        ranked = extended / length_norm(length, length_penalty)[..., None]
        score, place = ranked.flatten(1).topk(width)  # (B, W) of W * V
        parent, token = place // log_p.shape[-1], place % log_p.shape[-1]
        state = tuple(part[rows, parent] for part in state)
        tokens = torch.cat([tokens[rows, parent], token[..., None]], dim=-1)
        total, length = extended.flatten(1).gather(1, place), length[rows, parent]
        ended = ended[rows, parent] | (token == end)
        if bool(ended.all()):
            break
    return tokens[:, :, 1:], score
