"""What to hide: patches of clips and spectrograms, strips, tubes, characters and words.

A choice of patches is given by indices, not by a bool mask: how many are kept is known before anything is drawn. So
shapes are static, a compiled model meets one graph, and nothing waits for a GPU to say how many there were.

Chapter: pretraining/masked.
"""

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class PatchMask(NamedTuple):
    """Which of N tokens a model sees, and which it has to guess: together a permutation of 0 … N - 1.

    Chapter: pretraining/masked.
    """

    visible: Tensor  # long (B, K), ascending
    masked: Tensor  # long (B, N - K), ascending


class Masking(Protocol):
    """Draws a `PatchMask` for each of `batch` samples, whose tokens form a grid; `random_masking` is one."""

    def __call__(
        self,
        batch: int,
        grid: Sequence[int],
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> PatchMask:
        """Return the split."""


def random_masking(
    batch: int,
    grid: Sequence[int],
    ratio: float = 0.75,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> PatchMask:
    """Hide `round(ratio · N)` of the N tokens of each sample, any set of that size as likely as any other.

    (MAE, He et al. 2022; for spectrograms Audio-MAE, Huang et al. 2022.)

    Args:
        batch: Number of samples B.
        grid: Tokens along each side; N is their product.
        ratio: Share of tokens that are hidden, from 0 to 1.
        generator: Source of chance, on `device`; by default PyTorch's own.
        device: Where the indices shall be.

    Raises:
        ValueError: If the ratio is out of range.

    Chapter: pretraining/masked.

    Examples:
        >>> mask = random_masking(2, (4, 4), 0.75)
        >>> mask.visible.shape, mask.masked.shape
        (torch.Size([2, 4]), torch.Size([2, 12]))
    """
    count = math.prod(grid)
    kept = count - _count("ratio", ratio, count)
    order = torch.rand(batch, count, generator=generator, device=device).argsort(dim=1)  # (B, N)
    return PatchMask(order[:, :kept].sort(dim=1).values, order[:, kept:].sort(dim=1).values)


def tube_masking(
    batch: int,
    grid: Sequence[int],
    ratio: float = 0.9,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> PatchMask:
    """Hide the same places of a clip at all times (VideoMAE, Tong et al. 2022): `round(ratio · H · W)` of H · W.

    What stands still could otherwise be copied from the frame before.

    Args:
        batch: Number of samples B.
        grid: Tokens (T, H, W), time first.
        ratio: Share of places that are hidden.
        generator: As in `random_masking`.
        device: As in `random_masking`.

    Raises:
        ValueError: If the ratio is out of range.

    Chapter: pretraining/masked.

    Examples:
        >>> tube_masking(2, (4, 4, 4), 0.5).visible.shape
        torch.Size([2, 32])
    """
    places = math.prod(grid[1:])
    one = random_masking(batch, grid[1:], ratio, generator=generator, device=device)
    starts = places * torch.arange(grid[0], device=device)[:, None]  # (T, 1)
    return PatchMask(*((starts + part[:, None]).flatten(1) for part in one))  # (B, T, K) → (B, T * K)


def strip_masking(
    batch: int,
    grid: Sequence[int],
    time: float = 0.5,
    frequency: float = 0.5,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> PatchMask:
    """Hide whole steps of time and whole bands of frequency of a spectrogram (Audio-MAE, Huang et al. 2022).

    A patch is hidden if its time or its band is: of T · F patches, (T - hidden times) · (F - hidden bands) are kept.

    Args:
        batch: Number of samples B.
        grid: Tokens (T, F), time first.
        time: Share of times that are hidden, from 0 to 1.
        frequency: Share of bands that are hidden.
        generator: As in `random_masking`.
        device: As in `random_masking`.

    Raises:
        ValueError: If a ratio is out of range.

    Chapter: pretraining/masked.
    """
    kept, hidden = 1, torch.zeros(batch, *grid, dtype=torch.bool, device=device)  # (B, T, F)
    for axis, (name, ratio) in enumerate((("time", time), ("frequency", frequency))):
        count = _count(name, ratio, grid[axis])
        kept *= grid[axis] - count
        ranks = torch.rand(batch, grid[axis], generator=generator, device=device).argsort(dim=1).argsort(dim=1)
        hidden = hidden | (ranks < count).unsqueeze(2 - axis)  # (B, T, 1), then (B, 1, F)
    order = hidden.flatten(1).int().argsort(dim=1, stable=True)  # those that are kept come first
    return PatchMask(order[:, :kept], order[:, kept:])


def take(x: Tensor, index: Tensor) -> Tensor:
    """Return the rows (B, K, …) of x (B, N, …) that an index, long (B, K), names: one copy of contiguous rows.

    Chapter: pretraining/masked.
    """
    first = x.shape[1] * torch.arange(len(x), device=x.device)[:, None]  # (B, 1): where each sample begins
    return x.flatten(0, 1).index_select(0, (first + index).flatten()).unflatten(0, index.shape)


def mask_tokens(
    ids: Tensor,
    real: Tensor,
    *,
    mask_id: int,
    num_tokens: int,
    num_special: int,
    rate: float = 0.15,
    words: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Choose tokens that a language model has to guess, and make them unreadable (BERT, Devlin et al. 2019).

    Of the chosen ones, 80 % are replaced by the mask token, 10 % by any ordinary token, and 10 % stay as they are:
    when the model is used, a sentence has no masks, and it has to say something about every token.

    Args:
        ids: Token ids (B, L).
        real: bool (B, L), True where there is no padding. Padding is never chosen.
        mask_id: Id of the mask token.
        num_tokens: Size of the vocabulary.
        num_special: Ids below it are special, padding and unknown among them; they are never chosen, nor put in.
        rate: Chance to be chosen, for each token by itself.
        words: long (B, L), the word that each token belongs to, as from `word_numbers`. With it, words are chosen
            instead of tokens, each with all of its tokens (whole-word masking, Cui et al. 2021).
        generator: Source of chance, on the device of `ids`; by default PyTorch's own.

    Returns:
        The changed ids (B, L), and a bool (B, L), True where a token was chosen.

    Raises:
        ValueError: If the rate is out of range, or `mask_id` is not among the special ids.

    Chapter: pretraining/masked.
    """
    _count("rate", rate, 1)
    if not 0 <= mask_id < num_special <= num_tokens:
        raise ValueError(f"mask_id is {mask_id}, num_special {num_special}, num_tokens {num_tokens}; expected "
                         "0 ≤ mask_id < num_special ≤ num_tokens")  # fmt: skip
    chance = torch.rand(ids.shape, generator=generator, device=ids.device)
    if words is not None:
        chance = chance.gather(1, words)  # a word's tokens share one draw
    chosen = (chance < rate) & real & (ids >= num_special)
    fate = torch.rand(ids.shape, generator=generator, device=ids.device)
    other = torch.randint(num_special, num_tokens, ids.shape, generator=generator, device=ids.device)
    changed = torch.where(chosen & (fate < 0.8), mask_id, ids)
    return torch.where(chosen & (fate >= 0.9), other, changed), chosen


def word_numbers(text: str, words: Callable[[str], list[str]], tokenize: Callable[[str], list[str]] = list) -> Tensor:
    """Number a text's words 0, 1, …, and return the number for each token: long (L,), L ≥ 1.

    Args:
        text: The text.
        words: Function that cuts it into words, e.g. `Segmenter().words`, which calls jieba.
        tokenize: Function that cuts it into tokens, as the vocabulary does. A token belongs to the word that its first
            character is in.

    Raises:
        ValueError: If words or tokens, joined, are not the text.

    Chapter: pretraining/masked.
    """
    found, tokens = words(text), tokenize(text)
    if "".join(found) != text or "".join(tokens) != text:
        raise ValueError(f"words {found} and tokens {tokens}; expected both to give the text when joined: {text!r}")
    owner = [number for number, word in enumerate(found) for _ in word]  # of each character
    starts = [0, *accumulate(len(token) for token in tokens)][: len(tokens)]
    owners = [owner[start] for start in starts]
    return torch.tensor(owners or [0]).unique_consecutive(return_inverse=True)[1]  # some words may begin no token


def _count(name: str, ratio: float, count: int) -> int:
    """Return how many of `count` a ratio is."""
    if not 0 <= ratio <= 1:
        raise ValueError(f"{name} is {ratio}; expected from 0 to 1")
    return round(ratio * count)
