"""Attention and the Transformer block against torch's own, with weights copied."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mmlearn.nn import Attention, Block


def copied(ours: Attention, context_dim: int) -> nn.MultiheadAttention:
    """torch's attention with our weights."""
    dim = ours.out.in_features
    theirs = nn.MultiheadAttention(dim, ours.num_heads, kdim=context_dim, vdim=context_dim, batch_first=True)
    key, value = ours.key_value.weight.chunk(2)
    with torch.no_grad():
        if context_dim == dim:
            theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, key, value]))
        else:
            theirs.q_proj_weight.copy_(ours.query.weight)
            theirs.k_proj_weight.copy_(key)
            theirs.v_proj_weight.copy_(value)
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key_value.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    return theirs


@given(st.sampled_from([1, 2, 4]), st.sampled_from([8, 6]), st.integers(1, 5), st.integers(1, 7), st.booleans())
@settings(max_examples=30)
def test_equals_torchs_attention(heads: int, context_dim: int, asking: int, asked: int, masked: bool) -> None:
    ours = Attention(8, heads, context_dim)
    x, context = torch.randn(3, asking, 8), torch.randn(3, asked, context_dim)
    mask = torch.rand(3, asked) < 0.6
    mask[:, 0] = True
    unreal = ~mask if masked else None  # torch's True means: ignore
    expected, weights = copied(ours, context_dim)(
        x, context, context, key_padding_mask=unreal, average_attn_weights=False
    )
    assert torch.allclose(ours(x, context, mask if masked else None), expected, atol=1e-5)
    assert torch.allclose(ours.weights(x, context, mask if masked else None), weights, atol=1e-5)


def test_block_equals_torchs_encoder_layer() -> None:
    block = Block(8, num_heads=2, mlp_ratio=3)
    layer = nn.TransformerEncoderLayer(8, 2, 24, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
    theirs = copied(block.attention, 8)
    layer.self_attn.load_state_dict(theirs.state_dict())
    theirs_of = {block.norm_attention: layer.norm1, block.norm_mlp: layer.norm2}
    theirs_of |= {block.mlp[0]: layer.linear1, block.mlp[2]: layer.linear2}
    for mine, other in theirs_of.items():
        nn.init.normal_(mine.weight)
        other.load_state_dict(mine.state_dict())
    x, mask = torch.randn(3, 5, 8), torch.rand(3, 5) < 0.7
    mask[:, 0] = True
    expected = layer(x, src_key_padding_mask=~mask)
    assert torch.allclose(block(x, mask=mask)[mask], expected[mask], atol=1e-5)
    assert torch.allclose(block(x), layer(x), atol=1e-5)


def test_dropout_is_for_training_only() -> None:
    block, x = Block(8, 2, dropout=0.5), torch.randn(2, 4, 8)
    assert not torch.equal(block(x), block(x))
    block.eval()
    assert torch.equal(block(x), block(x))


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="dim is 8; expected a multiple of num_heads, 3"):
        Attention(8, 3)
