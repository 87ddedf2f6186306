"""English stop words, as hashes in a table that the kernel asks once for each short word."""

import numpy as np
from numpy.typing import NDArray

FNV_BASIS = 0xCBF29CE484222325
FNV_PRIME = 0x100000001B3

# Gopher (Rae et al. 2021, table A1) asks for two of its eight; the others make the share steadier.
STOP_WORD_LIST = [
    "the",
    "be",
    "to",
    "of",
    "and",
    "that",
    "have",
    "with",
    "a",
    "in",
    "is",
    "for",
    "on",
    "as",
    "are",
    "was",
    "it",
    "by",
    "this",
    "or",
    "an",
    "at",
    "from",
    "not",
    "which",
    "we",
    "you",
    "can",
    "their",
    "has",
    "had",
    "its",
    "will",
    "been",
    "were",
    "they",
    "our",
    "his",
    "her",
    "all",
    "but",
    "if",
    "would",
]

LONGEST_STOP_WORD = max(map(len, STOP_WORD_LIST))


def word_hash(word: str) -> int:
    """The hash that the kernel gives a lower-case ASCII word."""
    value = FNV_BASIS
    for character in word:
        value = ((value ^ ord(character)) * FNV_PRIME) & 0xFFFFFFFFFFFFFFFF
    return value


STOP_SLOTS = 512


def stop_word_table() -> NDArray[np.uint64]:
    """uint64 [STOP_SLOTS]: the hashes of `STOP_WORD_LIST`, open addressing, 0 where empty."""
    table = np.zeros(STOP_SLOTS, np.uint64)
    for word in STOP_WORD_LIST:
        value = word_hash(word)
        where = (value >> 20) & (STOP_SLOTS - 1)
        while table[where]:
            where = (where + 1) & (STOP_SLOTS - 1)
        table[where] = value
    return table
