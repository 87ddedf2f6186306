"""The signature store: what a finished run leaves, so that a later one knows its documents.

    STORE/store.json            how its signatures were made; written last
    STORE/records/00042.parquet one of PARTS parts of the buckets: hash (sorted), key, sketch
    STORE/documents/*.parquet   key, doc_id, and where the document's shingles lie
    STORE/shingles/*.bin        sorted 32-bit shingle hashes, as differences (LEB128)
    STORE/removed.json          doc_ids taken out since

It holds no text. A later run reads the hashes of the parts that it has documents in, and the
shingles of the few documents that share a bucket with its own.

    python -m corpus.dedup.store make runs/demo/documents stores/demo
    python -m corpus.dedup.store remove stores/demo --ids withdrawn.txt
    python -m corpus.dedup.store merge stores/demo stores/later stores/all
    python -m corpus.dedup.store show stores/all
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping

import fsspec
import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from corpus.dedup.buckets import RECORD_SCHEMA, Bucketing, pack, unpack
from corpus.dedup.merging import merge_stores
from corpus.dedup.minhash import Bands, MinHashConfig, measure_of
from corpus.dedup.packing import packed_sets
from corpus.dedup.sets import shingle_sets
from corpus.dedup.store_files import cleared, write_parquet
from corpus.dedup.stored import Measure, read_json
from corpus.records import write_json
from corpus.session import spark_session
from corpus.settings import UserError, command, read_text


def write_store(
    documents: DataFrame, path: str, measure: Measure, bucketing: Bucketing
) -> Mapping[str, int]:
    """Make a store of `documents` (doc_id, text); return the numbers that `show` prints.

    A store that is there is replaced: first its store.json goes, at last the new one comes.
    """
    path = path.rstrip("/")
    cleared(path)
    shingling = measure.shingle
    keyed = documents.select("doc_id", "text", F.xxhash64("doc_id").alias("key"))

    def write_records(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for part, hashes, keys, sketches in unpack(batches):
            order = np.lexsort((keys, hashes))
            columns = [hashes[order], keys[order], sketches[order, 0], sketches[order, 1]]
            table = pa.table(columns, names=["hash", "key", "sketch0", "sketch1"])
            write_parquet(table, f"{path}/records/{part:05d}.parquet")
            yield pa.RecordBatch.from_pydict({"records": pa.array([len(order)], pa.int64())})

    def write_sets(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if batch.num_rows == 0:
                continue
            sets = shingle_sets(batch.column("text"), shingling)
            data, bounds = packed_sets(sets.tokens, sets.starts)
            first = hashlib.blake2b(batch.column("doc_id")[0].as_py().encode(), digest_size=16)
            file = f"{first.hexdigest()}.bin"
            filesystem, local = fsspec.url_to_fs(f"{path}/shingles/{file}")
            filesystem.makedirs(local.rsplit("/", 1)[0], exist_ok=True)
            filesystem.pipe_file(local, data.tobytes())
            yield pa.RecordBatch.from_pydict(
                {
                    "key": batch.column("key"),
                    "doc_id": batch.column("doc_id"),
                    "file": pa.array([file] * batch.num_rows),
                    "offset": pa.array(bounds[:-1]),
                    "length": pa.array(np.diff(bounds)),
                }
            )

    written = (
        documents.select("doc_id", "text")
        .mapInArrow(lambda batches: pack(batches, bucketing), RECORD_SCHEMA)
        .repartition("part")
        .mapInArrow(write_records, "records long")
        .agg(F.sum("records"))
        .collect()[0][0]
    )
    schema = "key long, doc_id string, file string, offset long, length long"
    # Sorted and in small row groups, so that a few keys are found without reading all of them.
    listed = keyed.mapInArrow(write_sets, schema).sortWithinPartitions("key")
    listed.write.option("parquet.block.size", 1 << 20).parquet(f"{path}/documents")
    count = documents.sparkSession.read.parquet(f"{path}/documents").count()
    numbers = {"documents": count, "records": written or 0}
    write_json(f"{path}/store.json", {"measure": measure.model_dump(mode="json"), **numbers})
    return numbers


def remove(path: str, doc_ids: Iterable[str]) -> int:
    """Take documents out of a store, so that no later run is compared with them."""
    if read_json(f"{path}/store.json") is None:
        raise UserError(f"{path}: is no signature store")
    removed = set(read_json(f"{path}/removed.json") or [])
    before = len(removed)
    removed.update(doc_ids)
    write_json(f"{path}/removed.json", sorted(removed))
    return len(removed) - before


HELP = """\
A run that names the store under `against` in its section 'minhash-global' drops what is in it
already, and its ledger names the earlier twin. Each store costs every such run some CPU seconds:
merge them as they grow in number.

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
        documents = spark.read.parquet(options.documents)
        numbers = write_store(documents, options.store, measure_of(config), Bands(config))
        print(f"{options.store}: {numbers['documents']:,} documents")
    elif options.command == "remove":
        ids = [line.strip() for line in read_text(options.ids).splitlines() if line.strip()]
        print(f"{options.store}: {remove(options.store, ids):,} documents taken out")
    elif options.command == "merge":
        numbers = merge_stores(options.stores, options.out)
        print(f"{options.out}: {numbers['documents']:,} documents")
    else:
        content = read_json(f"{options.store}/store.json")
        if content is None:
            raise UserError(f"{options.store}: is no signature store")
        removed = len(read_json(f"{options.store}/removed.json") or [])
        print(json.dumps({**content, "removed": removed}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
