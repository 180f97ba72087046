"""What the fusions cost: against the plainest expression of the same mathematics, and as the number of steps grows.

Run `python -m benchmarks.fusion_speed` (about 3 minutes on 2 idle cores) for benchmarks/results/fusion_speed.json.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import mmlearn
from benchmarks.report import begin, measure, save
from mmlearn import fusion
from mmlearn.nn import Attention

DIMS = {"audio": 256, "text": 256, "video": 256}
DIM, BATCH = 256, 512
STEPS = 16


def plain(module: Any, x: list[Tensor]) -> Callable[[], Tensor]:
    """The same mathematics in plain PyTorch, all modalities present, with the module's own weights."""
    names = module.names if hasattr(module, "names") else module.tokens.names
    kind = type(module).__name__
    if kind == "ConcatFusion":
        return lambda: F.linear(torch.cat(x, 1), module.mix.weight, module.mix.bias)
    if kind == "SumFusion":
        w = [module.project[n].weight for n in names]
        return lambda: F.linear(x[0], w[0]) + F.linear(x[1], w[1]) + F.linear(x[2], w[2]) + module.bias
    if kind == "ProductFusion":
        a, b, c = (module.project[n] for n in names)
        return lambda: module.mix(a(x[0]).tanh() * b(x[1]).tanh() * c(x[2]).tanh())
    if kind == "GatedFusion":
        a, b, c = (module.project[n] for n in names)

        def gated() -> Tensor:
            gates = module.gate(torch.cat(x, 1)).view(len(x[0]), 3, -1).softmax(1)
            return (gates * torch.stack([a(x[0]).tanh(), b(x[1]).tanh(), c(x[2]).tanh()], 1)).sum(1)

        return gated
    if kind == "FiLM":

        def film() -> Tensor:
            modulation = module.modulate["text"](x[1]), module.modulate["video"](x[2])
            (g1, b1), (g2, b2) = (m.chunk(2, 1) for m in modulation)
            return (1 + g1 + g2) * module.project(x[0]) + (module.bias + b1 + b2)

        return film
    if kind == "TensorFusion":

        def tensor() -> Tensor:
            a, b, c = (F.pad(module.narrow[n](v), (0, 1), value=1.0) for n, v in zip(names, x, strict=True))
            return module.mix((((a[:, :, None] * b[:, None]).flatten(1))[:, :, None] * c[:, None]).flatten(1))

        return tensor
    if kind == "LowRankTensorFusion":

        def low_rank() -> Tensor:
            a, b, c = (module.factors[n](v) for n, v in zip(names, x, strict=True))
            return torch.einsum("r,brd->bd", module.weights, (a * b * c).view(len(a), module.rank, -1)) + module.bias

        return low_rank
    if kind == "LateFusion":
        a, b, c = (module.heads[n] for n in names)
        return lambda: (a(x[0]).log_softmax(1) + b(x[1]).log_softmax(1) + c(x[2]).log_softmax(1)).log_softmax(1)
    if kind == "TreeFusion":

        def tree() -> Tensor:
            a, b, c = (module.leaves[n](v) for n, v in zip(names, x, strict=True))
            ab = module.nodes[0](torch.cat([a, b], 1)) + (a + b) / 2
            return module.nodes[1](torch.cat([ab, c], 1)) + (ab + c) / 2

        return tree
    return plain_attention(module, x)


