"""mmlearn.pretraining.masked.masking: which tokens are masked: sizes, shapes, probabilities."""

import math
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare

from mmlearn.preprocessing.text import Segmenter, characters
from mmlearn.pretraining.masked.masking import (
    mask_tokens,
    random_masking,
    strip_masking,
    take,
    tube_masking,
    word_numbers,
)

RATIOS = st.floats(0, 1)


MASKINGS: dict[str, Callable] = {"random": random_masking, "tube": tube_masking, "strip": strip_masking}


@given(st.sampled_from(sorted(MASKINGS)), st.integers(1, 4), st.tuples(*[st.integers(1, 5)] * 3), RATIOS, RATIOS)
@settings(max_examples=60)
def test_kept_and_hidden_are_a_permutation_of_exact_sizes(
    name: str, size: int, grid: tuple[int, int, int], ratio: float, other: float
) -> None:
    if name == "strip":
        split = strip_masking(size, grid[:2], ratio, other)
        shape = grid[:2]
        kept = math.prod(side - round(part * side) for side, part in zip(shape, (ratio, other), strict=True))
    else:
        split = MASKINGS[name](size, grid, ratio)
        shape, places = grid, math.prod(grid[1:])
        kept = grid[0] * (places - round(ratio * places)) if name == "tube" else math.prod(grid) - round(
            ratio * math.prod(grid)
        )  # fmt: skip
    assert split.visible.shape == (size, kept)
    assert split.visible.dtype == split.masked.dtype == torch.long
    for row in torch.cat(split, dim=1).tolist():
        assert sorted(row) == list(range(math.prod(shape)))
    for part in split:
        assert (part.diff(dim=1) > 0).all()


def test_tubes_are_equal_over_time() -> None:
    kept, hidden = tube_masking(5, (4, 6, 6), 0.9)
    assert kept.shape == (5, 4 * 4) and hidden.shape == (5, 4 * 32)  # 32.4 of 36 are 32
    for part in (kept, hidden):
        steps = part.unflatten(1, (4, -1)) - 36 * torch.arange(4)[:, None]
        assert (steps == steps[:, :1]).all() and steps.min() >= 0 and steps.max() < 36
    assert any((kept[0] != row).any() for row in kept[1:])  # each clip has its own


