"""Which of several copies is the best: the order in which a stage considers them."""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from corpus.settings import Settings

Criterion = Literal["priority", "quality", "complete", "date", "central", "longest"]

# What each criterion sorts by, in pyarrow's terms; nulls come last in either direction.
_SORT_KEYS: dict[Criterion, tuple[str, Literal["ascending", "descending"]]] = {
    "priority": ("priority", "descending"),
    "quality": ("quality", "descending"),
    "complete": ("incomplete", "ascending"),
    "date": ("date", "descending"),
    "central": ("neighbours", "descending"),
    "longest": ("size", "descending"),
}


class Keeping(Settings):
    """How the kept one of several copies is chosen."""

    order: tuple[Criterion, ...] = (
        "priority",
        "quality",
        "complete",
        "date",
        "central",
        "longest",
    )
    """The criteria, the weightiest first; what they leave equal, the smaller `doc_id` decides.
    `priority` is that of the document's source in the recipe, `complete` puts truncated copies
    last, `date` the newest first, `central` those that are similar to most others."""
    quality: str | None = Field(default=None, min_length=1)
    """The column that holds the quality score (higher is better), if there is one."""


def sort_keys(keeping: Keeping) -> list[tuple[str, str]]:
    """The columns to sort by, best document first."""
    order: list[tuple[str, str]] = [
        _SORT_KEYS[criterion]
        for criterion in keeping.order
        if criterion != "quality" or keeping.quality
    ]
    return [*order, ("doc_id", "ascending")]


def needed_columns(keeping: Keeping) -> list[str]:
    """The document columns that the order reads."""
    return ["source", "date", *([keeping.quality] if keeping.quality else [])]


def ranking_columns(keeping: Keeping, sources: Mapping[str, Settings]) -> Sequence[Column]:
    """`priority` (int), `date` and, where wanted, `quality` (double), as Spark columns."""
    priority = F.lit(0)
    for name, source in sources.items():
        value = getattr(source, "priority", 0)
        if value:
            priority = F.when(F.col("source") == name, F.lit(value)).otherwise(priority)
    columns = [priority.cast("int").alias("priority"), F.col("date")]
    if keeping.quality:
        columns.append(F.col(keeping.quality).cast("double").alias("quality"))
    return columns


def with_key(documents: DataFrame) -> DataFrame:
    """Add `key`, a 64-bit hash of `doc_id`, by which documents are told apart until they meet.

    Two documents with one key are no harm: they are compared, as any two in a group, by text.
    """
    return documents.withColumn("key", F.xxhash64("doc_id"))
