"""Second half of building shards: sorted runs to shards, in Spark's Python workers.

A shard holds the documents of its bucket and split whose hash lies in its range. The range of a
bucket's shard k of n is [k·2^64/n, (k + 1)·2^64/n), so what a shard holds depends on the documents
and their number alone, never on how Spark cut the input.
"""

import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

import fsspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from tokenization.indexed import IndexedWriter
from tokenization.manifest import ShardEntry, Split
from tokenization.runs import Section
from tokenization.token_lists import shard_entry

WRITE_TOKENS = 1 << 23  # ids gathered before they are written: 16 MB of uint16


@dataclass(frozen=True)
class PlannedShard:
    """A shard to be written."""

    path: str
    """From the output folder, without suffix."""
    split: Split
    tags: dict[str, str]
    first_key: int
    last_key: int
    """The hashes of its documents lie in first_key … last_key, both included."""
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class GatherJob:
    """What every worker must know to write the shards of a plan."""

    work_dir: str
    output_dir: str
    dtype: str
    moved: frozenset[bytes]
    """Digests of documents that are not held out after all: a training document equals them."""
    plan: Sequence[PlannedShard]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            entries = [
                write_shard(self.plan[number], self).model_dump_json()
                for number in batch.column(0).to_pylist()
            ]
            yield pa.RecordBatch.from_arrays([pa.array(entries, pa.string())], ["entry"])


def plan_shards(
    sections: Iterable[Section], shard_tokens: int, has_heldout: bool
) -> list[PlannedShard]:
    """The shards of all buckets, in the manifest's order: by bucket, training before held-out."""
    buckets: dict[str, list[Section]] = {}
    for section in sections:
        buckets.setdefault(section.bucket, []).append(section)
    plan = []
    for bucket, members in sorted(buckets.items()):
        held_out = sum(section.heldout_tokens for section in members)
        train = sum(section.tokens for section in members) - held_out
        splits: list[tuple[Split, int]] = [("train", train)]
        if has_heldout:
            splits.append(("heldout", held_out))
        for split, tokens in splits:
            count = max(1, round(tokens / shard_tokens))
            for number in range(count):
                plan.append(
                    PlannedShard(
                        path=f"{bucket}/{split}-{number:05d}",
                        split=split,
                        tags=members[0].tags,
                        first_key=number * 2**64 // count,
                        last_key=(number + 1) * 2**64 // count - 1,
                        sections=tuple(members),
                    )
                )
    return plan


@dataclass(frozen=True)
class RepeatedJob:
    """Finds, run by run, which of the `wanted` digests a training document has."""

    work_dir: str
    runs: Sequence[str]
    wanted: frozenset[bytes]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column(0).to_pylist():
                index = read_index(self.work_dir, self.runs[number])
                training = index.filter(pc.invert(index["heldout"]))["digest"]
                found = training.filter(_is_in(training, self.wanted)).unique().to_pylist()
                yield pa.RecordBatch.from_arrays([pa.array(found, pa.binary())], ["digest"])


def write_shard(shard: PlannedShard, job: GatherJob) -> ShardEntry:
    """Write one shard and its lineage, each in one step; returns its line for the manifest."""
    rows = _rows(shard, job)
    partial = f"{job.work_dir}/shard-{uuid.uuid4().hex}"
    with IndexedWriter(partial, job.dtype) as writer:
        for ids, lengths in _gathered(rows, shard, job):
            writer.add_many(ids, lengths)
    tokens = rows["tokens"].to_numpy().astype(np.int32)
    lineage = pa.table(
        {
            "doc_id": rows["doc_id"],
            "tokens": pa.array(tokens),
            "offset": pa.array(np.cumsum(tokens, dtype=np.int64) - tokens),
        }
    )
    with fsspec.open(partial + ".lineage.parquet", "wb") as file:
        pq.write_table(lineage, file, compression="zstd")
    for suffix in (".bin", ".idx", ".lineage.parquet"):
        _move(partial + suffix, f"{job.output_dir}/{shard.path}{suffix}")
    return shard_entry(shard.path, shard.split, shard.tags, writer)


