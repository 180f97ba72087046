"""Faces and mouths on real talking faces, against the code that the networks' weights come from.

The peer is no dependency; a folder of its own holds it:

    python -m pip install --no-deps --target /tmp/peer facenet-pytorch==2.6.0
    OMP_NUM_THREADS=1 python -m benchmarks.faces PATH-OF-GRID /tmp/peer

It takes 3 minutes of one core and writes benchmarks/results/faces.json. Both find faces in the same frames, of 20 clips
of GRID's talker 1 and of the film, whose animals have faces that a network may take for some or not. A box of the peer
counts pixels from 1 and includes the last one, so its left and upper edges are moved by one pixel before they are
compared. Where a box reaches beyond the picture the peer squeezes what is left of it, and this package fills up with
black, as the paper's authors do. Speed is in frames per second of processor time on one thread, both in turn.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.ops import box_iou

from benchmarks.report import begin, save, spread
from mmlearn import media
from mmlearn.datasets import fetch_film
from mmlearn.datasets.grid.corpus import MOUTH_S1, find_clips
from mmlearn.preprocessing.faces import Face, find_faces, track_face
from mmlearn.preprocessing.faces.mtcnn import load_networks
from mmlearn.preprocessing.video import read_video

CLIPS, EVERY, TURNS = 20, 50, 3  # clips, every 50th by name; turns for speed
SMALLEST, SMALLEST_FILM = 20, 40  # pixels


def clips_of(root: str) -> list[Path]:
    return find_clips(Path(root), "s1")[::EVERY][:CLIPS]


def pictures_of(path: Path) -> np.ndarray:
    video = media.read_mp4(path, overshoot=True).video
    assert video is not None
    return video


def mouth(path: Path) -> dict[str, Any]:
    """Return where the mouth of one clip is, and how steady its track."""
    video = pictures_of(path)
    faces = find_faces(video, min_size=SMALLEST, device="cpu")
    tracks = {name: track_face(video, faces=faces, smooth=s) for name, s in (("raw", 0.0), ("smooth", 0.1))}
    centers = {name: track.landmarks[:, 3:].mean(axis=1) for name, track in tracks.items()}  # (T, 2)
    height, width = video.shape[1:3]
    low = np.array([MOUTH_S1[1] * width, MOUTH_S1[0] * height])
    high = low + np.array([MOUTH_S1[3] * width, MOUTH_S1[2] * height])
    corners = tracks["smooth"].landmarks[:, 3:]
    return {
        "found": float(tracks["raw"].found.mean()),
        "center": centers["smooth"].mean(axis=0).tolist(),
        "off": (centers["smooth"] - (low + high) / 2).mean(axis=0).tolist(),
        "moves": float(np.ptp(centers["smooth"], axis=0).max()),
        "inside": float(((corners > low) & (corners < high)).all(axis=(1, 2)).mean()),
        "step": {name: float(np.abs(np.diff(c, axis=0)).mean()) for name, c in centers.items()},
    }


def networks_apart(peer: Any) -> dict[str, float]:
    """Return the largest difference between the networks' outputs, on noise."""
    ours = load_networks(torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    apart = {}
    for name, mine, theirs, size, order in (
        ("P-Net", ours.propose, peer.pnet, (61, 48), (1, 0)),
        ("R-Net", ours.refine, peer.rnet, (24, 24), (1, 0)),
        ("O-Net", ours.finish, peer.onet, (48, 48), (2, 0, 1)),
    ):
        x = torch.randn(16, 3, *size, generator=generator)
        with torch.inference_mode():
            other = theirs(x)
            found = [other[order[0]][:, 1], *(other[k] for k in order[1:])]
            apart[name] = max(float((a - b).abs().max()) for a, b in zip(mine(x), found, strict=True))
    return apart


def theirs(peer: Any, frames: np.ndarray) -> list[list[Face]]:
    """Return the peer's faces of each frame, in this package's coordinates."""
    boxes, scores, points = peer.detect(frames, landmarks=True)
    return [
        [] if b is None else [
            Face(np.asarray(box, np.float32) - [1, 1, 0, 0], float(score), np.asarray(point, np.float32))
            for box, score, point in zip(b, s, p, strict=True)
        ]
        for b, s, p in zip(boxes, scores, points, strict=True)
    ]  # fmt: skip


def compare(ours: list[list[Face]], other: list[list[Face]]) -> dict[str, Any]:
    """Return how far two lists of faces agree; each face is compared with the peer's that overlaps most."""
    rows = []
    for mine, yours in zip(ours, other, strict=True):
        for face in mine:
            if yours:
                iou = box_iou(torch.from_numpy(face.box)[None], torch.from_numpy(np.stack([f.box for f in yours])))[0]
                best = yours[int(iou.argmax())]
                rows.append((float(iou.max()), np.abs(face.box - best.box).max(),
                             np.abs(face.landmarks - best.landmarks).max()))  # fmt: skip
    found = {
        "frames": len(ours),
        "share_with_a_face": {"mmlearn": float(np.mean([len(f) > 0 for f in ours])),
                              "facenet-pytorch": float(np.mean([len(f) > 0 for f in other]))},
        "faces": {"mmlearn": sum(map(len, ours)), "facenet-pytorch": sum(map(len, other))},
    }  # fmt: skip
    if rows:
        iou, box, points = np.array(rows).T
        found["iou"] = {"mean": float(iou.mean()), "least": float(iou.min())}
        found["equal_to_a_hundredth_pixel"] = float(((box < 0.01) & (points < 0.01)).mean())
        found["pixels_apart"] = {"box": float(box.max()), "landmarks": float(points.max())}
    return found


def speed(calls: dict[str, Callable[[], Any]], frames: int) -> dict[str, Any]:
    """Return frames per second of processor time, each call in turn after one to warm up."""
    rates: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(TURNS + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            rates[name].append(frames / (time.process_time() - start))
    return {name: spread(values[1:]) for name, values in rates.items()}


def main(root: str, folder: str) -> None:
    begin("faces")
    sys.path.insert(0, folder)
    from facenet_pytorch import MTCNN

    torch.set_num_threads(1)
    paths = clips_of(root)
    videos = [pictures_of(path) for path in paths]
    film, _ = read_video(fetch_film(), num_frames=24)
    peer, large = (MTCNN(keep_all=True, min_face_size=size) for size in (SMALLEST, SMALLEST_FILM))
    results: dict[str, Any] = {"networks_apart": networks_apart(peer)}
    ours = [faces for video in videos for faces in find_faces(video, min_size=SMALLEST, device="cpu")]
    other = [faces for video in videos for faces in theirs(peer, video)]
    results["grid"] = compare(ours, other)
    results["film"] = compare(find_faces(film, min_size=SMALLEST_FILM, device="cpu"), theirs(large, film))
    results["clips"] = {path.stem: mouth(path) for path in paths}
    rows = list(results["clips"].values())
    results["mouth"] = {
        "pixels_off_the_fixed_box": {axis: spread([row["off"][k] for row in rows]) for k, axis in enumerate("xy")},
        "moves_in_a_clip": spread([row["moves"] for row in rows]),
        "corners_inside_the_fixed_box": float(np.mean([row["inside"] for row in rows])),
        "step": {name: float(np.mean([row["step"][name] for row in rows])) for name in ("raw", "smooth")},
    }
    calls = {"mmlearn": lambda: find_faces(videos[0], min_size=SMALLEST, device="cpu"),
             "facenet-pytorch": lambda: peer.detect(videos[0], landmarks=True),
             "mmlearn, from 24 pixels": lambda: find_faces(videos[0], min_size=24, device="cpu")}  # fmt: skip
    results["frames_per_second"] = speed(calls, len(videos[0]))
    for name in ("networks_apart", "grid", "film", "mouth", "frames_per_second"):
        print(name, results[name], flush=True)
    about = {"size": list(videos[0].shape[1:3]), "min_size": SMALLEST, "min_size_film": SMALLEST_FILM}
    save("faces", about | results, peers=["facenet-pytorch", "torchvision"])


if __name__ == "__main__":
    main(*sys.argv[1:])
