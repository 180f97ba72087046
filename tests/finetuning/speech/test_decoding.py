"""Decoders against the definition: every labelling by CTC's sum, every sentence of a grammar by its best path."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlearn.finetuning.speech.ctc import ctc_align, ctc_log_likelihood
from mmlearn.finetuning.speech.decoding import Lexicon, best_path, collapse, ctc_greedy, prefix_beam_search


def outputs(*shape: int, seed: int = 0, sharp: float = 1.5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (sharp * torch.randn(*shape, generator=generator, dtype=torch.float64)).log_softmax(dim=-1)


def every_labelling(log_probs: torch.Tensor, blank: int = 0) -> dict[tuple[int, ...], float]:
    """labelling → log-probability, for all labellings that T steps can give."""
    steps, size = log_probs.shape
    free = [token for token in range(size) if token != blank]
    found = {}
    for length in range(steps + 1):
        for labelling in itertools.product(free, repeat=length):
            tokens = torch.tensor([labelling], dtype=torch.int64).reshape(1, length)
            value = float(ctc_log_likelihood(log_probs[None], tokens, blank=blank))
            if value > -math.inf:
                found[labelling] = value
    return found


def test_collapse_merges_then_drops():
    assert collapse([0, 1, 1, 0, 1, 2, 2, 0]) == [1, 1, 2]
    assert collapse([1, 0, 0, 2], blank=1) == [0, 2]
    assert collapse([]) == []


def test_greedy_takes_the_best_token_of_each_step():
    path = torch.tensor([[1, 1, 0, 2], [0, 3, 3, 3]])
    log_probs = torch.nn.functional.one_hot(path, 4).float().mul(5).log_softmax(dim=2)
    assert ctc_greedy(log_probs) == [[1, 2], [3]]
    assert ctc_greedy(log_probs, torch.tensor([[True, True, False, False], [True] * 4])) == [[1], [3]]
    assert ctc_greedy(log_probs, blank=3) == [[1, 0, 2], [0]]


@settings(max_examples=30)
@given(st.integers(1, 5), st.integers(2, 3), st.integers(0, 1000), st.data())
def test_a_wide_beam_is_exhaustive_search(steps, size, seed, data):
    blank = data.draw(st.integers(0, size - 1))
    log_probs = outputs(steps, size, seed=seed)
    expected = every_labelling(log_probs, blank)
    found = prefix_beam_search(log_probs, width=1000, blank=blank)
    values = [value for _, value in found]
    assert values == sorted(values, reverse=True)
    for labelling, value in found:
        assert value == pytest.approx(expected.get(labelling, -math.inf), abs=1e-9)
    assert {labelling for labelling, value in found if value > -math.inf} == set(expected)


@settings(max_examples=20)
@given(st.integers(0, 1000), st.booleans())
def test_with_a_lexicon_it_is_exhaustive_search_among_what_is_allowed(seed, repeat):
    words = [(1,), (1, 2), (2, 1), (2, 2, 1)]
    log_probs = outputs(5, 3, seed=seed)
    sentences = set(words)
    if repeat:  # up to five words of one token, two of two, …
        for count in range(2, 6):
            sentences |= {sum(parts, ()) for parts in itertools.product(words, repeat=count)}
    expected = {labelling: v for labelling, v in every_labelling(log_probs).items() if labelling in sentences}
    found = dict(prefix_beam_search(log_probs, width=1000, lexicon=Lexicon.from_words(words, repeat=repeat)))
    found = {labelling: value for labelling, value in found.items() if value > -math.inf}
    assert found.keys() == expected.keys()
    assert all(found[labelling] == pytest.approx(value, abs=1e-9) for labelling, value in expected.items())


def test_a_narrow_beam_gives_lower_bounds():
    log_probs = outputs(7, 4, seed=5)
    exact = dict(prefix_beam_search(log_probs, width=10**6))
    for width in (1, 2, 5, 20):
        found = prefix_beam_search(log_probs, width=width)
        assert len(found) == width
        assert all(value <= exact[labelling] + 1e-9 for labelling, value in found)


def test_width_one_is_not_greedy_and_may_be_better_or_worse():
    """Two steps, (blank .6, a .4) each: the best path is silence (.36), but "a" has .64 in three paths."""
    log_probs = torch.tensor([[0.6, 0.4], [0.6, 0.4]]).log()
    assert ctc_greedy(log_probs[None]) == [[]]
    assert prefix_beam_search(log_probs, width=2)[0] == ((1,), pytest.approx(math.log(0.64)))
    assert prefix_beam_search(log_probs, width=1)[0][0] == ()  # "a" was dropped after the first step
    # Now "a" is kept, and a blank and a second "a" after it are added up: .6 * (.26 + .34) beats .6 * .4.
    log_probs = torch.tensor([[0.4, 0.6, 0.0], [0.26, 0.34, 0.4]]).log()
    assert ctc_greedy(log_probs[None]) == [[1, 2]]
    assert prefix_beam_search(log_probs, width=1)[0] == ((1,), pytest.approx(math.log(0.6 * 0.6)))
    for seed in range(30):  # where outputs are certain, all agree
        sharp = outputs(8, 4, seed=seed, sharp=60)
        assert prefix_beam_search(sharp, width=1)[0][0] == tuple(ctc_greedy(sharp[None])[0])


def test_a_beam_may_end_without_a_complete_word():
    log_probs = torch.tensor([[0.1, 0.8, 0.1], [0.1, 0.8, 0.1]]).log()
    assert prefix_beam_search(log_probs, width=1, lexicon=Lexicon.from_words([(1, 2)])) == []
    assert prefix_beam_search(log_probs, width=9, lexicon=Lexicon.from_words([(1, 2)]))[0][0] == (1, 2)


def test_lexicon_reads_words_and_places():
    lexicon = Lexicon.from_words([(1,), (1, 2)], repeat=True)
    once = lexicon.step(lexicon.start, 1)
    assert lexicon.tokens(lexicon.start) == {1} and lexicon.tokens(once) == {1, 2} and lexicon.is_complete(once)
    assert lexicon.step(lexicon.start, 2) == frozenset() and not lexicon.is_complete(lexicon.start)
    grammar = Lexicon.of_slots([[1, 2], [3], [1, 4]])
    assert len(grammar.edges) == 4
    state = grammar.start
    for token in (2, 3, 1):
        assert not grammar.is_complete(state)
        state = grammar.step(state, token)
    assert grammar.is_complete(state) and grammar.tokens(state) == set()


@settings(max_examples=20)
@given(
    st.integers(3, 7),
    st.integers(0, 1000),
    st.sampled_from([[[1, 2], [3, 4]], [[1, 2], [2, 1], [3]], [[1], [1]], [[4, 1, 2]]]),
)
def test_best_path_of_a_grammar_is_the_best_of_its_sentences(steps, seed, slots):
    log_probs = outputs(3, steps, 5, seed=seed)
    sentences = torch.tensor(list(itertools.product(*slots)))  # (N, L)
    tokens, score = best_path(log_probs, slots)
    for row in range(3):
        _, scores = ctc_align(log_probs[row].expand(len(sentences), -1, -1), sentences)
        assert float(score[row]) == pytest.approx(float(scores.max()), abs=1e-9)
        assert tokens[row].tolist() == sentences[scores.argmax()].tolist()


def test_best_path_with_another_blank_and_too_few_steps():
    log_probs = outputs(2, 5, 4, seed=1)
    moved = log_probs[:, :, [1, 2, 3, 0]]  # token k is now k - 1, and the blank 3
    tokens, score = best_path(log_probs, [[1, 2], [2, 3]])
    others, same = best_path(moved, [[0, 1], [1, 2]], blank=3)
    assert torch.equal(tokens - 1, others) and torch.equal(score, same)
    assert best_path(log_probs[:, :1], [[1], [2]])[1].tolist() == [-math.inf] * 2


def test_the_beam_with_a_grammar_agrees_with_its_sentences():
    log_probs = outputs(6, 5, seed=11)
    slots = [[1, 2], [3, 4]]
    expected = {
        sentence: float(ctc_log_likelihood(log_probs[None], torch.tensor([sentence])))
        for sentence in itertools.product(*slots)
    }
    found = prefix_beam_search(log_probs, width=100, lexicon=Lexicon.of_slots(slots))
    assert found[0][0] == max(expected, key=lambda sentence: expected[sentence])
    assert dict(found) == {sentence: pytest.approx(value) for sentence, value in expected.items()}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: prefix_beam_search(torch.zeros(2, 3, 4)), r"log_probs is \(2, 3, 4\)"),
        (lambda: prefix_beam_search(torch.zeros(2, 3), width=0), "width 0"),
        (lambda: best_path(torch.zeros(1, 2, 3), []), "slots are \\[\\]"),
        (lambda: best_path(torch.zeros(1, 2, 3), [[1], []]), "at least one"),
        (lambda: best_path(torch.zeros(1, 2, 3), [[0, 1]]), "other than the blank .0."),
    ],
)
def test_errors_say_what_was_found(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def confident(steps: int, tokens: int, seed: int = 0) -> torch.Tensor:
    """Outputs as sure as a trained network's."""
    dice = torch.Generator().manual_seed(seed)
    scores = torch.randn(steps, tokens, generator=dice)
    scores[torch.arange(steps), torch.randint(tokens, (steps,), generator=dice)] += 14
    return scores.log_softmax(-1)


