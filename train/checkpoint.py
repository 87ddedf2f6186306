"""Checkpoints that are whole or not there: written in the background, checked, never half read.

A checkpoint is a folder `step-0000123/` of DeepSpeed's files (each rank writes its own part), a
`progress.json`, and, written last, `COMPLETE.json` with every file's size and SHA-256. A folder
without that marker is a write that did not finish: it is never read, and removed at the next
start. Saving copies the state to host memory and returns; a thread writes while training goes on.

The end of a phase leaves `phase-NAME/`: the weights alone, in fp32, as a Hugging Face folder with
the same marker.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import io
import json
import os
import shutil
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from corpus.settings import UserError
from train.launch import Ranks, deepspeed  # prepares DeepSpeed's import, so it comes first

from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler  # isort: skip
from deepspeed.runtime.zero.config import ZeroStageEnum  # isort: skip
from deepspeed.utils.tensor_fragment import fragment_address  # isort: skip

MARKER = "COMPLETE.json"
PROGRESS = "progress.json"
SKIPPED = "skipped-steps.json"
_SUMS = ".files.json"


@dataclass
class Progress:
    """All of a run's state that is not weights or optimizer state; small, and JSON.

    The data's position is `step` itself, and random numbers are seeded from seed, step and rank,
    so neither needs more than this.
    """

    step: int = 0
    """The next step to take, over the whole run."""
    phase: str = ""
    world_size: int = 1
    zero_stage: int = 1
    bad_steps: list[int] = field(default_factory=list)
    """Steps whose update was left out."""
    recent_losses: list[float] = field(default_factory=list)
    """The losses by which a spike is judged."""
    drawn_tokens: dict[str, int] = field(default_factory=dict)
    """Tokens trained on so far, by bucket."""
    scored: bool = False
    """The held-out scores before the first step are recorded."""
    stream: dict[str, Any] = field(default_factory=dict)
    """What the data's stream needs to go on (`train.stream.Stream.checkpoint`)."""


# What DeepSpeed's state holds besides tensors and plain containers; nothing else is unpickled.
DEEPSPEED_STATE = [fragment_address, LossScaler, DynamicLossScaler, ZeroStageEnum]


class CheckpointError(Exception):
    """A checkpoint could not be written or is damaged."""


class HostCopyEngine(deepspeed.runtime.checkpoint_engine.checkpoint_engine.CheckpointEngine):
    """DeepSpeed's checkpoint engine that only copies to host memory; `Writer` writes."""

    def __init__(self) -> None:
        super().__init__()
        self.pending: list[tuple[Path, Any]] = []

    def create(self, info: Any) -> None:
        """Nothing to prepare."""

    def save(self, state_dict: Any, path: str) -> None:
        """Keep a copy of `state_dict`, to be written to `path`."""
        self.pending.append((Path(path), _copy_to_host(state_dict, {})))

    def load(self, path: str, map_location: Any = None) -> Any:
        """Read one of the run's own files; `resume_point` has checked its checksum."""
        with torch.serialization.safe_globals(DEEPSPEED_STATE):
            return torch.load(path, map_location=map_location, weights_only=True)

    def commit(self, info: Any) -> bool:
        """The marker is written by `Writer`, when the files are."""
        return True


def _copy_to_host(value: Any, seen: dict[int, torch.Tensor]) -> Any:
    """A deep copy with every tensor in host memory; tensors that are one stay one."""
    if isinstance(value, torch.Tensor):
        if id(value) not in seen:
            seen[id(value)] = value.detach().to("cpu", copy=True)
        return seen[id(value)]
    if isinstance(value, dict):
        return type(value)((key, _copy_to_host(item, seen)) for key, item in value.items())
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(_copy_to_host(item, seen) for item in value)
    return value


