"""The frame on the screen at a time: jump to the keyframe before it, decode from there, skip what is not needed.

Chapter: preprocessing/video.
"""

import re
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import av
import numpy as np
import torch

from mmlearn.media.container import Source, name_of, open_media, streams_of
from mmlearn.media.display import Display, limit_decoder
from mmlearn.memory import Budget

EPSILON = 1e-3  # seconds: a frame that starts this little after a time counts as shown; Matroska rounds times to 1 ms
_SMALL = 480 * 360  # pixels: for less, one thread is quicker than several
_NEAR = 4  # frames: a jump that saves fewer costs more than decoding them


class Timeline:
    """A video stream's clock: its ticks, and when its first frame is shown.

    Attributes:
        tick: Seconds a tick.
        origin: The first shown frame's timestamp, in ticks.
        times: All frames' timestamps in ticks, but only where no packet's own can be trusted (raw H.264 has none, and
            avi knows no order of display): the k-th decoded frame is then shown at the k-th time. Else None.
    """

    def __init__(self, container: Any, stream: Any, name: str) -> None:
        self.tick = float(stream.time_base)
        self.origin = self.latest = 0
        self.times: list[int] | None = None
        head: list[Any] = []
        packets = (p for p in container.demux(stream) if p.size)
        for packet in packets:
            head.append(packet)
            if packet.pts is None or (container.format.name == "avi" and stream.codec_context.has_b_frames):
                self._count([p.dts for p in chain(head, packets)], stream, name)
                return
            self.origin, self.latest = head[0].pts, max(p.pts for p in head)
            if packet.pts < self.origin or packet.is_discard or not head[0].is_keyframe:
                self.origin = _first_decoded(chain(head, packets), self.origin)
                return
            if packet.dts is not None and packet.dts >= self.origin:  # nothing that follows is shown before the first
                return

    def _count(self, stamps: list[int | None], stream: Any, name: str) -> None:
        if len(stamps) < stream.frames - _NEAR:  # which ones are missing, nobody can tell
            raise ValueError(
                f"{name}: damaged or cut off; found {len(stamps)} of {stream.frames} frames, without times"
            )
        known = [stamp for stamp in stamps if stamp is not None]
        if len(known) < len(stamps):  # no clock at all: frames follow each other at the stream's rate
            self.tick = 1 / fps_of(stream)
            known = list(range(len(stamps)))
        self.times, self.origin, self.latest = sorted(known), min(known, default=0), max(known, default=0)

    def end(self, container: Any, stream: Any) -> float:
        """Return when the last frame leaves the screen, in seconds; where the file does not tell, its packets do."""
        told = duration_of(container, stream)
        if told is None or told <= 0:
            stamps = self.times or [p.pts for p in container.demux(stream) if p.pts is not None]
            told = self.seconds(max([self.latest, *stamps])) + 1 / fps_of(stream)
        return told

    def seconds(self, stamp: int) -> float:
        """Return a timestamp as seconds since the first frame."""
        return (stamp - self.origin) * self.tick


def stamps_of(container: Any, stream: Any, timeline: Timeline) -> list[int]:
    """Return every shown frame's timestamp in ticks, in order, from the packets of a container just opened."""
    if timeline.times is not None:
        return timeline.times
    shown = {p.pts for p in container.demux(stream) if p.size and p.pts is not None and not p.is_discard}
    return sorted(stamp for stamp in shown if stamp >= timeline.origin)


def pick_stream(container: Any, kind: str, number: int, name: str) -> Any:
    """Return the stream of this kind and number; it decodes on about as many threads as torch uses (in workers: one).

    Raises:
        ValueError: If the file has no such stream.
    """
    streams = streams_of(container, kind)
    if not 0 <= number < len(streams):
        others = ", ".join(s.type for s in container.streams) or "none"
        raise ValueError(f"{name}: no {kind} stream {number}; found {len(streams)} to decode (all: {others})")
    stream = streams[number]
    if kind == "video":
        limit_decoder(stream, Budget(name))
        threads = min(torch.get_num_threads(), 4)
        if threads > 1 and stream.width * stream.height > _SMALL:  # one more, so that nobody waits for the slowest
            stream.codec_context.thread_type, stream.codec_context.thread_count = "AUTO", threads + 1
        else:
            stream.codec_context.thread_count = 1
    return stream


def duration_of(container: Any, stream: Any) -> float | None:
    """Return a stream's length in seconds, where the file tells it; that of mpg, ts and the like would be a guess."""
    if stream.duration and any(name in container.format.name for name in ("mp4", "avi", "gif")):
        return float(stream.duration * stream.time_base)
    tag = re.fullmatch(r"(\d\d):(\d\d):(\d\d\.\d+)\0*", stream.metadata.get("DURATION", ""))  # Matroska
    return 3600 * int(tag[1]) + 60 * int(tag[2]) + float(tag[3]) if tag else None


