"""From draws to tokens: the sequences of a stream, read from shards on a local disk.

Sequences hold tokens of one bucket. Labels are the inputs shifted by one, -100 where the next
token begins another document; the token after a sequence's last is looked up on the tape, so that
in every pass each token but the documents' first is predicted exactly once. Positions count from
each document's start, or from where its reading was cut.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from corpus.settings import UserError
from tokenization.manifest import ShardEntry, check_tokenizer, read_manifest
from train.buckets import Bucket, buckets_of
from train.packing import LENGTH, fill_runs, rows_by_block, trace_packed
from train.reading import document_at, fill, shard_at, trace
from train.shard_files import ShardFiles
from train.staging import CacheSettings, StagedShardFiles, is_remote
from train.stream import Draws, Stream

Int32s = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Batch:
    """Sequences, read. n sequences of L tokens."""

    inputs: Int32s
    """int32 [n, L]"""
    labels: Int32s
    """int32 [n, L]: the token after each input, or -100 where that begins another document."""
    positions: Int32s
    """int32 [n, L], 0 at the start of each document and wherever the text does not go on."""
    bucket: Int32s
    """int32 [n]: index into the stream's buckets."""

    @property
    def cu_seqlens(self) -> Int32s:
        """int32 [documents + 1]: where documents begin in the n * L tokens end to end, and n * L.

        What variable-length attention kernels call `cu_seqlens`.
        """
        flat = self.positions.reshape(-1)
        return np.append(np.flatnonzero(flat == 0), flat.size).astype(np.int32)