class Writer:
    """Writes checkpoints of one rank into a folder, one at a time, in a thread of its own."""

    def __init__(self, folder: Path, ranks: Ranks, keep: int, asynchronous: bool) -> None:
        self.folder = folder
        self._ranks = ranks
        self._keep = keep
        self._asynchronous = asynchronous
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._waits_until = float("inf")

    def save(self, engine: Any, progress: Progress) -> None:
        """Save the engine's whole state as of now. All ranks call it together.

        Raises:
            CheckpointError: the checkpoint before this one could not be written.
        """
        self.wait()
        name = step_folder(progress.step)
        target = self.folder / name
        if (target / MARKER).exists():
            return  # the same step, saved a moment ago: it is the same state
        if self._ranks.is_first:
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
        torch.distributed.barrier()
        copies = HostCopyEngine()
        engine.checkpoint_engine = copies
        engine.save_checkpoint(str(self.folder), tag=name, save_latest=False)
        state = dataclasses.replace(
            progress,
            bad_steps=list(progress.bad_steps),
            recent_losses=list(progress.recent_losses),
            drawn_tokens=dict(progress.drawn_tokens),
        )
        self._thread = threading.Thread(
            target=self._write, args=(target, copies.pending, state), name="checkpoint", daemon=True
        )
        self._thread.start()
        if not self._asynchronous:
            self.wait()

    def wait(self) -> None:
        """Return when nothing is being written on this rank; raise if writing failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise CheckpointError(f"a checkpoint could not be written: {failure}") from failure

    def settle(self, timeout_s: float = 30.0, others_timeout_s: float = 3.0) -> None:
        """Give a write under way the time to finish; for a run that ends by an exception.

        If that was another rank's end, its part will never come: so they get less time.
        """
        self._waits_until = time.monotonic() + others_timeout_s
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _write(self, target: Path, files: list[tuple[Path, Any]], progress: Progress) -> None:
        try:
            sums = {}
            for path, state in files:
                torch.save(state, path)
                sums[str(path.relative_to(target))] = _seal(path)
            write_json(target / f"rank-{self._ranks.rank}{_SUMS}", sums)
            if self._ranks.is_first:
                write_json(target / PROGRESS, dataclasses.asdict(progress))
                self._finish(target)
        except BaseException as error:
            self._failure = error

    def _finish(self, target: Path, timeout_s: float = 3600.0) -> None:
        """Wait for the other ranks' files, then write the marker and drop old checkpoints."""
        parts = [target / f"rank-{rank}{_SUMS}" for rank in range(self._ranks.world_size)]
        deadline = time.monotonic() + timeout_s
        while missing := [part.name for part in parts if not part.exists()]:
            if time.monotonic() > min(deadline, self._waits_until):
                raise CheckpointError(f"{target}: no {missing[0]} from another rank")
            time.sleep(0.05)
        write_marker(target, [part.name for part in parts])
        for old in whole_checkpoints(self.folder)[: -self._keep]:
            remove(old)


def step_folder(step: int) -> str:
    """The name of the checkpoint before step `step`."""
    return f"step-{step:09d}"


def phase_folder(name: str) -> str:
    """The name of the weights at a phase's end."""
    return f"phase-{name}"


def whole_checkpoints(folder: Path) -> list[Path]:
    """Step checkpoints with a marker, oldest first."""
    return sorted(path.parent for path in folder.glob(f"step-*/{MARKER}"))


@dataclass(frozen=True)
class ResumePoint:
    """Where a run goes on: the whole state at a step, or only the weights after a phase."""

    path: Path
    progress: Progress
    whole: bool
    """A step checkpoint, with the optimizer's state."""


def resume_point(folder: Path, ranks: Ranks) -> ResumePoint | None:
    """The newest checkpoint whose every byte is as it was written; None for a fresh run.

    All ranks call it together; the first one looks, and reports damaged ones on stderr.

    Raises:
        UserError: there are checkpoints, and every one is damaged.
    """
    found: list[tuple[str, bool] | None] = [None]
    damaged = [0]
    if ranks.is_first:
        # After a phase's last step the next one starts from its weights, not from its state.
        candidates = [(_step_of(path), True, path) for path in whole_checkpoints(folder)]
        candidates += [
            (_step_of(path.parent), False, path.parent) for path in folder.glob(f"phase-*/{MARKER}")
        ]
        for _, whole, path in sorted(candidates, key=lambda c: (c[0], not c[1]), reverse=True):
            problem = damage(path)
            if problem is None:
                found = [(path.name, whole)]
                break
            damaged[0] += 1
            print(
                f"warning: {path} is damaged ({problem}); the checkpoint before it is used",
                file=sys.stderr,
            )
    torch.distributed.broadcast_object_list(found, src=0)
    if found[0] is None:
        torch.distributed.broadcast_object_list(damaged, src=0)
        if damaged[0]:
            raise UserError(
                f"{folder}: every checkpoint in it is damaged; copy a sound one back, or remove "
                "the folder to begin anew"
            )
        return None
    name, whole = found[0]
    return ResumePoint(folder / name, read_progress(folder / name), whole)


def _step_of(path: Path) -> int:
    """The step a checkpoint stands at; -1 (looked at last) if it does not tell any more."""
    kind, _, number = path.name.partition("-")
    if kind == "step" and number.isdigit():
        return int(number)
    try:
        return read_progress(path).step
    except (OSError, ValueError, TypeError):
        return -1


def read_progress(path: Path) -> Progress:
    """The progress saved in a checkpoint."""
    return Progress(**json.loads((path / PROGRESS).read_text(encoding="utf-8")))


def damage(path: Path) -> str | None:
    """What is wrong with the files of a folder that has a marker; None if nothing is."""
    try:
        files = json.loads((path / MARKER).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError) as error:
        return f"{MARKER} cannot be read: {error}"
    for name, entry in files.items():
        try:
            size = (path / name).stat().st_size
            if size != entry["bytes"]:
                return f"{name} has {size} bytes instead of {entry['bytes']}"
            if _sha256(path / name) != entry["sha256"]:
                return f"{name} has changed since it was written"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
    return None


