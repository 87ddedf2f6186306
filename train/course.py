"""The course of a run: its segments and stages laid out in steps, with the counts of each.

A schedule speaks of tokens; a run takes steps of whole batches. A stage ends at the step nearest
to its last token. Consecutive stages of one sequence length share one table of counts, so that a
bucket is never a whole sequence from its integral across them either. What a bucket is ahead or
behind when the sequence length or the schedule changes is carried into the next table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from corpus.settings import UserError
from train.buckets import Bucket
from train.counts import BlockCounts, Floats, Stretch
from train.planner import Plan, plan
from train.schedule import Schedule, Stage
from train.tapes import Ints, TapeState


@dataclass(frozen=True)
class Segment:
    """The run from `step` on, until the next segment's."""

    step: int
    schedule: Schedule
    buckets: tuple[Bucket, ...]
    """By name."""
    batch_tokens: int

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "step": self.step,
            "batch_tokens": self.batch_tokens,
            "schedule": self.schedule.model_dump(mode="json"),
            "buckets": {
                bucket.name: {
                    "tags": dict(bucket.tags),
                    "tokens": bucket.tokens,
                    "shards": bucket.shard_count,
                    "digest": bucket.digest,
                }
                for bucket in self.buckets
            },
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Segment":
        """From what `to_json` gave."""
        buckets = tuple(
            Bucket(name, found["tags"], found["tokens"], found["shards"], found["digest"])
            for name, found in sorted(entry["buckets"].items())
        )
        schedule = Schedule.model_validate(entry["schedule"])
        return cls(int(entry["step"]), schedule, buckets, int(entry["batch_tokens"]))


@dataclass(frozen=True, eq=False)
class Leg:
    """Steps that share a segment, a stage and a sequence length."""

    step: int
    """The first."""
    steps: int
    stage: Stage
    length: int
    """Tokens of a sequence."""
    sequences: int
    """Of a global batch."""
    counts: BlockCounts
    block: int
    """Which block of `counts` the first step is."""
    origin: Ints
    """int64 [buckets]: token of every bucket's drawn tape at which block 0 of `counts` begins."""
    tokens: int
    """Drawn by the run before the first step."""

    @property
    def end(self) -> int:
        """The step after the last."""
        return self.step + self.steps

    def cursors(self, step: int) -> Ints:
        """int64 [buckets]: where every bucket's next sequence begins before `step`."""
        return self.origin + self.counts.before(self.block + step - self.step) * self.length


