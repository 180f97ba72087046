"""Encoders: shapes, padding, uint8 and float alike, half precision."""

import pytest
import torch

from mmlearn.encoders import AudioEncoder, TextEncoder, VideoEncoder


@pytest.mark.parametrize(("size", "tubelet", "frames"), [((48, 48), 4, 16), ((32, 64), 1, 3), ((16, 16), 2, 75)])
def test_video_shapes_and_bytes_like_floats(size: tuple[int, int], tubelet: int, frames: int) -> None:
    torch.manual_seed(0)
    encoder = VideoEncoder(size, tubelet=tubelet, dim=8, width=4).eval()
    video = torch.randint(0, 256, (2, 3, frames, *size), dtype=torch.uint8)
    output = encoder(video)
    assert output.shape == (2, 8)
    assert torch.allclose(output, encoder(video.float() / 255), atol=0.02)  # but for the floor of the deviation


def test_first_convolution_equals_a_linear_map_of_each_tubelet() -> None:
    """A convolution whose kernel equals its stride is one matrix product a patch (ViViT's tubelet embedding)."""
    encoder = VideoEncoder((16, 16), tubelet=2, width=4)
    first = encoder.convolutions[0]
    video = torch.rand(1, 3, 4, 16, 16)
    patches = video.unfold(2, 2, 2).unfold(3, 4, 4).unfold(4, 4, 4)  # (1, 3, 2, 4, 4, 2, 4, 4)
    patches = patches.permute(0, 2, 3, 4, 1, 5, 6, 7).flatten(4)  # (1, 2, 4, 4, 96)
    linear = patches @ first.weight.flatten(1).T + first.bias
    assert torch.allclose(first(video), linear.permute(0, 4, 1, 2, 3), atol=1e-5)


def test_errors_name_what_was_found() -> None:
    with pytest.raises(ValueError, match=r"size is \(50, 48\)"):
        VideoEncoder((50, 48))
    with pytest.raises(ValueError, match="video has 3 frames"):
        VideoEncoder((16, 16), tubelet=4, width=4)(torch.zeros(1, 3, 3, 16, 16))
    with pytest.raises(ValueError, match="takes no mask"):
        VideoEncoder((16, 16), width=4)(torch.zeros(1, 3, 4, 16, 16), torch.ones(1, 4, dtype=torch.bool))


def test_half_precision_stays_finite() -> None:
    torch.manual_seed(0)
    inputs = {
        VideoEncoder((16, 16), dim=8, width=4): torch.randint(0, 256, (2, 3, 8, 16, 16), dtype=torch.uint8),
        AudioEncoder(5, dim=8, width=4): 50 * torch.randn(2, 5, 20),
        TextEncoder(30, dim=8): torch.randint(0, 30, (2, 9)),
    }
    for encoder, x in inputs.items():
        mask = None if x.ndim == 5 else torch.tensor([[True], [False]]).expand(2, x.shape[-1])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert encoder(x, mask).isfinite().all()
