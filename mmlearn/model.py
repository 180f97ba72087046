"""MultimodalModel: encoders, a fusion and a head, put together.

Chapter: start/first_model.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mmlearn.batch import Batch
from mmlearn.missing import zero_missing


class MultimodalModel(nn.Module):
    """Encode each modality, fuse the vectors, apply the head.

    Args:
        encoders: name → module that maps `(tensor, mask)` to features (B, D). A batch may hold more modalities than
            these; they are not looked at.
        fusion: Module that maps `(features, present)` to (B, fusion.out_dim), such as `ConcatFusion`. If it has
            `uses_sequence`, as `BottleneckFusion` has, it is given what the encoders' method `steps(tensor, mask)`
            returns: features (B, N, D) and a mask (B, N) for each modality.
        head: Module for the task, e.g. `nn.Linear(fusion.out_dim, num_classes)`.

    Chapter: start/first_model.
    """

    def __init__(self, encoders: Mapping[str, nn.Module], fusion: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoders: Any = nn.ModuleDict(encoders)
        self.fusion = fusion
        self.head = head

    def forward(self, batch: Batch) -> Tensor:
        """Return the head's output for a batch, e.g. logits (B, num_classes).

        Raises:
            ValueError: If the batch lacks a modality of this model, or a sample has none of them.
        """
        features, masks = {}, {}
        uses_sequence = getattr(self.fusion, "uses_sequence", False)
        for name, encoder in self.encoders.items():
            if name not in batch.data:
                raise ValueError(f"the batch has no {name!r}; this model reads {sorted(self.encoders)}")
            given = zero_missing(batch.data[name], batch.present[name]), batch.mask.get(name)
            if uses_sequence:
                features[name], masks[name] = encoder.steps(*given)
            else:
                features[name] = encoder(*given)
        present = {name: batch.present[name] for name in features}
        if uses_sequence:
            return self.head(self.fusion(features, present, masks))
        return self.head(self.fusion(features, present))
