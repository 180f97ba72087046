"""Labels of clips become tensors, or are refused by clip, label and type; what is missing never counts."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mmlearn import Batch, Clip, collate
from mmlearn.finetuning import (
    CTC,
    Classification,
    FrameWise,
    MultiLabel,
    Regression,
    Scaling,
    Seq2Seq,
    balanced_weights,
    few_shot_subset,
    fit_temperature,
    linear_probe,
    reliability,
)
from mmlearn.pretraining import Contrastive, ContrastiveLoss
from tests.conftest import GONE, NAN


def make(*values: Any, name: str = "y", **settings: Any) -> Batch:
    """A batch of clips with these labels; GONE stands for a clip without."""
    clips = [Clip({"x": np.ones(3, np.float32)}, labels={} if value is GONE else {name: value}, name=f"clip-{k}")
             for k, value in enumerate(values)]  # fmt: skip
    return collate(clips, {"x": torch.from_numpy}, **settings)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1, GONE, 2), [1, -100, 2]),
        ((True, GONE, False), [1, -100, 0]),
        ((np.bool_(True), np.int32(2), torch.tensor(3)), [1, 2, 3]),
        ((np.array(3), np.uint8(200), GONE), [3, 200, -100]),
        ((1, NAN, 2), [1, -100, 2]),  # a NaN among classes is a missing class
        ((0.5, GONE, 2), [0.5, NAN, 2.0]),
        ((np.float64(0.5), np.float16(2), Fraction(1, 4)), [0.5, 2.0, 0.25]),
        ((torch.tensor(1.5, dtype=torch.bfloat16), GONE), [1.5, NAN]),
        (([1, 2], GONE, [3]), [[1, 2], [-100, -100], [3, -100]]),
        (((1.0, 2.0), np.array([3.0, 4.0])), [[1.0, 2.0], [3.0, 4.0]]),
        ((torch.tensor([True, False]), GONE), [[1, 0], [-100, -100]]),
        (([], [5, 6]), [[-100, -100], [5, 6]]),
        ((range(2), []), [[0, 1], [-100, -100]]),
        ((np.ones((2, 1)), GONE), [[[1.0], [1.0]], [[NAN], [NAN]]]),
    ],
)
def test_what_becomes_a_tensor(values: tuple, expected: list) -> None:
    batch = make(*values)
    wanted = torch.tensor(expected)
    assert batch.labels["y"].dtype == wanted.dtype and wanted.dtype in (torch.int64, torch.float32)
    assert torch.equal(batch.labels["y"].nan_to_num(-7), wanted.nan_to_num(-7))
    there = [value is not GONE and not (isinstance(value, float) and value != value) for value in values]
    assert batch.labelled["y"].tolist() == there
    if wanted.ndim == 2:
        lengths = [0 if value is GONE else len(value) for value in values]
        assert batch.mask["y"].sum(dim=1).tolist() == lengths
    else:
        assert "y" not in batch.mask


@pytest.mark.parametrize(
    ("value", "kind"),
    [(None, "NoneType"), ({1}, "set"), ({"a": 1}, "dict"), ([[1, 2], [3]], "list"), (1j, "complex"), (2**70, "int"),
     ([1, None], "list"), (object, "type"), (np.datetime64("2026-01-01"), "datetime64"), ([1, "a"], "list")],
)  # fmt: skip
def test_what_does_not_is_refused_by_name(value: Any, kind: str) -> None:
    with pytest.raises(ValueError, match=rf"clip-1: label 'y' is a {kind}, .*expected a number, or a list or an array"):
        make(1, value)
    with pytest.raises(ValueError, match=rf"clip-0: label 'y' is a {kind}"):
        make(value, value)
    assert "y" not in make(value, value, labels=[]).labels  # the way out


def test_words_are_refused_by_whoever_asks_for_them() -> None:
    batch = make("cat", "dog", GONE)
    assert batch.labels == {}
    for task in (Classification("y", 2), MultiLabel("y", 2), Regression("y"), CTC("y"), FrameWise("y"),
                 Contrastive(ContrastiveLoss(), "y")):  # fmt: skip
        with pytest.raises(ValueError, match=r"no label 'y' \(clip-0: label 'y' is a str, 'cat', which no tensor"):
            task.loss({} if isinstance(task, Contrastive) else torch.zeros(3, 2, 2), batch)
    with pytest.raises(ValueError, match="clip-1: label 'y' is a str, 'dog'"):
        make(0, "dog")
    with pytest.raises(ValueError, match="clip-0: label 'y' is a str, 'cat'"):
        make("cat", "dog", labels=["y"])
    assert "['a', 'b']" in make(["a", "b"]).left_out["y"]
    with pytest.raises(ValueError, match=r"no label 'z'; it has \['y'\]"):
        make(0).label("z")
    with pytest.raises(ValueError, match=r"no label 'z' \(none of its clips has it\); it has \['y'\]"):
        make(0, labels=["y", "z"]).label("z")


def test_shapes_that_do_not_fit_name_both_clips() -> None:
    with pytest.raises(ValueError, match=r"clip-1: label 'y' has shape \(1,\), that of clip-0 has \(\); expected one"):
        make(1, [1])
    with pytest.raises(ValueError, match=r"clip-1: label 'y' has shape \(2, 3\), that of clip-0 has \(2, 2\)"):
        make(np.ones((2, 2)), np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"\['x'\] are streams, and labels that are lists"):
        make([1, 2], name="x")


def test_a_batch_without_any_keeps_its_kind() -> None:
    assert make(GONE, GONE, labels={"y": 3}).labels["y"].tolist() == [-100, -100]
    assert make(GONE, GONE, labels={"y": [0, 1, 0]}).labels["y"].shape == (2, 3)
    assert make(1, 2, like_labels={"y": torch.tensor(0.5)}).labels["y"].dtype == torch.float32
    assert make(GONE, like_labels={"y": torch.tensor(0.5)}).labels["y"].isnan().all()
    with pytest.raises(ValueError, match=r"labels=\{'y': …\}: label 'y' is a str"):
        make(1, labels={"y": "x"})


def test_batches_keep_who_is_labelled() -> None:
    batch = make(1, GONE, [2][0], GONE)
    assert batch[[1, 2]].labelled["y"].tolist() == [False, True]
    assert batch[2:].labelled["y"].tolist() == [True, False]
    assert batch[torch.tensor([True, True, False, False])].labelled["y"].tolist() == [True, False]
    assert batch.to("meta").labelled["y"].device.type == "meta"
    words = make("a", 1j if False else "b")
    assert words[:1].left_out == words.to("cpu").left_out == words.left_out != {}
    two = collate([Clip({"x": np.ones(3, np.float32), "z": np.ones(2, np.float32)}, labels={"y": 1}),
                   Clip({"x": np.ones(3, np.float32)})], dict.fromkeys("xz", torch.from_numpy))  # fmt: skip
    assert two.only("x").labelled["y"].tolist() == two.without("z").labelled["y"].tolist() == [True, False]
    assert [sorted(sample) for sample in two.split()] == [["x", "z"], ["x"]]
    values, labelled = Batch({}, {"x": torch.ones(2, dtype=torch.bool)}, {}, {"y": torch.zeros(2)}).label("y")
    assert labelled.all() and len(values) == 2


# --- objectives: a batch with missing labels is the batch of the others


def tokens(*rows: Any) -> Batch:
    return make(*rows, name="tokens")


def frames(*rows: Any) -> Batch:
    return make(*rows, name="frames")


DICE = torch.Generator().manual_seed(0)
LOG = torch.randn(4, 6, 5, generator=DICE).log_softmax(2)
TASKS: dict[str, tuple[Any, Tensor, Batch]] = {
    "classification": (Classification("y", 3), LOG[:, 0, :3], make(2, GONE, 0, GONE)),
    "smoothed, weighted": (
        Classification("y", 3, label_smoothing=0.1, class_weights=[1.0, 0.0, 3.0]),
        LOG[:, 0, :3], make(2, GONE, 0, GONE)),
    "many labels": (MultiLabel("y", 3), LOG[:, 0, :3], make([0, 1, 1], GONE, (1.0, 0.0, 0.0), GONE)),
    "regression": (Regression("y"), LOG[:, 0, :1], make(0.5, GONE, 2, GONE)),
    "regression, whole": (Regression("y", "mae"), LOG[:, 0, :1], make(3, GONE, -100, GONE)),
    "ctc": (CTC(), LOG, tokens([1, 2], GONE, [], GONE)),
    "frames": (FrameWise(), LOG, frames([0, 1, 2, 3, 4, 0], GONE, [1] * 6, GONE)),
}  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_missing_labels_never_count(name: str) -> None:
    task, output, batch = TASKS[name]
    known = [0, 2]

    def run(rows: Any) -> tuple[Tensor, Tensor]:
        given = output.clone().requires_grad_()
        loss = task.loss(given[rows], batch[rows])
        loss.backward()
        assert given.grad is not None
        return loss.detach(), given.grad

    loss, grad = run([0, 1, 2, 3])
    assert loss.isfinite() and grad[known].any() and not grad[[1, 3]].any()
    for wanted, found in zip(run(known), (loss, grad), strict=True):
        torch.testing.assert_close(found, wanted)
    nothing, none = run([1, 3])
    assert nothing == 0 and not none.any()  # neither NaN nor a batch that is dropped
    for key, metric in task.metrics().items():
        few = type(task).metrics(task)[key]
        metric.update(output[:2], task.target(batch[:2]))
        metric.update(output[[3]], task.target(batch[[3]]))  # a batch without any
        metric.update(output[2:], task.target(batch[2:]))
        few.update(output[known], task.target(batch[known]))
        torch.testing.assert_close(metric.compute(), few.compute(), equal_nan=True)


def test_complete_labels_give_the_losses_of_before() -> None:
    """Bit for bit: what torch's own losses give."""
    logits, y = torch.randn(64, 7, generator=DICE), torch.randint(7, (64,), generator=DICE)
    many = (torch.rand(64, 7, generator=DICE) < 0.3).long()
    weights = torch.rand(7, generator=DICE) + 0.1
    batch = Batch({}, {"x": torch.ones(64, dtype=torch.bool)}, {}, {"y": y, "many": many})
    functional = torch.nn.functional
    for task, plain in (
        (Classification("y", 7), lambda z: functional.cross_entropy(z, y)),
        (Classification("y", 7, label_smoothing=0.1, class_weights=weights),
         lambda z: functional.cross_entropy(z, y, weights, label_smoothing=0.1)),
        (MultiLabel("many", 7), lambda z: functional.binary_cross_entropy_with_logits(z, many.float())),
        (MultiLabel("many", 7, positive_weights=weights),
         lambda z: functional.binary_cross_entropy_with_logits(z, many.float(), pos_weight=weights)),
    ):  # fmt: skip
        ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
        a, b = task.loss(ours, batch), plain(theirs)
        a.backward()
        b.backward()
        assert torch.equal(a, b) and torch.equal(ours.grad, theirs.grad)  # type: ignore[arg-type]


