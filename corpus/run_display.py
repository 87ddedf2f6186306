"""What a pipeline run shows while it works: a line a step, and a bar of Spark's tasks below it."""

import threading
import time
from types import TracebackType

from pyspark.sql import SparkSession
from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from corpus.records import StageRecord
from corpus.runner import Progress

RULES_SHOWN = 3


class RunDisplay:
    """Prints each finished step; on a terminal, also how many of Spark's tasks are done."""

    def __init__(self, spark: SparkSession | None = None, quiet: bool = False) -> None:
        self._console = Console(quiet=quiet, highlight=False)
        self._spark = spark
        self._began = time.monotonic()
        self._stop = threading.Event()
        self._bar = Bar(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.completed:.0f}/{task.total:.0f} tasks"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=1)

    def __enter__(self) -> "RunDisplay":
        self._bar.start()
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._bar.stop()

    def progress(self) -> Progress:
        """The functions that `corpus.runner.run_stages` calls."""
        return Progress(started=self._stage_started, finished=self._stage_finished)

    def product_started(self, name: str) -> None:
        """Say that the run has begun to make its folder `name`."""
        self._began = time.monotonic()
        self._bar.update(self._task, description=name, completed=0, total=1)

    def product_finished(self, name: str, folder: str, reused: bool) -> None:
        """Say that the run's folder `name` is there."""
        how = "as before" if reused else f"{time.monotonic() - self._began:.1f} s"
        self._console.print(f"        {name:<16} → {folder} ({how})", markup=False)

    def _stage_started(self, position: int, total: int, name: str) -> None:
        self._position = f"[{position:2d}/{total}]"
        self._bar.update(self._task, description=f"{position}/{total} {name}", completed=0, total=1)

    def _stage_finished(self, record: StageRecord, reused: bool) -> None:
        how = "as before" if reused else f"{record.seconds:.1f} s"
        counts = list(record.dropped_by_rule.items())
        rules = ", ".join(f"{rule} {count}" for rule, count in counts[:RULES_SHOWN])
        rules += ", …" if len(counts) > RULES_SHOWN else ""
        self._console.print(
            f"{self._position} {record.stage:<16} {record.documents_in:>9,} in {record.kept:>9,} "
            f"kept {record.dropped:>7,} dropped{': ' + rules if rules else ''} ({how})",
            markup=False,
            soft_wrap=True,
        )

    def _watch(self) -> None:
        if self._spark is None or not self._console.is_terminal:
            return
        tracker = self._spark.sparkContext.statusTracker()
        while not self._stop.wait(0.3):
            infos = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
            done = sum(info.numCompletedTasks for info in infos if info)
            total = sum(info.numTasks for info in infos if info)
            if total:
                self._bar.update(self._task, completed=done, total=total)
