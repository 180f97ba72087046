"""From a network's outputs to a labelling: greedy, prefix beam search, a lexicon, and the best path of a grammar.

Chapter: finetuning/speech.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

MINUS_INF = -math.inf
Labelling = tuple[int, ...]


def collapse(path: Iterable[int], *, blank: int = 0) -> list[int]:
    """Merge a path's repeats, then drop its blanks: Graves et al.'s map from paths to labellings.

    Chapter: finetuning/speech.

    Examples:
        >>> collapse([1, 1, 0, 1, 2, 2])
        [1, 1, 2]
    """
    found, last = [], blank
    for token in path:
        if token not in (last, blank):
            found.append(token)
        last = token
    return found


def ctc_greedy(log_probs: Tensor, mask: Tensor | None = None, *, blank: int = 0) -> list[list[int]]:
    """Take the most probable token of each step and collapse: the best path, which need not be the best labelling.

    Args:
        log_probs: (B, T, V).
        mask: bool (B, T), True where a step is real.
        blank: Which token is the blank.

    Chapter: finetuning/speech.

    Examples:
        >>> ctc_greedy(torch.tensor([[[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]]).log())
        [[1, 1]]
    """
    paths = log_probs.argmax(dim=2)  # (B, T)
    if mask is not None:
        paths = torch.where(mask, paths, blank)
    return [collapse(path, blank=blank) for path in paths.tolist()]


class Lexicon:
    """The labellings that are allowed, as an automaton: a trie of words, or places that are filled one after the other.

    A state is the set of nodes in which a reader may be; `start` is the first. Nodes are numbered, node 0 is the root.

    Args:
        edges: For each node: token → next node.
        final: Nodes in which a word, or the sentence, is complete.
        repeat: Whether another word may follow a complete one.

    Chapter: finetuning/speech.
    """

    def __init__(self, edges: list[dict[int, int]], final: set[int], *, repeat: bool = False) -> None:
        self.edges = edges
        self.final = final
        self.repeat = repeat
        self.start = frozenset([0])

    @classmethod
    def from_words(cls, words: Iterable[Sequence[int]], *, repeat: bool = False) -> "Lexicon":
        """Return the trie (字典树) of words; with `repeat`, any sequence of them is allowed."""
        edges: list[dict[int, int]] = [{}]
        final = set()
        for word in words:
            node = 0
            for token in word:
                if token not in edges[node]:
                    edges[node][token] = len(edges)
                    edges.append({})
                node = edges[node][token]
            final.add(node)
        return cls(edges, final, repeat=repeat)

    @classmethod
    def of_slots(cls, slots: Sequence[Iterable[int]]) -> "Lexicon":
        """Return the grammar in which each place takes one of its tokens; branches join, so it stays small."""
        return cls([dict.fromkeys(slot, k + 1) for k, slot in enumerate(slots)] + [{}], {len(slots)})

    def step(self, state: frozenset[int], token: int) -> frozenset[int]:
        """Return the state after one more token; the empty set if that is not allowed."""
        after = {self.edges[node][token] for node in state if token in self.edges[node]}
        if self.repeat and after & self.final:
            after.add(0)
        return frozenset(after)

    def tokens(self, state: frozenset[int]) -> set[int]:
        """Return the tokens that may come next."""
        return {token for node in state for token in self.edges[node]}

    def is_complete(self, state: frozenset[int]) -> bool:
        """Return whether the labelling may end here."""
        return bool(state & self.final)


def prefix_beam_search(
    log_probs: Tensor,
    *,
    width: int = 16,
    lexicon: Lexicon | None = None,
    blank: int = 0,
    cutoff_top_n: int | None = None,
    cutoff_prob: float = 0.0,
) -> list[tuple[Labelling, float]]:
    """Search for the most probable labelling of one sample (Graves et al. 2006; Hannun et al. 2014).

    The beam holds prefixes of labellings. For each it keeps two sums over paths: those that end in a blank, and those
    that end in the prefix's last token; only after a blank does the same token again make the labelling longer. Before
    each step but the first, all but the `width` most probable prefixes are dropped. If none is ever dropped, the result
    is exact. With width 1 it is not greedy decoding: it compares sums over paths, where greedy compares single paths.

    Each prefix is extended by each token, so the cost of a step is `width · V`: with a vocabulary of thousands of
    characters, minutes for a sentence. The two cut-offs try, at each step, only tokens that have a chance; the cost is
    then `width · n`, whatever V. What is lost: paths with a token that was cut off at its step. So probabilities come
    out lower, by at most `cutoff_prob · V` a step, and a labelling is missed, or ranked too low, if each of its paths
    needs such a token; with `cutoff_top_n` that is where more than n tokens are plausible at once. On outputs of a
    trained network, of which a few tokens hold nearly all, the best labelling stays the same.

    Args:
        log_probs: (T, V); cut padding off first.
        width: Prefixes that are kept after each step.
        lexicon: Which labellings are allowed; by default all.
        blank: Which token is the blank. The blank is never cut off, nor is the last token of a prefix going on.
        cutoff_top_n: Tokens that prefixes are extended by at each step: the n most probable ones; by default all.
        cutoff_prob: Probability that a token must have at a step to extend a prefix; 0, the default, cuts none off.

    Returns:
        (labelling, log-probability) of the prefixes at the end, best first, only complete ones. The probabilities are
        lower bounds: paths through prefixes that were dropped are not in them. With a narrow beam and a lexicon the
        list may be empty.

    Raises:
        ValueError: If `log_probs` is not (T, V), `width` or `cutoff_top_n` is not positive, or `cutoff_prob` is not
            from 0 to below 1.

    Chapter: finetuning/speech.
    """
    if log_probs.ndim != 2 or width < 1:
        raise ValueError(f"log_probs is {tuple(log_probs.shape)}, width {width}; expected (T, V), and at least 1")
    if not (cutoff_top_n is None or cutoff_top_n >= 1) or not 0 <= cutoff_prob < 1:
        raise ValueError(f"cutoff_top_n is {cutoff_top_n}, cutoff_prob {cutoff_prob}; expected at least 1, and a "
                         "probability from 0 to below 1")  # fmt: skip
    tried = _tried(log_probs, blank, cutoff_top_n, cutoff_prob)
    states: dict[Labelling, frozenset[int]] = {(): lexicon.start if lexicon else frozenset()}
    beam: dict[Labelling, tuple[float, float]] = {
        (): (0.0, MINUS_INF)
    }  # prefix → log P(ends in blank), log P(in a token)
    for emit, free, chosen in zip(log_probs.tolist(), tried, map(set, tried), strict=True):
        ends: defaultdict[Labelling, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
        for prefix, (in_blank, in_token) in beam.items():
            either = _add(in_blank, in_token)
            ends[prefix][0].append(either + emit[blank])
            if prefix:
                ends[prefix][1].append(in_token + emit[prefix[-1]])  # the same sound goes on
            for token in free if lexicon is None else lexicon.tokens(states[prefix]) & chosen:
                longer = (*prefix, token)
                if lexicon is not None and longer not in states:
                    states[longer] = lexicon.step(states[prefix], token)
                before = in_blank if prefix and token == prefix[-1] else either
                ends[longer][1].append(before + emit[token])
        sums = {prefix: (_add(*blanks), _add(*said)) for prefix, (blanks, said) in ends.items()}
        beam = dict(sorted(sums.items(), key=lambda item: _add(*item[1]), reverse=True)[:width])
    whole = [prefix for prefix in beam if lexicon is None or lexicon.is_complete(states[prefix])]
    return [(prefix, _add(*beam[prefix])) for prefix in whole]


def _tried(log_probs: Tensor, blank: int, top_n: int | None, prob: float) -> list[list[int]]:
    """Return for each step the tokens, ascending, by which prefixes are extended."""
    scores = log_probs.detach().cpu().clone()
    scores[:, blank] = MINUS_INF
    keep = torch.ones_like(scores, dtype=torch.bool)
    if top_n is not None and top_n < scores.shape[1]:
        keep = torch.zeros_like(keep).scatter_(1, scores.topk(top_n, dim=1).indices, True)
    if prob > 0:
        keep &= scores >= math.log(prob)
    keep[:, blank] = False
    return [row.nonzero()[:, 0].tolist() for row in keep]


def best_path(log_probs: Tensor, slots: Sequence[Sequence[int]], *, blank: int = 0) -> tuple[Tensor, Tensor]:
    """Return the labelling with the most probable single path, one token for each place of a grammar (Viterbi).

    It is exact for the best path, for a whole batch at once, where a beam search is exact for neither. As greedy
    decoding it maximises over paths and does not sum.

    Args:
        log_probs: (B, T, V). In padding the blank must be certain, as `SpeechRecognizer` gives it.
        slots: The tokens that each of the L places may take; none of them the blank.
        blank: Which token is the blank.

    Returns:
        Tokens, int64 (B, L), and log-probabilities (B,); -inf where there are too few steps.

    Raises:
        ValueError: If there are no places, or one allows nothing or the blank.

    Chapter: finetuning/speech.
    """
    if not slots or any(not slot or blank in slot for slot in slots):
        raise ValueError(f"slots are {slots}; expected at least one, each with tokens other than the blank ({blank})")
    # States in the order of time: blank, a token of place 0, blank, a token of place 1, …, blank.
    found = [(2 * k + 1, token) for k, slot in enumerate(slots) for token in slot]
    found += [(2 * k, blank) for k in range(len(slots) + 1)]
    stage, token = torch.tensor(found, device=log_probs.device).T  # (S,) each
    ahead = stage[:, None] - stage  # (S, S): to, from
    stay = torch.eye(len(found), dtype=torch.bool, device=log_probs.device)
    skip = (ahead == 2) & (stage % 2 == 1) & (token[:, None] != token)  # past a blank, as in CTC's lattice
    closed = torch.where(stay | (ahead == 1) | skip, 0.0, MINUS_INF).to(log_probs)
    emitted = log_probs[:, :, token]  # (B, T, S)
    best, came = torch.where(stage < 2, emitted[:, 0], MINUS_INF), []
    for t in range(1, log_probs.shape[1]):
        best, way = (best[:, None] + closed).max(dim=2)  # (B, S)
        best = best + emitted[:, t]
        came.append(way)
    score, state = torch.where(stage >= 2 * len(slots) - 1, best, MINUS_INF).max(dim=1)  # (B,)
    rows = torch.arange(len(log_probs), device=log_probs.device)
    labelling = token.new_full((len(rows), 2 * len(slots) + 1), blank)  # by stage
    labelling[rows, stage[state]] = token[state]
    for way in reversed(came):
        state = way[rows, state]
        labelling[rows, stage[state]] = token[state]
    return labelling[:, 1::2], score


def _add(*logs: float) -> float:
    """Add probabilities given as logarithms."""
    most = max(logs, default=MINUS_INF)
    return most if most == MINUS_INF else most + math.log(sum(math.exp(log - most) for log in logs))
