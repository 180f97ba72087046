"""Tokens and their numbers.

A tokeniser is any function from a string to a list of strings: `list`, `characters`, `pinyin_syllables`, or the `words`
of a `Segmenter`.

Chapters: start/first_model, preprocessing/text.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

from mmlearn.preprocessing.text.segmentation import check_text

Tokenizer = Callable[[str], list[str]]

_UNITS = re.compile(r"[0-9A-Za-zÀ-ÖØ-öø-ɏ]+|.", re.DOTALL)


def characters(text: str) -> list[str]:
    """Return a text's characters, with runs of Latin letters and digits kept whole: 三座mountains → 三, 座, mountains.

    Joined they are the text again. To cut English words into letters as well, use `list`.

    Raises:
        TypeError: If it is no string.

    Chapter: preprocessing/text.

    Examples:
        >>> characters("三座mountains")
        ['三', '座', 'mountains']
    """
    check_text(text)
    return _UNITS.findall(text)


def pinyin_syllables(text: str) -> list[str]:
    """Return the pinyin of each Chinese character, its tone as a digit (5 = neutral); the rest as `characters` does.

    Readings depend on context as far as pypinyin's phrases do: 银行 gives yin2, hang2; 行走 gives xing2, zou3. The
    letter ü is written v.

    Raises:
        TypeError: If it is no string.

    Source: pypinyin. Chapter: preprocessing/text.

    Examples:
        >>> pinyin_syllables("银行")
        ['yin2', 'hang2']
    """
    from pypinyin import Style, lazy_pinyin

    check_text(text)
    return lazy_pinyin(text, style=Style.TONE3, neutral_tone_with_five=True, errors=characters)  # type: ignore[arg-type]


TOKENIZERS: dict[str, Tokenizer] = {"list": list, "characters": characters, "pinyin_syllables": pinyin_syllables}


class Vocabulary:
    """A numbered list of the tokens of some texts; 0 is padding, 1 stands for every token not among them.

    Args:
        texts: Training texts. Use no test text: what it alone contains must stay unknown.
        tokenize: Function from a text to its tokens; by default single characters.
        min_count: Tokens that occur less often are unknown.
        max_size: Most tokens, special ones included; the most frequent are kept.
        special: Further special tokens, e.g. "<start>", "<end>" and "<mask>": ids 2, 3, … in this order. They cannot be
            written in a text; their ids are in `.special`.

    Raises:
        ValueError: If no token is left, or special tokens are repeated.
        TypeError: If `texts` is a single string, or holds something else than strings.

    Chapters: start/first_model, preprocessing/text.

    Examples:
        >>> vocabulary = Vocabulary(["三座山", "两条鱼"])
        >>> vocabulary.encode("三条龙").tolist(), vocabulary.decode(vocabulary.encode("三条龙"))
        ([2, 6, 1], '三条□')
    """

    PAD, UNKNOWN = 0, 1

    def __init__(
        self,
        texts: Iterable[str],
        tokenize: Tokenizer = list,
        *,
        min_count: int = 1,
        max_size: int | None = None,
        special: Sequence[str] = (),
    ) -> None:
        reserved = ["<pad>", "<unknown>", *special]
        if len(set(reserved)) < len(reserved):
            raise ValueError(f"special is {list(special)}; expected different tokens, none of them <pad> or <unknown>")
        if max_size is not None and max_size <= len(reserved):
            raise ValueError(f"max_size is {max_size}; expected more than the {len(reserved)} special tokens")
        counts = Counter(token for text in _check_all(texts) for token in tokenize(text))
        kept = sorted(token for token, count in counts.items() if count >= min_count and token not in reserved)
        if not kept:
            raise ValueError(f"texts hold no character or word at least {min_count} times; expected at least one")
        if max_size is not None:
            kept = sorted(sorted(kept, key=counts.__getitem__, reverse=True)[: max_size - len(reserved)])
        self._set(reserved, kept, tokenize)

    def _set(self, reserved: list[str], ordinary: list[str], tokenize: Tokenizer) -> None:
        self.tokenize = tokenize
        self.special = {token: number for number, token in enumerate(reserved)}
        self.tokens = [*reserved, *ordinary]
        self._id = {token: number for number, token in enumerate(ordinary, len(reserved))}

    def __len__(self) -> int:
        """Return the number of tokens, the special ones included."""
        return len(self.tokens)

    def encode(self, text: str, add_ends: bool = False, max_length: int | None = None) -> Tensor:
        """Return the ids (L,) of a text's tokens; an empty text gives one unknown.

        Args:
            text: What to encode.
            add_ends: Whether to put "<start>" before and "<end>" after it.
            max_length: Most ids, the ends included; further tokens are cut off, and the end stays the end.

        Raises:
            TypeError: If `text` is no string.
            ValueError: If the vocabulary has no ends, or `max_length` leaves no room for a token.
        """
        check_text(text)
        ids = [self._id.get(token, self.UNKNOWN) for token in self.tokenize(text)] or [self.UNKNOWN]
        ends = 2 if add_ends else 0
        if max_length is not None:
            if max_length <= ends:
                raise ValueError(f"max_length is {max_length}; expected at least {ends + 1}")
            ids = ids[: max_length - ends]
        if add_ends:
            if "<start>" not in self.special or "<end>" not in self.special:
                raise ValueError(f"the special tokens are {list(self.special)}; add_ends needs <start> and <end>")
            ids = [self.special["<start>"], *ids, self.special["<end>"]]
        import torch  # here: segmentation, which is in this package, also runs in processes that need no torch

        return torch.tensor(ids)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids, without padding and ends; unknown tokens appear as □, other special ones by name.

        Raises:
            ValueError: If an id is out of range.
        """
        parts = []
        for number in map(int, ids):
            if not 0 <= number < len(self):
                raise ValueError(f"ids hold {number}; expected 0 to {len(self) - 1}")
            parts.append(self.tokens[number])
        hidden = {"<pad>": "", "<unknown>": "□", "<start>": "", "<end>": ""}
        return "".join(hidden.get(token, token) for token in parts)

    def unknowns(self, texts: Iterable[str]) -> tuple[int, int, Counter[str]]:
        """Count what this vocabulary does not know of other texts.

        Returns:
            How many tokens are unknown, how many there are, and each unknown one with its count.

        Raises:
            TypeError: If `texts` is a single string, or holds something else than strings.
        """
        counts = Counter(token for text in _check_all(texts) for token in self.tokenize(text))
        unknown = Counter({token: count for token, count in counts.items() if token not in self._id})
        return unknown.total(), counts.total(), unknown

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file with the tokens and the tokeniser's name; it is there complete or not at all."""
        path = Path(path)
        special = list(self.special)[2:]
        content = {"mmlearn_vocabulary": 1, "tokenize": _name(self.tokenize), "special": special}
        content["tokens"] = self.tokens[len(self.special) :]
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        # An unpaired surrogate has no UTF-8, but what stands for it then is JSON's own escape.
        written = json.dumps(content, ensure_ascii=False, indent=0).encode("utf-8", "backslashreplace")
        try:
            part.write_bytes(written)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str], tokenize: Tokenizer | None = None) -> Vocabulary:
        """Read what `save` wrote.

        Args:
            path: The file.
            tokenize: The tokeniser, where it is none of this module's functions, such as a `Segmenter`'s `words`.

        Raises:
            FileNotFoundError, ValueError: If there is no such file, it is no vocabulary, or its tokeniser is another.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: no vocabulary, since it is not JSON: {error}") from error
        version = content.get("mmlearn_vocabulary") if isinstance(content, dict) else None
        if version != 1:
            raise ValueError(f"{path}: the vocabulary's version is {version}; expected 1")
        lists = [content.get("special"), content.get("tokens")]
        if not all(isinstance(part, list) and all(isinstance(token, str) for token in part) for part in lists):
            raise ValueError(f"{path}: 'special' and 'tokens' are not both lists of strings")
        reserved, ordinary = ["<pad>", "<unknown>", *lists[0]], lists[1]
        if len({*reserved, *ordinary}) < len(reserved) + len(ordinary):
            raise ValueError(f"{path}: a token stands in it twice; expected different ones")
        name = content.get("tokenize")
        tokenize = tokenize or TOKENIZERS.get(str(name))
        if tokenize is None or _name(tokenize) != name:
            given = "none" if tokenize is None else _name(tokenize)
            raise ValueError(f"{path}: made with the tokeniser {name!r}, given {given!r}; give load() the same one")
        vocabulary = cls.__new__(cls)
        vocabulary._set(reserved, ordinary, tokenize)
        return vocabulary


def _name(tokenize: Tokenizer) -> str:
    """Return a function's name as it stands in the code, e.g. "Segmenter.words"."""
    return getattr(tokenize, "__qualname__", type(tokenize).__qualname__)


def _check_all(texts: Iterable[str]) -> Iterable[str]:
    """Pass on texts that are strings."""
    if isinstance(texts, str):
        raise TypeError("texts is a single str; expected a list of them")
    for text in texts:
        check_text(text, "a text")
        yield text
