"""Attention fusion against closed forms; the laws that all fusions share are in test_laws.py."""

import pytest
import torch
from torch import nn

from mmlearn.fusion import BottleneckFusion, CoAttentionFusion, CrossAttentionFusion
from tests.fusion.methods import DIMS, STEPS, build, make_features, some_mask, some_present

NAMES = sorted(DIMS)


def test_one_query_is_torchs_attention() -> None:
    fusion, features = build("attention"), make_features("attention")
    streams, _ = fusion.tokens(features)
    x = torch.cat([streams[name] for name in NAMES], dim=1)
    theirs = nn.MultiheadAttention(6, 2, batch_first=True)
    key, value = fusion.attention.key_value.weight.chunk(2)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([fusion.attention.query.weight, key, value]))
        theirs.in_proj_bias.copy_(torch.cat([fusion.attention.query.bias, fusion.attention.key_value.bias]))
        theirs.out_proj.load_state_dict(fusion.attention.out.state_dict())
    expected, weights = theirs(fusion.query.expand(5, 1, 6), x, x, average_attn_weights=False)
    assert torch.allclose(fusion(features), expected[:, 0], atol=1e-5)
    ours = fusion.weights(features)
    assert torch.allclose(torch.cat([ours[name] for name in NAMES], dim=-1), weights[:, :, 0], atol=1e-5)


def test_weights_are_shares_and_pass_over_what_is_absent_or_padding() -> None:
    present, mask = some_present(), some_mask()
    single = build("attention").weights(make_features("attention"), present, mask)
    assert torch.allclose(sum(w.sum(dim=-1) for w in single.values()), torch.ones(5, 2), atol=1e-5)
    cross = build("cross").weights(make_features("cross"), present, mask)  # audio asks
    assert sorted(cross) == ["text", "video"]
    assert cross["video"].shape == (5, 2, STEPS["audio"], STEPS["video"])
    assert torch.allclose(sum(w.sum(dim=-1) for w in cross.values()), torch.ones(5, 2, STEPS["audio"]), atol=1e-5)
    joint = build("joint").weights(make_features("joint"), present, mask)
    assert joint["audio", "video"].shape == (5, 2, STEPS["audio"], STEPS["video"])
    co = build("co").weights(make_features("co"), present, mask)
    assert torch.allclose(co["audio", "video"].sum(dim=-1), torch.ones(5, 2, STEPS["audio"]), atol=1e-5)
    bottleneck = build("bottleneck").weights(make_features("bottleneck"), present, mask)
    assert bottleneck["video"].shape == (5, 2, 4, STEPS["video"])
    for weights in (single["video"], cross["video"], joint["text", "video"], co["text", "video"], bottleneck["video"]):
        padding = ~mask["video"] | ~present["video"][:, None]  # (B, N)
        padding[:, 0] = False  # of an absent modality one step stands in
        assert not weights.transpose(1, -1)[padding].any()


def test_joint_weights_are_those_of_the_last_block() -> None:
    fusion, features = build("joint"), make_features("joint")
    streams, _ = fusion.tokens(features)
    x = fusion.blocks[0](torch.cat([streams[name] for name in NAMES], dim=1))
    whole = fusion.blocks[1].weights(x)  # (B, heads, 15, 15), in the order audio 6, text 5, video 4
    parts = fusion.weights(features)
    assert torch.equal(parts["audio", "video"], whole[:, :, :6, 11:])
    assert torch.equal(parts["video", "text"], whole[:, :, 11:, 6:11])


def additive(fusion: nn.Module) -> bool:
    """Whether what audio adds to the output does not depend on the picture."""
    a, b = make_features("joint"), make_features("joint")
    first = fusion(a) - fusion(a | {"audio": b["audio"]})
    second = fusion(a | {"video": b["video"]}) - fusion(a | {"video": b["video"], "audio": b["audio"]})
    return torch.allclose(first, second, atol=1e-5)


def test_a_bottleneck_that_comes_last_is_late_fusion() -> None:
    torch.manual_seed(0)
    exchange = BottleneckFusion(DIMS, dim=6, num_heads=2, depth=2, fuse_from=0)
    assert not additive(exchange)
    for fuse_from in (1, 2):
        fusion = BottleneckFusion(DIMS, dim=6, num_heads=2, depth=2, fuse_from=fuse_from)
        assert additive(fusion)
    features = make_features("joint")
    streams, _ = fusion.tokens(features)
    alone = []
    for name in NAMES:
        x = streams[name]
        for layer in fusion.layers:
            x = layer[name](x)
        alone.append(fusion.norms[name](x.mean(dim=1)))
    assert torch.allclose(fusion(features), torch.stack(alone).mean(dim=0), atol=1e-5)


def test_bottleneck_updates_are_averaged() -> None:
    fusion, features = build("bottleneck"), make_features("bottleneck")
    streams, _ = fusion.tokens(features)
    shared = fusion.bottleneck.expand(5, -1, -1)
    for layer in fusion.layers:
        whole = {name: layer[name](torch.cat([streams[name], shared], dim=1)) for name in NAMES}
        streams = {name: y[:, :-4] for name, y in whole.items()}
        shared = sum(y[:, -4:] for y in whole.values()) / 3
    expected = sum(fusion.norms[name](streams[name].mean(dim=1)) for name in NAMES) / 3
    assert torch.allclose(fusion(features), expected, atol=1e-5)


def test_bottleneck_updates_are_averaged_where_it_can_be_seen() -> None:
    """With two layers a layer norm undoes any factor; with three the second layer's residual path does not."""
    torch.manual_seed(0)
    fusion, features = BottleneckFusion(DIMS, dim=6, num_heads=2, depth=3), make_features("bottleneck")
    results = {}
    for way, share in {"mean": 1 / 3, "sum": 1.0}.items():
        streams, _ = fusion.tokens(features)
        shared = fusion.bottleneck.expand(5, -1, -1)
        for layer in fusion.layers:
            whole = {name: layer[name](torch.cat([streams[name], shared], dim=1)) for name in NAMES}
            streams = {name: y[:, :-4] for name, y in whole.items()}
            shared = share * sum(y[:, -4:] for y in whole.values())
        results[way] = sum(fusion.norms[name](streams[name].mean(dim=1)) for name in NAMES) / 3
    assert not torch.allclose(results["mean"], results["sum"], atol=1e-3)  # so this test can fail
    assert torch.allclose(fusion(features), results["mean"], atol=1e-5)


def test_no_weights_without_bottleneck() -> None:
    fusion = BottleneckFusion(DIMS, dim=6, num_heads=2, depth=2, fuse_from=2)
    with pytest.raises(ValueError, match="no layer has bottleneck tokens"):
        fusion.weights(make_features("joint"))


def test_unfit_arguments() -> None:
    with pytest.raises(ValueError, match="expected one of at least two modalities"):
        CrossAttentionFusion({"audio": 3})
    with pytest.raises(ValueError, match="target is 'smell'"):
        CrossAttentionFusion(DIMS, target="smell")
    with pytest.raises(ValueError, match="expected at least two modalities"):
        CoAttentionFusion({"audio": 3})
    with pytest.raises(ValueError, match="fuse_from is 5"):
        BottleneckFusion(DIMS, fuse_from=5)
