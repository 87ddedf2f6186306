"""The Parquet files of a signature store: written whole or not at all, read in parts."""

import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from urllib.parse import urlsplit

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

ROW_GROUP = 16_384  # rows: what is read for one hash that is looked up, 128 kB


def write_parquet(table: pa.Table, address: str) -> None:
    """Write a file such that it is there whole or not at all, however often a task is tried."""
    filesystem, local = fsspec.url_to_fs(address)
    filesystem.makedirs(local.rsplit("/", 1)[0], exist_ok=True)
    buffer = pa.BufferOutputStream()
    # Hashes do not compress: stored plainly, the column is read as fast as the disk gives it.
    pq.write_table(
        table, buffer, compression="none", use_dictionary=False, row_group_size=ROW_GROUP
    )
    partial = f"{local}.{uuid.uuid4().hex}.partial"
    filesystem.pipe_file(partial, buffer.getvalue().to_pybytes())
    filesystem.mv(partial, local)


def cleared(path: str) -> None:
    """Take away the store at `path`, if one is there: first its store.json, then the rest."""
    filesystem, local = fsspec.url_to_fs(path)
    if filesystem.exists(local):
        if filesystem.exists(f"{local}/store.json"):
            filesystem.rm(f"{local}/store.json")
        filesystem.rm(local, recursive=True)


def open_parquet(address: str, stack: ExitStack) -> pq.ParquetFile | None:
    """A Parquet file at any fsspec address, open until `stack` closes; None if there is none."""
    try:
        if urlsplit(address).scheme in ("", "file"):  # Arrow opens these itself, which is quicker
            local = address.removeprefix("file://")
            return stack.enter_context(pq.ParquetFile(local, pre_buffer=False))
        return pq.ParquetFile(stack.enter_context(fsspec.open(address, "rb")))
    except FileNotFoundError:
        return None


def rows_with(
    address: str, column: str, wanted: NDArray[np.generic], columns: Sequence[str]
) -> list[pa.Table]:
    """The rows of a Parquet file whose number in `column` is one of `wanted`: `columns` of them.

    `wanted` are sorted and distinct. Only row groups in whose range one of them lies are read,
    and of these first the one column; a file that is not there has no rows.
    """
    found: list[pa.Table] = []
    with ExitStack() as stack:
        parquet = open_parquet(address, stack)
        if parquet is None or parquet.metadata.num_rows == 0:
            return found
        place = parquet.schema_arrow.get_field_index(column)
        for group in range(parquet.metadata.num_row_groups):
            near = wanted
            bounds = parquet.metadata.row_group(group).column(place).statistics
            if bounds is not None and bounds.has_min_max:
                limits = np.array([bounds.min, bounds.max], wanted.dtype)
                first = np.searchsorted(wanted, limits[0], "left")
                near = wanted[first : np.searchsorted(wanted, limits[1], "right")]
            if not len(near):
                continue
            one = parquet.read_row_group(group, columns=[column], use_threads=False)
            rows = rows_equal(one[column].to_numpy(), near)
            if len(rows):
                whole = parquet.read_row_group(group, columns=list(columns), use_threads=False)
                found.append(whole.take(pa.array(rows)))
    return found


def rows_equal(values: NDArray[np.generic], wanted: NDArray[np.generic]) -> NDArray[np.int64]:
    """Which of `values` are among the sorted, distinct `wanted`, ordered by them: int64 places."""
    order = np.argsort(values, kind="stable")  # linear where they are sorted already
    first = np.searchsorted(values, wanted, "left", order)
    lengths = np.searchsorted(values, wanted, "right", order) - first
    ends = np.cumsum(lengths)  # places first[i] to last[i] of every i, one after the other
    places = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths) + np.repeat(first, lengths)
    return order[places]
