"""Layers and encoders in plain torch.nn."""

from mmlearn.nn.encoders import AudioEncoder, TextEncoder, VideoEncoder
from mmlearn.nn.pooling import AttentionPool, OrderedPool

__all__ = ["AttentionPool", "AudioEncoder", "OrderedPool", "TextEncoder", "VideoEncoder"]
