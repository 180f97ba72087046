"""Building blocks in plain torch.nn: attention, embeddings, patches, pooling, recurrent networks."""

from mmlearn.nn.attention import Attention, Block, DropPath
from mmlearn.nn.embeddings import apply_rope, rope_angles, sinusoidal_encoding, sinusoidal_encoding_nd
from mmlearn.nn.patches import PatchEmbedding, TokenEmbedding, patchify, unpatchify
from mmlearn.nn.pooling import AttentionPool, PositionwisePool
from mmlearn.nn.recurrent import RecurrentEncoder

__all__ = [
    "Attention",
    "AttentionPool",
    "Block",
    "DropPath",
    "PatchEmbedding",
    "PositionwisePool",
    "RecurrentEncoder",
    "TokenEmbedding",
    "apply_rope",
    "patchify",
    "rope_angles",
    "sinusoidal_encoding",
    "sinusoidal_encoding_nd",
    "unpatchify",
]
