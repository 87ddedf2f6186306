"""The hot loops: normal form, shingles, MinHash signatures and hashes, on Arrow's string buffers.

Every kernel takes a string array as `offsets` (int32 or int64, one more than there are documents)
and `data` (uint8, UTF-8), decodes and folds it in blocks (so that a document of 50 MB needs no more
memory than a short one), and never makes a Python object. Broken UTF-8 is read as something
harmless and never past a document's end.
"""

import functools

import numba
import numpy as np
from numpy.typing import NDArray

from corpus.dedup.lanes import STEP, lower_minima_step
from corpus.keys import rotate

BLOCK = 4096  # units a block: 16 KB of code points, 32 KB of hashes; both stay in L1 and L2

U32 = np.uint32
U64 = np.uint64
UP = np.uintp
CODE = np.uint32(0x7FFFFFFF)  # all of a fold table's entry but its top bit


@functools.cache
def shingle_keys(size: int) -> NDArray[np.uint64]:
    """The random odd multipliers of the shingle hash, and its addend last; shape [size + 1]."""
    rng = np.random.Generator(np.random.PCG64(0x4C69616E6A696E))
    return rng.integers(0, 2**64, size + 1, dtype=np.uint64) | np.uint64(1)


@functools.cache
def permutations(count: int, seed: int = 1) -> NDArray[np.uint32]:
    """The multipliers and addends of datasketch 2.0's `affine32` scheme; shape [2, count]."""
    generator = np.random.RandomState(seed)
    a = generator.randint(0, 1 << 31, count, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    b = generator.randint(0, 1 << 32, count, dtype=np.uint32)
    return np.array([a, b])


@numba.njit(cache=True, nogil=True)
def _fill_characters(data, start, end, fold, buffer, held):  # type: ignore[no-untyped-def]
    """Append folded characters to `buffer` until it is full; return (next byte, held).

    Runs of three bytes (Han) and of one (ASCII) have loops of their own, and all indices are
    unsigned: numba checks signed ones for wrapping round, which doubles the time.
    """
    i, stop, h, room = UP(start), UP(end), UP(held), UP(buffer.size)
    one, two, three, four = UP(1), UP(2), UP(3), UP(4)
    table_size = U32(fold.size)
    while i < stop and h < room:
        while i + three <= stop and h < room and (data[i] & 0xF0) == 0xE0:
            unit = (
                fold[
                    (U32(data[i]) & U32(0x0F)) << U32(12)
                    | (U32(data[i + one]) & U32(0x3F)) << U32(6)
                    | (U32(data[i + two]) & U32(0x3F))
                ]
                & CODE
            )
            i += three
            buffer[h] = unit
            h += UP(unit != U32(0))
        while i < stop and h < room and data[i] < 0x80:
            unit = fold[data[i]]
            i += one
            buffer[h] = unit
            h += UP(unit != U32(0))
        if i >= stop or h >= room:
            break
        byte = U32(data[i])
        if byte < U32(0x80) or (U32(0xE0) <= byte < U32(0xF0) and i + three <= stop):
            continue
        width = two if byte < U32(0xE0) else four
        if i + width > stop or (U32(0xE0) <= byte < U32(0xF0)):  # cut in the middle of a character
            i = stop
            break
        if width == two:
            code = (byte & U32(0x1F)) << U32(6) | (U32(data[i + one]) & U32(0x3F))
        else:
            code = (
                (byte & U32(0x07)) << U32(18)
                | (U32(data[i + one]) & U32(0x3F)) << U32(12)
                | (U32(data[i + two]) & U32(0x3F)) << U32(6)
                | (U32(data[i + three]) & U32(0x3F))
            )
        i += width
        if code < table_size:
            unit = fold[code] & CODE
            buffer[h] = unit
            h += UP(unit != U32(0))
    return np.int64(i), np.int64(h)


@numba.njit(cache=True, nogil=True)
def _fill_words(data, start, end, fold, buffer, held, word):  # type: ignore[no-untyped-def]
    """Like `_fill_characters`, but a unit is a word's 31-bit hash, or one Han or kana character.

    `word` is the hash of the word that a full buffer cut, or 0; return (next byte, held, word).
    """
    i = start
    room = buffer.size - 1  # one character may close a word and be a unit itself
    one = np.empty(1, np.uint32)
    while i < end and held < room:
        before = i
        width = 1 if data[i] < 0x80 else 2 if data[i] < 0xE0 else 3 if data[i] < 0xF0 else 4
        i = min(end, i + width)
        _, got = _fill_characters(data, before, i, fold, one, 0)
        unit = U32(0)
        alone = False
        if got:
            unit = one[0]
            alone = fold[unit] >> U32(31) != 0
        if unit != 0 and not alone:
            word = (word ^ U64(unit)) * U64(0x9E3779B97F4A7C15)
            word = (word ^ (word >> U64(29))) | U64(1)
            continue
        if word != 0:
            # Bit 30 keeps a word's hash apart from every code point.
            buffer[held] = U32(word >> U64(34)) | U32(0x40000000)
            held += 1
            word = U64(0)
        if alone:
            buffer[held] = unit
            held += 1
    if i >= end and word != 0 and held < buffer.size:
        buffer[held] = U32(word >> U64(34)) | U32(0x40000000)
        held += 1
        word = U64(0)
    return i, held, word


@numba.njit(cache=True, nogil=True)
def _hash_block(buffer, count, size, keys, out):  # type: ignore[no-untyped-def]
    """64-bit multilinear hashes of the shingles at the first `count` places of `buffer`.

    The upper 32 bits are strongly universal (Lemire and Kaser 2014, "Strongly universal string
    hashing is fast"). One pass a key, so that each is a vector loop.
    """
    for t in range(count):
        out[t] = keys[size]
    for q in range(size):
        key = keys[q]
        for t in range(count):
            out[t] += key * U64(buffer[t + q])


@numba.njit(cache=True, nogil=True)
def _base_hash_block(buffer, count, size, keys, out):  # type: ignore[no-untyped-def]
    """32-bit base hashes, mixed as datasketch mixes them (MurmurHash3's 32-bit finaliser).

    The base hash is multilinear modulo 2^32: a fourth of the cost of 64 bits, and good enough for
    an estimate; what is decided is decided on 64 bits (`shingle_hashes`).
    """
    for t in range(count):
        out[t] = U32(keys[size])
    for q in range(size):
        key = U32(keys[q])
        for t in range(count):
            out[t] = U32(out[t] + U32(key * buffer[t + q]))
    for t in range(count):
        h = out[t]
        h = U32(h ^ (h >> U32(16)))
        h = U32(h * U32(0x85EBCA6B))
        h = U32(h ^ (h >> U32(13)))
        h = U32(h * U32(0xC2B2AE35))
        out[t] = h ^ (h >> U32(16))


@numba.njit(cache=True, nogil=True)
def _lower_minima(hashes, count, a, b, minima):  # type: ignore[no-untyped-def]
    """minima[p] = min(minima[p], a[p] * h + b[p] mod 2^32 over the hashes)."""
    p = 0
    while p + STEP <= minima.size:
        lower_minima_step(hashes, count, a, b, minima, p)  # type: ignore[call-arg]
        p += STEP
    while p + 4 <= minima.size:
        a0, a1, a2, a3 = a[p], a[p + 1], a[p + 2], a[p + 3]
        b0, b1, b2, b3 = b[p], b[p + 1], b[p + 2], b[p + 3]
        m0, m1, m2, m3 = minima[p], minima[p + 1], minima[p + 2], minima[p + 3]
        for t in range(count):
            h = hashes[t]
            m0 = min(m0, U32(U32(a0 * h) + b0))
            m1 = min(m1, U32(U32(a1 * h) + b1))
            m2 = min(m2, U32(U32(a2 * h) + b2))
            m3 = min(m3, U32(U32(a3 * h) + b3))
        minima[p], minima[p + 1], minima[p + 2], minima[p + 3] = m0, m1, m2, m3
        p += 4
    while p < minima.size:
        m = minima[p]
        for t in range(count):
            m = min(m, U32(U32(a[p] * hashes[t]) + b[p]))
        minima[p] = m
        p += 1


@numba.njit(cache=True, nogil=True)
def signatures(offsets, data, fold, words, size, keys, a, b):  # type: ignore[no-untyped-def]
    """MinHash signatures: (uint32 [documents, permutations], int64 shingles of each document).

    A shingle is `size` consecutive units: folded characters, or words where `words` is true. Its
    base hash is sum(keys[q] * unit[q]) + keys[size] modulo 2^32; the rest is datasketch's
    `affine32` scheme. A document without a whole shingle has the count 0 and a signature
    of all ones.
    """
    documents = offsets.size - 1
    out = np.full((documents, a.size), U32(0xFFFFFFFF), np.uint32)
    counts = np.zeros(documents, np.int64)
    buffer = np.empty(BLOCK + size, np.uint32)
    hashes = np.empty(BLOCK + size, np.uint32)
    for d in range(documents):
        i, end, held, word = offsets[d], offsets[d + 1], 0, U64(0)
        while True:
            if words:
                i, held, word = _fill_words(data, i, end, fold, buffer, held, word)
            else:
                i, held = _fill_characters(data, i, end, fold, buffer, held)
            fresh = held - size + 1
            if fresh > 0:
                _base_hash_block(buffer, fresh, size, keys, hashes)
                _lower_minima(hashes, fresh, a, b, out[d])
                counts[d] += fresh
                for q in range(size - 1):
                    buffer[q] = buffer[fresh + q]
                held = size - 1
            if i >= end and word == 0:
                break
    return out, counts


@numba.njit(cache=True, nogil=True)
def shingle_hashes(offsets, data, fold, words, size, keys):  # type: ignore[no-untyped-def]
    """The 64-bit hashes of every shingle, in text order: (uint64 [total], int64 starts).

    A document without a whole shingle has none.
    """
    documents = offsets.size - 1
    out = np.empty(max(1, offsets[documents] - offsets[0] + BLOCK), np.uint64)
    starts = np.zeros(documents + 1, np.int64)
    buffer = np.empty(BLOCK + size, np.uint32)
    n = 0
    for d in range(documents):
        i, end, held, word = offsets[d], offsets[d + 1], 0, U64(0)
        while True:
            if words:
                i, held, word = _fill_words(data, i, end, fold, buffer, held, word)
            else:
                i, held = _fill_characters(data, i, end, fold, buffer, held)
            fresh = held - size + 1
            if fresh > 0:
                _hash_block(buffer, fresh, size, keys, out[n:])
                n += fresh
                for q in range(size - 1):
                    buffer[q] = buffer[fresh + q]
                held = size - 1
            if i >= end and word == 0:
                break
        starts[d + 1] = n
    return out[:n], starts


@numba.njit(cache=True, nogil=True)
def _mix64(x):  # type: ignore[no-untyped-def]
    """MurmurHash3's 64-bit finaliser: a bijection."""
    x = (x ^ (x >> U64(33))) * U64(0xFF51AFD7ED558CCD)
    x = (x ^ (x >> U64(33))) * U64(0xC4CEB9FE1A85EC53)
    return x ^ (x >> U64(33))


@numba.njit(cache=True, nogil=True)
def text_hashes(offsets, data, fold):  # type: ignore[no-untyped-def]
    """128-bit hashes of the normal forms: (uint64 [documents, 2], int64 characters of each).

    MurmurHash3 x64 128 (seed 0) over the folded text as UTF-32. Where nothing is left after
    folding (only emoji, say), the bytes themselves are hashed, each as one unit, with seed 1, so
    that such texts are the same only where they are the same to the byte.
    """
    documents = offsets.size - 1
    out = np.empty((documents, 2), np.uint64)
    characters = np.zeros(documents, np.int64)
    buffer = np.empty(BLOCK, np.uint32)
    c1, c2 = U64(0x87C37B91114253D5), U64(0x4CF5AD432745937F)
    for d in range(documents):
        for attempt in range(2):
            i, end, held = offsets[d], offsets[d + 1], 0
            h1, h2, length = U64(attempt), U64(attempt), 0
            while True:
                if attempt == 0:
                    i, held = _fill_characters(data, i, end, fold, buffer, held)
                else:
                    while i < end and held < buffer.size:
                        buffer[held] = data[i]
                        held += 1
                        i += 1
                whole = held - held % 4
                for t in range(0, whole, 4):
                    k1 = U64(buffer[t]) | U64(buffer[t + 1]) << U64(32)
                    k2 = U64(buffer[t + 2]) | U64(buffer[t + 3]) << U64(32)
                    h1 ^= rotate(k1 * c1, 31) * c2
                    h1 = (rotate(h1, 27) + h2) * U64(5) + U64(0x52DCE729)
                    h2 ^= rotate(k2 * c2, 33) * c1
                    h2 = (rotate(h2, 31) + h1) * U64(5) + U64(0x38495AB5)
                length += whole
                for q in range(held - whole):
                    buffer[q] = buffer[whole + q]
                held -= whole
                if i >= end:
                    break
            length += held
            if held > 2:
                h2 ^= rotate(U64(buffer[2]) * c2, 33) * c1
            if held > 0:
                k1 = U64(buffer[0])
                if held > 1:
                    k1 |= U64(buffer[1]) << U64(32)
                h1 ^= rotate(k1 * c1, 31) * c2
            h1 ^= U64(4 * length)
            h2 ^= U64(4 * length)
            h1 += h2
            h2 += h1
            h1 = _mix64(h1)
            h2 = _mix64(h2)
            h1 += h2
            h2 += h1
            if attempt == 0:
                characters[d] = length
            if length > 0:
                break
        out[d, 0], out[d, 1] = h1, h2
    return out, characters
