"""What is an encoder worth? A linear probe on its features, and few labels to finetune it with.

Chapters: pretraining/autoencoder, finetuning/classification.
"""

import warnings

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from mmlearn.labels import IGNORED

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)  # values of C, the inverse of the penalty's weight, that are tried
FOLDS = 3


def few_shot_subset(labels: Tensor, per_class: int, seed: int = 0) -> Tensor:
    """Draw equally many samples of each class, without replacement.

    Args:
        labels: Whole numbers (B,), the classes; -100, a missing one, is not drawn.
        per_class: How many of each.
        seed: Same seed, same draw.

    Returns:
        Indices (K · per_class,) of the K classes' samples, in random order.

    Raises:
        ValueError: If `per_class` is not positive, or a class has fewer samples; it says which.

    Chapters: pretraining/autoencoder, finetuning/classification.

    Examples:
        >>> few_shot_subset(torch.tensor([0, 1, 0, 1]), 1, seed=0).shape
        torch.Size([2])
    """
    if per_class < 1:
        raise ValueError(f"per_class is {per_class}; expected at least 1")
    classes, counts = labels[labels != IGNORED].unique(return_counts=True)
    if len(counts) == 0 or counts.min() < per_class:
        rarest = f"class {int(classes[counts.argmin()])} has {int(counts.min())}" if len(counts) else "there are no"
        raise ValueError(f"{rarest} samples; expected at least per_class = {per_class}")
    rng = np.random.default_rng(seed)
    where = labels.cpu().numpy()
    drawn = [rng.choice(np.flatnonzero(where == c), per_class, replace=False) for c in classes.tolist()]
    return torch.from_numpy(rng.permutation(np.concatenate(drawn)))


def linear_probe(train_x: Tensor, train_y: Tensor, test_x: Tensor, test_y: Tensor, seed: int = 0) -> float:
    """Return the test accuracy of logistic regression on frozen features (Alain & Bengio 2016).

    Features are standardised by the training samples' mean and deviation. The penalty is the squared norm of the
    weights (L2). Its strength is chosen by 3-fold cross-validation of the training samples; the test samples have no
    say in it. With fewer than 3 samples of some class there is nothing to choose by, and it is C = 1. Samples whose
    class is missing (-100) do not count.

    Args:
        train_x: Features (B, D).
        train_y: Their classes (B,), whole numbers.
        test_x: Features (B', D) to judge by.
        test_y: Their classes (B',).
        seed: Of the folds.

    Raises:
        ValueError: If the shapes do not fit, or a feature is not finite.

    Chapters: pretraining/autoencoder, finetuning/classification.
    """
    for name, x, y in (("train", train_x, train_y), ("test", test_x, test_y)):
        if x.ndim != 2 or y.shape != (len(x),) or x.shape[1] != train_x.shape[1]:
            raise ValueError(f"{name}_x is {tuple(x.shape)}, {name}_y {tuple(y.shape)}; expected (B, D), the same D in "
                             "both, and (B,)")  # fmt: skip
        if not x.isfinite().all():
            raise ValueError(f"{name}_x holds values that are not finite")
        if not (y != IGNORED).any():
            raise ValueError(f"{name}_y has no class that is known: {len(y)} samples, all of them {IGNORED} or none")
    train_x, train_y = train_x[train_y != IGNORED], train_y[train_y != IGNORED]
    test_x, test_y = test_x[test_y != IGNORED], test_y[test_y != IGNORED]
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    rarest = int(train_y.unique(return_counts=True)[1].min())
    if rarest >= FOLDS:
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
        probe = GridSearchCV(probe, {"logisticregression__C": STRENGTHS}, cv=folds)
    data = [part.detach().cpu().numpy() for part in (train_x, train_y, test_x, test_y)]
    with warnings.catch_warnings():  # with one sample a class, scikit-learn takes classes for quantities
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        return float(probe.fit(*data[:2]).score(*data[2:]))
