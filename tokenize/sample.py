"""A sample of a corpus that is the same whatever the number of partitions."""

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

TAG_COLUMNS = ("lang", "domain", "kind")


def bucket_column() -> Column:
    """`<lang>-<domain>-<kind>`, "unknown" standing for a tag that is missing."""
    return F.concat_ws("-", *(F.coalesce(F.col(tag), F.lit("unknown")) for tag in TAG_COLUMNS))


@dataclass(frozen=True)
class SampledDocument:
    """The beginning of one document."""

    doc_id: str
    bucket: str
    text: str


def sample_documents(
    documents: DataFrame, per_bucket: int, characters: int = 20_000
) -> list[SampledDocument]:
    """Up to `per_bucket` documents of every bucket, each its first `characters` at most.

    Chosen by a hash of `doc_id`, so that the same corpus always gives the same sample. Only ids
    and tags are shuffled; texts are read once.
    """
    order = Window.partitionBy(*TAG_COLUMNS).orderBy(F.xxhash64("doc_id"), "doc_id")
    chosen = (
        documents.select("doc_id", *TAG_COLUMNS)
        .withColumn("rank", F.row_number().over(order))
        .where(F.col("rank") <= per_bucket)
        .select("doc_id")
    )
    rows = (
        documents.select(
            "doc_id",
            bucket_column(),
            F.substring(F.coalesce("text", F.lit("")), 1, characters),
        )
        .join(F.broadcast(chosen), "doc_id")
        .toDF("doc_id", "bucket", "text")
        .collect()
    )
    found = [SampledDocument(row["doc_id"], row["bucket"], row["text"]) for row in rows]
    return sorted(found, key=lambda document: (document.bucket, document.doc_id))
