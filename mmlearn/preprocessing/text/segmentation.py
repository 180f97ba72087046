"""Chinese words: segmentation and part-of-speech tags by jieba, without its traces.

jieba (0.42.1) keeps one dictionary for the whole process, writes its cache into the shared temporary folder and reports
on stderr. `Segmenter` has a dictionary of its own, a cache in `mmlearn.home()`, and is silent.

Chapter: preprocessing/text.
"""

import gc
import importlib
import logging
import multiprocessing
import os
import re
import sys
import warnings
from collections.abc import Collection, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from mmlearn import runtime

MODES = ("precise", "full", "search")
# What jieba looks up in its dictionary; at any other character it cuts.
_SEARCHED = r"[\u4E00-\u9FD5a-zA-Z0-9+#&._%\-]"
# jieba's hidden Markov model takes time quadratic in a run of unknown characters, its tagger 8 ms for each rare one.
LONGEST_RUN, MOST_RARE = 1_000, 20
_PIECE = re.compile(rf"{_SEARCHED}{{1,{LONGEST_RUN}}}|(?:(?!{_SEARCHED}).)+", re.DOTALL)
_ENTRY = re.compile(r"(\S+)(?:\s+(\d+))?(?:\s+([a-z]{1,4}))?")


class Segmenter:
    """Cut text into words (分词) and tag them (词性标注).

    Words are jieba's, with three exceptions. The empty strings of its full mode are left out. A run of more than 1,000
    letters and characters without space or punctuation is cut into pieces of 1,000 first, which can break a word
    there, since jieba would take hours. And tags of such a piece with more than 20 characters that jieba's tagger does
    not know (traditional ones, for example) come from the dictionary alone.

    Args:
        user_words: Words that the dictionary lacks, each "word", "word frequency", "word tag" or "word frequency tag";
            or the path of a UTF-8 file with one a line. Without a frequency, a word gets one just high enough to be
            found by itself; among certain neighbours it may need more.
        stop_words: Words to leave out of every result; or the path of a UTF-8 file with one a line.
        home: Folder for the cache, "jieba" below it; by default `mmlearn.home()`. If it cannot be written, there is no
            cache, and starting takes half a second longer.

    Raises:
        ValueError: If an entry has another form, or could never be found; it names the line.
        FileNotFoundError: If there is no such file.

    Chapter: preprocessing/text.
    """

    def __init__(
        self,
        user_words: Iterable[str] | str | os.PathLike[str] = (),
        stop_words: Iterable[str] | str | os.PathLike[str] = (),
        home: str | os.PathLike[str] | None = None,
    ) -> None:
        entries = _read_words(user_words, "user_words")
        parsed = [_parse(entry, where) for where, entry in entries]
        self.user_words = [entry for _, entry in entries]
        self.stop_words = frozenset(word for _, word in _read_words(stop_words, "stop_words"))
        self.home = Path(home) if home is not None else runtime.home()
        self._tokenizer = _load(self.home / "jieba")
        self._tagger: Any = None
        for word, frequency, tag in parsed:
            self._tokenizer.add_word(word, frequency, tag)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what it was made from: the dictionary's lock cannot go to another process."""
        return Segmenter, (self.user_words, list(self.stop_words), self.home)

    def words(self, text: str, mode: str = "precise", hmm: bool = True) -> list[str]:
        """Cut a text into words; spaces and punctuation are words, too.

        Args:
            text: What to cut. Joined, the words of the precise mode are the text again.
            mode: "precise" (the most probable path), "full" (every word of the dictionary that is in it) or "search"
                (the precise words, each after the shorter words in it).
            hmm: Whether to guess unknown words with a hidden Markov model. The full mode never does.

        Raises:
            TypeError, ValueError: If `text` is no string, or there is no such mode.
        """
        check_text(text)
        if mode not in MODES:
            raise ValueError(f"mode is {mode!r}; expected one of {MODES}")
        if mode == "search":
            found = [word for piece in _pieces(text) for word in self._tokenizer.lcut_for_search(piece, hmm)]
        else:
            found = [word for piece in _pieces(text) for word in self._tokenizer.cut(piece, mode == "full", hmm)]
        if mode == "full":
            found = [word for word in found if word]
        return remove_stop_words(found, self.stop_words) if self.stop_words else found

    def tags(self, text: str) -> list[tuple[str, str]]:
        """Cut a text into words with their parts of speech, in ICTCLAS's letters: n noun, v verb, a adjective.

        Where a word is not in the dictionary, its tag is guessed with it; "x" is what is no word at all.

        Raises:
            TypeError: If `text` is no string.
        """
        check_text(text)
        if self._tagger is None:
            self._tagger = _import("jieba.posseg").POSTokenizer(self._tokenizer)
        known = _import("jieba.posseg").char_state_tab_P
        found = []
        for piece in _pieces(text):
            rare = sum("\u4e00" <= character <= "\u9fd5" and character not in known for character in piece)
            found += [tuple(pair) for pair in self._tagger.cut(piece, HMM=rare <= MOST_RARE)]
        return [(word, tag) for word, tag in found if word not in self.stop_words]

    def words_of_all(self, texts: Iterable[str], processes: int = 1) -> list[list[str]]:
        """Cut many texts: `[words(text) for text in texts]`.

        Args:
            texts: What to cut.
            processes: How many share the work, this one included. The others are forked, which is safe on Linux;
                elsewhere this process does it all.

        Raises:
            TypeError, ValueError: If a text is no string, or `processes` is not positive.
        """
        if processes < 1:
            raise ValueError(f"processes is {processes}; expected at least 1")
        if isinstance(texts, str):
            raise TypeError("texts is a single str; expected a list of them")
        texts = list(texts)
        processes = min(processes, len(texts)) if sys.platform == "linux" else 1
        if processes <= 1:
            return [self.words(text) for text in texts]
        found: list[list[str]] = [[]] * len(texts)
        context = multiprocessing.get_context("fork")  # dictionary and texts are inherited, not copied
        with ProcessPoolExecutor(processes - 1, context, initializer=_begin, initargs=(self, texts)) as pool:
            shares = {k: pool.submit(_cut_share, k, processes) for k in range(1, processes)}
            found[0::processes] = [self.words(text) for text in texts[0::processes]]
            for k, share in shares.items():
                found[k::processes] = [_split(words) for words in share.result()]
        return found


