"""The signature store: a corpus that comes in parts ends as it would have come at once."""

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from corpus.dedup import merging, store, store_files, stored
from corpus.dedup.merging import merge_stores
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


def test_merged_stores_judge_as_the_several(spark: SparkSession, tmp_path: Path) -> None:
    rows = [(f"{n:04d}", text, "s") for n, text in enumerate(texts(60))]
    config = MinHashConfig()
    paths = [str(tmp_path / name) for name in ("a", "b")]
    for path, part in zip(paths, (rows[:20], rows[18:40]), strict=True):  # two are in both
        leave(frame(spark, part), [doc_id for doc_id, _, _ in part], path, config)
    store.remove(paths[0], ["0018", "0003"])
    out, again = str(tmp_path / "all"), str(tmp_path / "again")
    assert store.main(["merge", *paths, out]) == 0
    (tmp_path / "b").rename(tmp_path / "moved")
    store.main(["merge", paths[0], str(tmp_path / "moved"), again])
    assert files(Path(out)) == files(Path(again))

    def verdicts(against: list[str]) -> dict[str, tuple[str, float]]:
        decided = deduplicate(frame(spark, rows), MinHashConfig(against=tuple(against)))
        dropped = decided.where("verdict is not null").collect()
        return {row.doc_id: (row.verdict.rule, row.verdict.value) for row in dropped}

    several = verdicts([paths[0], str(tmp_path / "moved")])
    assert verdicts([out]) == several
    assert len(several) > 40


