"""The command: what it prints, its exit status, and one line instead of a traceback."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmlearn import checkup
from mmlearn.cli import app
from mmlearn.datasets import fetch
from mmlearn.datasets.fetch import ChecksumError, HanziSources


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.stdout, result.stderr


def test_hanzi_says_where_the_ingredients_are(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path | None] = []

    def fetched(home: Path | None) -> HanziSources:
        asked.append(home)
        return HanziSources(Path("some/strokes"), Path("some/voices") if home else None)

    monkeypatch.setattr(fetch, "fetch_hanzi", fetched)
    assert run("data", "hanzi", "--home", "here") == (0, "strokes  some/strokes\nvoices   some/voices\n", "")
    code, said, _ = run("data", "hanzi")
    assert code == 0 and "voices   synthetic (eSpeak NG)" in said
    assert asked == [Path("here"), None]


@pytest.mark.parametrize("error", [ChecksumError("x.tgz: sha256 is 1, expected 2"), PermissionError("not yours")])
def test_errors_are_one_line_and_status_1(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def failing(home: Path | None) -> HanziSources:
        raise error

    monkeypatch.setattr(fetch, "fetch_hanzi", failing)
    assert run("data", "hanzi") == (1, "", f"mmlearn: {error}\n")


@pytest.mark.parametrize("fine", [True, False])
def test_check_exits_with_what_it_found(monkeypatch: pytest.MonkeyPatch, fine: bool) -> None:
    monkeypatch.setattr(checkup, "check", lambda: fine)
    assert run("check")[0] == (0 if fine else 1)


@pytest.mark.parametrize("arguments", [[], ["data"], ["--help"]])
def test_help(arguments: list[str]) -> None:
    code, said, complaint = run(*arguments)
    assert code in (0, 2) and "Usage:" in said + complaint
    assert ("hanzi" if arguments == ["data"] else "check") in said + complaint


def test_python_m_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "mmlearn.cli", "data"], capture_output=True, text=True)
    assert "hanzi" in done.stdout + done.stderr
