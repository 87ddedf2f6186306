"""What the lines of a schedule mean for the buckets that exist: names resolved to sets.

A line becomes two `Constraint`s, one for each end of its stage: which part of the ratio every
bucket belongs to, and the share of each part. Every name that means nothing here is refused with
the names that would.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from corpus.settings import UserError
from train.buckets import Bucket
from train.schedule import OTHER, Line, Schedule


@dataclass(frozen=True, eq=False)
class Constraint:
    """A ratio at one end of a stage, over the buckets."""

    UNBOUND: ClassVar[int] = -1
    NOTHING: ClassVar[int] = -2

    line: Line
    labels: npt.NDArray[np.int64]
    """int64 [buckets]: the part of the ratio, `UNBOUND`, or `NOTHING` where the part is 0."""
    inside: npt.NDArray[np.bool_]
    """bool [buckets]: those within the line's slice."""
    names: tuple[str, ...]
    shares: npt.NDArray[np.float64]
    """float64 [parts], all above 0, sum 1."""

    def shares_in(self, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """float64 [parts]: how `weights` over the buckets divide between the parts."""
        held = self.labels >= 0
        masses = np.bincount(
            self.labels[held], weights=weights[held], minlength=len(self.shares)
        ).astype(np.float64)
        return masses / max(masses.sum(), np.finfo(np.float64).tiny)


def constraints(
    line: Line, schedule: Schedule, buckets: Sequence[Bucket]
) -> tuple[Constraint, Constraint]:
    """What `line` binds at its stage's start and at its end.

    Raises:
        UserError: the tag, a value or the slice has no bucket, or two parts share one.
    """
    stage = schedule.stages[line.stage]
    where = f"stages.{line.stage}.mix.{line.key} (stage '{stage.name}')"
    inside = _slice(line, schedule, buckets, where)
    parts = {name: _members(name, line, schedule, buckets) for name, _ in line.parts}
    named = [members for name, members in parts.items() if name != OTHER]
    overlap = np.sum(named, axis=0) > 1 if named else np.zeros(len(buckets), np.bool_)
    if (overlap & inside).any():
        bucket = buckets[int(np.argmax(overlap & inside))].name
        raise UserError(f"{where}: bucket {bucket} belongs to two parts of this ratio")
    if OTHER in parts:
        parts[OTHER] = ~np.any(named, axis=0) if named else np.ones(len(buckets), np.bool_)
    found = tuple(_at(line, end, parts, inside, where, buckets) for end in (0, 1))
    return found[0], found[1]


def _at(
    line: Line,
    end: int,
    parts: dict[str, npt.NDArray[np.bool_]],
    inside: npt.NDArray[np.bool_],
    where: str,
    buckets: Sequence[Bucket],
) -> Constraint:
    labels = np.full(len(buckets), Constraint.UNBOUND, np.int64)
    names: list[str] = []
    numbers: list[float] = []
    for name, number in line.at(end):
        members = parts[name] & inside
        if number == 0:
            labels[members] = Constraint.NOTHING
            continue
        if not members.any():
            raise UserError(
                f"{where}: no bucket with tokens is {name}"
                f"{' within ' + line.within if line.within else ''}; there are "
                f"{_listed(_values(line.tag, buckets, inside))}"
            )
        labels[members] = len(names)
        names.append(name)
        numbers.append(number)
    shares = np.array(numbers) / sum(numbers)
    return Constraint(line, labels, inside, tuple(names), shares)


def _members(
    name: str, line: Line, schedule: Schedule, buckets: Sequence[Bucket]
) -> npt.NDArray[np.bool_]:
    wanted = set(schedule.groups.get(name, ())) or {name}
    return np.array([_value(line.tag, bucket) in wanted for bucket in buckets])


def _slice(
    line: Line, schedule: Schedule, buckets: Sequence[Bucket], where: str
) -> npt.NDArray[np.bool_]:
    tags = sorted({tag for bucket in buckets for tag in bucket.tags} | {"bucket"})
    if line.tag not in tags:
        raise UserError(f"{where}: there is no tag '{line.tag}'; there are {_listed(tags)}")
    inside = np.ones(len(buckets), np.bool_)
    if line.within is None:
        return inside
    for name in _slice_names(line.within, tags, schedule, buckets, where):
        wanted = set(schedule.groups.get(name, ())) or {name}
        inside &= np.array(
            [any(_value(tag, bucket) in wanted for tag in tags) for bucket in buckets]
        )
    if not inside.any():
        raise UserError(f"{where}: no bucket with tokens lies within {line.within}")
    return inside


def _slice_names(
    within: str, tags: list[str], schedule: Schedule, buckets: Sequence[Bucket], where: str
) -> list[str]:
    """The values and groups that a slice's dashes join; values may have dashes of their own."""
    known = {_value(tag, bucket) for tag in tags for bucket in buckets} | set(schedule.groups)
    pieces, names = within.split("-"), []
    while pieces:
        for size in range(len(pieces), 0, -1):
            if "-".join(pieces[:size]) in known:
                names.append("-".join(pieces[:size]))
                del pieces[:size]
                break
        else:
            raise UserError(
                f"{where}: '{pieces[0]}' is neither a group nor a value of any tag; there are "
                f"{_listed(sorted(name for name in known if name is not None))}"
            )
    return names


def _value(tag: str, bucket: Bucket) -> str | None:
    return bucket.name if tag == "bucket" else bucket.tags.get(tag)


def _values(tag: str, buckets: Sequence[Bucket], inside: npt.NDArray[np.bool_]) -> list[str]:
    found = (_value(tag, bucket) for bucket, held in zip(buckets, inside, strict=True) if held)
    return sorted({value for value in found if value is not None})


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"
