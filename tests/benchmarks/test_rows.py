"""The cheapest row of each results file, made again by the committed code and compared with what the file says.

Most rows take minutes and are marked weekly (`pytest -m weekly tests/benchmarks`); those on real faces need the folder
of GRID in MMLEARN_GRID, or at ../shared/data/grid. Counts and formulas must be equal. Accuracies may differ by the
samples in `slack`: another processor or torch adds up in another order, and a sample on the edge falls to the other
side.
"""

import json
from typing import Any

import pytest
import torch

from tests.places import GRID, ROOT

RESULTS = ROOT / "benchmarks" / "results"
NOT_COMMITTED = {  # files with a stamp that says "-dirty": made again one by one, so this list only shrinks
    "augmentation", "fusion", "fusion_speed", "log_mel", "pretraining",
    "reading", "segmentation", "speech_grid",
}  # fmt: skip
NO_ROW = {  # files without a row that can be made again within minutes
    "reading": "timings only; the script itself compares every frame with a full decode",
    "fusion_grid": "each row needs the encoders of all three seeds trained on GRID, about 10 minutes",
    "speech_grid": "each row needs lips and voice trained in stages on GRID, about 50 minutes",
}
weekly = pytest.mark.weekly
needs_grid = pytest.mark.skipif(not GRID.is_dir(), reason="needs GRID")


