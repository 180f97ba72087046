"""LoRA against the full matrix in float64; layer-wise rates against the optimiser that uses them."""

import copy

import pytest
import torch
from torch import nn

from mmlearn.encoders import Transformer
from mmlearn.finetuning import (
    LoRALinear,
    add_lora,
    layer_decay_groups,
    load_lora,
    lora_state_dict,
    merge_lora,
    unmerge_lora,
)
from mmlearn.nn import Attention


def transformer(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return Transformer(dim=16, depth=2, num_heads=2).to(dtype)


def disturb(model: nn.Module) -> None:
    """Give the adapters something to say."""
    torch.manual_seed(1)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, LoRALinear):
                layer.lora_up.normal_()


def test_it_is_w_plus_alpha_over_rank_b_a() -> None:
    torch.manual_seed(0)
    plain = nn.Linear(5, 3).double()
    layer = LoRALinear(plain, rank=2, alpha=6.0)
    layer.lora_up.data.normal_()
    x = torch.randn(4, 7, 5, dtype=torch.float64)
    weight = plain.weight + 6.0 / 2 * torch.einsum("or,ri->oi", layer.lora_up, layer.lora_down)
    assert torch.allclose(layer(x), torch.einsum("oi,bni->bno", weight, x) + plain.bias, atol=1e-12)


def test_at_the_start_nothing_is_changed_in_any_bit() -> None:
    model, x = transformer(), torch.randn(3, 6, 16)
    x.requires_grad_()
    before = model(x)
    names = add_lora(model, layers=["0", "2", "out"])  # the projections to q, k, v would no longer be one product
    assert torch.equal(model(x), before) and len(names) == 6


