"""Devices, precision, seeds, the data folder; and that `import mmlearn` is quick."""

import random
import subprocess
import sys

import numpy as np
import pytest
import torch

import mmlearn
from mmlearn import runtime


def test_import_is_quick_and_leaves_torch_alone() -> None:
    code = (
        "import sys, time; start = time.perf_counter(); import mmlearn; seconds = time.perf_counter() - start;"
        "mmlearn.home(); print(seconds, 'torch' in sys.modules)"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3)]
    seconds, torch_is_in = zip(*(run.stdout.split() for run in runs), strict=True)
    assert min(map(float, seconds)) <= 0.3
    assert set(torch_is_in) == {"False"}


def test_every_public_name_is_there() -> None:
    for name in mmlearn.__all__:
        assert getattr(mmlearn, name) is not None
    assert set(dir(mmlearn)) >= {"Clip", "fit"}
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = mmlearn.nonsense


def test_home_follows_the_environment(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("MMLEARN_HOME", str(tmp_path))
    assert mmlearn.home() == tmp_path
    monkeypatch.delenv("MMLEARN_HOME")
    assert mmlearn.home().name == "mmlearn"


def test_device_prefers_cuda_then_apple(monkeypatch) -> None:
    monkeypatch.setattr(runtime, "_works", lambda name: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert mmlearn.device().type == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert mmlearn.device().type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert mmlearn.device().type == "cuda"


@pytest.mark.parametrize("message", ["no kernel image is available for execution on the device\nCompile with", ""])
def test_a_gpu_that_cannot_multiply_is_not_taken(monkeypatch, message: str) -> None:
    """Kaggle's P100: it is available, and its first operation dies."""
    plain, tried = torch.ones, []

    def ones(*shape: int, device: str = "cpu") -> torch.Tensor:
        tried.append(device)
        if device == "cuda":
            raise RuntimeError(message)
        return plain(*shape)  # the Apple chip is played by the CPU

    monkeypatch.setattr(torch, "ones", ones)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for apple in (False, True):
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda apple=apple: apple)
        runtime._works.cache_clear()
        reason = message.split("\n")[0] or "RuntimeError"
        with pytest.warns(UserWarning, match=f"cuda device cannot multiply.*CPU is used.*{reason}.*another GPU"):
            assert mmlearn.device().type == ("mps" if apple else "cpu")
        assert mmlearn.device().type == ("mps" if apple else "cpu")  # without another warning
    assert tried == ["cuda", "cuda", "mps"]  # once each
    runtime._works.cache_clear()


def test_a_gpu_that_multiplies_wrongly_is_not_taken(monkeypatch) -> None:
    monkeypatch.setattr(torch, "ones", lambda *shape, device: torch.zeros(*shape))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    runtime._works.cache_clear()
    with pytest.warns(UserWarning, match="came out as 0.0"):
        assert mmlearn.device().type == "cpu"
    runtime._works.cache_clear()


@pytest.mark.parametrize(("bf16", "expected"), [(True, "bf16"), (False, "fp16")])
def test_precision_is_bf16_where_the_device_has_it(monkeypatch, bf16: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16 or including_emulation)
    assert mmlearn.precision("cuda") == expected
    assert mmlearn.precision("cpu") == mmlearn.precision("mps") == "no"


def test_seeds_reproduce_and_bad_ones_are_refused() -> None:
    def draw() -> tuple[float, float, float]:
        mmlearn.seed_everything(7)
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    assert draw() == draw()
    with pytest.raises(ValueError, match="seed is -1"):
        mmlearn.seed_everything(-1)


def test_results_are_read_and_missing_ones_named() -> None:
    assert mmlearn.load_results("first_model")["seeds"]
    with pytest.raises(FileNotFoundError, match=r"no results called 'nonsense'; there are .*first_model"):
        mmlearn.load_results("nonsense")


def test_progress_bars_can_be_switched_off(monkeypatch) -> None:
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    assert not runtime.quiet()
    monkeypatch.setenv("TQDM_DISABLE", "1")
    assert runtime.quiet()
