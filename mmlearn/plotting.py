"""Figures and players for the course's pages: one look, and Chinese characters everywhere.

Chapter: start/dataset.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import font_manager

if TYPE_CHECKING:
    from IPython.display import Video
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CHINESE_FONT = "Noto Sans CJK SC"
# Okabe & Ito (2008): told apart with any of the common kinds of colour vision.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
# One colour a modality, the same in every chapter.
COLOR_OF = {"video": COLORS[0], "audio": COLORS[1], "text": COLORS[2], "all three": COLORS[5]}


def chinese_font() -> Path:
    """Return the file of the font with Chinese characters, which the package mplfonts carries.

    Raises:
        FileNotFoundError: If it is not there.
    """
    import mplfonts

    path = Path(mplfonts.__file__).parent / "fonts" / "NotoSansCJKsc-Regular.otf"
    if not path.is_file():
        raise FileNotFoundError(f"no Chinese font at {path}; `pip install --force-reinstall mplfonts` brings it")
    return path


def set_style() -> None:
    """Set the look of the course's figures, with a fallback font for Chinese characters.

    White behind every figure keeps it readable on a dark page.
    """
    font_manager.fontManager.addfont(str(chinese_font()))
    plt.rcParams.update(
        {
            "font.family": ["DejaVu Sans", CHINESE_FONT],
            "axes.prop_cycle": plt.cycler(color=COLORS),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.unicode_minus": False,
            "figure.constrained_layout.use": True,
            "figure.dpi": 110,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
        }
    )


def show_frames(video: np.ndarray, *, count: int = 8, seconds: float | None = None) -> Figure:
    """Show frames side by side, evenly spaced from the first to the last.

    Args:
        video: uint8 (T, H, W, C).
        count: How many frames at the most.
        seconds: The clip's duration, to write the time under each frame.

    Raises:
        ValueError: If there is no frame.
    """
    if len(video) == 0:
        raise ValueError("video has no frames")
    chosen = np.unique(np.linspace(0, len(video) - 1, min(count, len(video))).round().astype(int))
    figure, axes = plt.subplots(1, len(chosen), figsize=(1.25 * len(chosen), 1.6), squeeze=False)
    for axis, index in zip(axes[0], chosen, strict=True):
        axis.imshow(video[index])
        axis.set_axis_off()
        if seconds is not None:
            axis.set_title(f"{(index + 0.5) / len(video) * seconds:.2f} s", fontsize=8)
    return figure


def show_waveform(
    audio: np.ndarray, sample_rate: float, words: list[Any] | None = None, axis: Axes | None = None
) -> Axes:
    """Show a waveform with its words where they are said.

    Args:
        audio: float32 (S,).
        sample_rate: Samples a second.
        words: `mmlearn.Word`s.
        axis: Where to draw; by default a new figure.
    """
    axis = axis or plt.subplots(figsize=(8, 1.8))[1]
    axis.plot(np.arange(len(audio)) / sample_rate, audio, color=COLOR_OF["audio"], linewidth=0.5)
    for word in words or []:
        axis.axvspan(word.start, word.end, color=COLORS[0], alpha=0.12)
        axis.text(
            (word.start + word.end) / 2, 1.0, word.text, ha="center", va="bottom", transform=axis.get_xaxis_transform()
        )
    axis.set(xlabel="time (s)", ylabel="amplitude", xlim=(0, len(audio) / sample_rate))
    return axis


def play(clip: Any, *, width: int = 256) -> Video:
    """Return a player for a clip: a real mp4 file, embedded in the page.

    Args:
        clip: A `mmlearn.Clip` with picture, and sound if it has any.
        width: Width on the page in pixels.
    """
    from IPython.display import Video

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        clip.save(path)
        return Video(
            data=path.read_bytes(),
            embed=True,
            mimetype="video/mp4",
            width=width,
            html_attributes="controls loop playsinline",
        )
