"""The whole model: the missing-value law, independence of samples, torch.compile."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from mmlearn import Batch, MultimodalModel
from mmlearn.encoders import AudioEncoder, TextEncoder, VideoEncoder
from mmlearn.fusion import BottleneckFusion, ConcatFusion
from mmlearn.missing import zero_missing


def make_model() -> MultimodalModel:
    torch.manual_seed(0)
    encoders = {
        "video": VideoEncoder(size=(16, 16), dim=8, width=4),
        "audio": AudioEncoder(num_mels=6, dim=10, width=4),
        "text": TextEncoder(20, dim=12),
    }
    fusion = ConcatFusion({"video": 8, "audio": 10, "text": 12}, dim=16)
    return MultimodalModel(encoders, fusion, nn.Linear(16, 3)).eval()


def make_model_of_steps() -> MultimodalModel:
    model = make_model()
    dims = {"video": 8, "audio": 10, "text": 12}
    return MultimodalModel(model.encoders, BottleneckFusion(dims, dim=16), nn.Linear(16, 3)).eval()


both = pytest.mark.parametrize("make", [make_model, make_model_of_steps])


def make_batch(size: int = 4) -> Batch:
    torch.manual_seed(1)
    data = {
        "video": torch.rand(size, 3, 8, 16, 16),
        "audio": torch.randn(size, 6, 20),
        "text": torch.randint(1, 20, (size, 7)),
    }
    present = {name: torch.ones(size, dtype=torch.bool) for name in data}
    mask = {"audio": torch.ones(size, 20, dtype=torch.bool), "text": torch.ones(size, 7, dtype=torch.bool)}
    return Batch(data, present, mask)


@pytest.mark.parametrize("name", ["video", "audio"])
@pytest.mark.parametrize("junk", [float("nan"), float("inf"), 1e30, 0.0])
@both
def test_what_stands_in_an_absent_modality_changes_nothing(
    make: Callable[[], MultimodalModel], name: str, junk: float
) -> None:
    model, batch = make(), make_batch()
    batch.present[name][1] = False

    def run() -> tuple[torch.Tensor, list[torch.Tensor]]:
        batch.data[name].requires_grad_()
        output = model(batch)
        leaves = [batch.data[name], *(p for n, p in model.named_parameters() if ".pool." not in n)]
        return output, torch.autograd.grad(output.square().sum(), leaves)

    output, gradients = run()
    batch.data[name] = batch.data[name].detach().clone()
    batch.data[name][1] = junk
    spoilt, spoilt_gradients = run()
    assert torch.equal(output, spoilt)
    for gradient, other in zip(gradients, spoilt_gradients, strict=True):
        assert torch.equal(gradient, other)
    assert not spoilt_gradients[0][1].any()  # nothing flows into what is absent
    assert spoilt_gradients[0][0].any()  # but it does into what is there


@both
def test_each_modality_matters_and_samples_are_independent(make: Callable[[], MultimodalModel]) -> None:
    model, batch = make(), make_batch()
    whole = model(batch)
    for name in batch.data:
        assert not torch.allclose(model(batch.without(name)), whole)
    assert torch.allclose(model(batch[2:3]), whole[2:3], atol=1e-6)


@both
def test_compiled_equals_eager(make: Callable[[], MultimodalModel]) -> None:
    model, batch = make(), make_batch()
    batch.present["audio"][1] = False
    output = torch.compile(model, fullgraph=True, backend="aot_eager")(batch)
    assert torch.allclose(output, model(batch), atol=1e-6)


def test_padding_of_steps_changes_nothing() -> None:
    model, batch = make_model_of_steps(), make_batch()
    for name in ("audio", "text"):
        batch.mask[name][:, 5:] = False
    output = model(batch)
    batch.data["audio"][:, :, 5:] = 7.0
    batch.data["text"][:, 5:] = 3
    assert torch.allclose(model(batch), output, atol=1e-6)


def test_all_parameters_learn() -> None:
    model, batch = make_model(), make_batch()
    for row, name in enumerate(batch.present):
        batch.present[name][row] = False
    model(batch).square().sum().backward()
    without = [
        name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    assert without == []


def test_a_model_says_what_it_lacks() -> None:
    model, batch = make_model(), make_batch()
    del batch.data["audio"]
    with pytest.raises(ValueError, match="the batch has no 'audio'"):
        model(batch)
    batch = make_batch()
    for name in batch.present:
        batch.present[name][3] = False
    with pytest.raises(ValueError, match="sample 3 has none of the modalities"):
        model(batch)


def test_fill_absent_keeps_the_type() -> None:
    for dtype in (torch.uint8, torch.int64, torch.float32, torch.bfloat16):
        filled = zero_missing(torch.ones(2, 3, dtype=dtype), torch.tensor([True, False]))
        assert filled.dtype == dtype
        assert filled.tolist() == [[1, 1, 1], [0, 0, 0]]
