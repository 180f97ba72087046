"""Video files ↔ arrays: pictures, sound and subtitles in one mp4, through PyAV alone (its wheels carry FFmpeg).

Chapter: start/dataset.
"""

from mmlearn.media.mp4 import MediaFile, read_mp4, write_mp4

__all__ = ["MediaFile", "read_mp4", "write_mp4"]
