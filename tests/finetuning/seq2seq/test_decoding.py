"""Greedy and beam search against the enumeration of all sequences."""

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmlearn.finetuning.seq2seq.decoding import Step, beam_search, greedy_search, length_norm

START, END = 1, 2


class Toy:
    """A tiny recurrent model with random weights: the next token depends on all before it, and on the sample."""

    def __init__(self, seed: int, samples: int, vocabulary: int) -> None:
        random = torch.Generator().manual_seed(seed)
        self.vocabulary = vocabulary
        self.embed = torch.randn(vocabulary, 4, generator=random)
        self.recur = torch.randn(4, 4, generator=random)
        self.head = 2 * torch.randn(4, vocabulary, generator=random)
        self.first = (torch.randn(samples, 1, 4, generator=random), torch.zeros(samples, 1))

    def step(self, tokens: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        h = torch.tanh(state[0] @ self.recur + self.embed[tokens])
        return h @ self.head, (h, state[1] + 1)

    def log_p(self, row: int, tokens: tuple[int, ...]) -> float:
        """Log-probability of a sequence, token by token."""
        state, total, last = tuple(part[row : row + 1] for part in self.first), 0.0, START
        for token in tokens:
            logits, state = self.step(torch.tensor([[last]]), state)
            total += float(logits[0, 0].double().log_softmax(0)[token])
            last = token
        return total

    def every_sequence(self, longest: int) -> list[tuple[int, ...]]:
        """All that end with the end token and hold it nowhere else, and those of full length that have not ended."""
        others = [token for token in range(self.vocabulary) if token != END]
        ended = [(*body, END) for length in range(longest) for body in product(others, repeat=length)]
        return ended + list(product(others, repeat=longest))


def without_padding(tokens: Tensor) -> tuple[int, ...]:
    found = tuple(tokens.tolist())
    return found[: found.index(END) + 1] if END in found else found


@given(
    st.integers(0, 10_000), st.integers(1, 3), st.integers(3, 4), st.integers(1, 3), st.sampled_from([0.0, 0.6, 1.0])
)
@settings(max_examples=25)
def test_a_wide_beam_is_exhaustive_search(
    seed: int, samples: int, vocabulary: int, longest: int, penalty: float
) -> None:
    toy = Toy(seed, samples, vocabulary)
    everything = toy.every_sequence(longest)
    width = len(everything) + 5
    tokens, scores = beam_search(toy.step, toy.first, start=START, end=END, max_length=longest, width=width,
                                 length_penalty=penalty)  # fmt: skip
    for row in range(samples):
        ranked = {seq: toy.log_p(row, seq) / ((5 + len(seq)) / 6) ** penalty for seq in everything}
        best = sorted(ranked, key=lambda seq: -ranked[seq])
        found = [without_padding(t) for t in tokens[row, : len(best)]]
        assert set(found) == set(best)  # each once, none twice
        assert scores[row, : len(best)].tolist() == pytest.approx([ranked[seq] for seq in best], abs=1e-4)
        assert scores[row, : len(best)].tolist() == pytest.approx([ranked[seq] for seq in found], abs=1e-4)
        assert (scores[row, len(best) :] == -torch.inf).all()


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(3, 7), st.integers(1, 8), st.floats(0, 2))
@settings(max_examples=50)
def test_width_1_is_greedy(seed: int, samples: int, vocabulary: int, longest: int, penalty: float) -> None:
    toy = Toy(seed, samples, vocabulary)
    tokens, total = greedy_search(toy.step, toy.first, start=START, end=END, max_length=longest)
    beam, scores = beam_search(toy.step, toy.first, start=START, end=END, max_length=longest, width=1,
                               length_penalty=penalty)  # fmt: skip
    assert torch.equal(beam[:, 0], tokens)
    lengths = torch.tensor([len(without_padding(row)) for row in tokens])
    assert torch.allclose(scores[:, 0] * length_norm(lengths, penalty), total, atol=1e-4)


