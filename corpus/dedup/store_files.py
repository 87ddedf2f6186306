"""The files of a signature store: written whole or not at all, and looked up in narrow pieces.

What is looked up lies in Parquet files that are sorted by a 64-bit number and parted by its highest
bits. Opening a file costs more than reading from it, so files are few and large: a small store has
one of a kind. Each row group's bounds stand in the footer, and only the groups in
which a wanted number can lie are read.
"""

import hashlib
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import fsspec
import numba
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from corpus.settings import UserError

ROW_GROUP = 16_384  # rows: what is read for one number that is looked up, 128 kB
FILE_ROWS = 1 << 21  # a file is written by one task, which holds 64 MB of records for it
HELD_ROWS = FILE_ROWS  # of records that a process keeps for its next task, 64 MB
DOCUMENT_FILES = 256  # at the most; of records, one for each part of the buckets
SHINGLES_BYTES = 16 << 20  # of shingles in a file, where they suffice

# What is stored of a document and bucket, in order of the hash and the key. (No column here has
# nulls: said so, they are read faster.)
RECORD_FIELDS = pa.schema(
    [
        pa.field("hash", pa.uint64(), nullable=False),
        pa.field("key", pa.int64(), nullable=False),
        pa.field("sketch0", pa.uint64(), nullable=False),
        pa.field("sketch1", pa.uint64(), nullable=False),
    ]
)

# What is stored of a document besides its buckets, in order of the key: where its shingles lie.
DOCUMENT_FIELDS = pa.schema(
    [
        pa.field("key", pa.int64(), nullable=False),
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("length", pa.int64(), nullable=False),
    ]
)


def write_file(data: bytes, address: str) -> None:
    """Write a file such that it is there whole or not at all, however often a task is tried."""
    filesystem, local = fsspec.url_to_fs(address)
    filesystem.makedirs(local.rsplit("/", 1)[0], exist_ok=True)
    partial = f"{local}.{uuid.uuid4().hex}.partial"
    filesystem.pipe_file(partial, data)
    filesystem.mv(partial, local)


def write_named(data: bytes, folder: str) -> str:
    """Write a file under a name that follows from its content; the name.

    A task that is tried again on rows in another order writes another file, and none that is in
    use already changes.
    """
    name = f"{hashlib.blake2b(data, digest_size=16).hexdigest()}.bin"
    write_file(data, f"{folder}/{name}")
    return name


