"""The compiled part of `tokenization.segments`: characters to segments, segments to ids.

Arrays only, no Python objects. A symbol is the id of a piece, a number above all ids for a
character that is only ever a part of pieces, or negative for one that no piece holds.
"""

import numpy as np
from numba import njit

SPACE_CODE = 0x2581  # ▁
SPACE_WRITTEN = 32  # a space and ▁ mean the same: here both are this
PLAIN = 128  # characters below this find their neighbours in a small table
NEVER = np.iinfo(np.int64).max  # what a pair merges to whose union is no piece

# Segments seen before lie in a flat table of two parts: short ones one cache line each, longer ones
# (runs of dashes or spaces, long words) eight.
SHORT_ROW, SHORT_ROWS = 16, 1 << 16  # int32 of a row, rows: 4 MB
LONG_ROW, LONG_ROWS = 128, 1 << 13  # 4 MB
MEMORY_SIZE = SHORT_ROW * SHORT_ROWS + LONG_ROW * LONG_ROWS
SHORT_CHARACTERS, LONG_CHARACTERS = 10, 100
PROBES = 4  # places at which a segment may be remembered
SCANNED_SYMBOLS = 48  # above this a heap finds the next merge, below it looking at all is faster


@njit(cache=True)
def _mix(key):  # type: ignore[no-untyped-def]
    """Spread an int64 over all its bits (the finaliser of MurmurHash3, with wrapping products)."""
    key ^= key >> 33
    key *= -49064778989728563
    key ^= key >> 33
    key *= -4265267296055464877
    return key ^ (key >> 33)


@njit(cache=True)
def hash_places(keys, size):  # type: ignore[no-untyped-def]
    """A free place for each of the unique `keys` in a table with open addressing."""
    taken = np.zeros(size, np.bool_)
    places = np.empty(len(keys), np.int64)
    for number in range(len(keys)):
        place = _mix(keys[number]) & (size - 1)
        while taken[place]:
            place = (place + 1) & (size - 1)
        taken[place] = True
        places[number] = place
    return places


@njit(cache=True)
def _find(keys, key):  # type: ignore[no-untyped-def]
    """The place of `key` in a table, or -1."""
    place = _mix(key) & (len(keys) - 1)
    while keys[place] != -1:
        if keys[place] == key:
            return place
        place = (place + 1) & (len(keys) - 1)
    return -1


@njit(cache=True)
def _union(left, right, merges):  # type: ignore[no-untyped-def]
    """What two symbols merge to: rank << 32 | symbol, or NEVER if they do not."""
    if left < 0 or right < 0:
        return np.int64(NEVER)
    key = (np.int64(left) << 32) | np.int64(right)
    place = _mix(key) & (len(merges) - 1)
    while merges[place, 0] != -1:
        if merges[place, 0] == key:
            return merges[place, 1]
        place = (place + 1) & (len(merges) - 1)
    return np.int64(NEVER)


