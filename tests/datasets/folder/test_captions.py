"""Subtitles beside films, as SubRip and WebVTT files come."""

from pathlib import Path

import numpy as np
import pytest

from mmlearn.clip import Word
from mmlearn.datasets import VideoFolder
from mmlearn.datasets.folder.captions import read_captions
from mmlearn.datasets.folder.listing import list_clips
from mmlearn.media import write_mp4

SRT = "1\n00:00:00,200 --> 00:00:00,500\n<i>hello</i>\nyou\n\n2\n00:00:01,000 --> 00:01:02,500 X1:1\n{\\an8}世界\n"


@pytest.mark.parametrize("text", [SRT, SRT.replace("\n", "\r\n"), "\ufeff" + SRT, SRT.replace("\n\n", "\n \n"),
                                  "WEBVTT\n\nNOTE no\n\nid\n00:00.200 --> 00:00.500 align:start\nhello <b>you</b>\n\n"
                                  "0:01.0 --> 01:02.5\n<c.x>世界</c>"])  # fmt: skip
def test_both_formats(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.srt").write_bytes(text.encode())
    assert read_captions(tmp_path / "a.srt") == [Word("hello you", 0.2, 0.5), Word("世界", 1.0, 62.5)]


def test_words_and_text_of_the_clip_and_of_its_part(tmp_path: Path, own_home: Path) -> None:
    write_mp4(tmp_path / "a.mp4", video=np.zeros((20, 16, 16, 3), np.uint8), fps=10)
    write_mp4(tmp_path / "b.mp4", video=np.ones((20, 16, 16, 3), np.uint8), fps=10, subtitles=[(0, 1, "own")])
    for name in ("a.zh.SRT", "b.vtt"):
        (tmp_path / name).write_text(SRT, encoding="utf-8")
    films = VideoFolder(tmp_path, num_frames=1, workers=1)
    assert (
        films[0].words == [Word("hello you", 0.2, 0.5), Word("世界", 1.0, 62.5)] and films[0].text == "hello you 世界"
    )
    assert [word.text for word in films[1].words] == ["own"]
    assert "text        2, none for 0" in films.report() and ".srt" not in films.report()
    (tmp_path / "t.csv").write_text("path,start,end,text\na.mp4,0.4,1.2,\na.mp4,,,mine\na.mp4,0.6,0.9,\n")
    parts = VideoFolder(tmp_path / "t.csv", num_frames=1, workers=1)
    assert [(w.text, round(w.start, 6), round(w.end, 6)) for w in parts[0].words] == [
        ("hello you", 0, 0.1), ("世界", 0.6, 0.8)]  # fmt: skip
    assert [clip.text for clip in parts] == ["hello you 世界", "mine", None]


def test_what_cannot_be_used_is_noted(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4", "c.mp4", "d.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "a.srt").write_bytes("1\n00:00:00,0 --> 00:00:01,0\n红山\n".encode("gb18030"))
    (tmp_path / "b.srt").write_text("nothing")
    for name in ("c.en.srt", "c.zh.srt"):
        (tmp_path / name).write_text(SRT, encoding="utf-8")
    listing = list_clips(tmp_path)
    assert [entry.caption for entry in listing.entries] == [None] * 4
    assert "2 files of subtitles are not used; " in listing.notes[0] and "GB18030" in listing.notes[0]
    assert listing.ignored == {".srt": 4}
    (tmp_path / "c.srt").write_text(SRT, encoding="utf-8")
    assert list_clips(tmp_path).entries[2].caption == "hello you 世界"
