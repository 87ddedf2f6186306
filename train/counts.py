"""How many sequences of each bucket every block (global batch) holds: whole numbers that follow
weights which move.

Let W_i(t) be the integral of bucket i's weight over the first t blocks, in sequences. The counts
C_i(t) must be whole, never fall, add up to all sequences of t blocks, and stay within one sequence
of W_i(t). Ask for |C_i(t) - W_i(t)| <= 1 - margin: then sequence j of bucket i is a unit job that
may start when W_i reaches j - 1 + margin and is due when W_i reaches j - margin, and a block is a
slot for N jobs. Taking what is due in this block first, and of what may come that which is due
soonest, finds a schedule wherever there is one (Horn 1974), and with k buckets there is one for a
margin of 1 / (2k - 2), whatever the weights do (Tijdeman 1980, the chairman assignment problem;
he also shows that no larger margin is always possible). Where a larger one is possible it is
taken. Giving the rest to the largest deficits, as one would think of first, looks at no due times
and can fail.

A table keeps, per block and bucket, by how much the count exceeds the rounded-down integral: one
byte, made once in milliseconds.
"""

# numba infers the kernels' types from their arguments; docstrings say them.
# mypy: allow-untyped-defs

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SHAPES = ("linear", "cosine", "step")
# Integrals this close to a whole number count as that number: sums of 10^9 sequences carry
# rounding errors of 10^-7, and no deviation may reach 1 by them.
_NEAR = 1e-6
# Larger margins that are tried before the one that always works.
_MARGINS = (0.3, 0.2, 0.1)


@dataclass(frozen=True, eq=False)
class Stretch:
    """Blocks over which the weights move along one ramp, or a part of it."""

    blocks: int
    start: float
    """Where on its ramp the stretch begins, 0…1; it ends at 1."""
    weights: Floats
    """float64 [2, buckets], at the ramp's start (0) and end (1)."""
    shape: str = "linear"
    treads: int = 2
    """Of `step`."""


class BlockCounts:
    """The counts of a run of blocks of `sequences` sequences each.

    Attributes:
        blocks: number of blocks.
        max_deviation: the largest |C_i(t) - W_i(t)| of any bucket after any block, in sequences.
    """

    def __init__(
        self, stretches: Sequence[Stretch], sequences: int, carry: Floats | None = None
    ) -> None:
        """`carry`: float64 [buckets], W - C in sequences before the first block; it sums to 0."""
        buckets = stretches[0].weights.shape[1]
        self.sequences = sequences
        self.blocks = sum(stretch.blocks for stretch in stretches)
        starts = np.cumsum([0] + [stretch.blocks for stretch in stretches]).astype(np.int64)
        ramps = np.array(
            [
                (s.start, s.blocks / (1.0 - s.start), SHAPES.index(s.shape), s.treads)
                for s in stretches
            ],
            np.float64,
        )
        weights = np.stack([stretch.weights for stretch in stretches])
        offsets = np.zeros((len(stretches) + 1, buckets))
        if carry is not None:
            offsets[0] = carry
        self._ramp = (starts, ramps, weights, offsets, float(sequences))
        self._above = np.zeros((self.blocks + 1, buckets), np.int8)
        drawn = max(2, int(np.count_nonzero(weights.max(axis=(0, 1)))))
        always = 1.0 / (2 * drawn - 2) - _NEAR
        for margin in (*(margin for margin in _MARGINS if margin > always), always):
            worst = float(_fill(self._above, margin, margin == always, *self._ramp))
            if worst <= 1.0 - margin + _NEAR:
                break
        self.max_deviation = worst

    def before(self, block: int) -> Ints:
        """int64 [buckets]: sequences drawn of each bucket before block number `block`."""
        counts = np.empty(self._above.shape[1], np.int64)
        _counts_before(block, self._above, counts, *self._ramp)
        return counts

    def digest(self) -> bytes:
        """32 bytes that differ where the counts differ."""
        starts, ramps, weights, offsets, sequences = self._ramp
        digest = hashlib.sha256(f"{sequences}".encode())
        for array in (self._above, starts, ramps, weights, offsets):
            digest.update(array.tobytes())
        return digest.digest()

    def scheduled(self, block: int) -> Floats:
        """float64 [buckets]: W before block number `block`, in sequences."""
        integrals = np.empty(self._above.shape[1])
        _integrals(block, integrals, *self._ramp)
        return integrals


