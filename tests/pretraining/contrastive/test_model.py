"""mmlearn.pretraining.contrastive.model: embeddings, the learned scale, and the loss over all pairs of modalities."""

import pytest
import torch
from torch.nn.functional import normalize

from mmlearn.pretraining.contrastive.losses import ContrastiveLoss, SigmoidLoss, info_nce, siglip_loss


def test_modalities_meet_pair_by_pair() -> None:
    features = {name: 3 * torch.randn(6, 4) for name in ("video", "audio", "text")}
    present = {name: torch.rand(6) < 0.8 for name in features}
    ids = torch.tensor([0, 1, 2, 0, 1, 3])
    for criterion in (ContrastiveLoss(), ContrastiveLoss(block_size=4), SigmoidLoss()):
        expected = 0.0
        for x, y in (("audio", "text"), ("audio", "video"), ("text", "video")):
            a, b = (normalize(features[name], dim=1) for name in (x, y))
            both = present[x] & present[y]
            if isinstance(criterion, SigmoidLoss):
                expected += siglip_loss(a, b, 10.0, -10.0, present=both, positives=ids) / 3
            else:
                expected += info_nce(a, b, 1 / 0.07, present=both, positives=ids) / 3
        assert torch.allclose(criterion(features, present, ids), expected, atol=1e-5)
        assert torch.equal(criterion(dict(reversed(features.items())), present, ids), criterion(features, present, ids))


def test_the_law_of_absent_modalities_with_three() -> None:
    features = {name: torch.randn(5, 4) for name in ("video", "audio", "text")}
    present = {
        "video": torch.tensor([True, True, True, False, True]),
        "audio": torch.tensor([True, False, True, True, True]),
        "text": torch.ones(5, dtype=torch.bool),
    }
    criterion = ContrastiveLoss()
    losses = []
    for stand_in in (0.0, torch.nan, 1e30):
        spoilt = {n: torch.where(present[n][:, None], x, stand_in).requires_grad_() for n, x in features.items()}
        loss = criterion(spoilt, present)
        criterion.zero_grad()
        loss.backward()
        losses.append((loss.detach(), *(x.grad for x in spoilt.values()), criterion.log_scale.grad.clone()))
        assert all(not x.grad[~present[name]].any() for name, x in spoilt.items())
    for other in losses[1:]:
        assert all(torch.equal(x, y) for x, y in zip(losses[0], other, strict=True))


def test_the_scale_is_learned_and_kept_below_its_largest() -> None:
    criterion = ContrastiveLoss(init_temperature=0.011, max_scale=100)
    assert criterion.scale.item() == pytest.approx(1 / 0.011)
    x = torch.eye(4)
    optimizer = torch.optim.SGD(criterion.parameters(), lr=1e4)
    for _ in range(3):
        optimizer.zero_grad()
        criterion({"a": x, "b": torch.roll(x, 1, 0) + 3 * x}).backward()
        optimizer.step()
    criterion({"a": x, "b": x})
    assert float(criterion.scale.detach()) <= 100.001
    criterion.zero_grad()
    criterion({"a": x, "b": x.flip(0)}).backward()
    assert criterion.log_scale.grad > 0  # it finds its way back
    criterion.eval()
    with torch.no_grad():
        criterion.log_scale.fill_(9.0)
    criterion({"a": x, "b": x})
    assert float(criterion.log_scale.detach()) == 9.0  # evaluation changes nothing


def test_a_scale_driven_beyond_its_largest_is_brought_back() -> None:
    """Partners are nearest to each other, so one step as large as this drives the scale far beyond its largest."""
    torch.manual_seed(0)
    criterion, x = ContrastiveLoss(init_temperature=0.5, max_scale=60), torch.eye(4) + 0.5 * torch.rand(4, 4)
    optimizer = torch.optim.SGD(criterion.parameters(), lr=20.0)
    criterion({"a": x, "b": x}).backward()
    optimizer.step()
    assert float(criterion.scale.detach()) > 600  # so this test can fail
    loss = criterion({"a": x, "b": x})
    unit = x / x.norm(dim=1, keepdim=True)
    assert float(criterion.scale.detach()) == pytest.approx(60)
    assert loss.item() == pytest.approx(info_nce(unit, unit, 60.0).item())
