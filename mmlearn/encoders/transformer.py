"""The Transformer encoder: a stack of blocks that a student reads in one sitting and a GPU runs near its limit.

What makes it quick is what it leaves out. Queries, keys and values come from one product; attention is one call of
`scaled_dot_product_attention`; no mask is made where none is given; nothing depends on the data's values, so that
`torch.compile(fullgraph=True)` takes it whole. Under autocast the steps stay in the precision they come in.

Chapter: pretraining/masked.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as run_again

from mmlearn.nn.attention import Block
from mmlearn.nn.embeddings import rope_angles

Module = TypeVar("Module", bound=nn.Module)


class Transformer(nn.Module):
    """A stack of pre-norm Transformer blocks and a last normalisation (Vaswani et al. 2017; Xiong et al. 2020).

    Args:
        dim: Width D of a step. Kernels are quickest with `dim / num_heads` = 64.
        depth: Number of blocks.
        num_heads: Attention heads.
        mlp_ratio: Width of a perceptron's hidden layer, in units of `dim`.
        dropout: Share of attention weights and of each branch's output dropped in training.
        drop_path: Share of samples that skip a branch of the last block in training; it grows linearly from 0 in the
            first (stochastic depth, Huang et al. 2016).
        rope: Whether positions turn queries and keys (Su et al. 2021). Otherwise they belong into `x`.
        checkpoint: Whether to keep only the input of each block for the backward pass, and to run the block again there
            (Chen et al. 2016): less memory, a third more work.
        causal: Whether step n sees only steps up to n.
        final_norm: Whether it ends with a normalization.
        options: What else a `Block` takes: mlp_dim, act_layer, norm_layer, eps, attention_dropout, post_norm.

    Raises:
        ValueError: If `dim` is no multiple of `num_heads`.

    Chapter: pretraining/masked.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        rope: bool = False,
        checkpoint: bool = False,
        causal: bool = False,
        final_norm: bool = True,
        **options: Any,
    ) -> None:
        super().__init__()
        rates = [drop_path * number / max(depth - 1, 1) for number in range(depth)]
        self.blocks: Any = nn.ModuleList(
            Block(dim, num_heads, mlp_ratio, dropout, drop_path=rate, **options) for rate in rates
        )
        norm_layer = options.get("norm_layer", nn.LayerNorm)
        self.norm = norm_layer(dim, eps=options.get("eps", 1e-5)) if final_norm else nn.Identity()
        self.head_dim = dim // num_heads
        self.rope = rope
        self.checkpoint = checkpoint
        self.causal = causal

    def forward(self, x: Tensor, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """Return steps (B, N, D), normalized.

        Args:
            x: Steps (B, N, D).
            mask: bool (B, N), True where a step is real. What stands in the others changes nothing, be it NaN; what
                comes out in their place has no meaning. A sample without any real step comes out finite.
            positions: (N,) or (B, N), for `rope`; by default 0, 1, 2, …

        Raises:
            ValueError: If positions are given without `rope`.
        """
        if positions is not None and not self.rope:
            raise ValueError("positions are given, but rope is False; add their code to x, or ask for rope=True")
        if mask is not None:
            x = torch.where(mask[..., None], x, 0.0)
            mask = mask | ~mask.any(dim=1, keepdim=True)  # where nothing is real, zeros may be looked at
        angles = None
        if self.rope:
            places = torch.arange(x.shape[1], device=x.device) if positions is None else positions
            angles = rope_angles(places, self.head_dim)
        for block in self.blocks:
            if self.checkpoint and torch.is_grad_enabled():
                x = run_again(block, x, None, mask, angles, self.causal, use_reentrant=False)
            else:
                x = block(x, None, mask, angles, self.causal)
        return self.norm(x)


def xavier(module: Module) -> Module:
    """Draw the weights of all linear layers by Xavier's rule, and set their biases to 0, as MAE's code does it.

    PyTorch's own draw has a third of that variance in a square layer (Glorot & Bengio 2010 ask for 2 / (fan_in +
    fan_out)). Attention then adds little to a step, and a short training ends before steps learn of each other.

    Args:
        module: It is changed in place. Its weights are lost: call this on a new one, not on a pretrained one.

    Returns:
        The module.

    Chapter: pretraining/masked.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return module


SIZES: dict[str, dict[str, int]] = {
    "tiny": {"dim": 128, "depth": 4, "num_heads": 4},  # for chapters, on a CPU
    "small": {"dim": 384, "depth": 12, "num_heads": 6},
    "base": {"dim": 768, "depth": 12, "num_heads": 12},  # the shape of ViT-B (Dosovitskiy et al. 2021)
}


def named_size(size: str | Mapping[str, int]) -> dict[str, Any]:
    """Return the arguments dim, depth and num_heads for a name in `SIZES`; a dictionary is passed on.

    Raises:
        ValueError: If there is no such name, or the dictionary lacks one of the three.

    Chapter: pretraining/masked.
    """
    if isinstance(size, str):
        if size not in SIZES:
            raise ValueError(f"size is {size!r}; expected one of {sorted(SIZES)}, or a dictionary")
        return dict(SIZES[size])
    if missing := {"dim", "depth", "num_heads"} - set(size):
        raise ValueError(f"size lacks {sorted(missing)}; it has {sorted(size)}")
    return dict(size)