def load(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def near(found: float, expected: float, samples: int, slack: int = 2) -> bool:
    """Whether two accuracies differ by a few samples at most."""
    return abs(found - expected) <= slack / samples + 1e-6


def once(calls: dict[str, Any], *args: Any, **kwargs: Any) -> dict[str, dict[str, Any]]:
    """In place of `benchmarks.report.measure`: no timing."""
    return {name: {"median": 1.0, "fastest": 1.0, "values": [1.0]} for name in calls}


def test_no_results_file_is_newly_dirty_and_the_list_shrinks() -> None:
    dirty = {path.stem for path in RESULTS.glob("*.json") if '-dirty"' in path.read_text(encoding="utf-8")}  # rows, too
    assert dirty - NOT_COMMITTED == set(), "made from code that is not committed"
    assert NOT_COMMITTED - dirty == set(), "made again: take it off the list"
    unnamed = [path.stem for path in RESULTS.glob("*.json") if not load(path.stem)["commit"]]
    assert not unnamed


def test_every_results_file_has_its_row() -> None:
    rows = {name.removeprefix("test_row_of_") for name in globals() if name.startswith("test_row_of_")}
    assert rows | set(NO_ROW) == {path.stem for path in RESULTS.glob("*.json")} and not rows & set(NO_ROW)


# Seconds


def test_row_of_fusion(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import fusion

    monkeypatch.setattr(fusion, "measure", once)
    table = load("fusion")["cost"]
    assert list(table) == list(fusion.METHODS)
    for method in ("concatenation", "gated", "tree", "one query", "cross-attention"):
        found, row = fusion.cost(method), table[method]
        assert (found["parameters"], found["flops"]) == (row["parameters"], row["flops"]), method


def test_row_of_fusion_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import fusion_speed

    monkeypatch.setattr(fusion_speed, "measure", once)
    monkeypatch.setattr(fusion_speed.mmlearn, "device", lambda: torch.device("meta"))  # counts, and computes nothing
    found = fusion_speed.bottleneck_against_joint()
    expected = load("fusion_speed")["bottleneck"]
    assert [(r["steps"], r["theory"], r["flops"]) for r in found] == [
        (r["steps"], r["theory"], r["flops"]) for r in expected
    ]


def test_row_of_log_mel(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import log_mel

    saved: dict[str, Any] = {}
    monkeypatch.setattr(log_mel, "begin", lambda name: None)
    monkeypatch.setattr(log_mel, "measure", once)
    monkeypatch.setattr(log_mel, "save", lambda name, results, peers: saved.update(results))
    log_mel.main()
    expected = load("log_mel")
    assert (saved["clips"], saved["tolerance"]) == (expected["clips"], expected["tolerance"])
    for name, value in expected["difference"].items():
        assert abs(saved["difference"][name] - value) < 5e-5  # of float32 logarithms near -13: a few bits


def test_row_of_segmentation() -> None:
    from benchmarks import segmentation

    expected = load("segmentation")
    texts, draws = segmentation.draw(segmentation.CAPTIONS)
    assert draws == expected["draws"]
    captions = expected["corpora"]["captions"]
    assert (len(texts), sum(map(len, texts))) == (captions["texts"], captions["characters"])


def test_row_of_gan() -> None:
    from benchmarks import gan

    expected = load("gan")["ring"]["non-saturating"]
    found = gan.play_ring("non-saturating", 0)
    assert found["modes"] == expected["modes"]["values"][0]
    assert near(found["good"], expected["good"]["values"][0], 1000, slack=20)  # a game carries rounding on


# Minutes


@weekly
def test_row_of_pretraining() -> None:
    from benchmarks import pretraining

    expected = load("pretraining")["methods"]["principal components"]
    data = pretraining.load(pretraining.CLIPS, pretraining.NOISE)
    found = pretraining.judge("principal components", data, 0)
    for kind in ("probe", "finetune"):
        for count, row in expected[kind].items():
            assert near(found[kind][int(count)], row["values"][0], len(data["test"])), (kind, count)


@weekly
def test_row_of_augmentation(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import augmentation

    saved: dict[str, Any] = {}
    monkeypatch.setattr(augmentation, "begin", lambda name: None)
    monkeypatch.setattr(augmentation, "measure", once)
    monkeypatch.setattr(augmentation, "save", lambda name, results, peers: saved.update(results))
    augmentation.main()
    for name, row in load("augmentation")["rounds"].items():
        for kind in ("difference", "difference_in_bytes"):
            assert abs(saved["rounds"][name][kind] - row[kind]) < 1e-6, (name, kind)


@weekly
def test_row_of_seq2seq() -> None:
    from benchmarks import seq2seq

    expected = load("seq2seq")["pinyin, gru"]
    found = seq2seq.run("pinyin", "gru", "additive", 1.0, 0)
    for name, value in found.items():
        assert near(value, expected[name]["values"][0], seq2seq.SIZES["test"], slack=4), name


@weekly
def test_row_of_contrastive() -> None:
    import mmlearn
    from benchmarks import contrastive
    from mmlearn.encoders import VideoEncoder

    expected = load("contrastive")["runs"]["from scratch"]
    data, _ = contrastive.load()
    mmlearn.seed_everything(0)
    found = contrastive.few(data, VideoEncoder(), 0, is_new=True)
    for name, value in found.items():
        assert near(value, expected[name]["values"][0], contrastive.SIZES["test"], slack=4), name


@weekly
def test_row_of_denoising() -> None:
    from benchmarks import denoising

    data = denoising.load("as it is")
    found = denoising.accuracy(denoising.train(data, 0), data["test"])
    assert near(found, load("denoising")["no noise"]["values"][0], len(data["test"]), slack=4)


@weekly
def test_row_of_first_model(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import first_model

    monkeypatch.setattr(first_model, "NAMES", ["text"])
    data, vocabulary = first_model.load("redundant", first_model.NOISE)
    alone = first_model.train_alone(data, len(vocabulary), 0)
    found = first_model.accuracy(alone["text"], data["test"], "number")
    assert near(found, load("first_model")["numbers"]["text"]["values"][0], len(data["test"]), slack=4)


@weekly
def test_row_of_voices() -> None:
    from benchmarks import voices

    expected = load("voices")["ladder"]["3 → 5"]["as it is"]
    for name, value in voices.climb("3 → 5", "as it is", 0).items():
        assert near(value, expected[name]["values"][0], voices.SIZES["test"], slack=20), name  # at chance, all is edge


@weekly
def test_row_of_masked() -> None:
    from benchmarks import masked

    data, _ = masked.load()
    for name, value in masked.untrained("audio", data, 0).items():
        expected = load("masked")["audio"]["untrained"][name]["values"][0]
        assert near(value, expected, masked.CLIPS["test"]), name


# On real faces


@pytest.mark.network
@needs_grid
def test_row_of_faces() -> None:
    from benchmarks import faces

    path = faces.clips_of(str(GRID))[0]
    found, expected = faces.mouth(path), load("faces")["clips"][path.stem]
    assert (found["found"], found["inside"]) == (expected["found"], expected["inside"])
    for name in ("center", "off"):
        assert found[name] == pytest.approx(expected[name], abs=0.01), name


@weekly
@needs_grid
def test_row_of_grid() -> None:
    from benchmarks import grid

    clips = grid.load(str(GRID))
    for label, row in load("grid")["linear"].items():
        found = grid.baseline(clips["train"] + clips["valid"], clips["test"], label)
        assert all(near(found[name], value, len(clips["test"])) for name, value in row.items()), label


@weekly
@needs_grid
def test_row_of_grid_timing() -> None:
    from benchmarks import grid_timing

    clips = grid_timing.load(str(GRID))
    data = {split: grid_timing.prepare(part) for split, part in clips.items()}
    found, expected = grid_timing.ridge(clips, data), load("grid_timing")["ridge_r2"]
    for target, row in expected.items():
        assert all(abs(found[target][name] - value) < 2e-3 for name, value in row.items()), target


@weekly
@needs_grid
def test_row_of_offset() -> None:
    from benchmarks import offset
    from mmlearn.datasets import HanziClips
    from mmlearn.preprocessing.video.alignment import estimate_offset

    clips = HanziClips(200, split="train")
    found = 1000 * estimate_offset([clips.clip(i, image_size=48) for i in range(200)])[0]
    assert load("offset")["seeds"] == offset.SEEDS and abs(found - load("offset")["hanzi"]["bias_ms"]) < 0.01


@weekly
@needs_grid
def test_row_of_speech_epochs() -> None:
    from benchmarks import speech_epochs, speech_grid

    parts = speech_grid.load(str(GRID))
    parts["train"].labels["clip"] = torch.arange(len(parts["train"]))
    expected = load("speech_epochs")["choices"]["fewer"]
    found = speech_epochs.train(parts, expected["epochs"], seed=0)
    assert near(found["error_rate"], expected["error_rate"]["values"][0], 2 * 80 * 6, slack=10)
