"""A newcomer's whole path on a slice of the samples: recipe, ledger, mixture, training, report."""

import itertools
import json
from pathlib import Path

import nbformat
import pyarrow.parquet as pq
import pytest
import yaml
from nbclient import NotebookClient
from pyspark.sql import SparkSession

import corpus.ledger
import corpus.report
import train.cpt
import train.mixture
from corpus.ledger import Run, story_lines
from corpus.pipeline import run_recipe
from corpus.recipe import read_recipe

ROOT = Path(__file__).resolve().parent.parent.parent

SOURCES = """
- {name: laws, path: samples/text/laws-finance.jsonl.gz, format: jsonl, lang: zh,
   domain: finance, kind: law, priority: 7}
- {name: statutes, path: samples/html/statutes/*.html, format: html, lang: zh,
   domain: general, kind: law, priority: 3}
- {name: comments, path: samples/text/comments.jsonl.gz, format: jsonl, lang: zh,
   domain: general, kind: social, priority: 1}
- {name: wealth, path: samples/text/wealth-of-nations/*.txt, format: text, lang: en,
   domain: finance, kind: book, priority: 6}
- {name: exams, path: samples/text/exam-dump.jsonl.gz, format: jsonl, lang: en,
   domain: general, kind: exam, priority: 1}
- {name: hazards, path: samples/html/hazards/*.html, format: html, domain: general, kind: web}
- {name: hard-pdf, path: samples/pdf/hard/*.pdf, format: pdf, domain: general, kind: report}
"""

SCHEDULE = """
sequence_length: 64
batch_tokens: 1024
max_epochs: 40
stages:
  - {name: first, tokens: 4k, mix: {lang: {zh: 3, en: 1}, domain: {general: 9, finance: 1}}}
  - {name: more, tokens: 4k, mix: {lang: {zh: 3, en: 1}, domain: {general: 9 -> 4, finance: 1}}}
  - {name: last, tokens: 4k, mix: {lang: {zh: 3, en: 1}, domain: {general: 4, finance: 1}}}
"""


