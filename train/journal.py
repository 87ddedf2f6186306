"""What a run writes about itself: `metrics.jsonl`, `summary.json`, TensorBoard, and the terminal.

`metrics.jsonl` has one JSON object a line, told apart by `kind`:

- `step`: `step` (from 1), `steps` (since the last such line), `phase`, `tokens` (so far),
  `loss` (mean nats per predicted token), `loss_per_bucket`, `drawn` (tokens so far by bucket),
  `learning_rate`, `gradient_norm` (of the last step, before clipping; null if not finite),
  `seconds` (of the steps since the last such line, per step), `tokens_per_second`,
  `tflops_per_device`, `mfu` (null if the device's peak is unknown), `data_seconds` (waiting for
  the loader, per step), `memory_gib` (peak allocated on the device; null on CPU).
- `evaluation`: `step`, `buckets`: {bucket: {loss, perplexity, bits_per_character, tokens}}.
- `event`: `step`, `event` (phase, resume, recovery, bad-step, rollback, stop), and what belongs to
  it. `recovery`, after the first step since an interruption: `seconds_since_last_step` (from the
  last step that any rank finished before), `seconds_since_start` (of this process) and
  `steps_again` (finished before, and taken once more because no checkpoint holds them).

`summary.json` is written at the end of the run (and is what a report reads):

    {"name", "steps", "tokens", "seconds", "parameters",
     "perplexity": {bucket: {"before", "after", "tokens"}},
     "bits_per_character": {bucket: {"before", "after"}},
     "planned_tokens": {bucket: n}, "drawn_tokens": {bucket: n},
     "loss": [{"step", "tokens", "phase", "loss"}, …],
     "loss_per_bucket": {bucket: [{"step", "tokens", "loss"}, …]},
     "phases": [{"name", "first_step", "steps", "trained_parameters"}],
     "bad_steps": [step, …]}
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from train.checkpoint import write_json
from train.run_config import Logging

METRICS = "metrics.jsonl"
SUMMARY = "summary.json"


class Journal:
    """Writes a run's records on the first rank; on the others every call does nothing."""

    def __init__(
        self, folder: Path, settings: Logging, steps: int, step: int, writes: bool, name: str
    ) -> None:
        """Continue the journal of `folder` from `step`: what was written of later steps goes."""
        self._writes = writes
        self._steps = steps
        if not writes:
            return
        self._path = folder / METRICS
        folder.mkdir(parents=True, exist_ok=True)
        _cut_after(self._path, step)
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 - closed by close()
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.fields[phase]}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(
            "", total=steps, completed=max(step, 0), phase="starting", figures=""
        )
        self._bar.start()
        self._last_line = 0.0
        self._board = None
        if settings.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=max(step, 0))
        self._wandb = _start_wandb(settings.wandb_project, name, folder)

    def step(self, record: dict[str, Any]) -> None:
        """Record steps; see the module's text for the keys."""
        if not self._writes:
            return
        self._write({"kind": "step", **record})
        figures = _figures(record)
        self._bar.update(
            self._task, completed=record["step"], phase=record["phase"], figures=figures
        )
        now = time.monotonic()
        # A log file gets a line every ten seconds instead of a moving bar.
        if not self._console.is_terminal and (
            now - self._last_line > 10 or record["step"] == self._steps
        ):
            self._last_line = now
            self.say(f"step {record['step']}/{self._steps} ({record['phase']}): {figures}")
        scalars = {
            key: record[key]
            for key in ("loss", "learning_rate", "gradient_norm", "tokens_per_second", "mfu")
            if record.get(key) is not None
        }
        scalars |= {f"loss/{bucket}": loss for bucket, loss in record["loss_per_bucket"].items()}
        scalars |= {f"drawn/{bucket}": tokens for bucket, tokens in record["drawn"].items()}
        self._plot(scalars, record["step"])

    def evaluation(self, step: int, buckets: dict[str, dict[str, float]]) -> None:
        """Record held-out scores before step `step` + 1."""
        if not self._writes:
            return
        self._write({"kind": "evaluation", "step": step, "buckets": buckets})
        for bucket, score in buckets.items():
            self._plot(
                {f"heldout/{key}/{bucket}": v for key, v in score.items() if key != "tokens"}, step
            )

    def event(self, step: int, event: str, **details: Any) -> None:
        """Record something that happened once."""
        if self._writes:
            self._write({"kind": "event", "step": step, "event": event, **details})

    def say(self, text: str) -> None:
        """A line for the person watching."""
        if self._writes:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def records(self) -> list[dict[str, Any]]:
        """Everything recorded so far, oldest first."""
        self._file.flush()
        return read_metrics(self._path)

    def close(self) -> None:
        """Finish the bar and the files."""
        if self._writes:
            self._bar.stop()
            self._file.close()
            if self._board is not None:
                self._board.close()
            if self._wandb is not None:
                self._wandb.finish()

    def _write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._file.flush()

    def _plot(self, scalars: dict[str, float], step: int) -> None:
        if self._board is not None:
            for name, value in scalars.items():
                self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(scalars, step=step)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a `metrics.jsonl`; a last line cut short by a kill is left out."""
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]


def write_summary(folder: Path, records: list[dict[str, Any]], facts: dict[str, Any]) -> None:
    """Write `summary.json` from the journal's records and the facts that only the run knows."""
    steps = [record for record in records if record["kind"] == "step"]
    evaluations = [record["buckets"] for record in records if record["kind"] == "evaluation"]
    first, last = (evaluations[0], evaluations[-1]) if evaluations else ({}, {})
    per_bucket: dict[str, list[dict[str, Any]]] = {}
    for record in steps:
        for bucket, loss in record["loss_per_bucket"].items():
            point = {"step": record["step"], "tokens": record["tokens"], "loss": loss}
            per_bucket.setdefault(bucket, []).append(point)
    summary = {
        **facts,
        "perplexity": {
            bucket: {
                "before": first[bucket]["perplexity"],
                "after": last[bucket]["perplexity"],
                "tokens": last[bucket]["tokens"],
            }
            for bucket in last
        },
        "bits_per_character": {
            bucket: {
                "before": first[bucket]["bits_per_character"],
                "after": last[bucket]["bits_per_character"],
            }
            for bucket in last
        },
        "loss": [
            {key: record[key] for key in ("step", "tokens", "phase", "loss")} for record in steps
        ],
        "loss_per_bucket": per_bucket,
    }
    write_json(folder / SUMMARY, summary)


def _cut_after(path: Path, step: int) -> None:
    """Drop records of steps after `step`: they will be taken again."""
    if not path.exists():
        return
    kept = [record for record in read_metrics(path) if record["step"] <= step]
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(lines, encoding="utf-8")
    partial.replace(path)


def _figures(record: dict[str, Any]) -> str:
    text = f"loss {record['loss']:.3f}, {record['tokens_per_second']:,.0f} tokens/s"
    if record["mfu"] is not None:
        text += f", {record['tflops_per_device']:.0f} TFLOP/s a GPU, MFU {record['mfu']:.1%}"
    return text


def _start_wandb(project: str | None, name: str, folder: Path) -> Any:
    if project is None:
        return None
    try:
        import wandb  # type: ignore[import-not-found]
    except ImportError:
        print("warning: logging.wandb_project is set, wandb is not installed", file=sys.stderr)
        return None
    return wandb.init(project=project, name=name, dir=str(folder), resume="allow", id=name)
