"""Shards: the truth is the folder they were made of; their bytes are compared with what plain `tarfile` finds."""

import bz2
import errno
import gzip
import io
import itertools
import json
import lzma
import os
import random
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import webdataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from mmlearn.clip import Clip
from mmlearn.datasets import HanziClips, VideoFolder, read_shards, write_shards
from mmlearn.datasets import shards as shards_module
from mmlearn.datasets.hanzi.download import HanziSources
from mmlearn.datasets.shards import ShardedClips
from tests.datasets.forking import forked
from tests.test_files import small_disk


@pytest.fixture(scope="session")
def films(toy_sources: HanziSources, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VideoFolder]:
    """Nine real files with captions and labels: one of them silent, one without caption, one without label."""
    place = tmp_path_factory.mktemp("shards")
    root, rows = place / "films 形", ["path,text,number,speed"]
    root.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMLEARN_HOME", str(place / "home"))
        clips = HanziClips(9, sources=toy_sources, cache=False, workers=1, frames=6)
        for k, clip in enumerate(clips):
            name = f"{k} a.b.{'mkv.MP4' if k % 2 else 'mp4'}"
            (clip.without("audio") if k == 3 else clip).save(root / name)
            label = "" if k == 4 else clips.classes["number"][clip.labels["number"]]
            rows.append(f"{name},{'' if k == 5 else clip.text},{label},{clip.labels['writing_speed']}")
        (root / "films.csv").write_text("\n".join(rows), encoding="utf-8")
        yield VideoFolder(root / "films.csv", num_frames=4, size=(20, 24), workers=1)


