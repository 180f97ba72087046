"""mmlearn.datasets.arrays: clips in arrays on disk: every damage is noticed."""

import os
import pickle
import shutil
from pathlib import Path

import pytest

from mmlearn.datasets import arrays
from tests.datasets.conftest import SMALL, arrays_of, digest, flip


def test_one_bit_of_a_clip_is_noticed_and_made_anew(make, own_home: Path) -> None:
    truth = digest(make(6, **SMALL))
    (folder,) = arrays_of(own_home)
    for name in ("video", "audio"):
        size = (folder / f"{name}.npy").stat().st_size
        for where in (128, size // 2, size - 1):
            flip(folder / f"{name}.npy", where)
            clips = make(6, **SMALL)
            with pytest.warns(UserWarning, match=r"clip \d was damaged, and has been made again"):
                assert digest(clips) == truth
            assert digest(clips) == truth == digest(make(6, **SMALL))  # without a warning: it is mended on disk


def test_half_zeros_are_made_anew(make, own_home: Path) -> None:
    truth = digest(make(6, **SMALL))
    (folder,) = arrays_of(own_home)
    for name in ("video", "audio"):
        with open(folder / f"{name}.npy", "r+b") as file:
            size = file.seek(0, 2)
            file.seek(size // 2)
            file.write(bytes(size - size // 2))
    with pytest.warns(UserWarning, match="was damaged"):
        assert digest(make(6, **SMALL)) == truth


def test_every_bit_of_the_seal_and_of_the_notes_is_noticed(make, own_home: Path) -> None:
    make(2, **SMALL)
    (folder,) = arrays_of(own_home)
    for name in ("seal.json", "notes.json"):
        data = (folder / name).read_bytes()
        for where in range(len(data)):
            hurt = bytearray(data)
            hurt[where] ^= 1 << where % 8
            (folder / name).write_bytes(hurt)
            assert not arrays.is_whole(folder), (name, where)
        (folder / name).write_bytes(data)
        assert arrays.is_whole(folder)


@pytest.mark.parametrize("damage", ["label", "cut", "gone", "grown", "seal gone"])
def test_other_damage_makes_the_whole_anew(make, own_home: Path, damage: str) -> None:
    truth = digest(make(6, **SMALL))
    (folder,) = arrays_of(own_home)
    if damage == "label":
        text = (folder / "notes.json").read_text("utf-8")
        (folder / "notes.json").write_text(text.replace('"number": ', '"number": 1', 1), "utf-8")
    elif damage == "cut":
        os.truncate(folder / "video.npy", 200)  # mapped and read, it would end the process by SIGBUS
    elif damage == "gone":
        (folder / "audio.npy").unlink()
    elif damage == "grown":
        with open(folder / "audio.npy", "ab") as file:
            file.write(b"\0")
    else:
        (folder / "seal.json").unlink()
    assert digest(make(6, **SMALL)) == truth and arrays_of(own_home) == [folder]


def test_a_pickle_opens_the_same_arrays(make, own_home: Path) -> None:
    """Field: a pickle of 400 clips was 69 MB, for each worker of a DataLoader that is spawned."""
    kept, temporary = make(6, **SMALL), make(6, cache=False, **SMALL)
    for clips in (kept, temporary):
        data = pickle.dumps(clips)
        assert len(data) < 10_000
        copy = pickle.loads(data)
        assert copy._folder == clips._folder and digest(copy) == digest(kept)
    shutil.rmtree(kept._folder)
    assert digest(pickle.loads(pickle.dumps(make(6, **SMALL)))) == digest(temporary)
    data = pickle.dumps(temporary)
    del clips, copy, temporary
    assert digest(pickle.loads(data)) == digest(make(6, **SMALL))  # its folder is gone with it
