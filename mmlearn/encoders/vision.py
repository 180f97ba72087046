"""Encoders of pictures: a Transformer over patches.

Chapter: pretraining/contrastive.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from mmlearn.encoders.transformer import Transformer, named_size
from mmlearn.nn.functional import standardize
from mmlearn.nn.patches import PatchEmbedding, Positions
from mmlearn.nn.pooling import AttentionPool


class ImageTransformer(nn.Module):
    """Encode a picture: patches as steps of a Transformer (ViT, Dosovitskiy et al. 2021), without a class token.

    Args:
        shape: Height and width (H, W).
        patch: Height and width of a patch; they divide `shape`.
        size, positions, dropout, drop_path, checkpoint, pool: See `VideoTransformer`.

    Chapter: pretraining/contrastive.

    Examples:
        >>> import torch
        >>> ImageTransformer()(torch.zeros(2, 3, 48, 48)).shape
        torch.Size([2, 128])
    """

    def __init__(
        self,
        shape: tuple[int, int] = (48, 48),
        patch: tuple[int, int] = (16, 16),
        size: str | Mapping[str, int] = "tiny",
        positions: Positions = "learned",
        dropout: float = 0.0,
        drop_path: float = 0.0,
        checkpoint: bool = False,
        pool: nn.Module | None = None,
    ) -> None:
        super().__init__()
        sizes = named_size(size)
        self.dim = sizes["dim"]
        self.embed = PatchEmbedding(shape, patch, self.dim, positions=positions)
        self.transformer = Transformer(**sizes, dropout=dropout, drop_path=drop_path, checkpoint=checkpoint)
        self.dropout = nn.Dropout(dropout)
        self.pool = pool or AttentionPool(self.dim)

    def forward(self, image: Tensor, mask: None = None) -> Tensor:
        """Encode pictures (B, 3, H, W) to (B, dim); see `steps`."""
        x, _ = self.steps(image, mask)
        return self.pool(self.dropout(x))

    def steps(self, image: Tensor, mask: None = None) -> tuple[Tensor, None]:
        """Encode pictures (B, 3, H, W), bytes or floats, to one step a patch, (B, N, dim); there is no mask.

        Raises:
            ValueError: If H or W is no multiple of the patch's, or a mask is given.
        """
        if mask is not None:
            raise ValueError("ImageTransformer takes no mask; give pictures of equal size")
        return self.transformer(self.embed(standardize(image))), None
