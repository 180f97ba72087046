"""Augment a batch on its device, against OpenCV frame by frame and torchvision clip by clip: preprocessing/image.

64 clips of 16 frames of 128 × 128 become 112 × 112: random crop, mirror, brightness, contrast, saturation; in a second
round also hue and rotation. All get the same draws, and must agree before anything is timed.

Run `python -m benchmarks.augmentation`; it writes benchmarks/results/augmentation.json.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import torch
from torchvision.transforms.v2 import functional as tv

import mmlearn
from benchmarks.report import begin, measure, save
from mmlearn.datasets import HanziClips
from mmlearn.preprocessing import image
from mmlearn.preprocessing.image import Augment, Draw

CLIPS, FRAMES, SIDE, SIZE = 64, 16, 128, 112
LIGHT = {"flip": 0.5, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4}
ROUNDS = {"crop, flip, jitter": LIGHT, "and hue, rotation": {**LIGHT, "hue": 0.1, "degrees": 15}}
GOAL, TOLERANCE = 20, 1e-3


def light_of(draw: Draw, k: int) -> dict[str, float]:
    return {name: float(getattr(draw, name)[k]) for name in ("brightness", "contrast", "saturation", "hue")}


def by_opencv(frames: np.ndarray, draw: Draw, k: int, rotate: bool) -> np.ndarray:
    """One clip (T, H, W, C) by this package's functions for arrays: OpenCV, frame by frame."""
    if rotate:
        frames = image.rotate(frames, float(draw.degrees[k]))
    frames = image.resize(image.crop(frames, *draw.box[k].tolist()), SIZE)
    frames = image.flip(frames) if draw.flip[k] else frames
    return image.adjust_color(frames, **light_of(draw, k))


def by_bare_opencv(frames: np.ndarray, draw: Draw, k: int) -> np.ndarray:
    """The same (without hue and rotation) as bare OpenCV in bytes, as quick as it gets: rounded after each step."""
    top, left, height, width = draw.box[k].tolist()
    light, done = light_of(draw, k), np.empty((len(frames), SIZE, SIZE, 3), np.uint8)
    for t, frame in enumerate(frames):
        new = cv2.resize(frame[top : top + height, left : left + width], (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
        if draw.flip[k]:
            new = cv2.flip(new, 1)
        new = cv2.convertScaleAbs(new, alpha=light["brightness"])
        mean = cv2.mean(cv2.cvtColor(new, cv2.COLOR_RGB2GRAY))[0]
        new = cv2.addWeighted(new, light["contrast"], new, 0, (1 - light["contrast"]) * mean)
        grey = cv2.cvtColor(cv2.cvtColor(new, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        cv2.addWeighted(new, light["saturation"], grey, 1 - light["saturation"], 0, dst=done[t])
    return done


def by_torchvision(clip: torch.Tensor, draw: Draw, k: int, rotate: bool) -> torch.Tensor:
    """One clip (T, C, H, W) by torchvision's own functions."""
    light = light_of(draw, k)
    if rotate:
        clip = tv.rotate(clip, float(draw.degrees[k]), tv.InterpolationMode.BILINEAR)
    clip = tv.resized_crop(clip, *draw.box[k].tolist(), size=[SIZE, SIZE], antialias=True)
    clip = tv.horizontal_flip(clip) if draw.flip[k] else clip
    clip = tv.adjust_contrast(tv.adjust_brightness(clip, light["brightness"]), light["contrast"])
    clip = tv.adjust_saturation(clip, light["saturation"])
    return tv.adjust_hue(clip, light["hue"]) if light["hue"] else clip


def one_round(options: dict[str, Any], arrays: list[np.ndarray]) -> dict:
    device, cores = mmlearn.device(), os.cpu_count() or 1
    on_host = torch.from_numpy(np.stack(arrays)).permute(0, 4, 1, 2, 3).contiguous()  # (B, C, T, H, W)
    if device.type == "cuda":
        on_host = on_host.pin_memory()
    video, rotate = on_host.to(device), "degrees" in options
    clips = [clip.transpose(0, 1).contiguous() for clip in video]  # (T, C, H, W)
    augment = Augment(SIZE, generator=torch.Generator().manual_seed(0), **options)
    draw = augment.draw(CLIPS, SIDE, SIDE)

    ours = augment(video.float() / 255, draw).cpu()
    theirs = [by_opencv((frames / 255).astype(np.float32), draw, k, rotate) for k, frames in enumerate(arrays)]
    opencv = torch.from_numpy(np.stack(theirs)).permute(0, 4, 1, 2, 3)
    difference = float((ours - opencv).abs().max())
    assert difference <= TOLERANCE, difference
    in_bytes = float((augment(video, draw).cpu().float() / 255 - opencv).abs().max())
    assert in_bytes <= 0.5 / 255 + TOLERANCE, in_bytes

    with ThreadPoolExecutor(cores) as pool:  # OpenCV and NumPy let other threads work
        calls = {
            "Augment": lambda: augment(video),
            "Augment, from the host's memory": lambda: augment(on_host.to(device, non_blocking=True)),
            "torchvision, clip by clip": lambda: [by_torchvision(c, draw, k, rotate) for k, c in enumerate(clips)],
            "OpenCV, frame by frame": lambda: [by_opencv(f, draw, k, rotate) for k, f in enumerate(arrays)],
            f"OpenCV, {cores} clips at a time": lambda: list(
                pool.map(lambda k: by_opencv(arrays[k], draw, k, rotate), range(CLIPS))
            ),
        }
        if not rotate:
            calls["bare OpenCV in bytes"] = lambda: [by_bare_opencv(f, draw, k) for k, f in enumerate(arrays)]
            calls[f"bare OpenCV in bytes, {cores} clips at a time"] = lambda: list(
                pool.map(lambda k: by_bare_opencv(arrays[k], draw, k), range(CLIPS))
            )
        seconds = measure(calls, repeats=9 if device.type == "cuda" else 3)
    fastest = seconds["Augment"]["median"]
    ratios = {name: row["median"] / fastest for name, row in seconds.items()}
    for name, row in seconds.items():
        print(f"{name:45} {1000 * row['median']:9.2f} ms   {ratios[name]:7.1f} × Augment's time")
    print(f"largest difference from OpenCV: {difference:.1e} in floats, {255 * in_bytes:.2f} levels in bytes")
    return {"difference": difference, "difference_in_bytes": in_bytes, "seconds": seconds, "ratios": ratios}


def main() -> None:
    begin("augmentation")
    arrays = [clip.streams["video"] for clip in HanziClips(CLIPS, frames=FRAMES, image_size=SIDE)]
    rounds = {}
    for name, options in ROUNDS.items():
        print(f"\n{name}, on {mmlearn.device()}:")
        rounds[name] = one_round(options, arrays)
    reached = rounds["crop, flip, jitter"]["ratios"]["OpenCV, frame by frame"]
    print(f"\nOpenCV's time / Augment's: {reached:.1f}; goal on a GPU: {GOAL}")
    sizes = {"clips": CLIPS, "frames": FRAMES, "side": SIDE, "new_side": SIZE, "cpu_cores": os.cpu_count()}
    results = {"sizes": sizes, "goal": GOAL, "tolerance": TOLERANCE, "rounds": rounds}
    save("augmentation", results, peers=["opencv-python", "torchvision"])


if __name__ == "__main__":
    main()
