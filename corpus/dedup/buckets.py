"""Bucket records: documents and their buckets, packed, so that Spark moves blobs and not rows.

One row for each batch and part of the buckets. A row a document and bucket through the JVM costs
more than all the rest of deduplication; this is 32 bytes a document and bucket.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from corpus.buffers import blobs, unblob
from corpus.dedup.kernels import U64
from corpus.keys import document_keys

PART_BITS = 11
PARTS = 1 << PART_BITS  # of all buckets, by their hash
RECORDS_A_ROW = 1 << 20  # packed before they are sent: 32 MB, over all parts

RECORD_SCHEMA = "part int, hashes binary, keys binary, sketches binary"

# From a batch: bucket hashes [rows, buckets], where 0 is no bucket, and
# sketches [rows, 2].
Bucketing = Callable[[pa.RecordBatch], tuple[NDArray[np.uint64], NDArray[np.uint64]]]

Records = tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.uint64]]


def pack(batches: Iterable[pa.RecordBatch], bucketing: Bucketing) -> Iterator[pa.RecordBatch]:
    """Rows of RECORD_SCHEMA for the documents of `batches` (`doc_id`, what `bucketing` reads)."""
    return pack_records(_records(batch, bucketing) for batch in batches if batch.num_rows)


def pack_records(records: Iterable[Records]) -> Iterator[pa.RecordBatch]:
    """Rows of RECORD_SCHEMA for (hashes, keys, two or more numbers) of any records."""
    held: list[Records] = []
    count = 0
    for some in records:
        held.append(some)
        count += len(some[0])
        if count >= RECORDS_A_ROW:
            yield _by_part(held)
            held, count = [], 0
    if count:
        yield _by_part(held)


def _records(batch: pa.RecordBatch, bucketing: Bucketing) -> Records:
    hashes, sketches = bucketing(batch)
    rows, buckets = np.nonzero(hashes)
    return hashes[rows, buckets], document_keys(batch.column("doc_id"))[rows], sketches[rows]


def by_part(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, pa.Table]]:
    """The rows of each part among rows with the column `part`, in order of the parts."""
    held = list(batches)
    if held:
        table = pa.Table.from_batches(held)
        table = table.take(pc.sort_indices(table["part"])).combine_chunks()
        parts = table["part"].to_numpy()
        bounds = [*np.flatnonzero(np.diff(parts, prepend=-1)).tolist(), len(parts)]
        for start, end in pairwise(bounds):
            yield int(parts[start]), table.slice(start, end - start)


def unpack(
    batches: Iterable[pa.RecordBatch],
) -> Iterator[tuple[int, NDArray[np.uint64], NDArray[np.int64], NDArray[np.uint64]]]:
    """(part, hashes, keys, sketches [records, 2]) of each part among rows of RECORD_SCHEMA.

    Records of other widths than two numbers beside hash and key come back in theirs.
    """
    for part, rows in by_part(batches):
        keys = unblob(rows["keys"], np.int64)
        sketches = unblob(rows["sketches"], np.uint64).reshape(len(keys), -1)
        yield part, unblob(rows["hashes"], np.uint64), keys, sketches


def unpack_together(batches: Iterable[pa.RecordBatch]) -> Records:
    """(hashes, keys, sketches [records, 2]) of all parts among rows of RECORD_SCHEMA."""
    table = pa.Table.from_batches(list(batches), schema=_PACKED)
    return (
        unblob(table["hashes"], np.uint64),
        unblob(table["keys"], np.int64),
        unblob(table["sketches"], np.uint64).reshape(-1, 2),
    )


_PACKED = pa.schema(
    [
        ("part", pa.int32()),
        ("hashes", pa.binary()),
        ("keys", pa.binary()),
        ("sketches", pa.binary()),
    ]
)


def _by_part(held: list[Records]) -> pa.RecordBatch:
    hashes, keys, numbers = (np.concatenate(column) for column in zip(*held, strict=True))
    starts, *ordered = _sorted_by_part(hashes, keys, np.ascontiguousarray(numbers))
    some = np.flatnonzero(np.diff(starts))
    bounds = np.append(starts[some], starts[-1])
    columns = [pa.array(some.astype(np.int32)), *(blobs(column, bounds) for column in ordered)]
    return pa.RecordBatch.from_arrays(columns, schema=_PACKED)


@numba.njit(cache=True, nogil=True)
def _sorted_by_part(hashes, keys, numbers):  # type: ignore[no-untyped-def]
    """Records in the order of their parts: (starts of the parts, hashes, keys, numbers).

    A counting sort, which keeps the order inside a part.
    """
    shift = U64(64 - PART_BITS)
    starts = np.zeros(PARTS + 1, np.int64)
    for r in range(hashes.size):
        starts[np.int64(hashes[r] >> shift) + 1] += 1
    for p in range(PARTS):
        starts[p + 1] += starts[p]
    places = starts[:-1].copy()
    out_hashes = np.empty_like(hashes)
    out_keys = np.empty_like(keys)
    out_numbers = np.empty_like(numbers)
    for r in range(hashes.size):
        part = np.int64(hashes[r] >> shift)
        place = places[part]
        places[part] += 1
        out_hashes[place] = hashes[r]
        out_keys[place] = keys[r]
        for n in range(numbers.shape[1]):
            out_numbers[place, n] = numbers[r, n]
    return starts, out_hashes, out_keys, out_numbers
