"""mmlearn.batch: clips become a padded batch and come back, and no absent or padded place matters."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlearn import Batch, Clip, collate

TRANSFORMS = {
    "audio": torch.from_numpy,
    "text": lambda text: torch.tensor([ord(letter) for letter in text]),
}


def make_clip(samples: int | None, text: str | None, **labels: object) -> Clip:
    streams = {"audio": None if samples is None else np.arange(samples, dtype=np.float32) + 1, "text": text}
    return Clip({name: stream for name, stream in streams.items() if stream is not None}, labels=dict(labels))


FRAMES, MEL, IDS = st.integers(1, 4), st.integers(1, 9), st.integers(0, 5)


def make_sample(parts: tuple[int | None, int | None, int | None], seed: int) -> dict[str, torch.Tensor]:
    """Frames (3, T, 4, 2), log-mel (2, T) and ids (L,), each of its own length, or absent."""
    draw = torch.Generator().manual_seed(seed)
    shapes = {"video": (3, parts[0], 4, 2), "audio": (2, parts[1]), "text": (parts[2],)}
    sample = {}
    for (name, shape), length in zip(shapes.items(), parts, strict=True):
        if length is not None:
            values = torch.randint(1, 99, shape, generator=draw)
            sample[name] = values.byte() if name == "video" else values.float() if name == "audio" else values
    return sample


@given(
    st.lists(
        st.tuples(st.none() | FRAMES, st.none() | MEL, st.none() | IDS).filter(
            lambda parts: any(part is not None for part in parts)
        ),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([1, 4]),
)
@settings(max_examples=60)
def test_collate_then_split_gives_the_samples_back(
    parts: list[tuple[int | None, int | None, int | None]], multiple: int
) -> None:
    samples = [make_sample(part, seed) for seed, part in enumerate(parts)]
    example = make_sample((2, 3, 1), 99)
    batch = collate(
        [Clip(dict(sample)) for sample in samples],
        {name: lambda tensor: tensor for name in example},
        like=example,
        multiple_of={"audio": multiple, "video": multiple},
    )
    for found, sample in zip(batch.split(), samples, strict=True):
        assert found.keys() == sample.keys()
        assert all(torch.equal(found[name], sample[name]) and found[name].dtype == sample[name].dtype for name in found)
    assert batch.data["audio"].shape[-1] % multiple == 0
    for name, tensor in batch.data.items():  # zeros wherever nothing is real
        absent = ~batch.present[name]
        assert not tensor[absent].any()
        real = sum(int(sample[name].count_nonzero()) for sample in samples if name in sample)
        assert int(tensor.count_nonzero()) == real
    lengths = {sample["video"].shape[1] for sample in samples if "video" in sample}
    longest = batch.data["video"].shape[2]
    assert ("video" in batch.mask) == (bool(lengths) and lengths != {longest})


def test_no_nan_ever_stands_in_an_absent_row() -> None:
    clips = [Clip({"a": torch.ones(2, 3)}), Clip({"b": torch.ones(2)})]
    batch = collate(clips, dict.fromkeys("ab", lambda tensor: tensor), like={"a": torch.full((2, 9), torch.nan)})
    assert torch.equal(batch.data["a"][1], torch.zeros(2, 3))
    nobody = collate([clips[1]], dict.fromkeys("ab", lambda tensor: tensor), like={"a": torch.full((2, 9), torch.nan)})
    assert torch.equal(nobody.data["a"], torch.zeros(1, 2, 9))
    assert not nobody.present["a"].any() and not nobody.mask["a"].any()


def test_a_modality_that_no_clip_of_a_batch_has_keeps_its_type() -> None:
    like = {"text": torch.tensor([5]), "video": torch.zeros(3, 2, 4, 4, dtype=torch.uint8)}
    clip = Clip({"audio": np.ones(3, np.float32)})
    batch = collate([clip], {**TRANSFORMS, "video": lambda video: video}, like=like)
    assert batch.data["text"].dtype == torch.long and batch.data["text"].shape == (1, 1)
    assert batch.data["video"].shape == (1, 3, 2, 4, 4) and "video" not in batch.mask
    assert batch.split()[0].keys() == {"audio"}


def test_frames_of_unlike_number_are_padded_along_time() -> None:
    clips = [Clip({"video": torch.ones(3, n, 4, 4)}) for n in (2, 5)]
    batch = collate(clips, {"video": lambda video: video})
    assert batch.data["video"].shape == (2, 3, 5, 4, 4)
    assert batch.mask["video"].tolist() == [[True] * 2 + [False] * 3, [True] * 5]
    assert batch.data["video"][0].sum() == 3 * 2 * 4 * 4


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
        clips = [Clip({"video": torch.zeros(3, 2, 4, n)}) for n in (1, 2)]
        collate(clips, {"video": lambda video: video})
    with pytest.raises(ValueError, match=r"torch\.int64 and torch\.float32 differ"):
        collate([Clip({"x": torch.zeros(2)}), Clip({"x": torch.zeros(2, dtype=torch.long)})], {"x": lambda x: x})
    with pytest.raises(ValueError, match="the transform returns a number"):
        collate([Clip({"x": 3.0})], {"x": torch.tensor})


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


def test_a_batch_rides_a_data_loader() -> None:
    batch = collate([make_clip(n, "ab", y=n) for n in range(1, 8)], TRANSFORMS)
    loader = torch.utils.data.DataLoader(batch, batch_size=3, collate_fn=lambda part: part)
    parts = list(loader)
    assert [len(part) for part in parts] == [3, 3, 1]
    assert isinstance(parts[0], Batch)
    assert torch.cat([part.labels["y"] for part in parts]).tolist() == list(range(1, 8))
