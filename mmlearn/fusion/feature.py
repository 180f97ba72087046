"""Feature-level fusion (特征级融合): one vector a modality, joined into one.

Chapters: start/first_model, fusion/feature.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmlearn.clip import check_present


class ConcatFusion(nn.Module):
    """Concatenate the modalities' vectors and mix them with one linear layer (Ngiam et al. 2011).

    A modality that a sample lacks is replaced by a learned vector of its own, so nothing that stands in its place
    reaches the output.

    Args:
        dims: name → width of that modality's vector.
        dim: Width of the output, also `.out_dim`.

    Chapters: start/first_model, fusion/feature.
    """

    def __init__(self, dims: Mapping[str, int], dim: int = 128) -> None:
        super().__init__()
        self.names = sorted(dims)  # the order of the caller's dictionary must not matter
        self.absent = nn.ParameterDict({name: nn.Parameter(torch.zeros(dims[name])) for name in self.names})
        self.mix = nn.Linear(sum(dims.values()), dim)
        self.out_dim = dim

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> Tensor:
        """Fuse name → (B, dims[name]) to (B, dim); `present` is name → bool (B,), by default all True.

        Raises:
            ValueError: If a modality is not given, or a sample has none of them.
        """
        missing = [name for name in self.names if name not in features]
        if missing:
            raise ValueError(f"features lack {missing}; expected {self.names}")
        vectors = [features[name] for name in self.names]
        if present is not None:
            if not torch.compiler.is_compiling():  # the check waits for the device; a compiled graph cannot
                check_present({name: present[name] for name in self.names})
            vectors = [
                torch.where(present[name][:, None], vector, self.absent[name].to(vector.dtype))
                for name, vector in zip(self.names, vectors, strict=True)
            ]
        return self.mix(torch.cat(vectors, dim=-1))  # (B, sum of dims) → (B, dim)
