"""VideoMAE: a Transformer over tubelets, and how it is pretrained.

Chapter: pretraining/masked.
"""

import math

import torch
from torch import Tensor, nn

from mmlearn.batch import Batch
from mmlearn.large.pretrained.layers import Config, Pixels, build_transformer, named, pair, sine_table
from mmlearn.missing import zero_missing
from mmlearn.nn.patches import PatchEmbedding, patchify
from mmlearn.pretraining.masked.autoencoder import MaskedOutput
from mmlearn.pretraining.masked.masking import PatchMask, take, tube_masking

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's: red, green and blue, from 0 to 1


class VideoMAEEncoder(nn.Module):
    """VideoMAE's encoder (Tong et al. 2022): tubelets as steps of a Transformer, with one sine table for all places.

    Args:
        config: Settings of a checkpoint of the type "videomae".

    Chapter: pretraining/masked.
    """

    places: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = named("VideoMAEModel", config)
        self.dim = config["hidden_size"]
        sides, patch = pair(config["image_size"]), pair(config["patch_size"])
        shape, tubelet = (config["num_frames"], *sides), (config["tubelet_size"], *patch)
        self.embed = PatchEmbedding(shape, tubelet, self.dim, positions="none")
        self.register_buffer("places", sine_table(math.prod(self.embed.grid), self.dim), persistent=False)
        self.transformer = build_transformer(config, norm=not config["use_mean_pooling"])  # else after the mean
        self.pixels = Pixels(shape, MEAN, DEVIATION)

    def forward(self, video: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode video to (B, dim): the mean over all real steps; see `steps`."""
        x, mask = self.steps(video, mask)
        if mask is None:
            return x.mean(dim=1)
        return torch.where(mask[..., None], x, 0.0).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)

    def steps(self, video: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Encode video to one step a tubelet, (B, N, dim), in the order of time, and their mask (B, N).

        Args:
            video: (B, 3, T, H, W): bytes, or floats standardized by ImageNet's mean and standard deviation. T
                may be smaller than `num_frames`.
            mask: bool (B, T), True where a frame is real. A tubelet is real if one of its frames is.

        Raises:
            ValueError: If T, H or W do not fit.
        """
        video, real = self.prepare(video, mask)
        x = self.embed(video)  # (B, N, dim)
        return self.transformer(x + self.places[: x.shape[1]], real), real

    def prepare(self, video: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the clip as the checkpoint wants it, zeros where there is padding, and which tubelets are real."""
        video = self.pixels(video)
        if video.shape[2] % self.embed.patch[0]:
            raise ValueError(f"video has {video.shape[2]} frames; expected a multiple of {self.embed.patch[0]}")
        if mask is None:
            return video, None
        video = torch.where(mask[:, None, :, None, None], video, 0.0)
        real = mask.unflatten(1, (-1, self.embed.patch[0])).any(dim=-1)  # (B, T) → (B, T/T')
        return video, real.repeat_interleave(math.prod(self.embed.grid[1:]), dim=1)  # (B, N)


class VideoMAE(nn.Module):
    """VideoMAE as it is pretrained (Tong et al. 2022): guess the tubelets of a clip that are hidden.

    Like a `MaskedAutoencoder`, it takes a batch and returns a `MaskedOutput`; `MaskedPrediction` computes the loss.

    Args:
        config: Settings of a checkpoint of the type "videomae".

    Chapter: pretraining/masked.
    """

    places: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = named("VideoMAEForPreTraining", config)
        self.encoder = VideoMAEEncoder(config)
        dim, grid = config["decoder_hidden_size"], self.encoder.embed.grid
        keys = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        self.project = nn.Linear(self.encoder.dim, dim, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.register_buffer("places", sine_table(math.prod(grid), dim), persistent=False)
        self.decoder = build_transformer({**config, **{key: config[f"decoder_{key}"] for key in keys}})
        self.decoder.norm.eps = 1e-5
        self.head = nn.Linear(dim, 3 * math.prod(self.encoder.embed.patch))
        self.standardize = bool(config["norm_pix_loss"])

    def forward(self, batch: Batch, split: PatchMask | None = None) -> MaskedOutput:
        """Return the guess about hidden tubelets.

        Args:
            batch: It holds "video", (B, 3, T, H, W), as `VideoMAEEncoder.steps` takes it, T = `num_frames`. Where that
                is absent, nothing counts.
            split: What to hide; by default `tube_masking` draws 90 %.

        Raises:
            ValueError: If the batch lacks video, or T, H or W do not fit.
        """
        if "video" not in batch.data:
            raise ValueError(f"the batch has no 'video'; it has {sorted(batch.data)}")
        video, real = self.encoder.prepare(
            zero_missing(batch.data["video"], batch.present["video"]), batch.mask.get("video")
        )
        if split is None:
            split = tube_masking(len(video), self.encoder.embed.grid, device=video.device)
        prediction = self.predict(video, split, real)
        errors = (prediction - self.target(video, split)).square().mean(dim=-1)  # (B, hidden)
        counts = batch.present["video"][:, None].expand_as(errors)
        counts = counts if real is None else counts & take(real, split.masked)
        return MaskedOutput(prediction, torch.where(counts, errors, 0.0), counts, split.masked, split.visible)

    def predict(self, video: Tensor, split: PatchMask, real: Tensor | None = None) -> Tensor:
        """Return patches (B, hidden, C * T' * H' * W'), ordered as `patchify` orders them, for a prepared clip.

        Args:
            video: (B, 3, T, H, W), as `VideoMAEEncoder.prepare` returns it.
            split: Which tubelets are kept, and which are hidden.
            real: bool (B, N), which tubelets are real.
        """
        encoder, count = self.encoder, split.visible.shape[1]
        ordered = None if real is None else take(real, torch.cat(split, dim=1))  # (B, N), the kept ones first
        kept = take(patchify(video, encoder.embed.patch), split.visible)  # (B, kept, C * T' * H' * W')
        x = encoder.embed.project(kept) + encoder.places[split.visible]
        x = encoder.transformer(x, None if ordered is None else ordered[:, :count])
        x = self.project(x) + self.places[split.visible]  # (B, kept, the decoder's dim)
        x = torch.cat([x, self.mask_token + self.places[split.masked]], dim=1)  # (B, N, the decoder's dim)
        y = self.head(self.decoder(x, ordered)[:, count:])  # (B, hidden, T' * H' * W' * C)
        return y.unflatten(-1, (-1, 3)).transpose(-1, -2).flatten(2)

    @torch.no_grad()
    def target(self, video: Tensor, split: PatchMask) -> Tensor:
        """Return what `predict` should: pixels from 0 to 1; with `norm_pix_loss`, standardised by patch and colour."""
        pixels = self.encoder.pixels
        patches = patchify(video * pixels.std + pixels.mean, self.encoder.embed.patch)
        patches = take(patches, split.masked).unflatten(-1, (3, -1))  # (B, hidden, C, T' * H' * W')
        if self.standardize:
            std, mean = torch.std_mean(patches, dim=-1, keepdim=True)
            patches = (patches - mean) / (std + 1e-6)
        return patches.flatten(2)