class SequenceReader:
    """Reads what a stream draws."""

    def __init__(
        self,
        shards: str | Path,
        stream: Stream,
        *,
        verify: Literal["sizes", "checksums"] = "sizes",
        tokenizer: str | Path | None = None,
        cache: CacheSettings | None = None,
    ) -> None:
        """Open the folder of shards that `stream` was made for.

        Sizes are always checked; `checksums` reads every byte once. With `tokenizer`, a folder,
        its fingerprint is held against the shards'. If `shards` is an address in object storage
        (s3://…), it is read through a local `cache`.

        Raises:
            UserError: the folder's shards are not the stream's, a file is missing or damaged, or
                the tokenizer is another.
        """
        manifest = read_manifest(shards)
        if tokenizer is not None:
            check_tokenizer(tokenizer, manifest)
        found = buckets_of(manifest)
        if found != stream.buckets:
            differing = sorted({name for name, *_ in _keys(found) ^ _keys(stream.buckets)})
            raise UserError(
                f"{shards}/manifest.json: the shards of {', '.join(differing)} are not those that "
                "the mixture was planned for"
            )
        by_bucket = manifest.buckets("train")
        self._entries: list[ShardEntry] = []
        starts: list[int] = []
        first = [0]
        for bucket in stream.buckets:
            entries = by_bucket[bucket.name]
            self._entries.extend(entries)
            starts.extend(np.cumsum([0] + [entry.tokens for entry in entries]).tolist())
            first.append(len(self._entries))
        self._shard_first = np.array(first, np.int64)
        self._shard_starts = np.array(starts, np.int64)
        self._span_first = np.cumsum([0] + [len(rows) for rows in stream.spans]).astype(np.int64)
        self._spans = np.concatenate(stream.spans)
        self._files: ShardFiles = (
            StagedShardFiles(str(shards), manifest, self._entries, cache or CacheSettings())
            if is_remote(shards)
            else ShardFiles(shards, manifest, self._entries)
        )
        self._packs = any(lattices[:, LENGTH].any() for lattices in stream.lattices)
        self._lattice_first = np.cumsum([0] + [len(rows) for rows in stream.lattices])
        self._lattices = np.concatenate(stream.lattices)
        self._blocks = np.zeros((len(stream.buckets), 3), np.int64)
        self._arranged = np.empty((len(stream.buckets), 3, 1024), np.int64)
        self._shards = (
            self._shard_first,
            self._shard_starts,
            self._files.bin_addresses,
            self._files.idx_addresses,
            self._files.documents,
            self._files.dtype.itemsize,
        )
        if verify == "checksums":
            self._files.check_checksums()

    def read(self, draws: Draws, into: Batch | None = None) -> Batch:
        """The sequences of `draws` (any part of a batch), in their order.

        With `into`, an earlier batch of at least as many sequences of the same length, its arrays
        are written over, which saves the system from clearing fresh memory for large batches.

        Raises:
            UserError: a shard has vanished or changed since the reader was made.
        """
        shape, files, row = (len(draws), draws.length), self._files, 0
        if into is None:
            inputs, labels, positions = (np.empty(shape, np.int32) for _ in range(3))
        else:
            arrays = (into.inputs, into.labels, into.positions)
            inputs, labels, positions = (array[: len(draws)] for array in arrays)
            if inputs.shape != shape:
                raise ValueError(f"`into` holds {into.inputs.shape} tokens, the draws {shape}")
        if isinstance(self._files, StagedShardFiles):
            self._files.ensure(self._ranges(draws))
        if self._packs:
            rows, places, counts = self._runs(draws)
            fill_runs(
                np.array(rows, np.int64),
                np.array(places, np.int64),
                np.array(counts, np.int64),
                draws.bucket,
                *self._shards,
                inputs,
                labels,
                positions,
            )
            row = len(draws)
        while row < len(draws):
            row, missing = fill(
                row,
                draws.bucket,
                draws.start,
                self._span_first,
                self._spans,
                *self._shards,
                inputs,
                labels,
                positions,
            )
            if missing >= 0:
                files.open(missing)
        return Batch(inputs, labels, positions, draws.bucket)

    def prefetch(self, draws: Draws) -> None:
        """Begin to fetch what reading `draws` will need; nothing to do for local shards."""
        if isinstance(self._files, StagedShardFiles):
            self._files.prefetch(self._ranges(draws))

    def document_ids(self, draws: Draws) -> list[str]:
        """The ids of all documents with tokens in these sequences, sorted.

        Raises:
            UserError: a shard has no lineage file.
        """
        wanted: dict[int, set[int]] = {}
        rows, places, counts = self._runs(draws)
        for row, place, count in zip(rows, places, counts, strict=True):
            for shard, found in self._documents(int(draws.bucket[row]), place, count):
                wanted.setdefault(shard, set()).update(found)
        ids: set[str] = set()
        for shard, documents in wanted.items():
            column = self._lineage(shard)
            ids.update(column[document].as_py() for document in documents)
        return sorted(ids)

    def document_id(self, bucket: int, drawn: int) -> str:
        """The id of the document that token `drawn` of a bucket's drawn tape belongs to."""
        draws = Draws(0, 1, np.array([bucket], np.int32), np.array([drawn], np.int64))
        return self.document_ids(draws)[0]

    def tape_runs(self, draws: Draws) -> npt.NDArray[np.int64]:
        """Where sequences lie: int64 [runs, 4], (row, bucket, first token of the tape, tokens).

        The runs of a row are in order; a bucket's tape is its shards, end to end.
        """
        rows, places, counts = (np.array(column, np.int64) for column in self._runs(draws))
        return np.stack([rows, draws.bucket[rows], places, counts], axis=1)

    def close(self) -> None:
        """Unmap the shards."""
        self._files.close()

    def _runs(self, draws: Draws) -> tuple[list[int], list[int], list[int]]:
        """Row, token of the tape, and tokens of each run."""
        if not self._packs:
            return trace(  # type: ignore[no-any-return]
                draws.bucket, draws.start, draws.length, self._span_first, self._spans
            )
        first, starts, _, indices, documents, itemsize = self._shards
        while True:
            missing, room, *runs = trace_packed(
                rows_by_block(draws.bucket, draws.start),
                draws.bucket,
                draws.start,
                draws.length,
                self._span_first,
                self._spans,
                self._lattice_first,
                self._lattices,
                first,
                starts,
                indices,
                documents,
                itemsize,
                self._blocks,
                self._arranged,
            )
            if missing >= 0:
                self._files.open(missing)
            elif room:
                self._blocks[:] = 0
                self._arranged = np.empty((len(self._blocks), 3, 2 * room), np.int64)
            else:
                break
        return runs[0], runs[1], runs[2]

    def _ranges(self, draws: Draws) -> Iterator[tuple[int, int, int]]:
        """(shard, first token, token after the last) of all that `draws` touch."""
        rows, places, counts = self._runs(draws)
        for row, place, count in zip(rows, places, counts, strict=True):
            for shard, tokens in self._pieces(int(draws.bucket[row]), place, count):
                yield shard, tokens.start, tokens.stop

    def _pieces(self, bucket: int, place: int, count: int) -> Iterator[tuple[int, range]]:
        """(shard, tokens in it) of a run of a bucket's tape."""
        while count > 0:
            shard, offset = shard_at(place, bucket, self._shard_first, self._shard_starts)
            size = min(count, self._entries[shard].tokens - offset)
            yield shard, range(offset, offset + size)
            place, count = place + size, count - size

    def _documents(self, bucket: int, place: int, count: int) -> Iterator[tuple[int, range]]:
        """(shard, its documents) of a run of a bucket's tape."""
        size = self._files.dtype.itemsize
        for shard, tokens in self._pieces(bucket, place, count):
            self._files.open(shard)
            index, documents = self._files.idx_addresses[shard], self._files.documents[shard]
            low = document_at(index, documents, tokens[0] * size)
            high = document_at(index, documents, tokens[-1] * size)
            yield shard, range(low, high + 1)

    def _lineage(self, shard: int) -> Any:
        import pyarrow.parquet as pq  # not needed by training itself

        path = f"{self._files.folder}/{self._entries[shard].path}.lineage.parquet"
        try:
            return pq.read_table(path, columns=["doc_id"])["doc_id"]
        except FileNotFoundError as error:
            raise UserError(
                f"{path}: there is no lineage file, so documents cannot be told by their ids"
            ) from error


def _keys(buckets: tuple[Bucket, ...]) -> set[tuple[str, str, int]]:
    return {(bucket.name, bucket.digest, bucket.tokens) for bucket in buckets}
