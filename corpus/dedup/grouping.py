"""Groups of documents that share buckets, on Spark, at 32 bytes a document and bucket.

    records  ──►  shuffle by bucket  ──►  links  ──►  forest  ──►  groups
    (packed)      (few large rows)        (kernel)    (packed)     (driver)

Spark moves blobs of packed arrays, not rows: one row for each batch and part of the buckets. A row
a document and bucket through the JVM costs more than all the rest of deduplication.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from corpus.dedup.kernels import string_buffers
from corpus.dedup.links import groups, link_records, spanning_forest

RECORDS_A_ROW = 1 << 20  # packed before they are sent: 32 MB, over all parts
LINKS_A_ROW = 1 << 20

_RECORD_SCHEMA = "part int, hashes binary, keys binary, sketches binary"
_FOREST_SCHEMA = "distances binary, left binary, right binary"

# From a batch (with the column `key`): bucket hashes [rows, buckets], where 0 is no bucket, and
# sketches [rows, 2].
Bucketing = Callable[[pa.RecordBatch], tuple[NDArray[np.uint64], NDArray[np.uint64]]]


def find_groups(
    documents: DataFrame, bucketing: Bucketing, radius: int, largest: int
) -> tuple[DataFrame | None, int]:
    """The documents that are linked to others: (DataFrame of key and group, their number).

    `documents` holds `key` and what `bucketing` reads. Documents in one bucket are linked if their
    sketches differ in at most `radius` bits; groups are what links connect, parted at their
    weakest links where they would hold more than `largest`. None if no document is linked.
    """
    spark = documents.sparkSession
    parts = 8 * int(str(spark.conf.get("spark.sql.shuffle.partitions")))

    def pack(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return _pack(batches, bucketing, parts)

    def link(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return _link(batches, radius)

    forest = (
        documents.mapInArrow(pack, _RECORD_SCHEMA)
        .repartition("part")
        .mapInArrow(link, _FOREST_SCHEMA)
        .toArrow()
    )
    if forest.num_rows == 0:
        return None, 0
    links, names = _unpack_links(forest)
    group = groups(links, len(names), largest)
    table = pa.table({"key": names, "group": names[group]})
    return spark.createDataFrame(table), len(names)


def _pack(
    batches: Iterable[pa.RecordBatch], bucketing: Bucketing, parts: int
) -> Iterator[pa.RecordBatch]:
    held: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = []
    records = 0
    for batch in batches:
        hashes, sketches = bucketing(batch)
        rows, buckets = np.nonzero(hashes)
        keys = batch.column("key").to_numpy()
        held.append((hashes[rows, buckets], keys[rows], sketches[rows]))
        records += len(rows)
        if records >= RECORDS_A_ROW:
            yield _by_part(held, parts)
            held, records = [], 0
    if records:
        yield _by_part(held, parts)


def _by_part(
    held: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]], parts: int
) -> pa.RecordBatch:
    hashes, keys, sketches = (np.concatenate(column) for column in zip(*held, strict=True))
    part = ((hashes >> np.uint64(33)) % np.uint64(parts)).astype(np.int32)
    order = np.argsort(part, kind="stable")
    ordered = part[order]
    starts = np.concatenate([[0], np.flatnonzero(np.diff(ordered)) + 1, [len(ordered)]])
    return pa.RecordBatch.from_arrays(
        [
            pa.array(ordered[starts[:-1]]),
            _blobs(hashes[order], starts),
            _blobs(keys[order], starts),
            _blobs(sketches[order], starts),
        ],
        names=["part", "hashes", "keys", "sketches"],
    )


def _blobs(values: NDArray[Any], starts: NDArray[np.int64]) -> pa.Array:
    """A binary array whose entries are values[starts[i]:starts[i + 1]], rows of `values`."""
    width = values.dtype.itemsize * (values.shape[1] if values.ndim > 1 else 1)
    offsets = (starts * width).astype(np.int32)
    return pa.Array.from_buffers(
        pa.binary(), len(starts) - 1, [None, pa.py_buffer(offsets), pa.py_buffer(values)]
    )


def _unblob(column: pa.Array, dtype: type) -> NDArray[Any]:
    """All entries of a binary array, joined, as numbers."""
    offsets, data = string_buffers(column)
    return data[offsets[0] : offsets[-1]].view(dtype)


def _link(batches: Iterable[pa.RecordBatch], radius: int) -> Iterator[pa.RecordBatch]:
    hashes, keys, sketches = [], [], []
    for batch in batches:
        hashes.append(_unblob(batch.column("hashes"), np.uint64).copy())
        keys.append(_unblob(batch.column("keys"), np.int64).copy())
        sketches.append(_unblob(batch.column("sketches"), np.uint64).copy())
    if not hashes:
        return
    links, names = link_records(
        np.concatenate(hashes),
        np.concatenate(keys),
        np.concatenate(sketches).reshape(-1, 2),
        radius,
    )
    if len(links):
        starts = np.append(np.arange(0, len(links), LINKS_A_ROW), len(links))
        yield pa.RecordBatch.from_arrays(
            [
                _blobs(links[:, 0].astype(np.uint8), starts),
                _blobs(names[links[:, 1]], starts),
                _blobs(names[links[:, 2]], starts),
            ],
            names=["distances", "left", "right"],
        )


def _unpack_links(forest: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The links of packed rows, as (distance, node, node) with dense nodes, and the nodes' keys."""
    columns = [
        np.concatenate([_unblob(chunk, dtype) for chunk in forest[name].chunks])
        for name, dtype in (("distances", np.uint8), ("left", np.int64), ("right", np.int64))
    ]
    names, ends = np.unique(np.concatenate(columns[1:]), return_inverse=True)
    links = np.column_stack([columns[0].astype(np.int64), *np.split(ends, 2)])
    return spanning_forest(links, len(names)), names


def members_of(documents: DataFrame, grouped: DataFrame, count: int) -> DataFrame:
    """The documents (with `key`) that are in a group, each group whole in one partition."""
    if count <= BROADCAST_ROWS:
        grouped = F.broadcast(grouped)
    return documents.join(grouped, "key").drop("key").repartition("group")


BROADCAST_ROWS = 5_000_000  # 80 MB of keys and groups
