"""Everything that this course claims about speed on a GPU, beside its peers, in one call of at most nine minutes.

First numerics: what runs in bfloat16 must agree with float32 before anything is timed; a part that does not agree is
not timed. Then, in one process on one card: the contrastive loss alone against open_clip's, log-mel against librosa and
augmentation against OpenCV, the dual encoder of CLIP ViT-B/16 against transformers' and open_clip's, the video masked
autoencoder against transformers' VideoMAE. A peer that cannot be imported is left out, and a line says so.

Run `python -m benchmarks.gpu` on a machine with a GPU; it writes benchmarks/results/gpu.json, or gpu.json in the folder
`--out`. Each row is written as soon as it is there: what fails or runs out of time later costs the rest nothing.
`--smoke` runs the same code with tiny sizes on any machine and writes nothing. `--only loss preprocessing contrastive`
runs these parts, and a second call with `--only video` adds to what the first one wrote, if commit, card and versions
are the same and all is committed. Where there is no git, name the commit by `--commit`.
"""

import argparse
import datetime
import gc
import importlib.util
import json
import math
import os
import platform
import statistics
import subprocess
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from torch.utils.flop_counter import FlopCounterMode

import mmlearn
from benchmarks import gpu_masked
from benchmarks.gpu_models import (
    FULL,
    SMOKE,
    Contender,
    DualEncoder,
    Sizes,
    compare_precisions,
    compiler,
    dual_encoders,
    inputs_of,
    there,
    videomae,
)
from benchmarks.report import RESULTS
from mmlearn.encoders import Transformer
from mmlearn.preprocessing.audio import LogMel
from mmlearn.pretraining.contrastive import info_nce

LIMIT = 525  # seconds; then the program ends with what it has
LAST_START = 460  # seconds after which no new row begins: compiling and timing a large model takes about a minute
PACKAGES = ["torch", "triton", "torchaudio", "torchvision", "numpy", "accelerate", "transformers", "open_clip_torch"]
PACKAGES += ["librosa", "opencv-python", "opencv-python-headless"]
GOALS = {  # name → at least (+1) or at most (-1), and what
    "contrastive, times the better peer": (1, 1.2),
    "contrastive, share of ceiling": (1, 0.49),
    "video masked, times transformers, batch 64": (1, 2.7),
    "video masked, times transformers, batch 256": (1, 2.7),
    "video masked, share of ceiling, batch 64": (1, 0.48),
    "video masked, share of ceiling, batch 256": (1, 0.48),
    "loss at 32,768, part of ClipLoss's time": (-1, 0.3),
    "loss at 32,768, part of ClipLoss's memory": (-1, 0.02),
    "loss at 262,144, seconds": (-1, 1.0),
    "loss at 262,144, GB": (-1, 2.5),
    "log-mel, times librosa": (1, 20.0),
    "augmentation, times OpenCV": (1, 20.0),
}


class Record:
    """What was found so far. It is written after every row, whole or not at all."""

    def __init__(self, path: Path | None, about: dict[str, Any]) -> None:
        self.path, self.start = path, time.perf_counter()
        self.rows: dict[str, Any] = {}
        self.reached: dict[str, float] = {}
        self.failed: dict[str, str] = {}
        self.about = about | {"complete": False}

    def go_on(self, again: list[str]) -> None:
        """Take over what an earlier call has found about other parts than these: same commit, card and versions."""
        if self.path is None or not self.path.exists() or self.about["commit"].endswith(("unknown", "-dirty")):
            return
        old = json.loads(self.path.read_text(encoding="utf-8"))
        if any(old.get(key) != self.about[key] for key in ("commit", "device", "versions")):
            return
        titles = tuple(title for part in again for title in (f"numerics, {part}", *TITLES[part]))
        for found, key in ((self.rows, "rows"), (self.reached, "reached"), (self.failed, "failed")):
            found.update({name: x for name, x in old[key].items() if not name.startswith(titles)})

    def seconds(self) -> float:
        """Return the time since the start."""
        return time.perf_counter() - self.start

    def attempt(self, name: str, call: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """Return and keep what a call returns; None where it fails, or where no time is left to begin."""
        if self.seconds() > LAST_START:
            self.failed[name] = "no time left"
        else:
            try:
                self.rows[name] = call()
            except ImportError as error:
                self.failed[name] = f"left out: {error}"
            except Exception:  # one row's failure must not cost the others their turn on the card
                self.failed[name] = traceback.format_exc()
        if name in self.failed:
            print(f"{name}: {self.failed[name]}", flush=True)
        self.write()
        return self.rows.get(name)

    def reach(self, name: str, value: float) -> None:
        """Keep a number that a goal is set for."""
        self.reached[name] = value
        self.write()

    def write(self) -> None:
        """Write all of it, if there is a file."""
        if self.path is None:
            return
        goals = {name: {"at least" if sign > 0 else "at most": goal} for name, (sign, goal) in GOALS.items()}
        found = {"seconds": self.seconds(), "goals": goals, "reached": self.reached, "failed": self.failed}
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.about | found | {"rows": self.rows}, indent=1) + "\n", encoding="utf-8")
        os.replace(part, self.path)


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