def test_frames_may_end_where_padding_begins() -> None:
    output = LOG.clone()
    output[:3, 4:] = -1e4
    output[:3, 4:, 0] = 0.0  # as `SpeechRecognizer` marks padding; the last sample is longer, and has no label
    short = frames([0, 1, 2, 3], [1] * 4, [2, 2], GONE)
    expected = FrameWise().loss(LOG[:3, :4], short[:3])
    torch.testing.assert_close(FrameWise().loss(output, short), expected)
    with pytest.raises(ValueError, match=r"label 'frames' is \(4, 4\); expected \(4, 6\)"):
        FrameWise().loss(LOG, short)


def test_contrastive_looks_past_clips_without_the_label() -> None:
    criterion = ContrastiveLoss()
    task = Contrastive(criterion, "y")
    batch = make(0, GONE, 0, 1, GONE)
    batch.present["z"] = batch.present["x"]
    output = {name: torch.randn(5, 4, generator=DICE) for name in "xz"}
    some = {name: x[[0, 2, 3]] for name, x in output.items()}
    torch.testing.assert_close(task.loss(output, batch), task.loss(some, batch[[0, 2, 3]]))
    every, few = task.metrics()["recall"], task.metrics()["recall"]
    every.update(output, task.target(batch))
    few.update(some, task.target(batch[[0, 2, 3]]))
    assert every.compute() == few.compute()
    assert task.loss(output, batch[[1, 4, 1, 4, 1]]) == 0
    with pytest.raises(ValueError, match=r"label 'y' is torch\.float32 \(2,\); expected whole numbers"):
        task.loss(output, make(0.5, 1.5))


