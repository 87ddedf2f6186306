"""What a run config comes to: steps, phases, parameters, memory and hours, before any of it starts.

Everything here follows from files on disk and the number of ranks, so `--plan` shows exactly what
a run will do.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedConfig

from corpus.settings import UserError, load
from tokenization.manifest import Manifest, read_manifest
from train.buckets import buckets_of
from train.model import model_shape
from train.run_config import Phase, RunConfig, deepspeed_config, zero_stage
from train.schedule import Schedule
from train.stream import Stream
from train.throughput import matrix_weights, peak_flops, phase_flops


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
        raise UserError(
            f"batch_tokens: {fewest} sequences a step are too few for {ranks} ranks with "
            f"{accumulation_steps} micro-batches each; raise it, or lower micro_batch_tokens"
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


def describe(run: RunConfig, ranks: int, mfu: float, device: str) -> str:
    """The text of `--plan`: a table of parameters, memory by part, steps and hours."""
    plan = plan_run(run, ranks)
    shape = plan.shape
    blocks, head = matrix_weights(shape)
    tied = bool(shape.tie_word_embeddings)
    tables = head * (1 if tied else 2)
    total = blocks + tables
    table = Table(title=f"{run.name}: {ranks} rank(s), {device}", title_justify="left")
    table.add_column("")
    table.add_column("", justify="right")
    table.add_row("parameters (norms not counted)", f"{total:,}")
    table.add_row("  in the blocks", f"{blocks:,}")
    table.add_row(f"  in the vocabulary's rows ({'tied' if tied else 'two tables'})", f"{tables:,}")
    table.add_row("buckets", str(len(plan.bucket_names)))
    table.add_row("steps", f"{plan.steps:,}")
    table.add_row("tokens a step", f"{plan.batch_tokens:,}")
    table.add_row("  micro-batches a rank and step", f"{plan.accumulation_steps:,}")
    peak = peak_flops(device)
    hours = 0.0
    for phase in plan.phases:
        flops = phase_flops(shape, phase.settings)
        tokens = plan.stream.tokens_before(phase.end) - plan.stream.tokens_before(phase.first)
        # Without looking at the documents: causal attention over half of each sequence.
        work = flops.of(tokens, tokens * plan.schedule.longest_sequence / 2)
        share = trained_share(shape, phase.settings)
        table.add_row(f"phase {phase.name}", f"{phase.steps:,} steps, {tokens:,} tokens")
        table.add_row("  trained parameters", f"{round(share):,}")
        for part, size in memory_parts(run, shape, phase.settings, ranks).items():
            table.add_row(f"  {part}", f"{size / 2**30:,.2f} GiB")
        if peak is not None:
            spent = work / (peak * mfu * ranks) / 3600
            hours += spent
            table.add_row(f"  hours at {mfu:.0%} MFU", f"{spent:,.2f}")
    if peak is None:
        table.add_row("hours", f"unknown: no peak is known for '{device}'")
    else:
        table.add_row(f"hours in all at {mfu:.0%} MFU", f"{hours:,.2f}")
    console = Console(width=96)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def trained_share(shape: PreTrainedConfig, phase: Phase) -> float:
    """How many parameters a phase trains (norms not counted)."""
    blocks, head = matrix_weights(shape)
    tied = bool(shape.tie_word_embeddings)
    if phase.train == "all":
        return blocks + head * (1 if tied else 2)
    if phase.train == "lora":
        hidden = shape.hidden_size
        return shape.num_hidden_layers * phase.lora.rank * len(phase.lora.targets) * 2.0 * hidden
    return head * (1 if tied else len(phase.train))


def memory_parts(
    run: RunConfig, shape: PreTrainedConfig, phase: Phase, ranks: int
) -> dict[str, float]:
    """Bytes on each device by part, before what is freed and reused inside a step.

    Activations follow Korthikanti et al. 2022 (arXiv 2205.05198) for a block without a stored
    attention matrix: 34 bytes a token and hidden unit in 16 bits, 2 with full checkpointing.
    """
    blocks, head = matrix_weights(shape)
    tied = bool(shape.tie_word_embeddings)
    total = blocks + head * (1 if tied else 2)
    trained = trained_share(shape, phase)
    stage = zero_stage(deepspeed_config(run, 1))
    wide = 2 if run.precision.weights == "bf16" else 4
    split = [1, ranks, ranks, ranks]
    optimizer = (12 if run.precision.weights == "bf16" else 8) * trained / split[stage]
    per_unit = 2 if run.precision.activation_checkpointing else 34
    units = run.micro_batch_tokens * shape.hidden_size * shape.num_hidden_layers
    return {
        "weights": wide * total / (ranks if stage == 3 else 1),
        "gradients": wide * trained / (ranks if stage >= 2 else 1),
        "optimizer state" + (" and fp32 weights" if wide == 2 else ""): optimizer,
        "activations (estimate)": units * per_unit * wide / 2,
        "output layer's pieces and gradient": 4096 * shape.vocab_size * 8.0 + 4 * head,
    }