def write_marker(target: Path, sums: list[str] | None = None) -> None:
    """Declare a folder whole. `sums` names the ranks' checksum files; else all is read anew."""
    files: dict[str, Any] = {}
    if sums is None:
        for path in sorted(target.rglob("*")):
            if path.is_file() and path.name != MARKER:
                files[str(path.relative_to(target))] = _seal(path)
    else:
        for name in sums:
            files |= json.loads((target / name).read_text(encoding="utf-8"))
        files[PROGRESS] = _seal(target / PROGRESS)
    write_json(target / MARKER, {"files": files})


def sweep(folder: Path) -> None:
    """Remove what an interrupted run left, folders without a marker, and say so."""
    for path in [*folder.glob("step-*"), *folder.glob("phase-*"), *folder.glob("universal-*")]:
        if path.is_dir() and not (path / MARKER).exists():
            if not path.name.startswith("universal-"):  # made from another, for one start
                print(
                    f"warning: {path} was not yet whole when the run ended; it is removed",
                    file=sys.stderr,
                )
            shutil.rmtree(path)


def remove(path: Path) -> None:
    """Remove a checkpoint so that a kill in the middle leaves nothing that looks whole."""
    (path / MARKER).unlink(missing_ok=True)
    shutil.rmtree(path)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file in one step: it is there and whole, or as it was."""
    partial = path.with_name(path.name + ".partial")
    with open(partial, "w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _seal(path: Path) -> dict[str, Any]:
    """Force a file to the disk; its size and checksum."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def roll_back(folder: Path, to_step: int, skip: list[int]) -> None:
    """Make `to_step` or a checkpoint before it the newest, and have the steps `skip` left out."""
    write_json(folder / SKIPPED, sorted(skip))
    for path in folder.glob(f"*/{PROGRESS}"):
        if _step_of(path.parent) > to_step:
            remove(path.parent)


def skipped_steps(folder: Path) -> frozenset[int]:
    """The steps that rollbacks have found bad."""
    path = folder / SKIPPED
    return frozenset(json.loads(path.read_text())) if path.exists() else frozenset()


def fits(point: ResumePoint, ranks: Ranks, stage: int) -> bool:
    """Whether the engine can read the checkpoint as it is: else it needs `universal`.

    Under ZeRO stage 0 every rank holds all of the state, so any number of ranks can.

    Raises:
        UserError: no form of it can be read: the run's stage was changed, and not from 1 to 2 or 2
            to 1.
    """
    saved = point.progress
    if stage != saved.zero_stage and {stage, saved.zero_stage} != {1, 2}:
        raise UserError(
            f"{point.path}: was written under ZeRO stage {saved.zero_stage}, and the run config "
            f"now says {stage}: that can change only where a phase ends; set "
            f"zero_optimization.stage back to {saved.zero_stage}"
        )
    return stage == saved.zero_stage and stage * (ranks.world_size - saved.world_size) == 0


def universal(point: ResumePoint, ranks: Ranks) -> ResumePoint:
    """The same state in DeepSpeed's universal form, which any number of ranks can load.

    All ranks call it together; the first converts. `sweep` removes the form at the next start.
    """
    target = point.path.with_name(point.path.name.replace("step-", "universal-"))
    if ranks.is_first:
        from deepspeed.checkpoint import ds_to_universal

        shutil.rmtree(target, ignore_errors=True)
        narration = io.StringIO()
        with contextlib.redirect_stdout(narration), contextlib.redirect_stderr(narration):
            ds_to_universal.main(
                argparse.Namespace(
                    input_folder=str(point.path),
                    output_folder=str(target),
                    num_extract_workers=1,
                    num_merge_workers=1,
                    keep_temp_folder=False,
                    strict=True,
                    inject_missing_state=True,
                )
            )
    torch.distributed.barrier()
    return dataclasses.replace(point, path=target)


def load(engine: Any, point: ResumePoint) -> None:
    """Put a step checkpoint's weights and optimizer state into a fresh engine, exactly.

    The optimizer's settings (betas, weight decay of each group) stay those of the run config.

    Raises:
        UserError: DeepSpeed cannot read it.
    """
    engine.checkpoint_engine = HostCopyEngine()
    settings = [
        {key: value for key, value in group.items() if key != "params"}
        for group in engine.optimizer.param_groups
    ]
    loaded, _ = engine.load_checkpoint(
        str(point.path.parent), tag=point.path.name, load_lr_scheduler_states=False
    )
    if loaded is None:
        raise UserError(f"{point.path}: DeepSpeed could not load this checkpoint")
    # From a universal checkpoint of stage 3 (0.19) all groups get the first one's weight decay, and
    # all parameters one and the same count of steps, which each of them then adds to.
    for group, kept in zip(engine.optimizer.param_groups, settings, strict=True):
        group.update(kept)
    for state in engine.optimizer.state.values():
        if isinstance(state.get("step"), torch.Tensor):
            state["step"] = state["step"].clone()
