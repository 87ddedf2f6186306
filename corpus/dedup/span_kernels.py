"""The loops behind long spans: fingerprints of windows, and where to cut.

Hashes are polynomials over the folded characters modulo 2^61 - 1, so that a window's hash follows
from its neighbour's in constant time (Karp and Rabin 1987); of two random bases, the chance that
different windows of 200 characters agree in both is below 2^-106.
"""

import numba
import numpy as np

from corpus.dedup.kernels import U32, U64, _fill_characters, _mix64

PRIME = np.uint64((1 << 61) - 1)
BASES = np.random.Generator(np.random.PCG64(0x7370616E)).integers(1 << 32, 1 << 60, 2, np.uint64)


@numba.njit(cache=True, nogil=True)
def _times(a, b):  # type: ignore[no-untyped-def]
    """a * b modulo 2^61 - 1, of numbers below it."""
    high_a, low_a = a >> U64(31), a & U64(0x7FFFFFFF)
    high_b, low_b = b >> U64(31), b & U64(0x7FFFFFFF)
    middle = low_a * high_b + high_a * low_b
    total = (
        U64(2) * high_a * high_b
        + (middle >> U64(30))
        + ((middle & U64(0x3FFFFFFF)) << U64(31))
        + low_a * low_b
    )
    total = (total & PRIME) + (total >> U64(61))
    return total - PRIME if total >= PRIME else total


@numba.njit(cache=True, nogil=True)
def _prefixes(units, base):  # type: ignore[no-untyped-def]
    """The hash of each beginning of `units`; uint64 [units + 1]."""
    out = np.zeros(units.size + 1, np.uint64)
    for t in range(units.size):
        total = _times(out[t], base) + U64(units[t])
        out[t + 1] = total - PRIME if total >= PRIME else total
    return out


@numba.njit(cache=True, nogil=True)
def _window(prefixes, start, length, power):  # type: ignore[no-untyped-def]
    total = prefixes[start + length] + PRIME - _times(prefixes[start], power)
    return total - PRIME if total >= PRIME else total


@numba.njit(cache=True, nogil=True)
def _power(base, exponent):  # type: ignore[no-untyped-def]
    out = U64(1)
    for _ in range(exponent):
        out = _times(out, base)
    return out


@numba.njit(cache=True, nogil=True)
def _units(data, start, end, fold):  # type: ignore[no-untyped-def]
    buffer = np.empty(end - start + 1, np.uint32)
    _, count = _fill_characters(data, start, end, fold, buffer, 0)
    return buffer[:count]


@numba.njit(cache=True, nogil=True)
def anchors(offsets, data, fold, gram, window, bases):  # type: ignore[no-untyped-def]
    """Winnowing: of every `window` consecutive grams the last least one.

    Schleimer, Wilkerson and Aiken, "Winnowing" (SIGMOD 2003): texts that share gram + window - 1
    characters choose the same gram there. Returns uint64 hashes, int64 rows and positions.
    """
    capacity = 1024
    hashes = np.empty(capacity, np.uint64)
    rows = np.empty(capacity, np.int64)
    positions = np.empty(capacity, np.int64)
    found = 0
    power = _power(bases[0], gram)
    for d in range(offsets.size - 1):
        units = _units(data, offsets[d], offsets[d + 1], fold)
        if units.size < gram + window - 1:
            continue
        prefixes = _prefixes(units, bases[0])
        grams = np.empty(units.size - gram + 1, np.uint64)
        for t in range(grams.size):
            grams[t] = _mix64(_window(prefixes, t, gram, power))
        least = -1
        for last in range(window - 1, grams.size):
            before = least
            if least < last - window + 1:
                least = last - window + 1
                for t in range(least + 1, last + 1):
                    if grams[t] <= grams[least]:
                        least = t
            elif grams[last] <= grams[least]:
                least = last
            if least != before:
                if found == capacity:
                    capacity *= 2
                    hashes = np.append(hashes, np.empty(found, np.uint64))
                    rows = np.append(rows, np.empty(found, np.int64))
                    positions = np.append(positions, np.empty(found, np.int64))
                hashes[found], rows[found], positions[found] = grams[least], d, least
                found += 1
    return hashes[:found], rows[:found], positions[:found]


@numba.njit(cache=True, nogil=True)
def windows(offsets, data, fold, length, gram, chosen, bounds, bases):  # type: ignore[no-untyped-def]
    """Both hashes of every window of `length` that holds one of its document's `chosen` grams.

    Document d's are chosen[bounds[d]:bounds[d + 1]], ascending. Returns uint64 [windows, 2], int64
    rows and positions.
    """
    total = 0
    for d in range(offsets.size - 1):
        room = (bounds[d + 1] - bounds[d]) * (length - gram + 1)
        total += min(offsets[d + 1] - offsets[d], room)
    hashes = np.empty((total, 2), np.uint64)
    rows = np.empty(total, np.int64)
    positions = np.empty(total, np.int64)
    found = 0
    power0, power1 = _power(bases[0], length), _power(bases[1], length)
    for d in range(offsets.size - 1):
        if bounds[d] == bounds[d + 1]:
            continue
        units = _units(data, offsets[d], offsets[d + 1], fold)
        prefixes0, prefixes1 = _prefixes(units, bases[0]), _prefixes(units, bases[1])
        start = 0
        for c in range(bounds[d], bounds[d + 1]):
            start = max(start, chosen[c] - (length - gram))
            while start <= chosen[c] and start + length <= units.size:
                hashes[found, 0] = _window(prefixes0, start, length, power0)
                hashes[found, 1] = _window(prefixes1, start, length, power1)
                rows[found], positions[found] = d, start
                found += 1
                start += 1
    return hashes[:found], rows[:found], positions[:found]


