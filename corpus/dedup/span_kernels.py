"""The loops behind long spans: fingerprints of windows, which of them are kept, and where to cut.

Windows are hashed as polynomials over the folded characters modulo 2^61 - 1, so that a window's
hash follows from its neighbour's in constant time (Karp and Rabin 1987); of two random bases, the
chance that different windows of 200 characters agree in both is below 2^-106.
"""

import numba
import numpy as np

from corpus.dedup.kernels import U32, U64, _fill_characters, _mix64

PRIME = np.uint64((1 << 61) - 1)
BASES = np.random.Generator(np.random.PCG64(0x7370616E)).integers(1 << 32, 1 << 60, 2, np.uint64)

_GRAM_BASE = np.uint64(0xD6E8FEB86659FD93)


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
def _grams(units, gram):  # type: ignore[no-untyped-def]
    """The hash of every `gram` units. They only choose, so that modulo 2^64 is good enough."""
    out = np.empty(max(0, units.size - gram + 1), np.uint64)
    highest = U64(1)
    for _ in range(gram):
        highest *= _GRAM_BASE
    total = U64(0)
    for t in range(units.size):
        total = total * _GRAM_BASE + U64(units[t])
        if t >= gram:
            total -= highest * U64(units[t - gram])
        if t >= gram - 1:
            out[t - gram + 1] = _mix64(total)
    return out


@numba.njit(cache=True, nogil=True)
def _last_least(grams, first, window, before):  # type: ignore[no-untyped-def]
    """Where the last least of grams[first : first + window] is; `before`, where that of the
    window one before is, or -1."""
    last = first + window - 1
    least = before
    if least < first:
        least = first
        for t in range(first + 1, last + 1):
            if grams[t] <= grams[least]:
                least = t
    elif grams[last] <= grams[least]:
        least = last
    return least


@numba.njit(cache=True, nogil=True)
def _name(least):  # type: ignore[no-untyped-def]
    """A chosen gram's hash: spread over all numbers again, of which the least were chosen."""
    return _mix64(least + U64(0x9E3779B97F4A7C15))


@numba.njit(cache=True, nogil=True)
def anchors(offsets, data, fold, length, gram):  # type: ignore[no-untyped-def]
    """Winnowing: of every window of `length` the last least of its grams; their hashes, uint64.

    Schleimer, Wilkerson and Aiken, "Winnowing" (SIGMOD 2003): equal windows choose equal grams.
    """
    capacity = 1024
    hashes = np.empty(capacity, np.uint64)
    found = 0
    for d in range(offsets.size - 1):
        grams = _grams(_units(data, offsets[d], offsets[d + 1], fold), gram)
        least = -1
        for first in range(grams.size - (length - gram)):
            before = least
            least = _last_least(grams, first, length - gram + 1, before)
            if least != before:
                if found == capacity:
                    capacity *= 2
                    hashes = np.append(hashes, np.empty(found, np.uint64))
                hashes[found] = _name(grams[least])
                found += 1
    return hashes[:found]


@numba.njit(cache=True, nogil=True)
def _is_set(bitmap, hash_):  # type: ignore[no-untyped-def]
    """Whether the bit at the top of a hash is set in a bitmap of 2^n bits."""
    bits = 3
    while (1 << bits) < 8 * bitmap.size:
        bits += 1
    place = hash_ >> U64(64 - bits)
    return (bitmap[place >> U64(3)] >> (place & U64(7))) & U64(1) != U64(0)