class Counting(Lexicon):
    """All labellings are allowed, and each extension of a prefix is counted."""

    def __init__(self, tokens: int) -> None:
        super().__init__([dict.fromkeys(range(1, tokens), 0)], {0})
        self.asked = 0

    def step(self, state: frozenset[int], token: int) -> frozenset[int]:
        self.asked += 1
        return super().step(state, token)


def test_cut_offs_make_the_cost_independent_of_the_vocabulary() -> None:
    """Extensions are counted, not seconds."""
    counts: dict[str, list[int]] = {"whole": [], "top": [], "prob": []}
    for tokens in (50, 200, 800):
        log_probs = confident(12, tokens)
        for name, cut in (("whole", {}), ("top", {"cutoff_top_n": 5}), ("prob", {"cutoff_prob": 1e-3})):
            lexicon = Counting(tokens)
            best = prefix_beam_search(log_probs, width=4, lexicon=lexicon, **cut)[0][0]
            assert best == prefix_beam_search(log_probs, width=4, **cut)[0][0]
            counts[name].append(lexicon.asked)
            whole = best if name == "whole" else whole  # noqa: F821
            assert best == whole
    assert counts["whole"][2] > 10 * counts["whole"][0]
    for name in ("top", "prob"):
        assert max(counts[name]) <= 4 * 5 * 12 and max(counts[name]) < 3 * min(counts[name])


