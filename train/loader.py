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

from train.sequences import Batch, SequenceReader
from train.staging import CacheSettings
from train.stream import Draws, Stream


class MicroBatch(NamedTuple):
    """Some of a rank's sequences of one step: n sequences of L tokens, n perhaps 0.

    One tensor holds them all, because each tensor that a worker hands over costs its own file of
    shared memory and its own connection.
    """

    packed: torch.Tensor
    """int32 or int64 [3 n L + n]: inputs, labels, positions, bucket, one behind the other."""
    length: int
    """L"""
    step: int
    last_of_step: bool
    """Whether the rank's share of the step ends with it."""

    @property
    def inputs(self) -> torch.Tensor:
        """[n, L]"""
        return self._part(0)

    @property
    def labels(self) -> torch.Tensor:
        """[n, L]: the next token, or -100 where that begins another document."""
        return self._part(1)

    @property
    def positions(self) -> torch.Tensor:
        """[n, L], restarting at documents."""
        return self._part(2)

    @property
    def bucket(self) -> torch.Tensor:
        """[n]: index into the stream's buckets."""
        return self.packed[3 * self.length * self._sequences :]

    def on(self, device: torch.device | str) -> "MicroBatch":
        """The same on `device`, as the int64 that embeddings and losses take."""
        return self._replace(packed=self.packed.to(device, non_blocking=True).long())

    @property
    def _sequences(self) -> int:
        return len(self.packed) // (3 * self.length + 1)

    def _part(self, number: int) -> torch.Tensor:
        size = self._sequences * self.length
        return self.packed[number * size : (number + 1) * size].view(-1, self.length)


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
        self._shares: dict[int, Draws] = {}
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
        size = len(draws) * draws.length
        packed = torch.empty(3 * size + len(draws), dtype=torch.int32)
        if get_worker_info() is not None:
            packed.share_memory_()  # filled where the trainer will read it: no copy on the way
        array = packed.numpy()
        inputs, labels, positions = array[: 3 * size].reshape(3, -1, draws.length)
        self._reader.read(draws, Batch(inputs, labels, positions, draws.bucket))
        array[3 * size :] = draws.bucket
        workers = get_worker_info()
        following = number + (workers.num_workers if workers is not None else 1)
        if following < self._length:
            self._reader.prefetch(self._draws(following)[0])
        return MicroBatch(packed, draws.length, draws.step, last)

    def _draws(self, number: int) -> tuple[Draws, bool]:
        """The sequences of micro-batch `number`, and whether it is the last of its step."""
        first, begin, parts = next(leg for leg in reversed(self._legs) if leg[0] <= number)
        step, part = divmod(number - first, parts)
        share = self._share(begin + step)
        draws = share[len(share) * part // parts : len(share) * (part + 1) // parts]
        return draws, part == parts - 1

    def _share(self, step: int) -> Draws:
        """The rank's part of a step, kept while its micro-batches and the next ones are read."""
        if step not in self._shares:
            self._shares = {s: d for s, d in self._shares.items() if s == step - 1}
            self._shares[step] = self._stream.share(step, self._rank, self._ranks)
        return self._shares[step]

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
