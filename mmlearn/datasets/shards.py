"""Shards: many files in a few large tar archives (the WebDataset format), which are read from begin to end.

A disk, and even more a network, delivers one large file much quicker than many small ones in random order. Each sample
is the original file's bytes with a JSON note beside it:

    out/shard-000000.tar    000000.mp4 000000.json 000001.mp4 000001.json …
    out/shards.json         the archives with their sizes, and the names of the classes

Chapter: preprocessing/batching.
"""

import hashlib
import io
import json
import math
import os
import random
import re
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch.utils.data import IterableDataset, get_worker_info
from tqdm.auto import tqdm

from mmlearn import files
from mmlearn.clip import Clip
from mmlearn.datasets.folder.dataset import VideoFolder
from mmlearn.datasets.reading import DecodeOptions, with_metadata
from mmlearn.media.sound_levels import Channel
from mmlearn.preprocessing.video.sampling import Sampling
from mmlearn.runtime import quiet

INDEX = "shards.json"
VERSION = 1
PLAIN = re.compile(r"[\w.-]+", re.ASCII)  # a member's name: no folder, so nothing lies outside of one


def write_shards(
    folder: VideoFolder, out: str | os.PathLike[str], *, max_mb: float = 256, shuffle_seed: int | None = None
) -> list[Path]:
    """Write a folder's clips into shards: the files as they are, with text and labels. Each part brings its whole file.

    The folder `out` appears under its name when all of it is complete. The same clips give the same bytes.

    Args:
        folder: What to write. Files that it left out are left out here.
        out: A folder that does not exist, or is empty.
        max_mb: Largest size of a shard in 10⁶ bytes; a file that is larger gets a shard of its own.
        shuffle_seed: Seed of a random order; by default the folder's order. Readers mix only within a shard's reach:
            write clips that are sorted by class in random order.

    Returns:
        The shards' paths.

    Raises:
        FileExistsError: If there is something in `out`.
        ValueError: If `max_mb` is not positive, a file has changed since the folder was opened, or a clip is a folder
            of pictures.
        OSError: If the disk is full. Nothing stays of what was written.

    Format: Aizman, Maltby and Breuel 2019, "High Performance I/O For Large Scale Deep Learning". Chapter:
    preprocessing/batching.
    """
    if not max_mb > 0:
        raise ValueError(f"max_mb is {max_mb}; expected megabytes above 0")
    out = Path(out).absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    order = list(range(len(folder)))
    if shuffle_seed is not None:
        random.Random(shuffle_seed).shuffle(order)
    with files.locked(out.with_name(f".{out.name}.lock"), "writes the same shards"):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise FileExistsError(17, "there is something already; expected a new or an empty folder", str(out))
        with files.unfinished(out) as part:
            whole = part / "shards"
            whole.mkdir()
            size = sum(entry.path.stat().st_size for entry in folder.entries)
            files.check_room(part, size, f"writing {len(folder)} clips")
            index = _write(folder, order, whole, max_mb * 1e6)
            (whole / INDEX).write_text(json.dumps(index, ensure_ascii=False, indent=1), encoding="utf-8")
            if out.is_dir():
                out.rmdir()
            os.replace(whole, out)
    return [out / shard["name"] for shard in index["shards"]]


