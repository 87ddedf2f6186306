"""Reading sources on Spark: one lazy DataFrame of RAW records, the same for any partitioning."""

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from corpus.document import RAW, document_id
from corpus.reading.listing import SourceFile, balance, list_files
from corpus.reading.records import read_records
from corpus.reading.records_base import Record
from corpus.reading.source import Source
from corpus.stage import spark_schema

BATCH_ROWS = 500
BATCH_BYTES = 16_000_000
PARTITION_BYTES = 64_000_000
"""Stored bytes that a task reads, where the caller does not say how many partitions he wants."""


def read_sources(
    spark: SparkSession,
    sources: Sequence[Source],
    partitions: int | None = None,
    with_payload: bool = True,
) -> DataFrame:
    """Return the documents of all sources as rows of `corpus.document.RAW`.

    The files are listed now, on the driver; they are read when the DataFrame is computed, in its
    tasks, as streams. A document that cannot be read is a row with a `failure`.

    `with_payload=False` returns the same rows with doc_id, tags and locator only, without opening
    more than it must: what counting and checking need.

    Raises:
        UserError: see `list_files`.
    """
    files = list_files(sources)
    if partitions is None:
        total = sum(file.size for file in files)
        wanted = max(spark.sparkContext.defaultParallelism, total // PARTITION_BYTES + 1)
        partitions = min(wanted, len(files))
    slots = balance(files, max(1, partitions))
    recipe = list(sources)

    def read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for slot in batch.column(0).to_pylist():
                yield from _read_slot(slots[slot], recipe, with_payload)

    return spark.range(0, len(slots), 1, len(slots)).mapInArrow(read, spark_schema(RAW))


def _read_slot(
    files: Sequence[SourceFile], sources: Sequence[Source], with_payload: bool
) -> Iterator[pa.RecordBatch]:
    rows: list[tuple[Source, Record]] = []
    size = 0
    for file in files:
        source = sources[file.source]
        for record in read_records(file, source, with_payload):
            rows.append((source, record))
            size += len(record.payload or b"")
            if len(rows) >= BATCH_ROWS or size >= BATCH_BYTES:
                yield _batch(rows)
                rows, size = [], 0
    if rows:
        yield _batch(rows)


def _batch(rows: Sequence[tuple[Source, Record]]) -> pa.RecordBatch:
    columns = {
        "doc_id": [document_id(source.name, record.locator) for source, record in rows],
        "source": [source.name for source, _ in rows],
        "lang": [source.known_lang for source, _ in rows],
        "domain": [source.domain for source, _ in rows],
        "kind": [source.kind for source, _ in rows],
        "url": [record.url for _, record in rows],
        "title": [record.title for _, record in rows],
        "date": [record.date for _, record in rows],
        "extra": [list(record.extra.items()) for _, record in rows],
        "locator": [record.locator for _, record in rows],
        "media": [record.media or _media(source) for source, record in rows],
        "payload": [record.payload for _, record in rows],
        "failure": [record.failure for _, record in rows],
    }
    return pa.RecordBatch.from_arrays(
        [pa.array(columns[field.name], field.type) for field in RAW], schema=RAW
    )


def _media(source: Source) -> str:
    return source.media if source.format in ("jsonl", "parquet", "zip", "warc") else source.format
