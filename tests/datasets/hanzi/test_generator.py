"""mmlearn.datasets.hanzi.generator: many processes, killed, on full disks; other recordings are other clips."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mmlearn.datasets.hanzi import grammar
from mmlearn.datasets.hanzi.dataset import HanziClips
from mmlearn.datasets.hanzi.download import HanziSources
from mmlearn.datasets.hanzi.pinyin import zhuyin_of
from tests.datasets.conftest import SMALL, arrays_of, digest, flip
from tests.test_files import child, small_disk
from tests.test_workers import alive


def test_other_ingredients_other_folder(make, toy_sources: HanziSources, own_home: Path) -> None:
    make(1)
    HanziClips(1, sources=HanziSources(toy_sources.strokes, None), workers=1)
    assert sum(p.is_dir() for p in (own_home / "hanzi" / "clips").iterdir()) == 2


@pytest.mark.parametrize("controls", [({}, {}), ({}, {"seed": 1}), ({}, {"snr_db": 0, "noise": "white"})])
def test_two_threads_at_once(make, own_home: Path, controls: tuple[dict, dict]) -> None:
    """Field: of two sets made at once in one process, 120 of 120 clips were wrong, and kept."""
    found: list[str | None] = [None, None]

    def work(k: int) -> None:
        found[k] = digest(make(30, **SMALL, **controls[k]))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(2):
        fresh, kept = (make(30, cache=cache, **SMALL, **controls[k]) for cache in (False, True))
        assert found[k] == digest(fresh) == digest(kept)


GENERATE = """
import sys
from pathlib import Path
from mmlearn.datasets.hanzi.download import HanziSources
from mmlearn.datasets.hanzi.dataset import HanziClips
sources = HanziSources(Path(sys.argv[1]), Path(sys.argv[2]))
{before}
clips = HanziClips(int(sys.argv[3]), sources=sources, workers=int(sys.argv[4]), frames=2, image_size=8)
print(clips._folder, flush=True)
"""


def generation(sources: HanziSources, size: int, workers: int, before: str = "") -> subprocess.Popen[str]:
    return child(GENERATE.format(before=before), sources.strokes, sources.voices, size, workers)


def test_two_processes_at_once_make_one(toy_sources: HanziSources, own_home: Path, make) -> None:
    processes = [generation(toy_sources, 30, 1) for _ in range(2)]
    said = [process.communicate()[0] for process in processes]
    assert said[0] == said[1] == f"{arrays_of(own_home)[0]}\n"
    assert digest(make(30, **SMALL)) == digest(make(30, cache=False, **SMALL))
    assert {p.suffix for p in (own_home / "hanzi" / "clips").iterdir()} == {"", ".lock"}


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_killed_generation_leaves_no_process_and_no_folder(
    toy_sources: HanziSources, own_home: Path, make, how: signal.Signals
) -> None:
    process = generation(toy_sources, 20_000, 2)
    parts, deadline = own_home / "hanzi" / "clips", time.monotonic() + 300
    while not list(parts.glob(".*.unfinished/clips/audio.npy")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    workers: list[int] = []
    while not workers:
        assert time.monotonic() < deadline
        tasks = list(Path(f"/proc/{process.pid}/task").iterdir())
        workers = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    process.send_signal(how)
    process.communicate()
    while any(alive(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert list(parts.glob(".*.unfinished"))
    make(2, **SMALL)  # other settings
    assert not list(parts.glob(".*.unfinished"))


def test_a_full_disk_is_an_error_and_no_signal(toy_sources: HanziSources, tmp_path: Path, monkeypatch) -> None:
    with small_disk(tmp_path) as disk:
        monkeypatch.setenv("MMLEARN_HOME", str(disk))
        for size in (1000, 17):  # far too much, and a little
            process = generation(toy_sources, size, 1)
            _, errors = process.communicate()
            assert process.returncode == 1, errors
            last = errors.strip().splitlines()[-1]
            assert last.startswith("OSError: [Errno 28]") and "MMLEARN_HOME" in last and "free some room" in last
            assert not list(disk.rglob("*.unfinished"))


def test_a_disk_that_fills_up_while_clips_are_made(toy_sources: HanziSources, tmp_path: Path, monkeypatch) -> None:
    """Where the file system cannot reserve room, and another process takes it."""
    before = "import os\ndel os.posix_fallocate\nfrom mmlearn import files\nfiles.check_room = lambda *_: None"
    with small_disk(tmp_path) as disk:
        monkeypatch.setenv("MMLEARN_HOME", str(disk))
        process = generation(toy_sources, 100, 1, before)
        _, errors = process.communicate()
        assert process.returncode == 1 and errors.strip().splitlines()[-1].startswith("OSError: [Errno 28]"), errors


def test_a_limit_on_the_size_of_files(toy_sources: HanziSources) -> None:
    before = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))"
    process = generation(toy_sources, 100, 1, before)
    _, errors = process.communicate()
    assert process.returncode == 1 and errors.strip().splitlines()[-1].startswith("OSError: [Errno 27]"), errors


def test_other_recordings_of_the_same_names_are_other_clips(
    make, toy_sources: HanziSources, tmp_path: Path, own_home: Path
) -> None:
    """Field: the cache gave another voice's clips when the recordings had changed."""
    voices = shutil.copytree(toy_sources.voices, tmp_path / "voices")
    sources = HanziSources(toy_sources.strokes, voices)
    first = digest(HanziClips(8, sources=sources, workers=1, **SMALL))
    assert first == digest(make(8, **SMALL)) and len(arrays_of(own_home)) == 1
    for path in voices.glob("*/3.ogg"):
        shutil.copy(path, path.with_name("5.ogg"))
    assert digest(HanziClips(8, sources=sources, workers=1, **SMALL)) != first
    path = next(voices.glob("ㄏㄨㄥ2/3.ogg"))
    before = path.stat()
    flip(path, before.st_size - 20_000, 5)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # same size and date
    HanziClips(8, sources=sources, workers=1, **SMALL)
    assert len(arrays_of(own_home)) == 3


