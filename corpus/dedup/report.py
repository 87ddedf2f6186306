"""What deduplication did in a run: the largest families of duplicates, and the text that was cut.

Part of `python -m corpus.ledger RUN`. Reads what the runner wrote, without Spark.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.compute as pc

if TYPE_CHECKING:
    from corpus.ledger import Run

GIANT = 1_000  # duplicates of one document from which on they are reported
SHOWN = 3  # families of a stage

DUPLICATES = ("exact", "minhash-local", "minhash-global")
CUT = {  # by stage: characters cut and, where the stage counts them, characters before
    "paragraphs": ("paragraph_characters_cut", None),
    "long-spans": ("span_characters_cut", "span_characters"),
}


@dataclass(frozen=True)
class Family:
    """The documents that one stage dropped because of one kept document."""

    stage: str
    kept: str
    duplicates: int
    sample: tuple[str, ...]
    """The smallest `doc_id`s among them."""


def families(run: "Run", stage: str, at_least: int = GIANT) -> list[Family]:
    """The largest families of a stage, the largest first."""
    dataset = run.decided(stage)
    if "outcome" not in dataset.schema.names:  # no document ever entered
        return []
    dropped = dataset.to_table(
        columns=["doc_id", "verdict"], filter=pc.field("outcome") == "dropped"
    )
    evidence = pc.struct_field(dropped["verdict"].combine_chunks(), "evidence")
    kept = pc.map_lookup(evidence, "kept", "first")
    table = dropped.drop_columns("verdict").append_column("kept", kept)
    counts = (
        table.filter(table["kept"].is_valid()).group_by("kept").aggregate([("doc_id", "count")])
    )
    counts = counts.filter(pc.field("doc_id_count") >= at_least)
    counts = counts.sort_by([("doc_id_count", "descending"), ("kept", "ascending")])
    found = []
    for row in counts.to_pylist():
        ids = table.filter(pc.field("kept") == row["kept"])["doc_id"].to_pylist()
        found.append(Family(stage, row["kept"], row["doc_id_count"], tuple(sorted(ids)[:SHOWN])))
    return found


def cut_share(run: "Run", stage: str) -> tuple[int, float | None]:
    """The normalised characters that a stage cut, and their share where it counts all of them."""
    cut, whole = CUT[stage]
    columns = [cut] if whole is None else [cut, whole]
    table = run.decided(stage).to_table(columns=columns)
    gone = pc.sum(table[cut]).as_py() or 0
    if whole is None:
        return gone, None
    return gone, gone / max(1, pc.sum(table[whole]).as_py() or 0)


def report_lines(run: "Run", at_least: int = GIANT) -> Iterator[str]:
    """What the ledger prints below the funnel."""
    for stage in run.stages:
        if stage in DUPLICATES:
            found = families(run, stage, at_least)
            for family in found[:SHOWN]:
                yield (
                    f"{stage}: {family.duplicates:,} duplicates of {family.kept}, "
                    f"among them {', '.join(family.sample)}"
                )
            if len(found) > SHOWN:
                yield f"{stage}: {len(found) - SHOWN:,} more with {at_least:,} and above"
        elif stage in CUT:
            gone, share = cut_share(run, stage)
            of_all = "" if share is None else f", {share:.2%} of all"
            yield f"{stage}: {gone:,} characters cut{of_all}"
