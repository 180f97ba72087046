"""CTC against the definition (every path, one by one), torch's ctc_loss, and torchaudio's forced alignment."""

import itertools

import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import ctc_loss

from mmlearn.finetuning.speech.ctc import Span, ctc_align, ctc_lattice, ctc_log_likelihood, spans


def outputs(size: int, steps: int, tokens: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(size, steps, tokens, generator=generator, dtype=torch.float64)).log_softmax(dim=2)


def merge(path: tuple[int, ...], blank: int = 0) -> tuple[int, ...]:
    return tuple(token for token, _ in itertools.groupby(path) if token != blank)


def every_path(log_probs: torch.Tensor, blank: int = 0) -> dict[tuple[int, ...], list[tuple[float, tuple[int, ...]]]]:
    """labelling → (log-probability, path) of all its paths, by listing all V**T of them."""
    found: dict[tuple[int, ...], list[tuple[float, tuple[int, ...]]]] = {}
    steps, tokens = log_probs.shape
    for path in itertools.product(range(tokens), repeat=steps):
        value = sum(float(log_probs[t, token]) for t, token in enumerate(path))
        found.setdefault(merge(path, blank), []).append((value, path))
    return found


@settings(max_examples=25)
@given(st.integers(1, 5), st.integers(2, 4), st.integers(0, 1000), st.data())
def test_likelihood_and_alignment_are_sum_and_maximum_over_every_path(steps, size, seed, data):
    blank = data.draw(st.integers(0, size - 1))
    log_probs = outputs(1, steps, size, seed)
    paths = every_path(log_probs[0], blank)
    longest = max(len(labelling) for labelling in paths)
    tokens = torch.full((len(paths), longest), blank)
    for row, labelling in zip(tokens, paths, strict=True):
        row[: len(labelling)] = torch.tensor(labelling, dtype=torch.int64)
    many = log_probs.expand(len(paths), -1, -1)
    found = ctc_log_likelihood(many, tokens, blank=blank)
    expected = torch.stack([torch.tensor([v for v, _ in p], dtype=torch.float64).logsumexp(0) for p in paths.values()])
    assert torch.allclose(found, expected, atol=1e-10)
    assert float(found.exp().sum()) == pytest.approx(1.0)  # every path belongs to one labelling
    path, score = ctc_align(many, tokens, blank=blank)
    best = [max(p) for p in paths.values()]
    assert torch.allclose(score, torch.tensor([value for value, _ in best], dtype=torch.float64), atol=1e-10)
    assert path.tolist() == [list(p) for _, p in best]


CASES = [[1, 2, 3], [1, 1, 1], [2, 2, 1, 2], [3], [], [1, 2, 1, 2, 1]]
LENGTHS = [12, 5, 9, 1, 4, 12]


def padded_cases() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    tokens = torch.zeros(len(CASES), 5, dtype=torch.int64)
    for row, case in zip(tokens, CASES, strict=True):
        row[: len(case)] = torch.tensor(case, dtype=torch.int64)
    mask = torch.arange(12) < torch.tensor(LENGTHS)[:, None]
    return outputs(len(CASES), 12, 5), tokens, mask


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_values_and_gradients_are_torchs(dtype):
    log_probs, tokens, mask = padded_cases()
    logits = log_probs.to(dtype).requires_grad_()
    ours = -ctc_log_likelihood(logits.log_softmax(2), tokens, mask)
    (gradient,) = torch.autograd.grad(ours.sum(), logits)
    lengths, counts = torch.tensor(LENGTHS), torch.tensor([len(case) for case in CASES])
    theirs = ctc_loss(logits.log_softmax(2).transpose(0, 1), tokens, lengths, counts, reduction="none")
    (expected,) = torch.autograd.grad(theirs.sum(), logits)
    close = 1e-10 if dtype == torch.float64 else 1e-4
    assert torch.allclose(ours, theirs, atol=close) and torch.allclose(gradient, expected, atol=close)


def test_gradient_is_right_by_differences():
    log_probs, tokens, mask = padded_cases()
    assert torch.autograd.gradcheck(lambda x: ctc_log_likelihood(x, tokens, mask), log_probs.requires_grad_())


def test_impossible_targets_have_probability_zero_and_no_gradient():
    log_probs = outputs(3, 4, 4).requires_grad_()
    tokens = torch.tensor([[1, 2, 3, 1, 2], [1, 1, 1, 0, 0], [1, 2, 3, 1, 0]])  # need 5, 5 and 4 steps of 4
    found = ctc_log_likelihood(log_probs, tokens)
    lengths, counts = torch.full((3,), 4), torch.tensor([5, 3, 4])
    expected = ctc_loss(log_probs.transpose(0, 1), tokens, lengths, counts, reduction="none")
    assert (-found).tolist() == pytest.approx(expected.tolist()) and found[:2].tolist() == [-torch.inf] * 2
    (gradient,) = torch.autograd.grad(found[2] + found[:2].sum(), log_probs)
    assert not gradient[:2].any() and gradient[2].isfinite().all() and gradient[2].any()
    path, score = ctc_align(log_probs.detach(), tokens)
    assert not path[:2].any() and score[:2].tolist() == [-torch.inf] * 2
    assert path[2].tolist() == [1, 2, 3, 1]


