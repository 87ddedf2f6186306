"""Stars, hot buckets and giant components: spread over tasks, with the results of one task."""

import random

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession

from corpus.dedup.bands import sketch_radius
from corpus.dedup.buckets import RECORD_SCHEMA, pack
from corpus.dedup.grouping import (
    Groups,
    Limits,
    _grouped_by_spark,
    _grouped_here,
    _in_hot_buckets,
    _link_pieces,
    _link_rows,
    _pieces,
    _salted,
    find_groups,
)
from corpus.dedup.minhash import MinHashConfig, deduplicate

ALPHABET = [chr(0x4E00 + i) for i in range(3000)]


def prose(rng: random.Random, length: int) -> str:
    return "".join(rng.choice(ALPHABET) for _ in range(length))


def grouped(found: Groups | None) -> dict[int, tuple[int, int | None]]:
    assert found is not None
    rows = found.frame.collect()
    assert found.members == len(rows)
    return {row.key: (row.group, row.asDict().get("component")) for row in rows}


def test_spark_groups_as_the_driver_does(spark: SparkSession) -> None:
    rng = np.random.default_rng(2)
    names = np.sort(rng.integers(-(2**62), 2**62, 60))
    path = np.column_stack([np.arange(56, 59), np.arange(57, 60)])  # the longest way to go
    ends = np.concatenate([rng.integers(0, 56, (38, 2)), path])
    links = np.column_stack([rng.integers(0, 9, len(ends)), ends])[ends[:, 0] != ends[:, 1]]
    rows = [batch for part in np.array_split(links, 3) for batch in _link_rows(part, names)]
    fields = ["distances", "left", "right"]
    forest = spark.createDataFrame(pa.Table.from_batches(rows).select(fields))
    here, there = _grouped_here(forest, 6), _grouped_by_spark(forest, 6)
    assert grouped(here) == grouped(there)
    assert here.giants == there.giants > 0


def test_a_hot_bucket_is_dealt_out_by_a_salt_and_linked_again() -> None:
    rng = np.random.default_rng(3)
    keys = rng.integers(-(2**62), 2**62, 1_000)
    hashes = np.full(1_000, 77, np.uint64)
    sketches = np.zeros((1_000, 2), np.uint64)
    sketches[::10] = np.uint64(2**64 - 1)  # another family in the same bucket
    stored = np.zeros(1_000, np.bool_)
    assert _in_hot_buckets(hashes, 1_000) is None
    mixed = np.append(hashes, [5, 5]).astype(np.uint64)
    assert _in_hot_buckets(mixed, 100).tolist() == [True] * 1_000 + [False] * 2
    pieces = _salted(hashes, keys, 100)
    sizes = np.unique(pieces, return_counts=True)[1]
    assert len(sizes) == 10
    assert sizes.max() < 160
    dealt = list(_pieces(pieces, hashes, keys, sketches, stored))
    radius = sketch_radius(0.8, 112)
    linked = pa.Table.from_batches(_link_pieces(dealt, radius, True))
    leaders = linked.filter(linked["piece"].is_valid())
    assert sum(len(blob) // 8 for blob in leaders["keys"].to_pylist()) == 20  # two a piece
    again = pa.Table.from_batches(_link_pieces(leaders.to_batches(), radius, False))
    ends: dict[int, int] = {}

    def root(node: int) -> int:
        while ends.setdefault(node, node) != node:
            node = ends[node]
        return node

    for table in (linked, again):
        for row in table.filter(table["left"].is_valid()).to_pylist():
            columns = (np.frombuffer(row[name], np.int64).tolist() for name in ("left", "right"))
            for left, right in zip(*columns, strict=True):
                ends[root(left)] = root(right)
    families = [{root(key) for key in part.tolist()} for part in (keys[::10], keys[1::10])]
    assert [len(family) for family in families] == [1, 1]
    assert families[0] != families[1]


def test_a_star_larger_than_a_task_leaves_one_document(spark: SparkSession) -> None:
    rng = random.Random(4)
    text = prose(rng, 120)
    rows = [(f"{n:03d}", text + ALPHABET[n]) for n in range(150)]
    rows += [(f"x{n}", prose(rng, 120)) for n in range(3)]
    random.Random(5).shuffle(rows)
    doc_id, texts = zip(*rows, strict=True)
    dates = pa.nulls(len(rows), pa.string())
    table = pa.table({"doc_id": doc_id, "text": texts, "source": ["s"] * len(rows), "date": dates})
    config = MinHashConfig(largest_group=40)
    decided = deduplicate(spark.createDataFrame(table), config).collect()
    assert len(decided) == len(rows)
    kept = {row.doc_id for row in decided if row.verdict is None}
    assert kept == {"000", "x0", "x1", "x2"}
    assert {row.verdict.evidence["kept"] for row in decided if row.verdict} == {"000"}


def test_limits_change_no_group(spark: SparkSession) -> None:
    rng = np.random.default_rng(6)
    families = rng.integers(0, 4, 300)
    table = pa.table({"doc_id": [str(n) for n in range(300)], "family": families})
    frame = spark.createDataFrame(table).repartition(3)

    def bucketing(batch: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
        family = batch.column("family").to_numpy().astype(np.uint64)
        hashes = np.column_stack([family + np.uint64(1), np.full(len(family), 9, np.uint64)])
        sketches = np.zeros((len(family), 2), np.uint64)
        sketches[:, 0] = np.array([0, 0xFFFF, 0xFFFFFFFF0000, 0xFFFF << 48], np.uint64)[family]
        return hashes, sketches

    records = frame.mapInArrow(lambda batches: pack(batches, bucketing), RECORD_SCHEMA)
    plain = grouped(find_groups(records, 3, Limits()))
    spread = grouped(find_groups(records, 3, Limits(hot_bucket=40)))
    assert plain == spread
    assert len({group for group, _ in plain.values()}) == 4
