"""The run's sequences as a pure function: step s ↦ the global batch, whoever asks and when.

`Stream(schedule, buckets)` plans the mixture, makes the table of counts, and then answers for any
step without having drawn the steps before: which bucket each sequence comes from, and where in
that bucket's drawn tape (`train.tapes`) it begins. There is no index, no state, and no word of
ranks, micro-batches or workers: a rank takes its share of the batch (`share`). To resume is to
know the step.

A run whose schedule or shards change on the way is a list of `Segment`s. Every bucket goes on
from where it stands, so nothing is drawn twice before an epoch ends and nothing is skipped.
`checkpoint(step)` is what a checkpoint must hold, as JSON; `Stream.resumed` goes on from it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from corpus.settings import UserError
from train.buckets import Bucket
from train.course import Course, Leg, Segment
from train.permutation import derive_key, permutation, permute
from train.schedule import Schedule
from train.tapes import Ints, bucket_key, epoch_of, spans

Int32s = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Draws:
    """Sequences of one step, in the order of the global batch."""

    step: int
    length: int
    """Tokens of every sequence."""
    bucket: Int32s
    """int32 [n]: index into `Stream.buckets`."""
    start: Ints
    """int64 [n]: token of the bucket's drawn tape at which the sequence begins."""

    def __len__(self) -> int:
        return len(self.bucket)

    def __getitem__(self, rows: slice) -> "Draws":
        return replace(self, bucket=self.bucket[rows], start=self.start[rows])


@dataclass(frozen=True)
class Draw:
    """One sequence of the run."""

    step: int
    bucket: str
    epoch: int
    """Which reading of the bucket's tokens its first token belongs to, from 0."""
    index: int
    """How many sequences were drawn of this bucket before."""
    start: int
    """Token of the bucket's drawn tape at which it begins."""
    length: int


