"""The stages on Spark: golden families, evidence, and results that no partitioning changes."""

import random

import numpy as np
import pyarrow as pa
import pytest
from dedup_samples import BASE, Asked, context, corpus, documents, edited, prose, signed, story
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from corpus.dedup.keeping import Keeping
from corpus.dedup.stages import Exact, MinHash
from corpus.keys import category_keys, document_keys

FAMILY = [
    {"doc_id": "d0", "text": BASE, "date": "2001-01-01"},
    {"doc_id": "d1", "text": edited(BASE, [100, 200]), "date": "2020-05-01"},
    {"doc_id": "d2", "text": edited(BASE, [50]), "date": "2010-01-01"},
    {"doc_id": "cut", "text": BASE[:360], "date": "2024-01-01"},
    {"doc_id": "far", "text": edited(BASE, range(0, 400, 9)), "date": "2024-01-01"},
    {"doc_id": "other", "text": prose(2)},
    {"doc_id": "empty", "text": ""},
    {"doc_id": "null", "text": None},
    {"doc_id": "one", "text": "一"},
    {"doc_id": "emoji", "text": "🙂🙂"},
]


def test_a_family_leaves_its_newest_whole_copy(spark: SparkSession) -> None:
    stage = MinHash("minhash-global", MinHash.Config(), context())
    decided = stage.decide(signed(documents(spark, FAMILY)))
    assert story(decided) == {
        "d0": ("near_duplicate", "d1"),
        "d1": None,
        "d2": ("near_duplicate", "d1"),
        "cut": ("near_duplicate", "d1"),
        "far": None,
        "other": None,
        "empty": None,
        "null": None,
        "one": None,
        "emoji": None,
    }
    verdict = next(row.verdict for row in decided.collect() if row.doc_id == "d2")
    one, two = (
        {text[i : i + 5] for i in range(396)} for text in (FAMILY[2]["text"], FAMILY[1]["text"])
    )
    assert verdict.value == len(one & two) / len(one | two)
    assert (verdict.threshold, verdict.evidence["scope"]) == (0.8, "global")


