"""Masked modelling of video, sound and text, one modality or several together.

Chapter: pretraining/masked.
"""

from mmlearn.pretraining.masked.autoencoder import Decoder, MaskedAutoencoder, MaskedOutput, MaskedPrediction
from mmlearn.pretraining.masked.joint import CrossDecoder, JointMaskedAutoencoder
from mmlearn.pretraining.masked.language import MaskedLanguageModel, token_errors
from mmlearn.pretraining.masked.masking import (
    Masking,
    PatchMask,
    mask_tokens,
    random_masking,
    strip_masking,
    take,
    tube_masking,
    word_numbers,
)
from mmlearn.pretraining.masked.patches import (
    Patches,
    Targets,
    check_targets,
    cut,
    embed_kept,
    patch_errors,
    put_back,
    units,
    values_at,
)

__all__ = [
    "CrossDecoder",
    "Decoder",
    "JointMaskedAutoencoder",
    "MaskedAutoencoder",
    "MaskedLanguageModel",
    "MaskedOutput",
    "MaskedPrediction",
    "Masking",
    "PatchMask",
    "Patches",
    "Targets",
    "check_targets",
    "cut",
    "embed_kept",
    "mask_tokens",
    "patch_errors",
    "put_back",
    "random_masking",
    "strip_masking",
    "take",
    "token_errors",
    "tube_masking",
    "units",
    "values_at",
    "word_numbers",
]
