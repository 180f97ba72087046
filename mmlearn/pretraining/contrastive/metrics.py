"""What an embedding space is worth: retrieval, classes read without training, and the shape of the space.

Chapter: pretraining/contrastive.
"""

from collections.abc import Mapping
from itertools import permutations
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric


def ranks(
    queries: Tensor,
    candidates: Tensor,
    query_ids: Tensor | None = None,
    candidate_ids: Tensor | None = None,
) -> Tensor:
    """Return at which place, from 1, each query finds its first right candidate; ties count against it.

    So a space in which all vectors are the same finds everything last, and not first.

    Args:
        queries: (Q, D). Similarity is the inner product.
        candidates: (N, D).
        query_ids: (Q,); a candidate of the same id is right. By default candidate i is the right one for query i.
        candidate_ids: (N,), by default the queries'.

    Returns:
        (Q,) whole numbers from 1 to N.

    Raises:
        ValueError: If numbers of ids and vectors differ, or a query has no right candidate.

    Chapter: pretraining/contrastive.

    Examples:
        >>> ranks(torch.eye(3), torch.eye(3)).tolist()
        [1, 1, 1]
    """
    query_ids = torch.arange(len(queries), device=queries.device) if query_ids is None else query_ids
    candidate_ids = query_ids if candidate_ids is None else candidate_ids
    for name, x, ids in (("query_ids", queries, query_ids), ("candidate_ids", candidates, candidate_ids)):
        if ids.shape != x.shape[:1]:
            raise ValueError(f"{name} is {tuple(ids.shape)}; expected ({len(x)},)")
    right = query_ids[:, None] == candidate_ids  # (Q, N)
    if not bool(right.any(dim=1).all()):
        raise ValueError(f"query {int((~right.any(dim=1)).nonzero()[0])} has no right candidate")
    similarity = queries @ candidates.T  # (Q, N)
    best = similarity.masked_fill(~right, -torch.inf).amax(dim=1, keepdim=True)  # (Q, 1): of the right ones
    return 1 + ((similarity >= best) & ~right).sum(dim=1)


def recall_at(k: int, places: Tensor) -> float:
    """Return R@k: the share of queries that find a right candidate among their first k.

    Args:
        k: How many candidates are looked at.
        places: From `ranks`.

    Chapter: pretraining/contrastive.
    """
    return float((places <= k).float().mean())


def zero_shot_classifier(prompts: Tensor, classes: Tensor) -> Tensor:
    """Turn sentences that name classes into a linear classifier: each class the mean of its sentences' directions.

    `features @ classifier.T` are the scores (zero-shot classification, Radford et al. 2021, section 3.1).

    Args:
        prompts: (P, D), embeddings of the sentences.
        classes: (P,), the class 0 … K - 1 that each one names.

    Returns:
        (K, D), of unit length.

    Raises:
        ValueError: If a class has no sentence.

    Chapter: pretraining/contrastive.
    """
    count = torch.bincount(classes)
    if not bool(count.all()):
        raise ValueError(f"class {int((count == 0).nonzero()[0])} has no prompt; expected one or more a class")
    total = prompts.new_zeros(len(count), prompts.shape[1])
    total = total.index_add(0, classes, nn.functional.normalize(prompts, dim=-1))
    return nn.functional.normalize(total, dim=-1)


def alignment(a: Tensor, b: Tensor, power: float = 2.0) -> Tensor:
    """Return the mean distance, to a power, of what belongs together: small is good (Wang & Isola 2020, equation 6).

    Args:
        a: (B, D), of unit length.
        b: (B, D); b_i belongs to a_i.
        power: The paper's α.

    Chapter: pretraining/contrastive.
    """
    return (a - b).norm(dim=-1).pow(power).mean()


def uniformity(x: Tensor, sharpness: float = 2.0) -> Tensor:
    """Return how evenly vectors fill the sphere, `log mean exp(-t |x_i - x_j|²)` over pairs i ≠ j: small is even.

    (Wang & Isola 2020, equation 7.)

    Args:
        x: (B, D), of unit length, two or more.
        sharpness: The paper's t.

    Chapter: pretraining/contrastive.
    """
    return torch.pdist(x).square().mul(-sharpness).exp().mean().log()


def modality_gap(a: Tensor, b: Tensor) -> Tensor:
    """Return the distance between two modalities' centres (Liang et al. 2022); for unit vectors from 0 to 2.

    Args:
        a: (M, D), of unit length.
        b: (N, D), of unit length.

    Chapter: pretraining/contrastive.
    """
    return (a.mean(dim=0) - b.mean(dim=0)).norm()


class RetrievalRecall(Metric):
    """R@k over a whole evaluation, averaged over all ordered pairs of modalities.

    Args:
        k: How many candidates are looked at.

    Chapter: pretraining/contrastive.
    """

    higher_is_better = True
    features: list[Tensor]
    present: list[Tensor]
    ids: list[Tensor]

    def __init__(self, k: int = 1) -> None:
        super().__init__()
        self.k = k
        self.names: list[str] = []
        for state in ("features", "present", "ids"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, features: Mapping[str, Tensor], target: Mapping[str, Any]) -> None:
        """Add a batch.

        Args:
            features: name → (B, D).
            target: "present": name → bool (B,), and, where several samples belong together, "ids": (B,).
        """
        self.names = sorted(features)
        self.features.append(torch.stack([features[name].float() for name in self.names], dim=1))  # (B, M, D)
        self.present.append(torch.stack([target["present"][name] for name in self.names], dim=1))  # (B, M)
        size, seen = len(self.present[-1]), sum(len(part) for part in self.present[:-1])
        own = torch.arange(seen, seen + size, device=self.present[-1].device)
        self.ids.append(target.get("ids", own))

    def compute(self) -> Tensor:
        """Return the share; zero where no pair of modalities has a common sample."""
        features, present, ids = (torch.cat(list(state)) for state in (self.features, self.present, self.ids))
        found = []
        for x, y in permutations(range(len(self.names)), 2):
            both = present[:, x] & present[:, y]
            if bool(both.any()):
                found.append((ranks(features[both, x], features[both, y], ids[both]) <= self.k).float().mean())
        return torch.stack(found).mean() if found else features.new_zeros(())
