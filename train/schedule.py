"""The mixture schedule as users write it: stages with token budgets and ratios over tags.

    sequence_length: 4096
    max_epochs: 4
    groups:
      knowledge: [encyclopedia, book, textbook, exam, paper, law]
    stages:
      - name: knowledge-first
        tokens: 60B
        mix:
          lang: {zh: 3, en: 1}
          domain: {general: 9 -> 4, finance: 1}
          kind within zh-general: {knowledge: 4, other: 1}

A ratio binds the values that it names and leaves the rest of the tag's values as they are; `other`
names all of them at once, and a 0 leaves a value out. This module knows what a schedule says;
whether it can be drawn from the tokens that exist is `train.planner`'s question.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from corpus.settings import Settings

OTHER = "other"
"""In a ratio: every value of the tag that the ratio does not name."""

_SUFFIXES = {"": 1, "k": 10**3, "M": 10**6, "B": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20}
_COUNT = re.compile(r"\s*([0-9][0-9_]*(?:\.[0-9]+)?)\s*(k|M|B|T|Ki|Mi)?\s*")
_LINE = re.compile(r"\s*([A-Za-z_][\w]*)(?:\s+within\s+(\S+))?\s*")


def token_count(value: object) -> int:
    """A number of tokens from `60B`, `1.5M`, `300k`, `4Mi` (2^22) or a plain whole number.

    Raises:
        ValueError: it is none of these, or less than one token.
    """
    match = _COUNT.fullmatch(str(value)) if not isinstance(value, bool) else None
    if match is None:
        raise ValueError("write a number of tokens, such as 60B, 1.5M, 300k, 4Mi or 4096")
    count = round(float(match[1].replace("_", "")) * _SUFFIXES[match[2] or ""])
    if count < 1:
        raise ValueError("must be at least one token")
    return count


@dataclass(frozen=True)
class Ramp:
    """One number of a ratio: its size at the stage's start and at its end."""

    start: float
    end: float

    def __str__(self) -> str:
        return f"{self.start:g}" if self.start == self.end else f"{self.start:g} -> {self.end:g}"


def _ramp(value: object) -> Ramp:
    if isinstance(value, Ramp):
        return value
    try:
        if isinstance(value, bool):
            raise ValueError
        ends = [float(part) for part in str(value).split("->")]
    except ValueError:
        ends = []
    if len(ends) not in (1, 2) or not all(0 <= end < float("inf") for end in ends):
        raise ValueError("write a number from 0 up, or a ramp such as `9 -> 4`")
    return Ramp(ends[0], ends[-1])


Tokens = Annotated[int, BeforeValidator(token_count)]
# As a plain string in JSON, so that a checkpoint's schedule reads like the user's.
RatioPart = Annotated[
    Ramp, BeforeValidator(_ramp), PlainSerializer(lambda ramp: f"{ramp.start!r} -> {ramp.end!r}")
]


@dataclass(frozen=True)
class Line:
    """One line of a `mix`: a ratio between the values of `tag`, within a slice or everywhere."""

    stage: int
    key: str
    """As the user wrote it, `kind within zh-general`."""
    tag: str
    within: str | None
    """`zh-general`, or None for everywhere."""
    parts: tuple[tuple[str, Ramp], ...]

    def at(self, end: int) -> tuple[tuple[str, float], ...]:
        """The numbers at the stage's start (`end` = 0) or end (1)."""
        return tuple((name, ramp.end if end else ramp.start) for name, ramp in self.parts)

    @property
    def ramps(self) -> bool:
        """Whether any of its numbers moves."""
        return any(ramp.start != ramp.end for _, ramp in self.parts)

    def __str__(self) -> str:
        return f"{self.key}: {{{', '.join(f'{name}: {ramp}' for name, ramp in self.parts)}}}"


