"""The stream as a torch DataLoader: a rank's micro-batches, read by workers, in pinned memory.

The workers only read. Which sequences a micro-batch holds is `Stream.share`'s answer for its step
and rank, so their number, and how far they read ahead, change nothing. To resume, start at
another `first_step`.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from train.sequences import SequenceReader
from train.staging import CacheSettings
from train.stream import Draws, Stream


class MicroBatch(NamedTuple):
    """Some of a rank's sequences of one step: n sequences of L tokens, n perhaps 0."""

    inputs: torch.Tensor
    """int32 [n, L]"""
    labels: torch.Tensor
    """int32 [n, L]: the next token, or -100 where that begins another document."""
    positions: torch.Tensor
    """int32 [n, L], restarting at documents."""
    bucket: torch.Tensor
    """int32 [n]: index into the stream's buckets."""
    step: int
    last_of_step: bool
    """Whether the rank's share of the step ends with it."""

    def on(self, device: torch.device | str) -> "MicroBatch":
        """The same on `device`, as the int64 that embeddings and losses take."""

        def moved(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to(device, non_blocking=True).long()

        return self._replace(
            inputs=moved(self.inputs),
            labels=moved(self.labels),
            positions=moved(self.positions),
            bucket=moved(self.bucket),
        )


def micro_batches(
    shards: str | Path,
    stream: Stream,
    *,
    micro_batch_sequences: int,
    rank: int = 0,
    ranks: int = 1,
    first_step: int = 0,
    end_step: int | None = None,
    workers: int = 0,
    read_ahead: int = 4,
    pin_memory: bool = False,
    cache: CacheSettings | None = None,
) -> "DataLoader[MicroBatch]":
    """A DataLoader of rank `rank`'s micro-batches of steps `first_step`…`end_step` - 1, in order.

    micro_batch_sequences: at most so many sequences each, counted in the longest sequences of the
    schedule: stages of shorter ones hold as many tokens. Every rank has as many micro-batches in
    a step, though they may differ by a sequence where `ranks` does not divide the batch.
    workers, read_ahead: processes, and micro-batches that each of them has ready.
    cache: for shards in object storage; each worker has one of its own.

    Raises:
        UserError: see `SequenceReader`.
    """
    # Damage is found here, not in a worker; and workers that are forked inherit compiled code.
    reader = SequenceReader(shards, stream, cache=cache)
    reader.read(stream.batch(min(first_step, stream.steps - 1))[:0])
    reader.close()
    data = _MicroBatches(
        shards, stream, cache, micro_batch_sequences, rank, ranks, first_step, end_step
    )
    return DataLoader(
        data,
        batch_size=None,
        shuffle=False,
        num_workers=workers,
        pin_memory=pin_memory,
        prefetch_factor=read_ahead if workers else None,
        persistent_workers=False,
    )


class _MicroBatches(Dataset[MicroBatch]):
    """Micro-batch number k of a rank."""

    def __init__(
        self,
        shards: str | Path,
        stream: Stream,
        cache: CacheSettings | None,
        micro_batch_sequences: int,
        rank: int,
        ranks: int,
        first_step: int,
        end_step: int | None,
    ) -> None:
        end = stream.steps if end_step is None else min(end_step, stream.steps)
        self._shards, self._stream, self._cache = shards, stream, cache
        self._rank, self._ranks = rank, ranks
        self._reader: SequenceReader | None = None
        longest = max(leg.length for leg in stream.legs)
        # (first micro-batch, first step, micro-batches a step) of every leg of the run
        self._legs: list[tuple[int, int, int]] = []
        self._length = 0
        for leg in stream.legs:
            begin, stop = max(leg.step, first_step), min(leg.end, end)
            if begin < stop:
                most = micro_batch_sequences * (longest // leg.length)
                parts = math.ceil(math.ceil(leg.sequences / ranks) / most)
                self._legs.append((self._length, begin, parts))
                self._length += (stop - begin) * parts

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, number: int) -> MicroBatch:
        if not 0 <= number < self._length:
            raise IndexError(f"there are {self._length} micro-batches; there is no number {number}")
        if self._reader is None:
            self._reader = SequenceReader(self._shards, self._stream, cache=self._cache)
        draws, last = self._draws(number)
        batch = self._reader.read(draws)
        workers = get_worker_info()
        following = number + (workers.num_workers if workers is not None else 1)
        if following < self._length:
            self._reader.prefetch(self._draws(following)[0])
        return MicroBatch(
            torch.from_numpy(batch.inputs),
            torch.from_numpy(batch.labels),
            torch.from_numpy(batch.positions),
            torch.from_numpy(batch.bucket),
            draws.step,
            last,
        )

    def _draws(self, number: int) -> tuple[Draws, bool]:
        """The sequences of micro-batch `number`, and whether it is the last of its step."""
        first, begin, parts = next(leg for leg in reversed(self._legs) if leg[0] <= number)
        step, part = divmod(number - first, parts)
        share = self._stream.share(begin + step, self._rank, self._ranks)
        draws = share[len(share) * part // parts : len(share) * (part + 1) // parts]
        return draws, part == parts - 1

    def __getstate__(self) -> dict[str, Any]:
        # Addresses of mapped files mean nothing in another process.
        return {**self.__dict__, "_reader": None}


def steps_of(loader: "DataLoader[MicroBatch]") -> Iterator[list[MicroBatch]]:
    """The micro-batches of a loader, gathered step by step."""
    gathered: list[MicroBatch] = []
    for batch in loader:
        gathered.append(batch)
        if batch.last_of_step:
            yield gathered
            gathered = []
