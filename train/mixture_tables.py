"""What a mixture comes to, as tables: stages, buckets, ratios asked and got, warnings, edits."""

import numpy as np
from rich.console import Console
from rich.table import Table

from train.counts import Floats
from train.ratios import Constraint
from train.schedule import Line
from train.stream import Stream

# From here on a bucket's repeated readings are worth a word: Muennighoff et al. 2023 find up to
# four epochs nearly as good as fresh data.
_MANY_EPOCHS = 4.0


def print_plan(stream: Stream, console: Console) -> None:
    """Print everything that there is to know of a plan."""
    console.print(_stages_table(stream))
    console.print(_buckets_table(stream))
    if stream.plan.constraints:
        console.print(_ratios_table(stream))
    for warning in warnings(stream):
        console.print(f"warning: {warning}", highlight=False)


def drawn_tokens(stream: Stream) -> Floats:
    """float64 [stages, buckets]: tokens that the run will really draw, whole sequences all."""
    names = [stage.name for stage in stream.plan.schedule.stages]
    drawn = np.zeros((len(names), len(stream.buckets)))
    for leg in stream.legs:
        if leg.stage.name in names:
            drawn[names.index(leg.stage.name)] += leg.cursors(leg.end) - leg.cursors(leg.step)
    return drawn


def warnings(stream: Stream) -> list[str]:
    """What may not be what the schedule's author had in mind, one sentence each."""
    plan, found = stream.plan, []
    drawn = plan.stage_tokens.sum(axis=0)
    for bucket, epochs, tokens in zip(plan.buckets, plan.epochs, drawn, strict=True):
        if tokens == 0:
            found.append(f"{bucket.name}: nothing of its {bucket.tokens:,} tokens is ever drawn")
        elif epochs > _MANY_EPOCHS:
            found.append(
                f"{bucket.name}: its {bucket.tokens:,} tokens are read {epochs:.1f} times "
                f"({tokens / drawn.sum():.1%} of the run)"
            )
    for start, end in plan.constraints:
        bound = (start.labels != start.UNBOUND) | (end.labels != end.UNBOUND)
        unbound = start.inside & ~bound
        weights = plan.weights[start.line.stage].mean(axis=0)
        if weights[unbound].sum() > 1e-9:
            names = [b.name for b, free in zip(plan.buckets, unbound, strict=True) if free]
            listed = ", ".join(names[:4]) + (" …" if len(names) > 4 else "")
            found.append(
                f"stage '{plan.schedule.stages[start.line.stage].name}', {start.line.key}: the "
                f"ratio says nothing of {listed}, drawn {weights[unbound].sum():.1%} of the stage; "
                "`other` names them all"
            )
    found.extend(_forced_repeats(stream))
    for leg_tokens, stage in zip(_stage_totals(stream), plan.schedule.stages, strict=True):
        if abs(leg_tokens - stage.tokens) > 0.02 * stage.tokens and len(stream.segments) == 1:
            found.append(
                f"stage '{stage.name}': {stage.tokens:,} tokens come to {leg_tokens:,.0f} in whole "
                "batches"
            )
    return found


def _forced_repeats(stream: Stream) -> list[str]:
    """Ratios that are only reached by reading few tokens many times."""
    plan, found = stream.plan, []
    existing = np.array([bucket.tokens for bucket in plan.buckets])
    for pair in plan.constraints:
        line = pair[0].line
        stage, drawn = plan.schedule.stages[line.stage], plan.stage_tokens[line.stage]
        for name in dict.fromkeys((*pair[0].names, *pair[1].names)):
            inside = np.zeros(len(existing), np.bool_)
            for side in pair:
                if name in side.names:
                    inside |= side.labels == side.names.index(name)
            times = drawn[inside].sum() / existing[inside].sum()
            if times > _MANY_EPOCHS:
                found.append(
                    f"stage '{stage.name}', {line.key}: {name} gets its share only by repeating "
                    f"{existing[inside].sum():,} tokens {times:.1f} times"
                )
    return found


def _stage_totals(stream: Stream) -> list[float]:
    return [float(total) for total in drawn_tokens(stream).sum(axis=1)]


def _stages_table(stream: Stream) -> Table:
    table = Table(
        title=f"{stream.steps:,} steps, {stream.tokens_before(stream.steps):,} tokens",
        title_justify="left",
    )
    for name in ("stage", "steps", "tokens a batch", "sequence", "tokens", "ramp"):
        table.add_column(name, justify="left" if name in ("stage", "ramp") else "right")
    for leg in stream.legs:
        batch = leg.sequences * leg.length
        table.add_row(
            leg.stage.name,
            f"{leg.step:,} – {leg.end - 1:,}",
            f"{leg.sequences:,} × {leg.length:,} = {batch:,}",
            f"{leg.length:,}",
            f"{leg.steps * batch:,}",
            leg.stage.ramp if any(line.ramps for line in _lines(stream, leg.stage.name)) else "–",
        )
    return table


