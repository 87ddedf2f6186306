"""The signature store: a corpus that comes in parts ends as it would have come at once."""

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from corpus.dedup import store, stored
from corpus.dedup.minhash import Bands, MinHashConfig, deduplicate, measure_of
from corpus.dedup.packing import packed_sets, unpacked_sets
from corpus.settings import Settings, UserError

ALPHABET = [chr(0x4E00 + i) for i in range(3000)]


class Source(Settings):
    priority: int = 0


def texts(count: int) -> list[str]:
    """Families of near-copies, strewn over the whole list."""
    rng = random.Random(11)
    result = []
    for _ in range(count // 4):
        base = [rng.choice(ALPHABET) for _ in range(150)]
        for _ in range(rng.randint(1, 7)):
            copy = list(base)
            for place in rng.sample(range(150), rng.randint(0, 1)):
                copy[place] = "改"
            result.append("".join(copy))
    rng.shuffle(result)
    return result[:count]


def frame(spark: SparkSession, rows: list[tuple[str, str, str]]) -> DataFrame:
    doc_id, text, source = zip(*rows, strict=True)
    dates = pa.nulls(len(rows), pa.string())
    return spark.createDataFrame(
        pa.table({"doc_id": doc_id, "text": text, "source": source, "date": dates})
    )


def survivors(decided: DataFrame) -> list[str]:
    return sorted(row.doc_id for row in decided.where("verdict is null").collect())


def leave(documents: DataFrame, kept: list[str], path: str, config: MinHashConfig) -> None:
    rest = documents.where(documents.doc_id.isin(kept))
    store.write_store(rest, path, measure_of(config), Bands(config))


def test_runs_one_by_one_leave_what_one_run_leaves(spark: SparkSession, tmp_path: Path) -> None:
    rows = [(f"{n:04d}", text, str(n // 20)) for n, text in enumerate(texts(60))]
    first_come = {str(part): Source(priority=9 - part) for part in range(3)}
    at_once = survivors(deduplicate(frame(spark, rows), sources=first_come))

    stores: list[str] = []
    one_by_one: list[str] = []
    for part in range(3):
        config = MinHashConfig(against=tuple(stores))
        documents = frame(spark, rows[20 * part : 20 * part + 20])
        decided = deduplicate(documents, config)
        kept = survivors(decided)
        verdicts = {row.doc_id: row.verdict for row in decided.collect() if row.verdict}
        for verdict in verdicts.values():
            evidence = verdict.evidence
            if evidence["scope"] == "earlier":
                earlier = stores.index(evidence["run"])
                assert 20 * earlier <= int(evidence["kept"]) < 20 * earlier + 20
                assert evidence["kept"] in one_by_one
            else:
                assert evidence["kept"] in kept
        if part:
            assert any(v.evidence["scope"] == "earlier" for v in verdicts.values())
        one_by_one += kept
        stores.append(str(tmp_path / f"store-{part}"))
        leave(documents, kept, stores[-1], config)
    assert sorted(one_by_one) == at_once
    assert len(at_once) < 45


def test_a_removed_document_is_no_twin_any_more(spark: SparkSession, tmp_path: Path) -> None:
    text = texts(4)[0]
    old = frame(spark, [("old", text, "a"), ("else", texts(8)[-1], "a")])
    config = MinHashConfig()
    path = str(tmp_path / "store")
    leave(old, ["old", "else"], path, config)
    again = frame(spark, [("new", text, "a")])
    against = MinHashConfig(against=(path,))
    verdict = deduplicate(again, against).collect()[0].verdict
    assert (verdict.rule, verdict.value) == ("near_duplicate", 1.0)
    assert verdict.evidence == {"kept": "old", "scope": "earlier", "run": path}
    # The same document crawled again, under the same doc_id, is a duplicate too.
    assert survivors(deduplicate(frame(spark, [("old", text, "a")]), against)) == []

    assert store.remove(path, ["old"]) == 1
    assert survivors(deduplicate(again, against)) == ["new"]
    assert store.main(["show", path]) == 0


def test_a_store_that_does_not_fit_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "store")
    with pytest.raises(UserError, match="is no signature store"):
        stored.open_stores([path], measure_of(MinHashConfig()))
    leave(frame(spark, [("a", "一" * 20, "s")]), ["a"], path, MinHashConfig())
    with pytest.raises(UserError, match="was made with bands = 16, and this run has 17"):
        stored.open_stores([path], measure_of(MinHashConfig(threshold=0.7)))


def test_packed_sets_come_back() -> None:
    rng = np.random.default_rng(1)
    sets = [np.unique(rng.integers(0, 2**64, n, dtype=np.uint64)) for n in (0, 1, 700)]
    sets.append(np.array([0, 1, 2**32, 2**64 - 1], np.uint64))
    starts = np.concatenate([[0], np.cumsum([len(s) for s in sets])])
    tokens = np.concatenate(sets)
    data, bounds = packed_sets(tokens, starts)
    packed = np.array([True, False, True, True])
    found, ends = unpacked_sets(data, bounds, tokens, starts, packed)
    for d, own in enumerate(sets):
        expected = np.unique(own >> np.uint64(32))
        assert found[ends[d] : ends[d + 1]].tolist() == expected.tolist()
    assert len(data) < 4 * len(tokens)
