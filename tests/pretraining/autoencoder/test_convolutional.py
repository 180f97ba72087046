"""Convolutional encoder and decoder: shapes, padding, and a signal that keeps its size."""

import math

import pytest
import torch

from mmlearn.pretraining import ConvDecoder, ConvEncoder


@pytest.mark.parametrize("shape", [(3, 16, 24), (1, 32, 32), (40, 16)])
def test_the_decoder_gives_what_the_encoder_takes(shape: tuple[int, ...]) -> None:
    encoder, decoder = ConvEncoder(shape, 5, width=4), ConvDecoder(5, shape, width=4)
    code = encoder(torch.rand(2, *shape))
    assert code.shape == (2, 5)
    assert decoder(code).shape == (2, *shape)


@pytest.mark.parametrize("build", [lambda shape: ConvEncoder(shape, 4), lambda shape: ConvDecoder(4, shape)])
@pytest.mark.parametrize("shape", [(3, 12, 16), (16, 20), (16,), (1, 1, 16, 16)])
def test_other_shapes_are_refused(build, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="sides multiples of 8"):
        build(shape)


def test_padding_counts_as_zero() -> None:
    torch.manual_seed(0)
    encoder, mask = ConvEncoder((8, 16), 4, width=4), torch.arange(16) < torch.tensor([[16], [9]])
    x = torch.rand(2, 8, 16)
    zeros, noise = x.clone(), x.clone()
    zeros[1, :, 9:], noise[1, :, 9:] = 0, math.nan
    assert torch.equal(encoder(noise, mask), encoder(zeros))


def test_samples_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    encoder, decoder = ConvEncoder((1, 16, 16), 4), ConvDecoder(4, (1, 16, 16))
    x = torch.rand(3, 1, 16, 16)
    torch.testing.assert_close(decoder(encoder(x))[1:2], decoder(encoder(x[1:2])))


def test_a_signal_keeps_its_size_through_the_decoder() -> None:
    torch.manual_seed(0)
    decoded = ConvDecoder(64, (1, 32, 32), width=32)(torch.randn(200, 64))
    assert 0.2 < decoded.std(dim=0).mean() < 5  # with PyTorch's own weights: 0.02