class Stream:
    """The sequences of a run.

    Attributes:
        buckets: tuple of `Bucket`, by name; an index into it is a sequence's bucket.
        plan: of the last segment's schedule.
        steps: global batches of the whole run.
        segments: the run's history, the last one ruling to its end.
        legs: stretches of steps of equal kind, in order.
        spans: int64 [spans, 9] per bucket: its drawn tape, see `train.tapes.spans`.
        lattices: int64 [lattices, 3] per bucket: how documents are packed, see `train.packing`.
        fingerprint: hex; equal where and only where the same sequences will be drawn.
    """

    def __init__(
        self,
        schedule: Schedule,
        buckets: Sequence[Bucket],
        *,
        seed: int | None = None,
        batch_tokens: int | None = None,
        history: Sequence[Segment] = (),
        from_step: int = 0,
    ) -> None:
        """Plan the run; takes milliseconds.

        `seed` and `batch_tokens` override the schedule's. With a `history`, `schedule` and
        `buckets` rule from step `from_step` on.

        Raises:
            UserError: the schedule cannot be drawn from these buckets, or the shards are not
                those of the history with others added at the end.
        """
        self.buckets = tuple(sorted(buckets, key=lambda bucket: bucket.name))
        self.seed = schedule.seed if seed is None else seed
        size = batch_tokens or schedule.batch_tokens
        last = Segment(from_step, schedule, self.buckets, size)
        self.segments = (*(s for s in history if s.step < from_step), last)
        course = Course(self.buckets)
        for number, segment in enumerate(self.segments):
            following = self.segments[number + 1 : number + 2]
            course.follow(segment, until=following[0].step if following else None)
        self.plan = course.plan
        self.legs = tuple(course.legs)
        self.steps = self.legs[-1].end
        self.spans = [
            spans(bucket_key(self.seed, bucket.name), states)
            for bucket, states in zip(self.buckets, course.tape_states, strict=True)
        ]
        self.lattices = [np.array(rows, np.int64) for rows in course.lattices]
        self._order_key = bucket_key(self.seed, "order of batches")
        self._first_steps = np.array([leg.step for leg in self.legs], np.int64)
        self._first_sequences = np.cumsum([0] + [leg.steps * leg.sequences for leg in self.legs])
        self.fingerprint = self._fingerprint()

    @classmethod
    def resumed(
        cls,
        checkpoint: Mapping[str, Any],
        schedule: Schedule,
        buckets: Sequence[Bucket],
        *,
        seed: int | None = None,
        batch_tokens: int | None = None,
    ) -> "Stream":
        """The stream that goes on at `checkpoint["step"]`.

        If schedule, shards and batch are those of the checkpoint, it is the same stream;
        otherwise they rule from that step on.

        Raises:
            UserError: see `__init__`; or the seed is another.
        """
        history = [Segment.from_json(entry) for entry in checkpoint["segments"]]
        own_seed = schedule.seed if seed is None else seed
        if own_seed != checkpoint["seed"]:
            raise UserError(
                f"seed: the run was begun with {checkpoint['seed']}, this is {own_seed}; the order "
                "of the data hangs on it: keep it, or begin a new run"
            )
        step, size = int(checkpoint["step"]), batch_tokens or schedule.batch_tokens
        ordered = tuple(sorted(buckets, key=lambda bucket: bucket.name))
        same = Segment(history[-1].step, schedule, ordered, size) == history[-1]
        stream = cls(
            schedule,
            buckets,
            seed=own_seed,
            batch_tokens=size,
            history=history,
            from_step=history[-1].step if same else step,
        )
        found = stream.cursors(step)
        moved = [name for name, at in checkpoint["cursors"].items() if found.get(name) != at]
        if moved:
            raise UserError(
                f"the checkpoint's place in bucket {moved[0]} is token "
                f"{checkpoint['cursors'][moved[0]]:,}, worked out anew it is "
                f"{found.get(moved[0], 0):,}: it was written by another version of this program"
            )
        return stream

    def batch(self, step: int) -> Draws:
        """The global batch of a step, in order.

        Raises:
            IndexError: the run has no such step.
        """
        leg = self.leg(step)
        block = leg.block + step - leg.step
        before, after = leg.counts.before(block), leg.counts.before(block + 1)
        per_bucket = after - before
        buckets = np.repeat(np.arange(len(self.buckets), dtype=np.int32), per_bucket)
        firsts = np.cumsum(per_bucket) - per_bucket
        index = np.arange(leg.sequences) - np.repeat(firsts - before, per_bucket)
        starts = leg.origin[buckets] + index * leg.length
        order = permutation(leg.sequences, self._order_key, step)
        return Draws(step, leg.length, buckets[order], starts[order])

    def share(self, step: int, rank: int, ranks: int) -> Draws:
        """What rank `rank` of `ranks` draws in a step: a contiguous part of the global batch.

        Parts differ by at most one sequence; they are equal if `ranks` divides the batch.
        """
        draws = self.batch(step)
        return draws[len(draws) * rank // ranks : len(draws) * (rank + 1) // ranks]

    def draw(self, number: int) -> Draw:
        """Sequence `number` of the run, in the order of the global batches, in O(log steps).

        Raises:
            IndexError: the run has no such sequence.
        """
        if not 0 <= number < self._first_sequences[-1]:
            raise IndexError(
                f"the run has {self._first_sequences[-1]} sequences; there is no number {number}"
            )
        place_of_leg = int(np.searchsorted(self._first_sequences, number, "right")) - 1
        leg = self.legs[place_of_leg]
        step, place = divmod(number - int(self._first_sequences[place_of_leg]), leg.sequences)
        step += leg.step
        block = leg.block + step - leg.step
        before, after = leg.counts.before(block), leg.counts.before(block + 1)
        slot = permute(place, leg.sequences, np.uint64(derive_key(self._order_key, step)))
        ends = np.cumsum(after - before)
        bucket = int(np.searchsorted(ends, slot, "right"))
        index = int(after[bucket] - (ends[bucket] - slot))
        start = int(leg.origin[bucket]) + index * leg.length
        epoch = epoch_of(start, self.spans[bucket])
        return Draw(step, self.buckets[bucket].name, epoch, index, start, leg.length)

    def leg(self, step: int) -> Leg:
        """The leg that a step belongs to.

        Raises:
            IndexError: the run has no such step.
        """
        if not 0 <= step < self.steps:
            raise IndexError(f"the run has {self.steps} steps; there is no step {step}")
        return self.legs[int(np.searchsorted(self._first_steps, step, "right")) - 1]

    def tokens_before(self, step: int) -> int:
        """Tokens that the run has drawn before `step` (0…`steps`)."""
        if step == self.steps:
            last = self.legs[-1]
            return last.tokens + last.steps * last.sequences * last.length
        leg = self.leg(step)
        return leg.tokens + (step - leg.step) * leg.sequences * leg.length

    def step_after(self, tokens: int) -> int:
        """The first step (0…`steps`) before which the run has drawn at least `tokens`."""
        for leg in self.legs:
            size = leg.sequences * leg.length
            if tokens <= leg.tokens + leg.steps * size:
                return leg.step + max(0, -(-(tokens - leg.tokens) // size))
        return self.steps

    def cursors(self, step: int) -> dict[str, int]:
        """Bucket → where in its drawn tape the next sequence begins before `step` (0…`steps`)."""
        leg = self.legs[-1] if step == self.steps else self.leg(step)
        found = leg.cursors(step)
        return {b.name: int(at) for b, at in zip(self.buckets, found, strict=True)}

    def checkpoint(self, step: int) -> dict[str, Any]:
        """What a checkpoint before `step` holds of the data: a JSON object for `resumed`."""
        return {
            "step": step,
            "seed": self.seed,
            "fingerprint": self.fingerprint,
            "segments": [segment.to_json() for segment in self.segments if segment.step <= step],
            "cursors": self.cursors(step),
        }

    def _fingerprint(self) -> str:
        facts = [[leg.step, leg.steps, leg.length, leg.sequences] for leg in self.legs]
        text = json.dumps(
            [self.seed, facts, [rows.tolist() for rows in (*self.spans, *self.lattices)]]
        )
        digest = hashlib.sha256(text.encode())
        for leg in self.legs:
            digest.update(leg.origin.tobytes())
            digest.update(leg.counts.digest())
        for bucket in self.buckets:
            digest.update(f"{bucket.name} {bucket.digest}".encode())
        return digest.hexdigest()[:32]
