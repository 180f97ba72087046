"""Draw the README's picture: three views of one noisy clip, fused into a prediction by a model that was really trained.

python -m tools.overview        # a minute or two on two cores; writes book/_static/overview.png
"""

from pathlib import Path

import matplotlib
import numpy as np
import torch

from benchmarks.first_model import NOISE, accuracy, join, load, train_alone
from mmlearn import Clip, predict
from mmlearn.datasets import HanziClips
from mmlearn.plotting import COLOR_OF, set_style
from mmlearn.preprocessing.audio import LogMel

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

PICTURE = Path(__file__).resolve().parent.parent / "book" / "_static" / "overview.png"


def predict_unseen() -> tuple[HanziClips, torch.Tensor, float]:
    """Train the model of start/first_model; return unseen clips, their class probabilities (N, 10), the accuracy."""
    data, vocabulary = load("redundant", NOISE)
    model = join(train_alone(data, len(vocabulary), seed=0), data, len(vocabulary), seed=0)
    clips = HanziClips(len(data["test"]), split="test", **NOISE)
    return clips, predict(model, data["test"]).softmax(-1), accuracy(model, data["test"], "number")


def draw(clip: Clip, probabilities: np.ndarray, names: list[str], accuracy: float) -> plt.Figure:
    """Draw a clip's frames, sound and caption on the left, and what the model makes of them on the right."""
    set_style()
    plt.rcParams["figure.constrained_layout.use"] = False
    figure = plt.figure(figsize=(11, 4.6))
    video, audio, text = clip.video, clip.audio, clip.text
    assert video is not None and audio is not None and text is not None

    chosen = np.linspace(0, len(video) - 1, 8).round().astype(int)
    axis = figure.add_axes((0.05, 0.70, 0.49, 0.22))
    axis.imshow(np.concatenate([video[k] for k in chosen], axis=1), aspect="auto")  # (48, 8 * 48, 3)
    axis.set_axis_off()
    title(axis, "video 视频: written stroke by stroke, cards in the way", "video")

    axis = figure.add_axes((0.05, 0.30, 0.49, 0.25))
    mel = LogMel()(audio).numpy()  # (M, T)
    axis.imshow(mel, origin="lower", aspect="auto", cmap="viridis", extent=(0, clip.duration, 0, len(mel)))
    for word in clip.words:
        axis.axvline(word.start, color="white", linewidth=1)
        axis.text(word.start + 0.02, len(mel) * 0.95, word.text, color="white", va="top", fontsize=13)
    axis.set(xlabel="time (s)", yticks=[])
    title(axis, "audio 音频: spoken by a human voice among other voices (log-mel)", "audio")

    axis = figure.add_axes((0.05, 0.03, 0.49, 0.10))
    axis.text(0.5, 0.45, text, ha="center", va="center", fontsize=17)
    axis.set_axis_off()
    title(axis, "text 文本: described, with gaps", "text")

    canvas = figure.add_axes((0, 0, 1, 1), facecolor="none")
    canvas.set(xlim=(0, 1), ylim=(0, 1))
    canvas.set_axis_off()
    for y, name in ((0.81, "video"), (0.425, "audio"), (0.08, "text")):
        canvas.add_patch(arrow((0.545, y), (0.605, 0.5 + (y - 0.5) * 0.25), COLOR_OF[name]))
    box = FancyBboxPatch(
        (0.612, 0.34), 0.09, 0.32, boxstyle="round,pad=0.006", facecolor="#eeeeee", edgecolor="#444444"
    )
    canvas.add_patch(box)
    canvas.text(0.657, 0.5, "fusion\n融合", ha="center", va="center", fontsize=14)
    canvas.add_patch(arrow((0.712, 0.5), (0.765, 0.5), COLOR_OF["all three"]))

    axis = figure.add_axes((0.80, 0.12, 0.18, 0.76))
    truth = clip.labels["number"]
    colours = [COLOR_OF["all three"] if k == truth else "#aaaaaa" for k in range(len(names))]
    axis.barh(names, probabilities, color=colours)
    axis.invert_yaxis()
    axis.set(xlim=(0, 1), xlabel="probability")
    axis.set_title(f"which number?\n({accuracy:.0%} right on unseen clips)", fontsize=10)
    return figure


def title(axis: plt.Axes, text: str, modality: str) -> None:
    axis.set_title(text, loc="left", fontsize=10, color=COLOR_OF[modality])


def arrow(start: tuple[float, float], end: tuple[float, float], colour: str) -> FancyArrowPatch:
    return FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=16, linewidth=2, color=colour)


def main() -> None:
    clips, probabilities, accuracy = predict_unseen()
    confidence = probabilities.max(-1).values
    index = int((confidence - 0.8).abs().argmin())  # a typical clip: neither trivial nor hopeless
    figure = draw(clips[index], probabilities[index].numpy(), clips.classes["number"], accuracy)
    figure.savefig(PICTURE, dpi=130)
    print(f"{PICTURE.name}: clip {index}, accuracy {accuracy:.3f} on {len(clips)} unseen clips")


if __name__ == "__main__":
    main()