def _lines(stream: Stream, stage: str) -> list[Line]:
    schedule = stream.plan.schedule
    numbers = [n for n, one in enumerate(schedule.stages) if one.name == stage]
    return [line for number in numbers for line in schedule.lines(number)]


def _buckets_table(stream: Stream) -> Table:
    plan, drawn = stream.plan, drawn_tokens(stream)
    table = Table(title="shares of every stage, from its start to its end", title_justify="left")
    table.add_column("bucket", no_wrap=True)
    for stage in plan.schedule.stages:
        table.add_column(stage.name, justify="right")
    for name in ("tokens drawn", "there are", "epochs"):
        table.add_column(name, justify="right")
    for place, bucket in enumerate(stream.buckets):
        shares = [
            _moving(plan.weights[number, 0, place], plan.weights[number, 1, place])
            for number in range(len(plan.schedule.stages))
        ]
        total = drawn[:, place].sum()
        table.add_row(
            bucket.name,
            *shares,
            f"{total:,.0f}",
            f"{bucket.tokens:,}",
            f"{total / bucket.tokens:.2f}",
        )
    return table


def _ratios_table(stream: Stream) -> Table:
    plan, drawn = stream.plan, drawn_tokens(stream)
    table = Table(title="ratios, as shares of what they bind", title_justify="left")
    for name in ("stage", "ratio", "of", "asked", "planned", "drawn"):
        table.add_column(name, justify="left" if name in ("stage", "ratio", "of") else "right")
    for start, end in plan.constraints:
        stage = start.line.stage
        planned = [start.shares_in(plan.weights[stage, 0]), end.shares_in(plan.weights[stage, 1])]
        for name in dict.fromkeys((*start.names, *end.names)):
            asked = [_share(side, side.shares, name) for side in (start, end)]
            got = [_share(side, planned[k], name) for k, side in enumerate((start, end))]
            side = start if name in start.names else end
            whole = _share(side, side.shares_in(drawn[stage]), name)
            table.add_row(
                plan.schedule.stages[stage].name,
                start.line.key,
                name,
                _moving(*asked),
                _moving(*got),
                f"{whole:.2%}",
            )
        table.add_section()
    return table


def _share(constraint: Constraint, shares: Floats, name: str) -> float:
    return float(shares[constraint.names.index(name)]) if name in constraint.names else 0.0


def _moving(start: float, end: float) -> str:
    if abs(start - end) < 5e-5:
        return f"{start:.2%}"
    return f"{start:.2%} → {end:.2%}"


def difference_table(
    before: Stream, after: Stream, name: str, new_name: str, console: Console
) -> None:
    """Print what changes from one stream to another, and from which step on."""
    first = first_difference(before, after)
    if first is None:
        console.print(f"{new_name} draws exactly what {name} draws")
        return
    console.print(
        f"{new_name} draws what {name} draws before step {first:,} "
        f"({after.tokens_before(min(first, after.steps)):,} tokens); from there on it differs"
    )
    table = Table(title="tokens drawn", title_justify="left")
    for column in ("bucket", name, new_name, "difference", "epochs"):
        table.add_column(column, justify="left" if column == "bucket" else "right")
    old, new = drawn_tokens(before).sum(axis=0), drawn_tokens(after).sum(axis=0)
    for bucket, one, other in zip(after.buckets, old, new, strict=True):
        table.add_row(
            bucket.name,
            f"{one:,.0f}",
            f"{other:,.0f}",
            f"{other - one:+,.0f}",
            f"{one / bucket.tokens:.2f} → {other / bucket.tokens:.2f}",
        )
    console.print(table)
    console.print(f"steps: {before.steps:,} → {after.steps:,}")


def first_difference(one: Stream, other: Stream) -> int | None:
    """The first step whose batches differ; None if the two draw the same to the end."""
    if one.fingerprint == other.fingerprint:
        return None
    last = min(one.steps, other.steps)
    for step in range(last):
        a, b = one.leg(step), other.leg(step)
        same_shape = (a.length, a.sequences) == (b.length, b.sequences)
        if not same_shape or not np.array_equal(a.cursors(step + 1), b.cursors(step + 1)):
            return step
    return None if one.steps == other.steps else last
