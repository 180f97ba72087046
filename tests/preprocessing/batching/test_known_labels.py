"""mmlearn.preprocessing.batching.known_labels: what labels a data set has, also where a batch lacks them."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, Subset

from mmlearn import Clip
from mmlearn.preprocessing.batching.loading import loader
from tests.conftest import GONE, NAN


class Clips(Dataset):
    """Sounds whose labels are given."""

    def __init__(self, *values: Any) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, k: int) -> Clip:
        labels = {} if self.values[k] is GONE else {"y": self.values[k]}
        return Clip({"x": np.full(1, k, np.float32)}, labels=labels, name=f"clip-{k}")


class Stream(IterableDataset):
    def __init__(self, *values: Any) -> None:
        self.clips = Clips(*values)

    def __iter__(self):
        return (self.clips[k] for k in range(len(self.clips)))


HOW: dict[str, Any] = {"transforms": {"x": torch.from_numpy}, "batch_size": 2}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_label_that_a_whole_batch_lacks(workers: int) -> None:
    data = Clips(GONE, GONE, 1, GONE, 2, GONE, GONE, GONE)
    found = [batch.label("y")[0].tolist() for batch in loader(data, workers=workers, **HOW)]
    assert found == [[-100, -100], [1, -100], [2, -100], [-100, -100]]
    found = [batch.label("y")[0].tolist() for batch in loader(Stream(*data.values), labels={"y": 0}, **HOW)]
    assert found[0] == found[3] == [-100, -100]
    late = list(loader(Stream(1, 2, GONE, GONE), **HOW))  # once met, a label is remembered
    assert late[1].label("y")[1].tolist() == [False, False]


def test_clips_without_a_label_can_be_left_out() -> None:
    values = (0, GONE, "cat", 3, NAN, None)
    with pytest.warns(UserWarning, match=r"left out 4 of 6 clips, which lack 'y': clip-1, clip-2, clip-4, clip-5"):
        batches = loader(Clips(*values), require=["y"], lengths=range(6), **HOW)
    assert [batch.labels["y"].tolist() for batch in batches] == [[0, 3]]
    assert [batch.labels["y"].tolist() for batch in loader(Stream(*values), require=["y"], **HOW)] == [[0, 3]]
    with pytest.raises(ValueError, match=r"none of 2 clips has \['z'\] as numbers; there are \['y'\]"):
        loader(Clips(1, 2), require=["z"], **HOW)
    with pytest.raises(ValueError, match="clip-2: label 'y' is a str, 'cat'"):
        loader(Clips(*values), **HOW)  # when the loader is made, if such a clip is looked at


def test_a_subset_knows_its_labels() -> None:
    class Listed(Clips):
        @property
        def entries(self) -> list:
            return [self[k] for k in range(len(self))]

    data = torch.utils.data.ConcatDataset([Subset(Listed(*[GONE] * 7, 0.5), range(8)), Listed(GONE)])
    assert all(batch.label("y")[0].is_floating_point() for batch in loader(data, **HOW))
    with pytest.warns(UserWarning, match="left out 8 of 9"):
        assert len(loader(data, require=["y"], **HOW).dataset) == 1  # type: ignore[arg-type]
