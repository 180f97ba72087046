"""What is stored in the folder of data: how large it is, whether it is damaged, and how to be rid of it.

Chapter: start/setup.
"""

import json
import shutil
from pathlib import Path

from mmlearn import files, runtime
from mmlearn.datasets.arrays import open_arrays, sum_of
from mmlearn.datasets.folder.cache import is_kept_whole

MADE = {"clips": "hanzi/clips", "grid": "grid", "folders": "folders", "jieba": "jieba", "downloads": "downloads"}
FETCHED = {"strokes": "hanzi/strokes", "voices": "hanzi/voices", "film": "film", "faces": "faces"}


def sizes(home: Path | None = None) -> list[tuple[str, Path, int]]:
    """Return name, path and bytes of each kind of data that is there.

    Chapter: start/setup.
    """
    root = home or runtime.home()
    return [
        (name, root / at, files.size_of(root / at)) for name, at in (FETCHED | MADE).items() if (root / at).exists()
    ]


def damaged(home: Path | None = None) -> list[tuple[Path, str]]:
    """Return path and reason of all data that differ from their checksums, or cannot be read.

    Chapter: start/setup.
    """
    from mmlearn.datasets.big_buck_bunny import FILM, FILM_SHA256
    from mmlearn.datasets.hanzi.download import VOICES_MANIFEST_SHA256, recordings_sha256
    from mmlearn.preprocessing.faces.mtcnn import FILES

    root = home or runtime.home()
    found: list[tuple[Path, str]] = []
    for path in sorted((root / "hanzi" / "strokes").glob("*.json")):
        try:
            json.loads(path.read_bytes())
        except (ValueError, OSError, RecursionError) as error:
            found.append((path, f"not JSON ({error})"))
    voices, film = root / "hanzi" / "voices", root / "film" / FILM
    if voices.is_dir() and recordings_sha256(voices) != VOICES_MANIFEST_SHA256:
        found.append((voices, "other recordings than those fetched"))
    if film.is_file() and files.sha256_of(film) != FILM_SHA256:
        found.append((film, "another film than the one fetched"))
    for path, sha256 in ((root / "faces" / Path(member).name, sha256) for member, sha256 in FILES.items()):
        if path.is_file() and files.sha256_of(path) != sha256:
            found.append((path, "another file than the one fetched"))
    for folder in sorted([*(root / "hanzi" / "clips").glob("[!.]*"), *(root / "grid").glob("[!.]*")]):
        found += [(folder, why) for why in _damaged_arrays(folder)]
    found += [(path, "another checksum") for path in sorted((root / "folders").glob("clips/*/*.clip"))
              if not is_kept_whole(path)]  # fmt: skip
    return found


def _damaged_arrays(folder: Path) -> list[str]:
    try:
        arrays = open_arrays(folder)
    except (OSError, ValueError) as error:
        return [str(error)]
    notes = arrays.notes
    sums = notes["sums"] if isinstance(notes, dict) else [note["sum"] for note in notes]  # GRID's, HanziClips'
    rows = [k for k, total in enumerate(sums) if total and sum_of(arrays.video[k], arrays.audio[k]) != total]
    return [f"clip {k} has another checksum" for k in rows]


def clear(home: Path | None = None, fetched: bool = False) -> int:
    """Remove what was made, and with `fetched` what was fetched, too; return how many bytes that was.

    Lock files stay: another process may wait for one.

    Chapter: start/setup.
    """
    root = home or runtime.home()
    freed = 0
    for at in [*MADE.values(), *(FETCHED.values() if fetched else ())]:
        folder = root / at
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.suffix == ".lock" or path.name == "lock" or files.LEFTOVER.fullmatch(path.name):
                continue
            freed += files.size_of(path)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        files.clear_leftovers(folder)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return freed
