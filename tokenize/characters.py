"""How often each character stands in a corpus, counted on Spark, and which of them to take."""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tokenization.pieces import is_allowed


def count_characters(documents: DataFrame) -> dict[str, int]:
    """Occurrences of every character in the column `text`, all documents together."""
    counted = documents.select("text").mapInArrow(_count_batches, "code int, occurrences long")
    rows = counted.groupBy("code").agg(F.sum("occurrences").alias("occurrences")).collect()
    return {chr(row["code"]): row["occurrences"] for row in rows}


def most_frequent(
    counts: dict[str, int], coverage: float, count: int | None, punctuation: bool
) -> tuple[list[str], float]:
    """The allowed characters by falling frequency, and the share of all occurrences they cover.

    Takes `count` of them or, without it, the fewest that cover `coverage` of the allowed
    characters' occurrences. Equal frequencies are ordered by code point, so that the same corpus
    gives the same vocabulary.
    """
    allowed = [character for character in counts if is_allowed(character, punctuation)]
    allowed.sort(key=lambda character: (-counts[character], character))
    if not allowed:
        return [], 0.0
    covered = np.cumsum([counts[character] for character in allowed])
    if count is None:
        # Rounded up: the share covered is never below what was asked for.
        count = int(np.searchsorted(covered, coverage * covered[-1], "left")) + 1
    taken = allowed[:count]
    return taken, float(covered[len(taken) - 1] / covered[-1]) if taken else 0.0


def _count_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    totals = np.zeros(0x110000, np.int64)
    for batch in batches:
        for text in _pieces_of_text(batch.column(0)):
            found = np.bincount(np.frombuffer(text.encode("utf-32-le"), np.uint32))
            totals[: len(found)] += found
    codes = np.flatnonzero(totals)
    yield pa.RecordBatch.from_arrays(
        [pa.array(codes.astype(np.int32)), pa.array(totals[codes])], ["code", "occurrences"]
    )


def _pieces_of_text(column: pa.Array) -> Iterator[str]:
    """The whole column's text in a few long strings, however many rows it has."""
    column = pc.fill_null(column, "")
    step = 4096  # rows; a batch of Spark's holds fewer as a rule
    for first in range(0, len(column), step):
        rows = column.slice(first, step)
        yield "".join(rows.to_pylist())
