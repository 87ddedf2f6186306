"""Groups of documents that share buckets, on Spark.

records  ──►  shuffle by bucket  ──►  links  ──►  forest  ──►  groups
(packed)      (few large rows)        (kernel)    (packed)     (driver, or Spark if they are many)

Buckets that are too hot for one task are not linked where they arrive: their records are dealt out
again in pieces, by a salt that follows from each document's key and the bucket's size. Pieces are
linked by tasks of their own, and then the documents that lead the pieces with each other.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from corpus.buffers import blobs, unblob
from corpus.dedup.buckets import unpack_together
from corpus.dedup.components import parted_components
from corpus.dedup.links import NO_LIMIT, groups, link_records, spanning_forest
from corpus.dedup.stored import Store, stored_key

LINKS_A_ROW = 1 << 20

# Rows of links, and rows of records that are still to be linked: a piece of a hot bucket.
_LINK_FIELDS = [("distances", pa.binary()), ("left", pa.binary()), ("right", pa.binary())]
_PIECE_FIELDS = [
    ("piece", pa.int64()),
    ("bucket", pa.int64()),
    ("keys", pa.binary()),
    ("sketches", pa.binary()),
    ("stored", pa.binary()),
]
_LINKED = pa.schema([*_LINK_FIELDS, *_PIECE_FIELDS])
_LINKED_SPARK = (
    "distances binary, left binary, right binary, "
    "piece long, bucket long, keys binary, sketches binary, stored binary"
)


@dataclass(frozen=True)
class Limits:
    """From where on work is spread over tasks; the same groups come of any limits but `largest`."""

    largest: int = NO_LIMIT
    """Documents a group: greater components are parted at their weakest links."""
    hot_bucket: int = 65_536
    """Records that one task links for one bucket (2 MB)."""
    driver_links: int = 20_000_000
    """Links of which the driver makes the components (480 MB); of more, Spark does."""


@dataclass(frozen=True)
class Groups:
    """Documents that must be compared with each other.

    Columns: `key`, `group`, and, where there are giants, `component`: the group before it was
    parted, null where it was not.
    """

    found: pa.Table | DataFrame
    members: int
    giants: int
    """Components that were parted."""

    @property
    def table(self) -> pa.Table | None:
        """The groups sorted by `key`, if the driver made them."""
        return self.found if isinstance(self.found, pa.Table) else None

    @property
    def frame(self) -> DataFrame:
        """The groups as Spark has them."""
        if isinstance(self.found, pa.Table):
            return SparkSession.active().createDataFrame(self.found)
        return self.found


def find_groups(
    records: DataFrame,
    radius: int,
    limits: Limits,
    stores: Sequence[Store] = (),
) -> Groups | None:
    """The documents that are linked to others; None if there are none.

    `records` are the documents' buckets (`buckets.pack`). Documents in one bucket are linked if
    their sketches differ in at most `radius` bits; groups are what links connect, parted at their
    weakest links where they would hold more than `limits.largest`. Documents in `stores` are
    linked too, with others than themselves; their keys are `stored_key`.
    """
    hot = limits.hot_bucket

    def link(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return _link(batches, radius, stores, hot)

    linked = records.repartition("part").mapInArrow(link, _LINKED_SPARK).persist()
    parts = [linked]
    try:
        links, pieces = _sizes(linked)
        if pieces:
            led = _relinked(linked, lambda batches: _link_pieces(batches, radius, True)).persist()
            parts.append(led)
            parts.append(_relinked(led, lambda batches: _link_pieces(batches, radius, False)))
            links = sum(_sizes(part)[0] for part in parts)
        if not links:
            return None
        forest = parts[0]
        for part in parts[1:]:
            forest = forest.union(part)
        forest = forest.where("left is not null").select(*[name for name, _ in _LINK_FIELDS])
        if links <= limits.driver_links:
            return _grouped_here(forest, limits.largest)
        return _grouped_by_spark(forest, limits.largest)
    finally:
        for part in parts:
            part.unpersist()


def _sizes(linked: DataFrame) -> tuple[int, int]:
    """How many links, and how many pieces of hot buckets, rows hold."""
    row = linked.agg(F.sum(F.length("distances")), F.count("piece")).collect()[0]
    return row[0] or 0, row[1]


def _relinked(linked: DataFrame, link: Callable[..., Iterator[pa.RecordBatch]]) -> DataFrame:
    pieces = linked.where("piece is not null").repartition("piece")
    return pieces.mapInArrow(link, _LINKED_SPARK)


def _link(
    batches: Iterable[pa.RecordBatch], radius: int, stores: Sequence[Store], hot: int
) -> Iterator[pa.RecordBatch]:
    columns = [unpack_together(batches)]
    fresh = len(columns[0][0])
    if fresh == 0:
        return
    if stores:
        wanted = np.unique(columns[0][0])
        for number, store in enumerate(stores):
            for found in store.records(wanted):
                sketches = np.column_stack([found["sketch0"], found["sketch1"]])
                keys = stored_key(found["key"].to_numpy(), number)
                columns.append((found["hash"].to_numpy(), keys, sketches))
    hashes, keys, sketches = (np.concatenate(column) for column in zip(*columns, strict=True))
    stored = np.arange(len(hashes)) >= fresh
    too_many = _in_hot_buckets(hashes, hot)
    if too_many is not None:
        buckets, own = hashes[too_many], keys[too_many]
        pieces = _salted(buckets, own, hot)
        yield from _pieces(pieces, buckets, own, sketches[too_many], stored[too_many])
        rest = ~too_many
        hashes, keys, sketches, stored = hashes[rest], keys[rest], sketches[rest], stored[rest]
    links, names, _ = link_records(hashes, keys, sketches, stored, radius)
    yield from _link_rows(links, names)


def _link_pieces(
    batches: Iterable[pa.RecordBatch], radius: int, leaders_on: bool
) -> Iterator[pa.RecordBatch]:
    """Link the records of each piece; send on those that lead it, as a piece for the bucket."""
    held = list(batches)
    if not held:
        return
    table = pa.Table.from_batches(held)
    keys = unblob(table["keys"], np.int64)
    sketches = unblob(table["sketches"], np.uint64).reshape(-1, 2)
    stored = unblob(table["stored"], np.bool_)
    lengths = np.array([len(blob) // 8 for blob in table["keys"].to_pylist()])
    pieces = np.repeat(table["piece"].to_numpy().view(np.uint64), lengths)
    links, names, led = link_records(pieces, keys, sketches, stored, radius)
    yield from _link_rows(links, names)
    if leaders_on:
        buckets = np.repeat(table["bucket"].to_numpy().view(np.uint64), lengths)[led]
        yield from _pieces(buckets, buckets, keys[led], sketches[led], stored[led])


def _in_hot_buckets(hashes: NDArray[np.uint64], hot: int) -> NDArray[np.bool_] | None:
    """Which records are of buckets with more than `hot` of them; None if no bucket is."""
    if len(hashes) <= hot:
        return None
    ordered = np.sort(hashes)
    ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
    sizes = np.diff(ends, prepend=-1)
    if sizes.max() <= hot:
        return None
    return np.isin(hashes, ordered[ends[sizes > hot]])


def _salted(hashes: NDArray[np.uint64], keys: NDArray[np.int64], hot: int) -> NDArray[np.uint64]:
    """A number for the piece of its bucket that each record is dealt to; uint64 [records]."""
    _, bucket, sizes = np.unique(hashes, return_inverse=True, return_counts=True)
    pieces = -(-sizes // hot)
    salt = (keys.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(33)).astype(np.int64)
    return hashes + (salt % pieces[bucket] + 1).astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)


def _pieces(
    pieces: NDArray[np.uint64],
    buckets: NDArray[np.uint64],
    keys: NDArray[np.int64],
    sketches: NDArray[np.uint64],
    stored: NDArray[np.bool_],
) -> Iterator[pa.RecordBatch]:
    """Rows of _LINKED: the records of each piece."""
    order = np.argsort(pieces, kind="stable")
    starts = np.append(
        np.flatnonzero(np.diff(pieces[order], prepend=~pieces[order[:1]])), len(order)
    )
    first = order[starts[:-1]]
    yield _row(
        {
            "piece": pa.array(pieces[first].view(np.int64)),
            "bucket": pa.array(buckets[first].view(np.int64)),
            "keys": blobs(keys[order], starts),
            "sketches": blobs(sketches[order], starts),
            "stored": blobs(stored[order], starts),
        }
    )


def _link_rows(links: NDArray[np.int64], names: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
    """Rows of _LINKED: links (distance, node, node), the nodes by their keys."""
    if len(links):
        starts = np.append(np.arange(0, len(links), LINKS_A_ROW), len(links))
        yield _row(
            {
                "distances": blobs(links[:, 0].astype(np.uint8), starts),
                "left": blobs(names[links[:, 1]], starts),
                "right": blobs(names[links[:, 2]], starts),
            }
        )


def _row(columns: dict[str, Any]) -> pa.RecordBatch:
    length = len(next(iter(columns.values())))
    arrays = [columns.get(field.name, pa.nulls(length, field.type)) for field in _LINKED]
    return pa.RecordBatch.from_arrays(arrays, schema=_LINKED)


def _grouped_here(forest: DataFrame, largest: int) -> Groups:
    links, names = _unpack_links(forest.toArrow())
    component = groups(links, len(names), NO_LIMIT)
    sizes = np.bincount(component)
    table = pa.table({"key": names, "group": names[component]})
    giant = sizes[component] > largest
    if giant.any():
        group = groups(links, len(names), largest)
        parted = pa.array(names[component], mask=~giant)
        table = pa.table({"key": names, "group": names[group], "component": parted})
    return Groups(table, len(names), int((sizes > largest).sum()))


def _grouped_by_spark(forest: DataFrame, largest: int) -> Groups:
    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            table = pa.Table.from_batches([batch])
            columns = [
                pa.array(unblob(table["distances"], np.uint8).astype(np.int64)),
                pa.array(unblob(table["left"], np.int64)),
                pa.array(unblob(table["right"], np.int64)),
            ]
            yield pa.RecordBatch.from_arrays(columns, ["distance", "left", "right"])

    links = forest.mapInArrow(rows, "distance long, left long, right long")
    frame = parted_components(links, largest).localCheckpoint()
    sizes = frame.groupBy("component").agg(F.count(F.lit(1)).alias("members"))
    giant = F.col("members") > largest
    totals = sizes.agg(F.sum("members"), F.count(F.when(giant, 1))).collect()[0]
    if totals[1]:
        giants = F.broadcast(sizes.where(giant).select("component", F.lit(True).alias("giant")))
        frame = frame.join(giants, "component", "left").select(
            "key", "group", F.when(F.col("giant"), F.col("component")).alias("component")
        )
    else:
        frame = frame.drop("component")
    return Groups(frame, totals[0], totals[1])


def _unpack_links(forest: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The links of packed rows, as (distance, node, node) with dense nodes, and the nodes' keys."""
    distances = unblob(forest["distances"], np.uint8).astype(np.int64)
    ends = np.concatenate([unblob(forest[name], np.int64) for name in ("left", "right")])
    names, nodes = np.unique(ends, return_inverse=True)
    links = np.column_stack([distances, *np.split(nodes, 2)])
    return spanning_forest(links, len(names)), names
