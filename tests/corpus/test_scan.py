"""Parquet read by the workers: every document once, without those that are dropped."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from corpus.scan import ParquetDocuments, id_array, is_in, map_parquet, read_ids

IDS = [f"{number:032x}" for number in range(100)]
TEXTS = [f"第{number}篇" * (number % 5) for number in range(100)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("documents")
    table = pa.table({"doc_id": IDS, "source": ["a"] * 100, "text": TEXTS})
    pq.write_table(table.slice(0, 30), path / "a.parquet", row_group_size=7)
    (path / "inside").mkdir()
    pq.write_table(table.slice(30), path / "inside" / "b.parquet", row_group_size=50)
    (path / "_SUCCESS").touch()
    return str(path)


def same(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        assert batch.schema.names == ["doc_id", "text"]
        yield batch


def test_every_row_comes_once(spark: SparkSession, folder: str) -> None:
    frame = ParquetDocuments(spark, folder).map(["text"], same, "doc_id string, text string")
    assert sorted(frame.collect()) == list(zip(IDS, TEXTS, strict=True))


def test_dropped_documents_are_left_out(spark: SparkSession, folder: str) -> None:
    without = np.array(sorted(text.encode() for text in [*IDS[3:90], "f" * 32]))
    schema = pa.schema([("doc_id", pa.string()), ("text", pa.large_string())])
    frame = map_parquet(spark, folder, ["text"], same, schema, schema, without)
    assert sorted(row.doc_id for row in frame.collect()) == IDS[:3] + IDS[90:]


def test_more_pieces_than_row_groups_lose_none(
    spark: SparkSession, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corpus.scan.PARTITION_BYTES", 100)
    frame = ParquetDocuments(spark, folder).map([], lambda batches: batches, "doc_id string")
    assert frame.rdd.getNumPartitions() > 10
    assert sorted(row.doc_id for row in frame.collect()) == IDS


def test_columns_that_are_few_are_read_by_few_tasks(
    spark: SparkSession, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corpus.scan.PARTITION_BYTES", 200)
    read = ParquetDocuments(spark, folder)
    frames = [read.map(names, lambda batches: batches, "doc_id string") for names in ([], ["text"])]
    few, many = (frame.rdd.getNumPartitions() for frame in frames)
    assert few < many


def test_no_file_is_no_document(spark: SparkSession, tmp_path: Path) -> None:
    frame = ParquetDocuments(spark, str(tmp_path)).map(["text"], same, "doc_id string")
    assert frame.collect() == []


def test_a_damaged_file_is_named(spark: SparkSession, folder: str, tmp_path: Path) -> None:
    whole = Path(folder, "a.parquet").read_bytes()
    (tmp_path / "torn.parquet").write_bytes(whole[: len(whole) // 2])
    frame = ParquetDocuments(spark, str(tmp_path)).map(["text"], same, "doc_id string, text string")
    with pytest.raises(Exception, match=r"torn\.parquet: cannot be read as Parquet"):
        frame.collect()


def test_ids_are_read_sorted(folder: str) -> None:
    assert read_ids(folder).tolist() == [text.encode() for text in IDS]


def test_ids_of_unequal_length_keep_their_order() -> None:
    ids = id_array(pa.array(["b", "", "long"]).slice(1))
    assert ids.tolist() == [b"", b"long"]
    assert is_in(ids, np.array([b"aa", b"long"])).tolist() == [False, True]
    assert is_in(ids, np.zeros(0, "S4")).tolist() == [False, False]
