"""Clip, Batch and collate: what is missing stays missing, what is padded is marked."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlearn import Batch, Clip, Word, collate

TRANSFORMS = {
    "audio": torch.from_numpy,
    "text": lambda text: torch.tensor([ord(letter) for letter in text]),
}


def make_clip(samples: int | None, text: str | None, **labels: object) -> Clip:
    streams = {"audio": None if samples is None else np.arange(samples, dtype=np.float32) + 1, "text": text}
    return Clip({name: stream for name, stream in streams.items() if stream is not None}, labels=dict(labels))


@given(
    st.lists(
        st.tuples(st.none() | st.integers(1, 9), st.none() | st.text(min_size=1, max_size=9)).filter(any),
        min_size=1,
        max_size=6,
    )
)
@settings(deadline=None)
def test_collate_then_split_gives_the_clips_back(parts: list[tuple[int | None, str | None]]) -> None:
    clips = [make_clip(*part) for part in parts]
    there = {name for clip in clips for name in clip.streams}
    batch = collate(clips, {name: TRANSFORMS[name] for name in there})
    for row, clip in enumerate(clips):
        for name in there:
            assert bool(batch.present[name][row]) == (name in clip.streams)
            real = batch.data[name][row][batch.mask[name][row]]
            expected = TRANSFORMS[name](clip.streams[name]) if name in clip.streams else torch.tensor([])
            assert torch.equal(real, expected.to(real.dtype))
            assert not batch.data[name][row][~batch.mask[name][row]].any()


def test_collate_stacks_video_without_a_mask_and_keeps_numeric_labels() -> None:
    clips = [
        Clip({"video": torch.ones(3, 2, 4, 4)}, labels={"digit": n, "speed": 0.5, "word": "two"}) for n in range(3)
    ]
    batch = collate(clips, {"video": lambda video: video})
    assert batch.data["video"].shape == (3, 3, 2, 4, 4)
    assert "video" not in batch.mask
    assert batch.labels["digit"].tolist() == [0, 1, 2]
    assert batch.labels["speed"].dtype.is_floating_point
    assert "word" not in batch.labels


def test_collate_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="clips is empty"):
        collate([], TRANSFORMS)
    with pytest.raises(ValueError, match="no clip has 'audio'"):
        collate([make_clip(None, "a")], TRANSFORMS)
    with pytest.raises(ValueError, match="sample 1 has none of the modalities"):
        collate([make_clip(3, None), make_clip(None, "a")], {"audio": torch.from_numpy})
    with pytest.raises(ValueError, match=r"video: shapes .* differ"):
        clips = [Clip({"video": torch.zeros(3, n, 4, 4)}) for n in (1, 2)]
        collate(clips, {"video": lambda video: video})


def test_batch_slices_moves_and_hides() -> None:
    batch = collate([make_clip(n, "ab", y=n) for n in (1, 2, 3)], TRANSFORMS)
    assert len(batch) == 3
    part = batch[[2, 0]]
    assert part.labels["y"].tolist() == [3, 1]
    assert part.mask["audio"].sum(1).tolist() == [3, 1]
    assert batch[torch.tensor([False, True, True])].labels["y"].tolist() == [2, 3]
    assert batch[1:].labels["y"].tolist() == [2, 3]
    assert batch.to("meta").data["audio"].device.type == "meta"
    assert not batch.without("audio").present["audio"].any()
    assert batch.only("audio").present["audio"].all()
    assert not batch.only("audio").present["text"].any()
    with pytest.raises(ValueError, match="no modality 'smell'"):
        batch.without("smell")
    with pytest.raises(ValueError, match="none of the modalities"):
        batch.without("audio", "text")


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


def test_a_batch_rides_a_data_loader() -> None:
    batch = collate([make_clip(n, "ab", y=n) for n in range(1, 8)], TRANSFORMS)
    loader = torch.utils.data.DataLoader(batch, batch_size=3, collate_fn=lambda part: part)
    parts = list(loader)
    assert [len(part) for part in parts] == [3, 3, 1]
    assert isinstance(parts[0], Batch)
    assert torch.cat([part.labels["y"] for part in parts]).tolist() == list(range(1, 8))
