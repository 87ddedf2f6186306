"""Long spans: every repeated window is found, one stays whole, and cuts fall between sentences."""

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from corpus.dedup import spans
from corpus.dedup.span_kernels import PRIME, _times
from corpus.dedup.spans import LongSpansConfig, cut_spans
from corpus.dedup.stages import LongSpans
from corpus.document import DOCUMENT
from corpus.scan import ParquetDocuments
from corpus.settings import Settings
from corpus.stage import FrameDocuments, Read, StageContext, spark_schema

SHORT = LongSpansConfig(min_characters=20, sentences=False)
ALPHABET = [chr(0x4E00 + i) for i in range(2000)]


class Source(Settings):
    priority: int = 0


def prose(rng: random.Random, length: int) -> str:
    return "".join(rng.choice(ALPHABET) for _ in range(length))


def chosen_twice(batch: pa.RecordBatch, length: int, bits: int = 20) -> np.ndarray:
    found = list(spans._more_than_once(spans._packed_grams([batch], length)))
    slices = pa.Table.from_batches(
        spans._slices(found, bits), pa.schema([("part", pa.int32()), ("grams", pa.binary())])
    )
    return spans.joined_slices(slices, bits)


def marked(texts: list[str], config: LongSpansConfig = SHORT) -> pa.RecordBatch:
    """The documents with their marks, as the last task gets them, without Spark."""
    batch = pa.RecordBatch.from_pydict(
        {"doc_id": [f"{n:04d}" for n in range(len(texts))], "text": pa.array(texts)}
    )
    chosen = chosen_twice(batch, config.min_characters)
    runs = spans._packed_runs([batch], config.min_characters, chosen, {})
    marks = pa.Table.from_batches(
        spans._gather(spans._pick_repeated(runs)),
        pa.schema([("key", pa.int64()), ("marks", pa.binary())]),
    )
    return spans.with_marks(batch, marks.sort_by("key").combine_chunks())