def slice_of_the_demo(folder: Path) -> Path:
    """The demo's recipe with fewer sources, a small classifier, and outputs under `folder`."""
    recipe = yaml.safe_load((ROOT / "configs/recipes/demo.yaml").read_text())
    recipe["sources"] = yaml.safe_load(SOURCES)
    recipe["output"] = str(folder / "run")
    recipe["vocabulary"]["sample_per_bucket"] = 5
    harm = yaml.safe_load((ROOT / "configs/classifiers/harm-demo.yaml").read_text())
    harm["search"] = {"learning_rate": [0.5], "epochs": [3], "ngrams": [2]}
    harm["members"] = 1
    (folder / "harm.yaml").write_text(yaml.safe_dump(harm))
    for stage in recipe["stages"]:
        if "harm" in stage:
            stage["harm"] = {"train": str(folder / "harm.yaml")}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def files_under(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def run_dir(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("path")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        run_recipe(spark, read_recipe(str(slice_of_the_demo(folder))))
    return folder / "run"


def test_every_document_is_accounted_for(run_dir: Path) -> None:
    run = Run(str(run_dir))
    records = list(run.stages.values())
    assert len(records) == 13
    for before, after in itertools.pairwise(records):
        assert before.kept == after.documents_in
        assert after.documents_in == after.kept + after.dropped
        assert after.dropped == sum(after.dropped_by_rule.values())
    assert run.documents().num_rows == records[-1].kept
    dropped = {rule for record in records for rule in record.dropped_by_rule}
    assert {"needs_ocr", "near_duplicate", "evaluation_item"} <= dropped
    assert "error" not in dropped


def test_a_kept_documents_story_ends_in_its_shard(run_dir: Path) -> None:
    run = Run(str(run_dir))
    doc_id = run.documents(["source"])["doc_id"][0].as_py()
    told = "\n".join(story_lines(run, doc_id))
    assert "KEPT; its tokens are document" in told
    (place,) = run.places(doc_id)
    lineage = pq.read_table(f"{run_dir}/{place.shard}.lineage.parquet")
    assert lineage["doc_id"][place.row].as_py() == doc_id


def test_a_near_duplicate_names_the_twin_that_was_kept(run_dir: Path) -> None:
    run = Run(str(run_dir))
    for stage, scope in (("minhash-local", "local"), ("minhash-global", "global")):
        for row in run.dropped(stage, "near_duplicate"):
            evidence = row["verdict"]["evidence"]
            assert evidence["scope"] == scope
            assert row["verdict"]["value"] >= row["verdict"]["threshold"] == 0.8
            twin = run.story(evidence["kept"])
            assert [d.stage for d in twin][: len(run.stages)].count(stage) == 1
            assert next(d for d in twin if d.stage == stage).verdict is None


def test_partitions_change_no_byte_of_the_shards(
    spark: SparkSession, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    file = read_recipe(str(slice_of_the_demo(tmp_path)))
    seven = file.recipe.model_copy(update={"partitions": 7})
    run_recipe(spark, type(file)(seven, file.path, file.text))
    ours, other = Run(str(run_dir)), Run(str(tmp_path / "run"))
    assert ours.documents().equals(other.documents())
    for stage in ours.stages:
        assert ours.dropped(stage) == other.dropped(stage)
    assert files_under(run_dir / "shards") == files_under(tmp_path / "run" / "shards")
    assert files_under(run_dir / "tokenizer") == files_under(tmp_path / "run" / "tokenizer")


def test_the_mixture_is_planned_trained_and_reported(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schedule = tmp_path / "mixture.yaml"
    schedule.write_text(SCHEDULE)
    assert train.mixture.main(["plan", str(schedule), "--shards", f"{run_dir}/shards"]) == 0
    assert "zh-finance-law" in capsys.readouterr().out

    config = yaml.safe_load((ROOT / "configs/train/demo.yaml").read_text())
    config |= {
        "output": f"{run_dir}/train",
        "tokenizer": f"{run_dir}/tokenizer",
        "shards": f"{run_dir}/shards",
        "mixture": str(schedule),
        "batch_tokens": 1024,
        "micro_batch_tokens": 512,
        "deepspeed": str(ROOT / "configs/deepspeed/zero1.json"),
    }
    config["model"] |= {"base_tokenizer": str(ROOT / "samples/tokenizer/mistral-v1-32000.model")}
    config["model"]["config"] |= {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    config["phases"][0]["tokens"] = "4k"
    config["evaluation"]["tokens_per_bucket"] = 500
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(config))
    assert train.cpt.main([str(path)]) == 0

    summary = json.loads((run_dir / "train/summary.json").read_text())
    assert [phase["name"] for phase in summary["phases"]] == ["embeddings", "all"]
    assert sum(summary["drawn_tokens"].values()) == summary["tokens"]
    for bucket, planned in summary["planned_tokens"].items():
        # Contract 5: never a whole sequence away from the schedule.
        assert abs(summary["drawn_tokens"].get(bucket, 0) - planned) < 64
    before = sum(v["before"] for v in summary["perplexity"].values())
    assert sum(v["after"] for v in summary["perplexity"].values()) < before

    assert corpus.report.main([str(run_dir)]) == 0
    assert "→" in capsys.readouterr().out
    page = (run_dir / "report.html").read_text()
    for words in ("near_duplicate", "zh-finance-law", "Mixture: planned and drawn", "<svg"):
        assert words in page


def test_the_ledger_prints_the_funnel_and_samples(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert corpus.ledger.main([str(run_dir)]) == 0
    assert "minhash-global" in capsys.readouterr().out
    arguments = [str(run_dir), "--stage", "extract", "--rule", "needs_ocr", "--sample", "2"]
    assert corpus.ledger.main(arguments) == 0
    assert "needs_ocr" in capsys.readouterr().out


def test_the_first_notebook_runs(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = tmp_path / "mixture.yaml"
    schedule.write_text(SCHEDULE)
    monkeypatch.setenv("LIANJIN_RUN", str(run_dir))
    monkeypatch.setenv("LIANJIN_MIXTURE", str(schedule))
    notebook = nbformat.read(ROOT / "notebooks/01-look-at-a-corpus.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(ROOT)}}).execute()
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 4
