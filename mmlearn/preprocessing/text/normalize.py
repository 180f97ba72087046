"""Write the same text in the same way: Unicode forms, punctuation, white space.

Chapter: preprocessing/text.
"""

from __future__ import annotations

import re
import unicodedata

from mmlearn.preprocessing.text.segmentation import check_text

# What NFKC leaves apart. The stop 。 and the pause 、 stay: in ASCII they would be a decimal point and a comma.
_PUNCTUATION = str.maketrans(
    dict.fromkeys("“”„‟〝〞〟「」『』", '"') | dict.fromkeys("‘’‚‛", "'") | dict.fromkeys("‐‑‒–—―─", "-")
    | dict.fromkeys("【〔〖", "[") | dict.fromkeys("】〕〗", "]") | dict.fromkeys("・•‧", "·") | {"〜": "~"}
)  # fmt: skip


_LOOSE_JOINER = re.compile(r"(?<![^\w\s])\u200d+|\u200d+(?![^\w\s])")  # U+200D that does not join two emoji


def normalize(text: str, *, lower: bool = False) -> str:
    """Write the same thing in the same way; doing it twice changes nothing more.

    - Unpaired surrogates become U+FFFD; control and invisible format characters go, but for the joiner inside emoji.
    - Unicode's compatibility form NFKC (Unicode Standard Annex 15): full-width letters, digits and punctuation become
      ASCII, half-width katakana full, ① becomes 1, and also ² becomes 2.
    - Quotation marks become " and ', dashes -, square brackets [ ], middle dots ·. The stop 。, the pause 、 and title
      marks 《》 stay, and so do emoji and traditional characters: a vocabulary of simplified text knows none of them.
    - Any white space, line breaks included, becomes one space; none is left at the ends.

    Args:
        text: Any string.
        lower: Whether to write capital letters small. (Dictionary words such as T恤 are then no longer found.)

    Raises:
        TypeError: If it is no string.

    Chapter: preprocessing/text.

    Examples:
        >>> normalize("３座　红色的山")
        '3座 红色的山'
    """
    check_text(text)
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    text = unicodedata.normalize("NFKC", text)
    if not text.isprintable():
        text = "".join(c for c in text if c.isspace() or c == "\u200d" or unicodedata.category(c) not in ("Cc", "Cf"))
        text = _LOOSE_JOINER.sub("", text)
    text = unicodedata.normalize("NFKC", text.lower() if lower else text)  # letters may have met their accents now
    return " ".join(text.translate(_PUNCTUATION).split())
