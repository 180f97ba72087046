"""mmlearn.preprocessing.faces.mtcnn: weights that are fetched, verified and read as data only."""

from pathlib import Path

import pytest

from mmlearn.downloads import ChecksumError
from mmlearn.preprocessing.faces import find_faces
from tests.preprocessing.faces.conftest import blank


def test_other_weights_than_those_fetched_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMLEARN_HOME", str(tmp_path))
    (tmp_path / "faces").mkdir()
    for name in ("pnet.pt", "rnet.pt", "onet.pt", "LICENSE.md"):
        (tmp_path / "faces" / name).write_bytes(b"anything")
    with pytest.raises(ChecksumError, match=r"pnet\.pt: not the weights that were fetched"):
        find_faces(blank())


def test_offline_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = tmp_path / "python"
    pip.write_text("#!/bin/sh\necho 'ERROR: No matching distribution found' >&2\nexit 1\n")
    pip.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(pip))
    monkeypatch.setenv("MMLEARN_HOME", str(tmp_path / "home"))
    with pytest.raises(RuntimeError, match=r"No matching.*facenet-pytorch==2\.6\.0 comes from .* online\?"):
        find_faces(blank())
