"""Building blocks in plain torch.nn: encoders, attention, pooling."""

from mmlearn.nn.attention import Attention, Block
from mmlearn.nn.embeddings import time_encoding
from mmlearn.nn.encoders import AudioEncoder, TextEncoder, VideoEncoder
from mmlearn.nn.pooling import AttentionPool, OrderedPool

__all__ = [
    "Attention",
    "AttentionPool",
    "AudioEncoder",
    "Block",
    "OrderedPool",
    "TextEncoder",
    "VideoEncoder",
    "time_encoding",
]
