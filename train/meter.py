"""What steps came to: losses by bucket, tokens per second, model FLOP/s, waiting for data."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from train.feed import MicroBatch
from train.launch import Ranks
from train.throughput import ModelFlops, device_name, peak_flops


@dataclass(frozen=True)
class StepResult:
    """What is known after a step, the same on all ranks."""

    loss: float
    """Mean nats per predicted token over the global batch."""
    nats: list[float]
    """Summed loss by bucket."""
    predicted: list[int]
    """Predicted tokens by bucket."""
    drawn: list[int]
    """Tokens by bucket, document starts included."""
    applied: bool
    """False if the update was left out because the loss or a gradient was not sound."""
    stop: bool
    """Some rank was asked to stop."""


class Meter:
    """Losses and speed since the last line of the journal."""

    def __init__(self, flops: ModelFlops, ranks: Ranks) -> None:
        self._flops, self._ranks = flops, ranks
        self._peak = peak_flops(device_name(ranks.device))
        self._results: list[StepResult] = []
        self.restart()

    def restart(self) -> None:
        """Forget the time so far: something other than steps took it."""
        self._began = time.monotonic()
        self._timed_steps = 0
        self._pairs = 0
        self._tokens = 0
        self._data_seconds = 0.0

    def add(self, result: StepResult, batch: list[MicroBatch], data_seconds: float) -> None:
        """Count a step; `batch` is this rank's part of it."""
        self._results.append(result)
        self._timed_steps += 1
        self._pairs += sum(micro_batch.documents.attended_pairs() for micro_batch in batch)
        self._tokens += sum(len(micro_batch.inputs) for micro_batch in batch)
        self._data_seconds += data_seconds

    def read(self, bucket_names: Sequence[str]) -> dict[str, Any]:
        """The journal's figures of the steps since the last reading."""
        device = self._ranks.device
        seconds = max(time.monotonic() - self._began, 1e-9)
        flops_per_second = self._flops.of(self._tokens, self._pairs) / seconds
        nats = [sum(values) for values in zip(*(r.nats for r in self._results), strict=True)]
        counts = [sum(values) for values in zip(*(r.predicted for r in self._results), strict=True)]
        figures = {
            "loss": sum(nats) / sum(counts),
            "loss_per_bucket": {
                bucket: n / c for bucket, n, c in zip(bucket_names, nats, counts, strict=True) if c
            },
            "steps": len(self._results),
            "seconds": seconds / max(1, self._timed_steps),
            "tokens_per_second": self._tokens * self._ranks.world_size / seconds,
            "tflops_per_device": flops_per_second / 1e12,
            "mfu": flops_per_second / self._peak if self._peak else None,
            "data_seconds": self._data_seconds / max(1, self._timed_steps),
            "memory_gib": (
                torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
            ),
        }
        self._results.clear()
        self.restart()
        return figures
