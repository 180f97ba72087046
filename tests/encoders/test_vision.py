"""Encoders on the Transformer: padding, absent samples, sizes, compilers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mmlearn.encoders import AudioTransformer, ImageTransformer, TextTransformer, VideoTransformer
from mmlearn.nn import PositionwisePool

SMALL = {"dim": 16, "depth": 2, "num_heads": 2}


def encoders() -> dict[str, tuple[nn.Module, Tensor]]:
    """One of each, with an input."""
    torch.manual_seed(0)
    return {
        "video": (VideoTransformer((4, 8, 8), (2, 4, 4), SMALL), torch.rand(2, 3, 4, 8, 8)),
        "image": (ImageTransformer((8, 8), (4, 4), SMALL), torch.rand(2, 3, 8, 8)),
        "audio": (AudioTransformer(6, (4, 3), size=SMALL), torch.randn(2, 6, 12)),
        "text": (TextTransformer(9, size=SMALL), torch.randint(1, 9, (2, 5))),
        "rope": (TextTransformer(9, size=SMALL, positions="rope", causal=True), torch.randint(1, 9, (2, 5))),
    }


@pytest.mark.parametrize("name", ["video", "image", "audio", "text", "rope"])
def test_contract(name: str) -> None:
    encoder, x = encoders()[name]
    assert encoder.dim == 16
    features, mask = encoder.steps(x)
    assert mask is None
    assert features.ndim == 3 and features.shape[::2] == (2, 16)
    output = encoder(x)
    assert torch.allclose(output, encoder.pool(features), atol=1e-6)
    assert torch.allclose(encoder(x[1:]), output[1:], atol=1e-5)  # samples do not see one another
    output.sum().backward()
    unused = [n for n, p in encoder.named_parameters() if p.grad is None]
    assert not unused
    torch._dynamo.reset()
    compiled = torch.compile(encoder, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(x), output, atol=1e-5)
    exported = torch.export.export(encoder.eval(), (x,)).module()
    assert torch.allclose(exported(x), output, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.allclose(encoder(x).float(), output, atol=0.1)


@given(st.integers(1, 20), st.integers(0, 9))
@settings(max_examples=20)
def test_audio_padding_changes_nothing(length: int, padding: int) -> None:
    encoder = encoders()["audio"][0]
    mel = torch.randn(1, 6, length)
    padded = torch.cat([mel, torch.full((1, 6, padding), torch.nan)], dim=-1)
    mask = torch.arange(length + padding)[None] < length
    assert torch.allclose(encoder(padded, mask), encoder(mel), atol=1e-5)
    steps, real = encoder.steps(padded, mask)
    assert steps.shape[1] == 2 * -(-(length + padding) // 4)
    assert real.sum() == 2 * -(-length // 4)


@given(st.integers(1, 6), st.integers(0, 5), st.booleans())
@settings(max_examples=20)
def test_text_padding_changes_nothing(length: int, padding: int, rope: bool) -> None:
    encoder = encoders()["rope" if rope else "text"][0]
    ids = torch.randint(1, 9, (1, length))
    mask = torch.arange(length + padding)[None] < length
    padded = nn.functional.pad(ids, (0, padding), value=7)
    assert torch.allclose(encoder(padded, mask), encoder(ids), atol=1e-5)


@given(st.integers(1, 3), st.integers(0, 2))
@settings(max_examples=10)
def test_video_padding_changes_nothing(tubelets: int, padding: int) -> None:
    encoder = encoders()["video"][0]
    video = torch.rand(1, 3, 2 * tubelets, 8, 8)
    padded = torch.cat([video, torch.full((1, 3, 2 * padding, 8, 8), torch.nan)], dim=2)
    mask = torch.arange(2 * (tubelets + padding))[None] < 2 * tubelets
    assert torch.allclose(encoder(padded, mask), encoder(video), atol=1e-5)
    _, real = encoder.steps(padded, mask)
    assert real.tolist() == [[True] * 4 * tubelets + [False] * 4 * padding]


def test_absent_samples_stay_finite_and_change_nothing() -> None:
    for name, (encoder, x) in encoders().items():
        if name == "image":
            continue
        steps = x.shape[2] if x.ndim > 2 else x.shape[1]
        mask = torch.tensor([[True], [False]]).expand(2, steps)
        spoilt = x.clone()
        spoilt[1] = torch.nan if x.is_floating_point() else 8
        output = encoder(spoilt, mask)
        assert output.isfinite().all()
        assert torch.allclose(output[:1], encoder(x[:1]), atol=1e-5)
        output.sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())


def test_bytes_are_like_floats() -> None:
    for name, shape in {"video": (2, 3, 4, 8, 8), "image": (2, 3, 8, 8)}.items():
        encoder = encoders()[name][0]
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8)
        assert torch.allclose(
            encoder(pixels), encoder(pixels.float() / 255), atol=0.05
        )  # but for the 1e-3 in standardize


class Passed(nn.Module):
    """Stands in for the Transformer: steps come out as they came in."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return x


def test_steps_of_video_and_audio_follow_time() -> None:
    """What happens late stands in late steps; all that is still has equal steps, where no place is added."""
    video = VideoTransformer((6, 8, 8), (2, 4, 4), SMALL, positions="none")
    audio = AudioTransformer(6, (4, 3), size=SMALL, positions="none")
    for encoder, x, late in ((video, torch.zeros(1, 3, 6, 8, 8), 4), (audio, torch.zeros(1, 6, 12), 2)):
        x.narrow(2, x.shape[2] - 1, 1).normal_()  # the last frame, or step of time
        encoder.transformer = Passed()
        steps = encoder.steps(x)[0][0]  # (N, dim)
        assert torch.allclose(steps[:-late], steps[:1].expand_as(steps[:-late]), atol=1e-6)
        assert (steps[-late:] - steps[0]).abs().amax(dim=1).min() > 0.1


def test_a_pool_of_ones_own_and_lengths() -> None:
    encoder = VideoTransformer((4, 8, 8), (2, 4, 4), SMALL, pool=PositionwisePool(16, steps=8, width=4))
    assert encoder(torch.rand(2, 3, 4, 8, 8)).shape == (2, 16)
    assert AudioTransformer(6, (4, 3), 10, SMALL, positions="learned")(torch.randn(1, 6, 12)).shape == (1, 16)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_base_is_as_large_as_vit_base() -> None:
    """Dosovitskiy et al. 2021, table 1: 86 M."""
    with torch.device("meta"):
        assert abs(count(ImageTransformer((224, 224), size="base")) / 86e6 - 1) < 0.01
        block = VideoTransformer((16, 224, 224), (2, 16, 16), "base").transformer.blocks[0]
    assert count(block) == 12 * 768**2 + 13 * 768  # 4 D² + 8 D² of weights; 4 D + 5 D of biases; 4 D of norms


def test_errors_name_what_was_found() -> None:
    with pytest.raises(ValueError, match=r"size is 'huge'; expected one of \['base', 'small', 'tiny'\]"):
        ImageTransformer(size="huge")
    with pytest.raises(ValueError, match=r"size lacks \['num_heads'\]"):
        ImageTransformer(size={"dim": 8, "depth": 1})
    with pytest.raises(ValueError, match="takes no mask"):
        ImageTransformer()(torch.zeros(1, 3, 48, 48), torch.ones(1, 9, dtype=torch.bool))
    with pytest.raises(ValueError, match="mel has 5 bands; expected 64"):
        AudioTransformer()(torch.zeros(1, 5, 16))
