"""Repetition in a window of tokens: distinct ones, entropy, top 2- to 4-grams, seen 5- to 10-grams.

All counts are exact. They cost little because tokens get numbers of 16 bits, so that four of them
are one register, and because a place is looked up only where a rougher count says that it matters.
Indices are unsigned: numba would otherwise ask at every access whether they count from the end.

numba's cache watches the file of the outermost kernel only: after an edit here, touch `kernel.py`.
"""

# mypy: disable-error-code="assignment, no-untyped-def, arg-type, index, type-arg"
import numpy as np

from corpus.jit import kernel

WINDOW = 16384
SLOTS = 2 * WINDOW
BUCKETS = 1 << 16
LONGEST_TOP = 4
LONGEST_GRAM = 10

_MIX = np.uint64(0x9E3779B97F4A7C15)
_MIX_2 = np.uint64(0xC2B2AE3D27D4EB4F)
_ONE = np.uint64(1)
_TWO = np.uint64(2)
_THREE = np.uint64(3)
_FOUR = np.uint64(4)
_SHORT = np.uint64(16)
_SHORT_MASK = np.uint64(0xFFFF)
_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_HIGH = np.uint64(0xFFFFFFFF00000000)
_TURN = np.uint64(29)
_LONGEST = np.uint64(LONGEST_GRAM)
_LARGEST_STAMP = 0xFFFF - 8  # a stamp has 16 bits, and a window takes at most five


@kernel
def scratch():
    """The arrays that `add_window` works in, in the order of its arguments."""
    return (
        np.empty(WINDOW, np.uint16),
        np.empty(WINDOW, np.uint16),
        np.empty(BUCKETS, np.uint16),
        np.empty(WINDOW, np.uint16),
        np.empty(WINDOW, np.uint16),
        np.empty(WINDOW, np.uint8),
        np.zeros(SLOTS, np.uint64),
        np.zeros(2 * SLOTS, np.uint64),
        np.zeros(0x10000, np.uint32),
    )


def entropy_table() -> np.ndarray:
    """float64 [WINDOW + 1]: n·log2(n)."""
    n = np.arange(WINDOW + 1, dtype=np.float64)
    return n * np.log2(np.maximum(n, 1))


@kernel
def add_window(
    tokens, prefix, size, nlogn, stamp, found,
    ids, times, buckets, hashes, active, depth, grams, words, singles,
):  # fmt: skip
    """Add one window's repetition to `found`; returns the last stamp used (0 at first).

    tokens uint64 [size]: code points, or hashes of words, which are larger; prefix uint32
    [size + 1]: characters before each token. found float64 [11]: distinct tokens, bits of entropy
    over all tokens, characters in the 2-, 3-, 4-gram that takes most of those repeated, characters
    in 5- to 10-grams seen before in the window. The rest are the arrays of `scratch`.
    """
    if stamp > _LARGEST_STAMP:
        grams[:] = 0
        words[:] = 0
        singles[:] = 0
        stamp = 0
    stamp += 1
    distinct = _number_tokens(tokens, size, ids, times, words, singles, stamp)
    bits = 0.0
    for number in range(distinct):
        bits += nlogn[times[number]]
    found[0] += distinct
    found[1] += nlogn[size] - bits
    if distinct == np.uint64(size):  # no token repeats, so no n-gram does
        return stamp
    for level in range(2, LONGEST_TOP + 1):
        if size < level:
            return stamp
        stamp += 1
        top = _top_gram(ids, prefix, size, level, buckets, hashes, grams, stamp)
        if top == 0:
            return stamp
        found[level] += top
    if size > LONGEST_TOP:
        stamp += 1
        _seen_grams(ids, prefix, size, buckets, hashes, active, depth, grams, stamp, found)
    return stamp


@kernel
def _number_tokens(tokens, size, ids, times, words, singles, stamp):
    """Write each token's number, in order of first appearance, to `ids`; returns how many.

    `times` gets how often each stands. A character is found by its code point in `singles` (16
    bits of stamp over its number), a word by its hash in `words` (32 bits of the hash over the
    stamp, then the number); a new stamp empties both.
    """
    low = np.uint64(stamp)
    slots = 256
    while slots < 2 * size:
        slots *= 2
    mask = np.uint64(slots - 1)
    distinct = np.uint64(0)
    for i in range(np.uint64(size)):
        token = tokens[i]
        number = distinct
        if token <= _SHORT_MASK:
            entry = np.uint64(singles[token])
            if entry >> _SHORT == low:
                number = entry & _SHORT_MASK
            else:
                singles[token] = (low << _SHORT) | number
        else:
            h = token * _MIX
            h ^= h >> _TURN
            h *= _MIX
            key = (h & _HIGH) | low
            where = (h >> np.uint64(7)) & mask
            while words[where * _TWO] != key:
                if words[where * _TWO] & _LOW != low:
                    words[where * _TWO] = key
                    words[where * _TWO + _ONE] = number
                    break
                where = (where + _ONE) & mask
            number = words[where * _TWO + _ONE]
        ids[i] = number
        if number == distinct:
            times[number] = 1
            distinct += _ONE
        else:
            times[number] += 1
    return distinct


