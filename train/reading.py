"""The compiled kernel that fills a batch: inputs, labels and positions of sequences, from memory.

For every sequence it walks its drawn tape (`train.tapes.locate`), finds the shard, copies a run of
tokens, and marks the documents in it. All loops over tokens are plain copies that compile to
vector instructions; documents are found by binary search in the shard's index.
"""

# numba infers the kernels' types from their arguments; docstrings say them.
# mypy: allow-untyped-defs, disable-error-code="attr-defined,call-arg"

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


@numba.njit(cache=True, nogil=True)
def _pointer(index, document):
    """The byte in .bin at which a document begins. In .idx they lie at even addresses only."""
    halves = numba.carray(_uint16_at(index + 8 * document), 4)
    return (
        np.int64(halves[0])
        | (np.int64(halves[1]) << 16)
        | (np.int64(halves[2]) << 32)
        | (np.int64(halves[3]) << 48)
    )


@numba.njit(cache=True, nogil=True)
def document_at(index, documents, byte):
    """The last document that begins at or before `byte` of .bin; all int64."""
    low, high = np.int64(0), documents
    while high - low > 1:
        middle = (low + high) // 2
        if _pointer(index, middle) <= byte:
            low = middle
        else:
            high = middle
    return low


@numba.njit(cache=True, nogil=True)
def document_start(index, documents, offset, itemsize, left):
    """Tokens from `offset` of a shard to where the next document begins; `left` if none does."""
    document = document_at(index, documents, offset * itemsize)
    while document + 1 < documents:
        begin = _pointer(index, document + 1) // itemsize
        if begin > offset:
            return begin - offset
        document += 1
    return left


@numba.njit(cache=True, nogil=True)
def _count_up(positions, first):
    for place in range(len(positions)):
        positions[place] = first + place


@numba.njit(cache=True, nogil=True)
def _mark_documents(labels, positions, first, index, documents, offset, end, itemsize):
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


@numba.njit(cache=True, nogil=True)
def _copy_run(tokens, inputs, labels):
    """A run's inputs and, shifted by one, its labels; no token follows the last of a shard."""
    size = len(inputs)
    for place in range(size):
        inputs[place] = tokens[place]
    follow = len(tokens) - 1
    for place in range(follow):
        labels[place] = tokens[place + 1]
    if follow < size:
        labels[follow] = IGNORED


@numba.njit(cache=True, nogil=True)
def shard_at(place, bucket, shard_first, shard_starts):
    """The shard in which token `place` of a bucket's tape lies, and where in it."""
    low, high = shard_first[bucket], shard_first[bucket + 1]
    while high - low > 1:
        middle = (low + high) // 2
        if shard_starts[middle + bucket] <= place:
            low = middle
        else:
            high = middle
    return low, place - shard_starts[low + bucket]


@numba.njit(cache=True, nogil=True)
def copy_place(
    place,
    position,
    bucket,
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
    """Fill `inputs`, `labels` and `positions` [count] from token `place` of a bucket's tape on.

    position: of the first token in its document, if the text before it goes on here. Returns
    (shard that is not mapped, or -1; position of the token that would follow).
    """
    column, count = 0, len(inputs)
    while column < count:
        shard, offset = shard_at(place, bucket, shard_first, shard_starts)
        if indices[shard] == 0:
            return shard, position
        left = shard_starts[shard + bucket + 1] - place
        size = min(count - column, left)
        end = column + size
        whole = size + 1 if size < left else size
        if itemsize == 2:
            tokens16 = numba.carray(_uint16_at(bins[shard] + 2 * offset), whole)
            _copy_run(tokens16, inputs[column:end], labels[column:end])
        else:
            tokens32 = numba.carray(_int32_at(bins[shard] + 4 * offset), whole)
            _copy_run(tokens32, inputs[column:end], labels[column:end])
        _mark_documents(
            labels[column:end],
            positions[column:end],
            position,
            indices[shard],
            documents[shard],
            offset,
            offset + size,
            itemsize,
        )
        position = positions[end - 1] + 1
        if labels[end - 1] == IGNORED:
            position = 0
        place += size
        column = end
    return -1, position


@numba.njit(cache=True, nogil=True)
def fill(
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
        column, expected, position = 0, np.int64(-1), 0
        while column < length:
            place, count = locate(starts[row] + column, own_spans)
            count = min(count, length - column)
            end = column + count
            if place != expected:
                position = 0
            missing, position = copy_place(
                place,
                position,
                bucket,
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
                return row, missing
            expected = place + count
            column = end
    return rows, -1


@numba.njit(cache=True, nogil=True)
def trace(buckets, starts, length, span_first, spans):
    """Where sequences lie: (row, token of the tape, tokens) of each run, in order: int64 lists."""
    rows, places, counts = [np.int64(0)], [np.int64(0)], [np.int64(0)]
    for row in range(len(buckets)):
        own_spans = spans[span_first[buckets[row]] : span_first[buckets[row] + 1]]
        column = np.int64(0)
        while column < length:
            place, count = locate(starts[row] + column, own_spans)
            count = min(count, length - column)
            rows.append(np.int64(row))
            places.append(place)
            counts.append(count)
            column += count
    return rows[1:], places[1:], counts[1:]
