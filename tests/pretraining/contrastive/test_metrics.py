"""Retrieval by hand, zero-shot classes, alignment and uniformity by their formulas."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from mmlearn.batch import Batch
from mmlearn.pretraining.contrastive.losses import ContrastiveLoss
from mmlearn.pretraining.contrastive.metrics import (
    RetrievalRecall,
    alignment,
    modality_gap,
    ranks,
    recall_at,
    uniformity,
    zero_shot_classifier,
)
from mmlearn.pretraining.contrastive.model import Contrastive, ContrastiveModel
from mmlearn.training import fit


def test_ranks_against_sorting() -> None:
    torch.manual_seed(0)
    queries, candidates = torch.randn(20, 4), torch.randn(30, 4)
    query_ids, candidate_ids = torch.randint(5, (20,)), torch.arange(30) % 5
    found = ranks(queries, candidates, query_ids, candidate_ids)
    for query, wanted, place in zip(queries, query_ids, found, strict=True):
        order = (candidates @ query).argsort(descending=True)
        assert int(place) == 1 + candidate_ids[order].tolist().index(int(wanted))
    assert recall_at(3, found) == pytest.approx(sum(int(place) <= 3 for place in found) / 20)
    assert int(found.median()) == sorted(found.tolist())[9]


def test_the_same_vector_for_all_finds_everything_last() -> None:
    same = torch.ones(7, 3)
    assert ranks(same, same).tolist() == [7] * 7
    assert recall_at(6, ranks(same, same)) == 0
    assert ranks(torch.eye(7), torch.eye(7)).tolist() == [1] * 7


def test_zero_shot_classes_are_means_of_directions() -> None:
    prompts = torch.tensor([[2.0, 0, 0], [0, 0.5, 0], [0, 0, 3]])
    classifier = zero_shot_classifier(prompts, torch.tensor([0, 0, 1]))
    assert torch.allclose(classifier, torch.tensor([[0.5**0.5, 0.5**0.5, 0], [0, 0, 1]]))


def test_alignment_uniformity_and_gap_by_their_formulas() -> None:
    a, b = (normalize(torch.randn(6, 3, dtype=torch.float64), dim=1) for _ in range(2))
    pairs = [sum((x - y) ** 2 for x, y in zip(p.tolist(), q.tolist(), strict=True)) for p, q in zip(a, b, strict=True)]
    assert float(alignment(a, b)) == pytest.approx(sum(pairs) / 6)
    assert float(alignment(a, b, power=1)) == pytest.approx(sum(x**0.5 for x in pairs) / 6)
    apart = [math.exp(-2 * float((a[i] - a[j]).square().sum())) for i in range(6) for j in range(i)]
    assert float(uniformity(a)) == pytest.approx(math.log(sum(apart) / 15))
    assert float(uniformity(a[:1].expand(4, -1))) == pytest.approx(0)
    gap = [sum(a[:, k].tolist()) / 6 - sum(b[:, k].tolist()) / 6 for k in range(3)]
    assert float(modality_gap(a, b)) == pytest.approx(math.sqrt(sum(x**2 for x in gap)))


def test_recall_over_batches_is_over_everything() -> None:
    torch.manual_seed(0)
    features = {name: torch.randn(12, 4) for name in ("video", "audio", "text")}
    present = {name: torch.rand(12) < 0.8 for name in features}
    ids = torch.randint(4, (12,))
    for given in (None, ids):
        metric = RetrievalRecall(k=2)
        for part in (slice(0, 5), slice(5, 12)):
            target = {"present": {name: there[part] for name, there in present.items()}}
            target |= {} if given is None else {"ids": given[part]}
            metric.update({name: x[part] for name, x in features.items()}, target)
        expected = []
        for x in features:
            for y in features:
                if x != y:
                    both = present[x] & present[y]
                    wanted = None if given is None else given[both]
                    expected.append(recall_at(2, ranks(features[x][both], features[y][both], wanted)))
        assert float(metric.compute()) == pytest.approx(sum(expected) / 6)


def test_recall_without_a_common_sample_is_zero() -> None:
    metric = RetrievalRecall()
    present = {"a": torch.tensor([True, False]), "b": torch.tensor([False, True])}
    metric.update({"a": torch.eye(2), "b": torch.eye(2)}, {"present": present})
    assert metric.compute() == 0


def test_errors_name_what_was_found() -> None:
    with pytest.raises(ValueError, match="query 1 has no right candidate"):
        ranks(torch.eye(2), torch.eye(2), torch.tensor([0, 1]), torch.tensor([0, 0]))
    with pytest.raises(ValueError, match=r"candidate_ids is \(2,\); expected \(3,\)"):
        ranks(torch.eye(2, 3), torch.eye(3), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="class 1 has no prompt"):
        zero_shot_classifier(torch.eye(2), torch.tensor([0, 2]))


class Words(nn.Module):
    """Stands for an encoder: a table looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(30, 6)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        return self.table(ids)