@numba.njit(cache=True)
def _sine_of_half_turns(turn: float) -> float:
    """sin(pi * turn) for turn in 0…1, from additions and products alone: libraries differ."""
    x = np.pi * min(turn, 1.0 - turn)
    square, term, total = x * x, x, x
    for order in range(2, 26, 2):
        term *= -square / (order * (order + 1))
        total += term
    return total


@numba.njit(cache=True)
def _ramp_integral(at: float, shape: int, treads: int) -> float:
    """The integral from 0 to `at` of a ramp that rises from 0 to 1 over 0…1."""
    if shape == 0:
        return at * at / 2.0
    if shape == 1:
        return at / 2.0 - _sine_of_half_turns(at) / (2.0 * np.pi)
    tread = min(int(at * treads), treads - 1)
    below = tread * (tread - 1) / 2.0 / (treads * (treads - 1.0))
    return below + (at - tread / treads) * tread / (treads - 1.0)


@numba.njit(cache=True)
def _progress(block, starts, ramps):
    """Where `block` lies: (stretch, how far the ramp has run in it, how far it has risen)."""
    stretch = 0
    while stretch + 1 < len(ramps) and block > starts[stretch + 1]:
        stretch += 1
    return _progress_in(stretch, block, starts, ramps)


@numba.njit(cache=True)
def _progress_in(stretch, block, starts, ramps):
    first, scale = ramps[stretch, 0], ramps[stretch, 1]
    at = min(first + (block - starts[stretch]) / scale, 1.0)
    shape, treads = int(ramps[stretch, 2]), int(ramps[stretch, 3])
    risen = _ramp_integral(at, shape, treads) - _ramp_integral(first, shape, treads)
    return stretch, (at - first) * scale, risen * scale


@numba.njit(cache=True)
def _integral(bucket, progress, weights, offsets, sequences):
    """W of one bucket where `progress` says."""
    stretch, run, risen = progress
    low, high = weights[stretch, 0, bucket], weights[stretch, 1, bucket]
    return offsets[stretch, bucket] + sequences * (low * run + (high - low) * risen)


@numba.njit(cache=True)
def _set_offsets(starts, ramps, weights, offsets, sequences):
    """W of every bucket where each stretch begins, from the first row on."""
    for stretch in range(len(ramps)):
        progress = _progress_in(stretch, starts[stretch + 1], starts, ramps)
        for bucket in range(offsets.shape[1]):
            offsets[stretch + 1, bucket] = _integral(bucket, progress, weights, offsets, sequences)


@numba.njit(cache=True)
def _integrals(block, found, starts, ramps, weights, offsets, sequences):
    """W of every bucket before `block`, into `found`."""
    progress = _progress(block, starts, ramps)
    for bucket in range(len(found)):
        found[bucket] = _integral(bucket, progress, weights, offsets, sequences)


@numba.njit(cache=True)
def _counts_before(block, above, counts, starts, ramps, weights, offsets, sequences):
    progress = _progress(block, starts, ramps)
    for bucket in range(len(counts)):
        scheduled = _integral(bucket, progress, weights, offsets, sequences)
        counts[bucket] = int(np.floor(scheduled + _NEAR)) + above[block, bucket]


@numba.njit(cache=True)
def _due(level, after, blocks, bucket, starts, ramps, weights, offsets, sequences):
    """The first block > `after` at whose end W of the bucket is at `level`; blocks + 1: never."""
    low, step = after, 1
    while True:
        high = min(low + step, blocks)
        progress = _progress(high, starts, ramps)
        if _integral(bucket, progress, weights, offsets, sequences) + _NEAR >= level:
            break
        if high == blocks:
            return blocks + 1
        low, step = high, step * 2
    while high - low > 1:
        middle = (low + high) // 2
        progress = _progress(middle, starts, ramps)
        if _integral(bucket, progress, weights, offsets, sequences) + _NEAR >= level:
            high = middle
        else:
            low = middle
    return high


