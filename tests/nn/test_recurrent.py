"""The recurrent encoder against torch's networks, sample by sample without padding."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mmlearn.nn import RecurrentEncoder


@given(
    st.sampled_from(["rnn", "lstm", "gru"]),
    st.integers(1, 2),
    st.booleans(),
    st.lists(st.integers(0, 6), min_size=1, max_size=4),
)
@settings(max_examples=30)
def test_equals_torchs_network_for_each_length(cell: str, depth: int, both: bool, lengths: list[int]) -> None:
    encoder = RecurrentEncoder(num_tokens=9, dim=8, cell=cell, depth=depth, bidirectional=both)
    theirs = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[cell](
        8, 4 if both else 8, depth, batch_first=True, bidirectional=both
    )
    theirs.load_state_dict(encoder.recurrent.state_dict())
    ids = torch.randint(1, 9, (len(lengths), 7))
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    steps, real = encoder.steps(ids, mask)
    assert steps.shape == (len(lengths), 7, 8)
    assert torch.equal(real, mask)
    for row, length in enumerate(lengths):
        expected = theirs(encoder.embed(ids[row : row + 1, :length]))[0][0] if length else torch.zeros(0, 8)
        assert torch.allclose(steps[row, :length], expected, atol=1e-5)
        assert not steps[row, max(length, 1) :].any()
        if length:
            assert torch.allclose(encoder(ids, mask)[row], encoder(ids[row : row + 1, :length])[0], atol=1e-5)


@given(st.integers(1, 9), st.integers(0, 4))
@settings(max_examples=15)
def test_padding_of_sound_changes_nothing(length: int, padding: int) -> None:
    encoder = RecurrentEncoder(num_features=5, dim=8)
    mel = torch.randn(1, 5, length)
    padded = torch.cat([mel, torch.full((1, 5, padding), torch.nan)], dim=-1)
    mask = torch.arange(length + padding)[None] < length
    output = encoder(padded, mask)
    assert torch.allclose(output, encoder(mel), atol=1e-5)
    output.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())


def test_an_absent_sample_stays_finite() -> None:
    encoder = RecurrentEncoder(num_features=5, dim=8)
    mel = torch.randn(2, 5, 4)
    mel[1] = torch.nan
    output = encoder(mel, torch.tensor([[True], [False]]).expand(2, 4))
    assert output.isfinite().all()
    output.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())


def test_dropout_is_for_training_only() -> None:
    encoder, ids = RecurrentEncoder(num_tokens=9, dim=8, depth=2, dropout=0.5), torch.ones(1, 3, dtype=torch.int64)
    assert not torch.equal(encoder(ids), encoder(ids))
    assert torch.equal(encoder.eval()(ids), encoder(ids))


def test_errors_name_what_was_found() -> None:
    with pytest.raises(ValueError, match="num_tokens is None, num_features None"):
        RecurrentEncoder()
    with pytest.raises(ValueError, match="num_tokens is 3, num_features 4"):
        RecurrentEncoder(3, 4)
    with pytest.raises(ValueError, match="cell is 'mlp'"):
        RecurrentEncoder(3, cell="mlp")
    with pytest.raises(ValueError, match="dim is 7"):
        RecurrentEncoder(3, dim=7)
