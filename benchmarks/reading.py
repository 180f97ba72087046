"""16 frames out of a short clip and out of a 10-minute file, beside OpenCV, PyAV, decord and torchcodec.

Run `python -m benchmarks.reading` (about 4 minutes on 2 idle cores); it makes both files itself and writes
benchmarks/results/reading.json. Peers that are not installed (`pip install mmlearn-course[bench]`; torchcodec wants
FFmpeg's libraries, too) are left out, and said so.
"""

import importlib
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch
from sklearn.datasets import load_sample_image

from benchmarks.report import begin, measure, save
from mmlearn.preprocessing.video import probe, read_frames, read_video, uniform_times

FPS, SECONDS, HEIGHT, WIDTH = 30, 10, 256, 340
COUNT, SIZE, COPIES = 16, (112, 112), 60
PEERS = {"torchcodec": "torchcodec.decoders", "decord": "decord"}  # package → module


def make_clip(path: Path) -> None:
    """A camera that wanders over a photograph, with sensor noise and a tone: H.264 and AAC, encoders' defaults."""
    photo, rng = load_sample_image("china.jpg").astype(np.int16), np.random.default_rng(0)
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("libx264", rate=FPS)
        video.height, video.width, video.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        audio = out.add_stream("aac", rate=44_100, layout="mono")
        for k in range(SECONDS * FPS):
            y, x = int(80 + 80 * np.cos(k / 55)), int(140 + 140 * np.sin(k / 40))
            picture = photo[y : y + HEIGHT, x : x + WIDTH] + rng.integers(-8, 9, (HEIGHT, WIDTH, 1))
            frame = av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), format="rgb24")
            out.mux(video.encode(frame))
        tone = 0.2 * np.sin(np.arange(SECONDS * 44_100) / 20) + rng.normal(0, 0.01, SECONDS * 44_100)
        sound = av.AudioFrame.from_ndarray(tone.astype(np.float32)[None], format="fltp", layout="mono")
        sound.sample_rate, sound.pts = 44_100, 0
        out.mux([*video.encode(None), *audio.encode(sound), *audio.encode(None)])


def repeat(source: Path, path: Path, copies: int) -> None:
    """Copy a file's pictures over and over into one long file; nothing is encoded again."""
    with av.open(str(source)) as container, av.open(str(path), "w") as out:
        stream = container.streams.video[0]
        target = out.add_stream_from_template(stream)
        packets = [p for p in container.demux(stream) if p.size]
        length = stream.duration or 0
        for copy in range(copies):
            for packet in packets:
                part = av.Packet(bytes(packet))
                part.stream, part.time_base, part.is_keyframe = target, packet.time_base, packet.is_keyframe
                part.pts, part.dts = ((stamp or 0) + copy * length for stamp in (packet.pts, packet.dts))
                part.duration = packet.duration
                out.mux(part)


def with_opencv(path: Path, indices: list[int], seek: bool, keep: bool = True) -> list[np.ndarray]:
    capture, wanted, frames = cv2.VideoCapture(str(path)), set(indices), []
    for k in indices if seek else range(max(indices) + 1):
        if seek:
            capture.set(cv2.CAP_PROP_POS_FRAMES, k)
        capture.grab()
        if keep and k in wanted:
            picture = cv2.resize(capture.retrieve()[1], SIZE[::-1], interpolation=cv2.INTER_AREA)
            frames.append(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
    capture.release()
    return frames


def with_pyav(
    path: Path, indices: list[int], size: tuple[int, int] | None = SIZE, threads: int = 0
) -> list[np.ndarray]:
    wanted = set(indices)
    height, width = size or (None, None)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.thread_count = "AUTO", threads
        return [
            frame.reformat(width, height, "rgb24").to_ndarray()
            for k, frame in enumerate(container.decode(stream))
            if k in wanted
        ]


def with_torchcodec(path: Path, times: np.ndarray, mode: str, threads: int) -> torch.Tensor:
    from torchcodec.decoders import VideoDecoder
    from torchcodec.transforms import Resize

    decoder = VideoDecoder(str(path), seek_mode=mode, num_ffmpeg_threads=threads, transforms=[Resize(SIZE)])
    return decoder.get_frames_played_at(times.tolist()).data


def with_torchcodec_and_opencv(path: Path, times: np.ndarray, mode: str) -> list[np.ndarray]:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(path), seek_mode=mode, dimension_order="NHWC")
    frames = decoder.get_frames_played_at(times.tolist()).data.numpy()
    return [cv2.resize(picture, SIZE[::-1], interpolation=cv2.INTER_AREA) for picture in frames]


def with_decord(path: Path, indices: list[int], threads: int) -> np.ndarray:
    import decord

    reader = decord.VideoReader(str(path), width=SIZE[1], height=SIZE[0], num_threads=threads)
    return reader.get_batch(indices).asnumpy()


