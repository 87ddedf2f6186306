"""Changed thresholds on the signals that a run has stored: who would be dropped now, in seconds.

    python -m corpus.retune runs/demo
    python -m corpus.retune runs/demo --profile configs/profiles/zh-web.yaml
    python -m corpus.retune runs/demo --set zh-web.too-short=300 --show 20

Reads the stored signals and verdicts of the run's `signals` and `rules` stages, without Spark,
applies the profiles as they are now, and prints the funnel of the rules beside the one of the run,
with the documents that change side. Nothing in the run is changed: run the recipe again to make
the new thresholds its own, which repeats only what depends on them.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from rich.console import Console
from rich.table import Table

from corpus.records import StageRecord, read_record
from corpus.rules.profile import Profile, Rule, check_measured, load_profile, profile_path
from corpus.rules.stage import judge
from corpus.settings import UserError, command

EPILOG = """examples:
  python -m corpus.retune runs/demo
      the profiles as they are now, after an edit, against what the run decided
  python -m corpus.retune runs/demo --profile my/strict.yaml
      one profile for all documents
  python -m corpus.retune runs/demo --profile zh-web=my/strict.yaml
      another file for the documents that the run judged by zh-web
  python -m corpus.retune runs/demo --set zh-web.too-short=300
      one threshold: PROFILE.RULE=VALUE (the bound that the rule has; MIN..MAX sets both)
"""


@dataclass(frozen=True)
class Decided:
    """The documents that a run's rules judged, in the order of their ids."""

    doc_ids: pa.Array
    signals: pa.StructArray
    profiles: list[str]
    """The profile by which the run judged each."""
    rules: list[str | None]
    """The rule by which the run dropped each, None where it kept it."""


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m corpus.retune",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", help="the folder of a run whose rules stage is finished")
    parser.add_argument(
        "--profile",
        action="append",
        default=[],
        metavar="[OLD=]NEW",
        help="judge by NEW (a name or a path): everything, or what the run judged by OLD",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="PROFILE.RULE=VALUE", help="one threshold"
    )
    parser.add_argument("--show", type=int, default=10, help="changed documents to list (10)")
    options = parser.parse_args(arguments)
    decided = read_decided(options.run)
    names = new_names(decided.profiles, options.profile)
    profiles = {name: load_profile(name) for name in sorted(set(names))}
    for name, profile in profiles.items():
        check_measured(name, profile, decided.signals.type.names)
    for change in options.set:
        set_threshold(profiles, change)
    print_outcome(decided, names, profiles, options.show)
    return 0


def read_decided(run: str) -> Decided:
    """What the run at `run` stored.

    Raises:
        UserError: there is no such run, or its signals or rules are not finished.
    """
    signals = _read(run, "signals", ["doc_id", "signals"])
    rules = _read(run, "rules", ["doc_id", "profile", "verdict"])
    rules = rules.take(pc.sort_indices(rules["doc_id"]))
    rows = pc.index_in(rules["doc_id"], value_set=signals["doc_id"].combine_chunks())
    verdicts = rules["verdict"].to_pylist()
    return Decided(
        rules["doc_id"].combine_chunks(),
        signals["signals"].combine_chunks().take(rows.combine_chunks()),
        rules["profile"].to_pylist(),
        [verdict["rule"] if verdict else None for verdict in verdicts],
    )


def _read(run: str, stage: str, columns: Sequence[str]) -> pa.Table:
    path, record = _find(run, stage)
    filesystem, folder = fsspec.url_to_fs(f"{path}/{record.attempt}")
    dataset = ds.dataset(folder, filesystem=filesystem, format="parquet", partitioning="hive")
    return dataset.to_table(columns=list(columns))


def _find(run: str, stage: str) -> tuple[str, StageRecord]:
    filesystem, local = fsspec.url_to_fs(f"{run.rstrip('/')}/stages")
    if not filesystem.isdir(local):
        raise UserError(f"{run}: holds no run (there is no folder 'stages' in it)")
    for entry in sorted(filesystem.ls(local, detail=False)):
        record = read_record(filesystem.unstrip_protocol(entry))
        if record is not None and record.stage == stage:
            return filesystem.unstrip_protocol(entry), record
    raise UserError(f"{run}: the stage '{stage}' is not finished there, or the recipe has none")


