"""What became of every document: the funnel, edits by rule, one document's story, samples.

    python -m corpus.ledger runs/demo
    python -m corpus.ledger runs/demo --doc ID [--diff]
    python -m corpus.ledger runs/demo --stage rules --rule han_share --sample 20

Reads the Parquet that the runner wrote, without Spark. `Run` is the same for programs.
"""

import argparse
import difflib
import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from corpus.dedup.report import report_lines
from corpus.records import StageRecord, read_record
from corpus.settings import UserError, command

EXCERPT_CHARACTERS = 300


@dataclass(frozen=True)
class Decision:
    """What one stage did with one document."""

    stage: str
    columns: dict[str, Any]
    verdict: dict[str, Any] | None


@dataclass(frozen=True)
class Place:
    """Where a document's tokens lie: the shard's path, its place there, and the rest of lineage."""

    shard: str
    row: int
    lineage: dict[str, Any]


class Run:
    """A pipeline run's folder, finished or under way.

    Raises:
        UserError: the folder holds no run.
    """

    def __init__(self, path: str) -> None:
        self.path = path.rstrip("/")
        self.filesystem, self.root = fsspec.url_to_fs(self.path)
        try:
            content = json.loads(self.filesystem.cat_file(f"{self.root}/run.json"))
        except FileNotFoundError as error:
            raise UserError(
                f"{path}: no run here (no run.json); give the `output` folder of a recipe that "
                "spark-submit corpus/pipeline.py has run"
            ) from error
        self.name: str = content["name"]
        self.sources: list[dict[str, Any]] = content["sources"]
        self._folders: list[str] = content["stages"]

    @cached_property
    def stages(self) -> dict[str, StageRecord]:
        """The finished stages by name, in order."""
        records = {}
        for folder in self._folders:
            record = read_record(f"{self.path}/stages/{folder}")
            if record is None:
                break
            records[record.stage] = record
        return records

    def decided(self, stage: str) -> ds.Dataset:
        """Every document that entered `stage`, with what it wrote and `outcome`."""
        if stage not in self.stages:
            raise UserError(
                f"{self.path}: no finished stage '{stage}'; there are: {', '.join(self.stages)}"
            )
        folder = next(f for f in self._folders if f.split("-", 1)[1] == stage)
        base = f"{self.root}/stages/{folder}/{self.stages[stage].attempt}"
        return ds.dataset(base, filesystem=self.filesystem, format="parquet", partitioning="hive")

    def documents(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The final documents (all columns, or some), in the order of `doc_id`."""
        path = f"{self.root}/documents"
        if not self.filesystem.exists(path):
            raise UserError(f"{self.path}: the run has made no documents yet")
        dataset = ds.dataset(path, filesystem=self.filesystem, format="parquet")
        names = dataset.schema.names if columns is None else ["doc_id", *columns]
        return dataset.to_table(columns=names).sort_by("doc_id")

    def kept(self, stage: str, columns: Sequence[str]) -> pa.Table:
        """`doc_id` and `columns` of the documents that `stage` kept, in the order of `doc_id`."""
        dataset = self.decided(stage)
        if "outcome" not in dataset.schema.names:  # no document ever entered
            return pa.table({name: [] for name in ["doc_id", *columns]})
        kept = pc.field("outcome") == "kept"
        return dataset.to_table(columns=["doc_id", *columns], filter=kept).sort_by("doc_id")

    def dropped(
        self, stage: str, rule: str | None = None, limit: int | None = None
    ) -> list[dict[str, Any]]:
        """Documents that `stage` dropped: `doc_id`, `verdict`, and `text` as the stage saw it.

        A sample (`limit`) takes the smallest ids, which are hashes: the same choice every time.
        """
        dataset = self.decided(stage)
        if "outcome" not in dataset.schema.names:
            return []
        condition = pc.field("outcome") == "dropped"
        if rule is not None:
            condition &= pc.field("verdict", "rule") == rule
        ids = dataset.to_table(columns=["doc_id"], filter=condition)["doc_id"]
        chosen = ids.take(pc.sort_indices(ids))[:limit]
        if not len(chosen):
            return []
        among = pc.field("doc_id").isin(chosen)
        rows = dataset.to_table(columns=["doc_id", "verdict"], filter=among).to_pylist()
        texts = self._texts_before(stage, chosen)
        origins = self._origins(chosen)
        return [
            {
                "doc_id": row["doc_id"],
                "verdict": plain(row["verdict"]),
                "text": texts.get(row["doc_id"]),
                **origins.get(row["doc_id"], {}),
            }
            for row in sorted(rows, key=lambda row: row["doc_id"])
        ]

    def story(self, doc_id: str) -> list[Decision]:
        """Every stage's decision on one document, in order, up to the one that dropped it."""
        decisions = []
        for stage in self.stages:
            dataset = self.decided(stage)
            rows = dataset.to_table(filter=pc.field("doc_id") == doc_id).to_pylist()
            if not rows:
                break
            row = {name: plain(value) for name, value in rows[0].items()}
            verdict = row.pop("verdict")
            row.pop("outcome")
            row.pop("doc_id")
            decisions.append(Decision(stage, row, verdict))
        if not decisions:
            raise UserError(f"{self.path}: no document has the id '{doc_id}'")
        return decisions

    def places(self, doc_id: str) -> list[Place]:
        """Where in the run's shards the document's tokens lie."""
        found = []
        for path in sorted(self.filesystem.glob(f"{self.root}/shards/**/*.lineage.parquet")):
            ids = ds.dataset(path, filesystem=self.filesystem).to_table()
            rows = pc.indices_nonzero(pc.equal(ids["doc_id"], doc_id)).to_pylist()
            for row in rows:
                lineage = {name: ids[name][row].as_py() for name in ids.schema.names}
                shard = path[len(self.root) + 1 :].removesuffix(".lineage.parquet")
                found.append(Place(shard, row, lineage))
        return found

    def _texts_before(self, stage: str, ids: pa.ChunkedArray) -> dict[str, str]:
        texts: dict[str, str] = {}
        for name, record in self.stages.items():
            if name == stage:
                break
            if "text" in record.columns:
                texts = self._column(name, "text", ids)
        return texts

    def _origins(self, ids: pa.ChunkedArray) -> dict[str, dict[str, str]]:
        first = next(iter(self.stages))
        names = [n for n in ("source", "locator") if n in self.stages[first].columns]
        among = pc.field("doc_id").isin(ids)
        rows = self.decided(first).to_table(columns=["doc_id", *names], filter=among).to_pylist()
        return {row.pop("doc_id"): row for row in rows}

    def _column(self, stage: str, column: str, ids: pa.ChunkedArray) -> dict[str, Any]:
        among = pc.field("doc_id").isin(ids)
        table = self.decided(stage).to_table(columns=["doc_id", column], filter=among)
        return dict(zip(table["doc_id"].to_pylist(), table[column].to_pylist(), strict=True))


def plain(value: Any) -> Any:
    """A value as Parquet gives it, with its maps (lists of pairs) as dictionaries."""
    if isinstance(value, list) and value and all(isinstance(v, tuple) for v in value):
        return dict(value)
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return value


def funnel_table(run: Run) -> Table:
    """The funnel: what came into each stage, what it kept, and what each rule dropped."""
    title = f"{run.name}: what became of every document"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("stage", "in", "kept", "dropped", "by the rule", "documents", "share"):
        justify = "left" if name in ("stage", "by the rule") else "right"
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for record in run.stages.values():
        counts = [record.stage, *(f"{n:,}" for n in (record.documents_in, record.kept))]
        rules = list(record.dropped_by_rule.items()) or [("", 0)]
        for position, (rule, count) in enumerate(rules):
            start = [*counts, f"{record.dropped:,}"] if position == 0 else [""] * 4
            share = f"{count / max(record.documents_in, 1):.1%}" if rule else ""
            table.add_row(*start, rule, f"{count:,}" if rule else "", share)
        table.add_section()
    return table


def edits_table(run: Run) -> Table | None:
    """What the cleaning stages changed in the texts, by rule; None where no stage counts it."""
    table = Table(title="what was edited", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("stage", "by the rule", "documents", "characters"):
        justify = "left" if name in ("stage", "by the rule") else "right"
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for stage in run.stages:
        for position, (rule, (documents, characters)) in enumerate(edits(run, stage).items()):
            table.add_row("" if position else stage, rule, f"{documents:,}", f"{characters:,}")
        table.add_section()
    return table if table.row_count else None


def edits(run: Run, stage: str) -> dict[str, tuple[int, int]]:
    """What each rule of a rewriting stage changed: documents and characters, most first.

    Empty where the stage counts no edits.
    """
    columns = [name for name in run.stages[stage].columns if name.endswith("edits")]
    if not columns:
        return {}
    documents: Counter[str] = Counter()
    characters: Counter[str] = Counter()
    for batch in run.decided(stage).to_batches(columns=columns):
        for column in batch.columns:
            first, end = column.offsets[0].as_py(), column.offsets[-1].as_py()
            counts = {"rule": column.keys[first:end], "n": column.items[first:end]}
            sums = pa.table(counts).group_by("rule").aggregate([("n", "sum"), ("n", "count")])
            for row in sums.to_pylist():
                characters[row["rule"]] += row["n_sum"]
                documents[row["rule"]] += row["n_count"]
    return {rule: (documents[rule], count) for rule, count in characters.most_common()}


def story_lines(run: Run, doc_id: str) -> Iterator[str]:
    """One document's story, line by line."""
    decisions = run.story(doc_id)
    yield f"document {doc_id}"
    for decision in decisions:
        yield f"\n{decision.stage}"
        for name, value in decision.columns.items():
            yield from _column_lines(name, value)
        if decision.verdict:
            verdict = decision.verdict
            compared = (
                f": {_short(verdict['value'])} against {_short(verdict['threshold'])}"
                if verdict["value"] is not None
                else ""
            )
            yield f"  DROPPED by the rule '{verdict['rule']}'{compared}"
            for key, item in (verdict["evidence"] or {}).items():
                yield f"    {key}: {_short(item)}"
            return
    places = run.places(doc_id)
    yield ""
    for place in places:
        lineage = ", ".join(f"{k} {v}" for k, v in place.lineage.items() if k != "doc_id")
        yield f"KEPT; its tokens are document {place.row} of {place.shard} ({lineage})"
    if not places:
        yield "KEPT; it lies in no shard (none are made yet)"


def text_versions(run: Run, doc_id: str) -> list[tuple[str, str]]:
    """The document's text after each stage that wrote one."""
    return [
        (decision.stage, decision.columns["text"])
        for decision in run.story(doc_id)
        if decision.columns.get("text") is not None
    ]


def diff_lines(run: Run, doc_id: str) -> Iterator[str]:
    """How the text changed from each stage that wrote it to the next, as a unified diff."""
    versions = text_versions(run, doc_id)
    for (before, old), (after, new) in itertools.pairwise(versions):
        yield from difflib.unified_diff(
            old.splitlines(), new.splitlines(), f"after {before}", f"after {after}", lineterm=""
        )


def _column_lines(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield f"  {name}:"
        for key, inner in value.items():
            yield f"    {key}: {_short(inner)}"
    elif value is not None and value != []:  # an empty map comes as an empty list
        yield f"  {name}: {_short(value)}"


def _short(value: Any) -> str:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = " ".join(str(value).split())
    if len(text) > EXCERPT_CHARACTERS:
        return f"{text[:EXCERPT_CHARACTERS]}… ({len(str(value)):,} characters)"
    return text


def _print_sample(run: Run, stage: str, rule: str | None, size: int, console: Console) -> None:
    rows = run.dropped(stage, rule, size)
    for row in rows:
        verdict = row["verdict"]
        console.print(Text(f"{row['doc_id']}  {verdict['rule']}", style="bold"))
        where = f"{row.get('source', '')}  {row.get('locator', '')}"
        numbers = (
            f"  {_short(verdict['value'])} against {_short(verdict['threshold'])}"
            if verdict["value"] is not None
            else ""
        )
        console.print(Text(f"  {where}{numbers}"))
        for key, item in (verdict["evidence"] or {}).items():
            console.print(Text(f"  {key}: {_short(item)}"))
        if row["text"]:
            console.print(Text(f"  text: {_short(row['text'])}"))
        console.print()
    console.print(Text(f"{len(rows)} shown"))


@command
def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and print what it asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m corpus.ledger",
        description="What became of every document of a run: kept, or dropped by which rule.",
        epilog=(
            "examples:\n"
            "  python -m corpus.ledger runs/demo\n"
            "  python -m corpus.ledger runs/demo --stage rules --sample 20\n"
            "  python -m corpus.ledger runs/demo --stage minhash-local --rule near_duplicate\n"
            "  python -m corpus.ledger runs/demo --doc 0123456789abcdef0123456789abcdef --diff\n"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", help="the run's folder, e.g. runs/demo")
    parser.add_argument("--doc", metavar="ID", help="tell the story of the document ID")
    parser.add_argument("--diff", action="store_true", help="with --doc: how its text changed")
    parser.add_argument("--stage", help="show documents that this stage dropped")
    parser.add_argument("--rule", help="with --stage: only those that this rule dropped")
    parser.add_argument(
        "--sample", type=int, default=5, metavar="N", help="how many to show (default 5)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for other programs")
    options = parser.parse_args(arguments)
    if options.rule and not options.stage:
        raise UserError("--rule needs --stage: name the stage whose rule it is")
    if options.diff and not options.doc:
        raise UserError("--diff needs --doc: name the document")
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=110)
    run = Run(options.run)
    if options.doc:
        if options.json:
            story = [vars(decision) for decision in run.story(options.doc)]
            print(json.dumps(story, ensure_ascii=False, indent=1, default=_json_value))
        else:
            lines = diff_lines if options.diff else story_lines
            for line in lines(run, options.doc):
                console.print(Text(line), soft_wrap=True)
    elif options.stage:
        if options.json:
            rows = run.dropped(options.stage, options.rule, options.sample)
            print(json.dumps(rows, ensure_ascii=False, indent=1, default=_json_value))
        else:
            _print_sample(run, options.stage, options.rule, options.sample, console)
    elif options.json:
        records = [
            vars(record)
            | {
                "edits": {
                    rule: {"documents": documents, "characters": characters}
                    for rule, (documents, characters) in edits(run, record.stage).items()
                }
            }
            for record in run.stages.values()
        ]
        print(json.dumps(records, ensure_ascii=False, indent=1))
    else:
        console.print(funnel_table(run))
        edited = edits_table(run)
        if edited is not None:
            console.print(edited)
        for line in report_lines(run):
            console.print(Text(line))
    return 0


def _json_value(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


if __name__ == "__main__":
    sys.exit(main())
