"""How a duplicate's verdict is written: rule, similarity, threshold, and the kept twin."""

from collections.abc import Sequence

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from corpus.document import VERDICT
from corpus.stage import spark_type

BROADCAST_ROWS = 5_000_000  # up to here a table goes to every worker rather than be shuffled

# What finding duplicates returns: one row a dropped document.
DUPLICATE = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("rule", pa.string()),
        pa.field("kept", pa.string()),  # doc_id of the kept twin
        pa.field("similarity", pa.float64()),
        pa.field("stored", pa.int32()),  # the store, from 1, that holds the kept twin; else 0
    ]
)


def judge(
    documents: DataFrame,
    duplicates: DataFrame | None,
    most_duplicates: int,
    threshold: Column | float | None,
    evidence: dict[str, str],
    stores: Sequence[str] = (),
) -> DataFrame:
    """`doc_id` and `verdict` of every document; kept where `duplicates` does not name it.

    `most_duplicates` is a bound on the number of duplicates, `evidence` what all of them
    share, `stores` where earlier twins can be.
    """
    verdict_type = spark_type(VERDICT)
    documents = documents.select("doc_id")
    if duplicates is None:
        return documents.withColumn("verdict", F.lit(None).cast(verdict_type))
    pairs = [F.lit("kept"), F.col("kept")]
    for key, value in evidence.items():
        pairs += [F.lit(key), F.lit(value)]
    found_here = F.create_map(*pairs)
    for number, path in enumerate(stores, start=1):
        earlier = [F.lit("scope"), F.lit("earlier"), F.lit("run"), F.lit(path)]
        in_store = F.create_map(F.lit("kept"), F.col("kept"), *earlier)
        found_here = F.when(F.col("stored") == number, in_store).otherwise(found_here)
    verdict = F.struct(
        F.col("rule"),
        F.col("similarity").alias("value"),
        (threshold if isinstance(threshold, Column) else F.lit(threshold))
        .cast("double")
        .alias("threshold"),
        found_here.alias("evidence"),
    )
    found = duplicates.select("doc_id", verdict.alias("verdict"))
    if most_duplicates <= BROADCAST_ROWS:
        found = F.broadcast(found)
    return documents.join(found, "doc_id", "left")
