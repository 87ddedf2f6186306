"""Connected components of links too many for one machine, on Spark DataFrames.

Alternating large-star and small-star (Kiveris, Lattanzi, Mirrokni, Rastogi and Vassilvitskii,
"Connected components in MapReduce and beyond", SoCC 2014): every node hands its neighbours on to
the smallest of them, until each component is one star. No task ever holds a whole component.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from corpus.dedup.links import groups


def components(links: DataFrame) -> DataFrame:
    """`node` and `component` (its smallest node) of every node of `links`.

    `links` holds `left` and `right` (long), in any order and direction, repetitions allowed.
    """
    ends = [F.greatest("left", "right").alias("node"), F.least("left", "right").alias("parent")]
    stars = _kept(links.select(*ends).where("node <> parent").distinct())
    before = None
    while before != (state := _digest(stars)):
        before = state
        stars = _kept(_small_star(_large_star(stars)))
    roots = stars.select(F.col("parent").alias("node"), "parent").distinct()
    return stars.union(roots).withColumnRenamed("parent", "component")


def parted_components(links: DataFrame, largest: int) -> DataFrame:
    """`key`, `group` and `component` of every node: groups are components of up to `largest` nodes.

    `links` holds `distance`, `left`, `right` (long). A greater component is parted at its weakest
    links, by one task, as `links.groups` does.
    """
    links = _kept(links)
    found = _kept(components(links))
    sizes = found.groupBy("component").count()
    giants = sizes.where(F.col("count") > largest).select("component")
    of_giants = links.join(found.withColumnRenamed("node", "left"), "left").join(
        F.broadcast(giants), "component"
    )

    def part(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held = list(batches)
        if held:
            yield from part_at_weakest(pa.Table.from_batches(held), largest).to_batches()

    parted = of_giants.repartition("component").mapInArrow(part, "key long, group long")
    return (
        found.withColumnRenamed("node", "key")
        .join(parted, "key", "left")
        .select("key", F.coalesce("group", "component").alias("group"), "component")
    )


def part_at_weakest(links: pa.Table, largest: int) -> pa.Table:
    """`key` and `group` of every node of `links` (`distance`, `left`, `right`)."""
    ends = np.concatenate([links["left"].to_numpy(), links["right"].to_numpy()])
    names, nodes = np.unique(ends, return_inverse=True)
    numbered = np.column_stack([links["distance"].to_numpy(), *np.split(nodes, 2)])
    return pa.table({"key": names, "group": names[groups(numbered, len(names), largest)]})


def _large_star(stars: DataFrame) -> DataFrame:
    """Hand every greater neighbour of each node on to the smallest one, the node included."""
    there = stars.select(F.col("node").alias("here"), F.col("parent").alias("other"))
    both = there.union(stars.select("parent", "node"))
    smallest = both.groupBy("here").agg(F.min("other").alias("least"))
    return (
        both.where("other > here")
        .join(smallest, "here")
        .select(F.col("other").alias("node"), F.least("here", "least").alias("parent"))
    )


def _small_star(stars: DataFrame) -> DataFrame:
    """Hand every node, and its smaller neighbours, on to the smallest of these."""
    smallest = stars.groupBy("node").agg(F.min("parent").alias("least"))
    handed = stars.join(smallest, "node").select(F.col("parent").alias("node"), "least")
    return handed.where("node <> least").union(smallest).toDF("node", "parent").distinct()


def _digest(stars: DataFrame) -> tuple[int, int]:
    """Equal for equal sets of links."""
    total = F.sum(F.xxhash64("node", "parent").cast("decimal(20,0)"))
    row = stars.agg(F.count(F.lit(1)).alias("links"), total.alias("total")).collect()[0]
    return row.links, int(row.total or 0)


def _kept(frame: DataFrame) -> DataFrame:
    """The frame, computed now: otherwise each round would begin with all rounds before it."""
    return frame.localCheckpoint()
