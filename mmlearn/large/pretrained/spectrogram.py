"""AST, the Audio Spectrogram Transformer; and the head of a fine-tuned encoder.

Chapter: pretraining/masked.
"""

import math

import torch
from torch import Tensor, nn

from mmlearn.large.pretrained.layers import Config, build_transformer, named, pair
from mmlearn.large.pretrained.videomae import VideoMAEEncoder


class AST(nn.Module):
    """The Audio Spectrogram Transformer (Gong et al. 2021): overlapping patches, behind two steps that stand for all.

    Args:
        config: Settings of a checkpoint of the type "audio-spectrogram-transformer".

    Chapter: pretraining/masked.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = named("ASTModel", config)
        self.dim = config["hidden_size"]
        self.patch = pair(config["patch_size"])  # bands, steps of time
        self.stride = (config["frequency_stride"], config["time_stride"])
        self.shape = (config["num_mel_bins"], config["max_length"])
        self.grid = tuple(
            (side - p) // s + 1 for side, p, s in zip(self.shape, self.patch, self.stride, strict=True)
        )  # how many patches
        self.project = nn.Conv2d(1, self.dim, self.patch, self.stride)
        self.first = nn.Parameter(torch.zeros(1, 1, self.dim))  # the class step
        self.second = nn.Parameter(torch.zeros(1, 1, self.dim))  # the distillation step (DeiT, Touvron et al. 2021)
        self.places = nn.Parameter(0.02 * torch.randn(1, 2 + math.prod(self.grid), self.dim))
        self.dropout = nn.Dropout(config["hidden_dropout_prob"])
        self.transformer = build_transformer(config)

    def forward(self, mel: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode log-mel (B, M, T) to (B, dim): the mean of the first two steps; see `steps`."""
        return self.steps(mel, mask)[0][:, :2].mean(dim=1)

    def steps(self, mel: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Encode log-mel to two steps for all and one a patch, (B, 2 + N, dim), and their mask (B, 2 + N).

        The patches of the lowest band come first, in the order of time.

        Args:
            mel: (B, M, T), standardised as the checkpoint wants it: for AudioSet (x + 4.268) / (2 * 4.569), x the log
                of Kaldi's filter bank at 16 kHz, 10 ms a step.
            mask: bool (B, T), True where a step of time is real. A patch is real if one of its steps is.

        Raises:
            ValueError: If M or T do not fit.
        """
        if mel.shape[1] != self.shape[0] or not 0 < mel.shape[2] <= self.shape[1]:
            raise ValueError(f"mel is {tuple(mel.shape)}; expected (B, {self.shape[0]}, at most {self.shape[1]})")
        if mask is not None:
            mel = torch.where(mask[:, None], mel, 0.0)
        count = min(math.ceil(mel.shape[2] / self.stride[1]), self.grid[1])  # patches that begin within
        end = (count - 1) * self.stride[1] + self.patch[1]  # where the last one ends
        x = self.project(nn.functional.pad(mel, (0, end - mel.shape[2]))[:, None])  # (B, dim, bands, count)
        x = x.flatten(2).transpose(1, 2)  # (B, N, dim)
        two = torch.cat([self.first, self.second], dim=1).expand(len(x), -1, -1)
        places = self.places[0, 2:].unflatten(0, self.grid)[:, :count].flatten(0, 1)  # (N, dim)
        x = torch.cat([two + self.places[:, :2], x + places], dim=1)  # (B, 2 + N, dim)
        if mask is None:
            return self.transformer(self.dropout(x)), None
        real = nn.functional.pad(mask, (0, end - mel.shape[2])).unfold(1, self.patch[1], self.stride[1]).any(dim=-1)
        real = real.repeat(1, self.grid[0])  # (B, count) → (B, N)
        real = nn.functional.pad(real, (2, 0), value=True)
        return self.transformer(self.dropout(x), real), real


class Classifier(nn.Module):
    """A fine-tuned encoder: its vector, normalised, and a linear head.

    Args:
        encoder: `VideoMAEEncoder` or `AST`.
        name: What the published class is called.
        eps: Of the normalisation.

    Chapter: pretraining/masked.
    """

    def __init__(self, encoder: VideoMAEEncoder | AST, name: str, eps: float) -> None:
        super().__init__()
        self.config = named(name, encoder.config)
        self.encoder = encoder
        self.norm = nn.LayerNorm(encoder.dim, eps)
        self.head = nn.Linear(encoder.dim, len(self.config.get("id2label") or range(self.config.get("num_labels", 2))))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return logits (B, num_classes) for what the encoder takes; `config["id2label"]` names the classes."""
        return self.head(self.norm(self.encoder(x, mask)))
