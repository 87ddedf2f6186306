"""Reading signature stores: what a run learns of earlier ones (`corpus.dedup.store` makes them).

A run reads the hashes of the parts that it has documents in, and the shingles of the few documents
that share a bucket with its own.
"""

import json
from collections.abc import Sequence
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

from corpus.dedup.buckets import PARTS
from corpus.dedup.normal import Shingling
from corpus.dedup.packing import unpacked_sets
from corpus.dedup.sets import ShingleSets, shingle_sets
from corpus.settings import Settings, UserError

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
        content = read_json(f"{path}/store.json")
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
        removed = frozenset(read_json(f"{path}/removed.json") or [])
        stores.append(Store(path.rstrip("/"), int(content["documents"]), removed))
    return stores


def stored_key(key: NDArray[np.int64], store: int) -> NDArray[np.int64]:
    """The key, in a run's groups, of a document of the run's `store`-th store."""
    return key ^ np.int64(_salt(store))


def _salt(store: int) -> int:
    return (store + 1) * 0x5851F42D4C957F2D % (1 << 62)


def stored_members(spark: SparkSession, stores: Sequence[Store], grouped: DataFrame) -> DataFrame:
    """The stored documents in `grouped`: doc_id, its columns, stored (number of the store, from 1),
    file, offset, length.
    """
    frames = []
    for number, store in enumerate(stores):
        documents = spark.read.parquet(f"{store.path}/documents")
        own = documents.withColumn("key", F.col("key").bitwiseXOR(F.lit(_salt(number))))
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