def test_without_a_lexicon_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from mmlearn.finetuning.speech import decoding

    calls, add = [0], decoding._add
    monkeypatch.setattr(decoding, "_add", lambda *logs: [calls.__setitem__(0, calls[0] + 1), add(*logs)][1])
    needed = []
    for tokens in (100, 1000):
        calls[0] = 0
        prefix_beam_search(confident(6, tokens), width=4, cutoff_top_n=8)
        needed.append(calls[0])
    assert needed[1] <= 1.2 * needed[0]


def test_cut_offs_that_cut_nothing_change_nothing() -> None:
    log_probs = torch.randn(5, 4, generator=torch.Generator().manual_seed(1)).log_softmax(-1)
    whole = prefix_beam_search(log_probs, width=1000)
    assert prefix_beam_search(log_probs, width=1000, cutoff_top_n=4, cutoff_prob=1e-12) == whole
    assert prefix_beam_search(log_probs, width=1000, cutoff_top_n=3) == whole  # the blank is not among the n
    lower = dict(prefix_beam_search(log_probs, width=1000, cutoff_top_n=1))
    assert lower.keys() < dict(whole).keys()
    assert all(score <= dict(whole)[labelling] + 1e-9 for labelling, score in lower.items())
    best = (log_probs[:, 1:].argmax(1) + 1).tolist()  # by hand: paths of blanks, best tokens, and tokens that go on
    paths: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(4), repeat=5):
        if all(now in (0, best[t]) or (t and now == path[t - 1]) for t, now in enumerate(path)):
            labelling, share = tuple(collapse(path)), float(log_probs[range(5), path].double().sum().exp())
            paths[labelling] = paths.get(labelling, 0.0) + share
    assert paths.keys() == {labelling for labelling, score in lower.items() if score > -math.inf}
    for labelling, share in paths.items():
        assert math.exp(lower[labelling]) == pytest.approx(share, rel=1e-5)


@pytest.mark.parametrize("cut", [{"cutoff_top_n": 0}, {"cutoff_prob": 1.0}, {"cutoff_prob": -0.1}])
def test_cut_offs_out_of_range(cut: dict) -> None:
    with pytest.raises(ValueError, match=r"cutoff_top_n is .*, cutoff_prob .*; expected at least 1, and a probability"):
        prefix_beam_search(torch.zeros(1, 2), **cut)