def test_strips_are_whole_rows_and_columns() -> None:
    for row in strip_masking(20, (5, 4), 0.4, 0.5).visible:
        times, bands = {int(i) // 4 for i in row}, {int(i) % 4 for i in row}
        assert len(times) == 3 and len(bands) == 2
        assert sorted(row.tolist()) == sorted(4 * t + f for t in times for f in bands)


@pytest.mark.parametrize("name", sorted(MASKINGS))
def test_every_patch_is_as_likely_and_seeds_repeat(name: str) -> None:
    grid = (6, 5) if name == "strip" else (3, 2, 5)
    draw = partial(MASKINGS[name], 4000, grid)
    splits = [draw(generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(splits[0].visible, splits[1].visible) and torch.equal(splits[0].masked, splits[1].masked)
    assert not torch.equal(splits[0].visible, splits[2].visible)
    # Draws of one sample depend on each other (tubes, strips, no repetition), so one patch of each sample is counted.
    which = torch.randint(splits[0].visible.shape[1], (4000, 1), generator=torch.Generator().manual_seed(0))
    counts = splits[0].visible.gather(1, which).flatten().bincount(minlength=30)
    assert chisquare(counts.numpy()).pvalue > 1e-4


def test_pairs_are_as_likely() -> None:
    """Not only each patch by itself: all ten sets of two out of five."""
    kept = random_masking(5000, (5,), 0.6, generator=torch.Generator().manual_seed(3)).visible
    counts = Counter(map(tuple, kept.tolist()))
    assert len(counts) == 10 and chisquare(list(counts.values())).pvalue > 1e-4


def test_ratios_out_of_range() -> None:
    for call in (random_masking, tube_masking, partial(strip_masking, frequency=0.1)):
        with pytest.raises(ValueError, match=r"(ratio|time) is 1.5; expected from 0 to 1"):
            call(2, (3, 4), 1.5)


def test_take() -> None:
    x, index = torch.randn(3, 5, 2), torch.tensor([[4, 0], [1, 1], [2, 3]])
    assert torch.equal(take(x, index), torch.stack([row[i] for row, i in zip(x, index, strict=True)]))


def test_tokens_are_masked_as_in_bert() -> None:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 40, (400, 50), generator=generator)
    real = torch.arange(50) < torch.randint(1, 51, (400, 1), generator=generator)
    changed, chosen = mask_tokens(
        ids, real, mask_id=2, num_tokens=40, num_special=4, rate=0.15, generator=generator
    )  # fmt: skip
    may = real & (ids >= 4)
    assert not (chosen & ~may).any()
    assert torch.equal(changed[~chosen], ids[~chosen])
    n, candidates = int(chosen.sum()), int(may.sum())
    assert binomtest(n, candidates, 0.15).pvalue > 1e-4
    masked = int((changed[chosen] == 2).sum())
    kept = int((changed[chosen] == ids[chosen]).sum())
    assert binomtest(masked, n, 0.8).pvalue > 1e-4
    assert binomtest(kept, n, 0.1 + 0.1 / 36).pvalue > 1e-4  # some are replaced by themselves
    others = changed[chosen & (changed != 2) & (changed != ids)]
    assert len(others) > 100 and others.min() >= 4
    assert chisquare(others.bincount(minlength=40)[4:].numpy()).pvalue > 1e-4


def test_words_are_chosen_whole() -> None:
    words = torch.tensor([[0, 0, 1, 2, 2, 2, 3, 3]]).repeat(3000, 1)
    ids, real = torch.full((3000, 8), 7), torch.ones(3000, 8, dtype=torch.bool)
    real[:, 7] = False
    _, chosen = mask_tokens(ids, real, mask_id=2, num_tokens=9, num_special=3, rate=0.3, words=words)
    first = chosen[:, [0, 2, 3, 6]]  # one token a word
    assert torch.equal(chosen, torch.where(real, first[:, [0, 0, 1, 2, 2, 2, 3, 3]], False))
    assert binomtest(int(first.sum()), first.numel(), 0.3).pvalue > 1e-4
    both = int((first[:, 0] & first[:, 1]).sum())  # words do not depend on each other
    assert binomtest(both, 3000, 0.09).pvalue > 1e-4


def test_masking_of_tokens_says_what_is_wrong() -> None:
    ids = torch.ones(1, 2, dtype=torch.long)
    with pytest.raises(ValueError, match=r"rate is -0\.1"):
        mask_tokens(ids, ids > 0, mask_id=2, num_tokens=9, num_special=3, rate=-0.1)
    with pytest.raises(ValueError, match="mask_id is 5, num_special 3"):
        mask_tokens(ids, ids > 0, mask_id=5, num_tokens=9, num_special=3)


def test_word_numbers() -> None:
    assert word_numbers("三座高山", lambda text: ["三座", "高山"]).tolist() == [0, 0, 1, 1]
    assert word_numbers("三座mountains", lambda text: list(text), characters).tolist() == [0, 1, 2]
    assert word_numbers("三big山", lambda text: ["三", "bi", "g", "山"], characters).tolist() == [0, 1, 2]
    assert word_numbers("", list).tolist() == [0]
    text = "画面里有三座红色的高山，慢慢移向上方"
    numbers, words = word_numbers(text, Segmenter().words), Segmenter().words(text)
    assert [sum(numbers == k) for k in range(len(words))] == [len(word) for word in words]
    with pytest.raises(ValueError, match="when joined"):
        word_numbers("三座", lambda text: ["三"])
