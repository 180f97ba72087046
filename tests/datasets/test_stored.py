"""mmlearn.datasets.stored: how large the data are, which are damaged, and how to be rid of them."""

from pathlib import Path

from mmlearn.datasets.stored import FETCHED, MADE, clear, damaged, sizes


def put(home: Path, name: str, content: bytes = b"12345") -> Path:
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_sizes_of_what_is_there(tmp_path: Path) -> None:
    assert sizes(tmp_path) == []
    put(tmp_path, "film/bigbuckbunny.mp4")
    put(tmp_path, "grid/abc/video.npy", bytes(70))
    found = sizes(tmp_path)
    assert [(name, path) for name, path, _ in found] == [("film", tmp_path / "film"), ("grid", tmp_path / "grid")]
    assert [size for *_, size in found] == [5, 70]


def test_damage_of_what_was_fetched_is_named(tmp_path: Path) -> None:
    put(tmp_path, "hanzi/strokes/good.json", b"[1]")
    assert damaged(tmp_path) == []
    broken, film = put(tmp_path, "hanzi/strokes/x.json", b"[1"), put(tmp_path, "film/bigbuckbunny.mp4")
    face = put(tmp_path, "faces/pnet.pt")
    arrays = put(tmp_path, "hanzi/clips/abc/video.npy").parent
    found = dict(damaged(tmp_path))
    assert set(found) == {broken, film, face, arrays}
    assert found[broken].startswith("not JSON") and found[film] == "another film than the one fetched"


def test_what_was_made_goes_and_what_was_fetched_only_if_asked(tmp_path: Path) -> None:
    for at in (*FETCHED.values(), *MADE.values()):
        put(tmp_path, f"{at}/a/b")
    lock = put(tmp_path, "downloads/lock", b"")
    assert clear(tmp_path) == 5 * len(MADE)
    assert not any((tmp_path / at / "a").exists() for at in MADE.values()) and lock.exists()
    assert all((tmp_path / at / "a/b").exists() for at in FETCHED.values())
    assert clear(tmp_path, fetched=True) == 5 * len(FETCHED)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [lock]
