"""Sentencepiece's BPE over Arrow buffers, compiled: the same ids, many times faster.

Two neighbouring characters that no piece of the vocabulary holds side by side can never come to
lie in one piece, and what happens on either side of them does not reach the other. So the text
falls into short segments there, and the merges of each are found by themselves; the ids of short
segments are remembered, as most of a text is words seen before. With a vocabulary of Chinese
characters nearly every Chinese character is a segment, and its id one look in a table.

Within a segment it is sentencepiece's algorithm to the letter (src/bpe_model.cc, 0.2): again and
again merge the neighbours whose union has the highest score, of equals the leftmost. Characters
without a piece become their bytes. `tokenization.encoder` compares the result with
sentencepiece's on a sample of every run all the same.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenization.pieces import SPACE, Piece, without_padding
from tokenization.segments_kernel import (
    MEMORY_SIZE,
    PLAIN,
    SPACE_WRITTEN,
    encode_all,
    hash_places,
)

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

ABSENT = -1  # the symbol of a character that no piece holds


@dataclass(frozen=True)
class Tables:
    """A vocabulary as the compiled code reads it."""

    symbols: Int32s
    """[0x110000]: the symbol of each character: its id, or one above all ids if it is only ever a
    part of pieces, or ABSENT."""
    vocabulary_size: int
    sides: npt.NDArray[np.uint8]
    """[0x110000]: whether a character stands left (1) or right (2) of another in any piece."""
    plain_pairs: npt.NDArray[np.uint8]
    """[128, 128]: whether some piece holds two plain characters side by side."""
    pairs: Int64s
    """Hash set of the pairs of characters that some piece holds side by side."""
    merges: Int64s
    """[size, 2]: hash map from two symbols, packed, to the rank of their union's score, 0 the
    highest, and its symbol, packed."""
    byte_ids: Int32s
    """[256]: the id of each byte."""
    prefix: bool
    """Whether a text begins with a space that it does not have."""


class SegmentEncoder:
    """Encodes columns of text; remembers segments from call to call. Not for several threads."""

    def __init__(self, model: Any) -> None:
        self.tables = build_tables(model)
        self._memory = _aligned(MEMORY_SIZE)

    def encode(self, texts: pa.Array) -> tuple[Int32s, Int64s]:
        """Ids of all texts, end to end, and the number of ids of each; no BOS, no EOS.

        `texts` is a string array without nulls, of valid UTF-8.
        """
        offset_type = np.int64 if pa.types.is_large_string(texts.type) else np.int32
        _, offsets_buffer, data = texts.buffers()
        offsets = np.frombuffer(offsets_buffer, offset_type)[
            texts.offset : texts.offset + len(texts) + 1
        ].astype(np.int64)
        if not len(texts) or data is None:
            return np.empty(0, np.int32), np.zeros(len(texts), np.int64)
        content = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]
        # No text has more ids than bytes, but for the space put before it.
        ids = np.empty(len(content) + len(texts), np.int32)
        lengths = np.empty(len(texts), np.int64)
        longest = int(np.diff(offsets).max()) + 1
        tables = self.tables
        total = encode_all(
            content,
            offsets - offsets[0],
            ids,
            lengths,
            np.empty(longest, np.int32),
            tables.symbols,
            tables.vocabulary_size,
            tables.sides,
            tables.plain_pairs,
            tables.pairs,
            tables.merges,
            tables.byte_ids,
            tables.prefix,
            self._memory,
        )
        return ids[:total], lengths


def is_supported(model: Any) -> bool:
    """Whether a model that `check_base` accepts has nothing that this encoder does not know."""
    kinds = {piece.type for piece in without_padding(model).pieces}
    has_space = any(p.piece == SPACE and p.type == Piece.NORMAL for p in model.pieces)
    return has_space and not kinds & {Piece.USER_DEFINED, Piece.UNUSED}


def build_tables(model: Any) -> Tables:
    """The tables for a model that `is_supported`."""
    pieces = without_padding(model).pieces
    normal = {p.piece: (number, p.score) for number, p in enumerate(pieces) if p.type == 1}
    symbols = np.full(0x110000, ABSENT, np.int32)
    sides = np.zeros(0x110000, np.uint8)
    side_by_side: set[int] = set()
    above = len(pieces)
    for piece, (number, _) in normal.items():
        if len(piece) == 1:
            symbols[_code(piece)] = number
    for piece in normal:
        for character in piece:
            if symbols[_code(character)] == ABSENT:
                symbols[_code(character)] = above
                above += 1
        for left, right in itertools.pairwise(piece):
            sides[_code(left)] |= 1
            sides[_code(right)] |= 2
            side_by_side.add(_code(left) << 21 | _code(right))
    keys, values = _merges(normal, symbols)
    merges = np.full((_table_size(len(keys)), 2), -1, np.int64)
    merges[hash_places(keys, len(merges))] = np.stack([keys, values], axis=1)
    pair_keys = np.array(sorted(side_by_side), np.int64)
    pairs = np.full(_table_size(len(pair_keys)), -1, np.int64)
    pairs[hash_places(pair_keys, len(pairs))] = pair_keys
    plain_pairs = np.zeros((PLAIN, PLAIN), np.uint8)
    for pair in side_by_side:
        if pair >> 21 < PLAIN and pair & 0x1FFFFF < PLAIN:
            plain_pairs[pair >> 21, pair & 0x1FFFFF] = 1
    byte_ids = np.zeros(256, np.int32)
    for number, piece in enumerate(pieces):
        if piece.type == Piece.BYTE:
            byte_ids[int(piece.piece[3:-1], 16)] = number
    return Tables(
        symbols=symbols,
        vocabulary_size=len(pieces),
        sides=sides,
        plain_pairs=plain_pairs,
        pairs=pairs,
        merges=merges,
        byte_ids=byte_ids,
        prefix=bool(model.normalizer_spec.add_dummy_prefix),
    )


def _aligned(size: int) -> Int32s:
    """Zeros, int32, that begin where a cache line does."""
    content = np.zeros(4 * size + 64, np.uint8)
    start = -content.ctypes.data % 64
    return content[start : start + 4 * size].view(np.int32)


def _code(character: str) -> int:
    return SPACE_WRITTEN if character == SPACE else ord(character)


def _merges(normal: dict[str, tuple[int, float]], symbols: Int32s) -> tuple[Int64s, Int64s]:
    """Every way to make a piece of two symbols: the two, packed; its score's rank and the piece."""
    scores = sorted({score for _, score in normal.values()}, reverse=True)
    rank_of = {score: rank for rank, score in enumerate(scores)}

    def symbol(part: str) -> int:
        if len(part) == 1:
            return int(symbols[_code(part)])
        return normal[part][0] if part in normal else ABSENT

    keys, values = [], []
    for piece, (number, score) in normal.items():
        for cut in range(1, len(piece)):
            left, right = symbol(piece[:cut]), symbol(piece[cut:])
            if left != ABSENT and right != ABSENT:
                keys.append(left << 32 | right)
                values.append(rank_of[score] << 32 | number)
    return np.array(keys, np.int64), np.array(values, np.int64)


def _table_size(entries: int) -> int:
    return 1 << max(4, (2 * entries).bit_length())