@numba.njit(cache=True, nogil=True)
def windows(offsets, data, fold, length, gram, chosen, bases, state, units):  # type: ignore[no-untyped-def]
    """Both hashes of the windows whose gram has its bit in the bitmap `chosen`, some at a time.

    Those that choose one gram lie side by side. For each such run its gram's hash (uint64) and
    int64 (document, first window, windows); the windows' hashes, uint64 [windows, 2], run after
    run. At most as many windows as `units`, uint32, has room for: there the end of what has been
    read of a document waits. `state`, at first four zeros, is moved on: the next document, its
    units that were passed, those that are in `units`, and the bytes that were read; there is
    nothing more when the document is the last one's successor.
    """
    room = units.size - length + 1
    capacity = 1024
    runs = np.empty((capacity, 3), np.int64)
    names = np.empty(capacity, np.uint64)
    hashes = np.empty((room, 2), np.uint64)
    found = filled = 0
    power0, power1 = _power(bases[0], length), _power(bases[1], length)
    document, passed, held, taken = state
    while document < offsets.size - 1:
        begin, end = offsets[document] + taken, offsets[document + 1]
        if filled + min(room, held + end - begin) > room:
            break
        after, held = _fill_characters(data, begin, end, fold, units, held)
        taken = np.int64(after) - offsets[document]
        held = np.int64(held)
        grams = _grams(units[:held], gram)
        prefixes0 = prefixes1 = np.empty(0, np.uint64)
        first, least = 0, -1
        total = grams.size - (length - gram)
        while first < total:
            least = _last_least(grams, first, length - gram + 1, least)
            stop, following = first + 1, least
            while stop < total:
                following = _last_least(grams, stop, length - gram + 1, least)
                if following != least:
                    break
                stop += 1
            name = _name(grams[least])
            if _is_set(chosen, name):
                if prefixes0.size == 0:
                    prefixes0 = _prefixes(units[:held], bases[0])
                    prefixes1 = _prefixes(units[:held], bases[1])
                if found == capacity:
                    capacity *= 2
                    runs = np.append(runs, np.empty((found, 3), np.int64), axis=0)
                    names = np.append(names, np.empty(found, np.uint64))
                names[found] = name
                runs[found, 0], runs[found, 1], runs[found, 2] = (
                    document,
                    passed + first,
                    stop - first,
                )
                found += 1
                for start in range(first, stop):
                    hashes[filled, 0] = _window(prefixes0, start, length, power0)
                    hashes[filled, 1] = _window(prefixes1, start, length, power1)
                    filled += 1
            first, least = stop, following
        if offsets[document] + taken < end:  # windows go on over what is kept
            kept = length - 1
            units[:kept] = units[held - kept : held].copy()
            passed += held - kept
            held = kept
        else:
            document, passed, held, taken = document + 1, 0, 0, 0
    state[0], state[1], state[2], state[3] = document, passed, held, taken
    return names[:found], runs[:found], hashes[:filled]


@numba.njit(cache=True, nogil=True)
def in_order_of(parts, counts, items):  # type: ignore[no-untyped-def]
    """Where records of each part go, by a counting sort, and their items in the new order.

    Record r, of part parts[r] (int64, below 2^16), has counts[r] rows of `items`. Returns int64
    order, and `items` in it.
    """
    starts = np.zeros(parts.max() + 2, np.int64)
    firsts = np.zeros(parts.size, np.int64)
    for r in range(parts.size):
        starts[parts[r] + 1] += 1
        if r:
            firsts[r] = firsts[r - 1] + counts[r - 1]
    starts = np.cumsum(starts)
    order = np.empty(parts.size, np.int64)
    for r in range(parts.size):
        order[starts[parts[r]]] = r
        starts[parts[r]] += 1
    out = np.empty_like(items)
    filled = 0
    for r in order:
        out[filled : filled + counts[r]] = items[firsts[r] : firsts[r] + counts[r]]
        filled += counts[r]
    return order, out


@numba.njit(cache=True, nogil=True)
def repeated_runs(order, hashes, firsts, counts, ranks):  # type: ignore[no-untyped-def]
    """Of windows in runs those that stand in several places; the best of these places keeps it.

    `order` sorts the windows by their first hash. Run r has counts[r] windows, from firsts[r] on in
    a document of which ranks[r], int64 [runs, 3], say how good it is, the least the best; then the
    first place is. Returns int64 [runs, 4] of those that are left: the run that they are of, first
    window, twice the number of windows and 1 where they are kept, and the sum of first hashes.
    """
    run_of = np.empty(order.size, np.int32)
    position = np.empty(order.size, np.int32)
    filled = 0
    for r in range(counts.size):
        for n in range(counts[r]):
            run_of[filled], position[filled] = r, firsts[r] + n
            filled += 1
    standing = np.zeros(order.size, np.uint8)  # 1: elsewhere too, 2: and kept here
    start = 0
    while start < order.size:
        stop = start + 1
        alike = True
        while stop < order.size and hashes[order[stop], 0] == hashes[order[start], 0]:
            alike &= hashes[order[stop], 1] == hashes[order[start], 1]
            stop += 1
        if not alike:  # hardly ever: windows that differ agree in the first hash
            group = order[start:stop].copy()
            order[start:stop] = group[np.argsort(hashes[group, 1])]
            stop = start + 1
            while stop < order.size and (
                hashes[order[stop], 0] == hashes[order[start], 0]
                and hashes[order[stop], 1] == hashes[order[start], 1]
            ):
                stop += 1
        if stop - start > 1:
            best = order[start]
            for k in range(start, stop):
                standing[order[k]] = 1
                if _goes_before(order[k], best, run_of, position, ranks):
                    best = order[k]
            standing[best] = 2
        start = stop
    out = np.empty((order.size, 4), np.int64)
    found = 0
    for w in range(order.size):
        if standing[w]:
            begins = w == 0 or run_of[w] != run_of[w - 1] or standing[w] != standing[w - 1]
            if begins:
                out[found, 0], out[found, 1] = run_of[w], position[w]
                out[found, 2], out[found, 3] = standing[w] - 1, 0
                found += 1
            out[found - 1, 2] += 2
            out[found - 1, 3] += np.int64(hashes[w, 0])
    return out[:found]