@pytest.mark.parametrize("most", [100, 2], ids=["told to the workers", "joined by Spark"])
def test_columns_of_members_come_apart(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    frame = signed(documents(spark, FAMILY)).cache()
    stage = MinHash("minhash-global", MinHash.Config(), context())
    expected = story(stage.decide(frame))
    monkeypatch.setattr("corpus.dedup.members.BROADCAST_ROWS", most)
    read = Asked(frame)
    assert story(stage.decide_from(read)) == expected
    # No file holds them all: what is read together is what one stage has written.
    assert set(read.columns) == {(), ("minhash",), ("text",), ("source", "date")}


def test_keys_are_those_of_spark(spark: SparkSession) -> None:
    rng = random.Random(7)
    ids = [prose(rng.randrange(99), rng.randrange(40)) + "a" * n for n in range(70)]
    rows = pa.table({"doc_id": ids, "kind": pa.array(["law", None] * 35, pa.string())})
    for batch in rows.to_batches():
        keys = spark.createDataFrame(rows).select(
            F.xxhash64("doc_id"), F.xxhash64("doc_id", F.coalesce("kind", F.lit("\0")))
        )
        one, both = zip(*keys.collect(), strict=True)
        assert document_keys(batch["doc_id"]).tolist() == list(one)
        assert category_keys(batch, ("doc_id", "kind")).view(np.int64).tolist() == list(both)


def test_source_priority_comes_before_the_date(spark: SparkSession) -> None:
    rows = [row | {"source": "book" if row["doc_id"] == "d0" else "web"} for row in FAMILY]
    stage = MinHash("minhash-global", MinHash.Config(), context(book=5, web=1))
    decided = story(stage.decide(signed(documents(spark, rows))))
    assert [d for d in ("d0", "d1", "d2", "cut") if decided[d] is None] == ["d0"]


def test_a_chain_does_not_drift(spark: SparkSession) -> None:
    steps = [edited(BASE, range(0, 8 * k, 8)) for k in (0, 8, 16, 24)]  # a ~ b ~ c ~ d, a !~ c
    rows = [{"doc_id": "abcd"[k], "text": text} for k, text in enumerate(steps)]
    rows[0]["date"] = "2030-01-01"
    stage = MinHash("minhash-global", MinHash.Config(threshold=0.7), context())
    decided = story(stage.decide(signed(documents(spark, rows))))
    assert decided["a"] is None
    assert decided["b"] == ("near_duplicate", "a")
    # c and d are not like a: they are a family of their own, whatever b was like.
    assert decided["c"] is None
    assert decided["d"] == ("near_duplicate", "c")


def test_local_deduplication_stays_inside_its_category(spark: SparkSession) -> None:
    rows = [
        {"doc_id": "a1", "text": BASE, "source": "a", "kind": None},
        {"doc_id": "a2", "text": BASE, "source": "a", "kind": None},
        {"doc_id": "b1", "text": BASE, "source": "b", "kind": None},
        {"doc_id": "b2", "text": BASE, "source": "b", "kind": "law"},
    ]
    frame = signed(documents(spark, rows))
    local = MinHash("minhash-local", MinHash.Config(by=("source", "kind")), context())
    decided = story(local.decide(frame))
    assert decided == {"a1": None, "a2": ("near_duplicate", "a1"), "b1": None, "b2": None}
    assert local.decide(frame).where("verdict is not null").collect()[0].verdict.evidence == {
        "kept": "a1",
        "scope": "local",
        "by": "source, kind",
    }


def test_partitions_and_order_change_nothing(spark: SparkSession) -> None:
    rows = corpus()
    stage = MinHash("minhash-global", MinHash.Config(), context(a=1, b=2))
    results = []
    for partitions in (1, 2, 7):
        random.Random(partitions).shuffle(rows)
        frame = signed(documents(spark, rows)).repartition(partitions)
        decided = stage.decide(frame).collect()
        results.append(sorted((r.doc_id, str(r.verdict)) for r in decided))
    assert results[0] == results[1] == results[2]
    dropped = [r for r in results[0] if r[1] != "None"]
    assert len([r for r in dropped if r[0].startswith("star")]) == 89
    assert 100 < len(dropped) < len(rows) - 25


def test_local_then_global_leaves_what_global_alone_leaves(spark: SparkSession) -> None:
    frame = signed(documents(spark, corpus())).cache()
    local = MinHash("minhash-local", MinHash.Config(by=("source",)), context())
    whole = MinHash("minhash-global", MinHash.Config(), context())
    first = local.decide(frame)
    survivors = frame.join(first.where("verdict is null").select("doc_id"), "doc_id")
    second = story(whole.decide(survivors))
    alone = story(whole.decide(frame))
    assert {d for d, v in second.items() if v is None} == {d for d, v in alone.items() if v is None}
    assert first.where("verdict is not null").count() > 10


def test_exact_copies(spark: SparkSession) -> None:
    rows: list[dict[str, str | None]] = [
        {"doc_id": "1", "text": "同一段文字。", "date": "2020"},
        {"doc_id": "2", "text": " 同一段，文字", "date": "2021"},
        {"doc_id": "3", "text": "另一段文字", "url": "https://example.org/a", "title": "题"},
        {"doc_id": "4", "text": "又一段文字", "url": " https://example.org/a", "title": "题"},
        {"doc_id": "5", "text": "再一段", "url": None, "title": "题", "date": "2020"},
        {"doc_id": "6", "text": "还有段", "url": None, "title": "题 ", "date": "2020"},
        {"doc_id": "7", "text": ""},
        {"doc_id": "8", "text": ""},
        {"doc_id": "9", "text": None},
        {"doc_id": "a", "text": "🙂"},
        {"doc_id": "b", "text": "🙂"},
        {"doc_id": "c", "text": "🙂🙂"},
        {"doc_id": "d", "text": "短"},
        {"doc_id": "e", "text": "短！"},
    ]
    frame = documents(spark, rows)
    decided = story(Exact("exact", Exact.Config(), context()).decide(frame))
    assert {k: v for k, v in decided.items() if v} == {
        "1": ("exact_duplicate", "2"),
        "b": ("exact_duplicate", "a"),
        "e": ("exact_duplicate", "d"),
    }
    every = Exact.Config(by=("text", "url", "title_date"), keep=Keeping())
    decided = story(Exact("exact", every, context()).decide(frame))
    assert {k: v for k, v in decided.items() if v} == {
        "1": ("exact_duplicate", "2"),
        "4": ("same_url", "3"),
        "6": ("same_title_and_date", "5"),
        "b": ("exact_duplicate", "a"),
        "e": ("exact_duplicate", "d"),
    }


def test_nothing_to_drop(spark: SparkSession) -> None:
    frame = documents(spark, [{"doc_id": "1", "text": "一"}, {"doc_id": "2", "text": BASE}])
    for stage in (
        Exact("exact", Exact.Config(), context()),
        MinHash("minhash-global", MinHash.Config(), context()),
    ):
        assert story(stage.decide(signed(frame))) == {"1": None, "2": None}


def test_other_permutations_than_the_signatures_have_are_refused(spark: SparkSession) -> None:
    frame = signed(documents(spark, FAMILY))
    stage = MinHash("minhash-global", MinHash.Config(permutations=128), context())
    with pytest.raises(Exception, match="112 permutations, not 128"):
        stage.decide(frame)