def test_the_crowd_counts_only_where_it_is_heard(
    make, toy_sources: HanziSources, tmp_path: Path, own_home: Path
) -> None:
    voices = shutil.copytree(toy_sources.voices, tmp_path / "voices")
    shutil.rmtree(voices / "ㄒㄧ")  # 西, of which no sentence is made
    sources = HanziSources(toy_sources.strokes, voices)
    for controls, folders in (({}, 1), ({"snr_db": 0}, 3), ({"snr_db": 0, "noise": "white"}, 4)):
        HanziClips(2, sources=sources, workers=1, **SMALL, **controls)
        make(2, **SMALL, **controls)
        assert len(arrays_of(own_home)) == folders


def test_babble_without_anybody_to_babble(toy_sources: HanziSources, tmp_path: Path) -> None:
    """Field: `high <= 0`."""
    voices = tmp_path / "voices"
    for char in grammar.ALPHABET:
        name = zhuyin_of(char)
        if not (voices / name).exists():
            shutil.copytree(toy_sources.voices / name, voices / name)
    sources = HanziSources(toy_sources.strokes, voices)
    with pytest.raises(ValueError, match=r"noise is 'babble'.*voices holds no other syllables by voice 3 or 5.*white"):
        HanziClips(2, sources=sources, workers=1, snr_db=0, **SMALL)
    assert len(HanziClips(2, sources=sources, workers=1, snr_db=0, noise="white", **SMALL)) == 2
    shutil.copytree(toy_sources.voices / "ㄒㄧ", voices / "ㄒㄧ")
    assert len(list(HanziClips(2, sources=sources, workers=1, snr_db=0, **SMALL))) == 2
    (voices / "ㄒㄧ" / "3.ogg").write_bytes(b"no sound")
    with pytest.raises(ValueError, match=r"ㄒㄧ/3\.ogg: cannot read this recording"):
        HanziClips(2, sources=sources, workers=1, snr_db=0, **SMALL)
    soundfile.write(voices / "ㄒㄧ" / "3.ogg", np.zeros(8000), 16_000, format="WAV")
    with pytest.raises(ValueError, match=r"ㄒㄧ/3\.ogg: the recording is silent"):
        HanziClips(2, sources=sources, workers=1, snr_db=0, **SMALL)
