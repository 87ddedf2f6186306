"""Repetition in a window of tokens: distinct ones, entropy, top 2- to 4-grams, seen 5- to 10-grams.

All counts are exact. They cost little because tokens have names of 16 bits, so that four of them
are one register; because only bigrams are counted at every place, and what a bigram's count rules
out is not looked up; and because most loops are free of branches.
Indices are unsigned: numba would otherwise ask at every access whether they count from the end.

numba's cache watches the file of the outermost kernel only: after an edit here, touch `kernel.py`.
"""

# mypy: disable-error-code="assignment, no-untyped-def, arg-type, index, type-arg"
import numpy as np

from corpus.jit import kernel
from corpus.signals import characters as c

WINDOW = 16384
LONGEST_TOP = 4
LONGEST_GRAM = 10

_ROOM = WINDOW + 64  # loops by blocks of 32 may run on
_SLOTS = 2 * WINDOW
_BUCKETS = 1 << 16
_MIX = np.uint64(0x9E3779B97F4A7C15)
_MIX_2 = np.uint64(0xC2B2AE3D27D4EB4F)
_MIX_32 = np.uint64(0x9E3779B1)
_ONE = np.uint64(1)
_TWO = np.uint64(2)
_THREE = np.uint64(3)
_FOUR = np.uint64(4)
_SHORT = np.uint64(16)
_SHORT_MASK = np.uint64(0xFFFF)
_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_BLOCK = np.uint64(32)
_LONGEST = np.uint64(LONGEST_GRAM)
# An entry in the table of words: 34 bits of the hash, 16 of the stamp, 14 of the number.
_NUMBER_BITS = np.uint64(14)
_NUMBER = np.uint64(WINDOW - 1)
_HASH = np.uint64(0xFFFFFFFFC0000000)
LARGEST_STAMP = 0xFFFF


@kernel
def scratch():
    """The arrays that `add_window` works in, in the order of its arguments."""
    return (
        np.zeros(0x10000, np.uint16),
        np.empty(_ROOM, np.uint16),
        np.empty(_BUCKETS, np.uint16),
        np.empty(_ROOM, np.uint16),
        np.zeros(_ROOM, np.uint16),
        np.zeros(_ROOM, np.uint16),
        np.zeros(_ROOM, np.uint32),
        np.zeros(_ROOM, np.uint8),
        np.zeros(_ROOM, np.uint8),
        np.zeros(_SLOTS, np.uint64),
        np.zeros(_SLOTS, np.uint64),
        np.zeros(1, np.uint64),
    )


def entropy_table() -> np.ndarray:
    """float64 [WINDOW + 1]: n·log2(n)."""
    n = np.arange(WINDOW + 1, dtype=np.float64)
    return n * np.log2(np.maximum(n, 1))


def word_names() -> np.ndarray:
    """uint16 [WINDOW]: code points that are no token by themselves, to name a window's words by."""
    kinds = c.character_table() & c.CLASS_MASK
    return np.flatnonzero((kinds < c.HAN) | (kinds > c.KANA))[:WINDOW].astype(np.uint16)


@kernel
def name_word(value, names, known, words, mask, stamp):
    """The name of a word in its window, and how many words are named then.

    `value` is the word's hash and `known` how many words of the window have names. A new stamp
    (1 to LARGEST_STAMP) empties the table `words`, uint64, of which `mask` + 1 slots are used.
    """
    h = value * _MIX
    h ^= h >> np.uint64(29)
    h *= _MIX
    key = (h & _HASH) >> _NUMBER_BITS << _NUMBER_BITS | np.uint64(stamp) << _NUMBER_BITS
    where = (h >> np.uint64(13)) & np.uint64(mask)
    while True:
        entry = words[where]
        if entry & ~_NUMBER == key:
            return names[entry & _NUMBER], known
        if (entry >> _NUMBER_BITS) & _SHORT_MASK != np.uint64(stamp):
            words[where] = key | np.uint64(known)
            return names[np.uint64(known)], known + 1
        where = (where + _ONE) & np.uint64(mask)