@pytest.fixture(autouse=True)
def home(films: VideoFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMLEARN_HOME", str(films.root.parents[1] / "home"))


@pytest.fixture(scope="session")
def out(films: VideoFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five shards or so."""
    out = tmp_path_factory.mktemp("written") / "out %d#?::{1..2}"
    largest = max(entry.path.stat().st_size for entry in films.entries)
    assert len(write_shards(films, out, max_mb=2.5 * largest / 1e6)) >= 4
    return out


def read(out: Path, **settings: object) -> ShardedClips:
    return read_shards(out, **{"num_frames": 4, "size": (20, 24), **settings})  # type: ignore[arg-type]


def check_same(found: Clip, expected: Clip) -> None:
    assert found.streams.keys() == expected.streams.keys() and found.times.keys() == expected.times.keys()
    for name, stream in expected.streams.items():
        assert np.array_equal(found.streams[name], stream), name
        assert getattr(found.streams[name], "dtype", None) == getattr(stream, "dtype", None)
    for name, when in expected.times.items():
        assert np.array_equal(found.times[name], when)
    assert (found.name, found.labels, found.words, found.rates) == (
        expected.name, expected.labels, expected.words, expected.rates)  # fmt: skip


def test_one_channel_of_the_sound(tmp_path: Path) -> None:
    left, right = np.sin(np.arange(16_000) / 20), np.sin(np.arange(16_000) / 9)
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "a.wav", 0.5 * np.stack([left, right], axis=1), 16_000)
    write_shards(VideoFolder(tmp_path / "in", workers=1), tmp_path / "out")
    for channel, expected in {0: left, 1: right, "mean": (left + right) / 2}.items():
        (clip,) = read_shards(tmp_path / "out", channel=channel)
        np.testing.assert_allclose(clip.audio, 0.5 * expected, atol=1e-3)


@pytest.mark.parametrize("shuffle", [0, 4])
@pytest.mark.parametrize("workers", [0, 2, 7])
@pytest.mark.filterwarnings("ignore:This DataLoader will create 7")
def test_the_same_samples_as_the_folder_gives(films: VideoFolder, out: Path, workers: int, shuffle: int) -> None:
    shards = read(out, shuffle=shuffle)
    assert len(shards) == 9 and shards.classes == films.classes and len(films.classes["number"]) > 1
    loader = DataLoader(shards, batch_size=None, num_workers=workers)
    found = list(loader)
    assert len(found) == 9
    by_name = {clip.name: clip for clip in found}
    for clip in films:
        check_same(by_name[clip.name], clip)
    assert [sum(name in clip.streams for clip in found) for name in ("video", "audio", "text")] == [9, 8, 8]
    assert sum("number" in clip.labels for clip in found) == 8
    if not workers:
        assert ([clip.name for clip in found] == films.names) == (shuffle == 0)


def test_the_original_bytes_within_the_size_limit(films: VideoFolder, out: Path) -> None:
    shards, limit = sorted(out.glob("*.tar")), 0.0
    limit = 2.5 * max(entry.path.stat().st_size for entry in films.entries)
    files = []
    for shard in shards:
        assert shard.stat().st_size <= limit
        with tarfile.open(shard) as tar:
            files += [(name, tar.extractfile(name).read()) for name in tar.getnames()]  # type: ignore[union-attr]
    notes = {name: json.loads(data) for name, data in files if name.endswith(".json")}
    assert {name: data for name, data in files if name.endswith("mp4")} == {
        f"{k:06d}.mp4": entry.path.read_bytes() for k, entry in enumerate(films.entries)
    }
    for k, entry in enumerate(films.entries):
        note = notes[f"{k:06d}.json"]
        assert (note["name"], note["text"], note["labels"]) == (entry.name, entry.text, entry.labels)
    index = json.loads((out / "shards.json").read_text("utf-8"))
    assert [(s["name"], s["bytes"]) for s in index["shards"]] == [(s.name, s.stat().st_size) for s in shards]
    assert sorted(path.name for path in out.iterdir()) == [*(s.name for s in shards), "shards.json"]


def test_what_is_too_large_gets_its_own_shard_and_the_same_clips_the_same_bytes(
    films: VideoFolder, out: Path, tmp_path: Path
) -> None:
    assert len(write_shards(films, tmp_path / "a", max_mb=1e-6)) == 9
    assert [len(list(DataLoader(read(tmp_path / "a"), batch_size=None, num_workers=2)))] == [9]
    write_shards(films, tmp_path / "b", max_mb=1e-6)
    assert {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "b").iterdir()
    }
    (shard,) = write_shards(films, tmp_path / "c", shuffle_seed=5)
    order = list(range(9))
    random.Random(5).shuffle(order)
    assert [clip.name for clip in read(tmp_path / "c")] == [films.names[k] for k in order] != films.names
    assert shard == tmp_path / "c/shard-000000.tar"


def test_no_shard_of_several_clips_is_larger_than_the_limit(films: VideoFolder, tmp_path: Path) -> None:
    """Limits 1 kB apart, since tar fills its archives up to a multiple of 10 kB."""
    largest = max(entry.path.stat().st_size for entry in films.entries)
    for limit in range(2 * largest + 14_000, 2 * largest + 26_000, 1000):
        write_shards(films, tmp_path / f"{limit}", max_mb=limit / 1e6)
        index = json.loads((tmp_path / f"{limit}/shards.json").read_text("utf-8"))
        assert all(shard["bytes"] <= limit or shard["clips"] == 1 for shard in index["shards"])
        assert any(shard["clips"] > 1 for shard in index["shards"])


# --- who reads what


@pytest.mark.parametrize("workers", [0, 2])
def test_processes_share_the_shards(
    out: Path, films: VideoFolder, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    names, lengths = [], []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "3")
        shards = read(out, shuffle=2)
        names.append([clip.name for clip in DataLoader(shards, batch_size=None, num_workers=workers)])
        lengths.append(len(shards))
        assert len(read(out, share=False)) == 9 == len(list(read(out, share=False)))
    assert list(map(len, names)) == lengths and min(lengths) > 0
    assert sorted(itertools.chain(*names)) == sorted(films.names)


def test_seeds_reproduce_the_order_and_passes_differ(out: Path) -> None:
    def order(shards: ShardedClips, workers: int = 0) -> list[str]:
        return [clip.name for clip in DataLoader(shards, batch_size=None, num_workers=workers)]

    one, two = read(out, shuffle=5, seed=1), read(out, shuffle=5, seed=1)
    passes = [order(one) for _ in range(4)]
    assert passes == [order(two) for _ in range(4)] and len(set(map(tuple, passes))) > 1
    assert order(read(out, shuffle=5, seed=2)) not in passes[:1]
    shards = read(out, shuffle=5)
    torch.manual_seed(4)
    passes = [order(shards, 2) for _ in range(3)]
    torch.manual_seed(4)
    again = read(out, shuffle=5)
    assert passes == [order(again, 2) for _ in range(3)] and len(set(map(tuple, passes))) > 1
    assert sorted(passes[0]) == sorted(passes[1])


def test_random_sampling(out: Path) -> None:
    shards = read(out, sampling="segment", num_frames=2)
    torch.manual_seed(1)
    times = [tuple(clip.times["video"]) for clip in shards]
    torch.manual_seed(1)
    assert times == [tuple(clip.times["video"]) for clip in shards]
    assert times != [tuple(clip.times["video"]) for clip in shards]


# --- what can be wrong


@pytest.fixture
def broken(out: Path, tmp_path: Path) -> Path:
    return shutil.copytree(out, tmp_path / "broken")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"shuffle": -1}, "shuffle is -1"), ({"size": (0, 1)}, "size is"), ({"sampling": "x"}, "sampling is 'x'")],
)
def test_bad_settings(out: Path, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(out, **arguments)


def test_a_shard_of_another_size_is_refused_at_once(broken: Path) -> None:
    shard = broken / "shard-000001.tar"
    size = shard.stat().st_size
    with open(shard, "r+b") as file:
        file.truncate(size - 512)
    with pytest.raises(
        ValueError, match=rf"shard-000001\.tar: found {size - 512} bytes, expected {size}; the shard is"
    ):
        read(broken)
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=r"shard-000001\.tar"):
        read(broken)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"classes": {}}', '{"shards": 3}', "\x00"])
def test_a_damaged_index(broken: Path, text: str) -> None:
    (broken / "shards.json").write_text(text)
    with pytest.raises(ValueError, match=r"shards\.json: damaged, or not of `write_shards`"):
        read(broken)


def test_no_shards(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no shards\.json there; expected a folder of `write_shards`"):
        read(tmp_path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.integers(0, 10**9), bit=st.integers(0, 7), among=st.sampled_from(["all", "headers and notes"]))
def test_any_damage_to_a_shard_is_noticed(out: Path, films: VideoFolder, where: int, bit: int, among: str) -> None:
    """A flipped bit gives an error that names the shard, or (in padding) the very same clips."""
    shard = out / "shard-000001.tar"
    good = shard.read_bytes()
    places = list(range(len(good)))
    if among != "all":
        with tarfile.open(shard) as tar:
            places = [k for member in tar for k in range(member.offset, member.offset + 512 + min(member.size, 512))]
    data = bytearray(good)
    data[places[where % len(places)]] ^= 1 << bit
    shards = read(out, sample_rate=1000)
    note = next(s for s in shards._shards if s["name"] == shard.name)
    try:
        shard.write_bytes(data)
        try:
            found = list(shards._samples(note))
        except ValueError as error:
            assert str(error).startswith(f"{shard}: ") and "damaged" in str(error)
            return
        shard.write_bytes(good)
        assert found == list(shards._samples(note))
    finally:
        shard.write_bytes(good)


def test_a_damaged_file_is_an_error_in_workers_too(broken: Path) -> None:
    shard = broken / "shard-000001.tar"
    data = bytearray(shard.read_bytes())
    data[1800] ^= 1
    shard.write_bytes(data)
    for workers in (0, 2):
        with pytest.raises(ValueError, match=r"shard-000001\.tar: the shard is damaged after . of . clips \(clip 0000"):
            list(DataLoader(read(broken), batch_size=None, num_workers=workers))


def test_a_missing_note_and_lost_clips_are_errors(broken: Path) -> None:
    shard = broken / "shard-000000.tar"
    with tarfile.open(shard) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]

    def rewrite(keep: slice) -> None:
        with tarfile.open(shard, "w", format=tarfile.USTAR_FORMAT) as tar:
            for member, data in members[keep]:
                tar.addfile(member, io.BytesIO(data))
        index = json.loads((broken / "shards.json").read_text("utf-8"))
        index["shards"][0]["bytes"] = shard.stat().st_size
        (broken / "shards.json").write_text(json.dumps(index), "utf-8")

    rewrite(slice(1, None))
    with pytest.raises(ValueError, match=r"damaged after 0 of . clips \(clip 000000 is not a file with a note\)"):
        list(read(broken))
    rewrite(slice(2, None))
    with pytest.raises(ValueError, match=r"shard-000000\.tar: found . of . clips; the shard is damaged"):
        list(read(broken))


def rewritten(broken: Path, change: Callable[[str, dict], tuple[str, dict]]) -> Path:
    """Write the first shard again, with other names or notes, sealed as ours are, and an index that fits."""
    shard = broken / "shard-000000.tar"
    with tarfile.open(shard) as tar:
        members = [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    with tarfile.open(shard, "w", format=tarfile.GNU_FORMAT) as tar:
        for (film, data), (name, text) in zip(members[::2], members[1::2], strict=True):
            if film.endswith("json"):
                film, data, name, text = name, text, film, data
            note = json.loads(text)
            note.pop("sha256")
            name, note = change(name, note)
            for member, content in ((film, data), (name, shards_module._sealed(note, data))):
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    set_size(broken, shard)
    return shard


def set_size(broken: Path, shard: Path) -> None:
    index = json.loads((broken / "shards.json").read_text("utf-8"))
    index["shards"][0]["bytes"] = shard.stat().st_size
    (broken / "shards.json").write_text(json.dumps(index), "utf-8")


NAN = float("nan")
NOTES = [
    ({"text": ["a", "b"]}, r"000000\.json: text is \['a', 'b'\]; expected a string or null"),
    ({"text": 3}, r"000000\.json: text is 3"),
    ({"name": None}, r"000000\.json: name is None; expected a string"),
    ({"labels": [1]}, r"000000\.json: labels is \[1\]"),
    ({"labels": {"number": [[1]]}}, r"label 'number' is \[\[1\]\]; expected a number"),
    ({"labels": {"number": []}}, r"label 'number' is \[\]"),
    ({"labels": {"number": "3"}}, r"label 'number' is '3'"),
    ({"labels": {"number": True}}, r"label 'number' is True"),
    ({"labels": {"number": None}}, r"label 'number' is None"),
    ({"labels": {"number": 99}}, r"label 'number' is 99; expected the index of one of \["),
    ({"labels": {"number": -1}}, r"label 'number' is -1; expected the index"),
    ({"labels": {"number": 1.0}}, r"label 'number' is 1\.0; expected the index"),
    ({"labels": {"speed": NAN}}, r"label 'speed' is nan; expected a number"),
    ({"labels": {"speed": float("-inf")}}, r"label 'speed' is -inf"),
    ({"labels": {"speed": [1.0, NAN]}}, r"label 'speed' is \[1\.0, nan\]"),
    ({"labels": {"speed": {"a": 1}}}, r"label 'speed' is \{'a': 1\}"),
]


@pytest.mark.parametrize(("change", "message"), NOTES)
def test_notes_that_no_folder_writes_are_refused(broken: Path, change: dict, message: str) -> None:
    shard = rewritten(broken, lambda name, note: (name, note | change))
    with pytest.raises(ValueError, match=rf"{shard.name}: the shard is damaged after 0 of . clips \(.*{message}"):
        list(read(broken))


def test_a_list_of_numbers_is_a_label(broken: Path) -> None:
    rewritten(broken, lambda name, note: (name, note | {"labels": {"speed": [1, 2.5]}}))
    assert next(iter(read(broken))).labels == {"speed": [1, 2.5]}


@pytest.mark.parametrize(
    "name",
    ["../000000.json", "/000000.json", "a/000000.json", "a\\000000.json", "C:000000.json", ".json", "..", "0\n.x"],
)
def test_members_that_lie_elsewhere_are_refused(broken: Path, name: str) -> None:
    shard = rewritten(broken, lambda _, note: (name, note))
    with pytest.raises(ValueError, match=rf"{shard.name}: the shard is damaged after 0 .*member .* is no plain name"):
        list(read(broken))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
def test_members_that_are_no_files_are_refused(broken: Path, kind: bytes) -> None:
    shard = broken / "shard-000000.tar"
    with tarfile.open(shard, "w") as tar:
        member = tarfile.TarInfo("000000.mp4")
        member.type, member.linkname = kind, "/etc/passwd"
        tar.addfile(member)
    set_size(broken, shard)
    with pytest.raises(ValueError, match=r"member 000000\.mp4 is a link, a device, a folder or has holes"):
        list(read(broken))


def test_bombs_are_refused_before_they_unpack(broken: Path) -> None:
    """A shard of a few bytes that would become gigabytes: compressed, sparse, or claimed."""
    shard = broken / "shard-000000.tar"
    good = shard.read_bytes()
    for opener in (gzip.compress, bz2.compress, lzma.compress):
        shard.write_bytes(opener(good))
        set_size(broken, shard)
        with pytest.raises(ValueError, match=r"shard-000000\.tar: the shard is damaged after 0"):
            list(read(broken))
    if shutil.which("tar"):
        with open(broken / "000000.mp4", "wb") as file:
            file.truncate(1 << 36)
        subprocess.run(["tar", "--sparse", "-cf", shard.name, "000000.mp4"], cwd=broken, check=True)
        (broken / "000000.mp4").unlink()
        assert shard.stat().st_size < 100_000
        set_size(broken, shard)
        with pytest.raises(ValueError, match=r"shard-000000\.tar: the shard is damaged after 0.*000000\.mp4"):
            list(read(broken))
    member = tarfile.TarInfo("000000.mp4")
    member.size = 1 << 40
    shard.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(10_240))
    set_size(broken, shard)
    with pytest.raises(ValueError, match=r"member 000000\.mp4 has 1099511627776 bytes in a shard of"):
        list(read(broken))


def test_a_note_of_brackets(broken: Path) -> None:
    shard = broken / "shard-000000.tar"
    with tarfile.open(shard, "w") as tar:
        for name, data in {"000000.mp4": b"x", "000000.json": b"[" * 100_000}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    set_size(broken, shard)
    with pytest.raises(ValueError, match=r"shard-000000\.tar: the shard is damaged after 0"):
        list(read(broken))


def test_a_full_disk_leaves_nothing(films: VideoFolder, tmp_path: Path) -> None:
    with small_disk(tmp_path, "100k") as disk:
        with pytest.raises(OSError) as caught:
            write_shards(films, disk / "out")
        assert caught.value.errno == errno.ENOSPC
        assert {path.name for path in disk.iterdir()} <= {".out.lock"}


def test_a_file_that_cannot_be_decoded_is_named_with_its_shard(films: VideoFolder, out: Path) -> None:
    with pytest.raises(ValueError, match=r"shard-000000\.tar: 0 a\.b\.mp4: size"):  # noqa: SIM117
        with pytest.MonkeyPatch.context() as patch:
            from mmlearn.datasets import reading

            def failing(source: object, **_: object) -> Clip:
                raise ValueError(f"{reading.name_of(source)}: size")  # type: ignore[arg-type]

            patch.setattr(reading, "read_clip", failing)
            next(iter(read(out)))


def test_where_something_is_nothing_is_written(films: VideoFolder, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    for place in ("full", "full/x"):
        with pytest.raises(FileExistsError, match="expected a new or an empty folder"):
            write_shards(films, tmp_path / place)
    for max_mb in (0, float("nan")):
        with pytest.raises(ValueError, match=f"max_mb is {max_mb}; expected megabytes above 0"):
            write_shards(films, tmp_path / "new", max_mb=max_mb)
    assert {path.name for path in tmp_path.rglob("*") if not path.name.endswith(".lock")} == {"full", "x"}
    (tmp_path / "empty").mkdir()
    assert len(write_shards(films, tmp_path / "empty")) == 1 and len(list(read(tmp_path / "empty"))) == 9


def test_files_that_change_or_go_meanwhile(films: VideoFolder, tmp_path: Path) -> None:
    root = shutil.copytree(films.root.parent, tmp_path / "copy")
    mine = VideoFolder(root / "films.csv", num_frames=4, size=(20, 24), workers=1)
    with open(mine.entries[2].path, "ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"2 a\.b\.mp4: the file has changed since its folder was opened"):
        write_shards(mine, tmp_path / "out")
    mine.entries[2].path.unlink()
    with pytest.raises(FileNotFoundError, match=r"2 a\.b\.mp4"):
        write_shards(mine, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} <= {"copy", ".out.lock"}


@pytest.mark.parametrize("suffix", ["", ".json", ".m4v~", ".电影"])
def test_odd_suffixes(films: VideoFolder, tmp_path: Path, suffix: str) -> None:
    shutil.copy(films.entries[0].path, tmp_path / f"film{suffix}")
    (tmp_path / "t.csv").write_text(f"path,text\nfilm{suffix},x\n", encoding="utf-8")
    mine = VideoFolder(tmp_path / "t.csv", num_frames=4, size=(20, 24), workers=1)
    write_shards(mine, tmp_path / "out")
    (clip,) = read(tmp_path / "out")
    check_same(clip, mine[0])


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


@needs_fork
@pytest.mark.parametrize("moment", ["write", "index", "move"])
def test_killed_while_writing_then_completes(
    films: VideoFolder, tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, write, calls = tmp_path / "out", webdataset.TarWriter.write, itertools.count()

    def die(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        if moment == "write":
            patch.setattr(webdataset.TarWriter, "write", lambda *a: write(*a) if next(calls) < 4 else die())
        else:
            patch.setattr(*((Path, "write_text") if moment == "index" else (os, "replace")), die)
        child = forked(lambda: write_shards(films, out, max_mb=0.05))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not out.exists() and list(tmp_path.glob(".out.*.unfinished/shards/*.tar"))
    write_shards(films, out, max_mb=0.05)
    assert [clip.name for clip in read(out)] == films.names
    assert {path.name for path in tmp_path.iterdir()} <= {".out.lock", "out"}


@needs_fork
def test_two_writers_do_not_mix(films: VideoFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = webdataset.TarWriter.write
    monkeypatch.setattr(webdataset.TarWriter, "write", lambda *a: time.sleep(0.05) or write(*a))
    children = [forked(lambda: write_shards(films, tmp_path / "out", max_mb=0.05)) for _ in range(2)]
    assert sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children) == [0, 3]
    assert len(list(read(tmp_path / "out"))) == 9
