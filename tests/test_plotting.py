"""Figures: Chinese characters have glyphs, frames are spread, players play."""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest

from mmlearn import Clip, Word, plotting


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_chinese_characters_have_glyphs() -> None:
    plotting.set_style()
    figure, axis = plt.subplots()
    axis.set_title("红色的山 red mountain −1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of each missing glyph
        figure.canvas.draw()


def test_a_missing_font_is_named(monkeypatch, tmp_path) -> None:
    import mplfonts

    monkeypatch.setattr(mplfonts, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(FileNotFoundError, match="no Chinese font at"):
        plotting.chinese_font()


def test_frames_are_evenly_spread() -> None:
    video = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((10, 4, 4, 3), np.uint8)
    figure = plotting.show_frames(video, count=4, seconds=2.0)
    assert [int(axis.images[0].get_array()[0, 0, 0]) for axis in figure.axes] == [0, 3, 6, 9]
    assert figure.axes[0].get_title() == "0.10 s"
    with pytest.raises(ValueError, match="no frames"):
        plotting.show_frames(video[:0])


def test_waveform_has_seconds_and_words() -> None:
    axis = plotting.show_waveform(np.zeros(8000, np.float32), 16_000, [Word("山", 0.1, 0.3)])
    assert axis.get_xlim() == (0, 0.5)
    assert [text.get_text() for text in axis.texts] == ["山"]


def test_player_embeds_an_mp4() -> None:
    pytest.importorskip("IPython")
    clip = Clip({"video": np.zeros((5, 32, 32, 3), np.uint8)}, {"video": 25.0})
    player = plotting.play(clip)
    assert player.data[4:8] == b"ftyp" or b"ftyp" in player.data[:64]
