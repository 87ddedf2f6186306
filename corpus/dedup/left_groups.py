"""Groups that are linked once for two stages: the local one leaves them, the global one takes them.

Documents are linked across all categories. `minhash-local` compares what of a group is of one
category; where a group holds several, it leaves the group's name with their documents, in the
column `near_group`, and `minhash-global` compares those of them that are left. So signatures are
read, and buckets shuffled, once.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from corpus.buffers import string_buffers
from corpus.dedup.grouping import Groups, Limits
from corpus.dedup.members import members_of
from corpus.dedup.verdict import BROADCAST_ROWS
from corpus.keys import category_keys, document_keys
from corpus.stage import Read, spark_schema

# What a document's group is called: int64 component, then int64 part, which is the component's
# name too unless that was a giant. Binary, so that no final document bears it.
NEAR_GROUP = pa.field("near_group", pa.binary())

# Documents in groups, by the category that they are compared in.
_PLACES = "key long, component long, part long, category long"
_SPLIT = pa.schema(
    [
        ("key", pa.int64()),
        ("group", pa.int64()),
        ("component", pa.int64()),
        NEAR_GROUP,
    ]
)


@dataclass(frozen=True)
class Split:
    """Groups by category, and what is left between categories."""

    found: Groups | None
    """The documents to compare in their categories; None if there are none."""
    left: DataFrame | None
    """`key` and `near_group` of the documents whose group holds several categories."""


def split_by_category(read: Read, found: Groups, by: Sequence[str], limits: Limits) -> Split:
    """Part groups by the columns `by`; parts of one document are none."""

    def tell(batch: pa.RecordBatch) -> pa.RecordBatch:
        return pa.RecordBatch.from_pydict({"category": category_keys(batch, by).view(np.int64)})

    members = members_of(read, by, found, tell, "category long")
    whole = F.coalesce("component", "group") if found.giants else F.col("group")
    key = F.xxhash64("doc_id").alias("key")
    places = members.select(key, whole.alias("component"), F.col("group").alias("part"), "category")
    return _split(places, found.members, limits)


def take_groups(read: Read, limits: Limits) -> Groups | None:
    """The groups in the column `near_group` of documents; None if no two are left of any."""

    def places(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            names = batch.column(NEAR_GROUP.name)
            if names.null_count < len(names):
                keys = document_keys(batch.column("doc_id").filter(names.is_valid()))
                offsets, data = string_buffers(names)
                component, part = data[offsets[0] : offsets[-1]].view("<i8").reshape(-1, 2).T
                columns = (keys, component, part, np.zeros(len(keys), np.int64))
                yield pa.RecordBatch.from_arrays(
                    [pa.array(column) for column in columns],
                    names=["key", "component", "part", "category"],
                )

    taken = read.map([NEAR_GROUP.name], places, _PLACES).persist()
    try:
        return _split(taken, taken.count(), limits).found
    finally:
        taken.unpersist()


def with_left(decided: DataFrame, left: DataFrame | None) -> DataFrame:
    """`decided` (`doc_id`, `verdict`) with the column `near_group`, null where nothing is left."""
    if left is None:
        return decided.withColumn(NEAR_GROUP.name, F.lit(None).cast("binary"))
    return decided.join(left, F.xxhash64("doc_id") == left["key"], "left").drop("key")


def _split(places: DataFrame, members: int, limits: Limits) -> Split:
    """Split rows of _PLACES: on the driver, or on Spark if there are too many."""
    if not members:
        return Split(None, None)
    if members <= limits.driver_links:
        table = split_places(places.toArrow(), limits.largest)
        compared = table.filter(table["group"].is_valid())
        giants = len(compared["component"].unique().drop_null())
        between = table.filter(table[NEAR_GROUP.name].is_valid()).select(["key", NEAR_GROUP.name])
        columns = ["key", "group", "component"] if giants else ["key", "group"]
        spark = places.sparkSession
        few = members <= BROADCAST_ROWS
        left = spark.createDataFrame(between.combine_chunks()) if len(between) else None
        return Split(
            Groups(compared.select(columns).sort_by("key"), len(compared), giants)
            if len(compared)
            else None,
            F.broadcast(left) if left is not None and few else left,
        )

    def split(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held = list(batches)
        if held:
            table = pa.Table.from_batches(held)
            yield from split_places(table, limits.largest).to_batches()

    frame = places.repartition("component").mapInArrow(split, spark_schema(_SPLIT))
    frame = frame.localCheckpoint()
    compared = frame.where("group is not null").drop(NEAR_GROUP.name)
    totals = compared.agg(F.count("group"), F.countDistinct("component")).collect()[0]
    left = frame.where(F.col(NEAR_GROUP.name).isNotNull()).select("key", NEAR_GROUP.name)
    if not totals[1]:
        compared = compared.drop("component")
    return Split(Groups(compared, totals[0], totals[1]) if totals[0] else None, left)


def split_places(places: pa.Table, largest: int) -> pa.Table:
    """Split whole components by category: a table of `key`, `group`, `component`, `near_group`.

    `places` holds key, component, part, category (int64). Documents of one component and category
    are a group; where these are more than `largest`, those of one part are, and `component` names
    all of them. Groups are named by their smallest key, so no two have one name. A document without
    others of its category has no group; one without others of other categories no `near_group`.
    """
    key, component, part, category = (
        places[name].to_numpy() for name in ("key", "component", "part", "category")
    )
    order = np.lexsort((key, part, category, component))
    key, component, part, category = (column[order] for column in (key, component, part, category))
    new_component = _starts(component)
    new_category = new_component | _starts(category)
    new_part = new_category | _starts(part)
    categories = np.bincount(_runs(new_component)[new_category])[_runs(new_component)]
    sizes = np.bincount(_runs(new_category))[_runs(new_category)]
    giant = sizes > largest
    of_category = np.minimum.reduceat(key, np.flatnonzero(new_category))[_runs(new_category)]
    of_part = key[new_part][_runs(new_part)]
    between = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16),
        len(key),
        [
            pa.py_buffer(np.packbits(categories > 1, bitorder="little")),
            pa.py_buffer(np.column_stack([component, part]).astype("<i8")),
        ],
    )
    return pa.table(
        [
            pa.array(key),
            pa.array(np.where(giant, of_part, of_category), mask=sizes < 2),
            pa.array(of_category, mask=~giant),
            between.cast(pa.binary()),
        ],
        schema=_SPLIT,
    )


def _starts(values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where another value begins: bool [values]."""
    starts = np.ones(len(values), np.bool_)
    starts[1:] = values[1:] != values[:-1]
    return starts


def _runs(starts: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The number of each row's run, from 0."""
    return np.cumsum(starts) - 1
