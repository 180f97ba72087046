"""The Transformer against torch's own layers, RoPE against complex numbers; masks, drop path, compilers."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import gradcheck

from mmlearn.encoders import Transformer, xavier
from mmlearn.nn import Attention, Block, DropPath, apply_rope, rope_angles


def copied(block: Block, dropout: float = 0.0) -> nn.TransformerEncoderLayer:
    """torch's encoder layer with our weights."""
    dim, hidden = block.attention.out.in_features, block.mlp[0].out_features
    layer = nn.TransformerEncoderLayer(
        dim, block.attention.num_heads, hidden, dropout, activation=block.mlp[1], layer_norm_eps=block.norm_mlp.eps,
        batch_first=True, norm_first=not block.post_norm,
    )  # fmt: skip
    attention = {
        "in_proj_weight": torch.cat([block.attention.query.weight, block.attention.key_value.weight]),
        "in_proj_bias": torch.cat([block.attention.query.bias, block.attention.key_value.bias]),
        "out_proj.weight": block.attention.out.weight,
        "out_proj.bias": block.attention.out.bias,
    }
    layer.self_attn.load_state_dict(attention)
    for ours, theirs in {
        block.norm_attention: layer.norm1,
        block.norm_mlp: layer.norm2,
        block.mlp[0]: layer.linear1,
        block.mlp[2]: layer.linear2,
    }.items():
        nn.init.normal_(ours.weight, std=0.5)
        nn.init.normal_(ours.bias)
        theirs.load_state_dict(ours.state_dict())
    return layer


def some(batch: int = 3, steps: int = 7, dim: int = 8) -> tuple[Tensor, Tensor]:
    """Steps and a mask whose padding follows; the last sample is whole."""
    lengths = torch.randint(1, steps + 1, (batch,))
    lengths[-1] = steps
    return torch.randn(batch, steps, dim), torch.arange(steps) < lengths[:, None]


@pytest.mark.parametrize(
    "options",
    [{}, {"post_norm": True}, {"mlp_dim": 5, "act_layer": nn.ReLU, "eps": 0.1}, {"post_norm": True, "eps": 0.1}],
    ids=["pre-norm", "post-norm", "of its own", "post-norm of its own"],
)
@given(st.integers(1, 3), st.sampled_from([1, 2, 4]), st.sampled_from([1.0, 4.0]), st.booleans(), st.booleans())
@settings(max_examples=25)
def test_equals_torchs_encoder(
    options: dict[str, Any], depth: int, heads: int, ratio: float, masked: bool, causal: bool
) -> None:
    ours = Transformer(8, depth, heads, ratio, causal=causal, **options)
    layers = [copied(block) for block in ours.blocks]
    nn.init.normal_(ours.norm.weight)
    x, mask = some()
    expected = x
    later = torch.ones(7, 7, dtype=torch.bool).triu(1) if causal else None  # torch's True means: ignore
    for layer in layers:
        expected = layer(expected, src_mask=later, src_key_padding_mask=~mask if masked else None)
    expected = ours.norm(expected)
    result = ours(x, mask if masked else None)
    if masked:
        result, expected = result[mask], expected[mask]
    assert torch.allclose(result, expected, atol=1e-4)


def test_other_layers_are_built_in() -> None:
    ours = Transformer(8, 2, 2, norm_layer=nn.RMSNorm, eps=0.01, attention_dropout=0.5, final_norm=False)
    kinds = [type(module) for module in ours.modules()]
    assert kinds.count(nn.RMSNorm) == 4 and nn.LayerNorm not in kinds and isinstance(ours.norm, nn.Identity)
    assert {module.eps for module in ours.modules() if isinstance(module, nn.RMSNorm)} == {0.01}
    assert {block.attention.dropout for block in ours.blocks} == {0.5} and ours.blocks[0].dropout.p == 0.0
    assert Transformer(8, 1, 2, mlp_dim=5).blocks[0].mlp[0].out_features == 5


def test_one_product_gives_what_two_give() -> None:
    attention, (x, mask) = Attention(8, 2), some()
    assert torch.allclose(attention(x, mask=mask), attention(x, x, mask), atol=1e-6)
    whole = nn.Sequential(attention.query)  # another module in its place, as LoRA puts one there, is called
    attention.query = whole
    with torch.no_grad():
        expected = attention(x, x)
    whole.append(nn.Linear(8, 8))
    assert not torch.allclose(attention(x), expected, atol=1e-3)


