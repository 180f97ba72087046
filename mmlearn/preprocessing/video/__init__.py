"""Frames for a model: what a file holds, which moments to look at, and all streams on one clock.

Chapters: start/first_model, preprocessing/video.
"""

from mmlearn.preprocessing.video.alignment import align, delay_audio, estimate_offset, nearest, offset_curve
from mmlearn.preprocessing.video.sampling import (
    AudioStream,
    MediaInfo,
    VideoStream,
    dense_times,
    frame_times,
    probe,
    read_frames,
    read_video,
    segment_times,
    to_motion,
    to_tensor,
    uniform_times,
)

__all__ = [
    "AudioStream",
    "MediaInfo",
    "VideoStream",
    "align",
    "delay_audio",
    "dense_times",
    "estimate_offset",
    "frame_times",
    "nearest",
    "offset_curve",
    "probe",
    "read_frames",
    "read_video",
    "segment_times",
    "to_motion",
    "to_tensor",
    "uniform_times",
]