def forget() -> None:
    """Start from an empty card and an empty compiler."""
    torch._dynamo.reset()
    gc.collect()  # compiled models stand in cycles of references
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


def check_loss(sizes: Sizes) -> dict[str, float]:
    """Compare value and gradients with float64's. In float32 they agree to four digits.

    In bfloat16, which keeps 8 bits, a logit of 5 is off by up to 0.01: so much are its exponential and the gradient.
    """
    device, found = mmlearn.device(), {}
    torch.manual_seed(0)
    rows = min(sizes.loss_batches[0], 4096)
    a, b = (normalize(torch.randn(rows, 512, device=device), dim=1) for _ in range(2))
    b = normalize(a + 3 * b, dim=1)  # partners are alike, but not so much that gradients are differences of equals
    exact = loss_and_gradients(a.double(), b.double(), None)
    for kind, allowed in (("float32", 1e-4), ("bfloat16", 0.03)):
        for block in sizes.blocks:
            with torch.autocast(device.type, torch.bfloat16, enabled=kind == "bfloat16"):
                results = loss_and_gradients(a, b, block)
            for part, x, y in zip(("value", "a", "b", "scale"), results, exact, strict=True):
                off = float((x - y).abs()) if part == "value" else distance(x, y)
                found[f"{kind}, block {block}, {part}"] = off
                assert off < allowed, (kind, block, part, off)
    return found


def check_dual(sizes: Sizes) -> dict[str, float]:
    """Compare the attention block, with and without masks and RoPE, and the dual encoder's loss and gradients."""
    device, found = mmlearn.device(), {}
    torch.manual_seed(0)
    sizes = sizes._replace(vision=sizes.vision | {"depth": 2}, words=sizes.words | {"depth": 2})  # compiles sooner
    for name, rope in {"transformer": False, "transformer with RoPE": True}.items():
        model = Transformer(**sizes.vision, rope=rope).to(device)
        x = torch.randn(4, 50, sizes.vision["dim"], device=device)
        mask = torch.arange(50, device=device) < torch.tensor([[50], [30], [7], [50]], device=device)
        for title, real in {name: None, f"{name}, masked": mask}.items():
            with torch.no_grad():
                exact = model(x, real)
            quick = torch.compile(model, fullgraph=True, backend=compiler())
            with torch.no_grad(), autocast():
                rough = quick(x, real)
            keep = slice(None) if real is None else real
            found[title] = distance(rough[keep], exact[keep])
            assert found[title] < 0.03, (title, found[title])
    return found | compare_precisions(DualEncoder(sizes).to(device), inputs_of(sizes, 8))


def check_video(sizes: Sizes) -> dict[str, float]:
    return compare_precisions(*gpu_masked.shallow(sizes is SMOKE))


def loss_and_gradients(a: Tensor, b: Tensor, block_size: int | None) -> list[Tensor]:
    a, b = (x.detach().clone().requires_grad_() for x in (a, b))
    scale = torch.tensor(14.3, device=a.device, dtype=a.dtype, requires_grad=True)
    loss = info_nce(a, b, scale, block_size=block_size)
    loss.backward()
    return [loss.detach(), *(x.grad for x in (a, b, scale) if x.grad is not None)]


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
    runner: Any = torch.compile(model, backend=compiler())
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
        "first_loss": float(loss.detach()),
    }
    print(
        f"{contender.name:34} batch {batch:4} {row['samples_per_second']:9.1f} samples/s {row['tflops']:7.1f} TFLOP/s "
        f"{row['share_of_ceiling']:.3f} of the ceiling {row['memory_gb']:6.1f} GB",
        flush=True,
    )
    return row


def contrastive(sizes: Sizes, limit: float, record: Record) -> None:
    rows = {}
    for one in dual_encoders(sizes):
        rows[one.name] = record.attempt(f"contrastive, {one.name}", partial(training_step, one, sizes.batch, limit))
    ours = rows.pop("mmlearn")
    peers = [row["samples_per_second"] for row in rows.values() if row]
    if ours:
        record.reach("contrastive, share of ceiling", ours["share_of_ceiling"])
    if ours and peers:
        record.reach("contrastive, times the better peer", ours["samples_per_second"] / max(peers))