class Stage(Settings, arbitrary_types_allowed=True):
    """A stretch of the run with its own token budget and ratios."""

    name: str = Field(min_length=1)
    tokens: Tokens
    """The stage's budget; stages end at whole batches."""
    mix: dict[str, dict[str, RatioPart]] = Field(default_factory=dict)
    """Ratios, one a line: `TAG: {value: number, …}` or `TAG within SLICE: {…}`. TAG is a tag of
    the shards (`lang`, `domain`, `kind`) or `bucket`; a value may be a group; SLICE joins values
    of other tags with dashes: `zh-general`. Without any line, tokens are drawn as they exist."""
    ramp: Literal["linear", "cosine", "step"] = "linear"
    """How shares move between the stage's ends: along a line, along half a cosine wave, or in
    `ramp_steps` equal treads of which the first has the start's share and the last the end's."""
    ramp_steps: int = Field(2, ge=2)
    """Treads of `ramp: step`."""
    sequence_length: PositiveInt | None = None
    """Tokens of a sequence in this stage; the schedule's own if left out. The batch's tokens stay,
    so it must divide the longest of the schedule."""
    reuse_order_of: str | None = None
    """Read what the stage of this name read, in the same order in every bucket (a warm-up that is
    to be followed by the same data, say). Off by default. The buckets' own progress through their
    epochs rests meanwhile, but for what goes beyond that stage's last token."""

    @field_validator("mix")
    @classmethod
    def _lines_are_ratios(cls, mix: dict[str, dict[str, Ramp]]) -> dict[str, dict[str, Ramp]]:
        for key, parts in mix.items():
            if _LINE.fullmatch(key) is None:
                raise ValueError(f"'{key}': write `TAG` or `TAG within SLICE`")
            for end, ends in (
                ("start", [part.start for part in parts.values()]),
                ("end", [part.end for part in parts.values()]),
            ):
                if not any(ends):
                    raise ValueError(f"'{key}': at the stage's {end} the ratio has no part above 0")
        return mix


class Epochs(Settings):
    """How often a bucket may be read."""

    default: PositiveFloat = 4.0
    """Muennighoff et al. 2023 (Scaling Data-Constrained Language Models): up to four epochs are
    nearly as good as fresh data."""
    buckets: dict[str, PositiveFloat] = Field(default_factory=dict)
    """Limits of single buckets, by name."""


class Schedule(Settings):
    """The whole mixture of a run."""

    sequence_length: PositiveInt
    """Tokens of a sequence."""
    batch_tokens: Tokens = 4_194_304
    """Tokens of one global batch, rounded to whole sequences of the longest kind. A training run
    may say otherwise."""
    seed: int = Field(0, ge=0)
    """Of every permutation. A training run may say otherwise."""
    max_epochs: Epochs = Epochs()
    """One number for all buckets, or `{default: 4, buckets: {zh-finance-qa: 2}}`."""
    temperature: PositiveFloat = 1.0
    """Of the prior: tokens^(1/temperature). 1 draws as the tokens lie; higher evens buckets out
    (Conneau et al. 2020, XLM-R, used 1/0.3)."""
    packing: Literal["concatenate", "best-fit"] = "concatenate"
    """`concatenate` cuts documents wherever a sequence ends. `best-fit` arranges the documents of
    every `packing_window` sequences so that few of those that fit into a sequence are cut."""
    packing_window: int = Field(64, ge=2)
    """Sequences (of the longest kind) among which `best-fit` moves documents."""
    block_tokens: Tokens | None = None
    """The pieces into which a bucket is cut to be shuffled anew every epoch; one sequence of the
    longest kind if left out. Larger ones (1M) suit shards in object storage."""
    groups: dict[str, list[str]] = Field(default_factory=dict)
    """Names for sets of values of one tag, to be used in ratios and slices."""
    stages: tuple[Stage, ...] = Field(min_length=1)

    @field_validator("max_epochs", mode="before")
    @classmethod
    def _one_number_is_the_default(cls, value: Any) -> Any:
        return {"default": value} if isinstance(value, int | float) else value

    @model_validator(mode="after")
    def _stages_fit_together(self) -> "Schedule":
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise ValueError("two stages bear the same name")
        for number, stage in enumerate(self.stages):
            if stage.reuse_order_of is not None and stage.reuse_order_of not in names[:number]:
                raise ValueError(
                    f"stages.{number}.reuse_order_of: '{stage.reuse_order_of}' is no earlier stage"
                )
            if self.longest_sequence % self.length_of(stage):
                raise ValueError(
                    f"stages.{number}.sequence_length: {self.length_of(stage)} does not divide the "
                    f"longest, {self.longest_sequence}; the batch could not stay the same"
                )
        return self

    @property
    def longest_sequence(self) -> int:
        """Tokens of the longest sequence of any stage."""
        return max(self.length_of(stage) for stage in self.stages)

    @property
    def tokens(self) -> int:
        """Tokens of all stages."""
        return sum(stage.tokens for stage in self.stages)

    def length_of(self, stage: Stage) -> int:
        """Tokens of a sequence in `stage`."""
        return stage.sequence_length or self.sequence_length

    def lines(self, stage: int) -> Iterator[Line]:
        """The ratios of stage number `stage`, in the order written."""
        for key, parts in self.stages[stage].mix.items():
            match = _LINE.fullmatch(key)
            assert match is not None  # the validator has seen it
            yield Line(stage, key, match[1], match[2], tuple(parts.items()))