@given(st.booleans(), st.booleans())
@settings(max_examples=4)
def test_weights_are_those_that_forward_uses(masked: bool, turned: bool) -> None:
    """Values that tell steps apart make the weights visible in the output."""
    attention, (x, mask) = Attention(8, 1), some(steps=8)
    angles = rope_angles(torch.arange(8), 8) if turned else None
    with torch.no_grad():
        attention.out.weight.copy_(torch.eye(8))
        attention.out.bias.zero_()
        values = attention.key_value(x)[..., 8:]
    weights = attention.weights(x, mask=mask if masked else None, rope=angles, causal=True)
    output = attention(x, mask=mask if masked else None, rope=angles, causal=True)
    assert torch.allclose(weights[:, 0] @ values, output, atol=1e-5)
    assert not weights.triu(1).any()
    assert torch.allclose(weights.sum(-1), torch.ones(3, 1, 8))


@given(st.booleans(), st.integers(1, 4))
@settings(max_examples=10)
def test_padding_changes_nothing(rope: bool, padding: int) -> None:
    model, x = Transformer(8, 2, 2, rope=rope), torch.randn(2, 5, 8)
    padded = torch.cat([x, torch.full((2, padding, 8), torch.nan)], dim=1).requires_grad_()
    mask = torch.arange(5 + padding).expand(2, -1) < 5
    result = model(padded, mask)[:, :5]
    assert torch.allclose(result, model(x), atol=1e-5)
    result.square().sum().backward()
    assert padded.grad is not None and not padded.grad[:, 5:].any()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_sample_without_anything_real_stays_finite() -> None:
    model = Transformer(8, 2, 2)
    x = torch.full((2, 4, 8), torch.nan)
    x[0] = 1.0
    result = model(x, torch.tensor([[True] * 4, [False] * 4]))
    result.sum().backward()
    assert result.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_rope_equals_complex_numbers() -> None:
    """Equation 16 of the paper: pairs are complex numbers, multiplied by exp(i n θ_k)."""
    x = torch.randn(2, 5, 3, 8, dtype=torch.float64)
    positions = torch.tensor([[0, 1, 2, 3, 4], [7, 3, 0, 100, 2]])
    theta = torch.tensor([1.0, 0.1, 0.01, 0.001], dtype=torch.float64)  # 10000^(-2k/8)
    turn = torch.polar(torch.ones(2, 5, 4, dtype=torch.float64), positions[..., None] * theta)[:, :, None]
    expected = torch.complex(x[..., :4], x[..., 4:]) * turn
    result = apply_rope(x, rope_angles(positions, 8))
    assert torch.allclose(result, torch.cat([expected.real, expected.imag], dim=-1), atol=1e-5)


@given(st.floats(-50, 50))
@settings(max_examples=20)
def test_rope_sees_distances_only(shift: float) -> None:
    model = Transformer(8, 2, 2, rope=True).double()
    x, positions = torch.randn(2, 6, 8, dtype=torch.float64), torch.tensor([0.0, 1, 2, 5, 5.5, 9])
    moved = model(x, positions=positions + shift)
    assert torch.allclose(moved, model(x, positions=positions), atol=1e-4)
    assert not torch.allclose(moved, model(x, positions=2 * positions), atol=1e-2)


def test_rope_counts_steps_by_default_and_takes_places_of_each_sample() -> None:
    model, (x, _) = Transformer(8, 1, 2, rope=True), some(batch=2)
    assert torch.equal(model(x), model(x, positions=torch.arange(7)))
    order = torch.tensor([[3, 1, 0, 2, 6, 5, 4], [0, 1, 2, 3, 4, 5, 6]])
    shuffled = torch.stack([row[places] for row, places in zip(x, order, strict=True)])
    expected = torch.stack([row[places] for row, places in zip(model(x), order, strict=True)])
    assert torch.allclose(model(shuffled, positions=order), expected, atol=1e-5)


def test_drop_path_takes_whole_samples_and_keeps_the_expectation() -> None:
    torch.manual_seed(0)
    drop, x = DropPath(0.3), torch.rand(20_000, 2, 3) + 1
    y = drop(x)
    kept = y[:, 0, 0] != 0
    assert torch.allclose(y[kept], x[kept] / 0.7)
    assert not y[~kept].any()
    assert abs(kept.float().mean() - 0.7) < 4 * (0.3 * 0.7 / 20_000) ** 0.5  # four standard errors
    drop.eval()
    assert torch.equal(drop(x), x)
    assert torch.equal(DropPath()(x), x)


