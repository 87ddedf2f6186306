"""64-bit keys of documents and categories: Spark's `xxhash64`, computed on Arrow's buffers.

By its key a document is told apart until it meets others. Two documents with one key are no harm:
they are compared, as any two in a group, by text. The same function in Spark and in the workers
lets either side look a document up (`corpus.stage.Read`).
"""

from collections.abc import Sequence

import numba
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from corpus.buffers import string_buffers

U64 = np.uint64

SEED = np.uint64(42)  # Spark's

_P1 = U64(0x9E3779B185EBCA87)
_P2 = U64(0xC2B2AE3D27D4EB4F)
_P3 = U64(0x165667B19E3779F9)
_P4 = U64(0x85EBCA77C2B2AE63)
_P5 = U64(0x27D4EB2F165667C5)


def document_keys(doc_ids: pa.Array) -> NDArray[np.int64]:
    """The keys of a string array: what Spark's `xxhash64(doc_id)` gives."""
    offsets, data = string_buffers(doc_ids)
    return xxhash64(offsets, data, np.full(len(doc_ids), SEED)).view(np.int64)


def category_keys(batch: pa.RecordBatch, by: Sequence[str]) -> NDArray[np.uint64]:
    """A number for the values of the columns `by` together; 0 where there are no columns."""
    if not by:
        return np.zeros(batch.num_rows, np.uint64)
    hashes = np.full(batch.num_rows, SEED)
    for name in by:
        # A null becomes a value that no column has.
        offsets, data = string_buffers(batch.column(name).cast(pa.string()).fill_null("\0"))
        hashes = xxhash64(offsets, data, hashes)
    return hashes


@numba.njit(cache=True, nogil=True)
def rotate(x, bits):  # type: ignore[no-untyped-def]
    """The bits of a uint64, rotated to the left."""
    return (x << U64(bits)) | (x >> U64(64 - bits))


@numba.njit(cache=True, nogil=True)
def _word(data, i, size):  # type: ignore[no-untyped-def]
    """The little-endian number in `size` bytes from `i` on."""
    word = U64(0)
    for n in range(size):
        word |= U64(data[i + n]) << U64(8 * n)
    return word


@numba.njit(cache=True, nogil=True)
def _round(total, word):  # type: ignore[no-untyped-def]
    return rotate(total + word * _P2, 31) * _P1


@numba.njit(cache=True, nogil=True)
def xxhash64(offsets, data, seeds):  # type: ignore[no-untyped-def]
    """XXH64 of each string, each with a seed of its own: uint64 [strings]."""
    out = np.empty(offsets.size - 1, np.uint64)
    for d in range(offsets.size - 1):
        i, end, seed = offsets[d], offsets[d + 1], seeds[d]
        size = U64(end - i)
        if end - i >= 32:
            a, b, c, e = seed + _P1 + _P2, seed + _P2, seed, seed - _P1
            while i + 32 <= end:
                a = _round(a, _word(data, i, 8))
                b = _round(b, _word(data, i + 8, 8))
                c = _round(c, _word(data, i + 16, 8))
                e = _round(e, _word(data, i + 24, 8))
                i += 32
            h = rotate(a, 1) + rotate(b, 7) + rotate(c, 12) + rotate(e, 18)
            for lane in (a, b, c, e):
                h = (h ^ _round(U64(0), lane)) * _P1 + _P4
        else:
            h = seed + _P5
        h += size
        while i + 8 <= end:
            h = rotate(h ^ _round(U64(0), _word(data, i, 8)), 27) * _P1 + _P4
            i += 8
        if i + 4 <= end:
            h = rotate(h ^ (_word(data, i, 4) * _P1), 23) * _P2 + _P3
            i += 4
        while i < end:
            h = rotate(h ^ (U64(data[i]) * _P5), 11) * _P1
            i += 1
        h = (h ^ (h >> U64(33))) * _P2
        h = (h ^ (h >> U64(29))) * _P3
        out[d] = h ^ (h >> U64(32))
    return out