def batch(ids: torch.Tensor) -> Batch:
    present = {"a": torch.rand(len(ids)) < 0.9, "b": torch.ones(len(ids), dtype=torch.bool)}
    return Batch({"a": ids, "b": ids.flip(0).flip(0)}, present, labels={"word": ids})


@pytest.mark.parametrize("label", [None, "word"])
def test_fit_learns_which_belong_together(label: str | None) -> None:
    torch.manual_seed(0)
    train = batch(torch.randint(30, (400,)))
    valid = batch(torch.randperm(30) if label is None else torch.randint(30, (60,)))  # without labels, no word twice
    model = ContrastiveModel({"a": Words(), "b": Words()}, {"a": 6, "b": 6}, dim=8)
    before = model.criterion.log_scale.item()
    history = fit(
        model, train, valid, Contrastive(model.criterion, label), epochs=8, lr=0.05, batch_size=50, progress=False
    )
    recall = [row["recall"] for row in history]
    assert max(recall) > 0.95 > 0.5 > recall[0]
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert model.criterion.log_scale.item() != before  # the temperature is learned with the rest
    output = model(valid)
    assert torch.allclose(output["a"].norm(dim=1), torch.ones(len(valid)), atol=1e-5)


def test_what_is_absent_reaches_neither_loss_nor_gradients() -> None:
    torch.manual_seed(0)
    encoders = {name: _Flat(4) for name in ("a", "b")}
    model = ContrastiveModel(encoders, {"a": 6, "b": 6}, criterion=ContrastiveLoss(block_size=2))
    objective = Contrastive(model.criterion)
    x, present = torch.randn(5, 4), {"a": torch.tensor([True, False, True, True, True]), "b": torch.ones(5) > 0}
    seen = []
    for stand_in in (0.0, torch.nan):
        data = {"a": torch.where(present["a"][:, None], x, stand_in), "b": x + 1}
        model.zero_grad()
        loss = objective.loss(model(Batch(data, present)), Batch(data, present))
        loss.backward()
        seen.append([loss.detach(), *(parameter.grad.clone() for parameter in model.parameters())])
    assert all(torch.equal(p, q) for p, q in zip(*seen, strict=True))


class _Flat(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 6)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        return self.linear(x)


def test_objective_and_model_say_what_is_missing() -> None:
    model = ContrastiveModel({"a": Words(), "b": Words()}, {"a": 6, "b": 6})
    with pytest.raises(ValueError, match="the batch has no 'b'; this model reads"):
        model(Batch({"a": torch.ones(2, dtype=torch.int64)}, {"a": torch.ones(2) > 0}))
    with pytest.raises(ValueError, match=r"the batch has no label 'sentence'; it has \['word'\]"):
        Contrastive(model.criterion, "sentence").target(batch(torch.arange(3)))
