"""Text: normalising twice is normalising once, tokens joined are the text, encode and decode, save and load."""

import json
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypinyin import Style, lazy_pinyin

from mmlearn import Clip, collate
from mmlearn.preprocessing.text import Segmenter, Vocabulary, characters, normalize, pinyin_syllables
from tests.preprocessing.text.conftest import TEXTS


@settings(max_examples=200)
@given(TEXTS)
def test_tokens_joined_are_the_text(text: str) -> None:
    assert "".join(characters(text)) == text
    assert len(pinyin_syllables(normalize(text))) == len(characters(normalize(text)))


def test_characters() -> None:
    assert characters("三座mountains, don't v2.0\n😀") == [
        "三", "座", "mountains", ",", " ", "don", "'", "t", " ", "v2", ".", "0", "\n", "😀"
    ]  # fmt: skip
    assert characters("Café naïve 2×3") == ["Café", " ", "naïve", " ", "2", "×", "3"]
    assert characters("") == []


def test_pinyin() -> None:
    assert pinyin_syllables("去银行行走的绿 red10") == [
        "qu4", "yin2", "hang2", "xing2", "zou3", "de5", "lv4", " ", "red10"
    ]  # fmt: skip
    text = "三座红色的山"
    assert pinyin_syllables(text) == lazy_pinyin(text, style=Style.TONE3, neutral_tone_with_five=True)
    assert pinyin_syllables("") == []


def test_a_megabyte_in_bounded_time() -> None:
    start = time.process_time()
    for text in ("三座红色的山，向上" * 39_000, "龘" * 350_000, "a" * 1_000_000, " " * 1_000_000, "\u200d" * 350_000):
        assert len(characters(text)) <= len(text)
        assert normalize(normalize(text)) == normalize(text)
    vocabulary = Vocabulary(["三座红色的山，向上"])
    assert vocabulary.encode("三座红色的山，向上" * 39_000).shape == (351_000,)
    assert len(pinyin_syllables("三座红色的山" * 10_000)) == 60_000
    assert time.process_time() - start < 30


@given(st.text(min_size=1))
def test_decode_undoes_encode(text: str) -> None:
    assert Vocabulary([text]).decode(Vocabulary([text]).encode(text)) == text


@given(st.lists(TEXTS.filter(bool), min_size=1, max_size=4))
def test_decode_undoes_encode_of_known_tokens(texts: list[str]) -> None:
    vocabulary = Vocabulary(texts, characters, special=("<start>", "<end>"))
    for text in texts:
        assert vocabulary.decode(vocabulary.encode(text, add_ends=True)) == text
        assert vocabulary.unknowns([text])[0] == 0


def test_ids_are_as_ever() -> None:
    vocabulary = Vocabulary(["红色", "山"])
    assert vocabulary.tokens == ["<pad>", "<unknown>", "山", "红", "色"]
    assert vocabulary.encode("红马").tolist() == [3, 1]
    assert vocabulary.decode(vocabulary.encode("红马")) == "红□"
    assert vocabulary.encode("").tolist() == [Vocabulary.UNKNOWN]
    assert vocabulary.decode([0, 0]) == ""
    assert len(vocabulary) == 5
    assert vocabulary.encode("红").dtype == vocabulary.encode("").dtype


def test_special_tokens_and_ends() -> None:
    vocabulary = Vocabulary(["红色的山"], special=("<start>", "<end>", "<mask>"))
    assert vocabulary.special == {"<pad>": 0, "<unknown>": 1, "<start>": 2, "<end>": 3, "<mask>": 4}
    ids = vocabulary.encode("红山", add_ends=True)
    assert ids[0] == 2 and ids[-1] == 3 and vocabulary.decode(ids) == "红山"
    assert vocabulary.decode([2, 4, ids[2], 3, 0]) == "<mask>山"
    assert vocabulary.encode("", add_ends=True).tolist() == [2, 1, 3]
    assert vocabulary.encode("红色的山", add_ends=True, max_length=4).tolist() == [2, *vocabulary.encode("红色"), 3]
    assert vocabulary.encode("红色的山", max_length=1).tolist() == vocabulary.encode("红").tolist()
    written = Vocabulary(["<mask> 山"], str.split, special=("<mask>",))
    assert written.encode("<mask> 山").tolist() == [1, 3]  # nobody can write a special token


def test_the_most_frequent_are_kept() -> None:
    texts = ["山山山水水红", "红"]
    assert Vocabulary(texts, min_count=2).tokens[2:] == ["山", "水", "红"]
    assert Vocabulary(texts, min_count=3).tokens[2:] == ["山"]
    assert Vocabulary(texts, max_size=4).tokens[2:] == ["山", "水"]  # 水 and 红 tie; the first code point stays
    assert len(Vocabulary(texts, max_size=100)) == 5


def test_unknowns_of_another_corpus() -> None:
    vocabulary = Vocabulary(["红色的山"])
    assert vocabulary.unknowns(["红色的门", "門門"]) == (3, 6, Counter({"門": 2, "门": 1}))
    assert vocabulary.unknowns([]) == (0, 0, Counter())


