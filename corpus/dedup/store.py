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
    python -m corpus.dedup.store show stores/demo
"""

import argparse
import hashlib
import json
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import ValidationError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from corpus.dedup.buckets import PARTS, RECORD_SCHEMA, Bucketing, pack, unpack
from corpus.dedup.normal import Shingling
from corpus.dedup.packing import packed_sets, unpacked_sets
from corpus.dedup.sets import ShingleSets, shingle_sets
from corpus.records import write_json
from corpus.settings import Settings, UserError, command, read_text

FORMAT = 1


class Measure(Settings):
    """What two runs must have in common to be compared."""

    format: int = FORMAT
    shingle: Shingling = Shingling()
    permutations: int
    seed: int = 1
    bands: int
    rows: int
    parts: int = PARTS


@dataclass(frozen=True)
class Store:
    """A store that is there and fits: its address, and its documents that were taken out."""

    path: str
    documents: int
    removed: frozenset[str]

    def records(self, part: int, hashes: NDArray[np.uint64]) -> pa.Table | None:
        """The records (hash, key, sketch0, sketch1) of a part whose hash is one of `hashes`.

        `hashes` are sorted and distinct.
        """
        filesystem, local = fsspec.url_to_fs(f"{self.path}/records/{part:05d}.parquet")
        if not filesystem.exists(local):
            return None
        with filesystem.open(local, "rb") as file:
            parquet = pq.ParquetFile(file)
            stored = parquet.read(columns=["hash"])["hash"].to_numpy()
            first = np.searchsorted(stored, hashes, "left")
            last = np.searchsorted(stored, hashes, "right")
            lengths = last - first
            total = int(lengths.sum())
            if total == 0:
                return None
            ends = np.cumsum(lengths)  # rows first[i] to last[i] of every i, one after the other
            rows = np.arange(total) - np.repeat(ends - lengths, lengths) + np.repeat(first, lengths)
            return parquet.read().take(rows)


def open_stores(paths: Sequence[str], measure: Measure) -> list[Store]:
    """The stores at `paths`.

    Raises:
        UserError: one is not there, or was made with other settings; names the setting.
    """
    stores = []
    for path in paths:
        content = _read_json(f"{path}/store.json")
        if content is None:
            raise UserError(
                f"against: {path}: is no signature store: `python -m corpus.dedup.store make` "
                "makes one"
            )
        try:
            made = Measure.model_validate(content["measure"])
        except (KeyError, ValidationError) as error:
            raise UserError(f"against: {path}: store.json cannot be read: {error}") from error
        for name in Measure.model_fields:
            if getattr(made, name) != getattr(measure, name):
                raise UserError(
                    f"against: {path}: was made with {name} = {getattr(made, name)}, and this run "
                    f"has {getattr(measure, name)}: use the same settings, or make the store anew"
                )
        removed = frozenset(_read_json(f"{path}/removed.json") or [])
        stores.append(Store(path.rstrip("/"), int(content["documents"]), removed))
    return stores


def stored_key(key: NDArray[np.int64], store: int) -> NDArray[np.int64]:
    """The key, in a run's groups, of a document of the run's `store`-th store."""
    return key ^ np.int64(_salt(store))


def _salt(store: int) -> int:
    return (store + 1) * 0x5851F42D4C957F2D % (1 << 62)


def stored_members(spark: SparkSession, stores: Sequence[Store], grouped: DataFrame) -> DataFrame:
    """The stored documents in `grouped`: doc_id, group, stored (number of the store, from 1),
    file, offset, length.
    """
    frames = []
    for number, store in enumerate(stores):
        documents = spark.read.parquet(f"{store.path}/documents")
        own = documents.withColumn("key", F.col("key").bitwiseXOR(F.lit(_salt(number))))
        if store.removed:
            removed = pa.table({"doc_id": sorted(store.removed)})
            own = own.join(F.broadcast(spark.createDataFrame(removed)), "doc_id", "left_anti")
        found = own.join(F.broadcast(grouped), "key").drop("key")
        frames.append(found.withColumn("stored", F.lit(number + 1)))
    members = frames[0]
    for frame in frames[1:]:
        members = members.unionByName(frame)
    return members


def mixed_sets(table: pa.Table, shingling: Shingling) -> ShingleSets:
    """The sets of documents with a text, or else with a file, offset and length, in 32 bits."""
    fresh = shingle_sets(pa.concat_arrays(table["text"].chunks), shingling)
    is_stored = table["file"].is_valid().to_numpy()
    blobs: list[bytes] = [b""] * len(table)
    opened: dict[str, fsspec.core.OpenFile] = {}
    places = zip(*(table[name].to_pylist() for name in ("file", "offset", "length")), strict=True)
    for row, (path, offset, length) in enumerate(places):
        if path is not None:
            if path not in opened:
                opened[path] = fsspec.open(path, "rb").open()
            opened[path].seek(offset)
            blobs[row] = opened[path].read(length)
    for file in opened.values():
        file.close()
    tokens, starts = unpacked_sets(
        np.frombuffer(b"".join(blobs), np.uint8),
        np.concatenate([[0], np.cumsum([len(blob) for blob in blobs])]),
        fresh.tokens,
        fresh.starts,
        is_stored,
    )
    return ShingleSets(tokens, starts)


def write_store(
    documents: DataFrame, path: str, measure: Measure, bucketing: Bucketing
) -> Mapping[str, int]:
    """Make a store of `documents` (doc_id, text); return the numbers that `show` prints.

    A store that is there is replaced: first its store.json goes, at last the new one comes.
    """
    path = path.rstrip("/")
    filesystem, local = fsspec.url_to_fs(path)
    if filesystem.exists(local):
        if filesystem.exists(f"{local}/store.json"):
            filesystem.rm(f"{local}/store.json")
        filesystem.rm(local, recursive=True)
    shingling = measure.shingle
    keyed = documents.select("doc_id", "text", F.xxhash64("doc_id").alias("key"))

    def write_records(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for part, hashes, keys, sketches in unpack(batches):
            order = np.lexsort((keys, hashes))
            columns = [hashes[order], keys[order], sketches[order, 0], sketches[order, 1]]
            table = pa.table(columns, names=["hash", "key", "sketch0", "sketch1"])
            _write_parquet(table, f"{path}/records/{part:05d}.parquet")
            yield pa.RecordBatch.from_pydict({"records": pa.array([len(order)], pa.int64())})

    def write_sets(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if batch.num_rows == 0:
                continue
            sets = shingle_sets(batch.column("text"), shingling)
            data, bounds = packed_sets(sets.tokens, sets.starts)
            first = hashlib.blake2b(batch.column("doc_id")[0].as_py().encode(), digest_size=16)
            file = f"{path}/shingles/{first.hexdigest()}.bin"
            filesystem, local = fsspec.url_to_fs(file)
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
        keyed.select("key", "text", F.lit(0).cast("long").alias("category"))
        .mapInArrow(lambda batches: pack(batches, bucketing), RECORD_SCHEMA)
        .repartition("part")
        .mapInArrow(write_records, "records long")
        .agg(F.sum("records"))
        .collect()[0][0]
    )
    schema = "key long, doc_id string, file string, offset long, length long"
    keyed.mapInArrow(write_sets, schema).write.parquet(f"{path}/documents")
    count = documents.sparkSession.read.parquet(f"{path}/documents").count()
    numbers = {"documents": count, "records": written or 0}
    write_json(f"{path}/store.json", {"measure": measure.model_dump(mode="json"), **numbers})
    return numbers


def remove(path: str, doc_ids: Iterable[str]) -> int:
    """Take documents out of a store, so that no later run is compared with them."""
    if _read_json(f"{path}/store.json") is None:
        raise UserError(f"{path}: is no signature store")
    removed = set(_read_json(f"{path}/removed.json") or [])
    before = len(removed)
    removed.update(doc_ids)
    write_json(f"{path}/removed.json", sorted(removed))
    return len(removed) - before


def _read_json(address: str) -> Any:
    filesystem, local = fsspec.url_to_fs(address)
    try:
        return json.loads(filesystem.cat_file(local))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{address}: is not JSON: {error}") from error


def _write_parquet(table: pa.Table, address: str) -> None:
    """Write a file such that it is there whole or not at all, however often a task is tried."""
    filesystem, local = fsspec.url_to_fs(address)
    filesystem.makedirs(local.rsplit("/", 1)[0], exist_ok=True)
    buffer = pa.BufferOutputStream()
    # Hashes do not compress: stored plainly, the column is read as fast as the disk gives it.
    pq.write_table(table, buffer, compression="none", use_dictionary=False)
    partial = f"{local}.{uuid.uuid4().hex}.partial"
    filesystem.pipe_file(partial, buffer.getvalue().to_pybytes())
    filesystem.mv(partial, local)


HELP = """\
A run that names the store under `against` in its section 'minhash-global' drops what is in it
already, and its ledger names the earlier twin.

examples:
  python -m corpus.dedup.store make runs/demo/documents stores/demo
  python -m corpus.dedup.store remove stores/demo --ids withdrawn.txt
  python -m corpus.dedup.store show stores/demo
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
    show = commands.add_parser("show", help="print how a store was made, and its size")
    show.add_argument("store")
    options = parser.parse_args(arguments)

    if options.command == "make":
        from corpus.dedup.minhash import Bands, MinHashConfig, measure_of
        from corpus.session import spark_session

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
    else:
        content = _read_json(f"{options.store}/store.json")
        if content is None:
            raise UserError(f"{options.store}: is no signature store")
        removed = len(_read_json(f"{options.store}/removed.json") or [])
        print(json.dumps({**content, "removed": removed}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
