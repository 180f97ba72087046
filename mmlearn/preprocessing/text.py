"""Text for a model: characters to ids.

Chapters: start/first_model, preprocessing/text.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


class Vocabulary:
    """A numbered list of the characters of some texts; 0 is padding, 1 stands for every character not among them.

    Args:
        texts: Training texts. Use no test text: what it alone contains must stay unknown.

    Raises:
        ValueError: If there is no character in them.

    Chapters: start/first_model, preprocessing/text.
    """

    PAD, UNKNOWN = 0, 1

    def __init__(self, texts: Iterable[str]) -> None:
        characters = sorted({character for text in texts for character in text})
        if not characters:
            raise ValueError("texts hold no character; expected at least one")
        self.tokens = ["<pad>", "<unknown>", *characters]
        self._id = {token: number for number, token in enumerate(self.tokens)}

    def __len__(self) -> int:
        """Return the number of tokens, the two special ones included."""
        return len(self.tokens)

    def encode(self, text: str) -> Tensor:
        """Return the ids (L,) of a text's characters; an empty text gives one unknown."""
        return torch.tensor([self._id.get(character, self.UNKNOWN) for character in text] or [self.UNKNOWN])

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids, without padding; unknown characters appear as □."""
        return "".join("□" if number == self.UNKNOWN else self.tokens[number] for number in map(int, ids) if number)
