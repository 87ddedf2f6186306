"""From the stream to the device: this rank's micro-batches of each step, read ahead in a thread.

The thread only reads and copies; what is read for which step is the stream's pure function, so
reading ahead cannot change it.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from train.attention import Documents, find_documents
from train.launch import Ranks
from train.objective import IGNORED
from train.run_plan import RunPlan
from train.sequences import SequenceReader
from train.stream import Draws


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """Sequences of one micro-batch, flattened to a row of T tokens, on the device."""

    inputs: torch.Tensor
    """int64 [T]"""
    positions: torch.Tensor
    """int64 [T], in the document."""
    labels: torch.Tensor
    """int64 [T], the next token, or -100."""
    buckets: torch.Tensor
    """int64 [sequences]: where each comes from."""
    documents: Documents
    predicted: NDArray[np.int64]
    """int64 [buckets]: labels that are not -100, on the host."""
    drawn: NDArray[np.int64]
    """int64 [buckets]: tokens, on the host."""
    draws: Draws
    """Where the sequences come from."""

    def add_to(self, nats: torch.Tensor, losses: torch.Tensor) -> None:
        """Add the tokens' losses, fp32 [T], to nats, fp64 [buckets]."""
        of_sequences = losses.view(len(self.buckets), -1).sum(1, dtype=nats.dtype)
        nats.index_add_(0, self.buckets, of_sequences)


class Feed:
    """Reads a rank's share of every step."""

    def __init__(self, plan: RunPlan, ranks: Ranks, ahead: int = 2) -> None:
        self._plan, self._ranks, self._ahead = plan, ranks, ahead
        self._reader = SequenceReader(plan.shards, plan.stream, tokenizer=plan.tokenizer)

    def steps(self, first: int, end: int) -> Iterator[list[MicroBatch]]:
        """The micro-batches of steps `first` to `end` - 1, in order, read up to `ahead` steps
        before they are asked for."""
        with ThreadPoolExecutor(1, "feed", self._enter_thread) as pool:
            coming: list[Future[list[MicroBatch]]] = []
            for step in range(first, end):
                while len(coming) < min(self._ahead, end - step):
                    coming.append(pool.submit(self.read, step + len(coming)))
                yield coming.pop(0).result()

    def read(self, step: int) -> list[MicroBatch]:
        """This rank's micro-batches of one step."""
        draws = self._plan.stream.share(step, self._ranks.rank, self._ranks.world_size)
        parts = self._plan.accumulation_steps
        edges = [len(draws) * part // parts for part in range(parts + 1)]
        return [self._micro_batch(draws[begin:end]) for begin, end in pairwise(edges)]

    def documents(self, batch: list[MicroBatch]) -> list[str]:
        """The ids of all documents with tokens in these micro-batches."""
        return sorted(
            {name for micro_batch in batch for name in self._reader.document_ids(micro_batch.draws)}
        )

    def _enter_thread(self) -> None:
        # A thread's current GPU is the first one until it says otherwise.
        if self._ranks.device.type == "cuda":
            torch.cuda.set_device(self._ranks.device)

    def _micro_batch(self, draws: Draws) -> MicroBatch:
        batch = self._reader.read(draws)
        device = self._ranks.device
        number = len(self._plan.stream.buckets)

        def move(array: NDArray[np.int32]) -> torch.Tensor:
            tensor = torch.from_numpy(np.ascontiguousarray(array.reshape(-1), dtype=np.int64))
            if device.type == "cuda":
                return tensor.pin_memory().to(device, non_blocking=True)
            return tensor

        return MicroBatch(
            inputs=move(batch.inputs),
            positions=move(batch.positions),
            labels=move(batch.labels),
            buckets=move(batch.bucket),
            documents=find_documents(batch.positions, device),
            predicted=np.bincount(batch.bucket, (batch.labels != IGNORED).sum(1), number).astype(
                np.int64
            ),
            drawn=np.bincount(batch.bucket, minlength=number) * draws.length,
            draws=draws,
        )
