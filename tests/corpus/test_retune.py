"""Retuning: stored signals under other thresholds give what a new run would give."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus.document import VERDICT
from corpus.records import write_json
from corpus.retune import main
from corpus.rules.profile import load_profile
from corpus.rules.stage import judge
from corpus.signals.stage import measure_texts

TEXTS = {
    "a": "今天的天气很好，我们在公园里走了很久，说了很多的话。" * 9,
    "b": "今天的天气不好，我们在家里的书房坐着，说了一些话。" * 3,
    "c": "短。",
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose signals and rules are finished, as the runner writes them."""
    signals = measure_texts(pa.array(TEXTS.values()))
    verdict = judge(signals, ["zh-qa"] * 3, {"zh-qa": load_profile("zh-qa")})
    write(tmp_path, 0, "signals", {"doc_id": list(TEXTS), "signals": signals}, [None] * 3)
    write(tmp_path, 1, "rules", {"doc_id": list(TEXTS), "profile": ["zh-qa"] * 3}, verdict)
    return tmp_path


def write(run: Path, position: int, stage: str, columns: dict, verdict: object) -> None:
    folder = run / "stages" / f"{position:02}-{stage}"
    table = pa.table({**columns, "verdict": pa.array(verdict, VERDICT)})
    for outcome, mask in (("kept", False), ("dropped", True)):
        part = table.filter(pa.array([bool(v) == mask for v in table["verdict"].to_pylist()]))
        (folder / "attempt-1" / f"outcome={outcome}").mkdir(parents=True)
        pq.write_table(part, folder / "attempt-1" / f"outcome={outcome}" / "part-0.parquet")
    record = {
        "stage": stage, "fingerprint": "f", "attempt": "attempt-1", "columns": list(columns),
        "documents_in": 3, "kept": 2, "dropped": 1, "dropped_by_rule": {}, "kept_digest": "0",
        "seconds": 1.0, "format": 1,
    }  # fmt: skip
    write_json(str(folder / "stage.json"), record)


def test_unchanged_profiles_change_nothing(run: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(run)]) == 0
    printed = capsys.readouterr().out
    assert "kept by the run, dropped now: 0" in printed
    assert "dropped by the run, kept now: 0" in printed


def test_a_threshold_moves_documents_and_says_which(run: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(run), "--set", "zh-qa.too-short=100"]) == 0
    printed = capsys.readouterr().out
    assert "kept by the run, dropped now: 1\n  b  zh-qa  too-short: visible 75 < 100" in printed
    assert main([str(run), "--set", "zh-qa.too-short=1"]) == 0
    assert "dropped by the run, kept now: 1\n  c  zh-qa  too-short" in capsys.readouterr().out


def test_another_profile(run: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(run), "--profile", "zh-qa=zh-web"]) == 0
    assert "dropped now: 1\n  b  zh-web" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--set", "zh-qa.nope=1"], "no such rule"),
        (["--set", "zh-qa.too-short=x"], "not a number"),
        (["--set", "zh-qa"], "PROFILE.RULE=VALUE"),
        (["--profile", "zh-law=zh-web"], "judged nothing by 'zh-law'"),
    ],
)
def test_mistakes(run: Path, arguments: list[str], complaint: str, capsys):
    assert main([str(run), *arguments]) == 2
    assert complaint in capsys.readouterr().err
    assert main([str(run / "nowhere")]) == 2
