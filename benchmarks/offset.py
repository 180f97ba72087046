"""How exactly the offset between sound and picture is found, on real talking faces and on HanziClips.

Run `python -m benchmarks.offset PATH-OF-GRID` (3 minutes on 2 idle cores); it writes benchmarks/results/offset.json.
Each group of clips gets a known delay, drawn again for each of three seeds. The recordings are taken to be in sync, so
any constant error is the method's own; it is measured on training clips and taken off. The method's few settings were
chosen on training clips; only a first look at whether it works at all was taken on 100 of GRID's test clips.
"""

import sys
from collections.abc import Sequence

import numpy as np

from benchmarks.report import begin, save, spread
from mmlearn import Clip
from mmlearn.datasets import Grid, HanziClips
from mmlearn.preprocessing.video import delay_audio, estimate_offset, offset_curve

SEEDS = [0, 1, 2]
LARGEST = 0.2  # seconds: delays are drawn between -LARGEST and LARGEST
GROUPS = [1, 4, 16, 64]  # clips that share a delay
FRAME = 0.04


def errors(clips: Sequence[Clip], group: int, seed: int) -> np.ndarray:
    """Return estimate minus truth, in seconds, of each group of clips."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(clips))
    found = []
    for k in range(0, len(clips) - group + 1, group):
        delay = rng.uniform(-LARGEST, LARGEST)
        part = [delay_audio(clips[i], delay) for i in order[k : k + group]]
        found.append(estimate_offset(part)[0] - delay)
    return np.array(found)


def judge(name: str, train: Sequence[Clip], test: Sequence[Clip]) -> dict[str, object]:
    """Print and return the errors of one data set."""
    bias = estimate_offset(train)[0]
    offsets, curve = offset_curve(test[0])
    results: dict[str, object] = {
        "clips": len(test),
        "bias_ms": 1000 * bias,
        "pooled_without_delay_ms": 1000 * estimate_offset(test)[0],
        "curve": {"offsets": offsets.tolist(), "one": curve.tolist(),
                  "mean": np.mean([offset_curve(clip)[1] for clip in test], axis=0).tolist()},
    }  # fmt: skip
    for group in GROUPS:
        rows = [1000 * (errors(test, group, seed) - bias) for seed in SEEDS]
        row = {
            "median_abs_ms": spread([float(np.median(np.abs(e))) for e in rows]),
            "within_a_frame": spread([float(np.mean(np.abs(e) <= 1000 * FRAME)) for e in rows]),
            "not_calibrated_median_abs_ms": spread([float(np.median(np.abs(e + 1000 * bias))) for e in rows]),
        }
        results[str(group)] = row
        print(f"{name:6} {group:3} clips together: median |error| {row['median_abs_ms']['mean']:5.1f} ms, "
              f"within a frame {row['within_a_frame']['mean']:.2f}", flush=True)  # fmt: skip
    return results


def main(root: str) -> None:
    """Measure both data sets."""
    begin("offset")
    grid, hanzi = {}, {}
    for split in ("train", "test"):
        faces, clips = Grid(root, split=split), HanziClips(200, split=split)
        grid[split] = [faces[i] for i in range(200)]
        hanzi[split] = [clips.clip(i, image_size=48) for i in range(200)]
    results = {
        "grid": judge("GRID", grid["train"], grid["test"]),
        "hanzi": judge("Hanzi", hanzi["train"], hanzi["test"]),
    }
    save("offset", {"seeds": SEEDS, "largest_delay_s": LARGEST} | results)


if __name__ == "__main__":
    main(sys.argv[1])
