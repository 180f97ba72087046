"""Clip, Batch and collate: what is missing stays missing, what is padded is marked, what is cut keeps its time."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mmlearn import Clip, Word
from mmlearn.clip import subtitles_of
from mmlearn.media import mp4, read_mp4, write_mp4


def test_clip_knows_its_duration_and_what_it_lacks() -> None:
    clip = Clip(
        {"video": np.zeros((10, 4, 4, 3), np.uint8), "audio": np.zeros(8000, np.float32)},
        {"video": 5.0, "audio": 16_000.0},
    )
    assert clip.duration == 2.0
    assert clip.without("video").duration == 0.5
    assert clip.without("video").video is None
    assert clip.text is None
    assert Clip({"text": "x"}).duration == 0.0


def test_a_saved_clip_comes_back(tmp_path) -> None:
    time = np.arange(16_000) / 16_000
    video = np.zeros((25, 64, 64, 3), np.uint8)
    video[:, :, 32:] = (200, 60, 60)
    clip = Clip(
        {"video": video, "audio": (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32), "text": "红色的山"},
        {"video": 25.0, "audio": 16_000.0},
        [Word("红", 0.1, 0.4), Word("山", 0.5, 0.9)],
        {"number": np.int64(3), "speed": 1.5, "sentence": "红山"},
        "one",
    )
    clip.save(tmp_path / "x.mp4")
    back = Clip.load(tmp_path / "x.mp4")
    assert back.video.shape == clip.video.shape
    assert np.abs(back.video.astype(int) - clip.video).mean() < 4  # H.264 is lossy
    assert len(back.audio) == len(clip.audio)
    assert np.corrcoef(back.audio, clip.audio)[0, 1] > 0.99  # so is AAC
    assert (back.text, back.labels, back.name) == ("红色的山", {"number": 3, "speed": 1.5, "sentence": "红山"}, "one")
    assert [word.text for word in back.words] == ["红", "山"]
    assert [word.start for word in back.words] == pytest.approx([0.1, 0.5], abs=0.002)
    with pytest.raises(TypeError, match="labels hold a set"):
        Clip({"video": video}, labels={"odd": {1}}).save(tmp_path / "odd.mp4")


def make_timed(fps: float = 25.0, seconds: float = 3.0, dropped: tuple[int, ...] = ()) -> Clip:
    """A clip whose frames and samples hold their own indices."""
    kept = np.setdiff1d(np.arange(round(seconds * fps)), dropped)
    video = np.broadcast_to(kept[:, None, None, None], (len(kept), 1, 1, 3)).astype(np.uint8)
    audio = np.arange(round(seconds * 1000), dtype=np.float32)
    words = [Word("a", 0.2, 0.5), Word("b", 0.5, 1.3), Word("c", 2.0, 2.9)]
    times = {"video": kept / fps} if dropped else {}
    return Clip({"video": video, "audio": audio, "text": "abc"}, {"video": fps, "audio": 1000.0}, words, times=times)


def test_seconds_are_the_times_or_follow_from_the_rate() -> None:
    clip = make_timed(dropped=(3, 4))
    assert clip.seconds("audio").dtype == np.float64
    assert clip.seconds("audio")[-1] == pytest.approx(2.999)
    assert clip.seconds("video")[3] == pytest.approx(0.2)  # frame 5 is the fourth that is left
    assert make_timed().seconds("video")[3] == pytest.approx(0.12)
    with pytest.raises(ValueError, match="no stream 'smell'"):
        clip.seconds("smell")
    with pytest.raises(ValueError, match="'text' has neither a rate nor times"):
        clip.seconds("text")
    for wrong in (np.arange(3), np.arange(73)[::-1], np.full(73, np.nan)):
        with pytest.raises(ValueError, match=r"times of 'video'.*expected 73 that never decrease"):
            replace(clip, times={"video": wrong}).seconds("video")


def test_duration_goes_by_times() -> None:
    late = Clip(
        {"video": np.zeros((3, 1, 1, 3), np.uint8)}, {"video": 10.0}, times={"video": np.array([0.0, 0.1, 0.5])}
    )
    assert late.duration == pytest.approx(0.6)
    assert replace(late, rates={}).duration == pytest.approx(0.75)  # the median step is 0.25 s
    single = Clip({"video": np.zeros((1, 1, 1, 3), np.uint8)}, times={"video": np.array([0.4])})
    assert single.duration == pytest.approx(0.4)
    assert len(single.cut(0.2).video) == 1
    assert replace(late, times={"video": np.zeros(0)}).duration == pytest.approx(0.3)


def test_cut_takes_the_same_window_out_of_every_stream() -> None:
    part = make_timed().cut(0.4, 1.0)
    assert part.video[:, 0, 0, 0].tolist() == list(range(10, 25))
    assert part.audio.tolist() == list(range(400, 1000))
    assert part.times == {} and part.text == "abc"
    assert [(w.text, round(w.start, 6), round(w.end, 6)) for w in part.words] == [("a", 0, 0.1), ("b", 0.1, 0.6)]
    between = make_timed().cut(0.41)
    assert between.video[0, 0, 0, 0] == 11 and between.times["video"][0] == pytest.approx(0.03)
    assert between.audio[0] == 410 and "audio" not in between.times
    dropped = make_timed(dropped=(11, 12)).cut(0.4, 0.6)
    assert dropped.video[:, 0, 0, 0].tolist() == [10, 13, 14]
    assert dropped.times["video"] == pytest.approx([0, 0.12, 0.16])


def test_what_has_nothing_in_the_window_is_missing() -> None:
    clip = make_timed()
    assert clip.cut(0.01, 0.03).streams.keys() == {"audio", "text"}  # no frame begins there
    short = replace(clip, streams=clip.streams | {"audio": clip.audio[:500]})
    assert short.cut(0.5, 0.9).streams.keys() == {"video", "text"}
    with pytest.raises(ValueError, match=r"nothing begins from 7 to 8 s of 3\.0 s"):
        clip.cut(7, 8)
    for start, end in ((-1, 1), (1, 1), (2, 1)):
        with pytest.raises(ValueError, match="expected 0 ≤ start < end"):
            clip.cut(start, end)


MS = st.integers(0, 2999)


@given(MS, MS, MS, MS, st.sampled_from([(), (1, 2), (30, 31, 32, 50)]), st.sampled_from([25.0, 29.97, 8.0]))
@settings(max_examples=60)
def test_cut_of_a_cut_is_a_cut(a: int, b: int, c: int, d: int, dropped: tuple[int, ...], fps: float) -> None:
    clip = make_timed(fps, dropped=dropped)
    (a, b), (c, d) = sorted((a, b + 1)), sorted((c, d + 1))
    assume(a < b and c < d and c < b - a)
    try:
        direct = clip.cut((a + c) / 1000, min(a + d, b) / 1000)
    except ValueError:  # nothing begins in so short a window: nor may it for the cut of a cut
        with pytest.raises(ValueError, match="nothing begins"):
            clip.cut(a / 1000, b / 1000).cut(c / 1000, d / 1000)
        return
    twice = clip.cut(a / 1000, b / 1000).cut(c / 1000, d / 1000)
    assert twice.streams.keys() == direct.streams.keys()
    for name in direct.streams.keys() - {"text"}:
        assert np.array_equal(twice.streams[name], direct.streams[name])
        assert twice.seconds(name) == pytest.approx(direct.seconds(name), abs=1.1e-4)
    assert [w.text for w in twice.words] == [w.text for w in direct.words]
    for one, other in zip(twice.words, direct.words, strict=True):
        assert (one.start, one.end) == pytest.approx((other.start, other.end), abs=1e-9)


def test_times_survive_a_file(tmp_path) -> None:
    video = np.zeros((4, 32, 32, 3), np.uint8)
    shown = np.array([0.0, 0.04, 0.2, 0.24])
    clip = Clip({"video": video, "audio": np.zeros(4000, np.float32)}, {"video": 25.0, "audio": 16_000.0}, name="x",
                times={"video": shown, "gone": np.zeros(2)})  # fmt: skip
    clip.save(tmp_path / "x.mp4")
    back = Clip.load(tmp_path / "x.mp4")
    assert back.times.keys() == {"video"} and back.times["video"] == pytest.approx(shown)
    assert back.rates["video"] == pytest.approx(3 / 0.24, rel=0.01)  # plays as long as it lasted
    assert back.seconds("video") == pytest.approx(shown)


@pytest.mark.parametrize(
    "comment", ['{"times": 3}', '{"times": {"video": [1, 2]}}', "[1]", "nice holiday", '{"times": {}}']
)
def test_somebody_elses_comment_is_no_clip(tmp_path, comment: str) -> None:
    path = tmp_path / "x.mp4"
    write_mp4(path, video=np.zeros((3, 16, 16, 3), np.uint8), fps=5.0, metadata={"comment": comment})
    assert Clip.load(path).times == {}


STILL = np.zeros((10, 16, 16, 3), np.uint8)


@pytest.mark.parametrize(
    "words",
    [
        [("a", 0.1, 0.1)],  # no time
        [("a", 0.0, 0.2), ("b", 0.19, 0.3)],  # overlap
        [("b", 0.2, 0.3), ("a", 0.0, 0.1)],  # order
        [("a", 0.0, 0.4), ("b", 0.1, 0.2), ("c", 0.15, 0.3)],  # one within another
        [("a", 0.1, 0.2), ("b", 0.1, 0.2), ("c", 0.1, 0.2)],  # at once
        [("a", -0.05, 0.1), ("b", 0.3, 0.2)],  # before the beginning, and backwards
        [("", 0.0, 0.1), ("a", 0.1, 0.2)],  # nothing said
        [("a", 0.58, 1.299), ("b", 1.2985, 1.4)],  # half a millisecond
        [("a", 5.0, 6.0)],  # after the end
        [],
    ],
)
def test_words_as_a_recognizer_gives_them(tmp_path, words: list) -> None:
    given = [Word(*word) for word in words]
    for again in ("one", "two"):  # and what is loaded can be saved
        clip = Clip({"video": STILL}, {"video": 25.0}, given)
        clip.save(tmp_path / f"{again}.mp4")
        back = Clip.load(tmp_path / f"{again}.mp4")
        assert [word.text for word in back.words] == [word.text for word in given]
        for word, wanted in zip(back.words, given, strict=True):
            assert (word.start, word.end) == pytest.approx((wanted.start, wanted.end), abs=0.0021)
        back.save(tmp_path / "again.mp4")
        given = back.words
    shown = read_mp4(tmp_path / "one.mp4").subtitles
    assert sorted(text for _, _, text in shown) == sorted(text for text, *_ in words if text)
    assert all(a[1] <= b[0] + 1e-6 for a, b in itertools.pairwise(shown))


MOMENTS = st.integers(-50, 3000).map(lambda k: k / 1700)


def test_no_words_are_no_subtitles() -> None:
    assert subtitles_of([]) == ([], True)
    assert subtitles_of([Word("", 0.0, 1.0)]) == ([], False)  # a word without letters is left out, and that is said


@given(st.lists(st.tuples(st.sampled_from(["a", "bc", "三", ""]), MOMENTS, MOMENTS), max_size=6))
@settings(max_examples=200)
def test_subtitles_never_overlap_and_are_nearest(words: list) -> None:
    found, exact = subtitles_of([Word(*word) for word in words])
    mp4._check_subtitles(found)
    assert [text for *_, text in found] == [w[0] for w in sorted(words, key=lambda w: w[1:]) if w[0]]
    again, still = subtitles_of([Word(text, start, end) for start, end, text in found])
    assert again == found and still
    if exact:
        assert all(abs(s - w[1]) < 0.0016 and abs(e - w[2]) < 0.0016 for (s, e, _), w in zip(found, words, strict=True))


def test_words_that_are_no_times_are_named(tmp_path) -> None:
    for start, end in ((np.nan, 1.0), (0.0, np.inf)):
        with pytest.raises(ValueError, match=r"word 'a' runs from .* expected finite times"):
            Clip({"video": STILL}, {"video": 25.0}, [Word("a", start, end)]).save(tmp_path / "x.mp4")
    assert not list(tmp_path.iterdir())


def test_edited_subtitles_win(tmp_path) -> None:
    Clip({"video": STILL}, {"video": 25.0}, [Word("b", 0.2, 0.3), Word("a", 0.0, 0.1)]).save(tmp_path / "x.mp4")
    comment = read_mp4(tmp_path / "x.mp4").metadata["comment"]
    for subtitles in ([(0.0, 0.1, "a")], [(0.0, 0.1, "a"), (0.2, 0.3, "c")]):
        write_mp4(tmp_path / "y.mp4", video=STILL, fps=25, subtitles=subtitles, metadata={"comment": comment})
        assert [word.text for word in Clip.load(tmp_path / "y.mp4").words] == [text for *_, text in subtitles]


def test_labels_of_any_kind_survive_a_file(tmp_path) -> None:
    labels = {"a": torch.tensor([1, 2]), "b": np.array([0.5]), "c": np.bool_(True), "d": np.float32(0.5), "e": [1, [2]]}
    Clip({"video": STILL}, {"video": 25.0}, labels=labels).save(tmp_path / "x.mp4")
    found = Clip.load(tmp_path / "x.mp4").labels
    assert found == {"a": [1, 2], "b": [0.5], "c": True, "d": 0.5, "e": [1, [2]]}
