"""mmlearn.datasets.folder.records: what is known of a clip."""

from pathlib import Path

import pytest

from mmlearn.clip import Word
from mmlearn.datasets.folder.records import Listing, Record, printable


def test_a_caption_is_the_text_or_else_the_subtitles() -> None:
    words = [Word("one", 0, 1), Word("two", 1, 2)]
    assert Record("a", Path("a"), text="三", words=words).caption == "三"
    assert Record("a", Path("a"), words=words).caption == "one two"
    assert Record("a", Path("a")).caption is None and Record("a", Path("a"), text="").caption is None


@pytest.mark.parametrize(("times", "part"), [({}, False), ({"start": 0.5}, True), ({"end": 2.0}, True)])
def test_a_part_has_a_beginning_or_an_end(times: dict[str, float], part: bool) -> None:
    assert Record("a", Path("a"), **times).is_part is part  # type: ignore[arg-type]


def test_listings_share_nothing() -> None:
    one, other = Listing(), Listing()
    one.entries.append(Record("a", Path("a")))
    one.skipped["b"], one.ignored[".txt"] = "no film", 2
    assert other == Listing()


def test_names_that_are_no_text_can_be_printed() -> None:
    assert printable("三.mp4") == "三.mp4" and printable("a\udcff.mp4") == "a\\udcff.mp4"
