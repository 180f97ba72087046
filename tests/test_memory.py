"""mmlearn.memory: a limit that can be set, and arrays that grow within it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlearn import memory
from mmlearn.memory import VARIABLE, Budget, Pile, memory_limit


def test_the_limit_is_half_of_what_is_free_or_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(memory, "_free", lambda: 3_000_001)
    assert memory_limit() == 1_500_000
    monkeypatch.setenv(VARIABLE, " 0.25 ")
    assert memory_limit() == 250_000_000
    for wrong in ("0", "-1", "much", "nan", "inf"):
        monkeypatch.setenv(VARIABLE, wrong)
        with pytest.raises(ValueError, match=f"{VARIABLE} is {wrong!r}; expected a number of gigabytes above 0"):
            memory_limit()


def test_a_container_has_less_than_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000})())
    assert memory._free() == 1000
    (tmp_path / "memory.max").write_text("700\n")
    (tmp_path / "memory.current").write_text("500\n")
    (tmp_path / "memory.stat").write_text("anon 200\nfile 300\nkernel 1\n")  # a file cache is given back
    assert memory._free() == 500
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._free() == 1000


def test_what_is_used_counts_and_the_message_has_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    budget = Budget("a.mp4")
    budget.take(600_000_000, "600 frames", "read fewer")
    budget.check(400_000_000, "sound", "read less")
    with pytest.raises(ValueError, match=r"a\.mp4: sound would take 0\.5 GB beside 0\.6 GB of the same file, and the "
                       rf"limit is 1 GB; read less, or raise the limit with {VARIABLE}"):  # fmt: skip
        budget.take(500_000_000, "sound", "read less")
    assert budget.used == 600_000_000


@given(st.lists(st.integers(0, 40), max_size=12), st.integers(0, 60))
@settings(max_examples=60)
def test_a_pile_is_its_parts_one_after_another(sizes: list[int], expected: int) -> None:
    rng = np.random.default_rng(0)
    pile = Pile(Budget("x"), "rows", "read fewer", (2, 3), np.int16, expected)
    parts = [rng.integers(-9, 9, (size, 2, 3), dtype=np.int16) for size in sizes]
    for part in parts:
        pile.append(part)
    assert len(pile) == sum(sizes)
    whole = pile.array()
    assert whole.dtype == np.int16 and np.array_equal(whole, np.concatenate([np.empty((0, 2, 3), np.int16), *parts]))


def test_a_pile_stays_within_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "0.000001")  # 1000 bytes
    pile = Pile(Budget("x"), "frames", "read fewer", (10,), np.uint8)
    pile.append(np.ones((60, 10), np.uint8))
    with pytest.raises(ValueError, match="x: 110 frames would take"):
        pile.append(np.ones((50, 10), np.uint8))
    assert len(pile) == 60