def test_a_merged_store_is_one_store_of_all(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [(f"{n:04d}", text, "s") for n, text in enumerate(texts(60))]
    kept = [doc_id for doc_id, _, _ in rows if doc_id != "0003"]
    parts = [str(tmp_path / name) for name in ("a", "b")]
    out, one, large, copied = (str(tmp_path / name) for name in ("out", "one", "large", "copied"))
    leave(frame(spark, rows[:30]), [row[0] for row in rows[:30]], parts[0], MinHashConfig())
    leave(frame(spark, rows[25:]), [row[0] for row in rows[25:]], parts[1], MinHashConfig())
    leave(frame(spark, rows), kept, one, MinHashConfig())
    store.remove(parts[0], ["0003"])
    merge_stores(parts, out)
    assert content(out) == content(one)
    assert len(content(one)[1]) == 59

    monkeypatch.setattr(store_files, "FILE_ROWS", 100)  # files of records and of documents
    monkeypatch.setattr(merging, "SMALL_BYTES", 0)  # files of shingles are copied as they are
    merge_stores([one], large)
    assert len(stored.open_store(large).rows.records) == 16
    assert content(large) == content(one)
    assert files(Path(large, "shingles")) == files(Path(one, "shingles"))
    monkeypatch.undo()
    merge_stores([large], copied)
    assert files(Path(copied, "records")) == files(Path(one, "records"))


def content(path: str) -> tuple[pa.Table, dict[str, list[int]]]:
    """The records of a store, and the shingles of its documents by their doc_id."""
    opened = stored.open_store(path)
    documents = opened.sorted_documents().between(0, 1)
    assert documents["key"].to_numpy().tolist() == sorted(documents["key"].to_pylist())
    addresses = pa.array([opened.shingles(file) for file in documents["file"].to_pylist()])
    text = pa.nulls(len(documents), pa.string())
    places = pa.table({**{n: documents[n] for n in ("offset", "length")}, "file": addresses})
    sets = stored.mixed_sets(places.append_column("text", text), opened.measure.shingle)
    ends = zip(sets.starts[:-1], sets.starts[1:], strict=True)
    shingles = [sets.tokens[start:end].tolist() for start, end in ends]
    assert all(shingles)
    ids = documents["doc_id"].to_pylist()
    return opened.sorted_records().between(0, 1), dict(zip(ids, shingles, strict=True))


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_stores_that_cannot_be_one_are_not_merged(spark: SparkSession, tmp_path: Path) -> None:
    one, other = str(tmp_path / "one"), str(tmp_path / "other")
    leave(frame(spark, [("a", "一" * 20, "s")]), ["a"], one, MinHashConfig())
    leave(frame(spark, [("a", "一" * 20, "s")]), ["a"], other, MinHashConfig(threshold=0.7))
    with pytest.raises(UserError, match=f"{one} was made with bands = 16, {other} with 17"):
        merge_stores([one, other], str(tmp_path / "out"))
    with pytest.raises(UserError, match="must all be different folders"):
        merge_stores([one, other], f"{other}/")
    assert stored.open_store(other).documents == 1


def test_a_damaged_store_is_named(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "store"
    leave(frame(spark, [("a", "一" * 20, "s")]), ["a"], str(path), MinHashConfig())
    hashes = stored.open_store(str(path)).sorted_records().between(0, 1)["hash"].to_numpy()
    records = path / "records" / "00000.parquet"
    whole = records.read_bytes()
    records.write_bytes(whole[:-40])
    with pytest.raises(UserError, match=r"records/00000[.]parquet: cannot be read as Parquet"):
        stored.open_store(str(path)).records(hashes)
    store_files.write_records(store_files.RECORD_FIELDS.empty_table(), str(path), 0)
    with pytest.raises(UserError, match=r"00000[.]parquet: holds 0 rows, and store.json says 16"):
        stored.open_store(str(path)).records(hashes)
    records.unlink()
    with pytest.raises(UserError, match=r"records/00000[.]parquet: cannot be read as Parquet"):
        merge_stores([str(path)], str(tmp_path / "out"))
    (shingles,) = path.glob("shingles/*.bin")
    with pytest.raises(UserError, match="bytes 0 to 9999 are not there"):
        stored.read_ranges(str(shingles), [0], [9999])

    described = (path / "store.json").read_text()
    (path / "store.json").write_text(described.replace('"format": 2', '"format": 1'))
    with pytest.raises(UserError, match=r"is a signature store of format 1, .* make it anew"):
        stored.open_stores([str(path)], measure_of(MinHashConfig()))


@pytest.mark.parametrize(("files", "scheme"), [(1, ""), (4, "memory:/")])
def test_rows_are_found_in_any_row_group(tmp_path: Path, files: int, scheme: str) -> None:
    rng = np.random.default_rng(2)
    numbers = rng.integers(0, 2**64, 40_000, dtype=np.uint64)
    numbers[20_000:38_000] = numbers[0]  # more than a row group holds
    for values in (numbers, numbers.view(np.int64)):
        values.sort()
        kind = pa.from_numpy_dtype(values.dtype)
        folder = f"{scheme}{tmp_path}/{kind}"
        table = pa.table({"number": values, "place": np.arange(len(values))})
        parts = store_files.file_numbers(values, files)
        assert (np.diff(parts) >= 0).all()
        assert set(parts) == set(range(files))
        counts = np.bincount(parts).tolist()
        for number in range(files):
            own = table.filter(pa.array(parts == number))
            store_files.write_parquet(own, f"{folder}/{number:05d}.parquet")
        schema = pa.schema([("number", kind), ("place", pa.int64())])
        rows = store_files.SortedRows(folder, counts, schema)
        for few in (values[:1], values[-2:], values[::5_000], values[100:103] + 1, values[:0]):
            wanted = np.unique(few)
            found = rows.rows_with(wanted)
            assert all(map(len, found))
            places = pa.concat_tables([schema.empty_table(), *found])["place"]
            assert places.to_pylist() == np.flatnonzero(np.isin(values, wanted)).tolist()
        again = pa.concat_tables([rows.between(number, 2) for number in range(2)])
        assert again.equals(table)


def test_a_run_does_not_use_what_another_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_files, "HELD_ROWS", 10)
    one, same, later, large, pushing = (
        store_files.SortedRows(folder, [rows], store_files.RECORD_FIELDS)
        for folder, rows in (("a", 4), ("a", 4), ("a", 4), ("b", 11), ("c", 3))
    )
    assert store_files.held("first", one) is one
    assert store_files.held("first", same) is one
    assert store_files.held("second", later) is later
    assert store_files.held("second", large) is large
    assert store_files.held("second", pushing) is pushing
    assert [rows.keep for rows in (one, later, large, pushing)] == [False, True, False, True]


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
