"""What several test files of this folder use."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmlearn.datasets import reading
from mmlearn.datasets.folder import dataset, scan
from mmlearn.datasets.folder.listing import list_clips
from mmlearn.datasets.folder.records import Listing


@pytest.fixture(autouse=True)
def calm() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*left out.*")
        yield


class Counter:
    """Counts the calls of a function, in this process: open folders with workers=1."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *places: object, name: str) -> None:
        self.calls = 0
        function = getattr(places[0], name)

        def counted(*args: object, **kwargs: object) -> object:
            self.calls += 1
            return function(*args, **kwargs)

        for place in places:
            monkeypatch.setattr(place, name, counted)

    def since(self) -> int:
        calls, self.calls = self.calls, 0
        return calls


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter:
    return Counter(monkeypatch, reading, name="read_clip")


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Counter:
    return Counter(monkeypatch, scan, dataset, name="hash_of")


def write_table(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def table(root: Path, *cells: str, more: str = "") -> Listing:
    (root / "t.csv").write_text("path" + more + "\n" + "".join(f"{cell}\n" for cell in cells), encoding="utf-8")
    return list_clips(root / "t.csv")
