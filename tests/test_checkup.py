"""The check-up: fine on a fine machine, and a remedy for each thing that is wrong."""

import importlib
import os
import shutil
import warnings
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import mmlearn
from mmlearn import checkup, media, plotting, runtime


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with two characters and one recording."""
    for name in ("strokes/红.json", "strokes/绿.json", "voices/ㄏㄨㄥ2/5.ogg"):
        path = tmp_path / "home/hanzi" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.setenv("MMLEARN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def wrong(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the check, expect exactly one complaint, and give it."""

    def run() -> str:
        assert checkup.check() is False
        complaints = [line for line in capsys.readouterr().out.splitlines() if line.startswith("WRONG: ")]
        assert len(complaints) == 1, complaints
        return complaints[0]

    return run


def install(folder: Path, name: str, version: str, record: str = "") -> None:
    """Put a distribution's metadata into a folder."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text(f"{record},,\n" if record else "")


def test_a_fine_machine(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    assert mmlearn.check() is True
    said = capsys.readouterr().out
    for distribution in checkup.SHOWN:
        assert f"{distribution:14} {metadata.version(distribution)}\n" in said
    assert f"2 characters in {home / 'hanzi/strokes'}" in said
    assert "1 recordings in" in said and "NotoSansCJKsc" in said and " GB in " in said
    assert f"device         {runtime.device().type} (" in said
    assert said.endswith("All is fine.\n")


def test_foreign_package_beside_ours(wrong: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", "mmlearn", "0.9", "mmlearn/other.py")
    monkeypatch.syspath_prepend(tmp_path / "site")
    complaint = wrong()
    assert "unrelated package mmlearn 0.9" in complaint and "same name" in complaint
    assert complaint.endswith("Remedy: pip uninstall mmlearn")


def test_foreign_package_over_ours(wrong: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", "mmlearn", "0.9", os.path.relpath(mmlearn.__file__, tmp_path / "site"))
    monkeypatch.syspath_prepend(tmp_path / "site")
    complaint = wrong()
    assert "has overwritten files of ours" in complaint
    assert "pip uninstall mmlearn, then pip install --force-reinstall --no-deps mmlearn-course" in complaint


def test_ours_not_installed(wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "OURS", "no-such-distribution")
    assert "no-such-distribution is not installed. Remedy: pip install -e ." in wrong()


def test_library_too_old(wrong: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", "librosa", "0.9.2")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert "librosa is 0.9.2, expected >=0.10.2. Remedy: pip install 'librosa>=0.10.2'" in wrong()


@pytest.mark.parametrize("name", ["librosa", "jieba"])
def test_library_missing(name: str, wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version

    def without(distribution: str) -> str:
        if distribution == name:
            raise metadata.PackageNotFoundError
        return version(distribution)

    monkeypatch.setattr(metadata, "version", without)
    assert f"{name} is not installed. Remedy: pip install " in wrong()


def test_library_broken(wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    load = importlib.import_module

    def broken(name: str) -> Any:
        if name == "torchaudio":
            raise OSError("undefined symbol: torch_x\nmore")
        return load(name)

    monkeypatch.setattr(importlib, "import_module", broken)
    complaint = wrong()
    assert (
        "cannot be imported (undefined symbol: torch_x). Remedy: pip install --force-reinstall torchaudio" in complaint
    )


def test_no_data(wrong: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMLEARN_HOME", str(home / "nowhere/yet"))
    assert wrong().endswith("Remedy: mmlearn data hanzi")


def test_no_recordings_although_apt_could(wrong: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(home / "hanzi/voices")
    monkeypatch.setattr(shutil, "which", lambda tool: f"/usr/bin/{tool}")
    assert "recordings are missing" in wrong()


def test_synthetic_speech_is_said_and_not_wrong(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(home / "hanzi/voices")
    monkeypatch.setattr(shutil, "which", lambda tool: None)
    assert checkup.check() is True
    assert "speech is synthetic" in capsys.readouterr().out


def test_full_disk(wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=4e8))
    assert "0.4 GB are free" in wrong()


def test_no_font(wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Path:
        raise FileNotFoundError("no Chinese font at x.otf")

    monkeypatch.setattr(plotting, "chinese_font", missing)
    complaint = wrong()
    assert "no Chinese font at x.otf" in complaint and "--force-reinstall mplfonts" in complaint


def test_device_and_its_arithmetic(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(runtime, "device", lambda: torch.device("cuda"))
    monkeypatch.setattr(runtime, "precision", lambda on: "fp16")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    monkeypatch.setattr(checkup, "_train_one_step", lambda: None)  # there is none here
    assert checkup.check() is True
    assert "device         cuda (Tesla T4), float16 with loss scaling\n" in capsys.readouterr().out


def test_device_that_does_not_work(wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> torch.device:
        raise RuntimeError("driver too old")

    monkeypatch.setattr(runtime, "device", fail)
    assert "no device works (driver too old). Remedy: pip install --force-reinstall torch" in wrong()


def test_a_gpu_that_cannot_multiply(wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def old(name: str) -> bool:
        warnings.warn("this machine's cuda device cannot multiply two matrices; Remedy: another", stacklevel=2)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(runtime, "_works", old)
    monkeypatch.setattr(checkup, "_train_one_step", lambda: None)  # Accelerate asks this CUDA for its driver
    assert "cuda device cannot multiply two matrices; Remedy: another" in wrong()


def test_a_step_that_changes_nothing(wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmlearn.fit", lambda *_, **__: [])
    assert "one step of training did not change the weights" in wrong()


def test_films_that_cannot_be_read(wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What PyAV 19 did to every reader here; the import alone was fine."""

    def removed(*_: object, **__: object) -> None:
        raise TypeError("open() got an unexpected keyword argument 'metadata_errors'")

    monkeypatch.setattr("mmlearn.media.mp4.read_mp4", removed)
    complaint = wrong()
    assert "video files cannot be written and read (open() got an unexpected keyword" in complaint
    assert complaint.endswith("Remedy: pip install --force-reinstall av")


@pytest.mark.parametrize("lost", ["frame", "colour", "sample"])
def test_films_that_come_back_as_others(wrong: Any, monkeypatch: pytest.MonkeyPatch, lost: str) -> None:
    plain = media.read_mp4

    def read(path: Path) -> media.MediaFile:
        found = plain(path)
        assert found.video is not None and found.audio is not None
        if lost == "frame":
            return replace(found, video=found.video[:-1])
        return replace(found, video=255 - found.video) if lost == "colour" else replace(found, audio=found.audio[:-9])

    monkeypatch.setattr("mmlearn.media.mp4.read_mp4", read)
    assert "a film of 5 grey frames and 8,000 samples came back as" in wrong()
