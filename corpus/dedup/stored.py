"""Reading signature stores: what a run learns of earlier ones (`corpus.dedup.store` makes them).

A run reads the hashes among which its own can be, and the shingles of the few documents that share
a bucket with its own.
"""

import json
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import ValidationError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from corpus.dedup.normal import Shingling
from corpus.dedup.packing import pieces, unpacked_sets
from corpus.dedup.sets import ShingleSets, shingle_sets
from corpus.dedup.store_files import DOCUMENT_FIELDS, RECORD_FIELDS, SortedRows, held
from corpus.records import write_json
from corpus.settings import Settings, UserError

FORMAT = 2
READERS = 16  # stores that are read at once where each answer is waited for
NEAR = 1 << 15  # bytes between two sets of shingles that are read over rather than skipped


class Measure(Settings):
    """What two runs must have in common to be compared."""

    format: int = FORMAT
    shingle: Shingling = Shingling()
    permutations: int
    seed: int = 1
    bands: int
    rows: int


class Rows(Settings):
    """How many rows each file holds: `corpus.dedup.store_files` says which rows."""

    records: tuple[int, ...]
    documents: tuple[int, ...]


@dataclass(frozen=True)
class Store:
    """A store that is there and fits: its address, and its documents that were taken out."""

    path: str
    measure: Measure
    rows: Rows
    removed: frozenset[str]
    opened: str = field(default_factory=lambda: uuid.uuid4().hex, compare=False)
    """Another one each time that a store is opened."""

    def records(self, hashes: NDArray[np.uint64]) -> list[pa.Table]:
        """The records (RECORD_FIELDS) whose hash is one of `hashes`, sorted and distinct."""
        return self._looked_up.rows_with(hashes)

    def members(self, keys: NDArray[np.int64]) -> pa.Table:
        """What is stored (DOCUMENT_FIELDS) of the documents with one of the sorted `keys`."""
        rows = self.sorted_documents()
        tables = rows.rows_with(np.unique(keys))
        rows.close()
        return self.left(pa.concat_tables([DOCUMENT_FIELDS.empty_table(), *tables]))

    @property
    def documents(self) -> int:
        """How many documents it holds, those that were taken out too."""
        return sum(self.rows.documents)

    def left(self, documents: pa.Table) -> pa.Table:
        """Those of some stored documents that were not taken out."""
        if not self.removed:
            return documents
        removed = pa.array(sorted(self.removed), pa.string())
        return documents.filter(pc.invert(pc.is_in(documents["doc_id"], removed)))

    def shingles(self, file: str) -> str:
        """Where a file of shingles lies, though the store was moved since it was made."""
        return f"{self.path}/shingles/{file}"

    def sorted_records(self) -> SortedRows:
        """The records, to be read."""
        return SortedRows(f"{self.path}/records", self.rows.records, RECORD_FIELDS)

    def sorted_documents(self) -> SortedRows:
        """The documents, to be read."""
        return SortedRows(f"{self.path}/documents", self.rows.documents, DOCUMENT_FIELDS)

    @cached_property
    def _looked_up(self) -> SortedRows:
        return held(self.opened, self.sorted_records())

    def __getstate__(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in fields(self)}  # no open file


def open_store(path: str) -> Store:
    """The store at `path`.

    Raises:
        UserError: there is none, its description cannot be read, or it is of another format.
    """
    content = read_json(f"{path}/store.json")
    if content is None:
        raise UserError(
            f"{path}: is no signature store: `python -m corpus.dedup.store make` makes one"
        )
    try:
        written = content["measure"]["format"]
        if written != FORMAT:
            raise UserError(
                f"{path}: is a signature store of format {written}, and only format {FORMAT} is "
                "read: make it anew of its run's documents, `python -m corpus.dedup.store make`"
            )
        made = Measure.model_validate(content["measure"])
        rows = Rows.model_validate(content["rows"])
    except (KeyError, TypeError, ValidationError) as error:
        raise UserError(
            f"{path}/store.json: cannot be read: {error}; make the signature store anew"
        ) from error
    removed = frozenset(read_json(f"{path}/removed.json") or [])
    return Store(path.rstrip("/"), made, rows, removed)


