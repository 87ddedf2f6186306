"""Reading signature stores: what a run learns of earlier ones (`corpus.dedup.store` makes them).

A run reads the hashes among which its own can be, and the shingles of the few documents that share
a bucket with its own.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import ValidationError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from corpus.dedup.buckets import PARTS
from corpus.dedup.normal import Shingling
from corpus.dedup.packing import unpacked_sets
from corpus.dedup.sets import ShingleSets, shingle_sets
from corpus.dedup.store_files import rows_with
from corpus.scan import parquet_files
from corpus.settings import Settings, UserError

FORMAT = 1

# What is stored of a document besides its buckets: where its shingles lie.
DOCUMENT_FIELDS = pa.schema(
    [
        ("key", pa.int64()),
        ("doc_id", pa.string()),
        ("file", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
    ]
)


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
    measure: Measure
    documents: int
    removed: frozenset[str]

    def records(self, part: int, hashes: NDArray[np.uint64]) -> list[pa.Table]:
        """The records (hash, key, sketch0, sketch1) of a part whose hash is one of `hashes`.

        `hashes` are sorted and distinct.
        """
        names = ["hash", "key", "sketch0", "sketch1"]
        return rows_with(f"{self.path}/records/{part:05d}.parquet", "hash", hashes, names)

    def members(self, keys: NDArray[np.int64]) -> pa.Table:
        """What is stored (`DOCUMENT_FIELDS`) of the documents with one of the sorted `keys`."""
        tables = [DOCUMENT_FIELDS.empty_table()]
        for address, _ in parquet_files(f"{self.path}/documents"):
            tables += rows_with(address, "key", keys, DOCUMENT_FIELDS.names)
        return self.left(pa.concat_tables([table.cast(DOCUMENT_FIELDS) for table in tables]))

    def left(self, documents: pa.Table) -> pa.Table:
        """Those of some stored documents that were not taken out."""
        if not self.removed:
            return documents
        removed = pa.array(sorted(self.removed), pa.string())
        return documents.filter(pc.invert(pc.is_in(documents["doc_id"], removed)))

    def shingles(self, file: str) -> str:
        """Where a file of shingles lies, though the store was moved since it was made."""
        return f"{self.path}/shingles/{file.rsplit('/', 1)[-1]}"


def open_store(path: str) -> Store:
    """The store at `path`.

    Raises:
        UserError: there is none, or its description cannot be read.
    """
    content = read_json(f"{path}/store.json")
    if content is None:
        raise UserError(
            f"{path}: is no signature store: `python -m corpus.dedup.store make` makes one"
        )
    try:
        made = Measure.model_validate(content["measure"])
        documents = int(content["documents"])
    except (KeyError, ValidationError) as error:
        raise UserError(f"{path}: store.json cannot be read: {error}") from error
    removed = frozenset(read_json(f"{path}/removed.json") or [])
    return Store(path.rstrip("/"), made, documents, removed)


def open_stores(paths: Sequence[str], measure: Measure) -> list[Store]:
    """The stores at `paths`.

    Raises:
        UserError: one is not there, or was made with other settings; names the setting.
    """
    stores = [open_store(path) for path in paths]
    for store in stores:
        name = differing(store.measure, measure)
        if name:
            raise UserError(
                f"against: {store.path}: was made with {name} = {getattr(store.measure, name)}, "
                f"and this run has {getattr(measure, name)}: use the same settings, or make the "
                "store anew"
            )
    return stores


def differing(one: Measure, other: Measure) -> str | None:
    """The first setting in which two measures differ."""
    names = Measure.model_fields
    return next((name for name in names if getattr(one, name) != getattr(other, name)), None)


def stored_key(key: NDArray[np.int64], store: int) -> NDArray[np.int64]:
    """The key, in a run's groups, of a document of the run's `store`-th store."""
    return key ^ np.int64(_salt(store))


def _salt(store: int) -> int:
    return (store + 1) * 0x5851F42D4C957F2D % (1 << 62)


def stored_members(
    spark: SparkSession, stores: Sequence[Store], found: pa.Table | DataFrame
) -> DataFrame:
    """The stored documents in groups: doc_id, the columns of `found`, stored (number of the store,
    from 1), file, offset, length.

    Of groups that the driver made, it reads the few rows that it needs; where Spark made them,
    Spark joins all that is stored.
    """
    if isinstance(found, DataFrame):
        return _joined_members(spark, stores, found)
    known = found["key"].to_numpy()  # sorted
    tables = []
    for number, store in enumerate(stores):
        own = store.members(np.sort(stored_key(known, number)))
        keys = stored_key(own["key"].to_numpy(), number)
        table = found.take(pa.array(np.searchsorted(known, keys)))
        for name in ("doc_id", "offset", "length"):
            table = table.append_column(name, own[name])
        files = [store.shingles(file) for file in own["file"].to_pylist()]
        table = table.append_column("file", pa.array(files, pa.string()))
        stored = pa.array(np.full(len(own), number + 1, np.int32))
        tables.append(table.append_column("stored", stored))
    # Spark takes an empty chunk for the end of a table.
    return spark.createDataFrame(pa.concat_tables(tables).combine_chunks())


def _joined_members(spark: SparkSession, stores: Sequence[Store], grouped: DataFrame) -> DataFrame:
    frames = []
    for number, store in enumerate(stores):
        documents = spark.read.parquet(f"{store.path}/documents")
        own = documents.withColumn("key", F.col("key").bitwiseXOR(F.lit(_salt(number))))
        folder = F.lit(f"{store.path}/shingles/")
        own = own.withColumn("file", F.concat(folder, F.substring_index("file", "/", -1)))
        if store.removed:
            removed = pa.table({"doc_id": sorted(store.removed)})
            own = own.join(F.broadcast(spark.createDataFrame(removed)), "doc_id", "left_anti")
        found = own.join(F.broadcast(grouped), "key")
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


def read_json(address: str) -> Any:
    """The content of a JSON file at any fsspec address; None if there is none."""
    filesystem, local = fsspec.url_to_fs(address)
    try:
        return json.loads(filesystem.cat_file(local))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{address}: is not JSON: {error}") from error
