"""The signature store: what a finished run leaves, so that a later one knows its documents.

    STORE/store.json              how its signatures were made, the rows of each file; written last
    STORE/records/00000.parquet   the buckets: hash, key, sketch; sorted by the hash
    STORE/documents/00000.parquet key, doc_id, where the document's shingles lie; sorted by the key
    STORE/shingles/*.bin          sorted 32-bit shingle hashes, as differences (LEB128)
    STORE/removed.json            doc_ids taken out since

Records and documents are parted by the highest bits of hash and key (`store_files`): one file each
where there are few. It holds no text. A later run reads the hashes near to its own, and the
shingles of the few documents that share a bucket with its own.

    python -m corpus.dedup.store make runs/demo/documents stores/demo
    python -m corpus.dedup.store remove stores/demo --ids withdrawn.txt
    python -m corpus.dedup.store merge stores/demo stores/later stores/all
    python -m corpus.dedup.store show stores/all
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from corpus.buffers import unblob
from corpus.dedup.buckets import PARTS, Bucketing, pack
from corpus.dedup.merging import merge_stores
from corpus.dedup.minhash import Bands, MinHashConfig, measure_of
from corpus.dedup.packing import packed_sets
from corpus.dedup.sets import shingle_sets
from corpus.dedup.store_files import (
    DOCUMENT_FIELDS,
    DOCUMENT_FILES,
    RECORD_FIELDS,
    ShingleFiles,
    cleared,
    file_numbers,
    number_of_files,
    write_documents,
    write_records,
)
from corpus.dedup.stored import Measure, Rows, finish_store, open_store
from corpus.keys import document_keys
from corpus.records import write_json
from corpus.scan import ParquetDocuments, parquet_files
from corpus.session import spark_session
from corpus.settings import UserError, command, read_text
from corpus.stage import FrameDocuments, Read

# What a pass over the documents yields: rows of buckets (`buckets.RECORD_SCHEMA`), and rows of
# documents, an Arrow stream of DOCUMENT_FIELDS. These have `part` below 0: of the DOCUMENT_FILES
# ranges of keys, the last is -1.
_MEASURED = pa.schema(
    [
        ("part", pa.int32()),
        ("hashes", pa.binary()),
        ("keys", pa.binary()),
        ("sketches", pa.binary()),
        ("documents", pa.binary()),
        ("rows", pa.int64()),
    ]
)


def write_store(
    documents: DataFrame | Read,
    path: str,
    measure: Measure,
    bucketing: Bucketing,
    measured: bool = False,
) -> Mapping[str, int]:
    """Make a store of `documents` (doc_id, text); return the numbers that `show` prints.

    Where they are `measured`, `bucketing` is given their column `minhash` and need not make it. A
    store that is there is replaced: first its store.json goes, at last the new one comes.
    """
    path = path.rstrip("/")
    cleared(path)
    read = documents if isinstance(documents, Read) else FrameDocuments(documents)
    shingling = measure.shingle

    def measure_all(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        files = ShingleFiles(f"{path}/shingles")
        written: list[pa.Table] = []

        def shingled() -> Iterator[pa.RecordBatch]:
            for batch in batches:
                if batch.num_rows:
                    sets = shingle_sets(batch.column("text"), shingling)
                    keys = pa.array(document_keys(batch.column("doc_id")))
                    packed = packed_sets(sets.tokens, sets.starts)
                    written.extend(files.add(keys, batch.column("doc_id"), *packed))
                    yield batch

        for records in pack(shingled(), bucketing):
            rows = pc.divide(pc.binary_length(records.column("keys")), 8).cast(pa.int64())
            none = pa.nulls(records.num_rows, pa.binary())
            yield pa.RecordBatch.from_arrays([*records.columns, none, rows], schema=_MEASURED)
        written.extend(files.flush())
        yield from _by_range(written)

    def write_files(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held = list(batches)
        if not held:
            return
        table = pa.Table.from_batches(held)
        for number in pc.unique(table["file"]).to_pylist():
            own = table.filter(pc.equal(table["file"], number))
            rows = _stored_records(own) if number >= 0 else _stored_documents(own)
            if number >= 0:
                write_records(rows, path, number)
            else:
                write_documents(rows, path, number + document_files)
            yield pa.RecordBatch.from_pydict(
                {"file": pa.array([number], pa.int32()), "rows": [len(rows)]}
            )

    columns = ["text", "minhash"] if measured else ["text"]
    found = read.map(columns, measure_all, _MEASURED).persist()
    try:
        is_record = F.col("part") >= 0
        totals = found.groupBy(is_record.alias("records")).agg(F.sum("rows").alias("rows"))
        count = {row["records"]: row["rows"] for row in totals.collect()}
        record_files = number_of_files(count.get(True, 0), PARTS)
        document_files = number_of_files(count.get(False, 0), DOCUMENT_FILES)
        file = F.when(is_record, F.floor(F.col("part") * record_files / PARTS)).otherwise(
            F.floor(F.col("part") * document_files / DOCUMENT_FILES)  # the last one is -1
        )
        parted = found.withColumn("file", file.cast("int")).repartition(
            record_files + document_files, "file"
        )
        written = parted.mapInArrow(write_files, "file int, rows long").collect()
    finally:
        found.unpersist()
    rows_of = {row["file"]: row["rows"] for row in written}
    rows = Rows(
        records=tuple(rows_of.get(number, 0) for number in range(record_files)),
        documents=tuple(rows_of.get(number, 0) for number in range(-document_files, 0)),
    )
    return finish_store(path, measure, rows)


def _by_range(documents: list[pa.Table]) -> Iterator[pa.RecordBatch]:
    """Rows of _MEASURED: some documents (DOCUMENT_FIELDS) by the range of their keys."""
    if not documents:
        return
    table = pa.concat_tables(documents)
    ranges = file_numbers(table["key"].to_numpy(), DOCUMENT_FILES)
    table = table.take(pa.array(np.argsort(ranges, kind="stable"))).combine_chunks()
    counts = np.bincount(ranges, minlength=DOCUMENT_FILES)
    some = np.flatnonzero(counts)
    starts = (np.cumsum(counts) - counts)[some]
    streams = []
    for start, length in zip(starts.tolist(), counts[some].tolist(), strict=True):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, DOCUMENT_FIELDS) as stream:
            stream.write_table(table.slice(start, length))
        streams.append(sink.getvalue().to_pybytes())
    none = pa.nulls(len(some), pa.binary())
    part = pa.array((some - DOCUMENT_FILES).astype(np.int32))
    yield pa.RecordBatch.from_arrays(
        [part, none, none, none, pa.array(streams, pa.binary()), pa.array(counts[some])],
        schema=_MEASURED,
    )


def _stored_records(rows: pa.Table) -> pa.Table:
    """The records (RECORD_FIELDS) in rows of _MEASURED."""
    sketches = unblob(rows["sketches"], np.uint64).reshape(-1, 2)
    columns = [unblob(rows["hashes"], np.uint64), unblob(rows["keys"], np.int64), *sketches.T]
    return pa.table([np.ascontiguousarray(column) for column in columns], schema=RECORD_FIELDS)


def _stored_documents(rows: pa.Table) -> pa.Table:
    """The documents (DOCUMENT_FIELDS) in rows of _MEASURED."""
    streams = [pa.ipc.open_stream(stream).read_all() for stream in rows["documents"].to_pylist()]
    return pa.concat_tables(streams)


def remove(path: str, doc_ids: Iterable[str]) -> int:
    """Take documents out of a store, so that no later run is compared with them."""
    removed = set(open_store(path).removed)
    before = len(removed)
    removed.update(doc_ids)
    write_json(f"{path.rstrip('/')}/removed.json", sorted(removed))
    return len(removed) - before


HELP = """\
A run that names the store under `against` in its section 'minhash-global' drops what is in it
already, and its ledger names the earlier twin. Several stores can stand apart or be merged into
one; a merge copies what it merges.

