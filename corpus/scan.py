"""Parquet that Spark's Python workers read themselves: Spark only says which worker reads what.

A column that goes from Parquet through the JVM to Python is decoded to rows and encoded to Arrow on
its way, which costs more than most of what is done with it (`benchmarks/cleaning.py` prints both).
"""

import gc
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from corpus.settings import UserError
from corpus.stage import BatchFunction, Read, as_spark_schema

PARTITION_BYTES = 64 << 20  # compressed; Spark's own 128 MB are meant for rows that it streams
BATCH_BYTES = 16 << 20
BATCH_ROWS = 1000
FEWEST_BATCH_ROWS = 16
READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Piece:
    """The row groups `number` / `pieces` of the way through a Parquet file."""

    path: str
    number: int
    pieces: int


class ParquetDocuments(Read):
    """The documents in a folder of Parquet files, all of them."""

    def __init__(self, spark: SparkSession, path: str) -> None:
        self.spark = spark
        self.path = path

    def __call__(self, columns: Sequence[str], among: DataFrame | None = None) -> DataFrame:
        documents = self.spark.read.parquet(self.path)
        if among is not None:
            few = among.select("key")
            documents = documents.join(few, F.xxhash64("doc_id") == few["key"], "left_semi")
        return documents.select("doc_id", *columns)

    def map(
        self, columns: Sequence[str], function: BatchFunction, schema: pa.Schema | str
    ) -> DataFrame:
        return map_parquet(self.spark, self.path, columns, function, schema)


