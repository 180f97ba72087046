"""Segmenter against bare jieba, and what it leaves behind."""

import logging
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import jieba
import jieba.posseg
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlearn.datasets.hanzi import grammar
from mmlearn.preprocessing.text import segmentation
from mmlearn.preprocessing.text.segmentation import Segmenter, remove_stop_words

RNG = np.random.default_rng(0)
CAPTIONS = [
    grammar.caption(
        RNG, grammar.draw_sentence(RNG, int(RNG.integers(2, 6)), str(RNG.choice(grammar.NUMBERS))), language
    )
    for language in ("zh", "en", "both")
    for _ in range(200)
]
SENTENCES = [
    "南京市长江大桥",
    "乒乓球拍卖完了",
    "他来到了网易杭研大厦",
    "10座T恤，don't e-mail v2.0 50% a_b\r\n\t 😀",
    "",
    " ",
    "□",
]
WORDS = st.sampled_from(
    ["南京市", "长江", "大桥", "山", "的", "，", " ", "\n", "T恤", "red", "3.5", "%", "-", "门門", "😀", "龘"]
)
TEXTS = st.one_of(st.text(), st.lists(WORDS).map("".join))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def segmenter(home: Path) -> Segmenter:
    return Segmenter(home=home)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> jieba.Tokenizer:
    tokenizer = jieba.Tokenizer()
    tokenizer.tmp_dir = str(tmp_path_factory.mktemp("bare"))
    return tokenizer


@pytest.fixture(scope="module")
def bare_tagger(bare: jieba.Tokenizer) -> jieba.posseg.POSTokenizer:
    return jieba.posseg.POSTokenizer(bare)


def check_equal(segmenter: Segmenter, bare: jieba.Tokenizer, text: str) -> None:
    for hmm in (True, False):
        assert segmenter.words(text, hmm=hmm) == bare.lcut(text, HMM=hmm)
        assert segmenter.words(text, "search", hmm) == bare.lcut_for_search(text, HMM=hmm)
    assert segmenter.words(text, "full") == [word for word in bare.lcut(text, cut_all=True) if word]


def test_words_equal_jieba(segmenter: Segmenter, bare: jieba.Tokenizer) -> None:
    for text in CAPTIONS + SENTENCES:
        check_equal(segmenter, bare, text)


@settings(max_examples=200)
@given(text=TEXTS)
def test_words_equal_jieba_on_any_text(segmenter: Segmenter, bare: jieba.Tokenizer, text: str) -> None:
    check_equal(segmenter, bare, text)
    assert "".join(segmenter.words(text)) == text


def test_tags_equal_jieba(segmenter: Segmenter, bare_tagger: jieba.posseg.POSTokenizer) -> None:
    for text in CAPTIONS[::5] + SENTENCES:
        assert segmenter.tags(text) == [(pair.word, pair.flag) for pair in bare_tagger.cut(text)]


@settings(max_examples=40)
@given(text=st.lists(WORDS, max_size=12).map("".join))
def test_tags_equal_jieba_on_any_text(segmenter: Segmenter, bare_tagger: jieba.posseg.POSTokenizer, text: str) -> None:
    assert segmenter.tags(text) == [(pair.word, pair.flag) for pair in bare_tagger.cut(text)]


@settings(max_examples=60)
@given(text=TEXTS, limit=st.integers(1, 9))
def test_long_texts_are_cut_where_jieba_cuts(segmenter: Segmenter, text: str, limit: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmentation, "LONGEST_RUN", limit)
        assert "".join(segmentation._pieces(text)) == text  # with runs of up to 1,000: nothing is broken
        assert [w for piece in segmentation._pieces(text) for w in segmenter.words(piece)] == segmenter.words(text)


def test_a_megabyte_in_bounded_time(segmenter: Segmenter, bare: jieba.Tokenizer) -> None:
    start = time.process_time()
    captions = ("，".join(CAPTIONS[:200]) * 120)[:350_000]  # 1 MB of UTF-8
    assert len("".join(segmenter.words(captions))) == 350_000
    assert segmenter.words(captions[:20_000]) == bare.lcut(captions[:20_000])
    unknown = "龘" * 150_000  # jieba alone: a minute
    assert "".join(segmenter.words(unknown)) == unknown
    assert "".join(segmenter.words("a" * 1_000_000)) == "a" * 1_000_000
    assert "".join(word for word, _ in segmenter.tags("龘" * 20_000)) == "龘" * 20_000  # jieba alone: 3 minutes
    assert time.process_time() - start < 30


def test_many_texts_and_processes(segmenter: Segmenter) -> None:
    texts = CAPTIONS[:101]
    expected = [segmenter.words(text) for text in texts]
    for processes in (1, 2, 3):
        assert segmenter.words_of_all(iter(texts), processes) == expected
    odd = ["", "a\0b", "\0", " ", "山\ud83d", "山\0" * 3]  # processes send words joined by \0
    assert segmenter.words_of_all(odd, 2) == [segmenter.words(text) for text in odd]
    assert segmenter.words_of_all([], 2) == []
    assert segmenter.words_of_all(texts[:1], 8) == expected[:1]
    with pytest.raises(TypeError, match="text is NoneType"):
        segmenter.words_of_all(["山", None], 2)  # type: ignore[list-item]
    with pytest.raises(TypeError, match="texts is a single str"):
        segmenter.words_of_all("山水")
    with pytest.raises(ValueError, match="processes is 0"):
        segmenter.words_of_all(texts, 0)


