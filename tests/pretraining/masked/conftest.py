"""What several test files of this folder use."""

import torch

from mmlearn import Batch
from mmlearn.encoders import AudioTransformer, VideoTransformer
from mmlearn.nn import PatchEmbedding, TokenEmbedding
from mmlearn.pretraining.masked.autoencoder import MaskedAutoencoder, MaskedPrediction
from mmlearn.pretraining.masked.joint import JointMaskedAutoencoder

SMALL = {"dim": 16, "depth": 2, "num_heads": 2}


LIGHT = {"dim": 8, "depth": 1, "num_heads": 1}


loss_of = MaskedPrediction().loss


def clips(size: int = 3) -> Batch:
    """Frames of bytes, log-mel whose length is no multiple of a patch's, and token ids; all with padding but frames."""
    torch.manual_seed(0)
    lengths = {"audio": torch.tensor([14, 9, 5])[:size], "text": torch.tensor([6, 3, 5])[:size]}
    data = {
        "video": torch.randint(256, (size, 3, 4, 8, 8), dtype=torch.uint8),
        "audio": torch.randn(size, 6, 14),
        "text": torch.randint(3, 12, (size, 6)),
    }
    mask = {name: torch.arange(data[name].shape[-1]) < length[:, None] for name, length in lengths.items()}
    return Batch(data, {name: torch.ones(size, dtype=torch.bool) for name in data}, mask)


def autoencoder(name: str, **options: object) -> MaskedAutoencoder:
    torch.manual_seed(1)
    if name == "video":
        return MaskedAutoencoder(name, VideoTransformer((4, 8, 8), (2, 2, 2), SMALL), decoder=LIGHT, **options)
    return MaskedAutoencoder(name, AudioTransformer(6, (4, 2), size=SMALL), decoder=LIGHT, **options)


def joint(**options: object) -> JointMaskedAutoencoder:
    torch.manual_seed(1)
    embeds = {
        "video": PatchEmbedding((4, 8, 8), (2, 4, 4), 16, positions="sincos"),
        "audio": PatchEmbedding((16, 6), (4, 2), 16, channels=1),
        "text": TokenEmbedding(12, 16, length=6),
    }
    return JointMaskedAutoencoder(embeds, SMALL, decoder=LIGHT, num_special=3, **options)