@kernel
def add_window(
    ids, prefix, size, nlogn, found,
    times, order, buckets, hashes, bigrams, grams, bounds, depth, reach, table, nodes, stamp,
):  # fmt: skip
    """Add one window's repetition to `found`.

    ids uint16 [size]: a name for each token, the same for the same token; prefix uint32
    [size + 1]: characters before each. found float64 [11]: distinct tokens, bits of entropy over
    all tokens, characters in the 2-, 3-, 4-gram that takes most of those repeated, characters in
    5- to 10-grams seen before in the window. The rest are the arrays of `scratch`.
    """
    distinct = _count_tokens(ids, size, nlogn, times, order, found)
    if distinct == np.uint64(size):  # no token repeats, so no n-gram does
        return
    _count_bigrams(ids, size, buckets, hashes, bigrams)
    places = np.uint64(size) - _ONE
    grams[:places] = bigrams[:places]
    for level in range(2, LONGEST_TOP + 1):
        n = np.uint64(level)
        if np.uint64(size) < n:
            return
        places = np.uint64(size) - n + _ONE
        if n > _TWO:  # an n-gram stands no more often than any bigram in it
            for i in range(places):
                grams[i] = min(grams[i], bigrams[i + n - _TWO])
        top = _top_gram(ids, prefix, places, n, grams, bounds, table, stamp)
        if top == 0:
            return
        found[level] += top
    if size > LONGEST_TOP:
        _seen_grams(ids, prefix, size, bigrams, grams, order, depth, reach, nodes, found)


@kernel
def _count_tokens(ids, size, nlogn, times, order, found):
    """Add distinct tokens and entropy to `found`; returns the distinct ones.

    times uint16 [65536]: all zero before and after.
    """
    distinct = np.uint64(0)
    for i in range(np.uint64(size)):
        token = ids[i]
        count = times[token]
        order[distinct] = token
        distinct += np.uint64(count == 0)
        times[token] = count + 1
    bits = 0.0
    for k in range(distinct):
        token = order[k]
        bits += nlogn[times[token]]
        times[token] = 0
    found[0] += distinct
    found[1] += nlogn[size] - bits
    return distinct


@kernel
def _count_bigrams(ids, size, buckets, hashes, bigrams):
    """Write to `bigrams` at each place how many bigrams share its bigram's bucket.

    That is at least how often the bigram stands. Three loops, since the processor does several
    places at once in each.
    """
    bits = np.uint64(8)
    while bits < _SHORT and (1 << bits) < 8 * size:
        bits += _ONE
    shift = _HALF - bits
    buckets[: _ONE << bits] = 0
    places = np.uint64(size) - _ONE
    for i in range(places):
        pair = (np.uint64(ids[i]) << _SHORT) | np.uint64(ids[i + _ONE])
        hashes[i] = ((pair * _MIX_32) & _LOW) >> shift
    for i in range(places):
        buckets[np.uint64(hashes[i])] += 1
    for i in range(places):
        bigrams[i] = buckets[np.uint64(hashes[i])]


@kernel
def _top_gram(ids, prefix, places, n, grams, bounds, table, stamp):
    """Characters in the n-gram of 2 to 4 tokens that takes most of those repeated.

    `grams` bounds how often each place's n-gram stands, so times its width what it takes. The
    n-grams that may take `least` or more are counted, and if none does, `least` is halved.
    table uint64: 32 bits of stamp, 16 each of first place and count.
    """
    highest = np.uint32(0)
    for i in range(places):
        count = np.uint32(grams[i])
        width = np.uint32(prefix[i + n] - prefix[i])
        bounds[i] = count * np.uint32(count > 1) * width
        highest = max(highest, bounds[i])
    for i in range(places, places + _BLOCK):
        bounds[i] = 0
    # The bound is nearly exact for bigrams; half of it is a good guess for longer ones.
    if highest == 0:
        return np.uint64(0)
    least = np.uint64(highest) >> np.uint64(n > _TWO)
    mask = np.uint64(_SLOTS - 1)
    while True:
        top = np.uint64(0)
        stamp[0] += _ONE
        for block in range(np.uint64(0), places, _BLOCK):
            highest = np.uint32(0)
            for k in range(_BLOCK):
                highest = max(highest, bounds[block + k])
            if highest < least:
                continue
            for i in range(block, block + _BLOCK):
                if bounds[i] < least:
                    continue
                h = (np.uint64(ids[i]) << _HALF) | (np.uint64(ids[i + _ONE]) << _SHORT)
                if n > _TWO:
                    h |= np.uint64(ids[i + _TWO])
                if n > _THREE:
                    h |= np.uint64(ids[i + _THREE]) << np.uint64(48)
                h *= _MIX
                where = ((h ^ (h >> _HALF)) * _MIX) >> np.uint64(40) & mask
                while True:
                    entry = table[where]
                    if entry >> _HALF != stamp[0]:
                        table[where] = (stamp[0] << _HALF) | (i << _SHORT) | _ONE
                        break
                    if _same(ids, (entry >> _SHORT) & _SHORT_MASK, i, n):
                        table[where] = entry + _ONE
                        width = np.uint64(prefix[i + n] - prefix[i])
                        top = max(top, ((entry & _SHORT_MASK) + _ONE) * width)
                        break
                    where = (where + _ONE) & mask
        if top >= least or least == _ONE:  # at one, all were counted
            return top
        least = max(top, least >> _ONE)


