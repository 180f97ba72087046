"""Everything that this course claims about speed on a GPU, beside its peers, in one call of at most nine minutes.

First numerics: what runs in bfloat16 must agree with float32 before anything is timed. Then, in one process on one
card: the dual encoder of CLIP ViT-B/16 against transformers' and open_clip's, the video masked autoencoder against
transformers' VideoMAE, the contrastive loss alone against open_clip's, log-mel against librosa, augmentation against
OpenCV. A peer that cannot be imported is left out, and the table says so.

Run `python -m benchmarks.gpu` on a machine with a GPU; it writes benchmarks/results/gpu.json. `--smoke` runs the same
code with tiny sizes on any machine and writes nothing; `--only loss` runs one part.
"""

import argparse
import importlib.util
import math
import statistics
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from torch.utils.flop_counter import FlopCounterMode

import mmlearn
from benchmarks.gpu_models import FULL, SMOKE, Contender, Sizes, dual_encoders, there, videomae
from benchmarks.report import save
from mmlearn.nn import Transformer
from mmlearn.preprocessing.audio import LogMel
from mmlearn.pretraining.contrastive import info_nce

LIMIT = 540  # seconds for the whole call; a part that would begin later is left out
PEERS = ["transformers", "open_clip_torch", "librosa", "opencv-python", "torchvision"]
GOALS = {
    "contrastive, times the better peer": 1.2,
    "contrastive, share of ceiling": 0.49,
    "video masked, times transformers": 2.7,
    "video masked, share of ceiling": 0.48,
    "loss at 32,768, part of ClipLoss's time": 0.3,
    "loss at 32,768, part of ClipLoss's memory": 0.02,
    "loss at 262,144, seconds": 1.0,
    "loss at 262,144, GB": 2.5,
    "log-mel and augmentation, times the CPU": 20,
}


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(step: Callable[[], Any], repeats: int = 20, warm: int = 5) -> list[float]:
    """Times of a step, each waited for."""
    for _ in range(warm):
        step()
    times = []
    for _ in range(repeats):
        wait()
        start = time.perf_counter()
        step()
        wait()
        times.append(time.perf_counter() - start)
    return times


def autocast() -> torch.autocast:
    return torch.autocast(mmlearn.device().type, dtype=torch.bfloat16)


def backend() -> str:
    """The compiler that is timed; on a CPU only whether it would take the model."""
    return "inductor" if mmlearn.device().type == "cuda" else "eager"


def forget() -> None:
    """Start from an empty card and an empty compiler."""
    torch._dynamo.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak() -> int:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0


def taken() -> int:
    return torch.cuda.memory_allocated() if torch.cuda.is_available() else 0


def ceiling(sizes: Sizes) -> float:
    """FLOP/s of one large product in bfloat16: what the card gives at best."""
    a, b = (torch.randn(sizes.square, sizes.square, device=mmlearn.device(), dtype=torch.bfloat16) for _ in range(2))
    return 2 * sizes.square**3 / statistics.median(seconds(lambda: a @ b))


# --- numerics, before anything is timed -------------------------------------------------------------------------------


def distance(x: Tensor, reference: Tensor) -> float:
    """Norm of the difference, as a part of the reference's."""
    return float((x.double() - reference.double()).norm() / reference.double().norm())


