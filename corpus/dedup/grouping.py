"""Groups of documents that share buckets, on Spark.

records  ──►  shuffle by bucket  ──►  links  ──►  forest  ──►  groups
(packed)      (few large rows)        (kernel)    (packed)     (driver)
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from corpus.dedup.buckets import RECORD_SCHEMA, Bucketing, blobs, pack, unblob, unpack
from corpus.dedup.links import groups, link_records, spanning_forest
from corpus.dedup.store import Store, stored_key
from corpus.dedup.verdict import BROADCAST_ROWS

LINKS_A_ROW = 1 << 20

_FOREST_SCHEMA = "distances binary, left binary, right binary"


def find_groups(
    documents: DataFrame,
    bucketing: Bucketing,
    radius: int,
    largest: int,
    stores: Sequence[Store] = (),
) -> tuple[DataFrame | None, int]:
    """The documents that are linked to others: (DataFrame of key and group, their number).

    `documents` holds `key` and what `bucketing` reads. Documents in one bucket are linked if their
    sketches differ in at most `radius` bits; groups are what links connect, parted at their
    weakest links where they would hold more than `largest`. None if no document is linked.
    Documents in `stores` are linked too, with others than themselves; their keys are `stored_key`.
    """

    def link(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return _link(batches, radius, stores)

    forest = (
        documents.mapInArrow(lambda batches: pack(batches, bucketing), RECORD_SCHEMA)
        .repartition("part")
        .mapInArrow(link, _FOREST_SCHEMA)
        .toArrow()
    )
    if forest.num_rows == 0:
        return None, 0
    links, names = _unpack_links(forest)
    group = groups(links, len(names), largest)
    table = pa.table({"key": names, "group": names[group]})
    return documents.sparkSession.createDataFrame(table), len(names)


def members_of(documents: DataFrame, grouped: DataFrame, count: int) -> DataFrame:
    """The documents (with `key`) that are in a group, with `group`."""
    if count <= BROADCAST_ROWS:
        grouped = F.broadcast(grouped)
    return documents.join(grouped, "key").drop("key")


def _link(
    batches: Iterable[pa.RecordBatch], radius: int, stores: Sequence[Store]
) -> Iterator[pa.RecordBatch]:
    columns: list[tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.uint64]]] = []
    fresh = 0
    parts: list[tuple[int, NDArray[np.uint64]]] = []
    for part, hashes, keys, sketches in unpack(batches):
        columns.append((hashes, keys, sketches))
        fresh += len(hashes)
        if stores:
            parts.append((part, np.unique(hashes)))
    for number, store in enumerate(stores):
        for part, wanted in parts:
            found = store.records(part, wanted)
            if found is not None:
                sketches = np.column_stack([found["sketch0"], found["sketch1"]])
                keys = stored_key(found["key"].to_numpy(), number)
                columns.append((found["hash"].to_numpy(), keys, sketches))
    if not columns:
        return
    hashes, keys, sketches = (np.concatenate(column) for column in zip(*columns, strict=True))
    stored = np.arange(len(hashes)) >= fresh
    links, names = link_records(hashes, keys, sketches, stored, radius)
    if len(links):
        starts = np.append(np.arange(0, len(links), LINKS_A_ROW), len(links))
        yield pa.RecordBatch.from_arrays(
            [
                blobs(links[:, 0].astype(np.uint8), starts),
                blobs(names[links[:, 1]], starts),
                blobs(names[links[:, 2]], starts),
            ],
            names=["distances", "left", "right"],
        )


def _unpack_links(forest: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The links of packed rows, as (distance, node, node) with dense nodes, and the nodes' keys."""
    distances = unblob(forest["distances"], np.uint8).astype(np.int64)
    ends = np.concatenate([unblob(forest[name], np.int64) for name in ("left", "right")])
    names, nodes = np.unique(ends, return_inverse=True)
    links = np.column_stack([distances, *np.split(nodes, 2)])
    return spanning_forest(links, len(names)), names
