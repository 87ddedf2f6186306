"""Merging signature stores: several become one.

Without Spark, in threads of one process: of the documents their table (90 bytes each) is in memory,
of the records one file (`store_files.FILE_ROWS`) for each thread. A merge copies what it merges;
most files of shingles are copied as they are, which costs little besides the disk.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from corpus.dedup.buckets import PARTS
from corpus.dedup.packing import pieces
from corpus.dedup.store_files import (
    DOCUMENT_FIELDS,
    DOCUMENT_FILES,
    RECORD_FIELDS,
    SHINGLES_BYTES,
    ShingleFiles,
    cleared,
    copy_file,
    file_numbers,
    number_of_files,
    write_documents,
    write_records,
)
from corpus.dedup.stored import (
    Rows,
    Store,
    by_file,
    differing,
    finish_store,
    open_store,
    read_ranges,
)
from corpus.settings import UserError

SMALL_BYTES = SHINGLES_BYTES // 4  # files of shingles up to this size are joined


def merge_stores(paths: Sequence[str], out: str) -> Mapping[str, int]:
    """Make the store `out` of those at `paths`; return the numbers that `show` prints.

    A document that several stores hold, by its key, is that of the first of them; documents that
    were taken out are gone. The same stores give the same bytes. A store at `out` is replaced.

    Raises:
        UserError: `out` is one of the stores, one is given twice or is none, a file of one cannot
            be read, or two were made with different settings.
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
    document_rows = _write_documents(documents, out)
    files = number_of_files(sum(sum(store.rows.records) for store in stores), PARTS)

    def merge_file(number: int) -> int:
        return _merge_records(stores, gone, number, files, out)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        record_rows = tuple(pool.map(merge_file, range(files)))
    rows = Rows(records=record_rows, documents=document_rows)
    return finish_store(out, stores[0].measure, rows)


def _living(stores: Sequence[Store]) -> tuple[list[pa.Table], list[NDArray[np.int64]]]:
    """What each store has of documents that stay; and the sorted keys of its others."""
    living, gone = [], []
    seen = np.zeros(0, np.int64)
    for store in stores:
        every = store.sorted_documents().between(0, 1)
        left = store.left(every)
        left = left.filter(pa.array(~np.isin(left["key"].to_numpy(), seen)))
        keys = left["key"].to_numpy()
        living.append(left)
        gone.append(np.setdiff1d(every["key"].to_numpy(), keys))
        seen = np.concatenate([seen, keys])
    return living, gone


def _copy_shingles(stores: Sequence[Store], living: Sequence[pa.Table], out: str) -> pa.Table:
    """Bring the shingles of the documents that stay to `out`, and say where they lie now."""
    folder = f"{out}/shingles"
    tables = [DOCUMENT_FIELDS.empty_table()]
    loose = ShingleFiles(folder)  # of small files, and of such that hold documents that are gone
    for store, documents in zip(stores, living, strict=True):
        for name, rows in by_file(documents):
            address = store.shingles(name)
            size = _size(address)
            bounds = np.concatenate([[0], np.cumsum(rows["length"].to_numpy())])
            if bounds[-1] == size > SMALL_BYTES:
                copy_file(address, f"{folder}/{name}")
                tables.append(rows)
            else:
                content = np.frombuffer(read_ranges(address, [0], [size])[0], np.uint8)
                own = pieces(content, rows["offset"].to_numpy(), bounds)
                tables += loose.add(rows["key"], rows["doc_id"], own, bounds)
    return pa.concat_tables([*tables, *loose.flush()])


def _size(address: str) -> int:
    filesystem, local = fsspec.url_to_fs(address)
    try:
        return int(filesystem.size(local))
    except FileNotFoundError as error:
        raise UserError(f"{address}: is not there: make the signature store anew") from error


def _write_documents(documents: pa.Table, out: str) -> tuple[int, ...]:
    """Write the files of documents; how many rows each holds."""
    files = number_of_files(len(documents), DOCUMENT_FILES)
    numbers = pa.array(file_numbers(documents["key"].to_numpy(), files))
    counts = []
    for number in range(files):
        own = documents.filter(pc.equal(numbers, number)) if files > 1 else documents
        counts.append(len(own))
        if len(own):
            write_documents(own, out, number)
    return tuple(counts)


def _merge_records(
    stores: Sequence[Store], gone: Sequence[NDArray[np.int64]], number: int, files: int, out: str
) -> int:
    """Write file `number` of `files` of the records of all stores; how many it holds."""
    tables = [RECORD_FIELDS.empty_table()]
    for store, keys in zip(stores, gone, strict=True):
        records = store.sorted_records()
        table = records.between(number, files)
        records.close()
        if len(keys):
            table = table.filter(pa.array(~np.isin(table["key"].to_numpy(), keys)))
        tables.append(table)
    table = pa.concat_tables(tables)
    if len(table):
        write_records(table, out, number)
    return len(table)
