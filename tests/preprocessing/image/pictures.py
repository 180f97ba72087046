"""What several test files of this folder use."""

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

NOISE = np.random.default_rng(0).integers(0, 256, (3, 61, 83, 4), np.uint8)


RGB = np.ascontiguousarray(NOISE[..., :3])


sides = st.integers(1, 40)


sizes = st.tuples(sides, sides)


shapes = st.one_of(
    sizes,
    st.tuples(sides, sides, st.sampled_from([1, 3, 4])),
    st.tuples(st.integers(1, 3), sides, sides, st.sampled_from([1, 3, 4])),
)


pictures = shapes.flatmap(
    lambda shape: st.one_of(
        arrays(np.uint8, shape),
        arrays(np.uint16, shape),
        arrays(np.float32, shape, elements=st.floats(0, 1, width=32)),
    )
)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def to_torch(frames: np.ndarray) -> Tensor:
    """(…, H, W, C) → (…, C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, -3)


def to_numpy(frames: Tensor) -> np.ndarray:
    return frames.movedim(-3, -1).numpy()


def distance(a: np.ndarray, b: Tensor) -> float:
    """The largest difference, in the values' own range."""
    assert str(b.dtype).endswith(str(a.dtype))
    assert a.shape == to_numpy(b).shape
    return float(np.abs(a.astype(np.float64) - to_numpy(b)).max())


def unit(frames: np.ndarray) -> np.ndarray:
    return (frames / 255).astype(np.float32)