def _write(folder: VideoFolder, order: list[int], out: Path, limit: float) -> dict[str, Any]:
    """Write the archives, and return what the index holds."""
    from webdataset import TarWriter

    shards: list[dict[str, Any]] = []
    filled = 0  # bytes of the newest shard
    with ExitStack() as opened:
        for number, k in enumerate(tqdm(order, "Writing shards", unit="clip", leave=False, disable=quiet())):
            entry = folder.entries[k]
            if entry.path.is_dir():
                raise ValueError(f"{entry.path}: a folder of pictures, which shards do not hold; make it a film first, "
                                 "for example with mmlearn.media.write_mp4")  # fmt: skip
            data = entry.path.read_bytes()
            if hashlib.sha256(data).hexdigest() != entry.sha256:
                raise ValueError(f"{entry.path}: the file has changed since its folder was opened; open it again")
            part = {"start": entry.start, "end": entry.end} if entry.is_part else {}
            note = _sealed({"name": entry.name, "text": entry.caption, "labels": entry.labels} | part, data)
            size = sum(512 + -(-len(item) // 512) * 512 for item in (data, note))  # tar's headers and blocks
            if not shards or filled + size > limit:
                opened.close()
                shards.append({"name": f"shard-{len(shards):06d}.tar", "clips": 0})
                file = opened.enter_context(open(out / shards[-1]["name"], "wb"))
                writer = opened.enter_context(TarWriter(file, encoder=False, mtime=0, compress=False))
                filled = 20 * 512 + 1024  # how tar ends
            writer.write({"__key__": f"{number:06d}", _extension(entry.path): data, "json": note})
            shards[-1]["clips"] += 1
            filled += size
    for shard in shards:
        shard["bytes"] = (out / shard["name"]).stat().st_size
    return {"version": VERSION, "clips": len(order), "classes": folder.classes, "shards": shards}


def _extension(path: Path) -> str:
    """Return what a file's name ends with in a shard, where names are plain."""
    suffix = path.suffix[1:].lower()
    return suffix if suffix.isascii() and suffix.isalnum() and suffix != "json" else "bin"


def _sealed(note: dict[str, Any], data: bytes) -> bytes:
    """Return a note as JSON, with a hash of itself and of the file beside it."""
    return json.dumps(note | {"sha256": _hash(note, data)}, ensure_ascii=False).encode()


def _hash(note: dict[str, Any], data: bytes) -> str:
    return hashlib.sha256(json.dumps(note, sort_keys=True).encode() + b"\0" + data).hexdigest()


def read_shards(
    out: str | os.PathLike[str],
    *,
    num_frames: int = 16,
    size: tuple[int, int] | None = (48, 48),
    sample_rate: int = 16_000,
    sampling: Sampling = "uniform",
    interval: float | None = None,
    channel: Channel = "mean",
    shuffle: int = 0,
    seed: int = 0,
    share: bool = True,
) -> "ShardedClips":
    """Stream the clips of `write_shards`, decoding them on the way; settings are those of `VideoFolder`.

    Processes of a distributed training, and in each the workers of a `DataLoader`, share the shards among themselves:
    no clip comes twice. So write at least as many shards as there are readers, and a multiple of the processes: those
    whose share is smaller end sooner.

    Args:
        out: The folder that `write_shards` wrote.
        num_frames: Frames a clip.
        size: (H, W) to which frames are resized; None keeps each file's own.
        sample_rate: Samples a second of the sound.
        sampling: "uniform", "segment" or "dense".
        interval: Seconds between the frames of dense sampling.
        channel: Which channel of the sound: see `read_clip`.
        shuffle: How many files to hold in memory and draw from; 0 keeps the order. Shards are shuffled, too.
        seed: Seed of that order. Each pass has another; a `DataLoader`'s workers also take its own seed of the pass,
            so seed PyTorch to see the same again.
        share: Whether the processes of a distributed training share the shards. Say False where something else deals
            out what is read, as Accelerate's `prepare` does, and with it `mmlearn.training.loop.fit`.

    Returns:
        A data set to iterate over, with `len` and `classes`.

    Raises:
        FileNotFoundError: If there is no such folder, or a shard is missing.
        ValueError: If a setting is out of its range or a shard is damaged, at the latest when the reader comes to it.

    Chapter: preprocessing/batching.
    """
    reading = DecodeOptions(num_frames, size, sample_rate, sampling, interval, channel)
    return ShardedClips(Path(out), reading, shuffle, seed, share)


class ShardedClips(IterableDataset):
    """What `read_shards` returns.

    Chapter: preprocessing/batching.
    """

    def __init__(self, root: Path, reading: DecodeOptions, shuffle: int, seed: int, share: bool) -> None:
        if shuffle < 0:
            raise ValueError(f"shuffle is {shuffle}; expected how many files to draw from, or 0")
        self.root, self.reading, self.shuffle, self.seed, self._share = root, reading, shuffle, seed, share
        self._passes = 0
        index = _read_index(root)
        self.classes: dict[str, list[str]] = index["classes"]
        self._shards: list[dict[str, Any]] = index["shards"]
        for shard in self._shards:
            found = (root / shard["name"]).stat().st_size
            if found != shard["bytes"]:
                raise ValueError(f"{root / shard['name']}: found {found} bytes, expected {shard['bytes']}; "
                                 "the shard is damaged")  # fmt: skip

    def __len__(self) -> int:
        """Return how many clips come to this process, through all of its workers."""
        return sum(shard["clips"] for shard in self._own_shards())

    def __iter__(self) -> Iterator[Clip]:
        """Yield the clips that come to this worker of this process."""
        from webdataset import split_by_worker
        from webdataset.filters import shuffle

        worker = get_worker_info()
        rng = random.Random(f"{self.seed} {self._passes} {worker.seed - worker.id if worker else 0}")
        self._passes += 1
        shards = self._own_shards()
        if self.shuffle:
            rng.shuffle(shards)  # alike in all workers, which then take every n-th
        samples = (sample for shard in split_by_worker(iter(shards)) for sample in self._samples(shard))
        if self.shuffle:
            samples = shuffle(self.shuffle, initial=self.shuffle, rng=rng)(samples)
        for name, note, data in samples:
            source = _Named(data)
            source.name = f"{name}: {note['name']}"
            reading = replace(self.reading, start=note.get("start", 0.0), end=note.get("end"))
            yield with_metadata(reading.clip(source), note["name"], note["text"], note["labels"])

    def _own_shards(self) -> list[dict[str, Any]]:
        """Return this process's share."""
        from webdataset import split_by_node

        return list(split_by_node(iter(self._shards))) if self._share else list(self._shards)

    def _samples(self, shard: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], bytes]]:
        """Yield (shard, note, bytes of the file) of each sample, compared with its hash."""
        path = self.root / shard["name"]
        count = 0
        try:
            with tarfile.open(path, "r:") as tar:  # no compressed one: a few bytes could become all of memory
                for key, note, data in _members(tar, shard["bytes"]):
                    yield str(path), *_opened(key, note, data, self.classes)
                    count += 1
        except (tarfile.TarError, ValueError, KeyError, TypeError, OSError, EOFError, RecursionError) as error:
            raise ValueError(f"{path}: the shard is damaged after {count} of {shard['clips']} clips "
                             f"({error.args[0] if error.args else type(error).__name__})") from error  # fmt: skip
        if count != shard["clips"]:
            raise ValueError(f"{path}: found {count} of {shard['clips']} clips; the shard is damaged")


