"""Every command teaches by --help, and turns a user's mistake into one line and exit status 2."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

# Each command with words that its help must hold.
COMMANDS = {
    "corpus.pipeline": ("recipe", "--check", "spark-submit"),
    "corpus.ledger": ("--doc", "--stage", "examples"),
    "corpus.report": ("report.html", "example"),
    "corpus.dist": ("--py-files",),
    "classifiers.train": ("example", "configs/classifiers"),
    "tokenization.extend": ("vocabulary", "example"),
    "tokenization.initialize": ("rows", "--model"),
    "tokenization.build_shards": ("spark-submit", "tokenizer", "output"),
    "train.mixture": ("plan", "plot", "check", "examples"),
    "train.cpt": ("--plan", "torchrun"),
    "train.export": ("AutoModelForCausalLM", "--phase"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_teaches(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(name).main(["--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    for word in COMMANDS[name]:
        assert word in said


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("corpus.pipeline", ["nowhere.yaml"], "nowhere.yaml: no such file"),
        ("corpus.ledger", ["nowhere"], "nowhere: no run here"),
        ("corpus.report", ["nowhere"], "nowhere: no run here"),
        ("train.mixture", ["plan", "nowhere.yaml", "--shards", "x"], "nowhere.yaml: no such file"),
        ("train.cpt", ["nowhere.yaml"], "nowhere.yaml: no such file"),
        ("tokenization.extend", ["nowhere.yaml"], "nowhere.yaml: no such file"),
        ("tokenization.build_shards", ["nowhere.yaml"], "nowhere.yaml: no such file"),
    ],
)
def test_a_missing_file_is_one_line_and_status_2(
    name: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert importlib.import_module(name).main(arguments) == 2
    assert message in capsys.readouterr().err


def test_spark_submit_starts_the_pipeline_and_refuses_a_wrong_key(tmp_path: Path) -> None:
    recipe = (ROOT / "configs/recipes/demo.yaml").read_text()
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(recipe.replace("timeout_s: 30", "timeout_s: soon"))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYSPARK_GATEWAY")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    environment["SPARK_CONF_DIR"] = "configs/spark"
    home = subprocess.run(
        [sys.executable, "-m", "corpus.session"], capture_output=True, text=True, check=True
    )
    environment["JAVA_HOME"] = home.stdout.strip()
    done = subprocess.run(
        ["spark-submit", "corpus/pipeline.py", str(wrong)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    line = next(n for n, text in enumerate(wrong.read_text().splitlines(), 1) if "soon" in text)
    assert f"wrong.yaml:{line}: stages.0.extract.timeout_s: " in done.stdout  # Spark hands it on so
    assert done.returncode == 2