def test_collate_pads() -> None:
    vocabulary = Vocabulary(["三座红色的山"])
    clips = [Clip({"text": "红山"}), Clip({"text": "三座红色的山"})]
    batch = collate(clips, {"text": vocabulary.encode})
    assert batch.data["text"].shape == (2, 6)
    assert batch.mask["text"].sum(dim=1).tolist() == [2, 6]
    assert (batch.data["text"] == Vocabulary.PAD).equal(~batch.mask["text"])


@settings(max_examples=50)
@given(texts=st.lists(TEXTS.filter(bool), min_size=1, max_size=4), tokenize=st.sampled_from([list, characters]))
def test_save_and_load(tmp_path_factory: pytest.TempPathFactory, texts: list[str], tokenize: type[list]) -> None:
    path = tmp_path_factory.mktemp("save") / "词表.json"
    vocabulary = Vocabulary(texts, tokenize, special=("<mask>",))
    vocabulary.save(path)
    again = Vocabulary.load(path)
    assert again.tokens == vocabulary.tokens and again.special == vocabulary.special
    assert all(again.encode(text).equal(vocabulary.encode(text)) for text in texts)
    assert [p.name for p in path.parent.iterdir()] == ["词表.json"]


def test_a_tokeniser_with_a_state_is_given_again(tmp_path: Path) -> None:
    segmenter = Segmenter(["乒乓球拍 9999"], home=tmp_path)
    vocabulary = Vocabulary(["乒乓球拍卖完了"], segmenter.words)
    assert vocabulary.tokens[2:] == ["乒乓球拍", "了", "卖完"]
    vocabulary.save(tmp_path / "words.json")
    again = Vocabulary.load(tmp_path / "words.json", segmenter.words)
    assert again.encode("乒乓球拍").tolist() == vocabulary.encode("乒乓球拍").tolist() == [2]
    with pytest.raises(ValueError, match=r"words\.json: made with the tokeniser 'Segmenter\.words', given 'none'"):
        Vocabulary.load(tmp_path / "words.json")
    with pytest.raises(ValueError, match=r"given 'characters'; give load\(\) the same one"):
        Vocabulary.load(tmp_path / "words.json", characters)


GOOD = {"mmlearn_vocabulary": 1, "tokenize": "list", "special": [], "tokens": ["山"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"v\.json: no vocabulary, since it is not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"mmlearn_vocabulary": 1', "not JSON"),
        (b"[1, 2]", "version is None; expected 1"),
        (json.dumps({**GOOD, "mmlearn_vocabulary": 2}).encode(), "version is 2"),
        (json.dumps({**GOOD, "tokens": "山"}).encode(), "not both lists of strings"),
        (json.dumps({**GOOD, "tokens": [1]}).encode(), "not both lists of strings"),
        (json.dumps({**GOOD, "tokens": ["山", "山"]}).encode(), "a token stands in it twice"),
        (json.dumps({**GOOD, "special": ["山"]}).encode(), "a token stands in it twice"),
        (json.dumps({**GOOD, "tokenize": None}).encode(), "the tokeniser None"),
        (json.dumps({**GOOD, "tokenize": ["list"]}).encode(), r"the tokeniser \['list'\]"),
    ],
)
def test_not_a_vocabulary(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "v.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        Vocabulary.load(tmp_path / "v.json")


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "v.json"
    Vocabulary(["山"]).save(path)
    before = path.read_bytes()

    def broken(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", broken)
    with pytest.raises(OSError, match="disk full"):
        Vocabulary(["水"]).save(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_unusable_arguments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no character"):
        Vocabulary([""])
    with pytest.raises(ValueError, match="at least 3 times"):
        Vocabulary(["山山"], min_count=3)
    with pytest.raises(ValueError, match="max_size is 2; expected more than the 2 special tokens"):
        Vocabulary(["山"], max_size=2)
    with pytest.raises(ValueError, match="expected different tokens"):
        Vocabulary(["山"], special=("<pad>",))
    with pytest.raises(TypeError, match="texts is a single str"):
        Vocabulary("山")
    with pytest.raises(TypeError, match="a text is NoneType; expected str"):
        Vocabulary(["山", None])  # type: ignore[list-item]
    vocabulary = Vocabulary(["山"], special=("<start>",))
    with pytest.raises(ValueError, match="add_ends needs <start> and <end>"):
        vocabulary.encode("山", add_ends=True)
    with pytest.raises(ValueError, match="max_length is 2; expected at least 3"):
        vocabulary.encode("山", add_ends=True, max_length=2)
    with pytest.raises(ValueError, match="ids hold -1; expected 0 to 3"):
        vocabulary.decode([-1])
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        Vocabulary.load(tmp_path / "none.json")
    for function in (normalize, characters, pinyin_syllables, vocabulary.encode):
        with pytest.raises(TypeError, match="text is int; expected str"):
            function(3)  # type: ignore[operator]
