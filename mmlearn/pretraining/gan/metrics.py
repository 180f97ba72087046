"""How good are generated samples? Fréchet distance, precision and recall, modes covered, and does a reader agree?

None of them is a loss of the game, and none of them sees the networks: they look at features of samples.

Chapter: pretraining/gan.
"""

import torch
from torch import Tensor


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Return the Fréchet distance between two sets of features, each taken for a Gaussian (Heusel et al. 2017).

    `‖μ₁ - μ₂‖² + tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½)`. With `Σ = RᵀR`, the trace of that root is the sum of the singular values
    of `R₁ R₂ᵀ`: no root of a matrix is taken, and covariances without full rank do no harm. In float64.

    The estimate is too high, by an amount that falls with the number of samples: compare only sets of equal size, and
    give the distance between two real sets of that size beside it.

    Args:
        real: Features (N, D), N ≥ 2, e.g. what a classifier has before its last layer.
        fake: Features (M, D), M ≥ 2.

    Raises:
        ValueError: If there are fewer than two samples, the widths differ, or a value is not finite.

    Chapter: pretraining/gan.

    Examples:
        >>> x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
        >>> abs(round(float(frechet_distance(x, x)), 3))
        0.0
    """
    real, fake = _checked(real, fake, at_least=2)
    mean = (real.mean(dim=0) - fake.mean(dim=0)).square().sum()
    roots = [torch.linalg.qr((x - x.mean(dim=0)) / (len(x) - 1) ** 0.5, mode="r").R for x in (real, fake)]  # (K, D)
    traces = sum(root.square().sum() for root in roots)
    shared = torch.linalg.svdvals(roots[0] @ roots[1].T).sum()
    return max(float(mean + traces - 2 * shared), 0.0)


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """Return precision and recall of generated samples (Kynkäänniemi et al. 2019).

    Around each sample of a set lies a ball that reaches to its k-th nearest neighbour in the set; the balls together
    are the set's manifold. Precision is the share of generated samples within the real manifold: are they good? Recall
    is the share of real samples within the generated one: is everything there?

    Args:
        real: Features (N, D), N > k.
        fake: Features (M, D), M > k.
        k: Which neighbour.

    Raises:
        ValueError: If there are too few samples, the widths differ, or a value is not finite.

    Chapter: pretraining/gan.
    """
    if k < 1:
        raise ValueError(f"k is {k}; expected at least 1")
    real, fake = _checked(real, fake, at_least=k + 1)
    return _share_within(fake, real, k), _share_within(real, fake, k)


def mode_coverage(modes: Tensor, num_modes: int, share: float = 0.1) -> int:
    """Return how many modes are covered, given the mode that each sample was found in.

    A mode is covered if it has at least `share` of the samples that it would have if all modes were equally frequent.
    One sample would not do: a reader that errs now and then finds one everywhere.

    Args:
        modes: Whole numbers (N,), e.g. the classes that a classifier sees; -1 for a sample that is in no mode.
        num_modes: How many there are.
        share: See above.

    Raises:
        ValueError: If there are no samples, or a mode is beyond `num_modes`.

    Chapter: pretraining/gan.

    Examples:
        >>> mode_coverage(torch.tensor([0, 0, 2]), 3)
        2
    """
    if modes.numel() == 0 or int(modes.max()) >= num_modes:
        found = "no samples" if modes.numel() == 0 else f"mode {int(modes.max())}"
        raise ValueError(f"modes: found {found}; expected modes up to {num_modes - 1}")
    counts = modes[modes >= 0].bincount(minlength=num_modes)  # (num_modes,)
    return int((counts >= share * len(modes) / num_modes).sum())


def classifier_accuracy(logits: Tensor, asked: Tensor) -> float:
    """Return how often an independent reader reads what was asked for.

    Args:
        logits: What a classifier says of the generated samples, (N, num_classes). It has learned from real samples, and
            the generator must not have learned from it.
        asked: The classes that were asked for, (N,).

    Raises:
        ValueError: If there are no samples, or not as many of both.

    Chapter: pretraining/gan.
    """
    if len(logits) == 0 or len(logits) != len(asked):
        raise ValueError(f"found {len(logits)} logits and {len(asked)} classes asked for; expected as many, at least 1")
    return float((logits.argmax(dim=1) == asked).double().mean())


def _share_within(samples: Tensor, manifold: Tensor, k: int) -> float:
    """Return the share of samples (N, D) in at least one of the balls around the points of the manifold (M, D)."""
    radii = torch.cat([_distances(part, manifold).kthvalue(k + 1, dim=1).values for part in manifold.split(1000)])
    within = [(_distances(part, manifold) <= radii).any(dim=1) for part in samples.split(1000)]
    return float(torch.cat(within).double().mean())


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Return all distances (N, M); from differences, for a point's distance to itself must be 0."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def _checked(real: Tensor, fake: Tensor, at_least: int) -> tuple[Tensor, Tensor]:
    """Return both sets in float64, on the CPU (others may lack it), or say what is wrong."""
    for name, x in (("real", real), ("fake", fake)):
        if x.ndim != 2 or len(x) < at_least or x.shape[1] != real.shape[-1]:
            raise ValueError(f"{name} is {tuple(x.shape)}; expected (N, {real.shape[-1]}) with N ≥ {at_least}")
        if not bool(x.isfinite().all()):
            raise ValueError(f"{name} holds values that are not finite")
    return real.detach().cpu().double(), fake.detach().cpu().double()
