"""Encoders: what turns one modality into features, small convolutional ones and Transformers.

Chapters: start/first_model, pretraining/contrastive, pretraining/masked.
"""

from mmlearn.encoders.audio import AudioEncoder, AudioTransformer
from mmlearn.encoders.text import TextEncoder, TextTransformer
from mmlearn.encoders.transformer import SIZES, Transformer, named_size, xavier
from mmlearn.encoders.video import VideoEncoder, VideoTransformer
from mmlearn.encoders.vision import ImageTransformer

__all__ = [
    "SIZES",
    "AudioEncoder",
    "AudioTransformer",
    "ImageTransformer",
    "TextEncoder",
    "TextTransformer",
    "Transformer",
    "VideoEncoder",
    "VideoTransformer",
    "named_size",
    "xavier",
]
