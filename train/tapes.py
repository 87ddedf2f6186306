"""The order in which a bucket's tokens are drawn: a tape, read in shuffled blocks, epoch by epoch.

A bucket's train shards, end to end, are its *tape*. In every pass over it, the tape is turned to
a keyed start, cut into blocks of equal size and one short block of what remains, and the blocks
come in a keyed order, the short one at a keyed place. All passes end to end are the bucket's
*drawn tape*: the sequences of the run are simply its next tokens, whatever their length. So every
pass reads every token exactly once, the remainder included, and the cuts move from pass to pass.

When shards are added in the middle of a pass, its unread part and the new shards together make a
pass of their own, cut and ordered in the same way (a `Span` inside a `Span`); after it come passes
over everything. So nothing is read twice before the pass ends, and nothing is left out.
"""

# numba infers the kernels' types from their arguments; docstrings say them.
# mypy: allow-untyped-defs

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from train.permutation import below, derive_key, permute

# Columns of a span's row.
START, DOMAIN, BLOCK, KEY, PARENT, PARENT_PASS, PARENT_OFFSET, INHERITED, REGION = range(9)
_COLUMNS = 9

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TapeState:
    """A bucket's tape from one token of its drawn tape on."""

    drawn: int
    """Tokens drawn when this state begins."""
    tokens: int
    """The tape's length."""
    block: int
    """Tokens of a block."""
    whole_blocks: bool = False
    """Begin only when the block that is being read ends (documents are rearranged within it)."""


def bucket_key(seed: int, name: str) -> np.uint64:
    """The 64-bit key of a bucket, from the run's seed and the bucket's name."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return np.uint64(int.from_bytes(digest[:8], "little"))


def spans(key: np.uint64, states: Sequence[TapeState]) -> Ints:
    """The drawn tape of one bucket as rows of int64 [spans, 9].

    Each row rules from drawn token START on: passes of DOMAIN tokens in blocks of BLOCK, ordered
    by KEY. Of a pass, the first INHERITED tokens are what was unread of pass PARENT_PASS of the
    row PARENT, from its token PARENT_OFFSET on; the others are the tape's from REGION on.
    """
    rows: list[list[int]] = []

    def add(start: int, domain: int, block: int, *rest: int) -> None:
        own = np.uint64(derive_key(key, len(rows)))
        rows.append([start, domain, block, int(own.astype(np.int64)), *rest])

    tokens, block = 0, 0
    for state in states:
        if state.tokens == tokens and state.block == block:
            continue
        drawn = state.drawn
        if drawn == 0:
            rows.clear()
        if not rows:
            add(drawn, state.tokens, state.block, -1, 0, 0, 0, 0)
        else:
            if state.whole_blocks:
                first, size, _ = block_at(drawn, np.array(rows, np.int64))
                begun = [row[START] for row in rows if row[PARENT] >= 0]
                drawn = max([drawn if drawn == first else first + size, *begun])
            current = max(k for k, row in enumerate(rows) if row[START] <= drawn)
            pass_number, offset = divmod(drawn - rows[current][START], rows[current][DOMAIN])
            # A row that inherits rules one pass; what follows it in the list is not reached yet.
            del rows[current + 1 :]
            unread = rows[current][DOMAIN] - offset
            if offset or rows[current][PARENT] >= 0:
                grown = unread + state.tokens - tokens
                add(drawn, grown, state.block, current, pass_number, offset, unread, tokens)
                drawn += grown
            add(drawn, state.tokens, state.block, -1, 0, 0, 0, 0)
        tokens, block = state.tokens, state.block
    return np.array(rows, np.int64).reshape(-1, _COLUMNS)


@numba.njit(cache=True, nogil=True)
def _slot(value, domain, block, key):
    """Token `value` of a pass: (which of its blocks in order, token of it, its size). The short
    block bears the number of the full ones."""
    full, rest = domain // block, domain % block
    place = below(derive_key(key, 2), full + 1)
    if value < place * block:
        return value // block, value % block, block
    if value < place * block + rest:
        return full, value - place * block, rest
    return (value - rest) // block, (value - rest) % block, block


@numba.njit(cache=True, nogil=True)
def _in_pass(value, domain, block, key):
    """Token `value` of a pass: where it lies in the pass's domain, and how many follow on."""
    full = domain // block
    turn = below(derive_key(key, 1), domain)
    slot, offset, size = _slot(value, domain, block, key)
    if slot < full:
        slot = permute(slot, full, np.uint64(derive_key(key, 3)))
    position = (turn + slot * block + offset) % domain
    return position, min(size - offset, domain - position)


@numba.njit(cache=True, nogil=True)
def block_at(drawn, rows):
    """The block of the drawn tape in which token `drawn` lies: (its first token, its size, a key
    of its own)."""
    row = len(rows) - 1
    while rows[row, START] > drawn:
        row -= 1
    value = (drawn - rows[row, START]) % rows[row, DOMAIN]
    number = (drawn - rows[row, START]) // rows[row, DOMAIN]
    key = derive_key(np.uint64(rows[row, KEY]), number)
    slot, offset, size = _slot(value, rows[row, DOMAIN], rows[row, BLOCK], key)
    return drawn - offset, size, derive_key(key, 4 + slot)


@numba.njit(cache=True, nogil=True)
def locate(drawn, rows):
    """Where a token of the drawn tape lies on the tape, and for how many tokens both go on alike.

    drawn: int64, from 0. rows: int64 [spans, 9] from `spans`. Returns (position, count), int64.
    """
    row = len(rows) - 1
    while rows[row, START] > drawn:
        row -= 1
    value = (drawn - rows[row, START]) % rows[row, DOMAIN]
    number = (drawn - rows[row, START]) // rows[row, DOMAIN]
    count = np.int64(1) << 62
    if row + 1 < len(rows):
        count = rows[row + 1, START] - drawn
    while True:
        key = derive_key(np.uint64(rows[row, KEY]), number)
        position, more = _in_pass(value, rows[row, DOMAIN], rows[row, BLOCK], key)
        count = min(count, more)
        inherited = rows[row, INHERITED]
        if position >= inherited:
            return rows[row, REGION] + position - inherited, count
        count = min(count, inherited - position)
        value = rows[row, PARENT_OFFSET] + position
        number = rows[row, PARENT_PASS]
        row = rows[row, PARENT]


def epoch_of(drawn: int, rows: Ints) -> int:
    """Which reading of the bucket's tokens the drawn token belongs to, from 0."""
    row = int(np.searchsorted(rows[:, START], drawn, "right")) - 1
    ends = [*rows[1 : row + 1, START], drawn]
    lengths = np.array(ends) - rows[: row + 1, START]
    return int((lengths // rows[: row + 1, DOMAIN]).sum())