def test_an_output_that_excludes_a_token_leaves_finite_gradients():
    log_probs = outputs(1, 4, 3)
    log_probs[0, 1, 2] = -torch.inf
    log_probs.requires_grad_()
    found = ctc_log_likelihood(log_probs, torch.tensor([[1, 2]]))
    found.sum().backward()
    assert found.isfinite().all() and log_probs.grad is not None and log_probs.grad.isfinite().all()


def test_padding_changes_nothing_even_if_it_is_nan():
    log_probs, tokens, mask = padded_cases()
    expected = ctc_log_likelihood(log_probs, tokens, mask)
    path, score = ctc_align(log_probs, tokens, mask)
    dirty = torch.where(mask[..., None], log_probs, torch.nan).requires_grad_()
    found = ctc_log_likelihood(dirty, tokens, mask)
    found.sum().backward()
    assert torch.equal(found, expected)
    assert dirty.grad is not None and dirty.grad.isfinite().all() and not dirty.grad[~mask].any()
    again, same = ctc_align(dirty.detach(), tokens, mask)
    assert torch.equal(path, again) and torch.equal(score, same)
    for row, length in enumerate(LENGTHS):
        alone = ctc_log_likelihood(log_probs[row : row + 1, :length], tokens[row : row + 1])
        assert float(alone) == pytest.approx(float(expected[row]))


def test_half_precision_is_summed_in_single():
    log_probs, tokens, mask = padded_cases()
    found = ctc_log_likelihood(log_probs.bfloat16(), tokens, mask)
    assert found.dtype == torch.float32 and torch.allclose(
        found, ctc_log_likelihood(log_probs, tokens, mask).float(), atol=0.2
    )


def test_lattice_holds_the_sum_over_beginnings():
    """At every step, states of all labellings' lattices are sums over beginnings of paths: check one by hand."""
    log_probs = outputs(1, 3, 3)
    y = log_probs[0].exp()
    alpha = ctc_lattice(log_probs, torch.tensor([[1, 2]]))[0].exp()
    assert alpha.shape == (3, 5)
    assert alpha[0].tolist() == pytest.approx([float(y[0, 0]), float(y[0, 1]), 0, 0, 0])
    second = [y[0, 0] * y[1, 0], (y[0, 0] + y[0, 1]) * y[1, 1], y[0, 1] * y[1, 0], y[0, 1] * y[1, 2], 0]
    assert alpha[1].tolist() == pytest.approx([float(value) for value in second])


def test_alignment_is_torchaudios():
    log_probs = outputs(1, 30, 6, seed=3).float()
    for target in ([1, 2, 3, 4, 5], [1, 1, 2, 2], [5]):
        tokens = torch.tensor([target])
        path, score = ctc_align(log_probs, tokens)
        theirs, scores = torchaudio.functional.forced_align(log_probs, tokens.int(), blank=0)
        assert path.tolist() == theirs.tolist()
        assert float(score) == pytest.approx(float(scores.sum()), abs=1e-4)


def test_spans_are_where_tokens_are_said():
    assert spans(torch.tensor([0, 3, 3, 0, 3, 1, 0])) == [Span(3, 1, 3), Span(3, 4, 5), Span(1, 5, 6)]
    assert spans(torch.tensor([2, 2])) == [Span(2, 0, 2)] and spans(torch.tensor([0, 0])) == []
    assert spans(torch.tensor([0, 2, 2]), blank=2) == [Span(0, 0, 1)]


@pytest.mark.parametrize(
    ("log_probs", "tokens", "mask", "message"),
    [
        (torch.zeros(4, 3), torch.zeros(4, 1, dtype=torch.int64), None, "expected .B, T, V."),
        (torch.zeros(2, 0, 3), torch.zeros(2, 1, dtype=torch.int64), None, "at least one step"),
        (torch.zeros(2, 4, 3), torch.zeros(3, 1, dtype=torch.int64), None, r"tokens \(3, 1\)"),
        (torch.zeros(2, 4, 3), torch.tensor([[1], [3]]), None, "from 1 to 3; expected 0 to 2"),
        (torch.zeros(2, 4, 3), torch.tensor([[0, 1], [1, 0]]), None, "a blank .0. before a token"),
        (torch.zeros(2, 4, 3), torch.tensor([[1], [1]]), torch.ones(2, 3, dtype=torch.bool), r"mask is \(2, 3\)"),
        (torch.zeros(1, 2, 3), torch.tensor([[1]]), torch.tensor([[False, True]]), "padding before a real step"),
        (torch.zeros(1, 2, 3), torch.tensor([[1]]), torch.tensor([[False, False]]), "without any"),
    ],
)
def test_errors_say_what_was_found(log_probs, tokens, mask, message):
    with pytest.raises(ValueError, match=message):
        ctc_log_likelihood(log_probs, tokens, mask)
