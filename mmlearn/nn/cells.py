"""One step of a plain recurrent network, an LSTM or a GRU, from the formulas.

The weights have torch's names and layout, so that `cell.load_state_dict(nn.GRUCell(…).state_dict())` works.

Chapter: finetuning/seq2seq.
"""

from typing import Literal

import torch
from torch import Tensor, nn

Kind = Literal["rnn", "lstm", "gru"]
State = tuple[Tensor, ...]  # what a step hands to the next: (h,), or (h, c) of an LSTM, each (…, D)
GATES = {"rnn": 1, "lstm": 4, "gru": 3}


def rnn_step(from_x: Tensor, from_h: Tensor, state: State) -> State:
    """Return the next state of a plain network, h' = tanh(W x + b + U h + b') (Elman 1990).

    Args:
        from_x: W x + b, (…, D).
        from_h: U h + b', (…, D).
        state: (h,), of which all that counts is in `from_h` already.

    Chapter: finetuning/seq2seq.
    """
    return (torch.tanh(from_x + from_h),)


def lstm_step(from_x: Tensor, from_h: Tensor, state: State) -> State:
    """Return the next (h, c) of an LSTM (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000).

    Args:
        from_x: W x + b for input gate, forget gate, candidate and output gate, (…, 4 D).
        from_h: U h + b' for the same, (…, 4 D).
        state: (h, c), each (…, D).

    Chapter: finetuning/seq2seq.
    """
    i, f, g, o = (from_x + from_h).chunk(4, dim=-1)  # (…, 4 D) → 4 × (…, D)
    c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def gru_step(from_x: Tensor, from_h: Tensor, state: State) -> State:
    """Return the next (h,) of a GRU (Cho et al. 2014); the reset gate comes after U, as in cuDNN and torch.

    Args:
        from_x: W x + b for reset gate, update gate and candidate, (…, 3 D).
        from_h: U h + b' for the same, (…, 3 D).
        state: (h,), (…, D).

    Chapter: finetuning/seq2seq.
    """
    (xr, xz, xn), (hr, hz, hn) = from_x.chunk(3, dim=-1), from_h.chunk(3, dim=-1)  # (…, 3 D) → 3 × (…, D)
    r, z = torch.sigmoid(xr + hr), torch.sigmoid(xz + hz)
    return ((1 - z) * torch.tanh(xn + r * hn) + z * state[0],)


STEPS = {"rnn": rnn_step, "lstm": lstm_step, "gru": gru_step}


class Cell(nn.Module):
    """A recurrent network that makes one step at a time, for any leading dimensions.

    Args:
        kind: "rnn" (tanh), "lstm" or "gru".
        in_dim: Width E of the input.
        dim: Width D of the state.

    Raises:
        ValueError: If the kind is unknown.

    Chapter: finetuning/seq2seq.
    """

    def __init__(self, kind: Kind, in_dim: int, dim: int) -> None:
        super().__init__()
        if kind not in GATES:
            raise ValueError(f"kind is {kind!r}; expected one of {sorted(GATES)}")
        self.kind = kind
        rows, bound = GATES[kind] * dim, dim**-0.5  # torch's initialisation, too
        self.weight_ih = nn.Parameter(torch.empty(rows, in_dim).uniform_(-bound, bound))
        self.weight_hh = nn.Parameter(torch.empty(rows, dim).uniform_(-bound, bound))
        self.bias_ih = nn.Parameter(torch.empty(rows).uniform_(-bound, bound))
        self.bias_hh = nn.Parameter(torch.empty(rows).uniform_(-bound, bound))

    def start(self, h: Tensor) -> State:
        """Return the first state with the given h (…, D); an LSTM's c begins with zeros."""
        return (h, torch.zeros_like(h)) if self.kind == "lstm" else (h,)

    def forward(self, x: Tensor, state: State) -> State:
        """Return the state after reading x (…, E)."""
        from_x = nn.functional.linear(x, self.weight_ih, self.bias_ih)
        from_h = nn.functional.linear(state[0], self.weight_hh, self.bias_hh)
        return STEPS[self.kind](from_x, from_h, state)
