"""Building blocks in plain torch.nn: attention, the Transformer, embeddings, encoders, pooling."""

from mmlearn.nn.attention import Attention, Block, DropPath
from mmlearn.nn.backbones import SIZES, AudioTransformer, ImageTransformer, TextTransformer, VideoTransformer
from mmlearn.nn.embeddings import grid_encoding, rotate, rotation, time_encoding
from mmlearn.nn.encoders import AudioEncoder, TextEncoder, VideoEncoder
from mmlearn.nn.patches import PatchEmbedding, TokenEmbedding, patchify, unpatchify
from mmlearn.nn.pooling import AttentionPool, OrderedPool
from mmlearn.nn.recurrent import RecurrentEncoder
from mmlearn.nn.transformer import Transformer

__all__ = [
    "SIZES",
    "Attention",
    "AttentionPool",
    "AudioEncoder",
    "AudioTransformer",
    "Block",
    "DropPath",
    "ImageTransformer",
    "OrderedPool",
    "PatchEmbedding",
    "RecurrentEncoder",
    "TextEncoder",
    "TextTransformer",
    "TokenEmbedding",
    "Transformer",
    "VideoEncoder",
    "VideoTransformer",
    "grid_encoding",
    "patchify",
    "rotate",
    "rotation",
    "time_encoding",
    "unpatchify",
]
