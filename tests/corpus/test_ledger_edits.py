"""The ledger's account of edits: by rule over all documents, and before and after for one."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus.clean.stage import Clean, CleanSettings
from corpus.document import DOCUMENT, VERDICT
from corpus.ledger import Run, edits, main
from corpus.records import write_json
from corpus.stage import StageContext

TEXTS = {
    "a": "１２３ 正文的第一段。\n责任编辑：张三\n正文的第二段。",
    "b": "责任编辑：李四五\n正文。",
    "c": "返回顶部",
}


@pytest.fixture
def run(tmp_path: Path) -> str:
    """A run whose extraction and cleaning are finished, as the runner writes them."""
    raw = pa.RecordBatch.from_pydict(
        {
            "doc_id": list(TEXTS),
            "text": list(TEXTS.values()),
            "kind": ["web"] * 3,
            "extra": pa.nulls(3, DOCUMENT.field("extra").type),
        }
    )
    stage = Clean("clean", CleanSettings(), StageContext("run", 1, {}))
    (cleaned,) = stage.process_all([raw])
    extracted = raw.drop_columns(["kind", "extra"]).append_column(
        "verdict", pa.array([None] * 3, VERDICT)
    )
    write_json(
        f"{tmp_path}/run.json",
        {"name": "test", "sources": [], "stages": ["01-extract", "02-clean"]},
    )
    for folder, batch in (("01-extract", extracted), ("02-clean", cleaned)):
        table = pa.table(batch)
        for outcome in ("kept", "dropped"):
            part = [row for row in batch.to_pylist() if bool(row["verdict"]) == (outcome != "kept")]
            path = tmp_path / "stages" / folder / "attempt-1" / f"outcome={outcome}"
            path.mkdir(parents=True)
            pq.write_table(pa.Table.from_pylist(part, batch.schema), path / "part-0.parquet")
        columns = [name for name in table.column_names if name not in ("doc_id", "verdict")]
        record = {
            "stage": folder[3:], "fingerprint": "f", "attempt": "attempt-1", "columns": columns,
            "documents_in": 3, "kept": 2, "dropped": 1, "dropped_by_rule": {}, "kept_digest": "0",
            "seconds": 1.0, "format": 1,
        }  # fmt: skip
        write_json(f"{tmp_path}/stages/{folder}/stage.json", record)
    return str(tmp_path)


def test_edits_are_summed_by_rule(run: str, capsys: pytest.CaptureFixture[str]):
    assert edits(Run(run), "clean") == {
        "editor": (2, 15),
        "navigation": (1, 4),
        "full-width": (1, 3),
    }
    assert edits(Run(run), "extract") == {}
    assert main([run]) == 0
    printed = capsys.readouterr().out.split()
    at = printed.index("editor")
    assert printed[at - 1 : at + 3] == ["clean", "editor", "2", "15"]
    assert main([run, "--json"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert records[1]["edits"]["full-width"] == {"documents": 1, "characters": 3}


def test_one_documents_text_before_and_after(run: str, capsys: pytest.CaptureFixture[str]):
    assert main([run, "--doc", "a", "--diff"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["--- after extract", "+++ after clean"]
    assert lines[3:] == [
        "-１２３ 正文的第一段。",
        "-责任编辑：张三",
        "+123 正文的第一段。",
        " 正文的第二段。",
    ]
