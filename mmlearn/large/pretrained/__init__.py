"""Published checkpoints as models of this package, and back: VideoMAE, CLIP, Chinese-CLIP, AST."""

from mmlearn.large.pretrained.clip import CLIP
from mmlearn.large.pretrained.names import DEFAULTS
from mmlearn.large.pretrained.reading import load_pretrained, save_published, to_published
from mmlearn.large.pretrained.spectrogram import AST, Classifier
from mmlearn.large.pretrained.videomae import VideoMAE, VideoMAEEncoder

__all__ = [
    "AST",
    "CLIP",
    "DEFAULTS",
    "Classifier",
    "VideoMAE",
    "VideoMAEEncoder",
    "load_pretrained",
    "save_published",
    "to_published",
]