def test_attention_is_adapted_where_it_multiplies_by_its_weights_together() -> None:
    for context in (None, torch.randn(3, 5, 16)):
        attention, x = Attention(16, 2), torch.randn(3, 6, 16)
        before = attention(x, context)
        assert add_lora(attention, rank=2, layers=["query", "key_value"]) == ["query", "key_value"]
        assert torch.allclose(attention(x, context), before, atol=1e-6)
        disturb(attention)
        after = attention(x, context)
        by_hand = Attention(16, 2)
        for name in ("query", "key_value"):
            layer = attention.get_submodule(name)
            full = layer.weight + layer.scale * layer.lora_up @ layer.lora_down
            by_hand.get_submodule(name).load_state_dict({"weight": full, "bias": layer.bias})
        by_hand.out = attention.out
        assert torch.allclose(after, by_hand(x, context), atol=1e-5) and not torch.allclose(after, before, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_merged_equals_unmerged_and_unmerging_is_exact(dtype: torch.dtype) -> None:
    model, x = transformer(dtype).eval(), torch.randn(3, 6, 16, dtype=dtype)
    plain = copy.deepcopy(model)
    add_lora(model, rank=3)
    disturb(model)
    before, weights = model(x), copy.deepcopy(model.state_dict())
    kept = merge_lora(model)
    assert {type(m) for m in model.modules()} == {type(m) for m in plain.modules()}  # no trace is left
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert torch.allclose(model(x), before, atol=1e-4 if dtype == torch.float32 else 1e-12)
    assert not torch.allclose(plain(x), before, atol=1e-2)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    unmerge_lora(model, kept)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert torch.equal(model(x), before)
    unmerge_lora(model.train(), merge_lora(model))
    assert all(module.training for module in model.modules())


def test_only_the_adapters_learn_and_the_head_outside() -> None:
    model = nn.ModuleDict({"encoder": transformer(), "head": nn.Linear(16, 3)})
    before = copy.deepcopy(model.state_dict())
    add_lora(model["encoder"], rank=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(2):  # in the first step A has no gradient, since B is zero
        optimizer.zero_grad()
        model["head"](model["encoder"](torch.randn(4, 5, 16))).square().sum().backward()
        optimizer.step()
    learned = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert learned == {name for name in model.state_dict() if "lora_" in name or name.startswith("head.")}
    for name, value in model.state_dict().items():
        assert (name in before and torch.equal(value, before[name])) == (name not in learned), name


def test_dropout_is_on_the_adapters_way_only_and_only_in_training() -> None:
    plain = nn.Linear(4, 4)
    layer = LoRALinear(plain, rank=2, dropout=0.999)
    layer.lora_up.data.normal_()
    x = torch.randn(2, 4)
    torch.manual_seed(0)
    assert torch.equal(layer.train()(x), plain(x))
    assert not torch.allclose(layer.eval()(x), plain(x))


def test_a_layer_used_twice_stays_one() -> None:
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.GELU(), shared)
    assert add_lora(model) == ["0", "2"] and model[0] is model[2]
    unmerge_lora(model, merge_lora(model))
    assert model[0] is model[2] and isinstance(model[0], LoRALinear)


def test_layers_without_bias_and_in_half_precision() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False)).to(torch.bfloat16)
    add_lora(model)
    assert model(torch.randn(2, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16
    merge_lora(model)
    assert model[0].bias is None and model[0].weight.dtype == torch.bfloat16


def test_what_is_kept_of_a_task_is_the_adapters_only() -> None:
    model, other, x = transformer(), transformer(), torch.randn(2, 3, 16)
    add_lora(model, rank=2), add_lora(other, rank=2)
    disturb(model)
    state = lora_state_dict(model)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert sum(value.numel() for value in state.values()) == trained
    load_lora(other, state)
    assert torch.equal(other(x), model(x))
    with pytest.raises(ValueError, match=r"missing \['blocks.0.mlp.0.lora_down'\], unknown \['y'\]"):
        load_lora(other, {name: v for name, v in state.items() if name != "blocks.0.mlp.0.lora_down"} | {"y": x})
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_lora(other, {name: value[:1] for name, value in state.items()})
    merge_lora(model)
    for call in (lora_state_dict, merge_lora):
        with pytest.raises(ValueError, match="no LoRALinear"):
            call(model)


def test_lora_errors() -> None:
    with pytest.raises(ValueError, match=r"layers is \['q'\]; .* end in \['0', '2', 'key_value', 'out', 'query'\]"):
        add_lora(transformer(), layers=["q"])
    with pytest.raises(ValueError, match="rank is 0"):
        LoRALinear(nn.Linear(2, 2), rank=0)
    attention = nn.MultiheadAttention(4, 2)
    with pytest.raises(ValueError, match=r"end in \[\]"):
        add_lora(attention)  # its weights are read, its layers are never called


def test_it_compiles_whole() -> None:
    model, x = transformer(), torch.randn(2, 3, 16)
    add_lora(model, rank=2)
    disturb(model)
    assert torch.allclose(torch.compile(model, fullgraph=True, backend="eager")(x), model(x), atol=1e-5)


def test_rates_fall_with_depth_and_hold_every_trained_parameter_once() -> None:
    model = nn.ModuleDict({"encoder": Transformer(dim=8, depth=11, num_heads=2), "head": nn.Linear(8, 3)})
    model["encoder"].blocks[1].norm_mlp.requires_grad_(False)
    stages = [f"encoder.blocks.{k}" for k in range(11)]  # blocks.1 is not blocks.10
    groups = layer_decay_groups(model, stages, lr=0.1, decay=0.5)
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(rate)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert id(parameter) not in rate
        elif name.startswith("encoder.blocks."):
            assert rate[id(parameter)] == pytest.approx(0.1 * 0.5 ** (11 - int(name.split(".")[2])))
        else:
            assert rate[id(parameter)] == 0.1
    torch.optim.AdamW(groups)  # takes them, and would complain of a parameter in two


def test_rates_errors_and_nothing_left() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    assert [group["lr"] for group in layer_decay_groups(model, ["0", "1"], 1.0, 0.5)] == [0.25, 0.5]
    assert [group["lr"] for group in layer_decay_groups(model, ["0.weight", "0", "1"], 1.0, 0.5)] == [0.125, 0.25, 0.5]
    with pytest.raises(ValueError, match="stage '2' names no parameter"):
        layer_decay_groups(model, ["0", "2"], 1.0)
    with pytest.raises(ValueError, match="decay is 0"):
        layer_decay_groups(model, ["0"], 1.0, 0)
