"""Can a probability be believed, and how sure is a score? Calibration, and bootstrap intervals.

Chapter: finetuning/classification.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmlearn.labels import IGNORED


class Reliability(NamedTuple):
    """A reliability diagram: what was said, and what came true, by bins of confidence. Empty bins hold NaN.

    Chapter: finetuning/classification.
    """

    confidence: Tensor  # (bins,): mean probability of the guess
    accuracy: Tensor  # (bins,): share of guesses that are right
    samples: Tensor  # (bins,): how many

    @property
    def error(self) -> float:
        """Expected calibration error: `Σ samples/N · |accuracy - confidence|` (Naeini et al. 2015)."""
        gaps = (self.accuracy - self.confidence).abs().nan_to_num(0.0)
        return float((gaps * self.samples).sum() / self.samples.sum())


def reliability(probabilities: Tensor, target: Tensor, bins: int = 15) -> Reliability:
    """Sort guesses into bins of equal width by their probability, and compare with how often they are right.

    Args:
        probabilities: (N, K), rows that sum to 1: `logits.softmax(dim=1)`, not logits.
        target: The classes (N,); samples with -100, a missing one, do not count.
        bins: Number of bins; bin b holds confidences in (b/bins, (b + 1)/bins].

    Raises:
        ValueError: If the rows are no probabilities, there are none, or the shapes do not fit.

    Chapter: finetuning/classification.
    """
    probabilities, target = _known("probabilities", probabilities, target)
    sums = probabilities.sum(dim=1)
    if probabilities.min() < 0 or not torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
        raise ValueError(f"probabilities has rows that sum to {sums.min():.3g} … {sums.max():.3g} and values from "
                         f"{probabilities.min():.3g}; expected rows ≥ 0 that sum to 1, such as a softmax")  # fmt: skip
    confidence, guess = probabilities.double().max(dim=1)  # (N,), (N,)
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=confidence.device)[1:-1]
    place = torch.bucketize(confidence, edges)  # (N,)
    count, said, came = (
        torch.zeros(bins, dtype=torch.float64, device=confidence.device).index_add_(0, place, values)
        for values in (torch.ones_like(confidence), confidence, (guess == target).double())
    )
    return Reliability(said / count, came / count, count.long())


def fit_temperature(logits: Tensor, target: Tensor) -> float:
    """Return the temperature T for which `softmax(logits / T)` has the smallest cross-entropy (Guo et al. 2017).

    One number, found by L-BFGS, for data that the model was not trained on. It changes how sure the model is, never
    what it guesses.

    Args:
        logits: (N, K), of validation samples.
        target: Their classes (N,); samples with -100, a missing one, do not count.

    Raises:
        ValueError: If there is no such T above 0: where all guesses are right, the smaller the better; where the logits
            of the true classes are not above the average, the larger. Or if the shapes do not fit.

    Chapter: finetuning/classification.
    """
    logits, target = _known("logits", logits, target)
    logits = logits.detach().double()
    true = logits.gather(1, target[:, None])[:, 0]  # (N,)
    if (logits.max(dim=1).values == true).all():
        raise ValueError(f"all {len(logits)} guesses are right; expected some mistakes, without which the best "
                         "temperature is 0")  # fmt: skip
    if (true - logits.mean(dim=1)).mean() <= 0:
        raise ValueError("the logits of the true classes are not above the average; the best temperature is infinite")
    log_t = torch.zeros((), dtype=torch.float64, device=logits.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_t], max_iter=200, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(logits / log_t.exp(), target)
        loss.backward()
        return loss

    optimizer.step(closure)
    return float(log_t.detach().exp())


def bootstrap_interval(
    metric: Callable[..., float | Tensor], *data: Tensor, level: float = 0.95, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return an interval for a metric, from samples drawn again, with replacement (percentile bootstrap, Efron 1979).

    It tells how much the score would vary with other samples of the same kind. It knows nothing of what other training
    seeds would give. Samples are taken to be independent: frames of one video are not.

    Args:
        metric: Called with `data`, redrawn; e.g. `(guess == target).float().mean()`. For the difference of two models,
            give the guesses of both: they are then judged on the same draws.
        data: Tensors (N, …) whose rows belong together.
        level: How often such an interval shall hold the true value.
        draws: How many times to draw.
        seed: Same seed, same draws.

    Raises:
        ValueError: If the tensors are empty or differ in length, or `level` is not between 0 and 1.

    Chapter: finetuning/classification.
    """
    sizes = {len(part) for part in data}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(f"data have lengths {[len(part) for part in data]}; expected one length, at least 1")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; expected between 0 and 1")
    size, generator = sizes.pop(), torch.Generator().manual_seed(seed)
    rows = torch.randint(size, (draws, size), generator=generator)
    scores = torch.tensor([float(metric(*(part[row] for part in data))) for row in rows], dtype=torch.float64)
    low, high = scores.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)).tolist()
    return low, high


def _known(name: str, scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Check shapes, and leave out samples whose class is missing."""
    if scores.ndim != 2 or target.shape != scores.shape[:1] or not (target != IGNORED).any():
        shapes = f"{name} is {tuple(scores.shape)}, target {tuple(target.shape)}"
        raise ValueError(f"{shapes}; expected (N, K) and (N,), N ≥ 1 of which are known (not {IGNORED})")
    return scores[target != IGNORED], target[target != IGNORED]
