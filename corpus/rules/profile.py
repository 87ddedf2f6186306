"""Profiles: the YAML files that say which signals a document's kind must keep within which bounds.

A profile is named by its file's stem (`zh-law` is `configs/profiles/zh-law.yaml`) or given by
path. Its rules are tried in order, and the first that fails is the reason of a drop.
"""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

import corpus
from corpus.settings import Settings, UserError, load
from corpus.signals.table import JIEBA_NAMES, NAMES


class Bound(Settings):
    """One signal and what it may be. A signal that is undefined for a document is within bounds."""

    signal: str
    """A name from `python -m corpus.signals.table`."""
    min: float | None = None
    """The smallest value allowed."""
    max: float | None = None
    """The largest value allowed."""

    @field_validator("signal")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in (*NAMES, *JIEBA_NAMES):
            raise ValueError("no such signal; `python -m corpus.signals.table` lists them")
        return name

    @model_validator(mode="after")
    def _bounded(self) -> "Bound":
        if self.min is None and self.max is None:
            raise ValueError(f"{self.signal} needs a min or a max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"{self.signal}: min {self.min} is above max {self.max}")
        return self


class Rule(Bound):
    """A document that breaks the bound is dropped for it."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    """What the ledger calls it."""
    when: tuple[Bound, ...] = ()
    """The rule is tried only on documents that keep all of these bounds."""
    why: str = Field(min_length=10)
    """Where the value comes from: a paper, a library, a measurement."""


class Profile(Settings):
    """The rules of one kind of document."""

    about: str
    """What it is for."""
    rules: tuple[Rule, ...] = Field(min_length=1)
    """Tried in this order."""

    @model_validator(mode="after")
    def _unique(self) -> "Profile":
        names = [rule.name for rule in self.rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"these rules stand twice: {', '.join(twice)}")
        return self


# Which built-in profile suits which documents, by `lang-domain-kind`; the first that fits.
AUTOMATIC: tuple[tuple[str, str], ...] = (
    ("zh-*-law", "zh-law"),
    ("zh-*-filing", "zh-finance-filing"),
    ("zh-*-announcement", "zh-finance-filing"),
    ("zh-*-report", "zh-finance-filing"),
    ("zh-*-qa", "zh-qa"),
    ("zh-*-exam", "zh-qa"),
    ("zh-*-social", "zh-qa"),
    ("zh-*-book", "zh-book"),
    ("zh-*-poetry", "zh-book"),
    ("zh-*-textbook", "zh-book"),
    ("zh-*-encyclopedia", "zh-book"),
    ("zh-*-paper", "zh-book"),
    ("zh-*-docs", "zh-book"),
    ("zh-*", "zh-web"),
    ("en-*-filing", "en-filing"),
    ("en-*-report", "en-filing"),
    ("en-*-announcement", "en-filing"),
    ("en-*-book", "en-book"),
    ("en-*-textbook", "en-book"),
    ("en-*-law", "en-book"),
    ("en-*-encyclopedia", "en-book"),
    ("en-*-paper", "en-book"),
    ("en-*-docs", "en-book"),
    ("en-*-qa", "en-qa"),
    ("en-*-exam", "en-qa"),
    ("en-*-social", "en-qa"),
    ("en-*", "en-web"),
    ("*", "any"),
)


def profile_path(name: str) -> str:
    """The file of a profile given by name or by path.

    Raises:
        UserError: there is no such profile; the text lists the built-in ones.
    """
    if name.endswith((".yaml", ".yml")):
        return name
    folders = [Path("configs/profiles"), Path(corpus.__path__[0]).parent / "configs" / "profiles"]
    for folder in folders:
        path = folder / f"{name}.yaml"
        if path.is_file():
            return str(path)
    known = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
    raise UserError(
        f"there is no profile '{name}' in configs/profiles; "
        f"give a path, or one of: {', '.join(known) or '(none found here)'}"
    )


def load_profile(name: str) -> Profile:
    """Read a profile by name or path."""
    return load(profile_path(name), Profile)


def choose(source: str | None, tags: str, by_source: Mapping[str, str], default: str | None) -> str:
    """The name of the profile for a document of `source` with `tags` (`lang-domain-kind`).

    A key of `by_source` is a source's name or a pattern over the tags (`zh-*-filing`), names
    first, then patterns in their order; then `default`; without one, `AUTOMATIC`.
    """
    if source is not None and source in by_source:
        return by_source[source]
    for pattern, name in by_source.items():
        if fnmatchcase(tags, pattern):
            return name
    if default is not None:
        return default
    return next(name for pattern, name in AUTOMATIC if fnmatchcase(tags, pattern))


def profile_names(by_source: Mapping[str, str], default: str | None) -> list[str]:
    """All profiles that `choose` may name."""
    rest: Iterable[str] = [default] if default is not None else [name for _, name in AUTOMATIC]
    return sorted({*by_source.values(), *rest})


def check_measured(name: str, profile: Profile, measured: Iterable[str]) -> None:
    """Refuse the profile called `name` if it asks for signals that are not among `measured`.

    Raises:
        UserError: names the rule, the signal, and the setting that measures it.
    """
    known = set(measured)
    for rule in profile.rules:
        for bound in (rule, *rule.when):
            if bound.signal not in known:
                raise UserError(
                    f"the rule '{rule.name}' of the profile '{name}' asks for '{bound.signal}', "
                    "which was not measured: write `- signals: {jieba: true}` in the recipe"
                )


def failures(profile: Profile, signals: pa.StructArray) -> NDArray[np.bool_]:
    """bool [rules, documents]: where a document breaks a rule."""
    broken = np.zeros((len(profile.rules), len(signals)), np.bool_)
    for row, rule in zip(broken, profile.rules, strict=True):
        np.copyto(row, _outside(rule, signals))
        for condition in rule.when:
            row &= ~_outside(condition, signals) & ~np.isnan(values(signals, condition.signal))
    return broken


def values(signals: pa.StructArray, name: str) -> NDArray[np.float64]:
    """One signal, NaN where it is undefined."""
    column: NDArray[np.float64] = signals.field(name).to_numpy(zero_copy_only=False)
    return column


def _outside(bound: Bound, signals: pa.StructArray) -> NDArray[np.bool_]:
    value = values(signals, bound.signal)
    outside = np.zeros(len(value), np.bool_)
    if bound.min is not None:
        outside |= value < bound.min  # False for NaN
    if bound.max is not None:
        outside |= value > bound.max
    return outside


def threshold(rule: Rule, value: float) -> float:
    """The bound that `value` broke."""
    if rule.min is not None and value < rule.min:
        return rule.min
    assert rule.max is not None
    return rule.max


def describe(rules: Sequence[Rule], found: Sequence[float]) -> str:
    """`name: signal value < bound` of each broken rule, for people."""
    parts = []
    for rule, value in zip(rules, found, strict=True):
        bound = threshold(rule, value)
        sign = "<" if value < bound else ">"
        parts.append(f"{rule.name}: {rule.signal} {value:.4g} {sign} {bound:g}")
    return "; ".join(parts)
