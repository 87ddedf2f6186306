"""Which of several copies is the best: the order in which a stage considers them."""

from collections.abc import Mapping
from typing import Literal

import pyarrow as pa
from pydantic import Field

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


def source_priorities(sources: Mapping[str, Settings]) -> dict[str, int]:
    """The priorities of the sources that have one, by name."""
    return {name: value for name, one in sources.items() if (value := getattr(one, "priority", 0))}


def priority_column(source: pa.Array, priorities: Mapping[str, int]) -> pa.Array:
    """The priority of each document's source; int32, 0 where it has none."""
    encoded = source.dictionary_encode(null_encoding="encode")
    values = [priorities.get(name, 0) for name in encoded.dictionary.to_pylist()]
    return pa.array(values, pa.int32()).take(encoded.indices)


class Ranking:
    """What the order reads of a document, of a batch with `needed_columns`."""

    def __init__(self, keeping: Keeping, sources: Mapping[str, Settings]) -> None:
        self.quality = keeping.quality
        self.priorities = source_priorities(sources)

    @property
    def schema(self) -> str:
        """The columns in Spark's words."""
        quality = ", quality double" if self.quality else ""
        return f"priority int, date string{quality}"

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = {
            "priority": priority_column(batch.column("source"), self.priorities),
            "date": batch.column("date").cast(pa.string()),
        }
        if self.quality:
            columns["quality"] = batch.column(self.quality).cast(pa.float64())
        return pa.RecordBatch.from_pydict(columns)