def test_user_words_stay_in_their_segmenter(home: Path, segmenter: Segmenter, bare: jieba.Tokenizer) -> None:
    own = Segmenter(["乒乓球拍 9999", "卖完 5000 v", "多模态大模型 nz", ""], home=home)
    assert own.words("乒乓球拍卖完了") == ["乒乓球拍", "卖完", "了"]
    assert own.tags("多模态大模型") == [("多模态大模型", "nz")]
    assert pickle.loads(pickle.dumps(own)).words("乒乓球拍卖完了") == ["乒乓球拍", "卖完", "了"]
    assert own.words_of_all(["乒乓球拍卖完了"] * 3, 2) == [["乒乓球拍", "卖完", "了"]] * 3
    assert segmenter.words("乒乓球拍卖完了") == bare.lcut("乒乓球拍卖完了") == ["乒乓球", "拍卖", "完", "了"]
    assert not jieba.dt.initialized  # the tokenizer behind jieba.cut was never touched


def test_user_words_equal_jieba(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "用户 词.txt"
    path.write_text("\ufeff云计算 5\n\n李小福 2 nr\r\n创新办 3 i\n台中\n", "utf-8")
    tokenizer = jieba.Tokenizer()
    tokenizer.tmp_dir = str(tmp_path)
    tokenizer.load_userdict(str(path))
    text = "李小福是创新办主任也是云计算方面的专家；台中正确应该不会被切开。"
    own = Segmenter(path, home=home)
    assert own.words(text) == tokenizer.lcut(text)
    assert own.tags(text) == [tuple(pair) for pair in jieba.posseg.POSTokenizer(tokenizer).cut(text)]


def test_stop_words(home: Path, tmp_path: Path) -> None:
    (tmp_path / "stop.txt").write_text("的\n，\n", "utf-8")
    own = Segmenter(stop_words=tmp_path / "stop.txt", home=home)
    assert own.words("红色的山，向上移动") == ["红色", "山", "向上", "移动"]
    assert [word for word, _ in own.tags("红色的山，向上移动")] == ["红色", "山", "向上", "移动"]
    assert own.words_of_all(["的", "，的", "红的"], 2) == [[], [], ["红"]]
    assert remove_stop_words("红的山", {"的"}) == ["红", "山"]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["山", "deep learning"], r"user_words, entry 2: 'deep learning'; expected 'word'"),
        (["山 -1"], "entry 1"),
        (["山 0 n"], "the frequency of '山' is 0"),
        (["罗密欧·朱丽叶"], "'罗密欧·朱丽叶' could never be found"),
        (["𠮷野家"], "could never be found"),
        ("山\nnew york n\n", r"words\.txt, line 2: 'new york n'"),
    ],
)
def test_unusable_user_words(home: Path, tmp_path: Path, entries: list[str] | str, message: str) -> None:
    if isinstance(entries, str):
        (tmp_path / "words.txt").write_text(entries, "utf-8")
        entries = str(tmp_path / "words.txt")  # type: ignore[assignment]
    with pytest.raises(ValueError, match=message):
        Segmenter(entries, home=home)


def test_unusable_arguments(segmenter: Segmenter, home: Path, tmp_path: Path) -> None:
    (tmp_path / "gbk.txt").write_bytes("云计算".encode("gbk"))
    with pytest.raises(ValueError, match=r"gbk\.txt: user_words in a file are UTF-8, but byte 0"):
        Segmenter(tmp_path / "gbk.txt", home=home)
    with pytest.raises(FileNotFoundError, match=r"none\.txt: no such file"):
        Segmenter(stop_words=tmp_path / "none.txt", home=home)
    with pytest.raises(TypeError, match="user_words, entry 1 is int"):
        Segmenter([3], home=home)  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"mode is 'exact'; expected one of \('precise'"):
        segmenter.words("山", "exact")
    with pytest.raises(TypeError, match="text is bytes"):
        segmenter.words(b"x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="text is NoneType"):
        segmenter.tags(None)  # type: ignore[arg-type]


USE = """
import sys
from mmlearn.preprocessing.text.segmentation import Segmenter
segmenter = Segmenter()
print(segmenter.words("南京市长江大桥"), segmenter.tags("山"))
assert "torch" not in sys.modules
"""


def start(folder: Path, home: Path) -> subprocess.Popen[str]:
    """Use a Segmenter as on a fresh machine: an empty temporary folder, and no compiled jieba."""
    temporary = folder / "temporary"
    temporary.mkdir(parents=True)
    environment = os.environ | {
        "MMLEARN_HOME": str(home),
        "TMPDIR": str(temporary),
        "PYTHONPYCACHEPREFIX": str(folder / "compiled"),
    }
    pipe = subprocess.PIPE
    # "default" shows each warning, of whatever kind; what jieba's source deserves is heard by the compiler
    command = [sys.executable, "-W", "default", "-c", USE]
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


def finish(process: subprocess.Popen[str], folder: Path) -> None:
    out, err = process.communicate(timeout=60)
    assert (out, err) == ("['南京市', '长江大桥'] [('山', 'n')]\n", "")
    assert not list((folder / "temporary").iterdir())


def test_no_message_no_shared_folder_and_two_at_once(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    processes = [start(folder, tmp_path / "home") for folder in folders]
    for process, folder in zip(processes, folders, strict=True):
        finish(process, folder)
    (cache,) = (tmp_path / "home" / "jieba").iterdir()  # one file, and nothing half-written
    cache.write_bytes(cache.read_bytes()[:1000])  # a broken cache is made again
    process = start(tmp_path / "c", tmp_path / "home")
    finish(process, tmp_path / "c")
    assert cache.stat().st_size > 1_000_000


def test_home_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    finish(start(tmp_path / "a", tmp_path / "home"), tmp_path / "a")


def test_log_level_is_restored(home: Path) -> None:
    logger = logging.getLogger("jieba")
    before = logger.level
    Segmenter(home=home)
    assert logger.level == before
