"""A model whose modalities find one another, and the objective that trains it.

Chapter: pretraining/contrastive.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torchmetrics import Metric

from mmlearn.clip import Batch
from mmlearn.model import fill_absent
from mmlearn.pretraining.contrastive import ContrastiveLoss
from mmlearn.pretraining.retrieval import RetrievalRecall


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
        x = fill_absent(batch.data[name], batch.present[name])
        return nn.functional.normalize(self.project[name](self.encoders[name](x, batch.mask.get(name))), dim=-1)


class Contrastive:
    """Objective for `mmlearn.fit`: a clip's modalities find one another.

    Args:
        criterion: `ContrastiveModel.criterion` of the model that is trained: `fit` trains what the model holds.
        label: The key of labels that say which clips belong together; by default each belongs to itself only.

    Chapter: pretraining/contrastive.
    """

    def __init__(self, criterion: ContrastiveLoss, label: str | None = None) -> None:
        self.criterion, self.label = criterion, label

    def loss(self, output: dict[str, Tensor], batch: Batch) -> Tensor:
        """Return the criterion's loss of name → (B, D)."""
        present = {name: batch.present[name] for name in output}
        return self.criterion(output, present, None if self.label is None else self._ids(batch))

    def metrics(self) -> dict[str, Metric]:
        """Return fresh metrics: the share of clips that find a partner first, over all pairs of modalities."""
        return {"recall": RetrievalRecall()}

    def target(self, batch: Batch) -> dict[str, Any]:
        """Return what the metric needs: present, and ids where there is a label."""
        return {"present": dict(batch.present)} | ({} if self.label is None else {"ids": self._ids(batch)})

    def _ids(self, batch: Batch) -> Tensor:
        if self.label not in batch.labels:
            raise ValueError(f"the batch has no label {self.label!r}; it has {sorted(batch.labels)}")
        return batch.labels[self.label]