@njit(cache=True)
def encode_all(  # type: ignore[no-untyped-def]
    content, offsets, ids, lengths, segment, symbols, vocabulary_size, sides, plain_pairs, pairs,
    merges, byte_ids, prefix, memory,
):  # fmt: skip
    """Encode every text of `content` into `ids` and `lengths`; returns the number of ids."""
    total = 0
    for row in range(len(offsets) - 1):
        before = total
        position, end = offsets[row], offsets[row + 1]
        size = 0
        code = np.int32(0)
        if prefix and position < end:
            code = np.int32(SPACE_WRITTEN)
            segment[0] = code
            size = 1
        while size > 0 or position < end:
            ended = position >= end
            if not ended:
                last = code
                byte = content[position]
                if byte < 0x80:
                    code = np.int32(byte)
                    position += 1
                elif byte < 0xE0:
                    code = (np.int32(byte & 0x1F) << 6) | np.int32(content[position + 1] & 0x3F)
                    position += 2
                elif byte < 0xF0:
                    code = (
                        (np.int32(byte & 0x0F) << 12)
                        | (np.int32(content[position + 1] & 0x3F) << 6)
                        | np.int32(content[position + 2] & 0x3F)
                    )
                    if code == SPACE_CODE:
                        code = np.int32(SPACE_WRITTEN)
                    position += 3
                else:
                    code = (
                        (np.int32(byte & 0x07) << 18)
                        | (np.int32(content[position + 1] & 0x3F) << 12)
                        | (np.int32(content[position + 2] & 0x3F) << 6)
                        | np.int32(content[position + 3] & 0x3F)
                    )
                    position += 4
                if size == 0:
                    joined = True
                elif last < PLAIN and code < PLAIN:
                    joined = plain_pairs[last, code] != 0
                else:
                    joined = (
                        sides[last] & 1 != 0
                        and sides[code] & 2 != 0
                        and _find(pairs, (np.int64(last) << 21) | np.int64(code)) >= 0
                    )
                if joined:
                    segment[size] = code
                    size += 1
                    continue
            # The segment is complete. What most segments need is written out here, as a call
            # with so many arrays costs more than the work itself.
            symbol = symbols[segment[0]]
            if size == 1 and 0 <= symbol < vocabulary_size:
                ids[total] = symbol
                total += 1
            else:
                place, home = np.int64(-1), np.int64(0)
                count = 0
                width = SHORT_ROW if size <= SHORT_CHARACTERS else LONG_ROW
                if 1 < size <= LONG_CHARACTERS:
                    home = _hash_of(segment, size)
                    for probe in range(PROBES):
                        place = _place(home, probe, width)
                        if memory[place] & 0xFF == size:
                            count = memory[place] >> 8
                            for k in range(size):
                                if memory[place + 1 + k] != segment[k]:
                                    count = 0
                                    break
                            if count > 0:
                                break
                        elif memory[place] == 0:
                            break
                    for k in range(count):
                        ids[total + k] = memory[place + 1 + size + k]
                    total += count
                if count == 0:
                    start = total
                    total = _merge(
                        segment, size, ids, total, symbols, vocabulary_size, merges, byte_ids
                    )
                    found = total - start
                    if place >= 0 and size + found < width:
                        if memory[place] != 0:  # all places are taken: one must go
                            place = _place(home, (home >> 40) & (PROBES - 1), width)
                        memory[place] = size | (found << 8)
                        for k in range(size):
                            memory[place + 1 + k] = segment[k]
                        for k in range(found):
                            memory[place + 1 + size + k] = ids[start + k]
            size = 0
            if not ended:
                segment[0] = code
                size = 1
        lengths[row] = total - before
    return total


@njit(cache=True)
def _hash_of(segment, size):  # type: ignore[no-untyped-def]
    key = np.int64(size)
    for k in range(size):
        key = (key ^ segment[k]) * np.int64(-7046029254386353131)
        key ^= key >> 29
    return _mix(key)


@njit(cache=True)
def _place(home, probe, width):  # type: ignore[no-untyped-def]
    """Where in the memory the row of a segment with hash `home` begins, at the `probe`-th try."""
    if width == SHORT_ROW:
        return ((home + probe) & (SHORT_ROWS - 1)) * SHORT_ROW
    return SHORT_ROW * SHORT_ROWS + ((home + probe) & (LONG_ROWS - 1)) * LONG_ROW


@njit(cache=True)
def _merge(  # type: ignore[no-untyped-def]
    segment, size, ids, total, symbols, vocabulary_size, merges,
    byte_ids,
):  # fmt: skip
    """Append the ids of one segment of `size` characters; returns the new number of ids."""
    if size <= SCANNED_SYMBOLS:
        return _merge_by_scanning(
            segment, size, ids, total, symbols, vocabulary_size, merges, byte_ids,
        )  # fmt: skip
    return _merge_by_heap(
        segment, size, ids, total, symbols, vocabulary_size, merges,
        byte_ids,
    )  # fmt: skip


@njit(cache=True)
def _merge_by_scanning(  # type: ignore[no-untyped-def]
    segment, size, ids, total, symbols, vocabulary_size, merges,
    byte_ids,
):  # fmt: skip
    """Merge a short segment, looking at all pairs for the next one to merge."""
    row = np.empty(SCANNED_SYMBOLS, np.int32)  # the symbols
    first = np.empty(SCANNED_SYMBOLS, np.int32)  # the first character of each
    unions = np.empty(SCANNED_SYMBOLS, np.int64)  # of each symbol with the next one
    for k in range(size):
        row[k] = symbols[segment[k]]
        first[k] = segment[k]
    for k in range(size - 1):
        unions[k] = _union(row[k], row[k + 1], merges)
    while True:
        best, where = np.int64(NEVER >> 32), -1
        for k in range(size - 1):
            if unions[k] >> 32 < best:
                best, where = unions[k] >> 32, k
        if where < 0:
            break
        row[where] = np.int32(unions[where] & 0x7FFFFFFF)
        size -= 1
        for k in range(where + 1, size):
            row[k] = row[k + 1]
            first[k] = first[k + 1]
            unions[k] = unions[k + 1]
        if where > 0:
            unions[where - 1] = _union(row[where - 1], row[where], merges)
        if where < size - 1:
            unions[where] = _union(row[where], row[where + 1], merges)
    for k in range(size):
        total = _append(row[k], first[k], ids, total, vocabulary_size, byte_ids)
    return total