def _read_index(root: Path) -> dict[str, Any]:
    """Return the index of a folder of shards, if it is what `write_shards` writes."""
    try:
        index = json.loads((root / INDEX).read_text(encoding="utf-8"))
        fit = isinstance(index["classes"], dict) and all(
            Path(shard["name"]).name == shard["name"] and isinstance(shard["bytes"], int) and shard["clips"] >= 0
            for shard in index["shards"]
        )
    except FileNotFoundError:
        raise FileNotFoundError(2, f"no {INDEX} there; expected a folder of `write_shards`", str(root)) from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{root / INDEX}: damaged, or not of `write_shards` ({error!r})") from None
    if not fit:
        raise ValueError(f"{root / INDEX}: damaged, or not of `write_shards`")
    if index.get("version") != VERSION:
        raise ValueError(f"{root / INDEX}: version {index.get('version')!r}; this package reads {VERSION}")
    return index


def _members(tar: tarfile.TarFile, limit: int) -> Iterator[tuple[str, bytes, bytes]]:
    """Yield (key, note, file) of each clip: two members after one another, `key.json` and another.

    Raises:
        ValueError: If a member is not a plain file with a plain name, or claims more bytes than the shard has.
    """
    before: tuple[str, str, bytes] | None = None
    for member in tar:
        name = member.name
        if not PLAIN.fullmatch(name) or name.startswith("."):
            raise ValueError(f"member {name!r} is no plain name; expected such as 000000.json")
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise ValueError(f"member {name} is a link, a device, a folder or has holes; expected a plain file")
        if member.size > limit:
            raise ValueError(f"member {name} has {member.size} bytes in a shard of {limit}")
        file = tar.extractfile(member)
        assert file is not None  # plain files have content
        key, _, suffix = name.partition(".")
        data = file.read()
        if before is None:
            before = key, suffix, data
            continue
        notes = [d for s, d in ((suffix, data), before[1:]) if s == "json"]
        others = [d for s, d in ((suffix, data), before[1:]) if s != "json"]
        if before[0] != key or len(notes) != 1:
            raise ValueError(f"clip {before[0]} is not a file with a note")
        yield key, notes[0], others[0]
        before = None
    if before is not None:
        raise ValueError(f"clip {before[0]} is not a file with a note")


def _opened(key: str, data: bytes, file: bytes, classes: dict[str, list[str]]) -> tuple[dict[str, Any], bytes]:
    """Return a clip's note and file, if they are what was written, and what a folder's clip may hold."""
    note = json.loads(data)
    if not isinstance(note, dict) or note.pop("sha256", None) != _hash(note, file):
        raise ValueError(f"clip {key} is not what was written")
    member = f"{key}.json"
    if not isinstance(note.get("name"), str):
        raise ValueError(f"{member}: name is {note.get('name')!r}; expected a string")
    if not isinstance(note.get("text"), str | None):
        raise ValueError(f"{member}: text is {note.get('text')!r}; expected a string or null")
    if not isinstance(note.get("labels"), dict):
        raise ValueError(f"{member}: labels is {note.get('labels')!r}; expected names with numbers")
    for edge in (note.get("start", 0.0), note.get("end", 0.0)):
        if edge is not None and not _is_number(edge):
            raise ValueError(f"{member}: start or end is {edge!r}; expected seconds")
    for label, value in note["labels"].items():
        names = classes.get(label)
        for number in value if isinstance(value, list) and value else [value]:
            if not _is_number(number):
                raise ValueError(f"{member}: label {label!r} is {value!r}; expected a number, or a list of numbers")
            if names is not None and (type(number) is float or not 0 <= number < len(names)):
                raise ValueError(f"{member}: label {label!r} is {value!r}; expected the index of one of {names}")
    return note, file


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


class _Named(io.BytesIO):
    """Bytes with a name for error messages."""

    name = ""