@numba.njit(cache=True, nogil=True)
def _ends_sentence(data, i, end):  # type: ignore[no-untyped-def]
    """The bytes of the mark at `i` if it ends a sentence, else 0."""
    byte = data[i]
    if byte == 0x0A or byte == 0x21 or byte == 0x3F or byte == 0x3B:  # \n ! ? ;
        return 1
    if byte == 0x2E:  # a full stop, not a decimal point
        return 1 if i + 1 >= end or data[i + 1] <= 0x20 else 0
    if i + 2 < end:
        code = U32(byte) << U32(16) | U32(data[i + 1]) << U32(8) | U32(data[i + 2])
        # 。 … ！ ？ ；
        if code == 0xE38082 or code == 0xE280A6 or code == 0xEFBC81:
            return 3
        if code == 0xEFBC9F or code == 0xEFBC9B:
            return 3
    return 0


@numba.njit(cache=True, nogil=True)
def _closes(data, i, end):  # type: ignore[no-untyped-def]
    """The bytes of the closing mark at `i`, or 0."""
    if data[i] == 0x22 or data[i] == 0x29:
        return 1
    if i + 2 < end:
        code = U32(data[i]) << U32(16) | U32(data[i + 1]) << U32(8) | U32(data[i + 2])
        # ” ’ 」 』 ） 》
        if code == 0xE2809D or code == 0xE28099 or code == 0xE3808D:
            return 3
        if code == 0xE3808F or code == 0xEFBC89 or code == 0xE3808B:
            return 3
    return 0


@numba.njit(cache=True, nogil=True)
def _places(data, start, end, fold):  # type: ignore[no-untyped-def]
    """Of each unit: its first byte, its end, and the byte after the sentence before it or -1.

    The last entry stands for the text's end.
    """
    size = end - start + 1
    firsts = np.empty(size, np.int64)
    ends = np.empty(size, np.int64)
    borders = np.empty(size, np.int64)
    one = np.empty(1, np.uint32)
    count, i, border, closing = 0, start, start, False
    while i < end:
        width = 1 if data[i] < 0x80 else 2 if data[i] < 0xE0 else 3 if data[i] < 0xF0 else 4
        after = min(end, i + width)
        _, got = _fill_characters(data, i, after, fold, one, 0)
        if got:
            firsts[count], ends[count], borders[count] = i, after, border
            count += 1
            border, closing = -1, False
        elif data[i] == 0x0A and border >= 0:  # the line break goes with what comes next
            closing = False
        elif _ends_sentence(data, i, end):
            border, closing = after, True
        elif closing and _closes(data, i, end):
            border = after
        elif data[i] > 0x20:
            closing = False
        i = after
    firsts[count], ends[count], borders[count] = end, end, end
    return firsts[: count + 1], ends[: count + 1], borders[: count + 1]


@numba.njit(cache=True, nogil=True)
def cuts(offsets, data, fold, length, marks, checks, bounds, bases, sentences):  # type: ignore[no-untyped-def]
    """What to cut: int64 [cuts, 3] of (document, first byte, end), the characters that were cut of
    each document, and those that it has.

    Document d's windows are marks[bounds[d]:bounds[d + 1]], twice the position and 1 where the
    document keeps it; `checks` are their first hashes, and a mark that does not fit the text is
    none. What is kept for others is not cut; nor what is shorter than half of `length`.
    """
    documents = offsets.size - 1
    out = np.empty((marks.size + 1, 3), np.int64)
    gone = np.zeros(documents, np.int64)
    sizes = np.zeros(documents, np.int64)
    found = 0
    power = _power(bases[0], length)
    for d in range(documents):
        units = _units(data, offsets[d], offsets[d + 1], fold)
        n = units.size
        sizes[d] = n
        if bounds[d] == bounds[d + 1]:
            continue
        prefixes = _prefixes(units, bases[0])
        edges = np.zeros((n + 1, 2), np.int64)  # where windows begin, less where they end
        for m in range(bounds[d], bounds[d + 1]):
            start, kept = marks[m] >> 1, marks[m] & 1
            if start + length <= n and _window(prefixes, start, length, power) == checks[m]:
                edges[start, kept] += 1
                edges[start + length, kept] -= 1
        firsts, ends, borders = _places(data, offsets[d], offsets[d + 1], fold)
        repeated, kept, a = 0, 0, -1
        for t in range(n + 1):
            repeated += edges[t, 0]
            kept += edges[t, 1]
            inside = t < n and repeated > 0 and kept == 0
            if inside and a < 0:
                a = t
            elif not inside and a >= 0:
                b = t
                if 2 * (b - a) >= length:
                    first, last = firsts[a], ends[b - 1]
                    left, right = a, b
                    if sentences:
                        while left < b and borders[left] < 0:
                            left += 1
                        while right > left and borders[right] < 0:
                            right -= 1
                        if 2 * (right - left) >= length:
                            first, last = borders[left], borders[right]
                        else:
                            left, right = a, b
                    out[found, 0], out[found, 1], out[found, 2] = d, first, last
                    gone[d] += right - left
                    found += 1
                a = -1
    return out[:found], gone, sizes