def test_a_sequence_that_is_missing_is_not_learned_from() -> None:
    def written(*texts: str | None) -> Batch:
        clips = [Clip({"x": np.ones(3, np.float32)} | ({} if text is None else {"target": text})) for text in texts]
        ids = {"x": torch.from_numpy, "target": lambda text: torch.tensor([ord(c) - 96 for c in text])}
        return collate(clips, ids, like={"target": torch.tensor([1])})

    task, logits = Seq2Seq(5), torch.randn(3, 5, 2, generator=DICE)
    batch = written("abc", None, "ab")
    torch.testing.assert_close(task.loss(logits, batch), task.loss(logits[[0, 2]], batch[[0, 2]]))
    empty = written(None, None)
    output = torch.randn(2, 5, 1, generator=DICE, requires_grad=True)
    loss = task.loss(output, empty)
    loss.backward()
    assert loss == 0 and not output.grad.any()  # type: ignore[union-attr]
    right = torch.nn.functional.one_hot(task.target(batch).clamp(min=0), 5).transpose(1, 2).float()
    right[0] = -right[0]  # one of the two is wrong; the missing one is neither
    metric = task.metrics()["exact_match"]
    metric.update(right, task.target(batch))
    metric.update(output, task.target(empty))
    assert metric.compute() == 0.5