@numba.njit(cache=True)
def _fill(above, margin, insist, starts, ramps, weights, offsets, sequences):
    """Fill the table; the largest deviation found, or infinity where `margin` is too much.

    With `insist` it is filled whatever the deviation.
    """
    blocks, buckets = above.shape[0] - 1, above.shape[1]
    counts = np.zeros(buckets, np.int64)
    integrals, following = np.empty(buckets), np.empty(buckets)
    due = np.zeros(buckets, np.int64)
    due_job = np.full(buckets, -1, np.int64)
    urgency = np.empty(buckets)
    candidates = np.empty(buckets, np.int64)
    worst = 0.0
    _set_offsets(starts, ramps, weights, offsets, sequences)
    _integrals(1, following, starts, ramps, weights, offsets, sequences)
    for bucket in range(buckets):
        above[0, bucket] = -int(np.floor(offsets[0, bucket] + _NEAR))
    for block in range(1, blocks + 1):
        integrals, following = following, integrals
        if block < blocks:
            _integrals(block + 1, following, starts, ramps, weights, offsets, sequences)
        free = int(sequences) * block
        for bucket in range(buckets):
            counts[bucket] = max(counts[bucket], int(np.floor(integrals[bucket] + margin)))
            free -= counts[bucket]
        waiting = 0
        for bucket in range(buckets):
            if free <= 0 or integrals[bucket] - counts[bucket] < margin:
                continue
            job = counts[bucket] + 1
            if block < blocks and following[bucket] + margin >= job:
                soonest = block + 1
            else:
                if due_job[bucket] != job:
                    due_job[bucket] = job
                    due[bucket] = _due(
                        job - margin,
                        block,
                        blocks,
                        bucket,
                        starts,
                        ramps,
                        weights,
                        offsets,
                        sequences,
                    )
                soonest = due[bucket]
            # Of those due in the same block, the one furthest behind first.
            urgency[bucket] = soonest + 0.25 * (job - integrals[bucket])
            candidates[waiting] = bucket
            waiting += 1
        if (free < 0 or free > waiting) and not insist:
            return np.inf
        if free > 0:
            _take_most_urgent(candidates[:waiting], urgency, free, counts)
        for _ in range(free - waiting):
            counts[np.argmax(integrals - counts)] += 1
        if free < 0:
            _let_wait(
                -free,
                block,
                above,
                counts,
                integrals,
                starts,
                ramps,
                weights,
                offsets,
                sequences,
            )
        for bucket in range(buckets):
            above[block, bucket] = counts[bucket] - int(np.floor(integrals[bucket] + _NEAR))
            worst = max(worst, abs(integrals[bucket] - counts[bucket]))
    return worst


@numba.njit(cache=True)
def _take_most_urgent(candidates, urgency, free, counts):
    """One more sequence for the `free` candidates of least urgency value, lower buckets first."""
    if len(candidates) > 64:
        for place in np.argsort(urgency[candidates], kind="mergesort")[:free]:
            counts[candidates[place]] += 1
        return
    for place in range(1, len(candidates)):  # insertion sort: few candidates, and stable
        bucket = candidates[place]
        before = place - 1
        while before >= 0 and urgency[candidates[before]] > urgency[bucket]:
            candidates[before + 1] = candidates[before]
            before -= 1
        candidates[before + 1] = bucket
    for place in range(min(free, len(candidates))):
        counts[candidates[place]] += 1


@numba.njit(cache=True)
def _let_wait(excess, block, above, counts, integrals, starts, ramps, weights, offsets, sequences):
    """Take `excess` sequences back from the buckets that are least behind.

    Only after a change of sequence length or schedule can more be due than a block holds.
    """
    before = np.empty(len(counts), np.int64)
    _counts_before(block - 1, above, before, starts, ramps, weights, offsets, sequences)
    for _ in range(excess):
        least, behind = -1, np.inf
        for bucket in range(len(counts)):
            if counts[bucket] > before[bucket] and integrals[bucket] - counts[bucket] < behind:
                least, behind = bucket, integrals[bucket] - counts[bucket]
        counts[least] -= 1
