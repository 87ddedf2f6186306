"""Groups too large for one task: what is kept of their parts is compared once more.

A giant group (`grouping.Limits.largest`) is parted, and each part is resolved by a task of its own,
so that a star of copies would leave one document a part. Therefore the parts' kept documents meet
again; and what was dropped because of a document that then falls itself is compared with the one
that stays: it is dropped because of that, or not at all.
"""

from collections.abc import Callable, Iterator

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from corpus.dedup.verdict import DUPLICATE
from corpus.stage import spark_schema

KEPT_HERE = 1 << 20  # in `stored`: kept already, by this run and not by an earlier one

# Whole groups in, rows of DUPLICATE out: `resolve.resolve` over batches.
Resolving = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]


def settle(
    members: DataFrame, duplicates: DataFrame, resolving: Resolving, largest: int
) -> DataFrame:
    """The duplicates (DUPLICATE) once the parts of giant groups have met again.

    `members` holds key, group, component (null outside of giants), stored, and what `resolving`
    reads; `duplicates` is what it found in each group. Where more than `largest` of a giant's
    documents are kept, these are too unlike to be copies of one, and stay as they are.
    """
    schema = spark_schema(DUPLICATE)
    members, first = members.localCheckpoint(), duplicates.localCheckpoint()
    of_giants = members.where("component is not null")
    rivals = of_giants.join(first.select("doc_id"), "doc_id", "left_anti")
    sizes = rivals.groupBy("component").count().where(F.col("count") <= largest)
    rivals = rivals.join(sizes.select("component"), "component", "left_semi")
    rivals = rivals.withColumn("group", F.col("component"))
    second = rivals.repartition("group").mapInArrow(resolving, schema).localCheckpoint()

    heirs = second.select(F.col("doc_id").alias("kept"), F.col("kept").alias("heir"))
    orphans = first.join(heirs, "kept").select("doc_id", "heir").localCheckpoint()
    pieces = 1 + orphans.count() // largest
    salted = F.xxhash64("heir", F.col("piece").cast("long"))
    left = (
        of_giants.join(orphans, "doc_id")
        .withColumn("piece", F.pmod("key", F.lit(pieces)))
        .withColumn("group", salted)
        .drop("piece", "heir")
    )
    kept = (
        of_giants.join(orphans.select(F.col("heir").alias("doc_id")).distinct(), "doc_id")
        .withColumn("piece", F.explode(F.sequence(F.lit(0), F.lit(pieces - 1))))
        .withColumn("heir", F.col("doc_id"))
        .withColumn("group", salted)
        .withColumn("stored", F.when(F.col("stored") > 0, F.col("stored")).otherwise(KEPT_HERE))
        .drop("piece", "heir")
    )
    together = left.unionByName(kept).repartition("group")
    third = together.mapInArrow(resolving, schema)
    return first.join(orphans, "doc_id", "left_anti").union(second).union(third)