def remove_stop_words(words: Iterable[str], stop_words: Collection[str]) -> list[str]:
    """Return the words that are not stop words (停用词).

    Args:
        words: A text's words, or its characters.
        stop_words: What to leave out; a set is quickest.

    Chapter: preprocessing/text.
    """
    return [word for word in words if word not in stop_words]


def check_text(text: object, name: str = "text") -> None:
    """Make sure that something is a string.

    Raises:
        TypeError: If it is not.
    """
    if not isinstance(text, str):
        raise TypeError(f"{name} is {type(text).__name__}; expected str")


_here: tuple[Segmenter, list[str]]  # of a forked process


def _begin(segmenter: Segmenter, texts: list[str]) -> None:
    global _here
    _here = segmenter, texts
    gc.freeze()  # a look at inherited objects would copy them


def _cut_share(first: int, step: int) -> list[str | list[str]]:
    """Cut every step-th text; one string a text travels back several times as fast as many small ones."""
    segmenter, texts = _here
    shared = [segmenter.words(text) for text in texts[first::step]]
    joined = ["\0".join(words) for words in shared]
    return [words if "\0" in words else one for words, one in zip(shared, joined, strict=True)]


def _split(words: str | list[str]) -> list[str]:
    """Undo what `_cut_share` did to the words of a text."""
    return words if isinstance(words, list) else words.split("\0") if words else []


def _pieces(text: str) -> list[str]:
    """Cut a very long text where jieba would cut it anyway, and every 1,000 characters."""
    return [text] if len(text) <= LONGEST_RUN else _PIECE.findall(text)


def _read_words(words: Iterable[str] | str | os.PathLike[str], name: str) -> list[tuple[str, str]]:
    """Return (where it stands, entry) of a list or a file's lines, without empty ones."""
    if isinstance(words, (str, os.PathLike)):
        path = Path(words)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; {name} takes a list of words or the path of a file")
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: {name} in a file are UTF-8, but byte {error.start} is not") from error
        entries = [(f"{path}, line {number}", line) for number, line in enumerate(lines, 1)]
    else:
        entries = [(f"{name}, entry {number}", entry) for number, entry in enumerate(words, 1)]
    for where, entry in entries:
        check_text(entry, where)
    return [(where, entry.strip()) for where, entry in entries if entry.strip()]


def _parse(entry: str, where: str) -> tuple[str, int | None, str | None]:
    """Return word, frequency and tag of an entry of a user dictionary."""
    match = _ENTRY.fullmatch(entry)
    if match is None:
        raise ValueError(f"{where}: {entry!r}; expected 'word', 'word frequency', 'word tag' or 'word frequency tag'")
    word, frequency, tag = match.groups()
    if not re.fullmatch(f"{_SEARCHED}+", word):
        raise ValueError(
            f"{where}: {word!r} could never be found; expected Chinese characters (U+4E00 to U+9FD5), letters, "
            "digits and + # & . _ % -, since jieba cuts at everything else"
        )
    if frequency is not None and int(frequency) == 0:  # jieba would forbid the word in the whole process
        raise ValueError(f"{where}: the frequency of {word!r} is 0; expected at least 1")
    return word, None if frequency is None else int(frequency), tag


def _import(name: str) -> ModuleType:
    """Import a part of jieba without its warnings (old escapes in strings, pkg_resources)."""
    if name in sys.modules:
        return sys.modules[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


def _load(folder: Path) -> Any:
    """Return a tokenizer with a dictionary of its own; its cache is written to `folder` where that is possible."""
    jieba = _import("jieba")
    tokenizer = jieba.Tokenizer()
    tokenizer.tmp_dir, tokenizer.cache_file = os.fspath(folder), f"dictionary-{jieba.__version__}.cache"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    logger, level = logging.getLogger("jieba"), logging.getLogger("jieba").level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        tokenizer.initialize()  # writes a file of its own and renames it: two processes may start at once
    finally:
        logger.setLevel(level)
    return tokenizer