class Course:
    """Lays segments one after the other.

    Attributes:
        legs: the run so far, in order.
        tape_states: for every bucket, how its tape came to be what it is.
        lattices: for every bucket, (drawn token, sequence length or 0, phase): from which token on
            documents are packed into sequences of which length (`train.packing`).
        plan: of the last segment's schedule.
    """

    plan: Plan

    def __init__(self, buckets: tuple[Bucket, ...]) -> None:
        """`buckets`: those that there are now, by name."""
        self.legs: list[Leg] = []
        self.tape_states: list[list[TapeState]] = [[] for _ in buckets]
        self.lattices: list[list[tuple[int, int, int]]] = [[] for _ in buckets]
        self._packs = False
        self._buckets = buckets
        self._cursors = np.zeros(len(buckets), np.int64)
        self._carry = np.zeros(len(buckets))  # W - C, in tokens
        self._tokens = 0
        self._step = 0
        self._block_tokens = 0
        self._stage_cursors: dict[str, Ints] = {}
        self._reused: dict[str, Ints] = {}  # where a stage that reuses an order stands in it

    def follow(self, segment: Segment, until: int | None) -> None:
        """Lay the segment from where the course stands to step `until`, or to its end.

        Raises:
            UserError: its schedule cannot be drawn, or has no tokens left, or its shards are not
                the first of those that there are now.
        """
        schedule = segment.schedule
        self.plan = plan(schedule, segment.buckets)
        places = self._places(segment)
        weights = np.zeros((*self.plan.weights.shape[:2], len(self._buckets)))
        weights[:, :, places] = self.plan.weights
        self._begin_tapes(segment, places)
        longest = schedule.longest_sequence
        batch = max(1, round(segment.batch_tokens / longest)) * longest
        group: list[tuple[Stage, Stretch]] = []
        for number, (stage, steps, start) in enumerate(self._stages(schedule, batch)):
            if group and not _share_a_table(schedule, group[-1][0], stage):
                self._lay(schedule, group, batch, until)
                group = []
            if steps:
                stretch = Stretch(steps, start, weights[number], stage.ramp, stage.ramp_steps)
                group.append((stage, stretch))
        self._lay(schedule, group, batch, until)

    def _places(self, segment: Segment) -> list[int]:
        now = {bucket.name: place for place, bucket in enumerate(self._buckets)}
        for bucket in segment.buckets:
            if bucket.name not in now or not self._buckets[now[bucket.name]].begins_with(bucket):
                raise UserError(
                    f"bucket {bucket.name}: the run was begun with {bucket.shard_count} shards of "
                    f"{bucket.tokens:,} tokens, and they are not the first of the shards there are "
                    "now; a run can go on only with the shards it began with, and others after them"
                )
        return [now[bucket.name] for bucket in segment.buckets]

    def _begin_tapes(self, segment: Segment, places: list[int]) -> None:
        schedule = segment.schedule
        block = schedule.block_tokens or schedule.longest_sequence
        if schedule.packing == "best-fit":
            block = schedule.packing_window * schedule.longest_sequence
        # The blocks stay as the run began, unless the schedule says a size.
        if not self._block_tokens or schedule.block_tokens or schedule.packing == "best-fit":
            self._block_tokens = block
        for place, bucket in zip(places, segment.buckets, strict=True):
            drawn = int(self._cursors[place])
            state = TapeState(drawn, bucket.tokens, self._block_tokens, self._packs)
            self.tape_states[place].append(state)
        self._packs = self._packs or schedule.packing == "best-fit"

    def _stages(self, schedule: Schedule, batch: int) -> list[tuple[Stage, int, float]]:
        """Every stage with the steps left of it and the share of its ramp that is behind."""
        found, end, step = [], 0, 0
        for stage in schedule.stages:
            begin, end = end, end + stage.tokens
            behind = min(max(0, self._tokens - begin), stage.tokens)
            last = max(step, round((end - self._tokens) / batch))
            if last == step and not behind:
                raise UserError(
                    f"stage '{stage.name}': its {stage.tokens:,} tokens are less than half a batch "
                    f"of {batch:,}"
                )
            found.append((stage, last - step, behind / stage.tokens))
            step = last
        if step == 0:
            raise UserError(
                f"the schedule ends at {schedule.tokens:,} tokens, and the run has drawn "
                f"{self._tokens:,}: nothing is left of it"
            )
        return found

    def _lay(
        self,
        schedule: Schedule,
        group: list[tuple[Stage, Stretch]],
        batch: int,
        until: int | None,
    ) -> None:
        if not group or (until is not None and self._step >= until):
            return
        first = group[0][0]
        length = schedule.length_of(first)
        sequences = batch // length
        counts = BlockCounts([stretch for _, stretch in group], sequences, self._carry / length)
        origin = self._cursors.copy()
        again = first.reuse_order_of is not None
        if again:
            read_again = self._stage_cursors.get(str(first.reuse_order_of), origin)
            origin = self._reused.get(first.name, read_again).copy()
        packed = length if schedule.packing == "best-fit" else 0
        for place, rows in enumerate(self.lattices):
            row = (int(self._cursors[place]), packed, int(origin[place]) % length)
            if not rows or rows[-1][1:] != row[1:]:
                rows.append(row)
        block = 0
        for stage, stretch in group:
            steps = stretch.blocks if until is None else min(stretch.blocks, until - self._step)
            if steps <= 0:
                break
            leg = Leg(
                self._step, steps, stage, length, sequences, counts, block, origin, self._tokens
            )
            self._stage_cursors.setdefault(stage.name, leg.cursors(leg.step))
            self.legs.append(leg)
            self._step += steps
            self._tokens += steps * batch
            block += steps
        reached = origin + counts.before(block) * length
        if again:
            self._reused[first.name] = reached
        self._cursors = np.maximum(self._cursors, reached) if again else reached
        carry: Floats = (counts.scheduled(block) - counts.before(block)) * length
        self._carry = carry


def _share_a_table(schedule: Schedule, one: Stage, other: Stage) -> bool:
    same_length = schedule.length_of(one) == schedule.length_of(other)
    return same_length and one.reuse_order_of is None and other.reuse_order_of is None