def fps_of(stream: Any) -> float:
    """Return a stream's average frames per second, or what is usual where the file does not tell."""
    return float(stream.average_rate or stream.guessed_rate or 25)


def read_shown(
    source: Source, choose: Callable[[float, float], np.ndarray], size: tuple[int, int] | None, number: int
) -> tuple[np.ndarray, np.ndarray]:
    """Read the frames on the screen at chosen times.

    Args:
        source: A path, or a binary file object.
        choose: Gets the pictures' length (s) and rate (frames/s), returns times (T,): seconds since the first frame.
        size: (H, W) to resize to, or None.
        number: Which video stream.

    Returns:
        Frames uint8 (T, H, W, 3) and when they are first shown, float64 (T,).

    Raises:
        ValueError: If a frame cannot be had; the message says how far the file goes.
    """
    name = name_of(source)
    with open_media(source) as container:
        stream = pick_stream(container, "video", number, name)
        timeline = Timeline(container, stream, name)
        try:
            times = choose(timeline.end(container, stream), fps_of(stream))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        order = np.argsort(times, kind="stable")
        ticks = np.clip((times[order] + EPSILON) / timeline.tick, 0, 2**61).astype(np.int64)
        targets = (ticks + timeline.origin).tolist()
        out = _Frames(order, size, Budget(name))
        out.show(Display(container, stream, name))
        for place, wanted in _plan(container, stream, timeline, targets):
            container.seek(place, stream=stream)
            if not out.take(_Pass(name, container, stream, timeline, wanted, jumped=True), timeline):
                break
    if out.filled < len(targets):  # one pass from the beginning
        with open_media(source) as container:
            stream = pick_stream(container, "video", number, name)
            out.show(Display(container, stream, name))
            out.take(_Pass(name, container, stream, timeline, targets[out.filled :]), timeline)
    return out.frames, out.shown


class _Frames:
    """The frames that are read, each at its place; all have the size that was asked for, or the first one's."""

    def __init__(self, order: np.ndarray, size: tuple[int, int] | None, budget: Budget) -> None:
        self.order, self.size, self.budget, self.filled = order, size, budget, 0
        self.frames, self.shown = np.zeros(0, np.uint8), np.zeros(len(order))  # (T, H, W, 3), (T,)

    def show(self, display: Display) -> None:
        """Take a stream's display; before anything is decoded, check the memory as far as the header tells the size."""
        self.display = display
        self.budget.check(*self._need(self.size or display.size()))

    def take(self, steps: "_Pass", timeline: Timeline) -> bool:
        """Take a pass's frames; return whether there were any."""
        before, last = 0, None
        for stamp, frame in steps.frames():
            index = self.order[self.filled]
            if self.size is None:
                self.size = self.display.size(frame)
            if not self.filled:
                self.budget.check(*self._need(self.size))
                self.frames = np.empty((len(self.order), *self.size, 3), np.uint8)
            if frame is last:
                self.frames[index] = self.frames[before]
            else:
                self.frames[index] = self.display.picture(frame, self.size)
            self.shown[index], before, last, self.filled = timeline.seconds(stamp), index, frame, self.filled + 1
        return last is not None

    def _need(self, size: tuple[int, int]) -> tuple[int, str, str]:
        """Return the bytes that the frames take, what they are, and what to do if these are too many."""
        count = len(self.order)
        remedy = "read fewer or smaller ones with read_video(num_frames=…, size=…)"
        return count * size[0] * size[1] * 3, f"{count} frames of {size[0]} × {size[1]}", remedy


