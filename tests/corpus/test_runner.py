"""The law of conservation, resume, and independence of partitions, on toy stages."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from corpus.document import DOCUMENT, RAW, document_id
from corpus.ledger import Run, diff_lines, story_lines
from corpus.records import read_record, write_json
from corpus.runner import ConservationError, Survivors, check_columns, run_stages
from corpus.settings import Settings, UserError
from corpus.stage import BatchStage, Stage, StageContext, spark_schema, verdicts

TEXTS = [f"document {n} " + "x" * (n % 7) for n in range(40)]
CONTEXT = StageContext(run_dir="run", seed=1, sources={})


def raw_documents(spark: SparkSession, partitions: int = 2) -> DataFrame:
    rows = [
        {
            "doc_id": document_id("toy", str(n)),
            "source": "toy",
            "lang": "en",
            "domain": "general",
            "kind": "web",
            "locator": str(n),
            "media": "text",
            "payload": text.encode(),
        }
        for n, text in enumerate(TEXTS)
    ]
    table = pa.Table.from_pylist(rows, schema=RAW)
    frame = spark.createDataFrame(table.to_pandas(), spark_schema(RAW))
    return frame.repartition(partitions)


class Read(BatchStage):
    rewrites_text = True

    @property
    def needs(self) -> Sequence[str]:
        return RAW.names[1:]

    @property
    def adds(self) -> pa.Schema:
        return pa.schema(
            [DOCUMENT.field(n) for n in DOCUMENT.names if n not in ("doc_id", "text")]
            + [RAW.field("locator")]
        )

    def process(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = {name: batch[name] for name in ["doc_id", *self.adds.names]}
        columns["text"] = pa.array([p.decode() for p in batch["payload"].to_pylist()])
        columns["verdict"] = verdicts([None] * batch.num_rows)
        return pa.RecordBatch.from_pydict(columns)


class LengthConfig(Settings):
    maximum: int = 16


class Length(BatchStage):
    """Drops long texts; raises on one document when it is told to."""

    Config = LengthConfig
    config: LengthConfig

    @property
    def needs(self) -> Sequence[str]:
        return ["text"]

    @property
    def adds(self) -> pa.Schema:
        return pa.schema([("length", pa.int64())])

    def process(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        texts = batch["text"].to_pylist()
        if any(text.startswith("document 13 ") for text in texts):
            raise ValueError("thirteen")
        lengths = [len(text) for text in texts]
        long = [n > self.config.maximum for n in lengths]
        verdict = verdicts(
            ["too_long" if flag else None for flag in long],
            [float(n) if flag else None for n, flag in zip(lengths, long, strict=True)],
            [float(self.config.maximum) if flag else None for flag in long],
        )
        return pa.RecordBatch.from_arrays(
            [batch["doc_id"], pa.array(lengths), verdict], names=["doc_id", "length", "verdict"]
        )


class Shout(BatchStage):
    rewrites_text = True

    @property
    def needs(self) -> Sequence[str]:
        return ["text", "length"]

    @property
    def adds(self) -> pa.Schema:
        return pa.schema([("shouted", pa.bool_())])

    def process(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        texts = [text.upper() for text in batch["text"].to_pylist()]
        size = batch.num_rows
        return pa.RecordBatch.from_arrays(
            [batch["doc_id"], pa.array([True] * size), pa.array(texts), verdicts([None] * size)],
            names=["doc_id", "shouted", "text", "verdict"],
        )


class Loses(Length):
    def decide(self, documents: DataFrame) -> DataFrame:
        return super().decide(documents).where("length <> 12")


class Killed(Shout):
    """Writes a part of its result, and then the machine goes down."""

    def decide(self, documents: DataFrame) -> DataFrame:
        half = super().decide(documents).limit(3).drop("verdict")
        half.write.parquet(f"{os.environ['TOY_RUN']}/stages/03-shout/attempt-half/outcome=kept")
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("unreachable")


class Doubles(Length):
    def decide(self, documents: DataFrame) -> DataFrame:
        decided = super().decide(documents)
        return decided.union(decided.limit(1))


def toy(maximum: int = 16, middle: type[Length] = Length) -> list[Stage]:
    return [
        Read("read", Settings(), CONTEXT),
        middle("length", LengthConfig(maximum=maximum), CONTEXT),
        Shout("shout", Settings(), CONTEXT),
    ]


def results(run_dir: Path) -> list[list[dict[str, object]]]:
    """Everything that a run decided, in an order of its own."""
    run = Run(str(run_dir))
    return [run.decided(name).to_table().sort_by("doc_id").to_pylist() for name in run.stages]


def execute(spark: SparkSession, run_dir: Path, stages: list[Stage], partitions: int = 2) -> None:
    write_json(
        f"{run_dir}/run.json",
        {
            "name": "toy",
            "sources": [],
            "stages": [f"{i + 1:02d}-{stage.name}" for i, stage in enumerate(stages)],
        },
    )
    run_stages(spark, str(run_dir), raw_documents(spark, partitions), "raw", stages)


def test_every_document_is_kept_or_dropped_with_its_reason(
    spark: SparkSession, tmp_path: Path
) -> None:
    execute(spark, tmp_path, toy())
    records = Run(str(tmp_path)).stages
    read, length, shout = records.values()
    assert (read.documents_in, read.kept, read.dropped) == (40, 40, 0)
    long = sum(len(text) > 16 for n, text in enumerate(TEXTS) if n != 13)
    assert length.dropped_by_rule == {"too_long": long, "error": 1}
    assert (shout.documents_in, shout.kept) == (length.kept, length.kept)
    error = Run(str(tmp_path)).dropped("length", "error")
    assert [row["text"] for row in error] == [TEXTS[13]]
    assert error[0]["verdict"]["evidence"] == {"exception": "ValueError", "message": "thirteen"}
    assert error[0]["locator"] == "13"


@pytest.mark.parametrize(
    ("stage", "message"), [(Loses, "39 out; lost"), (Doubles, "41 out; lost: none, made up: none")]
)
def test_a_stage_that_breaks_conservation_is_stopped(
    spark: SparkSession, tmp_path: Path, stage: type[Length], message: str
) -> None:
    # The document that raises has no length, so `length <> 12` loses it too.
    message = message.replace("39", str(39 - sum(len(text) == 12 for text in TEXTS)))
    with pytest.raises(ConservationError, match=message):
        execute(spark, tmp_path, toy(100, stage))
    assert read_record(f"{tmp_path}/stages/02-length") is None


@pytest.mark.parametrize("partitions", [1, 7])
def test_partitions_change_nothing(spark: SparkSession, tmp_path: Path, partitions: int) -> None:
    execute(spark, tmp_path / "two", toy(), 2)
    execute(spark, tmp_path / "other", toy(), partitions)
    assert results(tmp_path / "two") == results(tmp_path / "other")


def test_a_changed_threshold_reruns_only_what_depends_on_it(
    spark: SparkSession, tmp_path: Path
) -> None:
    execute(spark, tmp_path, toy(16))
    before = Run(str(tmp_path)).stages
    execute(spark, tmp_path, toy(16))
    assert Run(str(tmp_path)).stages == before
    execute(spark, tmp_path, toy(15))
    after = Run(str(tmp_path)).stages
    assert after["read"] == before["read"]
    assert after["length"].attempt != before["length"].attempt
    assert after["shout"].attempt != before["shout"].attempt
    assert len(list((tmp_path / "stages" / "02-length").glob("attempt-*"))) == 1


def test_columns_come_from_where_they_were_written_last(
    spark: SparkSession, tmp_path: Path
) -> None:
    stages = toy()
    finished = run_stages(spark, str(tmp_path), raw_documents(spark), "raw", stages)
    rows = Survivors(spark, finished)(["text", "length", "kind"]).collect()
    assert {(row.text, row.length, row.kind) for row in rows} == {
        (text.upper(), len(text), "web")
        for n, text in enumerate(TEXTS)
        if len(text) <= 16 and n != 13
    }
    ids = [document_id("toy", str(n)) for n in (7, 13, 14, 99)]  # kept, dropped, kept, unknown
    wanted = spark.createDataFrame(pa.table({"doc_id": ids})).selectExpr("xxhash64(doc_id) as key")
    few = Survivors(spark, finished)(["text", "kind"], F.broadcast(wanted)).collect()
    assert {row.doc_id: row.text for row in few} == {
        ids[0]: TEXTS[7].upper(),
        ids[2]: TEXTS[14].upper(),
    }


@pytest.mark.parametrize("task_bytes", [100, 1 << 20], ids=["many tasks", "few tasks"])
def test_texts_meet_the_columns_of_other_stages_in_the_workers(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task_bytes: int
) -> None:
    monkeypatch.setattr("corpus.scan.PARTITION_BYTES", task_bytes)
    stages = toy()
    finished = run_stages(spark, str(tmp_path), raw_documents(spark), "raw", stages)
    read = Survivors(spark, finished)
    columns = ["length", "text", "kind"]
    schema = "doc_id string, length long, text string, kind string"
    frame = read.map(columns, lambda batches: batches, schema)
    assert sorted(frame.collect()) == sorted(read(columns).collect())
    assert frame.count() == finished[-1].record.kept > 10
    plan = frame._jdf.queryExecution().executedPlan().toString()
    assert "ReadSchema" in plan
    assert "text:string" not in plan  # the JVM reads no text


def test_the_ledger_tells_a_documents_story(spark: SparkSession, tmp_path: Path) -> None:
    execute(spark, tmp_path, toy())
    run = Run(str(tmp_path))
    dropped, kept = document_id("toy", "6"), document_id("toy", "7")
    told = "\n".join(story_lines(run, dropped))
    assert "DROPPED by the rule 'too_long': 17 against 16" in told
    assert "shout" not in told
    assert "KEPT" in "\n".join(story_lines(run, kept))
    assert list(diff_lines(run, kept))[-2:] == ["-document 7 ", "+DOCUMENT 7 "]
    with pytest.raises(UserError, match="no document has the id 'nobody'"):
        run.story("nobody")


def test_a_recipe_that_lacks_a_column_is_refused() -> None:
    read, length, shout = toy()
    with pytest.raises(UserError, match=r"stages.1.shout: needs the column 'length'"):
        check_columns([read, shout, length], "recipe.yaml")
    with pytest.raises(UserError, match="adds the column 'length', which the stage 'length'"):
        check_columns([read, length, length], "recipe.yaml")


KILLED = """
import os
from pathlib import Path
import test_runner as toys
from corpus.session import spark_session

options = {
    "spark.ui.enabled": "false",
    "spark.master": "local[1]",
    "spark.sql.shuffle.partitions": "1",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
}
spark = spark_session("killed", options)
stages = toys.toy()
stages[2] = toys.Killed("shout", toys.Settings(), toys.CONTEXT)
toys.execute(spark, Path(os.environ["TOY_RUN"]), stages)
"""


def test_a_killed_run_goes_on_at_the_unfinished_stage(spark: SparkSession, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYSPARK_GATEWAY")}
    environment["TOY_RUN"] = str(tmp_path / "killed")
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, env=environment)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    assert list(Run(str(tmp_path / "killed")).stages) == ["read", "length"]
    before = Run(str(tmp_path / "killed")).stages
    execute(spark, tmp_path / "killed", toy())
    execute(spark, tmp_path / "undisturbed", toy())
    after = Run(str(tmp_path / "killed")).stages
    assert {name: after[name] for name in before} == before
    assert results(tmp_path / "killed") == results(tmp_path / "undisturbed")
