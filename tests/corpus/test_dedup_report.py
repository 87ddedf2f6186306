"""The ledger's lines about deduplication, from a run folder made by hand."""

from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from corpus.dedup.report import Family, cut_share, families, report_lines
from corpus.document import VERDICT
from corpus.ledger import Run
from corpus.records import StageRecord, write_json


def finished(run: Path, number: int, stage: str, kept: pa.Table, dropped: pa.Table) -> None:
    folder = run / "stages" / f"{number:02d}-{stage}"
    for outcome, table in (("kept", kept), ("dropped", dropped)):
        path = folder / "attempt-a" / f"outcome={outcome}"
        path.mkdir(parents=True)
        pq.write_table(table, path / "part.parquet")
    names = tuple(name for name in kept.column_names if name not in ("doc_id", "verdict"))
    total, gone = len(kept) + len(dropped), len(dropped)
    record = StageRecord(stage, "f", "attempt-a", names, total, len(kept), gone, {}, "0", 1.0)
    write_json(str(folder / "stage.json"), asdict(record))


def verdict(rule: str, kept: str | None) -> dict[str, object]:
    evidence = None if kept is None else [("kept", kept), ("scope", "global")]
    return {"rule": rule, "value": 1.0, "threshold": None, "evidence": evidence}


def test_families_and_cut_text_stand_below_the_funnel(tmp_path: Path) -> None:
    stages = ["minhash-global", "long-spans"]
    folders = [f"{n + 1:02d}-{stage}" for n, stage in enumerate(stages)]
    write_json(str(tmp_path / "run.json"), {"name": "r", "sources": [], "stages": folders})
    schema = pa.schema([("doc_id", pa.string()), ("verdict", VERDICT)])
    rows = [{"doc_id": f"d{n}", "verdict": verdict("near_duplicate", "a")} for n in range(5)]
    rows += [{"doc_id": f"e{n}", "verdict": verdict("near_duplicate", "b")} for n in range(3)]
    rows += [{"doc_id": "f", "verdict": verdict("error", None)}]
    kept = pa.Table.from_pylist([{"doc_id": "a"}, {"doc_id": "b"}], schema)
    finished(tmp_path, 1, stages[0], kept, pa.Table.from_pylist(rows, schema))
    columns = [("span_characters_cut", pa.int32()), ("span_characters", pa.int32())]
    spans = pa.schema([*schema, *columns])
    cut = [{"doc_id": d, "span_characters_cut": n, "span_characters": 800} for d, n in
           (("a", 0), ("b", 200))]  # fmt: skip
    table = pa.Table.from_pylist(cut, spans)
    finished(tmp_path, 2, stages[1], table, table.slice(0, 0))

    run = Run(str(tmp_path))
    assert families(run, "minhash-global", 3) == [
        Family("minhash-global", "a", 5, ("d0", "d1", "d2")),
        Family("minhash-global", "b", 3, ("e0", "e1", "e2")),
    ]
    assert cut_share(run, "long-spans") == (200, 0.125)
    assert list(report_lines(run, 4)) == [
        "minhash-global: 5 duplicates of a, among them d0, d1, d2",
        "long-spans: 200 characters cut, 12.50% of all",
    ]