def finish_store(path: str, measure: Measure, rows: Rows) -> dict[str, int]:
    """Write store.json, which makes a store of the files at `path`; the numbers in it."""
    numbers = {"documents": sum(rows.documents), "records": sum(rows.records)}
    content = {"measure": measure.model_dump(mode="json"), "rows": rows.model_dump(mode="json")}
    write_json(f"{path}/store.json", {**content, **numbers})
    return numbers


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

    def members(number: int) -> pa.Table:
        store = stores[number]
        own = store.members(np.sort(stored_key(known, number)))
        keys = stored_key(own["key"].to_numpy(), number)
        table = found.take(pa.array(np.searchsorted(known, keys)))
        for name in ("doc_id", "offset", "length"):
            table = table.append_column(name, own[name])
        folder = pa.scalar(store.shingles(""))
        table = table.append_column("file", pc.binary_join_element_wise(folder, own["file"], ""))
        stored = pa.array(np.full(len(own), number + 1, np.int32))
        return table.append_column("stored", stored)

    with ThreadPoolExecutor(READERS) as pool:
        tables = list(pool.map(members, range(len(stores))))
    # Spark takes an empty chunk for the end of a table.
    return spark.createDataFrame(pa.concat_tables(tables).combine_chunks())


def _joined_members(spark: SparkSession, stores: Sequence[Store], grouped: DataFrame) -> DataFrame:
    frames = []
    for number, store in enumerate(stores):
        documents = spark.read.parquet(f"{store.path}/documents")
        own = documents.withColumn("key", F.col("key").bitwiseXOR(F.lit(_salt(number))))
        own = own.withColumn("file", F.concat(F.lit(store.shingles("")), "file"))
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
    data, bounds = _packed(table.filter(table["file"].is_valid()))
    lengths = np.zeros(len(table), np.int64)
    lengths[is_stored] = np.diff(bounds)
    tokens, starts = unpacked_sets(
        data, np.concatenate([[0], np.cumsum(lengths)]), fresh.tokens, fresh.starts, is_stored
    )
    return ShingleSets(tokens, starts)


def _packed(places: pa.Table) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The packed sets at the given places (file, offset, length): (data, bounds [places + 1])."""
    lengths = places["length"].to_numpy()
    places = places.append_column("place", pa.array(np.arange(len(places))))
    starts = np.empty(len(places), np.int64)  # in what is read
    read: list[bytes] = []
    size = 0
    for address, own in by_file(places.select(["file", "offset", "length", "place"])):
        offsets = own["offset"].to_numpy()
        ends = offsets + own["length"].to_numpy()
        # What lies near to each other is read at once.
        runs = np.append(0, np.flatnonzero(offsets[1:] > ends[:-1] + NEAR) + 1)
        firsts, stops = offsets[runs], ends[np.append(runs[1:], len(own)) - 1]
        moved = size + np.cumsum(stops - firsts) - stops  # from the file's places to those in read
        starts[own["place"].to_numpy()] = offsets + np.repeat(
            moved, np.diff(np.append(runs, len(own)))
        )
        read += read_ranges(address, firsts.tolist(), stops.tolist())
        size += int((stops - firsts).sum())
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    return pieces(np.frombuffer(b"".join(read), np.uint8), starts, bounds), bounds


def by_file(places: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """The files of shingles in order of name, each with its rows in order of their place."""
    places = places.sort_by([("file", "ascending"), ("offset", "ascending")])
    start = 0
    for run in pc.value_counts(places["file"]).to_pylist():  # in order of first appearance
        yield run["values"], places.slice(start, run["counts"])
        start += run["counts"]


def read_ranges(address: str, starts: list[int], stops: list[int]) -> list[bytes]:
    """The bytes of a file from each start to each stop.

    Raises:
        UserError: the file is not there or too short.
    """
    filesystem, local = fsspec.url_to_fs(address)
    read = filesystem.cat_ranges([local] * len(starts), starts, stops, on_error="return")
    for start, stop, content in zip(starts, stops, read, strict=True):
        if isinstance(content, FileNotFoundError) or (
            not isinstance(content, BaseException) and len(content) != stop - start
        ):
            raise UserError(
                f"{address}: bytes {start} to {stop} are not there: make the signature store anew"
            )
        if isinstance(content, BaseException):
            raise content
    return list(read)


def read_json(address: str) -> Any:
    """The content of a JSON file at any fsspec address; None if there is none."""
    filesystem, local = fsspec.url_to_fs(address)
    try:
        return json.loads(filesystem.cat_file(local))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{address}: is not JSON: {error}") from error