def video_masked(sizes: Sizes, limit: float, record: Record) -> None:
    """VideoMAE-base's pretraining step, 16 × 224², 90 % masked; ours is built by `benchmarks.gpu_masked`."""
    contenders = [Contender("mmlearn", *gpu_masked.contender(sizes is SMOKE))]
    if there("transformers"):
        contenders.append(videomae(sizes))
    for batch in sizes.video_batches:
        rows = {}
        for one in contenders:
            name = f"video masked, {one.name}, batch {batch}"
            rows[one.name] = record.attempt(name, partial(training_step, one, batch, limit))
        ours, peer = rows["mmlearn"], rows.get("transformers")
        if ours:
            record.reach(f"video masked, share of ceiling, batch {batch}", ours["share_of_ceiling"])
        if ours and peer:
            times = ours["samples_per_second"] / peer["samples_per_second"]
            record.reach(f"video masked, times transformers, batch {batch}", times)


# --- the loss alone ---------------------------------------------------------------------------------------------------


def clip_loss() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """open_clip's loss, or the same two cross-entropies written out."""
    if importlib.util.find_spec("open_clip"):
        import open_clip

        return open_clip.ClipLoss()

    def plain(a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
        labels = torch.arange(len(a), device=a.device)
        return (cross_entropy(scale * a @ b.T, labels) + cross_entropy(scale * b @ a.T, labels)) / 2

    return plain


def time_loss(criterion: Callable[[Tensor, Tensor, Tensor], Tensor], size: int, limit: float) -> dict[str, Any]:
    """Milliseconds of forward and backward, and GB beside the inputs and their gradients."""
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
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()  # what compiling took is not counted
        times = seconds(step, repeats=5, warm=1)
    except torch.OutOfMemoryError:
        return {"out_of_memory": True}
    products = 4 * 2 * size**2 * 512 / limit
    row = {"milliseconds": 1000 * statistics.median(times), "spread": 1000 * (max(times) - min(times))}
    return row | {"gb": max(0, peak() - base) / 2**30, "milliseconds_of_four_products": 1000 * products}


def loss_alone(sizes: Sizes, limit: float, record: Record) -> None:
    peer, fits = clip_loss(), {}
    record.about["ClipLoss"] = "open_clip's" if there("open_clip") else "the same two cross-entropies, written out"
    for size in [*sizes.loss_batches, sizes.longest]:
        long = size == sizes.longest
        calls = {} if long else {"ClipLoss": peer}
        for block in sizes.blocks[:2] if long else sizes.blocks:
            calls[f"blocks of {block}"] = partial(info_nce, block_size=block)
        for name, call in calls.items():
            title = f"loss, {name}, {size}"
            row = record.attempt(title, partial(time_loss, call, size, limit))
            if row and "milliseconds" in row:
                fits[name, size] = row
                shown = f"{row['milliseconds']:9.2f} ms {row['gb']:7.2f} GB, "
                shown += f"four products alone {row['milliseconds_of_four_products']:.2f} ms"
            else:
                shown = "out of memory" if row else "failed"
            print(f"{name:18} at {size:7}: {shown}", flush=True)
    size = sizes.loss_batches[-1]
    ours = [row for (name, n), row in fits.items() if n == size and name != "ClipLoss"]
    if ours and ("ClipLoss", size) in fits:
        best, theirs = min(ours, key=lambda row: row["milliseconds"]), fits["ClipLoss", size]
        record.reach(f"loss at {size:,}, part of ClipLoss's time", best["milliseconds"] / theirs["milliseconds"])
        record.reach(f"loss at {size:,}, part of ClipLoss's memory", best["gb"] / max(theirs["gb"], 1e-9))
    if long_rows := [row for (_, n), row in fits.items() if n == sizes.longest]:
        best = min(long_rows, key=lambda row: row["milliseconds"])
        record.reach(f"loss at {sizes.longest:,}, seconds", best["milliseconds"] / 1000)
        record.reach(f"loss at {sizes.longest:,}, GB", best["gb"])


# --- preprocessing ----------------------------------------------------------------------------------------------------


def time_log_mel(sizes: Sizes) -> dict[str, Any]:
    from benchmarks.log_mel import RATE, with_librosa

    audio = np.random.default_rng(0).normal(0, 0.1, (sizes.sounds, RATE)).astype(np.float32)
    log_mel, x = LogMel().to(mmlearn.device()), torch.from_numpy(audio).to(mmlearn.device())
    difference = float((log_mel(x).cpu() - torch.from_numpy(with_librosa(audio))).abs().max())
    assert difference < 1e-3, difference
    ours, theirs = seconds(lambda: log_mel(x)), seconds(lambda: with_librosa(audio), repeats=3, warm=1)
    row = {"milliseconds": 1000 * statistics.median(ours), "librosa_milliseconds": 1000 * statistics.median(theirs)}
    return row | {"difference": difference}


def time_augmentation(sizes: Sizes) -> dict[str, Any]:
    from benchmarks import augmentation

    rng = np.random.default_rng(0)
    augmentation.CLIPS = sizes.sounds
    return augmentation.one_round(
        augmentation.LIGHT, list(rng.integers(0, 256, (sizes.sounds, 16, 128, 128, 3), dtype=np.uint8))
    )


def preprocessing(sizes: Sizes, limit: float, record: Record) -> None:
    """Log-mel and augmentation on the card against librosa and OpenCV on this machine's CPU, after their scripts."""
    if there("librosa") and (row := record.attempt("log-mel", lambda: time_log_mel(sizes))):
        record.reach("log-mel, times librosa", row["librosa_milliseconds"] / row["milliseconds"])
    if there("cv2") and (row := record.attempt("augmentation", lambda: time_augmentation(sizes))):
        record.reach("augmentation, times OpenCV", row["ratios"]["OpenCV, frame by frame"])


PARTS = {"loss": loss_alone, "preprocessing": preprocessing, "contrastive": contrastive, "video": video_masked}
TITLES = {  # how the names of a part's rows, goals and failures begin
    "loss": ["loss"],
    "preprocessing": ["preprocessing", "log-mel", "augmentation"],
    "contrastive": ["contrastive"],
    "video": ["video"],
}
CHECKS = {"loss": check_loss, "contrastive": check_dual, "video": check_video}  # preprocessing compares as it times


def about_this_run(commit: str | None) -> dict[str, Any]:
    """Date, commit, card and versions; asked first, so that no lack of git costs what was measured."""
    if commit is None:
        try:
            asked = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True)
            commit = asked.stdout.strip() or "unknown"
        except OSError:
            commit = "unknown"
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {platform.machine()}"
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    date = datetime.date.today().isoformat()
    return {"date": date, "commit": commit, "device": card, "python": platform.python_version(), "versions": found}


