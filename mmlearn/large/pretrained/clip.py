"""CLIP and Chinese-CLIP: pictures and sentences in one space.

Chapter: pretraining/contrastive.
"""

import math

import torch
from torch import Tensor, nn

from mmlearn.large.pretrained.layers import Config, Pixels, build_transformer, named, pair
from mmlearn.nn.patches import PatchEmbedding, TokenEmbedding
from mmlearn.pretraining.contrastive.model import ContrastiveModel

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of red, green and blue, from 0 to 1, as OpenAI trained with
DEVIATION = (0.26862954, 0.26130258, 0.27577711)


class CLIPImage(nn.Module):
    """CLIP's image encoder (Radford et al. 2021): a ViT with a class step, normalised before its first block, too.

    Args:
        config: `vision_config` of a checkpoint of the type "clip" or "chinese_clip".

    Chapter: pretraining/contrastive.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.dim = config["hidden_size"]
        shape, patch = pair(config["image_size"]), pair(config["patch_size"])
        self.embed = PatchEmbedding(shape, patch, self.dim, positions="none")
        self.embed.project = nn.Linear(self.embed.project.in_features, self.dim, bias=False)
        self.first = nn.Parameter(0.02 * torch.randn(self.dim))
        self.places = nn.Parameter(0.02 * torch.randn(1 + math.prod(self.embed.grid), self.dim))
        self.norm = nn.LayerNorm(self.dim, config["layer_norm_eps"])
        self.transformer = build_transformer(config)
        self.pixels = Pixels(shape, MEAN, DEVIATION)

    def forward(self, image: Tensor, mask: None = None) -> Tensor:
        """Encode pictures (B, 3, H, W) to (B, dim): the class step; see `steps`."""
        return self.steps(image, mask)[0][:, 0]

    def steps(self, image: Tensor, mask: None = None) -> tuple[Tensor, None]:
        """Encode pictures to a class step and one a patch, (B, 1 + N, dim); there is no mask.

        Args:
            image: (B, 3, H, W): bytes, or floats of which CLIP's mean is taken and its standard deviation divided out.
            mask: None.

        Raises:
            ValueError: If H or W do not fit, or a mask is given.
        """
        if mask is not None:
            raise ValueError("CLIPImage takes no mask; give pictures of equal size")
        x = self.embed(self.pixels(image))  # (B, N, dim)
        x = torch.cat([self.first.expand(len(x), 1, -1), x], dim=1) + self.places  # (B, 1 + N, dim)
        return self.transformer(self.norm(x)), None


class CLIPText(nn.Module):
    """CLIP's text encoder (Radford et al. 2021): a token sees those before it; the end token stands for the sentence.

    Args:
        config: `text_config` of a checkpoint of the type "clip".

    Chapter: pretraining/contrastive.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.dim = config["hidden_size"]
        self.embed = TokenEmbedding(config["vocab_size"], self.dim, config["max_position_embeddings"])
        self.embed.embed = nn.Embedding(config["vocab_size"], self.dim)  # token 0 is no padding here
        self.transformer = build_transformer(config, causal=True)
        self.end = config["eos_token_id"]

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode ids (B, L) to (B, dim): the step of the first end token; see `steps`."""
        x, _ = self.steps(ids, mask)
        if mask is not None:
            ids = torch.where(mask, ids, -1)
        # Older configs name 2 as the end token, by mistake: it is the one with the largest id.
        place = ids.argmax(dim=1) if self.end == 2 else (ids == self.end).int().argmax(dim=1)  # (B,): the first one
        return x[torch.arange(len(x), device=x.device), place]

    def steps(self, ids: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Encode ids (B, L) to one step a token, (B, L, dim), and their mask (B, L), True where a token is real.

        Padding follows what is real.

        Raises:
            ValueError: If there are more tokens than places.
        """
        return self.transformer(self.embed(ids), mask), mask


class BertText(nn.Module):
    """Chinese-CLIP's text encoder (Yang et al. 2022): BERT (Devlin et al. 2019), whose first step is the sentence.

    Args:
        config: `text_config` of a checkpoint of the type "chinese_clip".

    Chapter: pretraining/contrastive.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.dim = config["hidden_size"]
        self.embed = TokenEmbedding(config["vocab_size"], self.dim, config["max_position_embeddings"])
        self.token_types = nn.Embedding(
            config["type_vocab_size"], self.dim
        )  # first sentence or second; here all are first
        self.norm = nn.LayerNorm(self.dim, config["layer_norm_eps"])
        self.dropout = nn.Dropout(config["hidden_dropout_prob"])
        self.transformer = build_transformer(config, post_norm=True)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode ids (B, L) to (B, dim): the first token's step; see `steps`."""
        return self.steps(ids, mask)[0][:, 0]

    def steps(self, ids: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Encode ids (B, L) to one step a token, (B, L, dim), and their mask (B, L), True where a token is real.

        Raises:
            ValueError: If there are more tokens than places.
        """
        x = self.dropout(self.norm(self.embed(ids) + self.token_types.weight[0]))  # (B, L, dim)
        return self.transformer(x, mask), mask


class CLIP(ContrastiveModel):
    """CLIP (Radford et al. 2021), or Chinese-CLIP (Yang et al. 2022): pictures and sentences in one space.

    A `ContrastiveModel` with the encoders "image" and "text"; its temperature is `criterion`'s.

    Args:
        config: Settings of a checkpoint of the type "clip" or "chinese_clip".

    Chapter: pretraining/contrastive.
    """

    def __init__(self, config: Config) -> None:
        chinese = config["model_type"] == "chinese_clip"
        image = CLIPImage(config["vision_config"])
        text = (BertText if chinese else CLIPText)(config["text_config"])
        dims = {"image": image.dim, "text": text.dim}
        super().__init__({"image": image, "text": text}, dims, config["projection_dim"])
        self.config = named("ChineseCLIPModel" if chinese else "CLIPModel", config)