examples:
  python -m corpus.dedup.store make runs/demo/documents stores/demo
  python -m corpus.dedup.store remove stores/demo --ids withdrawn.txt
  python -m corpus.dedup.store merge stores/demo stores/later stores/all
  python -m corpus.dedup.store show stores/all
"""


@command
def main(arguments: list[str] | None = None) -> int:
    """Make, change and show signature stores."""
    parser = argparse.ArgumentParser(
        prog="python -m corpus.dedup.store",
        description="Signature stores: what later runs need to know of a finished one.",
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="make a store of a run's documents")
    make.add_argument("documents", help="Parquet with doc_id and text, as runs/NAME/documents")
    make.add_argument("store", help="the store's folder")
    make.add_argument("--threshold", type=float, default=0.8, help="as in minhash-global (0.8)")
    make.add_argument("--recall", type=float, default=0.99, help="as in minhash-global (0.99)")
    make.add_argument("--permutations", type=int, default=112, help="as in signatures (112)")
    take = commands.add_parser("remove", help="take documents out of a store")
    take.add_argument("store")
    take.add_argument("--ids", required=True, help="a file with one doc_id a line")
    join = commands.add_parser("merge", help="make one store of several")
    join.add_argument("stores", nargs="+", help="of the same settings; the first one's copies stay")
    join.add_argument("out", help="the new store's folder")
    show = commands.add_parser("show", help="print how a store was made, and its size")
    show.add_argument("store")
    options = parser.parse_args(arguments)

    if options.command == "make":
        config = MinHashConfig(
            threshold=options.threshold, recall=options.recall, permutations=options.permutations
        )
        spark = spark_session("signature store")
        if not parquet_files(options.documents):
            raise UserError(f"{options.documents}: holds no Parquet files: give a run's documents")
        documents = ParquetDocuments(spark, options.documents)
        numbers = write_store(documents, options.store, measure_of(config), Bands(config))
        print(f"{options.store}: {numbers['documents']:,} documents")
    elif options.command == "remove":
        ids = [line.strip() for line in read_text(options.ids).splitlines() if line.strip()]
        print(f"{options.store}: {remove(options.store, ids):,} documents taken out")
    elif options.command == "merge":
        numbers = merge_stores(options.stores, options.out)
        print(f"{options.out}: {numbers['documents']:,} documents")
    else:
        store = open_store(options.store)
        numbers = {"documents": store.documents, "records": sum(store.rows.records)}
        shown = {"measure": store.measure.model_dump(mode="json"), **numbers}
        print(json.dumps({**shown, "removed": len(store.removed)}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
