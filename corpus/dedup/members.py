"""The documents of groups, fetched: of all documents, those that must be compared with others."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from corpus.dedup.grouping import Groups
from corpus.dedup.verdict import BROADCAST_ROWS
from corpus.keys import document_keys
from corpus.stage import Read

# What is told of a document, instead of the columns that were read: a batch of as many rows.
Telling = Callable[[pa.RecordBatch], pa.RecordBatch]

# Columns that are read together, what is told of them, and its schema in Spark's words.
Part = tuple[Sequence[str], Telling, str]


def members_of(
    read: Read, columns: Sequence[str], found: Groups, telling: Telling, schema: str
) -> DataFrame:
    """What `telling` makes of `columns` (`schema`, in Spark's words) of the documents in groups.

    Beside it `doc_id` and `group`; where there are giants, also `key` and `component`.
    """
    placed = ["group", "key", "component"] if found.giants else ["group"]
    whole = ", ".join(["doc_id string", schema, *(f"{name} long" for name in placed)])

    def told(batch: pa.RecordBatch, places: pa.RecordBatch) -> pa.RecordBatch:
        own = telling(batch)
        return pa.RecordBatch.from_arrays(
            [batch.column("doc_id"), *own.columns, *(places.column(name) for name in placed)],
            names=["doc_id", *own.schema.names, *placed],
        )

    if found.table is None or found.members > BROADCAST_ROWS:
        return _joined(read, columns, found, told, whole)
    spark = read([]).sparkSession
    groups = spark.sparkContext.broadcast(found.table.combine_chunks())

    def choose(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        table = groups.value
        known = table["key"].to_numpy()
        for batch in batches:
            keys = document_keys(batch.column("doc_id"))
            place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
            rows = np.flatnonzero(known[place] == keys)
            if len(rows):
                places = table.take(place[rows]).combine_chunks().to_batches()[0]
                yield told(batch.take(pa.array(rows)), places)

    return read.map(columns, choose, whole)


def joined_members(read: Read, parts: Sequence[Part], found: Groups) -> DataFrame:
    """`members_of` for several parts, joined.

    Columns of different stages lie in different files: workers read them apart, and only the few
    documents that are in groups meet again.
    """
    first, *others = (members_of(read, names, found, tell, schema) for names, tell, schema in parts)
    for other in others:
        other = other.drop("group", "key", "component")
        few = F.broadcast(other) if found.members <= BROADCAST_ROWS else other
        first = first.join(few, "doc_id")
    return first


def _joined(
    read: Read,
    columns: Sequence[str],
    found: Groups,
    told: Callable[[pa.RecordBatch, pa.RecordBatch], pa.RecordBatch],
    schema: str,
) -> DataFrame:
    """`members_of` for groups that are too many for a worker to hold."""
    names = found.frame.columns
    documents = read(columns, found.frame).selectExpr("*", "xxhash64(doc_id) as key")

    def tell(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if batch.num_rows:
                yield told(batch.select(["doc_id", *columns]), batch.select(names))

    return documents.join(found.frame, "key").mapInArrow(tell, schema)