def test_whatever_takes_labels_leaves_missing_ones_out() -> None:
    y = torch.tensor([0, 1, -100, 0, 1, 0, 1, -100])
    x = torch.randn(8, 2, generator=DICE) + 5 * y.clamp(min=0)[:, None]
    assert torch.equal(balanced_weights(y, 2), torch.ones(2))
    assert sorted(y[few_shot_subset(y, 2)].tolist()) == [0, 0, 1, 1]
    known = y != -100
    assert linear_probe(x, y, x, y) == linear_probe(x[known], y[known], x[known], y[known])
    with pytest.raises(ValueError, match="test_y has no class that is known"):
        linear_probe(x, y, x, torch.full((8,), -100))
    shares = torch.tensor([[0.9, 0.1]]).expand(8, 2)
    assert reliability(shares, y).samples.sum() == 6
    logits = torch.tensor([[2.0, 0.0]]).expand(8, 2).clone()
    logits[1] = torch.tensor([0.0, 1.0])
    assert fit_temperature(logits, y) == pytest.approx(fit_temperature(logits[known], y[known]))
    with pytest.raises(ValueError, match="N ≥ 1 of which are known"):
        reliability(shares, torch.full((8,), -100))
    batch = make(1, GONE, 3, GONE)
    assert Scaling.fit(*batch.label("y")) == Scaling.fit(batch.labels["y"]) == Scaling(2.0, 1.0)
    assert Scaling.fit(torch.tensor([-100, 100]), torch.tensor([True, True])).mean == 0


def test_wrong_labels_are_named() -> None:
    with pytest.raises(ValueError, match=r"label 'y' runs from 0 to 3; expected 0 to 2"):
        Classification("y", 3).target(make(0, GONE, 3))
    with pytest.raises(ValueError, match=r"label 'y' runs from -1 to 1"):
        Classification("y", 3).target(make(-1, 1))
    with pytest.raises(ValueError, match=r"torch\.int64 \(2, 2\); expected class indices"):
        Classification("y", 3).target(make([0, 1], [1, 0]))
    with pytest.raises(ValueError, match=r"label 'y' is \(2, 2\); expected \(B, 3\)"):
        MultiLabel("y", 3).target(make([0, 1], [1, 0]))
    with pytest.raises(ValueError, match=r"label 'y' holds \[0, 2\]"):
        MultiLabel("y", 2).target(make([0, 2], GONE))
    with pytest.raises(ValueError, match=r"label 'frames' is \(2, 3\); expected \(2, 6\)"):
        FrameWise().loss(LOG[:2], frames([1, 2, 3], [1, 2, 3]))
    with pytest.raises(ValueError, match=r"expected whole numbers \(B, L\)"):
        CTC("y").target(make(1, 2))


# --- loaders
