"""Continued pretraining: shards and a mixture in, a trained model out.

    python -m train.cpt configs/train/demo.yaml
    torchrun --nproc-per-node 8 -m train.cpt configs/train/X.yaml
    deepspeed --module train.cpt configs/train/X.yaml

The run goes through the phases of its config. Each phase is a fresh DeepSpeed engine that starts
from the weights the phase before it left. The data of step n is a pure function of n, so a run
that was killed anywhere continues where it stood by the same command.

Read from the top: `main`, `train` (the phases), `train_phase` (the steps), `take_step`.
"""

import argparse
import math
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
import torch

from corpus.settings import UserError, command
from train import checkpoint, launch
from train.accumulate import adding_in_place
from train.attention import choose_attention
from train.checkpoint import Progress, ResumePoint, Writer
from train.engine import full_weights, start_engine, trained_parameters
from train.evaluate import HeldOut, evaluate, held_out
from train.export import export
from train.feed import Feed, MicroBatch
from train.heartbeat import Beat, Heartbeat, last_beat
from train.journal import Journal, write_summary
from train.launch import Ranks
from train.learning_rate import learning_rate
from train.meter import Meter, StepResult
from train.model import first_model, model_shape, save_weights, saved_model, saved_weights
from train.plan_report import describe
from train.run_config import RunConfig, deepspeed_config, read_run_config, zero_stage
from train.run_plan import PhasePlan, RunPlan, plan_run
from train.throughput import matrix_weights, phase_flops
from train.watch import LossWatch, poison


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command `python -m train.cpt`."""
    parser = argparse.ArgumentParser(
        prog="python -m train.cpt",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  python -m train.cpt configs/train/demo.yaml --plan       what it would cost, without training
  python -m train.cpt configs/train/demo.yaml              train, or continue a run that stopped
  torchrun --nproc-per-node 8 --max-restarts 3 -m train.cpt configs/train/X.yaml
                                                           eight GPUs; a crash costs minutes
The config's keys are explained in configs/train/demo.yaml. The run's folder then holds model/
(a Hugging Face folder), metrics.jsonl, summary.json and checkpoints/.""",
    )
    parser.add_argument("config", help="the run config, YAML")
    parser.add_argument(
        "--plan", action="store_true", help="print parameters, memory, steps and hours, and stop"
    )
    parser.add_argument(
        "--devices", type=int, metavar="N", help="with --plan: for N devices (default: all ranks)"
    )
    parser.add_argument(
        "--mfu", type=float, default=0.5, help="with --plan: assumed share of peak (default 0.5)"
    )
    parser.add_argument(
        "--device-name", default="NVIDIA H200", help="with --plan: whose peak (default NVIDIA H200)"
    )
    # The deepspeed launcher passes this to every process; the environment says the same.
    parser.add_argument("--local_rank", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    run = read_run_config(options.config)
    if options.plan:
        print(
            describe(run, options.devices or launch.world_size(), options.mfu, options.device_name)
        )
        return 0
    return train(run, launch.start(run.watch.collective_timeout_s))


@dataclass
class Run:
    """What the steps of a run share."""

    config: RunConfig
    plan: RunPlan
    ranks: Ranks
    folder: Path
    progress: Progress
    journal: Journal
    writer: Writer
    feed: Feed
    samples: list[HeldOut]
    heartbeat: Heartbeat
    interrupted: Beat | None
    """The last sign of life before this start; None once a step is taken."""
    skip: frozenset[int] = frozenset()
    """Steps that are left out, data and all, since a rollback found them bad."""
    stop_requested: bool = False


@dataclass
class Rollback(Exception):
    """Go back to a checkpoint before `to_step` or earlier, and leave the steps `skip` out."""

    to_step: int
    skip: list[int]


class TooManyBadSteps(Exception):
    """The run is not to go on like this."""


def train(config: RunConfig, ranks: Ranks) -> int:
    """Run every phase that is not finished, then evaluate, export and summarize.

    Returns:
        The exit status: 0, 143 after a SIGTERM (all is saved; run it again), or 3 if the run
        stopped itself because of bad steps.
    """
    while True:
        run, point = prepare(config, ranks)
        try:
            return train_phases(run, point)
        except Rollback as decision:
            run.writer.wait()
            if ranks.is_first:
                checkpoint.roll_back(run.writer.folder, decision.to_step, decision.skip)
            torch.distributed.barrier()
        except TooManyBadSteps as reason:
            run.writer.wait()
            run.journal.event(run.progress.step, "stop", reason=str(reason))
            run.journal.say(f"stopped: {reason}")
            return 3
        finally:
            run.heartbeat.stop()
            run.writer.settle()
            run.journal.close()


def prepare(config: RunConfig, ranks: Ranks) -> tuple[Run, ResumePoint | None]:
    """Find where the run stands on disk, and work out what is left of it."""
    folder = Path(config.output)
    checkpoints = folder / "checkpoints"
    if ranks.is_first:
        checkpoints.mkdir(parents=True, exist_ok=True)
        checkpoint.sweep(checkpoints)
    torch.distributed.barrier()
    point = checkpoint.resume_point(checkpoints, ranks)
    progress = point.progress if point else Progress()
    interrupted = last_beat(folder / "heartbeats")
    torch.distributed.barrier()  # no rank beats before all have looked
    plan = plan_run(config, ranks.world_size, progress.stream)
    run = Run(
        config,
        plan,
        ranks,
        folder,
        progress,
        Journal(
            folder,
            config.logging,
            plan.steps,
            progress.step if point else -1,  # nothing of a run without a checkpoint is kept
            ranks.is_first,
            config.name,
        ),
        Writer(checkpoints, ranks, config.checkpoints.keep, config.checkpoints.asynchronous),
        Feed(plan, ranks),
        held_out(
            config.shards,
            config.tokenizer,
            config.evaluation.tokens_per_bucket,
            config.evaluation.sequence_length or plan.schedule.longest_sequence,
        ),
        Heartbeat(folder / "heartbeats", ranks, config.watch.collective_timeout_s),
        interrupted,
        checkpoint.skipped_steps(checkpoints),
    )
    signal.signal(signal.SIGTERM, lambda *_: setattr(run, "stop_requested", True))
    return run, point


def train_phases(run: Run, point: ResumePoint | None) -> int:
    """Every phase that is not finished, then the end of the run; the exit status."""
    progress = run.progress
    engine: Any = None
    for number, phase in enumerate(run.plan.phases):
        inside = point is not None and point.whole
        if progress.step > phase.end or (progress.step == phase.end and not inside):
            continue
        engine = None  # frees the last phase's optimizer before the next one's is built
        engine = open_phase(run, number, point if inside else None)
        point = None
        if progress.step == 0 and not progress.scored:
            score(run, engine)
        if not train_phase(run, engine, phase):
            return 128 + signal.SIGTERM
        close_phase(run, engine, phase)
    if engine is None:
        run.journal.say(f"{run.config.name}: all steps are taken; writing model and summary")
    finish(run)
    return 0


def open_phase(run: Run, number: int, point: ResumePoint | None) -> Any:
    """A fresh engine over the weights that the phase before left, or the run's first weights;
    with `point`, a checkpoint inside the phase, in the state saved there."""
    config, plan, ranks = run.config, run.plan, run.ranks
    phase = plan.phases[number]
    dtype = torch.bfloat16 if config.precision.weights == "bf16" else torch.float32
    attention = choose_attention(config.backends.attention, ranks.device, dtype)
    if number:
        before = checkpoint.phase_folder(plan.phases[number - 1].name)
        model = saved_model(run.writer.folder / before, attention)
    else:
        model = first_model(config, plan.shape, attention)
    old_rows = model_shape(config).vocab_size
    stage = zero_stage(deepspeed_config(config, 1))
    convert = point is not None and not checkpoint.fits(point, ranks, stage)
    engine = start_engine(
        config, phase.settings, model, plan.accumulation_steps, old_rows, ranks, convert
    )
    if point is None:
        run.journal.event(
            run.progress.step,
            "phase",
            name=phase.name,
            first_step=phase.first,
            steps=phase.steps,
            trained_parameters=trained_parameters(engine.module),
        )
    else:
        checkpoint.load(engine, checkpoint.universal(point, ranks) if convert else point)
        run.journal.event(
            run.progress.step,
            "resume",
            checkpoint=point.path.name,
            seconds=seconds_since_start(),
        )
        run.journal.say(f"continuing after step {run.progress.step} from {point.path}")
    run.progress.world_size, run.progress.zero_stage = ranks.world_size, stage
    return engine


def train_phase(run: Run, engine: Any, phase: PhasePlan) -> bool:
    """Take the phase's remaining steps; False if the run was asked to stop before its end."""
    config, progress, ranks = run.config, run.progress, run.ranks
    watch = LossWatch(config.watch, progress.recent_losses)
    meter = Meter(phase_flops(run.plan.shape, phase.settings), ranks)
    progress.phase = phase.name
    micro_batches = run.feed.steps(progress.step, phase.end)
    while progress.step < phase.end:
        step = progress.step
        if step in run.skip:
            next(micro_batches)
            progress.step += 1
            continue
        waiting = time.monotonic()
        batch = next(micro_batches)
        data_seconds = time.monotonic() - waiting
        rate = learning_rate(phase.settings.learning_rate, step - phase.first, phase.steps)
        result = take_step(run, engine, batch, step, rate, watch.limit())
        progress.step += 1
        run.heartbeat.beat(progress.step)
        if run.interrupted is not None:
            tell_recovery(run, run.interrupted, step)
            run.interrupted = None
        meter.add(result, batch, data_seconds)
        for bucket, tokens in zip(run.plan.bucket_names, result.drawn, strict=True):
            progress.drawn_tokens[bucket] = progress.drawn_tokens.get(bucket, 0) + tokens
        if result.applied:
            watch.add(result.loss)
            progress.recent_losses = watch.recent
        else:
            progress.bad_steps.append(step)
            report_bad_step(run, batch, result, step, watch.limit())
            decide_on_bad_step(run, step)
        if progress.step % config.logging.every_steps == 0 or progress.step == phase.end:
            norm = float(engine.get_global_grad_norm() or 0.0)
            run.journal.step(
                {
                    "step": progress.step,
                    "phase": phase.name,
                    "tokens": progress.step * run.plan.batch_tokens,
                    "learning_rate": rate,
                    "gradient_norm": norm if math.isfinite(norm) else None,
                    "drawn": dict(progress.drawn_tokens),
                    **meter.read(run.plan.bucket_names),
                }
            )
        every = config.evaluation.every_steps
        if every and progress.step % every == 0 and progress.step < run.plan.steps:
            score(run, engine)
            meter.restart()
        every = config.checkpoints.every_steps
        if result.stop or (every and progress.step % every == 0 and progress.step < phase.end):
            progress.stream = run.plan.stream.checkpoint(progress.step)
            run.writer.save(engine, progress)
            meter.restart()
        if result.stop:
            run.writer.wait()
            run.journal.event(progress.step, "stop", reason="SIGTERM")
            run.journal.say(f"stopped at step {progress.step}; the same command continues")
            return False
    return True


def tell_recovery(run: Run, before: Beat, step: int) -> None:
    """Record how long it took from the last step before an interruption to `step`, the next."""
    now = last_beat(run.folder / "heartbeats")
    away = now.at - before.at if now else 0.0
    started = seconds_since_start()
    again = max(0, before.step - step)
    run.journal.event(
        step,
        "recovery",
        seconds_since_last_step=away,
        seconds_since_start=started,
        steps_again=again,
    )
    run.journal.say(
        f"recovered: a step is taken {away:.1f} s after the last one before the interruption "
        f"({started:.1f} s after this process began); {again} steps are taken again"
    )


def seconds_since_start() -> float:
    """Age of this process, imports included."""
    return time.time() - float(psutil.Process().create_time())


def take_step(
    run: Run, engine: Any, batch: list[MicroBatch], step: int, rate: float, spike_limit: float
) -> StepResult:
    """One optimizer step: forward and backward over this rank's micro-batches, then the update.

    The loss is the mean over all predicted tokens of the global batch, whatever the split into
    ranks and micro-batches.
    """
    device, world_size = run.ranks.device, run.ranks.world_size
    torch.manual_seed(
        hash((run.config.seed, step, run.ranks.rank))
    )  # dropout, if the model has any
    for group in engine.optimizer.param_groups:
        group["lr"] = rate
    # Rows: tokens to predict, tokens; both are known before anything is computed.
    counts = np.sum([(part.predicted, part.drawn) for part in batch], axis=0)
    shared = torch.from_numpy(counts.astype(np.float64)).to(device)
    torch.distributed.all_reduce(shared)
    predicted = shared[0].sum()
    # DeepSpeed averages gradients over ranks, so a rank's share is multiplied by their number.
    scale = (world_size / predicted).float()
    sums = torch.zeros(counts.shape[1] + 1, dtype=torch.float64, device=device)
    nats = sums[:-1]
    last = len(batch) - 1
    for number, part in enumerate(batch):
        losses = engine(part.inputs, part.positions, part.labels, part.documents, scale=scale)
        part.add_to(nats, losses.detach())
        loss = losses.sum()
        if number == last:
            sums[-1] = float(run.stop_requested)
            torch.distributed.all_reduce(sums)
            loss = loss * poison(nats.sum() / predicted, spike_limit).float()
        with adding_in_place(0 < number < last):
            engine.backward(loss, scale_wrt_gas=False)
        engine.step()
    nats_of_buckets = nats.tolist()
    predicted_of_buckets, drawn = shared.long().tolist()
    return StepResult(
        loss=sum(nats_of_buckets) / sum(predicted_of_buckets),
        nats=nats_of_buckets,
        predicted=predicted_of_buckets,
        drawn=drawn,
        applied=engine.was_step_applied(),
        stop=bool(sums[-1] > 0),
    )


def report_bad_step(
    run: Run, batch: list[MicroBatch], result: StepResult, step: int, limit: float
) -> None:
    """Say which documents were in a step whose update was left out; stop if there are too many."""
    try:
        names = run.feed.documents(batch)
    except UserError as reason:  # shards made elsewhere may have no lineage; training goes on
        names = [f"unknown: {reason}"]
    gathered: list[Any] = [None] * run.ranks.world_size
    torch.distributed.all_gather_object(gathered, names)
    documents = sorted({name for part in gathered for name in part})
    run.journal.event(
        step + 1, "bad-step", loss=str(result.loss), limit=str(limit), documents=documents
    )
    run.journal.say(
        f"step {step + 1}: loss {result.loss:.3f} (limit {limit:.3f}) or a gradient is not sound; "
        f"its update is left out; {len(documents)} documents were in it (metrics.jsonl names them)"
    )


def decide_on_bad_step(run: Run, step: int) -> None:
    """Go on without the update, or do as `watch.on_bad_step` says.

    Raises:
        Rollback: go back.
        TooManyBadSteps: stop.
    """
    watch = run.config.watch
    bad = sorted({*run.progress.bad_steps, *run.skip})
    if watch.on_bad_step == "stop":
        raise TooManyBadSteps(f"step {step + 1} is not sound, and watch.on_bad_step is stop")
    if len(bad) >= watch.most_bad_steps:
        raise TooManyBadSteps(
            f"{len(bad)} steps were not sound (watch.most_bad_steps); look at the learning rate, "
            "and in metrics.jsonl at the documents of these steps"
        )
    if watch.on_bad_step == "rollback":
        back = max(0, step + 1 - watch.rollback_steps)
        run.journal.event(step + 1, "rollback", to_step=back)
        raise Rollback(back, [*run.skip, *range(back, step + 1)])


def score(run: Run, engine: Any) -> None:
    """Evaluate on the held-out samples and record it."""
    scores = evaluate(engine, run.samples, run.ranks, run.plan.micro_batch_tokens)
    run.progress.scored = True
    run.journal.evaluation(
        run.progress.step, {bucket: asdict(value) for bucket, value in scores.items()}
    )


def close_phase(run: Run, engine: Any, phase: PhasePlan) -> None:
    """Leave the phase's weights on disk, whole, before anything of the next phase begins."""
    run.writer.wait()
    if run.progress.step == run.plan.steps:
        score(run, engine)
    target = run.writer.folder / checkpoint.phase_folder(phase.name)
    weights = full_weights(engine, weights_before(run, phase) if run.ranks.is_first else None)
    if weights is not None:
        save_weights(target, engine.module.causal_lm.config, weights)
        run.progress.stream = run.plan.stream.checkpoint(run.progress.step)
        checkpoint.write_json(target / checkpoint.PROGRESS, asdict(run.progress))
        checkpoint.write_marker(target)
    torch.distributed.barrier()


def weights_before(run: Run, phase: PhasePlan) -> dict[str, torch.Tensor]:
    """The fp32 weights that a phase began with, by name; none if it trains every one."""
    if phase.settings.train == "all":
        return {}
    number = run.plan.phases.index(phase)
    if number:
        before = checkpoint.phase_folder(run.plan.phases[number - 1].name)
        return saved_weights(run.writer.folder / before)
    weights: dict[str, torch.Tensor] = first_model(run.config, run.plan.shape, "sdpa").state_dict()
    return weights


def finish(run: Run) -> None:
    """Export the model and write the summary, from what the phases left."""
    if run.ranks.is_first:
        export(run.config, run.plan.phases[-1].name, run.folder / "model")
        records = run.journal.records()
        weights, head = matrix_weights(run.plan.shape)
        keys = ("name", "first_step", "steps", "trained_parameters")
        events = {r["name"]: r for r in records if r.get("event") == "phase"}
        phases = [{key: event[key] for key in keys} for event in events.values()]
        write_summary(
            run.folder,
            records,
            {
                "name": run.config.name,
                "steps": run.plan.steps,
                "tokens": run.plan.stream.tokens_before(run.plan.steps),
                "seconds": sum(r["seconds"] * r["steps"] for r in records if r["kind"] == "step"),
                "parameters": weights + head * (1 if run.plan.shape.tie_word_embeddings else 2),
                "planned_tokens": run.plan.planned_tokens,
                "drawn_tokens": run.progress.drawn_tokens,
                "phases": phases,
                "bad_steps": run.progress.bad_steps,
            },
        )
        show_scores(run, records)
    torch.distributed.barrier()


def show_scores(run: Run, records: list[dict[str, Any]]) -> None:
    """Print held-out perplexity and bits per character per bucket, before and after."""
    scores = [record["buckets"] for record in records if record["kind"] == "evaluation"]
    before, after = scores[0], scores[-1]
    width = max(map(len, after))
    run.journal.say(f"{'held-out':{width}}  {'perplexity':>21}  {'bits per character':>18}")
    for bucket in after:
        old, new = before[bucket], after[bucket]
        run.journal.say(
            f"{bucket:{width}}  {old['perplexity']:>9,.1f} → {new['perplexity']:>9,.1f}  "
            f"{old['bits_per_character']:>8.3f} → {new['bits_per_character']:>7.3f}"
        )


if __name__ == "__main__":
    status = main()
    launch.stop()
    sys.exit(status)
