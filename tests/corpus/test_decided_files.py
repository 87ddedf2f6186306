"""Documents that workers write: the same as Spark would write, and nobody's files are removed."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from pyspark.sql import DataFrame, SparkSession

from corpus.decided_files import Tally, write_decided, writing
from corpus.keys import document_keys
from corpus.settings import Settings
from corpus.stage import BatchStage, FrameDocuments, StageContext, verdicts

IDS = [f"{number:032x}" for number in range(50)]
KEYS = document_keys(pa.array(IDS)).tolist()


class Thirds(BatchStage):
    """Drops every third document."""

    @property
    def needs(self) -> Sequence[str]:
        return ("number",)

    @property
    def adds(self) -> pa.Schema:
        return pa.schema([("double", pa.int64()), ("tags", pa.map_(pa.string(), pa.int64()))])

    def process(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        numbers = batch.column("number").to_pylist()
        return pa.RecordBatch.from_pydict(
            {
                "doc_id": batch.column("doc_id"),
                "double": pa.array([2 * number for number in numbers], pa.int64()),
                "tags": pa.array([[("n", number)] for number in numbers], self.adds[1].type),
                "verdict": verdicts([None if number % 3 else "third" for number in numbers]),
            }
        )


class ThirdsOfAFrame(Thirds):
    def decide(self, documents: DataFrame) -> DataFrame:
        return super().decide(documents)


def rows(folder: Path) -> list[dict[str, object]]:
    table = ds.dataset(folder, partitioning="hive").to_table()
    return sorted(table.to_pylist(), key=lambda row: row["doc_id"])


def test_workers_write_what_spark_writes(spark: SparkSession, tmp_path: Path) -> None:
    frame = spark.createDataFrame([*zip(IDS, range(50), strict=True)], "doc_id string, number long")
    results = []
    for kind in (Thirds, ThirdsOfAFrame):
        stage = kind("thirds", Settings(), StageContext("run", 1, {}))
        folder = tmp_path / kind.__name__
        tallies = write_decided(stage, FrameDocuments(frame.repartition(3)), str(folder))
        results.append((sorted(tallies, key=lambda tally: tally.outcome), rows(folder)))
    assert results[0] == results[1]
    third = [*range(0, 50, 3)]
    assert results[0][0] == [
        Tally("dropped", "third", 17, sum(KEYS[n] for n in third)),
        Tally("kept", None, 33, sum(KEYS[n] for n in range(50) if n not in third)),
    ]


def test_files_of_a_task_that_failed_are_removed(spark: SparkSession, tmp_path: Path) -> None:
    left = tmp_path / "outcome=kept" / "part-left.parquet"
    left.parent.mkdir()
    left.write_bytes(b"PAR1")
    stage = Thirds("thirds", Settings(), StageContext("run", 1, {}))
    frame = spark.createDataFrame([(IDS[1], 1)], "doc_id string, number long")
    assert write_decided(stage, FrameDocuments(frame), str(tmp_path)) == [
        Tally("kept", None, 1, KEYS[1])
    ]
    assert [row["double"] for row in rows(tmp_path)] == [2]


def test_what_is_held_is_written_by_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corpus.decided_files.ROW_GROUP_BYTES", 300)
    (tmp_path / "outcome=kept").mkdir()
    stage = Thirds("thirds", Settings(), StageContext("run", 1, {}))
    batch = pa.RecordBatch.from_pydict({"doc_id": IDS[1:3], "number": [1, 2]})
    write = writing(stage.process_all, stage.output_schema(), str(tmp_path))
    (summary,) = write(iter([batch] * 5))
    assert summary.column("documents").to_pylist() == [10]
    (file,) = ds.dataset(tmp_path).get_fragments()
    assert file.num_row_groups > 1
    assert len(rows(tmp_path)) == 10
