"""Encoders of video: convolutions over tubelets (patches of a few frames), or a Transformer over tubelets.

The small one uses no batch normalisation: with it, an absent or odd sample would change its neighbours' features.

Chapters: start/first_model, pretraining/masked.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from mmlearn.encoders.transformer import Transformer, named_size
from mmlearn.nn.functional import like_weights, standardize, to_float32
from mmlearn.nn.patches import PatchEmbedding, Positions
from mmlearn.nn.pooling import AttentionPool


class VideoEncoder(nn.Module):
    """Encode frames: patches of a few frames (tubelets), two convolutions, pooling over time.

    The first convolution has kernel = stride, as the tubelet embedding of ViViT (Arnab et al. 2021): it looks at every
    pixel once, which makes it many times cheaper than a 3x3x3 convolution at full size.

    Args:
        size: Height and width (H, W) of a frame in pixels, multiples of 16.
        tubelet: Frames T' in a patch; 4 for slow writing, fewer for fast lips.
        dim: Width of the output.
        width: Channels after the first convolution; doubled by each of the next two.
        dropout: Share of features dropped before pooling.
        pool: Module from steps (B, T/T', dim) to (B, dim); by default `AttentionPool`.

    Raises:
        ValueError: If a side is no multiple of 16.

    Chapter: start/first_model.

    Examples:
        >>> import torch
        >>> VideoEncoder()(torch.zeros(2, 3, 8, 48, 48, dtype=torch.uint8)).shape
        torch.Size([2, 128])
    """

    def __init__(
        self,
        size: tuple[int, int] = (48, 48),
        tubelet: int = 4,
        dim: int = 128,
        width: int = 16,
        dropout: float = 0.1,
        pool: nn.Module | None = None,
    ) -> None:
        super().__init__()
        height, breadth = size
        if height % 16 or breadth % 16:
            raise ValueError(f"size is {size}; expected multiples of 16")
        self.dim, self.tubelet = dim, tubelet
        self.convolutions = nn.Sequential(
            nn.Conv3d(3, width, (tubelet, 4, 4), stride=(tubelet, 4, 4)),  # (B, width, T/T', H/4, W/4)
            nn.GroupNorm(width, width),  # each channel by itself: the clip's brightness and contrast go
            nn.GELU(),
            nn.Conv3d(width, 2 * width, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),  # (…, T/T', H/8, W/8)
            nn.GroupNorm(4, 2 * width),
            nn.GELU(),
            nn.Conv3d(2 * width, 4 * width, 3, stride=(1, 2, 2), padding=1),  # (…, T/T', H/16, W/16)
            nn.GroupNorm(4, 4 * width),
            nn.GELU(),
        )
        self.project = nn.Linear(4 * width * (height // 16) * (breadth // 16), dim)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.pool = pool or AttentionPool(dim)

    def forward(self, video: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode video (B, 3, T, H, W), uint8 or float, to (B, dim); see `steps`."""
        return self.pool(self.dropout(self.steps(video, mask)[0]))

    def steps(self, video: Tensor, mask: Tensor | None = None) -> tuple[Tensor, None]:
        """Encode video (B, 3, T, H, W), uint8 or float, to one vector a tubelet: (B, T/T', dim), without padding.

        Bytes stay bytes until here: on their way to the device they take a quarter of the floats' time.

        Raises:
            ValueError: If there are fewer frames than a tubelet has, or a mask is given: clips here have equal length.
        """
        if mask is not None:
            raise ValueError("VideoEncoder takes no mask; give clips of equal length")
        if video.shape[2] < self.tubelet:
            raise ValueError(f"video has {video.shape[2]} frames; expected at least {self.tubelet}, one tubelet")
        x = self.convolutions(like_weights(video, self.convolutions))  # (B, C, N, h, w) with N = T/T'
        x = x.permute(0, 2, 1, 3, 4).flatten(2)  # (B, N, C * h * w)
        return nn.functional.gelu(self.norm(self.project(x))), None


class VideoTransformer(nn.Module):
    """Encode frames: tubelets, patches of a few frames (ViViT, Arnab et al. 2021), as steps of a Transformer.

    Args:
        shape: Frames, height and width (T, H, W) of a clip.
        patch: Frames, height and width of a tubelet; they divide `shape`.
        size: A name in `SIZES`, or a dictionary of arguments for `Transformer`: dim, depth, num_heads, …
        positions: See `PatchEmbedding`.
        dropout: Share dropped in the blocks and before pooling.
        drop_path: See `Transformer`.
        checkpoint: See `Transformer`.
        pool: Module from steps (B, N, dim) and their mask to (B, dim); by default `AttentionPool`.

    Chapter: pretraining/masked.

    Examples:
        >>> import torch
        >>> VideoTransformer()(torch.zeros(1, 3, 16, 48, 48)).shape
        torch.Size([1, 128])
    """

    def __init__(
        self,
        shape: tuple[int, int, int] = (16, 48, 48),
        patch: tuple[int, int, int] = (4, 16, 16),
        size: str | Mapping[str, int] = "tiny",
        positions: Positions = "sincos",
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

    def forward(self, video: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode video (B, 3, T, H, W) to (B, dim); see `steps`."""
        x, mask = self.steps(video, mask)
        return self.pool(self.dropout(x), mask)

    def steps(self, video: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Encode video to one step a tubelet, (B, N, dim), in the order of time, and their mask (B, N).

        Args:
            video: (B, 3, T, H, W), bytes or floats. Each clip is brought to mean 0 and deviation 1.
            mask: bool (B, T), True where a frame is real. A tubelet is real if one of its frames is.

        Raises:
            ValueError: If T, H or W is no multiple of the tubelet's.
        """
        video = to_float32(video)
        if mask is None:
            return self.transformer(self.embed(standardize(video))), None
        video = standardize(video.movedim(2, -1), mask).movedim(-1, 2)  # padding becomes 0
        x = self.embed(video)  # (B, N, dim)
        real = mask.unflatten(1, (-1, self.embed.patch[0])).any(dim=-1)  # (B, T) → (B, T/T')
        real = real.repeat_interleave(x.shape[1] // real.shape[1], dim=1)  # (B, N)
        return self.transformer(x, real), real
