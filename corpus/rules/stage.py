"""The stage `rules`: drops what a profile's thresholds say, with every broken rule as evidence."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from corpus.rules.profile import (
    Profile,
    check_measured,
    choose,
    describe,
    failures,
    load_profile,
    profile_names,
    profile_path,
    threshold,
    values,
)
from corpus.settings import Settings
from corpus.stage import BatchStage, Read, StageContext, verdicts

# Where a document's language is not known, its script decides between the profiles.
ZH_HAN_SHARE = 0.2
EN_LATIN_SHARE = 0.5


class RuleSettings(Settings):
    """Which profile judges which documents."""

    profile: str | None = None
    """The profile for all documents that `profiles` does not name: a name from
    configs/profiles or the path of a YAML file. Without it, one is chosen by the document's
    language, domain and kind (`corpus.rules.profile.AUTOMATIC`)."""
    profiles: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it
    """Profiles by source (`laws: zh-law`) or by tags (`zh-*-filing: my/filing.yaml`)."""


class Rules(BatchStage):
    """Applies to each document the profile of its source, or of its language, domain and kind."""

    Config = RuleSettings

    def __init__(self, name: str, config: RuleSettings, context: StageContext) -> None:
        super().__init__(name, config, context)
        self.by_source: Mapping[str, str] = config.profiles
        self.default = config.profile
        names = profile_names(self.by_source, self.default)
        self.profiles: Mapping[str, Profile] = {name: load_profile(name) for name in names}

    @property
    def needs(self) -> Sequence[str]:
        return ("signals", "source", "lang", "domain", "kind")

    @property
    def adds(self) -> pa.Schema:
        return pa.schema([pa.field("profile", pa.string())])

    @property
    def resources(self) -> Sequence[str]:
        return [profile_path(name) for name in self.profiles]

    def prepare(self, read: Read) -> None:
        measured = read(["signals"]).select("signals.*").columns
        for name, profile in self.profiles.items():
            check_measured(name, profile, measured)

    def process(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        chosen = self.choose_profiles(batch)
        verdict = judge(batch.column("signals"), chosen, self.profiles)
        return pa.RecordBatch.from_arrays(
            [batch.column("doc_id"), pa.array(chosen, pa.string()), verdict],
            ["doc_id", "profile", "verdict"],
        )

    def choose_profiles(self, batch: pa.RecordBatch) -> list[str]:
        """The profile's name for each document of the batch."""
        signals = batch.column("signals")
        han, latin = values(signals, "han_share"), values(signals, "latin_share")
        known: dict[tuple[str | None, ...], str] = {}
        chosen = []
        columns = [batch.column(name).to_pylist() for name in ("source", "lang", "domain", "kind")]
        for row, (source, lang, domain, kind) in enumerate(zip(*columns, strict=True)):
            if lang is None:
                lang = (
                    "zh" if han[row] >= ZH_HAN_SHARE
                    else "en" if latin[row] >= EN_LATIN_SHARE
                    else "other"
                )  # fmt: skip
            key = (source, lang, domain, kind)
            if key not in known:
                tags = f"{lang}-{domain or 'general'}-{kind or 'web'}"
                known[key] = choose(source, tags, self.by_source, self.default)
            chosen.append(known[key])
        return chosen


def judge(
    signals: pa.StructArray, chosen: Sequence[str], profiles: Mapping[str, Profile]
) -> pa.StructArray:
    """The verdict (`corpus.document.VERDICT`) on each document under its chosen profile."""
    size = len(signals)
    rules: list[str | None] = [None] * size
    found: list[float | None] = [None] * size
    bounds: list[float | None] = [None] * size
    evidence: list[dict[str, str] | None] = [None] * size
    names = np.array(chosen, object)
    for name in sorted(set(chosen)):
        profile = profiles[name]
        rows = np.flatnonzero(names == name)
        part = signals.take(pa.array(rows))
        broken = failures(profile, part)
        for column in np.flatnonzero(broken.any(axis=0)):
            failed = [profile.rules[k] for k in np.flatnonzero(broken[:, column])]
            measured = [float(values(part, rule.signal)[column]) for rule in failed]
            row = int(rows[column])
            rules[row], found[row] = failed[0].name, measured[0]
            bounds[row] = threshold(failed[0], measured[0])
            evidence[row] = {
                "profile": name,
                "signal": failed[0].signal,
                "failed": describe(failed, measured),
            }
    return verdicts(rules, found, bounds, evidence)