def map_parquet(
    spark: SparkSession,
    path: str,
    columns: Sequence[str],
    function: BatchFunction,
    schema: pa.Schema | str,
    types: pa.Schema | None = None,
    without: NDArray[np.bytes_] | None = None,
) -> DataFrame:
    """What `function` makes of the Arrow batches of the Parquet files under `path`.

    The batches hold `doc_id` and `columns`, in the types of `types` if that is given, and not the
    documents whose `doc_id` is in the sorted array `without`. Each call of `function` sees one
    task's batches, whose number and size say nothing: results must not depend on them.
    """
    names = list(dict.fromkeys(["doc_id", *columns]))
    tasks = _tasks_for(path, names, spark.sparkContext.defaultParallelism)
    if not tasks:
        return _nothing(spark, schema)
    wanted = pa.schema([types.field(name) for name in names]) if types else None
    # Some millions of ids are too much for every task's description.
    dropped = spark.sparkContext.broadcast(without) if without is not None else None

    def read(slots: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        ids = dropped.value if dropped is not None else None
        pieces = [
            piece for slot in slots for task in slot["id"].to_pylist() for piece in tasks[task]
        ]
        yield from function(_batches(pieces, names, wanted, ids))
        _exempt_modules()

    return spark.range(0, len(tasks), 1, len(tasks)).mapInArrow(read, as_spark_schema(schema))


def map_parquet_beside(
    path: str,
    columns: Sequence[str],
    others: DataFrame,
    function: BatchFunction,
    schema: pa.Schema | str,
    types: pa.Schema,
) -> DataFrame:
    """`map_parquet` of the documents of `others`: `columns` are its own, or else in the files.

    What lies under `path` is read where it is used, once for its ids and once for its columns; only
    `others` is shuffled, to the tasks that read its documents. So texts stay out of the JVM.
    """
    spark = others.sparkSession
    own = ["doc_id", *(name for name in columns if name not in others.columns)]
    tasks = _tasks_for(path, own, spark.sparkContext.defaultParallelism)
    if not tasks:
        return _nothing(spark, schema)
    wanted = pa.schema([types.field(name) for name in own])

    def place(slots: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for slot in slots:
            for task in slot["id"].to_pylist():
                for batch in _batches(tasks[task], ["doc_id"], None, None):
                    here = pa.array(np.full(batch.num_rows, task, np.int32))
                    yield pa.RecordBatch.from_arrays([batch["doc_id"], here], ["doc_id", "task"])

    def read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held = list(batches)
        if held:
            rows = pa.Table.from_batches(held)
            yield from function(_beside(rows, tasks, wanted, ["doc_id", *columns]))
        _exempt_modules()

    slots = spark.range(0, len(tasks), 1, len(tasks))
    placed = slots.mapInArrow(place, "doc_id string, task int")
    dealt = placed.join(others, "doc_id").repartition(len(tasks), "task")
    return dealt.mapInArrow(read, as_spark_schema(schema))


def _beside(
    rows: pa.Table, tasks: Sequence[Sequence[Piece]], types: pa.Schema, names: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """The documents of `rows` (doc_id, task, columns): `names`, those in `types` from files."""
    for task in np.unique(rows["task"].to_numpy()).tolist():
        of_task = rows.filter(pc.equal(rows["task"], task)).sort_by("doc_id").combine_chunks()
        ids = id_array(of_task["doc_id"].combine_chunks())
        for batch in _batches(tasks[task], types.names, types, None):
            here = id_array(batch["doc_id"])
            chosen = np.flatnonzero(is_in(here, ids))
            if len(chosen):
                read = batch.take(pa.array(chosen))
                beside = of_task.take(pa.array(np.searchsorted(ids, here[chosen])))
                columns = [
                    read[name] if name in types.names else beside[name].combine_chunks()
                    for name in names
                ]
                yield pa.RecordBatch.from_arrays(columns, names=list(names))


def _nothing(spark: SparkSession, schema: pa.Schema | str) -> DataFrame:
    """What a function makes of no documents."""
    empty = spark.createDataFrame([], "doc_id string")
    return empty.mapInArrow(lambda batches: iter(()), as_spark_schema(schema))


def parquet_files(path: str) -> list[tuple[str, int]]:
    """The addresses and sizes in bytes of the Parquet files under a folder, in order of name."""
    filesystem, local = fsspec.url_to_fs(path)
    found = filesystem.find(local, detail=True)
    return [
        (filesystem.unstrip_protocol(name), int(entry["size"]))
        for name, entry in sorted(found.items())
        if name.endswith(".parquet") and not name.rsplit("/", 1)[-1].startswith((".", "_"))
    ]


def read_ids(path: str) -> NDArray[np.bytes_]:
    """The `doc_id` of all rows under a folder of Parquet files, sorted."""
    parts = []
    for address, _ in parquet_files(path):
        with fsspec.open(address, "rb") as file:
            column = pq.ParquetFile(file).read(["doc_id"], use_threads=False).column("doc_id")
        parts.append(id_array(column.combine_chunks()))
    return np.sort(np.concatenate(parts)) if parts else np.zeros(0, "S32")


def id_array(ids: pa.Array) -> NDArray[np.bytes_]:
    """A string array as bytes of one width, in its order."""
    lengths = pc.unique(pc.binary_length(ids)).to_pylist()
    if len(lengths) != 1 or ids.null_count:
        return np.array([text.encode() for text in ids.to_pylist()], "S")
    width = np.int64 if pa.types.is_large_string(ids.type) else np.int32
    _, offsets, data = ids.buffers()
    first = int(np.frombuffer(offsets, width)[ids.offset])
    return np.frombuffer(data, f"S{lengths[0]}", count=len(ids), offset=first)


def _tasks_for(path: str, names: Sequence[str], at_least: int) -> list[list[Piece]]:
    """Tasks that read the columns `names` of all Parquet files under `path`, of about one size."""
    files = parquet_files(path)
    if not files:
        return []
    share = _share_read(max(files, key=lambda file: file[1])[0], names)
    return _tasks([(file, max(1, round(size * share))) for file, size in files], at_least)


def _share_read(path: str, names: Sequence[str]) -> float:
    """The share of a Parquet file's bytes that some columns take."""
    try:
        with fsspec.open(path, "rb") as file:
            metadata = pq.ParquetFile(file).metadata
    except (pa.ArrowInvalid, OSError):
        return 1.0  # the worker that reads it says so
    read = whole = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for position in range(group.num_columns):
            column = group.column(position)
            whole += column.total_compressed_size
            if column.path_in_schema.split(".", 1)[0] in names:
                read += column.total_compressed_size
    return read / max(1, whole)


_exempted = 0  # modules


def _exempt_modules() -> None:
    """Exempt what is imported from garbage collection.

    Spark's workers collect garbage after every task, and go through all modules' objects for it:
    much of what a short task costs.
    """
    global _exempted
    if len(sys.modules) > _exempted:
        gc.collect()
        gc.freeze()
        _exempted = len(sys.modules)


def _tasks(files: Sequence[tuple[str, int]], at_least: int) -> list[list[Piece]]:
    """Pieces of files, dealt out to tasks of about the same size; the same for the same files."""
    total = sum(size for _, size in files)
    share = max(1, min(PARTITION_BYTES, -(-total // at_least)))
    tasks: list[list[Piece]] = []
    room = 0
    for path, size in files:
        pieces = max(1, round(size / share))
        for number in range(pieces):
            if room < size // pieces // 2 or not tasks:
                tasks.append([])
                room = share
            tasks[-1].append(Piece(path, number, pieces))
            room -= size // pieces
    return tasks


def _batches(
    pieces: Sequence[Piece],
    names: Sequence[str],
    types: pa.Schema | None,
    without: NDArray[np.bytes_] | None,
) -> Iterator[pa.RecordBatch]:
    for piece in pieces:
        for batch in _file_batches(piece, names):
            if types is not None and batch.schema != types:
                batch = batch.cast(types)
            if without is not None:
                batch = batch.filter(pa.array(~is_in(id_array(batch["doc_id"]), without)))
            if batch.num_rows:
                yield batch


def is_in(ids: NDArray[np.bytes_], among: NDArray[np.bytes_]) -> NDArray[np.bool_]:
    """Which of `ids` stand in the sorted array `among`."""
    if not len(among):
        return np.zeros(len(ids), bool)
    place = np.searchsorted(among, ids)
    return among[np.minimum(place, len(among) - 1)] == ids


def _file_batches(piece: Piece, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    try:
        yield from _read_piece(piece, names)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"{piece.path}: cannot be read as Parquet: {error}; if a run wrote it, remove "
            "stage.json beside its attempt folder and run again"
        ) from error


def _read_piece(piece: Piece, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    with ExitStack() as stack:
        local = urlsplit(piece.path).scheme in ("", "file")
        # Arrow opens a local file itself, without Python in between.
        source = (
            piece.path.removeprefix("file://")
            if local
            else stack.enter_context(fsspec.open(piece.path, "rb"))
        )
        file = stack.enter_context(
            pq.ParquetFile(source, pre_buffer=not local, buffer_size=READ_BYTES)
        )
        known = file.metadata.num_row_groups
        groups = range(
            known * piece.number // piece.pieces, known * (piece.number + 1) // piece.pieces
        )
        if len(groups):
            rows = _batch_rows(file.metadata, groups, names)
            batches = file.iter_batches(rows, groups, columns=list(names), use_threads=False)
            for batch in batches:
                yield batch.select(names)


def _batch_rows(metadata: pq.FileMetaData, groups: Sequence[int], names: Sequence[str]) -> int:
    """How many rows a batch gets, so that it holds some megabytes."""
    size = rows = 0
    for number in groups:
        group = metadata.row_group(number)
        rows += group.num_rows
        for position in range(group.num_columns):
            column = group.column(position)
            if column.path_in_schema.split(".", 1)[0] in names:
                size += column.total_uncompressed_size
    return int(min(max(BATCH_BYTES * rows // max(size, 1), FEWEST_BATCH_ROWS), BATCH_ROWS))
