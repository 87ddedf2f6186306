"""Merging signature stores: several become one, so that a later run opens one.

Without Spark, in threads of one process: of the documents their table (70 bytes each) is in memory,
of the records one part for each thread.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from corpus.dedup.buckets import PARTS
from corpus.dedup.store_files import cleared, open_parquet, write_parquet
from corpus.dedup.stored import DOCUMENT_FIELDS, Store, differing, open_store
from corpus.records import write_json
from corpus.scan import parquet_files
from corpus.settings import UserError

SHINGLES_BYTES = 64 << 20  # a file of shingles
DOCUMENTS_ROWS = 4 << 20  # a file of documents
RECORDS = ("hash", "key", "sketch0", "sketch1")


def merge_stores(paths: Sequence[str], out: str) -> Mapping[str, int]:
    """Make the store `out` of those at `paths`; return the numbers that `show` prints.

    A document that several stores hold, by its key, is that of the first of them; documents that
    were taken out are gone. The same stores give the same bytes. A store at `out` is replaced.

    Raises:
        UserError: `out` is one of the stores, one is given twice or is none, or two were made with
            different settings.
    """
    stores = [open_store(path) for path in paths]
    out = out.rstrip("/")
    names = [fsspec.url_to_fs(path)[1] for path in (*(store.path for store in stores), out)]
    if len(set(names)) < len(names):
        raise UserError(f"merge: {out} and the stores it is made of must all be different folders")
    for store in stores[1:]:
        name = differing(stores[0].measure, store.measure)
        if name:
            raise UserError(
                f"merge: {stores[0].path} was made with {name} = "
                f"{getattr(stores[0].measure, name)}, {store.path} with "
                f"{getattr(store.measure, name)}: such stores cannot be one"
            )
    cleared(out)
    living, gone = _living(stores)
    documents = _copy_shingles(stores, living, out)
    documents = documents.sort_by("key")
    for number, start in enumerate(range(0, max(1, len(documents)), DOCUMENTS_ROWS)):
        part = documents.slice(start, DOCUMENTS_ROWS)
        write_parquet(part, f"{out}/documents/{number:05d}.parquet")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        records = sum(pool.map(lambda part: _merge_part(stores, gone, part, out), range(PARTS)))
    numbers = {"documents": len(documents), "records": records}
    measure = stores[0].measure.model_dump(mode="json")
    write_json(f"{out}/store.json", {"measure": measure, **numbers})
    return numbers


def _living(stores: Sequence[Store]) -> tuple[list[pa.Table], list[NDArray[np.int64]]]:
    """What each store has of documents that stay; and the sorted keys of its others."""
    living, gone = [], []
    seen = np.zeros(0, np.int64)
    for store in stores:
        every = _documents(store)
        left = store.left(every)
        left = left.filter(pa.array(~np.isin(left["key"].to_numpy(), seen)))
        keys = left["key"].to_numpy()
        living.append(left)
        gone.append(np.setdiff1d(every["key"].to_numpy(), keys))
        seen = np.concatenate([seen, keys])
    return living, gone


def _documents(store: Store) -> pa.Table:
    tables = [DOCUMENT_FIELDS.empty_table()]
    with ExitStack() as stack:
        for address, _ in parquet_files(f"{store.path}/documents"):
            parquet = open_parquet(address, stack)
            assert parquet is not None, address  # it was listed
            tables.append(parquet.read(DOCUMENT_FIELDS.names).cast(DOCUMENT_FIELDS))
    return pa.concat_tables(tables)


def _copy_shingles(stores: Sequence[Store], living: Sequence[pa.Table], out: str) -> pa.Table:
    """Write the shingles of the documents that stay to `out`, and say where they lie now."""
    filesystem, folder = fsspec.url_to_fs(f"{out}/shingles")
    filesystem.makedirs(folder, exist_ok=True)
    tables = [DOCUMENT_FIELDS.empty_table()]
    pieces: list[bytes] = []
    number, size = 0, 0
    for store, documents in zip(stores, living, strict=True):
        for name, rows in _by_file(documents):
            if size >= SHINGLES_BYTES:
                filesystem.pipe_file(f"{folder}/{number:05d}.bin", b"".join(pieces))
                pieces, number, size = [], number + 1, 0
            source, local = fsspec.url_to_fs(store.shingles(name))
            content = source.cat_file(local)
            starts, lengths = rows["offset"].to_numpy(), rows["length"].to_numpy()
            ends = np.cumsum(lengths)
            for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
                pieces.append(content[start : start + length])
            columns = [
                rows["key"],
                rows["doc_id"],
                pa.array([f"{number:05d}.bin"] * len(rows)),
                pa.array(size + ends - lengths),
                rows["length"],
            ]
            tables.append(pa.table(columns, schema=DOCUMENT_FIELDS))
            size += int(ends[-1])
    filesystem.pipe_file(f"{folder}/{number:05d}.bin", b"".join(pieces))
    return pa.concat_tables(tables)


def _by_file(documents: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """The files of shingles in order of name, each with its documents in order of their place."""
    documents = documents.sort_by([("file", "ascending"), ("offset", "ascending")])
    start = 0
    for run in pc.value_counts(documents["file"]).to_pylist():  # in order of first appearance
        yield run["values"], documents.slice(start, run["counts"])
        start += run["counts"]


def _merge_part(
    stores: Sequence[Store], gone: Sequence[NDArray[np.int64]], part: int, out: str
) -> int:
    """Write one part of the buckets of all stores; how many records it holds."""
    name = f"records/{part:05d}.parquet"
    tables = []
    with ExitStack() as stack:
        for store, keys in zip(stores, gone, strict=True):
            parquet = open_parquet(f"{store.path}/{name}", stack)
            if parquet is not None:
                table = parquet.read(list(RECORDS), use_threads=False)
                if len(keys):
                    table = table.filter(pa.array(~np.isin(table["key"].to_numpy(), keys)))
                tables.append(table)
    if not any(map(len, tables)):
        return 0
    table = pa.concat_tables(tables)
    order = np.lexsort((table["key"].to_numpy(), table["hash"].to_numpy()))
    write_parquet(table.take(pa.array(order)), f"{out}/{name}")
    return len(order)
