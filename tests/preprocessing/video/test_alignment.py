"""Alignment: averages against loops and closed forms, offsets against shifts that are known."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate

from mmlearn import Clip, Word
from mmlearn.preprocessing.audio import LogMel
from mmlearn.preprocessing.video.alignment import align, delay_audio, estimate_offset, nearest, offset_curve

RATE = 16_000
seconds = st.floats(0, 3, allow_subnormal=False)


def flashes(moments: list[float], length: float = 3.0, late: float = 0.0, fps: float = 25.0) -> Clip:
    """A clip that changes its picture at moments, and clicks `late` seconds after each: the offset is known."""
    shown = np.arange(round(length * fps)) / fps
    level = np.searchsorted(moments, shown, side="right") % 2  # black, white, black, …
    video = np.repeat(level, 8 * 8 * 3).reshape(-1, 8, 8, 3).astype(np.uint8) * 200
    rng, sound = np.random.default_rng(0), np.zeros(round(length * RATE), np.float32)
    for moment in moments:
        first = round((moment + late) * RATE)
        burst = rng.standard_normal(800) * np.exp(-np.arange(800) / 200)
        sound[max(first, 0) : max(first + 800, 0)] += 0.1 * burst[max(-first, 0) :][: max(len(sound) - first, 0)]
    return Clip({"video": video, "audio": sound}, {"video": fps, "audio": RATE}, name="flashes")


MOMENTS = [0.6, 0.96, 1.6, 2.08]  # on the frames of 25 fps


def by_loop(values: np.ndarray, times: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    rows = []
    for start, end in zip(starts, ends, strict=True):
        inside = [value for value, time in zip(values, times, strict=True) if start <= time < end]
        rows.append(
            np.mean(inside, axis=0) if inside else values[nearest(times, [(start + min(end, times[-1])) / 2])[0]]
        )
    return np.array(rows).reshape(len(starts), *values.shape[1:])


@given(st.lists(seconds, min_size=1, max_size=20).map(sorted), st.lists(st.tuples(seconds, seconds), max_size=8))
@settings(max_examples=50)
def test_align_is_the_mean_of_the_steps_in_each_interval(times: list[float], pairs: list[tuple[float, float]]) -> None:
    values = np.random.default_rng(0).standard_normal((len(times), 3))
    starts, ends = (np.array([pick(pair) for pair in pairs]) for pick in (min, max))
    found = align(values, np.array(times), starts, ends)
    assert found == pytest.approx(by_loop(values, np.array(times), starts, ends), abs=1e-12)


def test_align_in_closed_form() -> None:
    times = np.arange(100) / 100  # steps of 10 ms with the values 0, 1, 2, …
    frames = np.arange(25) / 25  # frames of 40 ms: 4 steps each
    found = align(np.arange(100.0), times, frames)
    assert found == pytest.approx(4 * np.arange(25) + 1.5)
    word = align(np.arange(100.0)[:, None], times, np.array([0.1]), np.array([0.2]))
    assert word == pytest.approx(np.array([[14.5]]))
    assert align(np.arange(100.0), times, np.array([0.3])) == pytest.approx([64.5])  # one interval lasts to the end
    assert align(np.ones((3, 2)), np.arange(3), np.zeros(0)).shape == (0, 2)
    assert align(np.arange(3.0), np.arange(3), np.array([5.0, 9.0])) == pytest.approx([2, 2])  # the nearest step


def test_a_bad_step_spoils_no_interval_but_its_own() -> None:
    found = align(np.array([1.0, np.nan, 3.0, 5.0]), np.arange(4.0), np.arange(4.0))
    assert np.isnan(found).tolist() == [False, True, False, False]
    assert found[2:] == pytest.approx([3, 5])


@given(st.lists(seconds, min_size=1, max_size=12).map(sorted), st.lists(seconds, max_size=8))
@settings(max_examples=50)
def test_nearest_is_as_near_as_any(times: list[float], at: list[float]) -> None:
    distance = np.abs(np.array(at)[:, None] - np.array(times))  # (T, N)
    found = nearest(np.array(times), np.array(at))
    assert np.take_along_axis(distance, found[:, None].astype(int), 1)[:, 0] == pytest.approx(
        distance.min(1, initial=9)
    )
    assert nearest(np.array([0.0, 1.0]), np.array([0.5])).tolist() == [0]


def test_align_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"values are \(0,\)"):
        align(np.zeros(0), np.zeros(0), np.zeros(1))
    with pytest.raises(ValueError, match=r"times \(2,\)"):
        align(np.zeros(3), np.zeros(2), np.zeros(1))
    with pytest.raises(ValueError, match="never decreasing"):
        align(np.zeros(2), np.array([1.0, 0.0]), np.zeros(1))
    with pytest.raises(ValueError, match="none before its start"):
        align(np.zeros(2), np.arange(2), np.array([1.0]), np.array([0.5]))


def test_curve_is_the_correlation_of_motion_and_onsets() -> None:
    """Against scipy's correlate, on curves made step by step."""
    clip = flashes(MOMENTS, late=0.1)
    motion = [np.sqrt(((b.mean(-1) - a.mean(-1)) ** 2).mean()) for a, b in pairwise(clip.video.astype(float))]
    mel = np.exp(LogMel()(clip.audio).numpy().astype(float)) ** 0.25
    onsets = [np.maximum(after - before, 0).mean() for before, after in pairwise(mel.T)]
    onsets = np.convolve(onsets, np.hanning(17) / np.hanning(17).sum(), mode="same")
    clock = np.arange(0, 3, 0.01)
    m = np.interp(clock, np.arange(1, 75) / 25, np.array(motion) - np.mean(motion), left=0, right=0)
    o = np.interp(clock, 0.005 + np.arange(len(onsets)) / 100, onsets - onsets.mean(), left=0, right=0)
    expected = correlate(o, m, mode="full") / np.linalg.norm(m) / np.linalg.norm(o)
    middle = len(clock) - 1
    assert offset_curve(clip, 0.4)[1] == pytest.approx(expected[middle - 40 : middle + 41], abs=2e-3)


