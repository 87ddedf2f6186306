"""Best-fit packing: documents rearranged within a window so that few of them are cut.

Plain concatenation cuts a document wherever a sequence ends. Best-fit packing (Ding et al. 2024,
"Fewer Truncations Improve Language Modeling") puts whole documents into sequences as a bin-packing
problem, and pads what stays free. Here nothing is padded and nothing left out: the window is a
block of the drawn tape (`train.tapes`), its sequences are the bins, documents longer than a
sequence give whole sequences first, the others go where they fit best, the longest first, and only
what fits nowhere is cut, to fill what is free. A window has the same tokens either way, so the
arithmetic of the stream stays what it is, and a window's arrangement follows from its place alone.
"""

# numba infers the kernels' types from their arguments; docstrings say them.
# mypy: allow-untyped-defs

from typing import Any

import numba
import numpy as np

from train.permutation import permute
from train.reading import copy_place, document_start, shard_at
from train.tapes import block_at, locate

# Columns of a lattice row: how sequences lie from token FROM of the drawn tape on. LENGTH 0 means
# that documents stay where they are.
FROM, LENGTH, PHASE = range(3)


@numba.njit(cache=True, nogil=True)
def _pieces(
    first, size, length, rows, bucket, shard_first, shard_starts, indices, documents, itemsize
):
    """The documents of a block, those longer than `length` in pieces of it.

    Returns (shard that is not mapped, or -1; places int64 [pieces]; sizes int64 [pieces]).
    """
    places, sizes = np.empty(256, np.int64), np.empty(256, np.int64)
    found, at = 0, np.int64(0)
    while at < size:
        place, count = locate(first + at, rows)
        count = min(count, size - at)
        at += count
        while count > 0:
            shard, offset = shard_at(place, bucket, shard_first, shard_starts)
            if indices[shard] == 0:
                return shard, places[:0], sizes[:0]
            left = shard_starts[shard + bucket + 1] - place
            stop = document_start(indices[shard], documents[shard], offset, itemsize, left)
            piece = min(count, stop, length)
            if found == len(places):
                places = np.concatenate((places, np.empty(found, np.int64)))
                sizes = np.concatenate((sizes, np.empty(found, np.int64)))
            places[found], sizes[found] = place, piece
            found += 1
            place += piece
            count -= piece
    return -1, places[:found], sizes[:found]


@numba.njit(cache=True, nogil=True)
def arrange(places, sizes, first, length, phase, key):
    """Lay pieces into the sequences of a block.

    places, sizes: int64 [pieces], of the block's documents in order; first: its first token in the
    drawn tape, where sequences of `length` tokens begin at `phase` and every `length` after.
    Returns (offsets, places, sizes), int64 [pieces that result], by offset in the block.
    """
    total = sizes.sum()
    head = min((phase - first) % length, total)
    full, tail = (total - head) // length, (total - head) % length
    # bins: the full ones, then the end of the sequence that the block cuts at its start, and the
    # beginning of the one that it cuts at its end
    free = np.full(full + 2, length, np.int64)
    free[full], free[full + 1] = head, tail
    begins = np.empty(full + 2, np.int64)
    for sequence in range(full):
        # The longest documents go into the first bins: let those lie anywhere.
        begins[sequence] = head + permute(sequence, full, key) * length
    begins[full], begins[full + 1] = 0, total - tail
    room = len(sizes) + full + 2
    out_offset, out_place = np.empty(room, np.int64), np.empty(room, np.int64)
    out_size = np.empty(room, np.int64)
    made = 0
    order = np.argsort(-sizes, kind="mergesort")
    left_over = np.zeros(len(sizes), np.bool_)
    lowest = 0  # bins before it are full
    for number in order:
        need = sizes[number]
        best, spare = -1, np.int64(1) << 62
        while lowest < full and free[lowest] == 0:
            lowest += 1
        for place in range(lowest, full + 2):
            if need <= free[place] and free[place] - need < spare:
                best, spare = place, free[place] - need
                if spare == 0:
                    break
            if place < full and free[place] == length and place + 1 < full:
                # the bins after an untouched one are untouched too
                if best < 0 or spare > length - need:
                    best, spare = place, length - need
                for last in range(full, full + 2):
                    if need <= free[last] and free[last] - need < spare:
                        best, spare = last, free[last] - need
                break
        if best < 0:
            left_over[number] = True
            continue
        out_offset[made], out_place[made], out_size[made] = begins[best], places[number], need
        made += 1
        begins[best] += need
        free[best] -= need
    for number in order:
        if not left_over[number]:
            continue
        place, need = places[number], sizes[number]
        while need > 0:
            widest = np.argmax(free)
            part = min(need, free[widest])
            if made == len(out_offset):
                out_offset = np.concatenate((out_offset, np.empty(made, np.int64)))
                out_place = np.concatenate((out_place, np.empty(made, np.int64)))
                out_size = np.concatenate((out_size, np.empty(made, np.int64)))
            out_offset[made], out_place[made], out_size[made] = begins[widest], place, part
            made += 1
            begins[widest] += part
            free[widest] -= part
            place += part
            need -= part
    by_offset = np.argsort(out_offset[:made])
    return out_offset[by_offset], out_place[by_offset], out_size[by_offset]