@njit(cache=True)
def _merge_by_heap(  # type: ignore[no-untyped-def]
    segment, size, ids, total, symbols, vocabulary_size, merges,
    byte_ids,
):  # fmt: skip
    """Merge a long segment, n log n: a heap of (rank, place of the left symbol).

    An entry whose symbols have changed since is passed over, unless the pair that stands at its
    place now has the same rank: then it is that pair's entry as well.
    """
    row = np.empty(size, np.int32)
    following = np.empty(size, np.int64)
    preceding = np.empty(size, np.int64)
    heap = np.empty(3 * size, np.int64)  # at first one entry a pair, then two more a merge
    entries = 0
    for k in range(size):
        row[k] = symbols[segment[k]]
        following[k] = k + 1 if k + 1 < size else -1
        preceding[k] = k - 1
    for k in range(size - 1):
        union = _union(row[k], row[k + 1], merges)
        if union != NEVER:
            entries = _push(heap, entries, (union >> 32 << 32) | k)
    while entries:
        entry = heap[0]
        entries = _pop(heap, entries)
        left = entry & np.int64(0xFFFFFFFF)
        right = following[left]
        # A symbol that was merged into the one before it has -2 as its follower.
        if right < 0:
            continue
        union = _union(row[left], row[right], merges)
        if union >> 32 != entry >> 32:
            continue
        row[left] = np.int32(union & 0x7FFFFFFF)
        following[left] = following[right]
        if following[right] >= 0:
            preceding[following[right]] = left
        following[right] = -2
        if preceding[left] >= 0:
            union = _union(row[preceding[left]], row[left], merges)
            if union != NEVER:
                entries = _push(heap, entries, (union >> 32 << 32) | preceding[left])
        if following[left] >= 0:
            union = _union(row[left], row[following[left]], merges)
            if union != NEVER:
                entries = _push(heap, entries, (union >> 32 << 32) | left)
    left = np.int64(0)
    while left >= 0:
        total = _append(row[left], segment[left], ids, total, vocabulary_size, byte_ids)
        left = following[left]
    return total


@njit(cache=True)
def _push(heap, entries, entry):  # type: ignore[no-untyped-def]
    child = entries
    while child > 0:
        parent = (child - 1) >> 1
        if heap[parent] <= entry:
            break
        heap[child] = heap[parent]
        child = parent
    heap[child] = entry
    return entries + 1


@njit(cache=True)
def _pop(heap, entries):  # type: ignore[no-untyped-def]
    entries -= 1
    moved = heap[entries]
    parent = 0
    while True:
        child = 2 * parent + 1
        if child >= entries:
            break
        if child + 1 < entries and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= moved:
            break
        heap[parent] = heap[child]
        parent = child
    heap[parent] = moved
    return entries


@njit(cache=True)
def _append(symbol, code, ids, total, vocabulary_size, byte_ids):  # type: ignore[no-untyped-def]
    """Append a symbol's id or, if it has none, its one character's bytes."""
    if 0 <= symbol < vocabulary_size:
        ids[total] = symbol
        return total + 1
    if code < 0x80:
        ids[total] = byte_ids[code]
        return total + 1
    if code < 0x800:
        ids[total] = byte_ids[0xC0 | (code >> 6)]
        ids[total + 1] = byte_ids[0x80 | (code & 0x3F)]
        return total + 2
    if code < 0x10000:
        ids[total] = byte_ids[0xE0 | (code >> 12)]
        ids[total + 1] = byte_ids[0x80 | ((code >> 6) & 0x3F)]
        ids[total + 2] = byte_ids[0x80 | (code & 0x3F)]
        return total + 3
    ids[total] = byte_ids[0xF0 | (code >> 18)]
    ids[total + 1] = byte_ids[0x80 | ((code >> 12) & 0x3F)]
    ids[total + 2] = byte_ids[0x80 | ((code >> 6) & 0x3F)]
    ids[total + 3] = byte_ids[0x80 | (code & 0x3F)]
    return total + 4