def test_drop_path_grows_with_depth_and_skips_branches() -> None:
    model = Transformer(8, 3, 2, drop_path=0.4)
    assert [block.drop_path.rate for block in model.blocks] == [0.0, 0.2, 0.4]
    block, x = Block(8, 2, drop_path=0.999), torch.randn(2, 4, 8)
    torch.manual_seed(0)
    assert torch.equal(block(x), x)  # all branches of both samples left out
    assert not torch.equal(block.eval()(x), x)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_checkpointing_gives_equal_gradients(dropout: float) -> None:
    x, mask = some(dim=8)
    gradients = []
    for checkpoint in (False, True):
        torch.manual_seed(1)
        model = Transformer(8, 3, 2, dropout=dropout, drop_path=dropout, checkpoint=checkpoint, rope=True)
        torch.manual_seed(2)
        model(x, mask)[mask].square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*gradients, strict=True))


def test_checkpointing_keeps_less() -> None:
    def kept(checkpoint: bool) -> int:
        model, total = Transformer(16, 4, 2, checkpoint=checkpoint), 0

        def count(x: Tensor) -> Tensor:
            nonlocal total
            total += x.numel()
            return x

        with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
            model(torch.randn(2, 50, 16))
        return total

    assert kept(True) < kept(False) / 3


@pytest.mark.parametrize("settings", [{}, {"rope": True}, {"causal": True}, {"drop_path": 0.1}, {"checkpoint": True}])
def test_compiles_without_a_break(settings: dict) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = Transformer(8, 2, 2, **settings)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x, mask = some()
    compiled(x).sum().backward()
    if not settings.get("drop_path"):
        assert torch.allclose(compiled(x), model(x), atol=1e-5)
        assert torch.allclose(compiled(x, mask), model(x, mask), atol=1e-5)


def test_exports_with_a_free_number_of_samples_and_steps() -> None:
    model, (x, mask) = Transformer(8, 2, 2, rope=True).eval(), some()
    batch, steps = torch.export.Dim("batch", min=2), torch.export.Dim("steps", min=2)
    program = torch.export.export(model, (x, mask), dynamic_shapes=({0: batch, 1: steps}, {0: batch, 1: steps}))
    y, other = some(batch=5, steps=11)
    assert torch.allclose(program.module()(y, other), model(y, other), atol=1e-5)


def test_gradients() -> None:
    model = Transformer(4, 1, 2, rope=False).double()
    mask = torch.tensor([[True, True, False]])
    x = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: model(x, mask)[:, :2], (x,))


def test_steps_keep_their_precision_under_autocast() -> None:
    """The stream between blocks is as wide as what comes in: bfloat16 stays bfloat16."""
    model, seen = Transformer(8, 2, 2, rope=True), []
    model.blocks[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(torch.randn(2, 3, 8, dtype=torch.bfloat16))
    assert seen == [torch.bfloat16]


def test_xavier_draws_with_glorots_variance_and_leaves_the_rest_alone() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"a": nn.Linear(300, 100), "b": nn.Linear(200, 200, bias=False), "e": nn.Embedding(5, 4)})
    before = model["e"].weight.clone()
    assert xavier(model) is model
    for layer in (model["a"], model["b"]):
        fans = layer.in_features + layer.out_features
        assert layer.weight.var().item() == pytest.approx(2 / fans, rel=0.05)  # 30 000 draws or more: ± 0.5 %
        assert layer.weight.abs().max() <= (6 / fans) ** 0.5  # a uniform law
    assert (model["a"].bias == 0).all() and torch.equal(model["e"].weight, before)


def test_errors_name_what_was_found() -> None:
    with pytest.raises(ValueError, match="rope is False"):
        Transformer(8, 1, 2)(torch.randn(1, 2, 8), positions=torch.arange(2))
    with pytest.raises(ValueError, match=r"rate is 1\.0; expected from 0 to below 1"):
        DropPath(1.0)
    with pytest.raises(ValueError, match="head_dim is 3"):
        rope_angles(torch.arange(2), 3)