@numba.njit(cache=True, nogil=True)
def trace_packed(
    order,
    buckets,
    starts,
    length,
    span_first,
    spans,
    lattice_first,
    lattices,
    shard_first,
    shard_starts,
    indices,
    documents,
    itemsize,
    blocks,
    arranged,
):
    """Where sequences lie in arranged blocks, see `train.reading.trace`.

    order: int64 [n], the rows by bucket and start. lattice_first: int64 [buckets + 1] into
    lattices: int64 [lattices, 3]. Every bucket's last block stays arranged from call to call:
    blocks: int64 [buckets, 3], its first token, its size and its pieces; arranged: int64 [buckets,
    3, room], their offsets, places and sizes. Returns (shard that is not mapped, or -1; room that
    is wanting, or 0; rows, places, counts), the runs of a row in order.
    """
    found_rows, found_places, found_counts = [np.int64(0)], [np.int64(0)], [np.int64(0)]
    for row in order:
        bucket = buckets[row]
        own = spans[span_first[bucket] : span_first[bucket + 1]]
        column = np.int64(0)
        while column < length:
            drawn = starts[row] + column
            if not blocks[bucket, 0] <= drawn < blocks[bucket, 0] + blocks[bucket, 1]:
                first, size, key = block_at(drawn, own)
                lattice = lattice_first[bucket + 1] - 1
                while lattice > lattice_first[bucket] and lattices[lattice, FROM] > first:
                    lattice -= 1
                width = lattices[lattice, LENGTH]
                missing, places, sizes = _pieces(
                    first,
                    size,
                    width if width > 0 else size,
                    own,
                    bucket,
                    shard_first,
                    shard_starts,
                    indices,
                    documents,
                    itemsize,
                )
                if missing >= 0:
                    return missing, 0, found_rows, found_places, found_counts
                offsets = np.cumsum(sizes) - sizes
                if width > 0:
                    offsets, places, sizes = arrange(
                        places, sizes, first, width, lattices[lattice, PHASE], key
                    )
                pieces = len(offsets)
                if pieces > arranged.shape[2]:
                    return -1, pieces, found_rows, found_places, found_counts
                arranged[bucket, 0, :pieces] = offsets
                arranged[bucket, 1, :pieces] = places
                arranged[bucket, 2, :pieces] = sizes
                blocks[bucket, 0], blocks[bucket, 1], blocks[bucket, 2] = first, size, pieces
            offset = drawn - blocks[bucket, 0]
            begins = arranged[bucket, 0, : blocks[bucket, 2]]
            piece = np.searchsorted(begins, offset, side="right") - 1
            inside = offset - begins[piece]
            count = min(arranged[bucket, 2, piece] - inside, length - column)
            found_rows.append(row)
            found_places.append(arranged[bucket, 1, piece] + inside)
            found_counts.append(count)
            column += count
    return -1, 0, found_rows[1:], found_places[1:], found_counts[1:]


@numba.njit(cache=True, nogil=True)
def fill_runs(
    rows,
    places,
    counts,
    buckets,
    shard_first,
    shard_starts,
    bins,
    indices,
    documents,
    itemsize,
    inputs,
    labels,
    positions,
):
    """Fill rows from runs as `trace_packed` gives them; the shard that is not mapped, or -1."""
    row, column, expected, position = -1, 0, np.int64(-1), 0
    for number in range(len(rows)):
        if rows[number] != row:
            row, column, expected, position = rows[number], 0, np.int64(-1), 0
        end = column + counts[number]
        if places[number] != expected:
            position = 0
        missing, position = copy_place(
            places[number],
            position,
            buckets[row],
            shard_first,
            shard_starts,
            bins,
            indices,
            documents,
            itemsize,
            inputs[row, column:end],
            labels[row, column:end],
            positions[row, column:end],
        )
        if missing >= 0:
            return missing
        expected = places[number] + counts[number]
        column = end
    return -1


def rows_by_block(buckets: Any, starts: Any) -> Any:
    """int64 [n]: the rows by bucket and start."""
    return np.lexsort((starts, buckets)).astype(np.int64)