def check_numerics(sizes: Sizes) -> dict[str, float]:
    """What is allowed: bfloat16 keeps 8 bits, so single numbers are off by 0.4 %; sums of many by a few times that."""
    device, found = mmlearn.device(), {}
    torch.manual_seed(0)
    for name, settings in {"transformer": {}, "transformer with RoPE": {"rope": True}}.items():
        model = Transformer(**sizes.vision | {"depth": 2}, **settings).to(device)
        x = torch.randn(4, 50, sizes.vision["dim"], device=device)
        mask = torch.arange(50, device=device) < torch.tensor([[50], [30], [7], [50]], device=device)
        for title, real in {name: None, f"{name}, masked": mask}.items():
            with torch.no_grad():
                exact = model(x, real)
            quick = torch.compile(model, fullgraph=True, backend=backend())
            with torch.no_grad(), autocast():
                rough = quick(x, real)
            keep = slice(None) if real is None else real
            found[title] = distance(rough[keep], exact[keep])
            assert found[title] < 0.03, (title, found[title])
    rows = min(sizes.loss_batches[0], 4096)
    a, b = (normalize(torch.randn(rows, 512, device=device), dim=1) for _ in range(2))
    b = normalize(a + b, dim=1)  # partners are alike
    exact = loss_and_gradients(a.double(), b.double(), None)
    for title, inputs, allowed in (("loss, float32", (a, b), 1e-4), ("loss, bfloat16", (a, b), 0.02)):
        for block in sizes.blocks:
            if "bfloat16" in title:
                with autocast():
                    results = loss_and_gradients(*inputs, block)
            else:
                results = loss_and_gradients(*inputs, block)
            for part, x, y in zip(("value", "a", "b", "scale"), results, exact, strict=True):
                off = float((x - y).abs()) if part == "value" else distance(x, y)  # near zero, a part says nothing
                found[f"{title}, block {block}, {part}"] = off
                assert off < allowed, (title, block, part, off)
    return found


def loss_and_gradients(a: Tensor, b: Tensor, block_size: int | None) -> list[Tensor]:
    a, b = (x.detach().clone().requires_grad_() for x in (a, b))
    scale = torch.tensor(14.3, device=a.device, dtype=a.dtype, requires_grad=True)
    loss = info_nce(a, b, scale, block_size=block_size)
    loss.backward()
    return [loss.detach(), a.grad, b.grad, scale.grad]


# --- whole training steps ---------------------------------------------------------------------------------------------


