"""mmlearn.large.pretrained.spectrogram: shorter sounds."""

import torch
from torch import nn

from mmlearn.large.pretrained import load_pretrained
from tests.large.pretrained.conftest import make


def test_shorter_sound(tmp_path):
    """Fewer steps, or padding: what transformers gives when it attends only to patches with something real in them."""
    model = make("ast")
    model.save_pretrained(tmp_path)
    encoder = load_pretrained(tmp_path)
    for length in (1, 7, 33, 49, 50, 60):
        x = torch.randn(2, 24, length, generator=torch.Generator().manual_seed(length))
        full = nn.functional.pad(x, (0, 60 - length))
        starts = 5 * torch.arange(11)
        real = torch.cat([torch.ones(2, dtype=torch.bool), (starts < length).repeat(3)])
        with torch.no_grad():
            theirs = model(full.transpose(1, 2), attention_mask=real.expand(2, -1).long())
            torch.testing.assert_close(encoder.steps(x)[0], theirs.last_hidden_state[:, real], atol=1e-5, rtol=1e-5)
        full[:, :, length:] = torch.nan
        full.requires_grad_(True)
        steps, found = encoder.steps(full, (torch.arange(60) < length).expand(2, -1))
        assert found.equal(real.expand(2, -1))
        torch.testing.assert_close(steps[found], theirs.last_hidden_state[:, real].flatten(0, 1), atol=1e-5, rtol=1e-5)
        steps[found].sum().backward()
        assert full.grad[:, :, length:].eq(0).all()
        assert full.grad.isfinite().all()