def on_threads(threads: int, call: Callable[[], Any]) -> Any:
    """Call while torch uses so many threads: `read_video` then does, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return call()
    finally:
        torch.set_num_threads(before)


def find_peers() -> list[str]:
    found = []
    for package, module in PEERS.items():
        try:
            importlib.import_module(module)
            found.append(package)
        except (ImportError, OSError, RuntimeError) as error:
            print(f"{package} is left out: {str(error).strip().splitlines()[0]}")
    return found


def short_clip(path: Path, peers: list[str]) -> dict[str, Any]:
    """Clips a second, everyone's way to the same 16 moments."""
    times = uniform_times(0, SECONDS, COUNT)
    indices = np.floor(times * FPS + 1e-6).astype(int).tolist()
    frames, shown = read_frames(path, times)
    assert np.array_equal(frames, with_pyav(path, indices, size=None)), "not the frames of a full decode"
    assert np.allclose(shown, np.array(indices) / FPS)

    def ours() -> Any:
        return read_video(path, num_frames=COUNT, size=SIZE)

    calls: dict[str, Callable[[], Any]] = {
        "mmlearn": ours,
        "mmlearn, 1 thread": lambda: on_threads(1, ours),
        "OpenCV, grab all (the floor)": lambda: with_opencv(path, indices, seek=False, keep=False),
        "OpenCV, in order": lambda: with_opencv(path, indices, seek=False),
        "OpenCV, seek each": lambda: with_opencv(path, indices, seek=True),
        "PyAV, in order": lambda: with_pyav(path, indices),
        "PyAV, in order, 1 thread": lambda: with_pyav(path, indices, threads=1),
    }
    if "decord" in peers:
        calls["decord"] = lambda: with_decord(path, indices, 0)
        calls["decord, 1 thread"] = lambda: with_decord(path, indices, 1)
    if "torchcodec" in peers:
        for mode in ("exact", "approximate"):
            calls[f"torchcodec, {mode}"] = partial(with_torchcodec, path, times, mode, 1)  # its default
            calls[f"torchcodec, {mode}, OpenCV resizes"] = partial(with_torchcodec_and_opencv, path, times, mode)
            calls[f"torchcodec, {mode}, 2 threads"] = partial(with_torchcodec, path, times, mode, 2)
            calls[f"torchcodec, {mode}, FFmpeg's choice"] = partial(with_torchcodec, path, times, mode, 0)
    timed = measure(calls, repeats=9)
    rates = {name: 1 / row["median"] for name, row in timed.items()}
    for name, rate in sorted(rates.items(), key=lambda item: -item[1]):
        print(f"{name:38}{rate:7.1f} clips/s   fastest {1 / timed[name]['fastest']:6.1f}")
    result: dict[str, Any] = {"clips_per_second": rates, "seconds": timed, "equal_to_full_decode": True}
    if "torchcodec" in peers:
        default = [f"torchcodec, {mode}{how}" for mode in ("exact", "approximate") for how in ("", ", OpenCV resizes")]
        best = max(rates[name] for name in default)
        result["times_torchcodec"] = rates["mmlearn"] / best
        result["times_torchcodec_1_thread"] = rates["mmlearn, 1 thread"] / best
        print(f"mmlearn = {result['times_torchcodec']:.2f} × torchcodec at its default; goal 0.95")
    return result


def long_file(path: Path) -> dict[str, Any]:
    """16 frames of ten minutes, against decoding all of it."""
    seconds = SECONDS * COPIES
    times = uniform_times(0, seconds, COUNT)
    _, shown = read_video(path, num_frames=COUNT, size=SIZE)
    lag = float((times - shown).max())
    assert (times - shown).min() >= 0 and lag < 1 / FPS, "a frame is not the one on the screen"
    timed = measure(
        {
            "mmlearn": lambda: read_video(path, num_frames=COUNT, size=SIZE),
            "mmlearn, 1 thread": lambda: on_threads(1, lambda: read_video(path, num_frames=COUNT, size=SIZE)),
            "decode it whole": lambda: with_pyav(path, []),
            "decode it whole, 1 thread": lambda: with_pyav(path, [], threads=1),
        },
        repeats=3,
    )
    for name, row in timed.items():
        print(f"{name:38}{row['median']:7.2f} s")
    whole = min(timed[name]["median"] for name in ("decode it whole", "decode it whole, 1 thread"))
    gain = whole / timed["mmlearn"]["median"]
    print(f"16 frames of {seconds} s: {gain:.1f} × as fast as all of it; goal 5; at most {lag * 1e3:.0f} ms old")
    return {"seconds": timed, "times_whole": gain, "largest_lag_s": lag, "frame_interval_s": 1 / FPS}


def main() -> None:
    begin("reading")
    peers = find_peers()
    with tempfile.TemporaryDirectory() as folder:
        clip, long = Path(folder) / "clip.mp4", Path(folder) / "long.mp4"
        make_clip(clip)
        repeat(clip, long, COPIES)
        video = probe(clip).video[0]
        about = {
            "clip": f"{SECONDS} s, {video.width}×{video.height}, {video.fps:g} frames/s, {clip.stat().st_size} bytes",
            "task": f"{COUNT} frames, {SIZE[0]}×{SIZE[1]}",
            "cores": os.cpu_count(),
            "peers": peers,
        }
        print(about)
        results = {"short": short_clip(clip, peers), "long": long_file(long)}
    save("reading", about | results, peers=["av", "opencv-python", *peers])


if __name__ == "__main__":
    main()