class ShingleFiles:
    """Writes packed shingles to files of some size, and says where each document's lie."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._data: list[NDArray[np.uint8]] = []
        self._places: list[pa.Table] = []
        self._size = 0

    def add(
        self, keys: pa.Array, doc_ids: pa.Array, data: NDArray[np.uint8], bounds: NDArray[np.int64]
    ) -> list[pa.Table]:
        """Add documents, the i-th with data[bounds[i]:bounds[i + 1]]; what is written of them."""
        self._data.append(data)
        offsets = pa.array(bounds[:-1] + self._size)
        none = pa.repeat(pa.scalar(""), len(keys))
        columns = [keys, doc_ids.cast(pa.string()), none, offsets, np.diff(bounds)]
        self._places.append(pa.table(columns, schema=DOCUMENT_FIELDS))
        self._size += len(data)
        return self.flush() if self._size >= SHINGLES_BYTES else []

    def flush(self) -> list[pa.Table]:
        """Write what is held; its documents (DOCUMENT_FIELDS)."""
        if not self._places:
            return []
        places = pa.concat_tables(self._places)
        name = write_named(np.concatenate(self._data).tobytes(), self.folder)
        self._data, self._places, self._size = [], [], 0
        names = pa.repeat(pa.scalar(name), len(places))
        place = DOCUMENT_FIELDS.get_field_index("file")
        return [places.set_column(place, DOCUMENT_FIELDS.field(place), names)]


def copy_file(source: str, target: str) -> None:
    """Copy a file to another address, whole or not at all."""
    filesystem, local = fsspec.url_to_fs(source)
    other, there = fsspec.url_to_fs(target)
    if filesystem is not other:
        write_file(filesystem.cat_file(local), target)
        return
    other.makedirs(there.rsplit("/", 1)[0], exist_ok=True)
    partial = f"{there}.{uuid.uuid4().hex}.partial"
    other.cp_file(local, partial)  # no byte passes through this process
    other.mv(partial, there)


def write_records(records: pa.Table, path: str, number: int) -> None:
    """Write file `number` of the records (RECORD_FIELDS, in any order) of the store at `path`."""
    hashes, keys = records["hash"].to_numpy(), records["key"].to_numpy()
    order = np.argsort(hashes, kind="stable")  # quick where few sorted runs follow each other
    ordered = hashes[order]
    same = np.zeros(len(order) + 1, np.bool_)
    same[1:-1] = ordered[1:] == ordered[:-1]
    shared = np.flatnonzero(same[1:] | same[:-1])
    several = order[shared]
    order[shared] = several[np.lexsort((keys[several], hashes[several]))]
    write_parquet(records.take(pa.array(order)), f"{path}/records/{file_name(number)}")


def write_documents(documents: pa.Table, path: str, number: int) -> None:
    """Write file `number` of the documents (DOCUMENT_FIELDS, in any order) of the store."""
    documents = documents.sort_by([("key", "ascending"), ("doc_id", "ascending")])
    write_parquet(documents, f"{path}/documents/{file_name(number)}", ["file"])


def write_parquet(table: pa.Table, address: str, repeated: Sequence[str] = ()) -> None:
    """Write a table in row groups of ROW_GROUP; the columns `repeated` hold few values often."""
    buffer = pa.BufferOutputStream()
    # Hashes do not compress: stored plainly, the column is read as fast as the disk gives it.
    pq.write_table(
        table,
        buffer,
        compression="none",
        use_dictionary=list(repeated) or False,
        row_group_size=ROW_GROUP,
    )
    write_file(buffer.getvalue().to_pybytes(), address)


def cleared(path: str) -> None:
    """Take away the store at `path`, if one is there: first its store.json, then the rest."""
    filesystem, local = fsspec.url_to_fs(path)
    if filesystem.exists(local):
        if filesystem.exists(f"{local}/store.json"):
            filesystem.rm(f"{local}/store.json")
        filesystem.rm(local, recursive=True)


def open_parquet(address: str, rows: int, stack: ExitStack) -> pq.ParquetFile:
    """A Parquet file of `rows` rows at any fsspec address, open until `stack` closes.

    Raises:
        UserError: it is not there, cannot be read, or has other rows.
    """
    try:
        if urlsplit(address).scheme in ("", "file"):  # Arrow opens these itself, which is quicker
            local = address.removeprefix("file://")
            file = stack.enter_context(pq.ParquetFile(local, pre_buffer=False))
        else:
            file = pq.ParquetFile(stack.enter_context(fsspec.open(address, "rb")))
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"{address}: cannot be read as Parquet: {error}; make the signature store anew"
        ) from error
    if file.metadata.num_rows != rows:
        raise UserError(
            f"{address}: holds {file.metadata.num_rows} rows, and store.json says {rows}: make the "
            "signature store anew"
        )
    return file


def number_of_files(rows: int, most: int) -> int:
    """How many files `rows` are parted into: a power of two, `most` at the most."""
    return min(most, 1 << max(0, -(-rows // FILE_ROWS) - 1).bit_length())


SIGN = np.uint64(1 << 63)


def file_numbers(values: NDArray[Any], files: int) -> NDArray[np.int64]:
    """The file of each 64-bit number, of `files` (a power of two): its highest bits, in order."""
    bits = files.bit_length() - 1
    if bits == 0:
        return np.zeros(len(values), np.int64)
    unsigned = values if values.dtype == np.uint64 else values.view(np.uint64) ^ SIGN
    return (unsigned >> np.uint64(64 - bits)).astype(np.int64)


def file_name(number: int) -> str:
    """The name of one of the files."""
    return f"{number:05d}.parquet"


@dataclass
class _File:
    """A file that is open, and what the numbers in each of its row groups lie between."""

    number: int
    stack: ExitStack
    parquet: pq.ParquetFile
    first: NDArray[Any]
    last: NDArray[Any]


@dataclass
class _Group:
    """A row group: its sorted numbers, and the other columns once they are asked for."""

    file: int
    number: int
    values: NDArray[Any]
    rows: pa.Table | None = None


class SortedRows:
    """The rows of sorted Parquet files, by a number of theirs.

    One file is open at a time. With `keep`, all row groups that were read stay in memory.
    """

    keep = False

    def __init__(self, folder: str, rows: Sequence[int], schema: pa.Schema) -> None:
        """`rows` of each file in `folder`; the first of the columns `schema` is the number."""
        self.folder = folder
        self.rows = rows
        self.schema = schema
        self.column = schema.names[0]
        self._file: _File | None = None
        self._kept: dict[tuple[int, int], _Group] = {}

    def rows_with(self, wanted: NDArray[Any]) -> list[pa.Table]:
        """The rows whose number is one of `wanted` (sorted, distinct), in parts, none empty."""
        found: list[pa.Table] = []
        if not len(wanted):
            return found
        low, high = file_numbers(wanted[[0, -1]], len(self.rows)).tolist()
        for number in range(low, high + 1):
            if self.rows[number]:
                file = self._open(number)
                starts = wanted.searchsorted(file.first, "left")
                stops = wanted.searchsorted(file.last, "right")
                for place in np.flatnonzero(starts < stops).tolist():
                    near = wanted[starts[place] : stops[place]]
                    self._find(self._read(file, place), near, found)
        return found

    def between(self, number: int, files: int) -> pa.Table:
        """The rows that are in file `number` of `files`, however many the rows lie in here."""
        own = len(self.rows)
        several = max(1, own // files)
        first = number * own // files
        parts = [self.schema.empty_table()]
        for place in range(first, first + several):
            if self.rows[place]:
                parts.append(self._cut(self._open(place), number, files))
        return pa.concat_tables(parts)

    def close(self) -> None:
        """Close the file that is open, and let go of all row groups."""
        if self._file is not None:
            self._file.stack.close()
        self._file = None
        self._kept = {}

    def _find(self, group: _Group, wanted: NDArray[Any], found: list[pa.Table]) -> None:
        """Append to `found` the rows of `group` that are `wanted`, which lie in its bounds."""
        places = _places(group.values, wanted)
        if len(places):
            if group.rows is None:
                file = self._open(group.file)
                group.rows = self._columns(file, [group.number], self.schema.names)
            found.append(group.rows.take(pa.array(places)))

    def _open(self, number: int) -> _File:
        if self._file is not None and self._file.number == number:
            return self._file
        if self._file is not None:
            self._file.stack.close()
        stack = ExitStack()
        address = f"{self.folder}/{file_name(number)}"
        parquet = open_parquet(address, self.rows[number], stack)
        metadata = parquet.metadata
        place = parquet.schema_arrow.get_field_index(self.column)
        bounds = [
            metadata.row_group(group).column(place).statistics
            for group in range(metadata.num_row_groups)
        ]
        kind = self.schema.field(self.column).type.to_pandas_dtype()
        first = np.array([bound.min for bound in bounds], kind)
        last = np.array([bound.max for bound in bounds], kind)
        self._file = _File(number, stack, parquet, first, last)
        return self._file

    def _read(self, file: _File, number: int) -> _Group:
        group = self._kept.get((file.number, number))
        if group is None:
            values = self._columns(file, [number], [self.column])[self.column]
            group = _Group(file.number, number, values.to_numpy())
            if self.keep:
                self._kept[file.number, number] = group
        return group

    def _cut(self, file: _File, number: int, files: int) -> pa.Table:
        starts, stops = (file_numbers(bounds, files) for bounds in (file.first, file.last))
        groups = np.flatnonzero((starts <= number) & (number <= stops)).tolist()
        table = self._columns(file, groups, self.schema.names)
        numbers = file_numbers(table[self.column].to_numpy(), files)
        start = int(numbers.searchsorted(number, "left"))
        return table.slice(start, int(numbers.searchsorted(number, "right")) - start)

    def _columns(self, file: _File, groups: list[int], names: list[str]) -> pa.Table:
        try:
            table = file.parquet.read_row_groups(groups, columns=names, use_threads=False)
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(
                f"{self.folder}/{file_name(file.number)}: cannot be read as Parquet: {error}; make "
                "the signature store anew"
            ) from error
        return table.select(names)


_held: OrderedDict[tuple[str, str], SortedRows] = OrderedDict()


def held(opened: str, rows: SortedRows) -> SortedRows:
    """`rows`, or what an earlier task of this process has read of the same.

    Every task of a run needs some of nearly every row group of a small store. `opened` tells runs
    apart: a store can be another when the next one opens it.
    """
    key = (opened, rows.folder)
    if key not in _held and sum(rows.rows) <= HELD_ROWS:
        rows.keep = True
        _held[key] = rows
        while sum(sum(some.rows) for some in _held.values()) > HELD_ROWS:
            _, oldest = _held.popitem(last=False)
            oldest.keep = False
            oldest.close()
    return _held.get(key, rows)


@numba.njit(cache=True, nogil=True)
def _places(values, wanted):  # type: ignore[no-untyped-def]
    """Where in the sorted `values` those of the sorted, distinct `wanted` stand: int64."""
    count = 0
    starts = np.empty(wanted.size, np.int64)
    start = 0
    for w in range(wanted.size):
        stop = values.size
        while start < stop:
            middle = (start + stop) // 2
            if values[middle] < wanted[w]:
                start = middle + 1
            else:
                stop = middle
        starts[w] = start
        while start < values.size and values[start] == wanted[w]:
            start += 1
            count += 1
    places = np.empty(count, np.int64)
    n = 0
    for w in range(wanted.size):
        place = starts[w]
        while place < values.size and values[place] == wanted[w]:
            places[n] = place
            n += 1
            place += 1
    return places
