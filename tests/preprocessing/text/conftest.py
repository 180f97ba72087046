"""What several test files of this folder use."""

from hypothesis import strategies as st

ANY = st.integers(0, 0x10FFFF).map(chr)  # surrogates included


# What is hard: joiners, marks that combine, compatibility forms, controls, halves of a pair, spaces of all kinds.
NASTY = st.sampled_from([*"aé。，Ａ１①㎏½ﬁ…「—¨ΑΣİß三門🀄😀👩", *map(chr, (0x200D,
    0x200B, 0xFE0F, 0xFEFF, 0x301, 0x308, 0x338, 0xD83D, 0xDE00, 0x3000, 0xA0, 0x0A, 0x0D, 0x07, 0x85, 0x2028, 0xAD
))])  # fmt: skip


TEXTS = st.lists(st.one_of(ANY, NASTY), max_size=30).map("".join)