@kernel
def _top_gram(ids, prefix, size, level, buckets, hashes, grams, stamp):
    """Characters in the n-gram of `level` (2 to 4) tokens that takes most of those repeated.

    Every n-gram is counted in one of up to 65,536 buckets, whose count is at least the gram's. The
    one that would take most is then counted by itself; only where it takes less than its bucket,
    the grams of all buckets that may hold more are counted exactly.
    buckets uint16: the counts; hashes uint16 [size]: the bucket of the n-gram at each place;
    grams uint64: 16 bits each of stamp, first place and count.
    """
    n = np.uint64(level)
    bits = 8
    while bits < 16 and (1 << bits) < 16 * size:
        bits += 1
    shift = np.uint64(64 - bits)
    buckets[: 1 << bits] = 0
    places = np.uint64(size) - n + _ONE
    if level == 2:  # three loops, since the processor does several places at once in each
        for i in range(places):
            key = (np.uint64(ids[i]) << _SHORT) | np.uint64(ids[i + _ONE])
            hashes[i] = (key * _MIX) >> shift
    elif level == 3:
        for i in range(places):
            key = (np.uint64(ids[i]) << _SHORT) | np.uint64(ids[i + _ONE])
            key = (key << _SHORT) | np.uint64(ids[i + _TWO])
            hashes[i] = (key * _MIX) >> shift
    else:
        for i in range(places):
            h = _four(ids, i) * _MIX
            hashes[i] = ((h ^ (h >> _HALF)) * _MIX_2) >> shift
    best = np.uint64(0)
    at = np.uint64(0)
    for i in range(places):
        where = np.uint64(hashes[i])
        count = np.uint64(buckets[where]) + _ONE
        buckets[where] = count
        bound = count * np.uint64(count > _ONE) * np.uint64(prefix[i + n] - prefix[i])
        if bound > best:
            best = bound
            at = i
    if best == 0:
        return best
    count = np.uint64(0)
    wanted = hashes[at]
    for i in range(places):
        if hashes[i] == wanted:
            count += np.uint64(_same(ids, i, at, n))
    top = count * np.uint64(count > _ONE) * np.uint64(prefix[at + n] - prefix[at])
    if top == best:
        return top
    low = np.uint64(stamp)
    mask = np.uint64(SLOTS - 1)
    for i in range(places):
        width = np.uint64(prefix[i + n] - prefix[i])
        count = np.uint64(buckets[np.uint64(hashes[i])])
        if count < _TWO or count * width <= top:
            continue
        where = np.uint64(hashes[i]) & mask
        while True:
            entry = grams[where]
            if (entry >> _HALF) & _SHORT_MASK != low:
                grams[where] = (low << _HALF) | (i << _SHORT) | _ONE
                break
            if _same(ids, (entry >> _SHORT) & _SHORT_MASK, i, n):
                grams[where] = entry + _ONE
                top = max(top, ((entry & _SHORT_MASK) + _ONE) * width)
                break
            where = (where + _ONE) & mask
    return top


@kernel
def _seen_grams(ids, prefix, size, buckets, hashes, active, depth, grams, stamp, found):
    """Add the characters in 5- to 10-grams seen before to `found[5:]`.

    Each place goes down a tree of n-grams as far as they were seen. A node is told by the first
    place of its n-gram, so the table is asked at five tokens, and then only where an n-gram goes on
    otherwise than at its first place. `buckets` and `hashes` are those of the 4-grams.
    grams uint64: 32 bits of the hash, 16 of stamp and 16 of the n-gram's first place.
    """
    end = np.uint64(size)
    low = np.uint64(stamp)
    slots = 256
    while slots < 2 * size:
        slots *= 2
    mask = np.uint64(slots - 1)
    places = np.uint64(0)
    for i in range(end - _FOUR):  # no branch: which 4-grams repeat is hard to foresee
        active[places] = i
        places += np.uint64(
            (buckets[np.uint64(hashes[i])] > 1) & (buckets[np.uint64(hashes[i + _ONE])] > 1)
        )
    seen_places = np.uint64(0)
    for k in range(places):
        i = np.uint64(active[k])
        n = np.uint64(5)
        h = (_four(ids, i) * _MIX) ^ (np.uint64(ids[i + _FOUR]) * _MIX_2)
        while True:  # h is of the n-gram at i, whose first n-1 tokens were seen if n > 5
            h ^= h >> _TURN
            h *= _MIX
            tag = ((h >> _HALF) << _SHORT) | low
            where = h & mask
            entry = grams[where]
            while (entry >> _SHORT != tag) & ((entry >> _SHORT) & _SHORT_MASK == low):
                where = (where + _ONE) & mask
                entry = grams[where]
            if entry >> _SHORT != tag:
                grams[where] = (tag << _SHORT) | i
                n -= _ONE
                break
            before = entry & _SHORT_MASK
            while n < _LONGEST and i + n < end and ids[before + n] == ids[i + n]:
                n += _ONE
            if n == _LONGEST or i + n == end:
                break
            n += _ONE
            h = (((before << _SHORT) | np.uint64(ids[i + n - _ONE])) * _MIX) ^ (n * _MIX_2)
        active[seen_places] = i
        depth[seen_places] = n
        seen_places += np.uint64(n > _FOUR)
    for level in range(5, LONGEST_GRAM + 1):
        n = np.uint64(level)
        covered = np.uint64(0)
        cover_end = np.uint64(0)
        for k in range(seen_places):
            i = np.uint64(active[k])
            seen = np.uint64(depth[k] >= level)
            start = max(i, cover_end)
            covered += seen * np.uint64(prefix[min(i + n, end)] - prefix[start])
            cover_end = max(cover_end, (i + n) * seen)
        found[level] += covered


@kernel
def _four(ids, i):
    """The numbers of four tokens as one."""
    pair = (np.uint64(ids[i]) << _SHORT) | np.uint64(ids[i + _ONE])
    return (
        (pair << _HALF) | (np.uint64(ids[i + _TWO]) << _SHORT) | np.uint64(ids[i + _THREE])
    )  # fmt: skip


@kernel
def _same(ids, i, j, n):
    """Whether the n-grams at two places are one."""
    same = ids[i] == ids[j]
    for k in range(_ONE, n):
        same &= ids[i + k] == ids[j + k]
    return same