def windows_of(blob: bytes | None) -> list[int]:
    """Twice the place of each window that a document's marks name, and 1 where it is kept."""
    runs = np.frombuffer(blob or bytes(8), np.int64)[1:].reshape(-1, 2).tolist()
    return [2 * (first + n) + count % 2 for first, count in runs for n in range(count // 2)]


def test_products_modulo_the_prime() -> None:
    rng = random.Random(1)
    prime = int(PRIME)
    for _ in range(200):
        a, b = rng.randrange(prime), rng.randrange(prime)
        assert int(_times(np.uint64(a), np.uint64(b))) == a * b % prime
    assert int(_times(np.uint64(prime - 1), np.uint64(prime - 1))) == 1


@pytest.mark.parametrize("room", [1 << 20, 1], ids=["at once", "in pieces"])
def test_every_repeated_window_is_found_and_its_first_place_keeps_it(
    monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    rng = random.Random(2)
    passages = [prose(rng, n) for n in (19, 20, 21, 35, 60)]
    texts = []
    for _ in range(40):
        parts = [rng.choice(passages) if rng.random() < 0.5 else prose(rng, 25) for _ in range(4)]
        texts.append("".join(parts))
    texts += ["一" * 70, "甲乙" * 30, "短", ""]
    places: dict[str, list[tuple[int, int]]] = {}
    for d, text in enumerate(texts):
        for t in range(len(text) - 19):
            places.setdefault(text[t : t + 20], []).append((d, t))
    expected = sorted(
        (d, 2 * t + (n == 0))
        for where in places.values()
        if len(where) > 1
        for n, (d, t) in enumerate(where)
    )
    assert len(expected) > 500
    monkeypatch.setattr(spans, "HASHES_A_ROW", room)
    batch = marked(texts)
    found = [
        (d, mark) for d, blob in enumerate(batch["marks"].to_pylist()) for mark in windows_of(blob)
    ]
    assert found == expected


def test_a_passage_stays_in_one_document_and_is_cut_from_the_others() -> None:
    rng = random.Random(3)
    passage = prose(rng, 30)
    texts = [f"{prose(rng, 30)}{passage}", f"{passage}，{prose(rng, 30)}", passage, passage[:19]]
    result = cut_spans(marked(texts), SHORT)
    assert result["text"].to_pylist() == [texts[0], texts[1][30:], "", texts[3]]
    assert result["spans_cut"].to_pylist() == [0, 1, 1, 0]
    assert result["span_characters_cut"].to_pylist() == [0, 30, 30, 0]
    assert result["span_characters"].to_pylist() == [60, 60, 30, 19]
    verdicts = result["verdict"].to_pylist()
    assert [v and (v["rule"], v["value"]) for v in verdicts] == [
        None,
        None,
        ("repeated_spans", 1.0),
        None,
    ]


def test_cuts_fall_between_sentences() -> None:
    notice = "本报告仅供参考，不构成任何投资建议。投资者据此操作，风险自担。”"
    first = f"甲公司今年利润增长。{notice}全文完。"
    second = f"乙公司今年收入下降3.5个百分点。{notice}\n联系我们。"
    sentences = LongSpansConfig(min_characters=20)
    batch = marked([first, second], sentences)
    assert cut_spans(batch, sentences)["text"].to_pylist() == [
        first,
        "乙公司今年收入下降3.5个百分点。\n联系我们。",
    ]
    # The passage begins and ends inside sentences: what is left of these stays whole.
    third = f"我们认为{notice}此外还有补充说明。"
    fourth = f"他们认为{notice}此外还有其他信息。"
    batch = marked([third, fourth], sentences)
    assert cut_spans(batch, sentences)["text"].to_pylist() == [
        third,
        "他们认为本报告仅供参考，不构成任何投资建议。此外还有其他信息。",
    ]
    assert cut_spans(batch, SHORT)["text"].to_pylist() == [third, "他其他信息。"]


def test_a_mark_that_does_not_fit_the_text_cuts_nothing() -> None:
    batch = marked(["一二三四五六七八九十" * 2 + "甲", "一二三四五六七八九十" * 2 + "乙"])
    assert cut_spans(batch, SHORT)["spans_cut"].to_pylist() == [0, 1]
    other = batch.set_column(1, "text", pa.array(["天" * 40, "地" * 40]))
    assert cut_spans(other, SHORT)["text"].to_pylist() == ["天" * 40, "地" * 40]


def test_windows_that_agree_in_one_hash_are_told_apart_by_the_other() -> None:
    # Four documents of one window each, in a run of its own; two by two they are the same.
    runs = np.array([[5, 1, 7, 0, n, n] for n in range(4)], np.uint64)
    keys, places = spans.picked(runs, np.array([[9, 2], [9, 1], [9, 2], [9, 1]], np.uint64))[1:]
    assert keys.tolist() == [0, 1, 2, 3]
    assert places.tolist() == [[7, 3, 9], [7, 3, 9], [7, 2, 9], [7, 2, 9]]
    assert len(spans.picked(runs[:2], np.array([[9, 2], [9, 1]], np.uint64))[0]) == 0


def test_runs_are_joined_by_document_where_they_meet() -> None:
    runs = [(8, 30, 4, 1), (7, 10, 6, 5), (7, 0, 21, 2), (7, 13, 2, -3), (7, 15, 2, 1)]
    keys, numbers = np.array([run[0] for run in runs]), np.array([run[1:] for run in runs])
    assert [
        (key, np.frombuffer(marks, np.int64).tolist())
        for key, marks in zip(
            *spans.gathered(keys, numbers.view(np.uint64)).to_pydict().values(), strict=True
        )
    ] == [(7, [5, 0, 21, 10, 8, 15, 2]), (8, [1, 30, 4])]


@pytest.mark.parametrize("broadcast_bytes", [1 << 20, 0], ids=["broadcast", "joined"])
@pytest.mark.parametrize("partitions", [1, 3, 0])
def test_partitions_change_nothing_and_priority_decides(
    spark: SparkSession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    partitions: int,
    broadcast_bytes: int,
) -> None:
    monkeypatch.setattr(spans, "BROADCAST_BYTES", broadcast_bytes)
    rng = random.Random(4)
    passage = prose(rng, 200)
    own = [prose(rng, 50) for _ in range(4)]
    defaults: dict[str, object] = dict.fromkeys(DOCUMENT.names)
    rows = [
        defaults | {"doc_id": doc_id, "source": source, "text": text}
        for doc_id, source, text in (
            ("a", "web", own[0] + passage),
            ("b", "book", own[1] + passage),
            ("c", "book", passage + own[2]),
            ("d", "web", passage[:199] + own[3]),
            ("e", "web", None),
        )
    ]
    read: Read
    if partitions:
        frame = spark.createDataFrame(
            pa.Table.from_pylist(rows, DOCUMENT).to_pandas(), spark_schema(DOCUMENT)
        )
        read = FrameDocuments(frame.repartition(partitions))
    else:  # workers read the file themselves
        pq.write_table(pa.Table.from_pylist(rows, DOCUMENT), tmp_path / "a.parquet")
        read = ParquetDocuments(spark, str(tmp_path))
    context = StageContext("", 0, {"book": Source(priority=2), "web": Source(priority=1)})
    decided = LongSpans("long-spans", LongSpansConfig(), context).decide_from(read).collect()
    assert {row.doc_id: row.text for row in decided} == {
        "a": own[0],
        "b": own[1] + passage,
        "c": own[2],
        "d": passage[:199] + own[3],
        "e": None,
    }
    assert all(row.verdict is None for row in decided)
