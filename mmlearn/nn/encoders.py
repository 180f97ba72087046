"""Small encoders that turn one modality into one vector: convolutions, then attention pooling.

They use no batch normalisation: with it, an absent or odd sample would change its neighbours' features.

Chapter: start/first_model.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from mmlearn.nn.pooling import AttentionPool
from mmlearn.nn.widening import like_weights, precise


def standardise(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Give each sample of a batch mean 0 and standard deviation 1, over all that is real in it.

    Loudness, exposure and paper differ from clip to clip; without this step training stands still for several epochs.

    Args:
        x: (B, …, N), floating-point; half precision is widened to float32.
        mask: bool (B, N), True where a step is real; the steps that are not keep no influence.

    Chapter: start/first_model.
    """
    x, dims = precise(x), tuple(range(1, x.ndim))
    if mask is None:
        deviation, mean = torch.std_mean(x, dim=dims, keepdim=True, correction=0)
        return (x - mean) / (deviation + 1e-3)
    real = mask.view(len(x), *[1] * (x.ndim - 2), -1).expand_as(x)  # (B, …, N)
    count = real.sum(dims, keepdim=True).clamp(min=1)
    mean = torch.where(real, x, 0.0).sum(dims, keepdim=True) / count
    centred = torch.where(real, x - mean, 0.0)
    deviation = (centred.square().sum(dims, keepdim=True) / count).sqrt()
    return centred / (deviation + 1e-3)


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
        self.tubelet = tubelet
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


class AudioEncoder(nn.Module):
    """Encode a log-mel spectrogram: three convolutions along time, each halving it, then pooling over time.

    Args:
        num_mels: Mel bands M of the input.
        dim: Width of the output.
        width: Channels of the first two convolutions.
        dropout: Share of features dropped before pooling.

    Chapter: start/first_model.
    """

    def __init__(self, num_mels: int = 64, dim: int = 128, width: int = 64, dropout: float = 0.1) -> None:
        super().__init__()
        widths = [num_mels, width, width, dim]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(fan_in, fan_out, 5, stride=2, padding=2) for fan_in, fan_out in pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(fan_out) for fan_out in widths[1:])  # over channels, step by step
        self.dropout = nn.Dropout(dropout)
        self.pool = AttentionPool(dim)

    def forward(self, mel: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode log-mel (B, M, T) to (B, dim); `mask` (B, T) is True where a step is real."""
        x, mask = self.steps(mel, mask)
        return self.pool(self.dropout(x), mask)

    def steps(self, mel: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Encode log-mel (B, M, T) to one vector for eight of its steps, (B, T/8, dim), and their mask (B, T/8)."""
        x = like_weights(standardise(mel, mask), self.convolutions)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            if mask is not None:
                x = x.masked_fill(~mask[:, None], 0.0)  # padding looks like what a convolution pads with
                mask = mask[:, ::2]
            x = nn.functional.gelu(norm(convolution(x).transpose(1, 2))).transpose(1, 2)  # (B, C, T/2)
        return x.transpose(1, 2), mask


class TextEncoder(nn.Module):
    """Encode token ids: embeddings, one convolution over neighbours, pooling over tokens.

    Args:
        num_tokens: Size of the vocabulary. Token 0 is padding.
        dim: Width of the output.
        dropout: Share of features dropped before pooling.

    Chapter: start/first_model.
    """

    def __init__(self, num_tokens: int, dim: int = 128, dropout: float = 0.1) -> None:
        super().__init__()
        self.embed = nn.Embedding(num_tokens, dim, padding_idx=0)
        self.convolution = nn.Conv1d(dim, dim, 3, padding=1)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.pool = AttentionPool(dim)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode ids (B, L) to (B, dim); `mask` (B, L) is True where a token is real."""
        x, mask = self.steps(ids, mask)
        return self.pool(self.dropout(x), mask)

    def steps(self, ids: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Encode ids (B, L) to one vector a token, (B, L, dim), and their mask (B, L)."""
        x = self.embed(ids)  # (B, L, dim)
        if mask is not None:
            x = torch.where(mask[..., None], x, 0.0)
        x = x + nn.functional.gelu(self.convolution(x.transpose(1, 2)).transpose(1, 2))
        return self.norm(x), mask
