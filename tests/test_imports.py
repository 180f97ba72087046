"""What importing and using the data sets does outside of this process: nothing."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.places import ROOT

WATCH = """
import sys
home = sys.argv[1]
def hook(event, arguments):
    if event in ("socket.bind", "socket.connect", "socket.getaddrinfo", "socket.__new__"):
        print(event, arguments)
    if event == "os.mkdir" and not str(arguments[0]).startswith(home):
        print(event, arguments)
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        if not str(arguments[0]).startswith((home, "/dev/null")):
            print(event, arguments)
sys.addaudithook(hook)
"""
USES = {
    "data sets": """
import mmlearn.clip, mmlearn.datasets.big_buck_bunny, mmlearn.datasets.folder.dataset
import mmlearn.datasets.grid.dataset, mmlearn.datasets.shards
import mmlearn.preprocessing.text, mmlearn.preprocessing.video, mmlearn.preprocessing.batching
from mmlearn.datasets import VideoFolder
assert len(VideoFolder(sys.argv[2], workers=1)) == 1
""",
    "models": "import mmlearn.encoders, mmlearn.fusion, mmlearn.model",
}


@pytest.mark.parametrize("use", USES)
def test_no_socket_is_opened_and_nothing_is_written_outside_of_home(tmp_path: Path, use: str) -> None:
    """`mmlearn.training` and the objectives import torchmetrics, and that requests (urllib3 tries whether there is
    IPv6, by a socket bound to ::1 that is closed at once) and matplotlib (its own folders of settings and fonts)."""
    from mmlearn.media import write_mp4

    (tmp_path / "films").mkdir()
    write_mp4(tmp_path / "films/a.mp4", audio=np.zeros(16_000, np.float32), sample_rate=16_000)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MMLEARN_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-B", "-c", WATCH + USES[use], str(tmp_path / "home"), str(tmp_path / "films")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