def test_estimate_finds_a_known_offset() -> None:
    for late in (-0.2, -0.13, 0.0, 0.07, 0.2):
        found, score = estimate_offset(flashes(MOMENTS, late=late))
        assert found == pytest.approx(late, abs=0.03)  # a frame lasts 0.04 s, a window of sound 0.025 s
        assert 0.5 < score <= 1


@given(st.floats(-0.15, 0.15))
@settings(max_examples=15)
def test_a_shift_changes_the_estimate_by_itself(late: float) -> None:
    clip = flashes(MOMENTS, late=0.02)
    before = estimate_offset(clip)[0]
    by_sound = delay_audio(clip, late)
    by_picture = replace(clip, times={"video": clip.seconds("video") - late})
    assert estimate_offset(by_sound)[0] - before == pytest.approx(late, abs=0.003)
    assert estimate_offset(by_picture)[0] - before == pytest.approx(late, abs=0.003)


def test_frames_of_a_variable_rate_are_compared_by_their_times() -> None:
    clip = flashes(MOMENTS, late=0.1)
    kept = np.sort(np.random.default_rng(1).permutation(75)[:60])  # a camera that drops a fifth of its frames
    kept = np.union1d(kept, np.round(np.array(MOMENTS) * 25).astype(int))  # but none of those that tell
    dropped = replace(
        clip,
        streams=clip.streams | {"video": clip.video[kept]},
        times={"video": clip.seconds("video")[kept]},
    )
    assert estimate_offset(dropped)[0] == pytest.approx(0.1, abs=0.03)
    by_index = replace(dropped, times={})
    assert abs(estimate_offset(by_index)[0] - 0.1) > 0.06


def test_several_clips_vote_together() -> None:
    rng = np.random.default_rng(0)
    clips = [flashes(sorted(rng.choice(np.arange(8, 65, 6), 3, replace=False) / 25), late=0.1) for _ in range(4)]
    assert estimate_offset(clips)[0] == pytest.approx(0.1, abs=0.03)
    offsets, curve = offset_curve(clips[0], 0.3)
    assert offsets == pytest.approx(np.arange(-30, 31) / 100)
    assert np.abs(curve).max() <= 1
    mean = np.mean([offset_curve(clip, 0.3)[1] for clip in clips], axis=0)
    assert estimate_offset(clips, 0.3)[0] == pytest.approx(offsets[mean.argmax()], abs=0.0051)


def test_an_offset_beyond_the_largest_is_reported_at_the_edge() -> None:
    clip = flashes([1.0], late=0.4)
    found, score = estimate_offset(clip, 0.3)
    assert found == pytest.approx(0.3) and score < estimate_offset(clip, 0.5)[1]


def test_estimate_says_what_is_wrong() -> None:
    clip = flashes(MOMENTS)
    with pytest.raises(ValueError, match="clips is empty"):
        estimate_offset([])
    with pytest.raises(ValueError, match="no stream 'audio'"):
        estimate_offset(clip.without("audio"))
    with pytest.raises(ValueError, match="nothing changes in 'video'"):
        estimate_offset(replace(clip, streams=clip.streams | {"video": np.zeros((75, 8, 8, 3), np.uint8)}))
    with pytest.raises(ValueError, match="nothing changes in 'audio'"):
        estimate_offset(replace(clip, streams=clip.streams | {"audio": np.zeros(3 * RATE, np.float32)}))
    with pytest.raises(ValueError, match="2 frames"):
        estimate_offset(replace(clip, streams=clip.streams | {"video": clip.video[:2]}))
    with pytest.raises(ValueError, match=r"0\.2 s apart"):
        estimate_offset(replace(clip, rates=clip.rates | {"video": 2.0}))
    with pytest.raises(ValueError, match="no 'audio' with a rate"):
        delay_audio(clip.without("audio"), 1)


@given(st.integers(-1200, 1200))
@settings(max_examples=25)
def test_delay_moves_sound_and_words_and_keeps_the_length(samples: int) -> None:
    sound = np.arange(1, 1001, dtype=np.float32)
    clip = Clip({"audio": sound}, {"audio": 1000.0}, [Word("a", 0.1, 0.4), Word("b", 0.5, 0.9)])
    moved = delay_audio(clip, samples / 1000)
    expected = np.zeros(1000, np.float32)
    for k in range(1000):
        if 0 <= k - samples < 1000:
            expected[k] = sound[k - samples]
    assert np.array_equal(moved.audio, expected) and moved.audio.dtype == np.float32
    assert np.array_equal(clip.audio, sound)
    for word in moved.words:
        old = next(w for w in clip.words if w.text == word.text)
        assert word.end == pytest.approx(old.end + samples / 1000)
        assert word.start == pytest.approx(max(old.start + samples / 1000, 0))
