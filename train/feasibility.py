"""Why a schedule cannot be drawn: the smallest set of lines that conflict, and what would do.

Whether ratios can hold together is a linear programme, since each of them says that shares are
multiples of each other. This module is only asked when the planner has failed, so it may take a
second; it needs scipy.
"""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from train.buckets import Bucket
from train.ratios import Constraint
from train.schedule import Line, Schedule

Floats = npt.NDArray[np.float64]
Item = TypeVar("Item")

# A ratio that could only hold by binding next to nothing does not hold.
_LEAST_SHARE = 1e-6
_SUBSETS_LINES = 10


def holds_together(buckets: int, bound: Sequence[Constraint]) -> bool:
    """Whether some distribution over the buckets meets all ratios, none of them emptily."""
    return _some_weights(buckets, bound) is not None


def can_hold_a_share(buckets: int, bound: Sequence[Constraint]) -> npt.NDArray[np.bool_]:
    """bool [buckets]: those that may have a share at all where the ratios hold."""
    found = np.zeros(buckets, np.bool_)
    for bucket in range(buckets):
        if not found[bucket]:
            goal = np.zeros(buckets)
            goal[bucket] = -1.0
            weights = _some_weights(buckets, bound, goal)
            if weights is not None:
                found |= weights > 1e-9
    return found


def smallest_conflict(
    items: Sequence[Item], feasible: Callable[[Sequence[Item]], bool]
) -> list[Item]:
    """A smallest set of items that is infeasible; for many items one that is minimal.

    `feasible` must hold for no items, and for every part of what it holds for.
    """
    if len(items) <= _SUBSETS_LINES:
        for size in range(1, len(items) + 1):
            for chosen in combinations(items, size):
                if not feasible(chosen):
                    return list(chosen)
    kept = list(items)
    for item in items:
        without = [other for other in kept if other is not item]
        if not feasible(without):
            kept = without
    return kept


def explain_contradiction(
    schedule: Schedule, buckets: Sequence[Bucket], bound: Sequence[Constraint], end: int
) -> str:
    """Which lines of a stage conflict at its start (`end` 0) or end (1), and what each could be."""
    count = len(buckets)
    conflict = smallest_conflict(bound, lambda chosen: holds_together(count, chosen))
    stage = schedule.stages[bound[0].line.stage]
    rows = [f"stage '{stage.name}', at its {('start', 'end')[end]}: these lines cannot all hold:"]
    rows += [f"    {constraint.line}" for constraint in conflict]
    if len(conflict) == 1:
        rows.append("  it excludes what other lines or it itself ask for")
    for constraint in conflict:
        others = [other for other in bound if other is not constraint]
        if not holds_together(count, others):
            continue
        nearest = nearest_shares(count, constraint, others)
        if nearest is not None:
            rows.append(
                f"  with the others as they are, nearest to it is   {constraint.line.key}: "
                f"{{{_ratio_text(constraint.names, nearest)}}}"
            )
    return "\n".join(rows)


def nearest_shares(
    buckets: int, constraint: Constraint, others: Sequence[Constraint]
) -> Floats | None:
    """float64 [parts]: the shares nearest (in sum of differences) to a ratio's that can hold
    beside the others; None if nothing of it can be there."""
    parts = len(constraint.shares)
    # Ratios do not care for scale: here what the constraint binds weighs 1, the rest what it may.
    equal, _ = _rows(buckets, others)
    members = np.array([constraint.labels == part for part in range(parts)], np.float64)
    zeros = np.zeros((len(equal), 2 * parts))
    balance = np.hstack([members, np.eye(parts), -np.eye(parts)])
    union = np.hstack([members.sum(axis=0), np.zeros(2 * parts)])
    least = np.array([-_bound_mass(other) + 1e-4 for other in others]).reshape(-1, buckets)
    found = _solve(
        np.concatenate([np.zeros(buckets), np.ones(2 * parts)]),
        np.vstack([np.hstack([equal, zeros]), balance, union]),
        np.concatenate([np.zeros(len(equal)), constraint.shares, [1.0]]),
        np.hstack([least, np.zeros((len(least), 2 * parts))]),
        np.zeros(len(least)),
        _excluded(buckets, [*others, constraint]),
    )
    return None if found is None else members @ found[:buckets]


def explain_epochs(
    schedule: Schedule,
    buckets: Sequence[Bucket],
    pairs: Sequence[tuple[Constraint, Constraint]],
    over: Sequence[int],
) -> str:
    """Which lines force buckets to be read too often, and by how much limits would have to give.

    `over`: the buckets that the closest plan reads too often.
    """

    def feasible(chosen: Sequence[tuple[Constraint, Constraint] | int]) -> bool:
        lines = [item for item in chosen if not isinstance(item, int)]
        capped = [item for item in chosen if isinstance(item, int)]
        return least_stretch(schedule, buckets, lines, capped) <= 1 + 1e-9

    capped = range(len(buckets))
    if not feasible([*pairs, *capped]):
        conflict = smallest_conflict([*capped, *pairs], feasible)
        lines = [item[0].line for item in conflict if not isinstance(item, int)]
        limited = [item for item in conflict if isinstance(item, int)]
    else:
        lines, limited = [], list(over)
    stretch = least_stretch(schedule, buckets, pairs, list(capped))
    rows = []
    if lines:
        rows.append("these lines and limits cannot all hold:")
        rows += [_line_text(schedule, line) for line in lines]
        rows += [
            f"    max_epochs {_limit(schedule, buckets[place]):g}: {buckets[place].name} "
            f"({buckets[place].tokens:,} tokens)"
            for place in limited
        ]
    highest = stretch * schedule.max_epochs.default
    rows.append(
        f"  it can be drawn with every limit times {stretch:.4g} (max_epochs: {_up(highest):g}), "
        f"with every stage at {_down(1 / stretch):.4g} of its tokens, or with milder ratios"
    )
    return "\n".join(rows)