def training_step(contender: Contender, batch: int, limit: float) -> dict[str, Any]:
    """Median time of forward, backward and AdamW, compiled, in bfloat16; FLOPs are counted alike for every model."""
    forget()
    device = mmlearn.device()
    torch.manual_seed(0)
    model = contender.build().to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=device.type == "cuda")

    def loss_of(runner: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        with autocast():
            return contender.loss(runner, inputs)

    counter = FlopCounterMode(display=False)
    with counter:
        loss_of(model, contender.make(2)).backward()
    flops = counter.get_total_flops() / 2
    optimizer.zero_grad(set_to_none=True)
    runner: Any = torch.compile(model, backend=backend())
    inputs = contender.make(batch)

    def step() -> Tensor:
        loss = loss_of(runner, inputs)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    start = time.perf_counter()
    loss = step()
    wait()
    compiled = time.perf_counter() - start
    times = seconds(step)
    median = statistics.median(times)
    row = {
        "batch": batch,
        "milliseconds": 1000 * median,
        "spread": 1000 * (max(times) - min(times)),
        "samples_per_second": batch / median,
        "gflop_per_sample": flops / 1e9,
        "tflops": flops * batch / median / 1e12,
        "share_of_ceiling": flops * batch / median / limit,
        "memory_gb": peak() / 2**30,
        "seconds_to_compile": compiled,
        "first_loss": float(loss),
    }
    print(
        f"{contender.name:34} batch {batch:4} {row['samples_per_second']:9.1f} samples/s {row['tflops']:7.1f} TFLOP/s "
        f"{row['share_of_ceiling']:.3f} of the ceiling {row['memory_gb']:6.1f} GB",
        flush=True,
    )
    return row


def contrastive(sizes: Sizes, limit: float) -> dict[str, Any]:
    rows = {c.name: training_step(c, sizes.batch, limit) for c in dual_encoders(sizes)}
    ours = rows["mmlearn"]
    peers = [row["samples_per_second"] for name, row in rows.items() if name != "mmlearn"]
    goals = {"contrastive, share of ceiling": ours["share_of_ceiling"]}
    if peers:
        goals["contrastive, times the better peer"] = ours["samples_per_second"] / max(peers)
    return {"rows": rows, "reached": goals}


def video_masked(sizes: Sizes, limit: float) -> dict[str, Any]:
    """VideoMAE-base's pretraining step, 16 × 224², 90 % masked; ours is built by `benchmarks.gpu_masked`."""
    contenders = []
    if importlib.util.find_spec("benchmarks.gpu_masked") is not None:
        from benchmarks import gpu_masked

        gpu_masked.check(sizes is SMOKE)  # numerics first
        contenders.append(Contender("mmlearn", *gpu_masked.contender(sizes is SMOKE)))
    else:
        print("benchmarks.gpu_masked does not exist yet: left out", flush=True)
    if there("transformers"):
        contenders.append(videomae(sizes))
    rows = {f"{c.name}, {batch}": training_step(c, batch, limit) for batch in sizes.video_batches for c in contenders}
    reached = {}
    for batch in sizes.video_batches:
        ours, peer = rows.get(f"mmlearn, {batch}"), rows.get(f"transformers, {batch}")
        if ours:
            reached[f"video masked, share of ceiling, batch {batch}"] = ours["share_of_ceiling"]
        if ours and peer:
            times = ours["samples_per_second"] / peer["samples_per_second"]
            reached[f"video masked, times transformers, batch {batch}"] = times
    return {"rows": rows, "reached": reached}


# --- the loss alone ---------------------------------------------------------------------------------------------------


def clip_loss() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """open_clip's loss, or the same two cross-entropies written out."""
    if there("open_clip"):
        import open_clip

        return open_clip.ClipLoss()

    def plain(a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
        labels = torch.arange(len(a), device=a.device)
        return (cross_entropy(scale * a @ b.T, labels) + cross_entropy(scale * b @ a.T, labels)) / 2

    return plain


def time_loss(criterion: Callable[[Tensor, Tensor, Tensor], Tensor], size: int) -> dict[str, float] | None:
    """Milliseconds of forward and backward, and GB beside the inputs and their gradients; None: out of memory."""
    forget()
    device = mmlearn.device()
    torch.manual_seed(0)
    a, b = (normalize(torch.randn(size, 512, device=device), dim=1).requires_grad_() for _ in range(2))
    scale = torch.tensor(14.3, device=device, requires_grad=True)

    def step() -> None:
        a.grad = b.grad = scale.grad = None
        with autocast():
            loss = criterion(a, b, scale)
        loss.backward()

    try:
        step()
        base = taken()  # inputs and gradients
        times = seconds(step, repeats=5, warm=1)
    except torch.OutOfMemoryError:
        return None
    return {"milliseconds": 1000 * statistics.median(times), "gb": (peak() - base) / 2**30}


def loss_alone(sizes: Sizes, limit: float) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    peer = clip_loss()
    for size in [*sizes.loss_batches, sizes.longest]:
        blocks = sizes.blocks if size != sizes.longest else sizes.blocks[:2]
        calls = {"ClipLoss": peer} if size != sizes.longest else {}
        for block in blocks:
            calls[f"blocks of {block}"] = lambda a, b, scale, n=block: info_nce(a, b, scale, block_size=n)
        for name, criterion in calls.items():
            row = rows[f"{name}, {size}"] = time_loss(criterion, size)
            shown = "out of memory" if row is None else f"{row['milliseconds']:9.2f} ms {row['gb']:7.2f} GB"
            products = 4 * 2 * size**2 * 512 / limit * 1000
            print(f"{name:18} at {size:7}: {shown}   (four products: {products:.2f} ms)", flush=True)
    reached = {}
    size = sizes.loss_batches[-1]
    ours = min((rows[f"blocks of {n}, {size}"] for n in sizes.blocks), key=lambda row: row["milliseconds"])
    theirs = rows[f"ClipLoss, {size}"]
    if theirs:
        reached[f"loss at {size:,}, part of ClipLoss's time"] = ours["milliseconds"] / theirs["milliseconds"]
        reached[f"loss at {size:,}, part of ClipLoss's memory"] = ours["gb"] / max(theirs["gb"], 1e-9)
    long = [row for n in sizes.blocks[:2] if (row := rows[f"blocks of {n}, {sizes.longest}"])]
    if long:
        best = min(long, key=lambda row: row["milliseconds"])
        reached[f"loss at {sizes.longest:,}, seconds"] = best["milliseconds"] / 1000
        reached[f"loss at {sizes.longest:,}, GB"] = best["gb"]
    return {"rows": rows, "reached": reached}


# --- preprocessing ----------------------------------------------------------------------------------------------------


def preprocessing(sizes: Sizes, limit: float) -> dict[str, Any]:
    """Log-mel and augmentation on the card against librosa and OpenCV on this machine's CPU, after their scripts."""
    rng = np.random.default_rng(0)
    reached: dict[str, float] = {}
    rows: dict[str, Any] = {}
    if there("librosa"):
        from benchmarks.log_mel import RATE, with_librosa

        audio = rng.normal(0, 0.1, (sizes.sounds, RATE)).astype(np.float32)
        log_mel, x = LogMel().to(mmlearn.device()), torch.from_numpy(audio).to(mmlearn.device())
        difference = float((log_mel(x).cpu() - torch.from_numpy(with_librosa(audio))).abs().max())
        assert difference < 1e-3, difference
        ours, theirs = seconds(lambda: log_mel(x)), seconds(lambda: with_librosa(audio), repeats=3, warm=1)
        reached["log-mel, times librosa"] = statistics.median(theirs) / statistics.median(ours)
        rows["log-mel"] = {"milliseconds": 1000 * statistics.median(ours), "difference": difference}
    if there("cv2"):
        from benchmarks import augmentation

        arrays = list(rng.integers(0, 256, (sizes.sounds, 16, 128, 128, 3), dtype=np.uint8))
        augmentation.CLIPS = sizes.sounds
        rows["augmentation"] = augmentation.one_round(augmentation.LIGHT, arrays)
        reached["augmentation, times OpenCV"] = rows["augmentation"]["ratios"]["OpenCV, frame by frame"]
    return {"rows": rows, "reached": reached}


PARTS = {"loss": loss_alone, "contrastive": contrastive, "video": video_masked, "preprocessing": preprocessing}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, nothing is written")
    parser.add_argument("--only", choices=[*PARTS], nargs="*", default=[*PARTS], help="these parts")
    arguments = parser.parse_args()
    if not arguments.smoke and not torch.cuda.is_available():
        parser.error("no GPU here; --smoke runs the same code with tiny sizes")
    start, sizes = time.perf_counter(), SMOKE if arguments.smoke else FULL
    torch.set_float32_matmul_precision("highest")
    numerics = check_numerics(sizes)
    print(f"numerics: {len(numerics)} comparisons with float32 passed, {time.perf_counter() - start:.0f} s", flush=True)
    torch.set_float32_matmul_precision("high")
    limit = ceiling(sizes)
    print(f"a product of {sizes.square}² in bfloat16: {limit / 1e12:.1f} TFLOP/s", flush=True)
    results: dict[str, Any] = {"ceiling_tflops": limit / 1e12, "numerics": numerics, "goals": GOALS, "failed": {}}
    for name in arguments.only:
        if time.perf_counter() - start > LIMIT:
            results["failed"][name] = "no time left"
            continue
        try:
            results[name] = PARTS[name](sizes, limit)
        except Exception:  # one part's failure must not cost the others their turn on the card
            results["failed"][name] = traceback.format_exc()
            print(results["failed"][name], flush=True)
        print(f"-- {name}: {time.perf_counter() - start:.0f} s since the start", flush=True)
    reached = {key: value for name in PARTS for key, value in results.get(name, {}).get("reached", {}).items()}
    for key, value in reached.items():
        print(f"{key:55} {value:9.3f}")
    results["seconds"] = time.perf_counter() - start
    if arguments.smoke:
        assert not results["failed"], list(results["failed"])
        assert all(math.isfinite(value) for value in reached.values())
        return
    save("gpu", results | {"reached": reached}, [name for name in PEERS if installed(name)])


def installed(distribution: str) -> bool:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return bool(version(distribution))
    except PackageNotFoundError:
        return False


if __name__ == "__main__":
    main()
