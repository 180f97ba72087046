import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlearn.datasets.hanzi import drawing
from mmlearn.datasets.hanzi.drawing import Glyph, draw_glyph, flatten, load_glyph

BAR = "M 112 500 L 912 500 L 912 276 L 112 276 Z"  # 800 x 224 of 1024, in the middle


@pytest.fixture(scope="module")
def glyph(tmp_path_factory: pytest.TempPathFactory) -> Glyph:
    path = tmp_path_factory.mktemp("glyph") / "一.json"
    path.write_text(json.dumps({"strokes": [BAR], "medians": [[[112, 388], [912, 388]]]}), "utf-8")
    return load_glyph(path)


def test_the_em_square_is_centred_with_y_downwards(glyph: Glyph) -> None:
    outline = glyph.outlines[0]
    np.testing.assert_allclose(outline.min(0), [112 / 1024 - 0.5, 400 / 1024 - 0.5])
    np.testing.assert_allclose(outline.max(0), [912 / 1024 - 0.5, 624 / 1024 - 0.5])
    assert glyph.lengths == pytest.approx([800 / 1024])


def test_a_finished_stroke_covers_its_area(glyph: Glyph) -> None:
    ink = draw_glyph(glyph, 256, matrix=np.eye(2)) / 255
    assert ink.dtype == np.float64 and ink.shape == (256, 256)
    assert ink.sum() == pytest.approx(200 * 56, rel=0.05)  # smooth edges are a little bolder
    assert ink[128, 128] == 1 and ink[10, 10] == 0


def test_the_width_scales_the_stroke_about_its_median(glyph: Glyph) -> None:
    full = (draw_glyph(glyph, 256, matrix=np.eye(2)) / 255).sum()
    thin = (draw_glyph(glyph, 256, matrix=np.eye(2), width=0.5) / 255).sum()
    assert thin == pytest.approx(full / 2, rel=0.05)


def test_ink_only_grows_while_writing_and_follows_the_median(glyph: Glyph) -> None:
    steps = [draw_glyph(glyph, 128, written=w, matrix=np.eye(2)) for w in np.linspace(0, 1, 9)]
    assert not steps[0].any()
    for before, after in itertools.pairwise(steps):
        assert (after.astype(int) - before).min() > -16  # but for the smooth edge of the pen
        assert after.sum() > before.sum()
    half = steps[4]
    assert half[64, 30] == 255 and half[64, 90] == 0  # from left to right


def test_strokes_come_in_their_order(tmp_path: Path) -> None:
    strokes = ["M 100 800 L 900 800 L 900 700 L 100 700 Z", "M 100 200 L 900 200 L 900 100 L 100 100 Z"]
    medians = [[[100, 750], [900, 750]], [[100, 150], [900, 150]]]
    (tmp_path / "二.json").write_text(json.dumps({"strokes": strokes, "medians": medians}), "utf-8")
    ink = draw_glyph(load_glyph(tmp_path / "二.json"), 64, written=0.5, matrix=np.eye(2))
    assert ink[:32].any() and not ink[32:].any()


def test_the_centre_moves_the_picture(glyph: Glyph) -> None:
    here = draw_glyph(glyph, 64, matrix=np.eye(2) * 0.5)
    there = draw_glyph(glyph, 64, matrix=np.eye(2) * 0.5, centre=(0.125, -0.25))
    np.testing.assert_array_equal(np.roll(here, (-16, 8), (0, 1)), there)


@settings(max_examples=25)
@given(st.floats(0, 1), st.floats(0.6, 1.4), st.integers(8, 96))
def test_any_fraction_any_width_any_size(glyph: Glyph, written: float, width: float, size: int) -> None:
    ink = draw_glyph(glyph, size, written=written, width=width)
    assert ink.dtype == np.uint8 and ink.shape == (size, size)


def test_curves_begin_and_end_where_they_say() -> None:
    points = flatten("M 0 0 Q 50 100 100 0 C 150 -100 200 100 250 0 Z", pieces=8)
    assert len(points) == 17
    np.testing.assert_allclose(points[[0, 8, 16]], [[0, 0], [100, 0], [250, 0]])
    np.testing.assert_allclose(points[4], [50, 50])  # the middle of the quadratic
    np.testing.assert_allclose(points[12], [175, 0], atol=1e-9)  # the middle of the cubic


@pytest.mark.parametrize("path", ["M 0 0 A 1 2 3", "M 0 0 L 5", "L 1 1", "M 0 0 Q 1 2 3"])
def test_an_unknown_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="expected M, L, Q, C or Z"):
        flatten(path)


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no stroke data for '山'"):
        load_glyph(tmp_path / "山.json")
    for text in ("{", '{"strokes": []}', '{"strokes": ["M 0 0 Z"], "medians": []}'):
        (tmp_path / "山.json").write_text(text)
        with pytest.raises(ValueError, match=r"山\.json"):
            load_glyph(tmp_path / "山.json")


def test_the_same_bytes_whatever_sum_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.12 and newer add floats up without rounding between; a stroke more or less would be seen as whole."""
    rng = np.random.default_rng(0)
    for _ in range(1000):
        lengths = rng.uniform(0.1, 0.9, 9).tolist()
        if left_for_the_last(sum_in_order(lengths), lengths) >= 0 > left_for_the_last(math.fsum(lengths), lengths):
            break
    else:
        raise AssertionError("no lengths that the two sums round to different sides")
    square = np.array([[-0.4, -0.4], [0.4, -0.4], [0.4, 0.4], [-0.4, 0.4]])
    spine = np.array([[-0.4, 0.0], [0.4, 0.0]])
    shapes = [*[square / 10] * 8, square]  # the last one is seen
    glyph = Glyph(shapes, shapes, [spine] * 9, lengths)
    here = draw_glyph(glyph, 32)
    monkeypatch.setattr(drawing, "sum", math.fsum, raising=False)
    np.testing.assert_array_equal(draw_glyph(glyph, 32), here)


def sum_in_order(values: list[float]) -> float:
    total = 0.0
    for value in values:
        total += value
    return total


def left_for_the_last(budget: float, lengths: list[float]) -> float:
    for length in lengths:
        budget -= length
    return budget