def stop() -> None:
    """End the program: everything found is written already, and what runs now may never look at the clock."""
    print(f"stopped after {LIMIT} s, with what was found so far", flush=True)
    os._exit(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, nothing is written")
    parser.add_argument("--only", choices=[*PARTS], nargs="+", default=[*PARTS], help="these parts")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for gpu.json")
    parser.add_argument("--commit", help="what the results are of; by default git is asked")
    arguments = parser.parse_args()
    if not arguments.smoke and not torch.cuda.is_available():
        parser.error("no GPU here; --smoke runs the same code with tiny sizes")
    watch = threading.Timer(LIMIT, stop)
    watch.daemon = True
    watch.start()
    sizes = SMOKE if arguments.smoke else FULL
    record = Record(None if arguments.smoke else arguments.out / "gpu.json", about_this_run(arguments.commit))
    record.go_on(arguments.only)
    torch.set_float32_matmul_precision("highest")
    agreed = []
    for name in arguments.only:
        check = CHECKS.get(name)
        if check is None or record.attempt(f"numerics, {name}", partial(check, sizes)):
            agreed.append(name)
        forget()
    print(f"numerics agree for {', '.join(agreed) or 'nothing'}: {record.seconds():.0f} s", flush=True)
    torch.set_float32_matmul_precision("high")
    limit = ceiling(sizes)
    record.about["ceiling_tflops"] = limit / 1e12
    print(f"a product of {sizes.square}² in bfloat16: {limit / 1e12:.1f} TFLOP/s", flush=True)
    for name in agreed:
        try:
            PARTS[name](sizes, limit, record)
        except Exception:  # building the contenders, or reading their rows
            record.failed[name] = traceback.format_exc()
            print(record.failed[name], flush=True)
        print(f"-- {name}: {record.seconds():.0f} s since the start", flush=True)
    for key, value in record.reached.items():
        sign, goal = GOALS.get(key, (0, math.nan))
        verdict = (
            f"goal {goal}: {'met' if sign * value >= sign * goal else 'MISSED'}" if sign and not arguments.smoke else ""
        )
        print(f"{key:55} {value:9.3f} {verdict}")
    record.about["complete"] = not record.failed and GOALS.keys() <= record.reached.keys()
    record.write()
    watch.cancel()
    if arguments.smoke:
        assert not record.failed, list(record.failed)
        assert record.reached and all(math.isfinite(value) for value in record.reached.values())


if __name__ == "__main__":
    main()