@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 6))
@settings(max_examples=25)
def test_greedy_takes_the_best_token_each_time(seed: int, samples: int, longest: int) -> None:
    toy = Toy(seed, samples, 5)
    tokens, total = greedy_search(toy.step, toy.first, start=START, end=END, max_length=longest)
    for row in range(samples):
        written: tuple[int, ...] = ()
        while len(written) < longest and END not in written:
            written += (max(range(5), key=lambda token: toy.log_p(row, (*written, token))),)
        assert without_padding(tokens[row]) == written
        assert not tokens[row, len(written) :].any()
        assert float(total[row]) == pytest.approx(toy.log_p(row, written), abs=1e-4)


@given(st.integers(0, 10_000), st.integers(2, 4), st.integers(1, 4))
@settings(max_examples=25)
def test_samples_do_not_meet(seed: int, samples: int, width: int) -> None:
    toy = Toy(seed, samples, 6)
    tokens, scores = beam_search(toy.step, toy.first, start=START, end=END, max_length=6, width=width)
    for row in range(samples):
        alone = tuple(part[row : row + 1] for part in toy.first)
        one, score = beam_search(toy.step, alone, start=START, end=END, max_length=6, width=width)
        assert [without_padding(t) for t in one[0]] == [without_padding(t) for t in tokens[row]]
        assert torch.allclose(score[0], scores[row], atol=1e-5)


def chain(rows: dict[int, dict[int, float]]) -> tuple[Step, tuple[Tensor, ...]]:
    """A model whose next token depends on the last one only: last → next → probability; otherwise the end follows."""
    table = torch.zeros(5, 5)
    table[:, END] = 1.0
    for last, following in rows.items():
        table[last] = 0.0
        for token, probability in following.items():
            table[last, token] = probability
    return lambda tokens, state: (table.log()[tokens], state), (torch.zeros(1, 1),)


def test_a_beam_finds_what_greedy_misses() -> None:
    """The better first token leads to two poor ones: .6 · .5 = .30 against .4 · 1 = .40."""
    step, first = chain({START: {3: 0.6, 4: 0.4}, 3: {0: 0.5, END: 0.5}})
    tokens, total = greedy_search(step, first, start=START, end=END, max_length=4)
    assert tokens[0, 0] == 3
    assert float(total[0].exp()) == pytest.approx(0.3)
    tokens, scores = beam_search(step, first, start=START, end=END, max_length=4, width=2, length_penalty=0.0)
    assert without_padding(tokens[0, 0]) == (4, END)
    assert float(scores[0, 0].exp()) == pytest.approx(0.4)


def test_length_normalisation_prefers_the_longer_one() -> None:
    assert float(length_norm(torch.tensor(1), 0.7)) == 1.0
    assert float(length_norm(torch.tensor(7), 1.0)) == 2.0
    assert float(length_norm(torch.tensor(99), 0.0)) == 1.0
    step, first = chain({START: {END: 0.55, 3: 0.45}, 3: {4: 1.0}, 4: {0: 1.0}})  # .55 at once, .45 with three more
    for penalty, best in ((0.0, (END,)), (1.0, (3, 4, 0, END))):
        tokens, scores = beam_search(step, first, start=START, end=END, max_length=5, width=3, length_penalty=penalty)
        assert without_padding(tokens[0, 0]) == best
        assert float(scores[0, 0]) == pytest.approx(
            math.log(0.45 if penalty else 0.55) / (9 / 6 if penalty else 1), abs=1e-5
        )


def test_what_has_not_ended_counts_as_it_is() -> None:
    step, first = chain({START: {3: 0.9, END: 0.1}, 3: {3: 1.0}})
    tokens, _ = beam_search(step, first, start=START, end=END, max_length=3, width=2)
    assert tokens[0, 0].tolist() == [3, 3, 3]
    assert without_padding(tokens[0, 1]) == (END,)
    assert greedy_search(step, first, start=START, end=END, max_length=3)[0].tolist() == [[3, 3, 3]]


def test_a_beam_without_width() -> None:
    toy = Toy(0, 1, 3)
    with pytest.raises(ValueError, match="width is 0; expected at least 1"):
        beam_search(toy.step, toy.first, start=START, end=END, max_length=2, width=0)
