"""A model whose modalities find one another, and the objective that trains it.

Chapter: pretraining/contrastive.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from mmlearn.batch import Batch
from mmlearn.labels import IGNORED
from mmlearn.missing import zero_missing
from mmlearn.pretraining.contrastive.losses import ContrastiveLoss
from mmlearn.pretraining.contrastive.metrics import RetrievalRecall


class ContrastiveModel(nn.Module):
    """Encoders whose outputs are projected into one space, where views of the same thing shall meet.

    Args:
        encoders: name → module that maps `(tensor, mask)` to features (B, dims[name]), two modalities or more.
        dims: name → width of that encoder's features.
        dim: Width D of the common space.
        criterion: The loss, whose temperature is learned with the rest; by default `ContrastiveLoss`.

    Chapter: pretraining/contrastive.
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        dims: Mapping[str, int],
        dim: int = 128,
        criterion: ContrastiveLoss | None = None,
    ) -> None:
        super().__init__()
        self.encoders: Any = nn.ModuleDict(encoders)
        self.project: Any = nn.ModuleDict({name: nn.Linear(dims[name], dim, bias=False) for name in encoders})
        self.criterion = criterion or ContrastiveLoss()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return name → (B, D) of unit length. Where a modality is absent, its vector means nothing.

        Raises:
            ValueError: If the batch lacks a modality of this model.
        """
        return {name: self.embed(name, batch) for name in self.encoders}

    def embed(self, name: str, batch: Batch) -> Tensor:
        """Return the vectors (B, D) of one modality, of unit length."""
        if name not in batch.data:
            raise ValueError(f"the batch has no {name!r}; this model reads {sorted(self.encoders)}")
        x = zero_missing(batch.data[name], batch.present[name])
        return nn.functional.normalize(self.project[name](self.encoders[name](x, batch.mask.get(name))), dim=-1)


class Contrastive:
    """Objective for `mmlearn.fit`: a clip's modalities find one another.

    Args:
        criterion: `ContrastiveModel.criterion` of the model that is trained: `fit` trains what the model holds.
        label: The key of labels that say which clips belong together; by default each belongs to itself only. Clips
            without the label (`Batch.labelled`) are not looked at.

    Chapter: pretraining/contrastive.
    """

    def __init__(self, criterion: ContrastiveLoss, label: str | None = None) -> None:
        self.criterion, self.label = criterion, label

    def loss(self, output: dict[str, Tensor], batch: Batch) -> Tensor:
        """Return the criterion's loss of name → (B, D)."""
        present, ids = self._known(batch)
        return self.criterion(output, {name: present[name] for name in output}, ids)

    def metrics(self) -> dict[str, Metric]:
        """Return fresh metrics: the share of clips that find a partner first, over all pairs of modalities."""
        return {"recall": RetrievalRecall()}

    def target(self, batch: Batch) -> dict[str, Any]:
        """Return what the metric needs: present, and ids where there is a label."""
        present, ids = self._known(batch)
        return {"present": present} | ({} if ids is None else {"ids": ids})

    def _known(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return which samples count, by modality, and their ids: those without the label do not."""
        if self.label is None:
            return dict(batch.present), None
        ids, labelled = batch.label(self.label)
        if ids.device.type == "cpu" and not labelled.any():
            ids = torch.full((len(ids),), IGNORED)
        if ids.ndim != 1 or ids.is_floating_point():
            raise ValueError(f"label {self.label!r} is {ids.dtype} {tuple(ids.shape)}; expected whole numbers (B,), "
                             "equal where clips belong together")  # fmt: skip
        return {name: there & labelled for name, there in batch.present.items()}, ids
