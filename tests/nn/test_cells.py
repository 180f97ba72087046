"""The three steps against torch's networks, with copied weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mmlearn.nn.cells import Cell

THEIRS = {"rnn": (nn.RNN, nn.RNNCell), "lstm": (nn.LSTM, nn.LSTMCell), "gru": (nn.GRU, nn.GRUCell)}


@given(st.sampled_from(sorted(THEIRS)), st.integers(1, 4), st.integers(1, 5), st.integers(1, 6))
@settings(max_examples=30)
def test_steps_equal_torchs_network(kind: str, in_dim: int, dim: int, steps: int) -> None:
    network = THEIRS[kind][0](in_dim, dim, batch_first=True).double()
    cell = Cell(kind, in_dim, dim).double()
    cell.load_state_dict({name.removesuffix("_l0"): weight for name, weight in network.state_dict().items()})
    x, h = torch.randn(2, steps, in_dim, dtype=torch.float64), torch.randn(2, dim, dtype=torch.float64)
    theirs, _ = network(x, (h[None], torch.zeros_like(h)[None]) if kind == "lstm" else h[None])
    state = cell.start(h)
    for t in range(steps):
        state = cell(x[:, t], state)
        assert torch.allclose(state[0], theirs[:, t], atol=1e-12)


@pytest.mark.parametrize("kind", sorted(THEIRS))
def test_weights_and_gradients_are_those_of_torchs_cell(kind: str) -> None:
    theirs = THEIRS[kind][1](3, 4)
    cell = Cell(kind, 3, 4)
    cell.load_state_dict(theirs.state_dict())  # the same names and layout
    x, h, c = torch.randn(5, 3), torch.randn(5, 4), torch.randn(5, 4)
    state = (h, c) if kind == "lstm" else (h,)
    after = theirs(x, state if kind == "lstm" else h)
    for ours, other in zip(cell(x, state), after if kind == "lstm" else (after,), strict=True):
        assert torch.allclose(ours, other, atol=1e-6)
    (after[0] if kind == "lstm" else after).square().sum().backward()
    cell(x, state)[0].square().sum().backward()
    for name, weight in cell.named_parameters():
        assert torch.allclose(weight.grad, theirs.get_parameter(name).grad, atol=1e-5), name


@pytest.mark.parametrize("kind", sorted(THEIRS))
def test_any_leading_dimensions(kind: str) -> None:
    cell = Cell(kind, 3, 4)
    x, state = torch.randn(2, 5, 3), cell.start(torch.randn(2, 5, 4))
    together = cell(x, state)
    for row in range(2):
        for column in range(5):
            alone = cell(x[row, column], tuple(part[row, column] for part in state))
            for a, b in zip(together, alone, strict=True):
                assert torch.allclose(a[row, column], b, atol=1e-6)


def test_it_begins_as_torch_does() -> None:
    bound = 64**-0.5
    for kind in THEIRS:
        weights = torch.cat([weight.flatten() for weight in Cell(kind, 64, 64).parameters()])
        assert weights.abs().max() <= bound
        assert weights.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)  # of a uniform distribution
    assert all(not part.any() for part in Cell("lstm", 3, 4).start(torch.ones(2, 4))[1:])


def test_an_unknown_kind() -> None:
    with pytest.raises(ValueError, match=r"kind is 'mlp'; expected one of \['gru', 'lstm', 'rnn'\]"):
        Cell("mlp", 3, 4)
