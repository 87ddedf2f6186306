"""What a run config comes to: steps, phases, parameters, memory and hours, before any of it starts.

Everything here follows from files on disk and the number of ranks, so `--plan` (its text is in
`train.plan_report`) shows exactly what a run will do.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedConfig

from corpus.settings import UserError, load
from tokenization.manifest import Manifest, read_manifest
from train.buckets import buckets_of
from train.model import model_shape
from train.run_config import Phase, RunConfig
from train.schedule import Schedule
from train.stream import Stream


@dataclass(frozen=True)
class PhasePlan:
    """The steps of one phase."""

    name: str
    first: int
    end: int
    """The step after the last."""
    settings: Phase

    @property
    def steps(self) -> int:
        """How many."""
        return self.end - self.first


@dataclass(frozen=True, eq=False)
class RunPlan:
    """A run, worked out."""

    shards: str
    tokenizer: str
    manifest: Manifest
    schedule: Schedule
    stream: Stream
    phases: tuple[PhasePlan, ...]
    shape: PreTrainedConfig
    """The model's architecture, its vocabulary already extended."""
    accumulation_steps: int
    """Micro-batches of a rank in one step."""
    micro_batch_tokens: int

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.stream.steps

    @property
    def batch_tokens(self) -> int:
        """Tokens of a global batch."""
        leg = self.stream.legs[-1]
        return leg.sequences * leg.length

    @property
    def bucket_names(self) -> list[str]:
        """Names of the buckets, by the index that the loader gives."""
        return [bucket.name for bucket in self.stream.buckets]

    @property
    def planned_tokens(self) -> dict[str, int]:
        """Tokens that the schedule's weights come to over the run's whole steps, by bucket."""
        planned = np.zeros(len(self.bucket_names))
        for leg in self.stream.legs:
            first, end = leg.block, leg.block + leg.steps
            planned += (leg.counts.scheduled(end) - leg.counts.scheduled(first)) * leg.length
        return {name: round(n) for name, n in zip(self.bucket_names, planned, strict=True)}


def plan_run(run: RunConfig, ranks: int, resumed: Mapping[str, Any] | None = None) -> RunPlan:
    """Work a run out for `ranks` ranks.

    Args:
        resumed: what the checkpoint holds of the data's stream (`Stream.checkpoint`). A schedule,
            a batch size or shards that have changed since then rule from its step on.

    Raises:
        UserError: the mixture cannot be drawn, a phase gets no step, the batch is too small for
            the ranks, or the tokenizer is larger than the model can become.
    """
    manifest = read_manifest(run.shards)
    schedule = load(run.mixture, Schedule)
    buckets = buckets_of(manifest)
    if resumed:
        stream = Stream.resumed(
            resumed, schedule, buckets, seed=run.seed, batch_tokens=run.batch_tokens
        )
    else:
        stream = Stream(schedule, buckets, seed=run.seed, batch_tokens=run.batch_tokens)
    longest = schedule.longest_sequence
    if run.micro_batch_tokens % longest:
        raise UserError(
            f"micro_batch_tokens: {run.micro_batch_tokens} is no multiple of the mixture's longest "
            f"sequence, {longest}"
        )
    accumulation_steps = 1
    for leg in stream.legs:
        share = math.ceil(leg.sequences / ranks) * leg.length
        accumulation_steps = max(accumulation_steps, math.ceil(share / run.micro_batch_tokens))
    fewest = min(leg.sequences for leg in stream.legs)
    if fewest < ranks * accumulation_steps:
        enough = ranks * accumulation_steps
        raise UserError(
            f"batch_tokens: {fewest} sequences a step are too few for {ranks} ranks with "
            f"{accumulation_steps} micro-batches each, which take {enough}: set it to "
            f"{enough * longest:,} or more, or raise micro_batch_tokens"
        )
    shape = model_shape(run)
    shape.vocab_size = vocabulary_rows(run, shape, manifest)
    return RunPlan(
        run.shards,
        run.tokenizer,
        manifest,
        schedule,
        stream,
        _phases(run, stream),
        shape,
        accumulation_steps,
        run.micro_batch_tokens,
    )


def vocabulary_rows(run: RunConfig, shape: PreTrainedConfig, manifest: Manifest) -> int:
    """Rows of the embedding that the run trains: the tokenizer's, padded; never fewer than now."""
    multiple = run.model.pad_vocabulary_to
    wanted = math.ceil(manifest.tokenizer.vocabulary_size / multiple) * multiple
    return max(int(shape.vocab_size), wanted)


def _phases(run: RunConfig, stream: Stream) -> tuple[PhasePlan, ...]:
    plans: list[PhasePlan] = []
    first, tokens = 0, 0
    for phase in run.phases:
        if phase.tokens == "rest":
            end = stream.steps
        else:
            tokens += phase.tokens
            end = stream.step_after(tokens)
        if end <= first:
            raise UserError(
                f"phases: '{phase.name}' would get no step: the mixture has {stream.steps} steps, "
                f"and {first} are taken by the phases before it"
            )
        plans.append(PhasePlan(phase.name, first, end, phase))
        first = end
    return tuple(plans)
