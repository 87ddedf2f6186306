"""From a schedule and the tokens that exist to the weight of every bucket at every stage's ends.

The weights at a stage's end are the I-projection of the prior (the tokens that exist, to the
power 1/temperature) onto the ratios asked for: of all distributions that meet them, the one with
the least Kullback-Leibler divergence from the prior. It is reached by projecting onto one ratio
after the other (iterative proportional fitting; Csiszár 1975 shows the limit). A ratio

    p(A_1) : … : p(A_k) = r_1 : … : r_k      (the r_i sum to 1; U = A_1 ∪ … ∪ A_k)

leaves the share of U itself free, and so its projection scales A_i by r_i M / p(A_i) with
M = prod (p(A_i) / r_i)^r_i and then everything to sum 1: Lagrange's conditions, worked out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from corpus.settings import UserError
from train.buckets import Bucket
from train.ratios import Constraint, constraints
from train.schedule import Schedule

TOLERANCE = 1e-11
"""Largest error of any share within its ratio; asked for is 1e-9."""
_SWEEPS = 2_000
_LIMIT_SWEEPS = 500
_ENOUGH = 1 + 1e-9
_GRID = 2.0**40

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """The weights of a schedule over its buckets, and what follows from them."""

    schedule: Schedule
    buckets: tuple[Bucket, ...]
    weights: Floats
    """float64 [stages, 2, buckets], at each stage's start and end; multiples of 2^-40 that sum to
    exactly 1 over the buckets."""
    constraints: tuple[tuple[Constraint, Constraint], ...]
    """Every line of the schedule, at its stage's start and end."""

    @property
    def stage_tokens(self) -> Floats:
        """float64 [stages, buckets]: tokens to be drawn, as planned. (Every shape of ramp has the
        mean of its ends.)"""
        budgets = np.array([stage.tokens for stage in self.schedule.stages], np.float64)
        mean: Floats = self.weights.mean(axis=1)
        return budgets[:, None] * mean

    @property
    def epochs(self) -> Floats:
        """float64 [buckets]: how often each bucket is read in the whole run."""
        existing = np.array([bucket.tokens for bucket in self.buckets], np.float64)
        drawn: Floats = self.stage_tokens.sum(axis=0)
        return drawn / existing


def plan(schedule: Schedule, buckets: Sequence[Bucket]) -> Plan:
    """The weights that meet the schedule's ratios and are closest to the tokens that exist.

    Raises:
        UserError: a ratio names what does not exist, the ratios of a stage contradict each other,
            or a bucket would be read more often than `max_epochs` allows.
    """
    _check_names(schedule, buckets)
    existing = np.array([bucket.tokens for bucket in buckets], np.float64)
    prior = existing ** (1.0 / schedule.temperature)
    pairs = [
        [constraints(line, schedule, buckets) for line in schedule.lines(number)]
        for number in range(len(schedule.stages))
    ]
    flat = tuple(pair for lines in pairs for pair in lines)
    made = Plan(schedule, tuple(buckets), _fit_all(schedule, buckets, prior, pairs), flat)
    limits = epoch_limits(schedule, buckets)
    if (made.epochs > limits * _ENOUGH).any():
        made = _within_limits(made, prior, pairs, limits)
    return made


def epoch_limits(schedule: Schedule, buckets: Sequence[Bucket]) -> Floats:
    """float64 [buckets]: how often each may be read."""
    limits = schedule.max_epochs
    return np.array([limits.buckets.get(bucket.name, limits.default) for bucket in buckets])


def _fit_all(
    schedule: Schedule,
    buckets: Sequence[Bucket],
    prior: Floats,
    pairs: Sequence[Sequence[tuple[Constraint, Constraint]]],
) -> Floats:
    """float64 [stages, 2, buckets]: the projection at every end of every stage."""
    weights = np.empty((len(pairs), 2, len(prior)))
    for number, lines in enumerate(pairs):
        for end in (0, 1):
            bound = [pair[end] for pair in lines]
            fitted, error = project(prior, bound)
            if error > TOLERANCE:
                fitted = _project_onto_boundary(schedule, buckets, prior, bound, end)
            weights[number, end] = on_grid(fitted)
    return weights


def _project_onto_boundary(
    schedule: Schedule,
    buckets: Sequence[Bucket],
    prior: Floats,
    bound: Sequence[Constraint],
    end: int,
) -> Floats:
    """The projection where the ratios leave some buckets nothing, which fitting only approaches."""
    from train import feasibility  # scipy takes a while to import, and is seldom needed

    if not feasibility.holds_together(len(prior), bound):
        raise UserError(feasibility.explain_contradiction(schedule, buckets, bound, end))
    possible = feasibility.can_hold_a_share(len(prior), bound)
    fitted, error = project(np.where(possible, prior, 0.0), bound)
    if error > 1e-9:
        raise UserError(
            f"stage '{schedule.stages[bound[0].line.stage].name}': its ratios hold only in a "
            f"corner that fitting has not reached (error {error:.1g}); make one of them milder"
        )
    return fitted