class _Pass:
    """One pass through consecutive packets, from a keyframe (or the beginning) on, for ascending targets in ticks."""

    def __init__(
        self, name: str, container: Any, stream: Any, timeline: Timeline, targets: list[int], jumped: bool = False
    ) -> None:
        self.name, self.container, self.stream, self.timeline, self.targets = name, container, stream, timeline, targets
        self.jumped = jumped
        self.broken: int | None = None  # where the data end too early or are damaged
        self.first = self.last = timeline.origin  # the earliest timestamp that counts, the latest one met

    def frames(self) -> Iterator[tuple[int, Any]]:
        """Yield (timestamp, frame) for each target; nothing if after a jump the first one is decoded too late."""
        decoded = self._decoded()
        now = after = next(decoded, None)
        if self.jumped and (now is None or now[0] > self.targets[0]):
            return
        for target in self.targets:
            while after is not None and after[0] <= target:
                now, after = after, next(decoded, None)
            if after is None:
                self._check_end(target)
            if now is None:
                raise ValueError(f"{self.name}: none of its frames can be decoded")
            yield now

    def _decoded(self) -> Iterator[tuple[int, Any]]:
        """Yield (timestamp, frame) in the order of display, without some that are no target's."""
        times = iter(self.timeline.times) if self.timeline.times is not None else None
        for frames in self._decode():
            for frame in frames:
                stamp = frame.pts if times is None else next(times, None)
                if stamp is not None and stamp >= self.first:  # never back in time, whatever the file says
                    self.first, self.last = stamp, max(self.last, stamp)
                    yield stamp, frame

    def _decode(self) -> Iterator[list[Any]]:
        """Yield the frames that each packet gives; where the data end or break, those that the decoder still holds."""
        context, seen = self.stream.codec_context, deque[int](maxlen=32)
        failed: int | None = None
        try:
            for packet in self.container.demux(self.stream):
                if packet.size and packet.pts is not None and self.timeline.times is None:
                    if not seen:
                        self.first = max(packet.pts, self.timeline.origin)
                    self.last, failed = max(self.last, packet.pts), packet.pts
                    seen.append(packet.pts)
                    context.skip_frame = "DEFAULT" if self._needed(packet.pts, seen) else "NONREF"
                if packet.is_corrupt:
                    break
                yield packet.decode()
            else:
                return
        except av.error.FFmpegError:
            pass
        yield context.decode(None)
        self.broken = self.last + 1 if failed is None else failed

    def _needed(self, stamp: int, seen: deque[int]) -> bool:
        """Return False if another frame is known to stand on the screen at the next target after this stamp."""
        following = bisect_left(self.targets, stamp)
        return following < len(self.targets) and not any(stamp < s <= self.targets[following] for s in seen)

    def _check_end(self, target: int) -> None:
        """Raise if no more frames came although the file should have one for this target."""
        if self.broken is None and self.last < declared_end(self.container, self.stream, self.timeline):
            self.broken = self.last + 1
        if self.broken is not None and target >= self.broken:
            raise ValueError(f"{self.name}: damaged or cut off {self.timeline.seconds(self.broken):.2f} s after its "
                             f"first frame; no frame for {self.timeline.seconds(target):.2f} s")  # fmt: skip


def declared_end(container: Any, stream: Any, timeline: Timeline) -> int:
    """Return a timestamp in ticks that the stream should reach: mp4 and mov have an index, avi a number of frames."""
    ends, entries = [timeline.origin], stream.index_entries
    if "mp4" in container.format.name and len(entries):
        ends.append(entries[-1].timestamp)
    if container.format.name == "avi" and stream.duration:
        ends.append(stream.duration - _NEAR)
    if timeline.times:  # a few packets may hold no picture of their own
        ends.append(timeline.times[-_NEAR:][0])
    return max(ends)


def _first_decoded(packets: Iterator[Any], otherwise: int) -> int:
    """Return the timestamp of the first frame that can be decoded; frames shown before it need lost ones."""
    frames = (frame for packet in packets for frame in packet.decode())
    return next((frame.pts for frame in frames if frame.pts is not None), otherwise)


def _plan(container: Any, stream: Any, timeline: Timeline, targets: list[int]) -> list[tuple[int, list[int]]]:
    """Group targets by the keyframe from which they are decoded: (where to seek, targets); nothing if seeking fails."""
    if timeline.times is not None or container.format.name == "mpeg":  # mpg stamps few frames; the rest are counted
        return []
    near = _NEAR / fps_of(stream) / timeline.tick
    jumps: list[tuple[int, list[int]]] = []
    for target in targets:
        if jumps and target <= jumps[-1][1][-1] + near:
            jumps[-1][1].append(target)
            continue
        try:
            found = _keyframe(container, stream, timeline, target)
        except av.error.FFmpegError:
            found = None
        if found is None:
            return []
        place, stamp = found
        if jumps and stamp <= jumps[-1][1][-1] + near:
            jumps[-1][1].append(target)
        else:
            jumps.append((place, [target]))
    return jumps


def _keyframe(container: Any, stream: Any, timeline: Timeline, target: int) -> tuple[int, int] | None:
    """Return where to seek, and the timestamp of the keyframe one lands on, at or before a target; else None.

    What is shown before that keyframe but stored after it (open groups of pictures) may need older frames; what is
    shown after it never does.
    """
    back = 0
    while True:
        place = max(target - back, timeline.origin)
        container.seek(place, stream=stream)
        for packet in container.demux(stream):
            if packet.size and packet.pts is not None and packet.is_keyframe:
                if packet.pts <= target:
                    return place, packet.pts
                break
            if not packet.size or (packet.dts or 0) > target:
                break
        if place == timeline.origin:
            return None
        back = max(2 * back, int(1 / timeline.tick))
