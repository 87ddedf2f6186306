"""What counts as the same text: the normal form that every comparison of documents works on.

Lower case, and only what `str.isalnum` accepts: Han, kana, hangul, letters and digits stay, white
space, punctuation, symbols and emoji go. In one line of Python, to which tests hold the kernels:
`re.sub(r"[\\W_]+", "", text.lower())`, with every sigma written as σ. A recipe may have traditional
characters folded into simplified ones too.
"""

import functools
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from corpus.dedup.kernels import shingle_keys
from corpus.dedup.traditional import simplified_forms
from corpus.settings import Settings

# The first code point after the last letter (CJK extension J) that Unicode 17 knows.
TABLE_SIZE = 0x33480

# Set in the table for characters that are words by themselves: Han and kana.
STANDS_ALONE = np.uint32(1 << 31)

_STANDS_ALONE_RANGES = (
    (0x3005, 0x3007),  # 々〆〇
    (0x3041, 0x30FF),  # kana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # CJK extension A
    (0x4E00, 0x9FFF),  # CJK unified ideographs
    (0xF900, 0xFAFF),  # compatibility ideographs
    (0x20000, 0x3347F),  # extensions B to J
)


@functools.cache
def fold_table(fold_script: bool = False) -> NDArray[np.uint32]:
    """The normal form of each code point, or 0 where it is dropped; shape [TABLE_SIZE], uint32.

    The top bit is set for characters that are words by themselves (`STANDS_ALONE`). Code points
    at or above TABLE_SIZE are dropped. With `fold_script`, traditional characters become their
    simplified forms.
    """
    table = np.zeros(TABLE_SIZE, np.uint32)
    for code in range(TABLE_SIZE):
        character = chr(code)
        if character.isalnum():
            table[code] = ord(character.lower()[0])
    table[ord("ς")] = ord("σ")
    for first, last in _STANDS_ALONE_RANGES:
        block = table[first : last + 1]
        block[block != 0] |= STANDS_ALONE
    if fold_script:
        for traditional, simplified in simplified_forms().items():
            table[ord(traditional)] = table[ord(simplified)]
    table.setflags(write=False)
    return table


@functools.cache
def no_folding() -> NDArray[np.uint32]:
    """A table like `fold_table` that changes nothing and drops nothing but code point 0."""
    table = np.arange(0x110000, dtype=np.uint32)
    table.setflags(write=False)
    return table


class Shingling(Settings):
    """What a text is compared by: its set of shingles."""

    unit: Literal["characters", "words"] = "characters"
    """`characters`, for any language; or `words`, each Han or kana character being its own."""
    size: int = Field(default=5, ge=1, le=64)
    """How many of them, one after the other, are a shingle."""
    fold_script: bool = False
    """Traditional characters count as their simplified forms (OpenCC's table, character by
    character), so that a text in both scripts is found to be one."""

    @property
    def fold(self) -> NDArray[np.uint32]:
        """The normal form of each code point (`fold_table`)."""
        return fold_table(self.fold_script)

    @property
    def words(self) -> bool:
        """True if the units are words."""
        return self.unit == "words"

    @property
    def keys(self) -> NDArray[np.uint64]:
        """The hash keys of shingles of this size (`kernels.shingle_keys`)."""
        return shingle_keys(self.size)