@kernel
def _seen_grams(ids, prefix, size, bigrams, grams, active, depth, reach, nodes, found):
    """Add the characters in 5- to 10-grams seen before to `found[5:]`.

    Each place goes down a tree of n-grams as far as they were seen. A node is told by the first
    place of its n-gram, so the table is asked at five tokens, and then only where an n-gram goes on
    otherwise than at its first place. `grams` bounds how often the 4-grams stand.
    nodes uint64: 48 bits of the hash and 16 of the n-gram's first place; 0 where empty.
    """
    end = np.uint64(size)
    places = np.uint64(0)
    for i in range(end - _FOUR):  # no branch: which bigrams repeat is hard to foresee
        active[places] = i
        places += np.uint64((grams[i] > 1) & (bigrams[i + _THREE] > 1))
    slots = np.uint64(64)
    while slots < _TWO * places:
        slots *= _TWO
    mask = slots - _ONE
    nodes[:slots] = 0
    depth[:end] = 0
    seen = False
    for k in range(places):
        i = np.uint64(active[k])
        n = np.uint64(5)
        pair = (np.uint64(ids[i]) << _SHORT) | np.uint64(ids[i + _ONE])
        four = (pair << _HALF) | (np.uint64(ids[i + _TWO]) << _SHORT) | np.uint64(ids[i + _THREE])
        h = ((four ^ (four >> _HALF)) * _MIX) ^ (np.uint64(ids[i + _FOUR]) * _MIX_2)
        while True:  # h is of the n-gram at i, whose first n-1 tokens were seen if n > 5
            h ^= h >> np.uint64(29)
            h *= _MIX
            tag = (h >> _SHORT) | _ONE
            where = (h >> np.uint64(20)) & mask
            entry = nodes[where]
            while (entry >> _SHORT != tag) & (entry != 0):
                where = (where + _ONE) & mask
                entry = nodes[where]
            if entry == 0:
                nodes[where] = (tag << _SHORT) | i
                n -= _ONE
                break
            before = entry & _SHORT_MASK
            while n < _LONGEST and i + n < end and ids[before + n] == ids[i + n]:
                n += _ONE
            if n == _LONGEST or i + n == end:
                break
            n += _ONE
            h = (((before << _SHORT) | np.uint64(ids[i + n - _ONE])) * _MIX) ^ (n * _MIX_2)
        if n > _FOUR:
            depth[i] = n
            seen = True
    if seen:
        _add_seen(prefix, end, depth, reach, found)


@kernel
def _add_seen(prefix, end, depth, reach, found):
    """Add to `found[n]` the characters of the tokens that lie in an n-gram seen before.

    depth uint8 [end]: how many tokens from each place on were seen before (5 to 10), or 0. Where
    an n-gram was seen, the shorter one that begins at its second token was too. So a token lies in
    n-grams seen before of all lengths from 5 to the largest depth that reaches it, or of none.
    """
    reach[:end] = depth[:end]
    for k in range(_ONE, _LONGEST):
        steps = np.uint8(k)  # compared as bytes, 32 at a time
        for i in range(k, end):
            from_before = depth[i - k]
            reach[i] = max(reach[i], from_before if from_before > steps else np.uint8(0))
    for level in range(5, LONGEST_GRAM + 1):
        least = np.uint8(level)
        covered = np.uint32(0)
        for i in range(end):
            width = np.uint32(prefix[i + _ONE] - prefix[i])
            covered += width if reach[i] >= least else np.uint32(0)
        found[level] += covered


@kernel
def _same(ids, i, j, n):
    """Whether the n-grams at two places are one."""
    same = ids[i] == ids[j]
    for k in range(_ONE, n):
        same &= ids[i + k] == ids[j + k]
    return same