@numba.njit(cache=True, nogil=True)
def _goes_before(a, b, run_of, position, ranks):  # type: ignore[no-untyped-def]
    for column in range(3):
        if ranks[run_of[a], column] != ranks[run_of[b], column]:
            return ranks[run_of[a], column] < ranks[run_of[b], column]
    return position[a] < position[b]


@numba.njit(cache=True, nogil=True)
def joined_runs(keys, runs):  # type: ignore[no-untyped-def]
    """Runs of windows by document: int64 entries, and where in them each document's begin.

    `runs`, as `repeated_runs` returns them without their first number, are sorted by key and first
    window. A document's entries are the sum of the first hashes of all its windows, then two for
    each run: first window, and twice the number of windows and 1 where they are kept.
    """
    entries = np.empty(3 * keys.size, np.int64)
    starts = np.empty(keys.size + 1, np.int64)
    documents = filled = 0
    for r in range(keys.size):
        same = r > 0 and keys[r] == keys[r - 1]
        if not same:
            starts[documents] = filled
            entries[filled] = 0
            documents += 1
            filled += 1
        entries[starts[documents - 1]] += runs[r, 2]
        before = entries[filled - 1]
        if (
            same
            and (before & 1) == (runs[r, 1] & 1)
            and (entries[filled - 2] + (before >> 1) == runs[r, 0])
        ):
            entries[filled - 1] += runs[r, 1] & ~1
        else:
            entries[filled], entries[filled + 1] = runs[r, 0], runs[r, 1]
            filled += 2
    starts[documents] = filled
    return entries[:filled], starts[: documents + 1]


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
def cuts(offsets, data, fold, length, marks, bounds, base, sentences):  # type: ignore[no-untyped-def]
    """What to cut: int64 [cuts, 3] of (document, first byte, end), the characters that were cut of
    each document, and those that it has.

    Document d's windows are marks[bounds[d]:bounds[d + 1]], as `joined_runs` writes them; `base` is
    that of the first hash. Where the sum of hashes does not fit the text, nothing is cut; nor is
    what the document keeps for others, or what is shorter than half of `length`.
    """
    documents = offsets.size - 1
    out = np.empty((marks.size // 2 + 1, 3), np.int64)
    gone = np.zeros(documents, np.int64)
    sizes = np.zeros(documents, np.int64)
    found = 0
    power = _power(base, length)
    for d in range(documents):
        units = _units(data, offsets[d], offsets[d + 1], fold)
        n = units.size
        sizes[d] = n
        if bounds[d] == bounds[d + 1]:
            continue
        prefixes = _prefixes(units, base)
        edges = np.zeros((n + 1, 2), np.int64)  # where windows begin, less where they end
        total = marks[bounds[d]]
        for m in range(bounds[d] + 1, bounds[d + 1], 2):
            first, count, kept = marks[m], marks[m + 1] >> 1, marks[m + 1] & 1
            if first + count + length - 1 > n:
                total = 1
                break
            for start in range(first, first + count):
                total -= np.int64(_window(prefixes, start, length, power))
            edges[first, kept] += 1
            edges[first + count + length - 1, kept] -= 1
        if total != 0:
            continue
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
