"""mmlearn.datasets.reading: one file as a clip, compared with a full decode."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mmlearn.datasets.reading import DecodeOptions, read_clip
from mmlearn.media import read_mp4
from tests.datasets.conftest import same, write


@pytest.mark.parametrize("name", ["cat/a.mp4", "cat/b 猫.MP4", "dog/deep/c.mov"])
def test_a_clip_is_what_a_full_decode_shows_at_its_times(originals: Path, name: str) -> None:
    truth = read_mp4(originals / name)
    clip = read_clip(originals / name, size=None, num_frames=7)
    times = clip.times["video"]
    assert truth.video is not None and clip.video is not None and times.dtype == np.float64
    assert np.array_equal(times, np.floor((np.arange(7) + 0.5) / 7 * 20 + 1e-6) / 25)  # centres of seven parts of 0.8 s
    assert np.array_equal(clip.video, truth.video[np.rint(times * 25).astype(int)])
    assert clip.rates["video"] == pytest.approx(6 / (times[-1] - times[0]))
    if truth.audio is None:
        assert clip.audio is None and "audio" not in clip.rates
    else:
        assert clip.audio is not None and clip.audio.dtype == np.float32 and clip.rates["audio"] == 16_000
        np.testing.assert_allclose(clip.audio, truth.audio, atol=1e-6)
    assert [(w.start, w.end, w.text) for w in clip.words] == truth.subtitles
    assert clip.duration == pytest.approx(0.8, abs=0.05) and clip.name == str(originals / name) and not clip.labels


def test_a_part_has_its_own_clock(originals: Path) -> None:
    whole = read_clip(originals / "cat/a.mp4", size=None, num_frames=20)
    part = read_clip(originals / "cat/a.mp4", size=None, num_frames=5, start=0.2, end=0.4, name="part")
    assert whole.video is not None and part.video is not None and whole.audio is not None and part.audio is not None
    assert np.array_equal(part.video, whole.video[5:10]) and part.name == "part"
    np.testing.assert_allclose(part.times["video"], np.arange(5) / 25, atol=1e-9)
    np.testing.assert_allclose(part.audio, whole.audio[3200:6400], atol=1e-6)
    assert [(w.text, round(w.start, 6), round(w.end, 6)) for w in part.words] == [("你好", 0, 0.1), ("世界", 0.1, 0.2)]
    assert read_clip(originals / "cat/a.mp4", start=0.65).words == []
    late = read_clip(originals / "cat/a.mp4", start=0.21, end=0.23, num_frames=1)  # shown since 0.2 s: at its start
    assert late.times["video"].tolist() == [0.0] and late.rates["video"] == 25


def test_a_file_object_gives_the_same(originals: Path) -> None:
    with open(originals / "cat/a.mp4", "rb") as file:
        assert same(read_clip(file, name="x"), read_clip(originals / "cat/a.mp4", name="x"))


def test_resizing_rate_and_streams(originals: Path) -> None:
    clip = read_clip(originals / "cat/a.mp4", size=(24, 30), sample_rate=8000, num_frames=3)
    assert clip.video is not None and clip.video.shape == (3, 24, 30, 3)
    assert clip.audio is not None and clip.audio.shape == (6400,) and clip.rates["audio"] == 8000
    with pytest.raises(ValueError, match="stream 1"):
        read_clip(originals / "cat/a.mp4", audio_stream=1)


def test_sound_alone_is_a_clip_and_neither_is_an_error(originals: Path, tmp_path: Path) -> None:
    clip = read_clip(originals / "dog/e.m4a")
    assert list(clip.streams) == ["audio"] and list(clip.rates) == ["audio"] and clip.times == {}
    (tmp_path / "x.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    with pytest.raises(ValueError, match=r"x\.srt: found neither pictures nor sound"):
        read_clip(tmp_path / "x.srt")


def test_subtitles_of_matroska_too(tmp_path: Path) -> None:
    import av

    write(tmp_path / "x.mp4")
    with av.open(str(tmp_path / "x.mp4")) as source, av.open(str(tmp_path / "x.mkv"), "w") as out:
        video = out.add_stream_from_template(source.streams.video[0])
        text = out.add_stream("subrip")
        text.codec_context.subtitle_header = source.streams.subtitles[0].codec_context.subtitle_header or b""
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = video
                out.mux(packet)
        packet = av.Packet("早安".encode())
        packet.stream, packet.pts, packet.dts, packet.duration = text, 200, 200, 300
        packet.time_base = text.time_base
        out.mux(packet)
    (word,) = read_clip(tmp_path / "x.mkv").words
    assert (word.text, word.start, word.end) == ("早安", 0.2, 0.5)


def test_random_sampling_draws_from_the_global_generator(originals: Path) -> None:
    draw = DecodeOptions(num_frames=4, sampling="segment")
    torch.manual_seed(3)
    first, second = draw.clip(originals / "cat/a.mp4"), draw.clip(originals / "cat/a.mp4")
    torch.manual_seed(3)
    again = draw.clip(originals / "cat/a.mp4")
    assert same(first, again) and first.times["video"].tolist() != second.times["video"].tolist()
    dense = [
        DecodeOptions(num_frames=4, sampling="dense", interval=0.08).clip(originals / "cat/a.mp4") for _ in range(8)
    ]
    for clip in dense:
        np.testing.assert_allclose(np.diff(clip.times["video"]), 0.08, atol=1e-9)
    assert len({clip.times["video"][0] for clip in dense}) > 1
