"""Published checkpoints as models of this package, and back: VideoMAE, CLIP, Chinese-CLIP, AST."""

from mmlearn.pretraining.published.clip import CLIP
from mmlearn.pretraining.published.names import DEFAULTS
from mmlearn.pretraining.published.reading import from_pretrained, save_published, to_published
from mmlearn.pretraining.published.spectrogram import AST, Classifier
from mmlearn.pretraining.published.videomae import VideoMAE, VideoMAEEncoder

__all__ = [
    "AST",
    "CLIP",
    "DEFAULTS",
    "Classifier",
    "VideoMAE",
    "VideoMAEEncoder",
    "from_pretrained",
    "save_published",
    "to_published",
]