def _within_limits(
    made: Plan,
    prior: Floats,
    pairs: Sequence[Sequence[tuple[Constraint, Constraint]]],
    limits: Floats,
) -> Plan:
    """The closest plan that reads no bucket too often: what one may not give, its like give.

    A limit's Lagrange multiplier is a factor on the bucket's prior, the same at every stage's
    ends because a ramp's integral is the mean of its ends.
    """
    from train import feasibility  # scipy takes a while to import, and is seldom needed

    every = range(len(made.buckets))
    if feasibility.least_stretch(made.schedule, made.buckets, made.constraints, every) > _ENOUGH:
        raise UserError(_too_often(made, limits))
    factors = np.ones(len(prior))
    plan_now = made
    for _ in range(_LIMIT_SWEEPS):
        epochs = plan_now.epochs
        if (epochs <= limits * _ENOUGH).all():
            return plan_now
        read = epochs > 0
        factors[read] = np.minimum(1.0, factors[read] * limits[read] / epochs[read])
        if factors.min() < 1e-12:
            break
        weights = _fit_all(made.schedule, made.buckets, prior * factors, pairs)
        plan_now = Plan(made.schedule, made.buckets, weights, made.constraints)
    raise UserError(_too_often(made, limits))


def project(prior: Floats, bound: Sequence[Constraint]) -> tuple[Floats, float]:
    """The I-projection of `prior` (float64 [buckets], any scale) onto ratios, and its error.

    The error is the largest difference of a part's share within its ratio from what is asked; it
    is above `TOLERANCE` if the ratios cannot be met together.
    """
    weights = np.where(excluded(len(prior), bound), 0.0, prior)
    if not weights.any():
        return weights, np.inf
    labels = np.full((max(1, len(bound)), len(prior)), -1, np.int64)
    shares = np.zeros((max(1, len(bound)), max([1, *(len(c.shares) for c in bound)])))
    for row, constraint in enumerate(bound):
        labels[row] = constraint.labels
        shares[row, : len(constraint.shares)] = constraint.shares
    error = _fit(weights, labels, shares, _SWEEPS, TOLERANCE / 4)
    return weights, float(error)


def excluded(buckets: int, bound: Sequence[Constraint]) -> npt.NDArray[np.bool_]:
    """bool [buckets]: those that some ratio gives nothing."""
    out = np.zeros(buckets, np.bool_)
    for constraint in bound:
        out |= constraint.labels == Constraint.NOTHING
    return out


def on_grid(weights: Floats) -> Floats:
    """Weights rounded to multiples of 2^-40 that sum to exactly 1 (the largest takes the rest).

    Sums of such numbers are exact, and the last bits of a logarithm, which differ from one
    machine's library to the next, no longer show.
    """
    rounded = np.rint(weights / weights.sum() * _GRID)
    rounded[np.argmax(rounded)] += _GRID - rounded.sum()
    result: Floats = rounded / _GRID
    return result


@numba.njit(cache=True)
def _fit(
    weights: Floats,
    labels: npt.NDArray[np.int64],
    shares: Floats,
    sweeps: int,
    tolerance: float,
) -> float:
    """Project `weights` in place onto one ratio after the other until all hold; the error left.

    labels: int64 [ratios, buckets], the part that a bucket belongs to, negative for none.
    shares: float64 [ratios, parts], 0 beyond a ratio's parts.
    """
    ratios, parts = shares.shape
    masses = np.zeros(parts)
    error = 0.0
    for _ in range(sweeps):
        weights /= weights.sum()
        error = 0.0
        for ratio in range(ratios):
            masses[:] = 0.0
            for bucket in range(len(weights)):
                if labels[ratio, bucket] >= 0:
                    masses[labels[ratio, bucket]] += weights[bucket]
            union = masses.sum()
            if union <= 0.0:
                continue
            log_scale = 0.0
            for part in range(parts):
                if shares[ratio, part] > 0.0:
                    error = max(error, abs(masses[part] / union - shares[ratio, part]))
                    if masses[part] <= 0.0:
                        return np.inf
                    log_scale += shares[ratio, part] * np.log(masses[part] / shares[ratio, part])
            scale = np.exp(log_scale)
            for bucket in range(len(weights)):
                part = labels[ratio, bucket]
                if part >= 0:
                    weights[bucket] *= shares[ratio, part] * scale / masses[part]
        if error <= tolerance:
            break
    weights /= weights.sum()
    return error


def _check_names(schedule: Schedule, buckets: Sequence[Bucket]) -> None:
    names = {bucket.name for bucket in buckets}
    for name in schedule.max_epochs.buckets:
        if name not in names:
            raise UserError(
                f"max_epochs.buckets.{name}: there is no such bucket; there are "
                f"{', '.join(sorted(names))}"
            )


def _too_often(made: Plan, limits: Floats) -> str:
    from train import feasibility  # scipy takes a while to import, and is seldom needed

    over = np.flatnonzero(made.epochs > limits * _ENOUGH)
    drawn = made.stage_tokens.sum(axis=0)
    rows = ["max_epochs: these buckets would be read too often:"]
    for place in over:
        bucket = made.buckets[place]
        rows.append(
            f"    {bucket.name}: {drawn[place]:,.0f} tokens to be drawn, {bucket.tokens:,} there "
            f"are: {made.epochs[place]:.2f} epochs, allowed {limits[place]:g}"
        )
    rows.append(
        feasibility.explain_epochs(made.schedule, made.buckets, made.constraints, over.tolist())
    )
    return "\n".join(rows)