def read_index(work_dir: str, run: str) -> pa.Table:
    """The index of a run (`tokenization.runs.INDEX`), mapped into memory where it is local."""
    path = f"{work_dir}/{run}.arrow"
    filesystem, local = fsspec.core.url_to_fs(path)
    if isinstance(filesystem, LocalFileSystem):
        return pa.ipc.open_file(pa.memory_map(local)).read_all()
    with fsspec.open(path, "rb") as file:
        return pa.ipc.open_file(file.read()).read_all()


def _rows(shard: PlannedShard, job: GatherJob) -> pa.Table:
    """The index rows of a shard's documents in their final order, with the column `run`."""
    parts = []
    for number, section in enumerate(shard.sections):
        rows = read_index(job.work_dir, section.run).slice(section.first_row, section.rows)
        keys = rows["key"].to_numpy()
        first = int(np.searchsorted(keys, np.uint64(shard.first_key), "left"))
        last = int(np.searchsorted(keys, np.uint64(shard.last_key), "right"))
        rows = rows.slice(first, last - first)
        held_out = pc.and_(rows["heldout"], pc.invert(_is_in(rows["digest"], job.moved)))
        rows = rows.filter(held_out if shard.split == "heldout" else pc.invert(held_out))
        parts.append(rows.append_column("run", pa.array([number] * len(rows), pa.int32())))
    found = pa.concat_tables(parts)
    # Documents whose hashes are equal are ordered by what they are, never by their run.
    order = pc.sort_indices(
        found, [("key", "ascending"), ("doc_id", "ascending"), ("digest", "ascending")]
    )
    return found.take(order)


def _is_in(digests: pa.ChunkedArray, wanted: frozenset[bytes]) -> pa.ChunkedArray:
    return pc.is_in(digests, pa.array(sorted(wanted), pa.binary(16)))


def _gathered(
    rows: pa.Table, shard: PlannedShard, job: GatherJob
) -> Iterator[tuple[npt.NDArray[np.generic], npt.NDArray[np.int64]]]:
    """The ids of `rows` in order, some megabytes at a time, and the tokens of each document."""
    runs = [
        _RunReader(f"{job.work_dir}/{section.run}.ids", np.dtype(job.dtype))
        for section in shard.sections
    ]
    block: list[npt.NDArray[np.generic]] = []
    size = 0
    columns = (rows[name].to_pylist() for name in ("run", "start", "tokens"))
    for run, start, tokens in zip(*columns, strict=True):
        block.append(runs[run].read(start, tokens))
        size += tokens
        if size >= WRITE_TOKENS:
            yield np.concatenate(block), np.fromiter(map(len, block), np.int64, len(block))
            block, size = [], 0
    if block:
        yield np.concatenate(block), np.fromiter(map(len, block), np.int64, len(block))


class _RunReader:
    """Reads stretches of a run's ids, ever further on; opens the file when first asked."""

    def __init__(self, path: str, dtype: np.dtype[np.generic]) -> None:
        self.path = path
        self.dtype = dtype
        self._mapped: npt.NDArray[np.generic] | None = None
        self._file: IO[bytes] | None = None

    def read(self, start: int, count: int) -> npt.NDArray[np.generic]:
        """`count` ids from the `start`-th on."""
        if self._mapped is None and self._file is None:
            filesystem, local = fsspec.core.url_to_fs(self.path)
            if isinstance(filesystem, LocalFileSystem):
                # Slices of a memmap proper cost microseconds each, those of an array do not.
                self._mapped = np.memmap(local, self.dtype, "r").view(np.ndarray)
            else:
                self._file = filesystem.open(local, "rb")
        if self._mapped is not None:
            return self._mapped[start : start + count]
        assert self._file is not None
        self._file.seek(start * self.dtype.itemsize)
        return np.frombuffer(self._file.read(count * self.dtype.itemsize), self.dtype)


def _move(source: str, target: str) -> None:
    filesystem, path = fsspec.core.url_to_fs(source)
    destination = fsspec.core.url_to_fs(target)[1]
    if isinstance(filesystem, LocalFileSystem):
        os.makedirs(os.path.dirname(destination), exist_ok=True)
        os.replace(path, destination)
    else:
        filesystem.mv(path, destination)