def new_names(old: Sequence[str], changes: Sequence[str]) -> list[str]:
    """The profile for each document, from the ones of the run and `--profile` arguments."""
    replaced: dict[str, str] = {}
    everything = None
    for change in changes:
        before, separator, after = change.partition("=")
        if separator:
            if before not in old:
                known = ", ".join(sorted(set(old)))
                raise UserError(
                    f"--profile {change}: the run judged nothing by '{before}', only by {known}"
                )
            replaced[before] = after
        else:
            everything = change
    return [replaced.get(name, everything or name) for name in old]


def set_threshold(profiles: dict[str, Profile], change: str) -> None:
    """Apply `PROFILE.RULE=VALUE` to `profiles`."""
    target, separator, text = change.partition("=")
    name, dot, rule_name = target.rpartition(".")
    if not separator or not dot:
        raise UserError(f"--set {change}: write PROFILE.RULE=VALUE, as in zh-web.too-short=300")
    if name not in profiles:
        raise UserError(
            f"--set {change}: no document is judged by '{name}'; {sorted(profiles)} are"
        )
    profile = profiles[name]
    rule = next((rule for rule in profile.rules if rule.name == rule_name), None)
    if rule is None:
        known = ", ".join(rule.name for rule in profile.rules)
        raise UserError(f"--set {change}: {profile_path(name)} has no such rule, only {known}")
    try:
        low, dots, high = text.partition("..")
        if dots:
            bounds = {"min": float(low), "max": float(high)}
        elif rule.min is not None and rule.max is not None:
            raise UserError(f"--set {change}: this rule has two bounds: write MIN..MAX")
        else:
            bounds = {"min" if rule.min is not None else "max": float(text)}
    except ValueError as error:
        raise UserError(f"--set {change}: '{text}' is not a number") from error
    changed = Rule.model_validate({**rule.model_dump(), **bounds})
    rules = tuple(changed if other is rule else other for other in profile.rules)
    profiles[name] = profile.model_copy(update={"rules": rules})


def print_outcome(
    decided: Decided, names: Sequence[str], profiles: Mapping[str, Profile], show: int
) -> None:
    """The two funnels side by side, and the documents that change side."""
    verdicts = judge(decided.signals, names, profiles)
    now = [verdict["rule"] if verdict else None for verdict in verdicts.to_pylist()]
    console = Console()
    table = Table(title=f"{len(now):,} documents")
    for column in ("profile", "rule", "dropped by the run", "dropped now", "change"):
        table.add_column(column, justify="left" if column in ("profile", "rule") else "right")
    before = Counter(zip(decided.profiles, decided.rules, strict=True))
    after = Counter(zip(names, now, strict=True))
    for profile, rule in sorted({*before, *after}, key=lambda key: (key[0], key[1] or "")):
        if rule is not None:
            old, new = before[profile, rule], after[profile, rule]
            table.add_row(
                profile, rule, f"{old:,}", f"{new:,}", f"{new - old:+,}" if new - old else ""
            )
    old_total = sum(rule is not None for rule in decided.rules)
    new_total = sum(rule is not None for rule in now)
    table.add_section()
    table.add_row("", "all", f"{old_total:,}", f"{new_total:,}", f"{new_total - old_total:+,}")
    console.print(table)
    was_dropped = np.array([rule is not None for rule in decided.rules], bool)
    is_dropped = np.array([rule is not None for rule in now], bool)
    for heading, rows in (
        ("kept by the run, dropped now", np.flatnonzero(~was_dropped & is_dropped)),
        ("dropped by the run, kept now", np.flatnonzero(was_dropped & ~is_dropped)),
    ):
        console.print(f"{heading}: {len(rows):,}")
        for row in rows[:show].tolist():
            verdict = verdicts[row].as_py()
            reason = dict(verdict["evidence"])["failed"] if verdict else decided.rules[row]
            console.print(f"  {decided.doc_ids[row].as_py()}  {names[row]}  {reason}", markup=False)
        if len(rows) > show:
            console.print(f"  and {len(rows) - show:,} more (--show)")


if __name__ == "__main__":
    sys.exit(main())
