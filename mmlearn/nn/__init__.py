"""Building blocks in plain torch.nn: attention, embeddings, patches, pooling, recurrent networks."""

from mmlearn.nn.attention import Attention, Block, DropPath
from mmlearn.nn.embeddings import grid_encoding, rotate, rotation, time_encoding
from mmlearn.nn.patches import PatchEmbedding, TokenEmbedding, patchify, unpatchify
from mmlearn.nn.pooling import AttentionPool, OrderedPool
from mmlearn.nn.recurrent import RecurrentEncoder

__all__ = [
    "Attention",
    "AttentionPool",
    "Block",
    "DropPath",
    "OrderedPool",
    "PatchEmbedding",
    "RecurrentEncoder",
    "TokenEmbedding",
    "grid_encoding",
    "patchify",
    "rotate",
    "rotation",
    "time_encoding",
    "unpatchify",
]