def least_stretch(
    schedule: Schedule,
    buckets: Sequence[Bucket],
    pairs: Sequence[tuple[Constraint, Constraint]],
    capped: Sequence[int],
) -> float:
    """By which factor the epoch limits of the `capped` buckets would have to grow, or may shrink,
    for the lines to be met by some plan."""
    from scipy.sparse import block_diag, csr_matrix, hstack, vstack

    stages, count = len(schedule.stages), len(buckets)
    blocks, masses, excluded = [], [], []
    for stage in range(stages):
        for end in (0, 1):
            bound = [pair[end] for pair in pairs if pair[end].line.stage == stage]
            equal, _ = _rows(count, bound)
            blocks.append(np.vstack([equal, np.ones(count)]))
            masses.append(len(equal))
            excluded.append(_excluded(count, bound))
    equal_all = block_diag([csr_matrix(block) for block in blocks])
    right = np.concatenate([np.append(np.zeros(rows), 1.0) for rows in masses])
    budgets = np.repeat([stage.tokens / 2 for stage in schedule.stages], 2)
    limits = np.array(
        [_limit(schedule, buckets[place]) * buckets[place].tokens for place in capped]
    )
    per_end = [
        csr_matrix(
            (budget / limits, (range(len(capped)), list(capped))), shape=(len(capped), count)
        )
        for budget in budgets
    ]
    if not len(capped):
        return 0.0
    upper = hstack([*per_end, csr_matrix(-np.ones((len(capped), 1)))])
    equal_all = hstack([equal_all, csr_matrix((equal_all.shape[0], 1))])
    goal = np.append(np.zeros(2 * stages * count), 1.0)
    forbidden = np.append(np.concatenate(excluded), False)
    found = _solve(goal, vstack([equal_all]), right, upper, np.zeros(len(capped)), forbidden)
    return float("inf") if found is None else float(found[-1])


def _some_weights(
    buckets: int, bound: Sequence[Constraint], goal: Floats | None = None
) -> Floats | None:
    equal, right = _rows(buckets, bound)
    out = _excluded(buckets, bound)
    # A ratio within a slice that another line leaves out whole binds nothing, and harms nothing.
    masses = [_bound_mass(c) for c in bound if (_bound_mass(c) * ~out).any()]
    least = -np.array(masses).reshape(-1, buckets)
    return _solve(
        np.zeros(buckets) if goal is None else goal,
        np.vstack([equal, np.ones(buckets)]),
        np.append(right, 1.0),
        least,
        np.full(len(least), -_LEAST_SHARE),
        out,
    )


def _rows(buckets: int, bound: Sequence[Constraint]) -> tuple[Floats, Floats]:
    """The equations that ratios are: each part is its share of all that the ratio binds."""
    rows = [
        (constraint.labels == part) - share * (constraint.labels >= 0)
        for constraint in bound
        for part, share in enumerate(constraint.shares)
    ]
    return np.array(rows, np.float64).reshape(-1, buckets), np.zeros(len(rows))


def _bound_mass(constraint: Constraint) -> Floats:
    return (constraint.labels >= 0).astype(np.float64)


def _excluded(buckets: int, bound: Sequence[Constraint]) -> npt.NDArray[np.bool_]:
    out = np.zeros(buckets, np.bool_)
    for constraint in bound:
        out |= constraint.labels == Constraint.NOTHING
    return out


def _solve(goal, equal, right, upper, upper_right, forbidden):  # type: ignore[no-untyped-def]
    from scipy.optimize import linprog

    bounds = [(0.0, 0.0 if no else None) for no in forbidden]
    bounds += [(0.0, None)] * (len(goal) - len(bounds))
    some = upper.shape[0] > 0
    result = linprog(
        goal,
        A_ub=upper if some else None,
        b_ub=upper_right if some else None,
        A_eq=equal,
        b_eq=right,
        bounds=bounds,
        method="highs",
    )
    return result.x if result.status == 0 else None


def _ratio_text(names: Sequence[str], shares: Floats) -> str:
    """Shares as a ratio whose smallest number is 1."""
    above = shares[shares > 1e-6]
    scale = 1 / above.min() if len(above) else 1.0
    numbers = [0.0 if share <= 1e-6 else share * scale for share in shares]
    return ", ".join(f"{name}: {n:.4g}" for name, n in zip(names, numbers, strict=True))


def _line_text(schedule: Schedule, line: Line) -> str:
    return f"    stage '{schedule.stages[line.stage].name}': {line}"


def _limit(schedule: Schedule, bucket: Bucket) -> float:
    limits = schedule.max_epochs
    return limits.buckets.get(bucket.name, limits.default)


def _up(value: float) -> float:
    return float(np.ceil(value * 100) / 100)


def _down(value: float) -> float:
    return float(np.floor(value * 1000) / 1000)
