"""Which rank hangs: every rank notes its steps, and one that waits too long names who is behind.

A collective that never ends looks the same on every rank that takes part. The one that matters is
the rank that did not come, and its last note, in the run's folder, tells.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from train.launch import Ranks

EXIT_STATUS = 4


@dataclass(frozen=True)
class Beat:
    """The newest note of a run's ranks."""

    step: int
    """How many steps were finished."""
    at: float
    """When, in seconds by the clock of the file system, which all ranks share."""


def last_beat(folder: Path) -> Beat | None:
    """The newest note in a run's folder; None if no step was ever finished."""
    beats = []
    for path in folder.glob("rank-*"):
        note = path.read_text(encoding="utf-8")
        if note:  # else a rank is writing it right now, or was killed when it did
            beats.append(Beat(int(note), path.stat().st_mtime))
    return max(beats, key=lambda beat: beat.at, default=None)


class Heartbeat:
    """Notes this rank's steps in `folder`, and ends the process if they stop coming."""

    def __init__(
        self,
        folder: Path,
        ranks: Ranks,
        timeout_s: float,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        """Start watching.

        Args:
            timeout_s: longest time between two beats.
            end: what ends the process: by itself a rank in a collective never comes back.
        """
        self._folder, self._ranks, self._timeout_s, self._end = folder, ranks, timeout_s, end
        self._last = time.monotonic()
        self._stopped = threading.Event()
        folder.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._watch, name="heartbeat", daemon=True)
        self._thread.start()

    def beat(self, step: int) -> None:
        """Note that this rank has finished `step` steps."""
        self._last = time.monotonic()
        (self._folder / f"rank-{self._ranks.rank}").write_text(str(step), encoding="utf-8")

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(min(10.0, self._timeout_s / 4)):
            waited = time.monotonic() - self._last
            if waited > self._timeout_s:
                print(f"error: {self._diagnosis(waited)}", file=sys.stderr, flush=True)
                self._end(EXIT_STATUS)
                return

    def _diagnosis(self, waited: float) -> str:
        steps = {}
        for rank in range(self._ranks.world_size):
            path = self._folder / f"rank-{rank}"
            steps[rank] = int(path.read_text() or 0) if path.exists() else 0
        own = steps[self._ranks.rank]
        behind = [f"rank {rank} (step {step})" for rank, step in steps.items() if step < own]
        return (
            f"rank {self._ranks.rank} has waited {waited:.0f} s after step {own}; "
            f"behind: {', '.join(behind) or 'no rank; it hangs itself, or all do'}"
        )
