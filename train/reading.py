"""The compiled kernel that fills a batch: inputs, labels and positions of sequences, from memory.

For every sequence it walks its drawn tape (`train.tapes.locate`), finds the shard, copies a run of
tokens, and marks the documents in it. All loops over tokens are plain copies that compile to
vector instructions; documents are found by binary search in the shard's index.
"""

from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from train.tapes import locate

IGNORED = -100
"""The label that torch's cross entropy leaves out."""


@intrinsic
def _uint16_at(typing: Any, address: Any) -> Any:
    def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(signature.return_type)
        return builder.inttoptr(arguments[0], kind)

    return types.CPointer(types.uint16)(types.int64), make


@intrinsic
def _int32_at(typing: Any, address: Any) -> Any:
    def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(signature.return_type)
        return builder.inttoptr(arguments[0], kind)

    return types.CPointer(types.int32)(types.int64), make


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _pointer(index, document):  # type: ignore[no-untyped-def]
    """The byte in .bin at which a document begins. In .idx they lie at even addresses only."""
    halves = numba.carray(_uint16_at(index + 8 * document), 4)
    return (
        np.int64(halves[0])
        | (np.int64(halves[1]) << 16)
        | (np.int64(halves[2]) << 32)
        | (np.int64(halves[3]) << 48)
    )


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def document_at(index, documents, byte):  # type: ignore[no-untyped-def]
    """The last document that begins at or before `byte` of .bin; all int64."""
    low, high = np.int64(0), documents
    while high - low > 1:
        middle = (low + high) // 2
        if _pointer(index, middle) <= byte:
            low = middle
        else:
            high = middle
    return low


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _count_up(positions, first):  # type: ignore[no-untyped-def]
    for place in range(len(positions)):
        positions[place] = first + place


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _mark_documents(labels, positions, first, index, documents, offset, end, itemsize):  # type: ignore[no-untyped-def]
    """Positions and masked labels of a run that lies at tokens offset…end-1 of a shard.

    first: the position of the run's first token if its document began before it.
    """
    document = document_at(index, documents, offset * itemsize)
    at = offset
    while at < end:
        stop = end
        if document + 1 < documents:
            stop = _pointer(index, document + 1) // itemsize
        last = min(stop, end)
        _count_up(positions[at - offset : last - offset], first)
        if at < stop <= end and document + 1 < documents:
            labels[stop - 1 - offset] = IGNORED
        at, first = last, 0
        document += 1


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def fill(  # type: ignore[no-untyped-def]
    first_row,
    buckets,
    starts,
    span_first,
    spans,
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
    """Fill rows from `first_row` on; returns (rows, -1), or (row, shard) where a shard is missing.

    buckets: int32 [n]; starts: int64 [n], in the buckets' drawn tapes. span_first: int64
    [buckets + 1] into spans: int64 [spans, 9]. shard_first: int64 [buckets + 1] into the shards,
    whose places on the tapes are shard_starts: int64 [shards + 1 per bucket], and whose addresses
    and sizes bins, indices and documents. inputs, labels, positions: int32 [n, length].
    """
    rows, length = inputs.shape
    for row in range(first_row, rows):
        bucket = buckets[row]
        own_spans = spans[span_first[bucket] : span_first[bucket + 1]]
        low_shard, high_shard = shard_first[bucket], shard_first[bucket + 1]
        column, expected, position = 0, np.int64(-1), 0
        while column < length:
            place, count = locate(starts[row] + column, own_spans)
            count = min(count, length - column)
            while count > 0:
                low, high = low_shard, high_shard
                while high - low > 1:
                    middle = (low + high) // 2
                    if shard_starts[middle + bucket] <= place:
                        low = middle
                    else:
                        high = middle
                if indices[low] == 0:
                    return row, low
                shard_end = shard_starts[low + bucket + 1]
                size = min(count, shard_end - place)
                offset = place - shard_starts[low + bucket]
                whole = size + 1 if place + size < shard_end else size
                column_end = column + size
                if itemsize == 2:
                    _copy_run(
                        numba.carray(_uint16_at(bins[low] + 2 * offset), whole),
                        inputs[row, column:column_end],
                        labels[row, column:column_end],
                    )
                else:
                    _copy_run(
                        numba.carray(_int32_at(bins[low] + 4 * offset), whole),
                        inputs[row, column:column_end],
                        labels[row, column:column_end],
                    )
                if place != expected:
                    position = 0
                _mark_documents(
                    labels[row, column:column_end],
                    positions[row, column:column_end],
                    position,
                    indices[low],
                    documents[low],
                    offset,
                    offset + size,
                    itemsize,
                )
                position = positions[row, column_end - 1] + 1
                if labels[row, column_end - 1] == IGNORED:
                    position = 0
                place += size
                expected = place
                column += size
                count -= size
    return rows, -1


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _copy_run(tokens, inputs, labels):  # type: ignore[no-untyped-def]
    """A run's inputs and, shifted by one, its labels; no token follows the last of a shard."""
    size = len(inputs)
    for place in range(size):
        inputs[place] = tokens[place]
    follow = len(tokens) - 1
    for place in range(follow):
        labels[place] = tokens[place + 1]
    if follow < size:
        labels[follow] = IGNORED


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def runs_of(start, length, spans, first, starts):  # type: ignore[no-untyped-def]
    """Where one sequence lies: rows of int64 (shard, first token in it, tokens), in order.

    starts: int64 [shards + 1], this bucket's shards' places on its tape; first: the number of
    its first shard.
    """
    found = []
    column = np.int64(0)
    while column < length:
        place, count = locate(start + column, spans)
        count = min(count, length - column)
        while count > 0:
            shard = np.searchsorted(starts, place, side="right") - 1
            size = min(count, starts[shard + 1] - place)
            found.append((first + shard, place - starts[shard], size))
            place += size
            column += size
            count -= size
    return found