def plain_attention(module: Any, x: list[Tensor]) -> Callable[[], Tensor]:
    """The same for fusions of steps: projection, codes and torch's own blocks' expressions, without masks."""
    names, tokens = module.tokens.names, module.tokens
    seconds = (torch.arange(STEPS, device=x[0].device) + 0.5) / 1.0
    code = mmlearn.nn.sinusoidal_encoding(seconds, DIM)

    def steps() -> list[Tensor]:
        return [tokens.project[n](v) + (tokens.kind[n] + code) for n, v in zip(names, x, strict=True)]

    def attend(attention: Any, q: Tensor, context: Tensor) -> Tensor:
        heads = attention.num_heads
        query = attention.query(q).view(*q.shape[:2], heads, -1).transpose(1, 2)
        key, value = attention.key_value(context).view(*context.shape[:2], 2, heads, -1).permute(2, 0, 3, 1, 4)
        return attention.out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))

    def block(b: Any, q: Tensor, context: Tensor | None = None) -> Tensor:
        normed = b.norm_attention(q)
        q = q + attend(b.attention, normed, normed if context is None else b.norm_context(context))
        return q + b.mlp(b.norm_mlp(q))

    kind = type(module).__name__
    if kind == "AttentionFusion":
        return lambda: attend(module.attention, module.query.expand(len(x[0]), 1, -1), torch.cat(steps(), 1))[:, 0]
    if kind == "CrossAttentionFusion":

        def cross() -> Tensor:
            first, *others = steps()
            return module.norm(block(module.blocks[0], first, torch.cat(others, 1)).mean(1))

        return cross
    if kind == "CoAttentionFusion":

        def co() -> Tensor:
            s = dict(zip(names, steps(), strict=True))
            pooled = []
            for a in names:
                learned = torch.cat([block(module.cross[a][b][0], s[a], s[b]) for b in names if b != a], -1)
                pooled.append(block(module.own[a], learned).mean(1))
            return module.mix(torch.cat(pooled, 1))

        return co
    if kind == "JointAttentionFusion":

        def joint() -> Tensor:
            y = torch.cat(steps(), 1)
            for b in module.blocks:
                y = block(b, y)
            return module.norm(y.mean(1))

        return joint
    if kind == "BottleneckFusion":

        def bottleneck() -> Tensor:
            s, shared = steps(), module.bottleneck.expand(len(x[0]), -1, -1)
            for layer in module.layers:
                whole = [block(layer[n], torch.cat([v, shared], 1)) for n, v in zip(names, s, strict=True)]
                s, shared = [y[:, :STEPS] for y in whole], torch.stack([y[:, STEPS:] for y in whole]).mean(0)
            return torch.stack([module.norms[n](v.mean(1)) for n, v in zip(names, s, strict=True)]).mean(0)

        return bottleneck

    def stream(b: Any, y: Tensor) -> Tensor:
        y = y + b.steps(b.norm_steps(y).transpose(1, 2)).transpose(1, 2)
        return y + b.mlp(b.norm_mlp(y))

    if kind == "LateralFusion":

        def lateral() -> Tensor:
            s = dict(zip(names, steps(), strict=True))
            first, last = module.layers
            s = {n: stream(first[n], v) for n, v in s.items()}
            s = {a: s[a] + sum(module.lateral[0][a][b](s[b]) for b in names if b != a) for a in names}  # equal clocks
            s = {n: stream(last[n], v) for n, v in s.items()}
            return module.mix(torch.cat([s[n].mean(1) for n in names], -1))

        return lateral

    def intermediate() -> Tensor:
        y = module.mix(torch.cat([stream(module.apart[0][n], v) for n, v in zip(names, steps(), strict=True)], -1))
        return stream(module.together[0], y).mean(1)

    return intermediate


@torch.no_grad()
def against_plain() -> dict[str, Any]:
    """Forward time of each method over that of its plain expression; their outputs must agree first."""
    rows = {}
    device = mmlearn.device()
    for name in fusion.__all__:
        torch.manual_seed(0)
        module: Any = getattr(fusion, name)(DIMS, dim=DIM).to(device).eval()
        shape = (BATCH, STEPS) if getattr(module, "uses_sequence", False) else (BATCH,)
        features = {n: torch.randn(*shape, DIMS[n], device=device) for n in sorted(DIMS)}
        reference = plain(module, list(features.values()))
        torch.testing.assert_close(module(features), reference(), atol=1e-4, rtol=1e-4)
        timed = measure({"ours": partial(module, features), "plain": reference}, repeats=31)
        rows[name] = {who: timed[who]["median"] for who in timed}
        rows[name]["ratio"] = timed["ours"]["median"] / timed["plain"]["median"]
        print(f"{name:22} {1000 * rows[name]['ours']:8.2f} ms   {rows[name]['ratio']:.2f} x plain", flush=True)
    return rows


@torch.no_grad()
def bottleneck_against_joint() -> list[dict[str, float]]:
    """One layer of each kind over two streams of N steps: FLOPs and seconds, and the ratio that theory gives."""
    rows = []
    device = mmlearn.device()
    dim, shared = 256, 4
    attention = Attention(dim, num_heads=4).to(device).eval()

    def twice(x: Tensor) -> tuple[Tensor, Tensor]:
        return attention(x), attention(x)

    for steps in (32, 64, 128, 256, 512, 1024, 2048):
        both = torch.randn(4, 2 * steps, dim, device=device)
        one = torch.randn(4, steps + shared, dim, device=device)
        calls: dict[str, Callable[[], Any]] = {"joint": partial(attention, both), "bottleneck": partial(twice, one)}
        flops = {}
        for name, call in calls.items():
            with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # of others it knows nothing
                call()
            flops[name] = counter.get_total_flops()
        timed = measure(calls, repeats=9)

        def theory(n: int) -> int:  # multiplications: projections 4 n D², scores and averages 2 n² D
            return 4 * n * dim**2 + 2 * n**2 * dim

        rows.append({
            "steps": steps,
            "theory": theory(2 * steps) / (2 * theory(steps + shared)),
            "flops": flops["joint"] / flops["bottleneck"],
            "seconds": timed["joint"]["median"] / timed["bottleneck"]["median"],
        })  # fmt: skip
        print({name: round(value, 3) for name, value in rows[-1].items()}, flush=True)
    return rows


if __name__ == "__main__":
    begin("fusion_speed")
    save(
        "fusion_speed",
        {"batch": BATCH, "dim": DIM, "against plain": against_plain(), "bottleneck": bottleneck_against_joint()},
    )
