"""From files to every objective: {folder, table, GRID, HanziClips, shards} × objectives × workers.

Every kind of label arrives, with holes where files have holes, or is refused by name before the first step.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

import mmlearn
from mmlearn import Batch, Clip, fit, predict
from mmlearn.datasets import Grid, HanziClips, VideoFolder, read_shards, write_shards
from mmlearn.encoders import AudioEncoder, VideoTransformer
from mmlearn.finetuning import (
    CTC,
    Classification,
    EncoderDecoder,
    FrameWise,
    MultiLabel,
    Regression,
    Scaling,
    Seq2Seq,
    SpeechRecognizer,
    VoiceEncoder,
    linear_probe,
)
from mmlearn.media import write_mp4
from mmlearn.preprocessing.batching.loading import loader
from mmlearn.preprocessing.video.sampling import to_tensor
from mmlearn.pretraining import (
    ELBO,
    Autoencoder,
    Contrastive,
    ContrastiveModel,
    ConvDecoder,
    ConvEncoder,
    MaskedAutoencoder,
    MaskedPrediction,
    MultimodalVAE,
    Reconstruction,
    random_masking,
)
from tests.datasets.conftest import write_toy_sources
from tests.places import GRID

TALKER = GRID / "s1"
READ: dict[str, Any] = {"size": (16, 16), "num_frames": 4}
# source → a class and how many there are, a quantity, a label without a tensor or one that is not there
LABELS = {"folder": ("label", 2, "label", "sentence"), "table": ("word", 2, "score", "sentence"),
          "grid": ("colour", 4, "digit", "sentence"), "hanzi": ("number", 10, "writing_speed", "sentence"),
          "shards": ("word", 2, "score", "sentence")}  # fmt: skip


def write_films(root: Path) -> None:
    """Eight films of 0.4 s in two folders, one of them silent; beside the root a table with empty cells."""
    rng, rows = np.random.default_rng(0), ["path,text,word,score"]
    for k in range(8):
        name = f"{'ab'[k % 2]}/{k}.mp4"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        sound = None if k == 3 else rng.uniform(-0.5, 0.5, 6400 + 160 * k).astype(np.float32)
        video = rng.integers(0, 255, (4, 16, 16, 3), dtype=np.uint8)
        write_mp4(root / name, video=video, fps=10, audio=sound, sample_rate=16_000)
        text, word, score = "abcd"[: 2 + k % 3] if k != 2 else "", "xy"[k // 2 % 2] if k > 2 else "", k / 8
        rows.append(f"{root.name}/{name},{text},{word},{'' if k in (0, 5) else score}")
    (root.parent / "clips.csv").write_text("\n".join(rows))


def write_talker(root: Path) -> None:
    """Six sentences of GRID where it is present, else six of the same layout made up here."""
    (root / "s1").mkdir(parents=True)
    if TALKER.is_dir():
        for path in sorted(TALKER.glob("*.mp4"))[::170][:6]:
            for file in (path, path.with_suffix(".align")):
                (root / "s1" / file.name).symlink_to(file.resolve())
        return
    rng = np.random.default_rng(1)
    for name in ("bbaf2n", "lgbmzs", "pric4p", "srwi9a", "bwwa7s", "lbak1n"):
        video, sound = rng.integers(0, 255, (75, 144, 180, 3), dtype=np.uint8), rng.uniform(-0.5, 0.5, 48_000)
        write_mp4(root / "s1" / f"{name}.mp4", video=video, fps=25, audio=sound, sample_rate=16_000, crf=40)
        (root / "s1" / f"{name}.align").write_text("0 12500 sil\n12500 25000 bin\n25000 75000 sil\n")


def more_labels(clip: Clip) -> Clip:
    """Add what a script of the reader's would: tokens of the sound, a token a step, a vector; each third has none."""
    if sum(map(ord, clip.name)) % 3 == 0:
        return clip
    steps = -(-steps_of(clip.audio) // 4) if clip.audio is not None else 4
    extra = {
        "tokens": [1 + ord(c) % 3 for c in clip.name[-1:]],
        "frames": np.arange(steps) % 4,
        "many": [True, False, True],
    }
    return replace(clip, labels=clip.labels | extra)


class More(Dataset):
    def __init__(self, clips: Any) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Clip:
        return more_labels(self.clips[index])


class MoreOfAStream(IterableDataset):
    def __init__(self, clips: Any) -> None:
        self.clips = clips

    def __iter__(self) -> Iterator[Clip]:
        return map(more_labels, self.clips)


def steps_of(sound: np.ndarray) -> int:
    return 12 + len(sound) // 160 % 5


def frames(video: np.ndarray) -> Tensor:
    return to_tensor(video[:: max(1, len(video) // 4)][:4])


def bands(sound: np.ndarray) -> Tensor:
    """Something like a spectrogram, (8, 12 to 16)."""
    steps = steps_of(sound)
    return torch.from_numpy(sound[: 8 * 16 * 8].reshape(8, 16, 8).std(axis=2)[:, :steps].copy())


def ids(text: str) -> Tensor:
    return torch.tensor([2, *(4 + ord(c) % 5 for c in text[:6]), 3])


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    place = tmp_path_factory.mktemp("files")
    write_films(place / "films")
    write_talker(place / "grid")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMLEARN_HOME", str(place / "home"))
        table = VideoFolder(place / "clips.csv", workers=1, **READ)
        write_shards(table, place / "shards", max_mb=0.02)
        yield {
            "folder": VideoFolder(place / "films", workers=1, **READ),
            "table": table,
            "grid": Grid(place / "grid", image_size=(16, 16), cache=False, workers=1),
            "hanzi": HanziClips(8, sources=write_toy_sources(place / "toy"), cache=False, workers=1, frames=4,
                                image_size=16, missing={"audio": 0.2, "text": 0.2}),
            "shards": read_shards(place / "shards", **READ),
        }  # fmt: skip


@pytest.fixture(scope="module")
def loaders(sources: dict[str, Any]) -> Callable[[str, int], DataLoader]:
    made: dict[tuple[str, int], DataLoader] = {}

    def make(source: str, workers: int) -> DataLoader:
        if (source, workers) not in made:
            clips, stream = sources[source], source == "shards"
            how = {"video": frames, "audio": bands} | ({} if source == "folder" else {"text": ids})
            class_name, _, quantity, _ = LABELS[source]
            examples = {class_name: 0, quantity: 0.5, "tokens": [1], "frames": [1], "many": [0, 0, 0]}
            made[source, workers] = loader(
                MoreOfAStream(clips) if stream else More(clips), how, batch_size=3, workers=workers,
                like={"video": torch.zeros(3, 4, 16, 16).byte(), "audio": torch.zeros(8, 16), "text": ids("a")},
                multiple_of={"audio": 16, "text": 8}, labels=examples if stream else None,
            )  # fmt: skip
        return made[source, workers]

    return make


class Audio(nn.Module):
    """A model of the sound alone, absent or not."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder, self.head = AudioEncoder(8, 8, 8), nn.Linear(8, width)

    def forward(self, batch: Batch) -> Tensor:
        return self.head(self.encoder(batch.data["audio"], batch.mask["audio"]))


class Part(nn.Module):
    """A tensor that a model of another kind gives."""

    def __init__(self, model: nn.Module, view: Callable[[Any, Batch], Tensor]) -> None:
        super().__init__()
        self.model, self.view = model, view

    def forward(self, batch: Batch) -> Tensor:
        return self.view(self.model, batch)


def whole(model: Any, batch: Batch) -> Tensor:
    return model(batch)


def speaker() -> SpeechRecognizer:
    return SpeechRecognizer({"audio": VoiceEncoder(8, 8)}, 5, 8)


def contrastive(name: str) -> tuple[nn.Module, Any]:
    video = VideoTransformer((4, 16, 16), (2, 8, 8), {"dim": 8, "depth": 1, "num_heads": 1})
    model = ContrastiveModel({"audio": AudioEncoder(8, 8, 8), "video": video}, {"audio": 8, "video": 8}, 8)
    return model, Contrastive(model.criterion, name)


def masked() -> MaskedAutoencoder:
    size = {"dim": 8, "depth": 1, "num_heads": 1}
    return MaskedAutoencoder("video", VideoTransformer((4, 16, 16), (2, 8, 8), size), random_masking, size)


# objective → (model, task) for a source's (class, number of classes, quantity), and what `predict` is to return
CASES: dict[str, tuple[Callable[[str, int, str], tuple[nn.Module, Any]], Callable[[Any, Batch], Tensor]]] = {
    "Classification": (lambda c, k, q: (Audio(k), Classification(c, k)), whole),
    "MultiLabel": (lambda c, k, q: (Audio(3), MultiLabel("many", 3)), whole),
    "Regression": (lambda c, k, q: (Audio(2), Regression(q, "gaussian", scaling=Scaling(1.0, 2.0))), whole),
    "CTC": (lambda c, k, q: (Heard(speaker()), CTC()), whole),
    "FrameWise": (lambda c, k, q: (Heard(speaker()), FrameWise()), whole),
    "Seq2Seq": (lambda c, k, q: (EncoderDecoder({"audio": AudioEncoder(8, 8, 8), "video": masked().encoder},
                                                {"audio": 8, "video": 8}, 9, 8, target="text"),
                                 Seq2Seq(9, "text")), whole),
    "Contrastive": (lambda c, k, q: contrastive(c), lambda model, batch: model.embed("audio", batch)),
    "Reconstruction": (lambda c, k, q: (Autoencoder("audio", ConvEncoder((8, 16), 4, 4), ConvDecoder(4, (8, 16), 4)),
                                        Reconstruction("audio")), lambda model, batch: model.code(batch)),
    "ELBO": (lambda c, k, q: (MultimodalVAE({"audio": ConvEncoder((8, 16), 8, 4), "video": _Still(8)},
                                            {"audio": ConvDecoder(4, (8, 16), 4), "video": _Frames(4)}, 4), ELBO()),
             lambda model, batch: model.code(batch)),
    "MaskedPrediction": (lambda c, k, q: (masked(), MaskedPrediction()),
                         lambda model, batch: model.encoder(batch.data["video"])),
}  # fmt: skip


class Heard(nn.Module):
    """A recognizer of sound, for batches some of whose clips are silent: these read zeros."""

    def __init__(self, model: SpeechRecognizer) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        every = torch.ones_like(batch.present["audio"])
        silent = batch.mask["audio"] | ~batch.present["audio"][:, None]
        return self.model(Batch(batch.data, {"audio": every}, {"audio": silent}))


class _Still(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.out = nn.Linear(3 * 4 * 16 * 16, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.out(x.flatten(1) / 255)


class _Frames(nn.Sequential):
    def __init__(self, dim: int) -> None:
        super().__init__(nn.Linear(dim, 3 * 4 * 16 * 16), nn.Unflatten(1, (3, 4, 16, 16)))


def test_no_objective_is_forgotten() -> None:
    homes = (mmlearn.finetuning, mmlearn.pretraining)
    exported = {name for home in homes for name in home.__all__ if inspect.isclass(getattr(home, name))
                and all(hasattr(getattr(home, name), part) for part in ("loss", "metrics", "target"))}  # fmt: skip
    assert exported == set(CASES)


def build(objective: str, source: str) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    return CASES[objective][0](*LABELS[source][:3])


def learnable(objective: str, source: str) -> bool:
    """Whether the files hold what the objective is about: films in folders have no captions."""
    return not (objective == "Seq2Seq" and source == "folder")


BY_INDEX = [source for source in LABELS if source != "shards"]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("source", BY_INDEX)
@pytest.mark.parametrize("objective", CASES)
def test_fit_and_predict(loaders: Callable, source: str, objective: str, workers: int) -> None:
    batches, (model, task) = loaders(source, workers), build(objective, source)
    if not learnable(objective, source):
        with pytest.raises(ValueError, match=r"no 'text'; (it has|this model reads)"):
            fit(model, batches, batches, task, epochs=1, progress=False)
        return
    before = [weight.clone() for weight in model.parameters()]
    (row,) = fit(model, batches, batches, task, epochs=1, progress=False)
    assert np.isfinite([row["train_loss"], row["valid_loss"], *(row[name] for name in task.metrics())]).all()
    assert any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    found = predict(Part(model, CASES[objective][1]), batches)
    assert len(found) == len(batches.dataset) and found.isfinite().all()  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("objective", CASES)
def test_shards_step_by_step_because_fit_takes_no_stream_yet(loaders: Callable, objective: str, workers: int) -> None:
    batches, (model, task) = loaders("shards", workers), build(objective, "shards")
    metrics, seen = task.metrics(), 0
    for batch in batches:
        output = model(batch)
        loss = task.loss(output, batch)
        loss.backward()
        assert loss.isfinite()
        seen += len(batch)
        for metric in metrics.values():
            metric.update(output, task.target(batch))
    assert seen == 8
    if objective != "Contrastive" or not workers:  # two workers deal so few clips that none has a pair to compare with
        assert any(weight.grad is not None and weight.grad.any() for weight in model.parameters())
    assert all(torch.as_tensor(metric.compute()).isfinite() for metric in metrics.values())
    assert len(predict(Part(model, CASES[objective][1]), batches)) == 8


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("source", LABELS)
def test_probe(loaders: Callable, source: str, workers: int) -> None:
    batches, (name, *_) = loaders(source, workers), LABELS[source]
    features = predict(Audio(4), batches)
    labels = torch.cat([batch.label(name)[0] for batch in batches])
    assert labels.shape == features.shape[:1]
    assert 0 <= linear_probe(features, labels, features, labels) <= 1


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("source", LABELS)
def test_labels_arrive_as_the_files_have_them(
    loaders: Callable, sources: dict[str, Any], source: str, workers: int
) -> None:
    truth = {clip.name: clip.labels for clip in map(more_labels, sources[source])}
    numbers = {name for labels in truth.values() for name, value in labels.items() if not isinstance(value, str)}
    arrived: dict[str, list] = {name: [] for name in numbers}
    for batch in loaders(source, workers):
        assert set(batch.labels) == set(batch.labelled) == numbers
        for name in numbers:
            values, labelled = batch.label(name)
            for row, there in zip(values, labelled.tolist(), strict=True):
                whole_number = not row.is_floating_point()
                assert there or bool(((row == -100) if whole_number else row.isnan()).all())
                real = row[row != -100] if row.ndim and whole_number else row
                arrived[name] += [tuple(real.reshape(-1).tolist())] if there else []
    for name in numbers:
        expected = [tuple(np.float32(v) if isinstance(v, float) else v for v in np.atleast_1d(labels[name]).tolist())
                    for labels in truth.values() if name in labels]  # fmt: skip
        assert sorted(arrived[name]) == sorted(expected), name
    holes = {"table": "score", "shards": "word", "folder": "tokens", "grid": "many", "hanzi": "frames"}[source]
    assert 0 < len(arrived[holes]) < len(truth)


@pytest.mark.parametrize("source", LABELS)
@pytest.mark.parametrize("objective", ["Classification", "MultiLabel", "Regression", "CTC", "FrameWise", "Contrastive"])
def test_what_has_no_tensor_is_refused_before_the_first_step(loaders: Callable, source: str, objective: str) -> None:
    model, task = build(objective, source)
    name = LABELS[source][3]
    setattr(task, "frames" if objective == "FrameWise" else "label", name)
    why = (
        r" \(hanzi-train-00000: label 'sentence' is a str, '.*', which no tensor can hold\)"
        if source == "hanzi"
        else ""
    )
    before = [weight.clone() for weight in model.parameters()]
    batches = loaders(source, 0)
    with pytest.raises(ValueError, match=rf"^the batch has no label 'sentence'{why}; it has \["):
        if source == "shards":
            first = next(iter(batches))
            task.loss(model(first), first)
        else:
            fit(model, batches, batches, task, epochs=1, progress=False)
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
