"""A stage's decided documents as Parquet files, and the count that conservation is checked by.

The workers that decide documents write them themselves, so that no text passes through the JVM;
what a DataFrame decides, Spark writes. Either way the folder holds `outcome=kept` and
`outcome=dropped`, and every outcome and rule has a `Tally`.
"""

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from corpus.keys import document_keys
from corpus.stage import BatchFunction, BatchStage, Read, Stage

OUTCOMES = ("kept", "dropped")
SUMMARY = "outcome string, rule string, documents long, digest string, file string"
ROW_GROUP_BYTES = 32 << 20  # in memory; a piece of a file that another task reads is not smaller


@dataclass(frozen=True)
class Tally:
    """How many documents had one outcome by one rule (null: none), and which they were."""

    outcome: str
    rule: str | None
    documents: int
    digest: int
    """The sum of the documents' keys, Spark's `xxhash64` of `doc_id`."""


def write_decided(stage: Stage, read: Read, folder: str) -> list[Tally]:
    """Let the stage decide all documents and write them under `folder`, which is made."""
    if isinstance(stage, BatchStage) and stage.is_process_alone:
        return _written_by_workers(stage, read, folder)
    return _written_by_spark(stage.decide_from(read).select(*stage.output_schema().names), folder)


def _written_by_spark(decided: DataFrame, folder: str) -> list[Tally]:
    outcome = F.when(F.col("verdict").isNull(), "kept").otherwise("dropped")
    decided.withColumn("outcome", outcome).write.partitionBy("outcome").parquet(folder)
    written = decided.sparkSession.read.schema(decided.schema.add("outcome", "string"))
    counts = (
        written.parquet(folder)
        .groupBy("outcome", "verdict.rule")
        # A decimal, since a sum of 64-bit hashes overflows 64 bits.
        .agg(F.count(F.lit(1)), F.sum(F.xxhash64("doc_id").cast("decimal(20,0)")))
    )
    return [Tally(row[0], row[1], row[2], int(row[3])) for row in counts.collect()]


def _written_by_workers(stage: BatchStage, read: Read, folder: str) -> list[Tally]:
    filesystem, local = fsspec.url_to_fs(folder)
    for outcome in OUTCOMES:
        filesystem.makedirs(f"{local}/outcome={outcome}", exist_ok=True)
    stage.prepare(read)
    write = writing(stage.process_all, stage.output_schema(), folder)
    rows = read.map(stage.needs, write, SUMMARY).collect()
    # A task that failed half-way, and was run again, has left files that nobody answers for.
    wanted = {row.file for row in rows}
    for outcome in OUTCOMES:
        for path in filesystem.ls(f"{local}/outcome={outcome}", detail=False):
            if path.rsplit("/", 1)[-1] not in wanted:
                filesystem.rm(path)
    return _added(rows)


def _added(rows: Iterable[Any]) -> list[Tally]:
    totals: dict[tuple[str, str | None], tuple[int, int]] = {}
    for outcome, rule, documents, digest, _ in rows:
        counted, summed = totals.get((outcome, rule), (0, 0))
        totals[outcome, rule] = (counted + documents, summed + int(digest))
    return [Tally(*names, *numbers) for names, numbers in totals.items()]


def writing(decide: BatchFunction, schema: pa.Schema, folder: str) -> BatchFunction:
    """`decide`, with what it returns written under `folder` and told in rows of `SUMMARY`."""

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        files = {outcome: _File(f"{folder}/outcome={outcome}", schema) for outcome in OUTCOMES}
        counts: dict[tuple[str, str | None], tuple[int, int]] = {}
        for decided in decide(batches):
            kept = decided.column("verdict").is_null()
            for outcome, chosen in (("kept", kept), ("dropped", pc.invert(kept))):
                part = decided.filter(chosen)
                keys = document_keys(part.column("doc_id"))
                rules = pc.struct_field(part.column("verdict"), "rule").dictionary_encode()
                codes = rules.indices.fill_null(-1).to_numpy(zero_copy_only=False)
                for code in np.unique(codes).tolist():
                    rule = None if code < 0 else rules.dictionary[code].as_py()
                    counted, summed = counts.get((outcome, rule), (0, 0))
                    own = keys[codes == code]
                    counts[outcome, rule] = (counted + len(own), summed + _exact_sum(own))
                files[outcome].add(part)
        for file in files.values():
            file.close()
        rows = [
            (outcome, rule, documents, str(digest), files[outcome].name)
            for (outcome, rule), (documents, digest) in counts.items()
        ]
        names = ("outcome", "rule", "documents", "digest", "file")
        types = (pa.string(), pa.string(), pa.int64(), pa.string(), pa.string())
        columns = zip(*rows, strict=True) if rows else ((),) * len(names)
        arrays = [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, list(names))

    return write


def _exact_sum(numbers: NDArray[np.int64]) -> int:
    """The sum, which 64 bits may not hold."""
    return (int((numbers >> 32).sum()) << 32) + int((numbers & 0xFFFFFFFF).sum())


class _File:
    """One task's documents of one outcome; no file where there are none."""

    def __init__(self, folder: str, schema: pa.Schema) -> None:
        self.name = f"part-{uuid.uuid4().hex}.parquet"
        self._path = f"{folder}/{self.name}"
        self._schema = schema
        self._held: list[pa.RecordBatch] = []
        self._bytes = 0
        self._file: fsspec.core.OpenFile | None = None
        self._writer: pq.ParquetWriter | None = None

    def add(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows:
            self._held.append(batch)
            self._bytes += batch.nbytes
            if self._bytes >= ROW_GROUP_BYTES:
                self._flush()

    def close(self) -> None:
        if self._held:
            self._flush()
        if self._writer is not None and self._file is not None:
            self._writer.close()
            self._file.close()

    def _flush(self) -> None:
        if self._writer is None:
            self._file = fsspec.open(self._path, "wb")
            self._writer = pq.ParquetWriter(
                self._file.open(),
                self._schema,
                compression="zstd",
                # What is the same in many rows: tags. Numbers and texts are better off without.
                use_dictionary=[
                    field.name
                    for field in self._schema
                    if pa.types.is_string(field.type) and field.name not in ("doc_id", "text")
                ],
                write_statistics=["doc_id"],
            )
        self._writer.write_table(pa.Table.from_batches(self._held, self._schema))
        self._held = []
        self._bytes = 0
