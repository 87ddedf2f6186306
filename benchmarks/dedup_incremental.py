"""A corpus that comes in ten parts: what is kept, and what each new part costs.

    python benchmarks/dedup_incremental.py --data DIR [--quick] [--json OUT]

The corpus of dedup_corpus.py, split in ten. Every part is deduplicated against the signature stores
of all parts before it, then leaves a store of what was kept. The survivors must be those of one run
over all in which earlier parts have the higher priority. Seconds are of CPU, of the whole process
tree; the cost of a run is to grow with the new part, not with the old ones: the last three runs are
compared with the three after the first.
"""

import argparse
import json
import platform
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
from dedup_corpus import load
from dedup_speed import tree_cpu_seconds
from pyspark.sql import DataFrame, SparkSession

from corpus.dedup.minhash import Bands, MinHashConfig, deduplicate, measure_of
from corpus.dedup.store import remove, write_store
from corpus.session import spark_session
from corpus.settings import Settings, command

PARTS = 10


class Part(Settings):
    """What a recipe says of a source, as far as deduplication reads it."""

    priority: int


@command
def main(arguments: list[str] | None = None) -> int:
    """Run the parts one by one, and all of them at once."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the data folder")
    parser.add_argument("--scratch", type=Path, default=Path("bench-scratch"), help="work folder")
    parser.add_argument("--quick", action="store_true", help="6,600 documents, not 60,060")
    parser.add_argument("--json", type=Path, help="write the numbers there")
    options = parser.parse_args(arguments)
    corpus, _ = load(options.data, options.scratch, 6_000 if options.quick else 54_600)
    count = corpus.num_rows
    part_of = np.arange(count) * PARTS // count
    corpus = corpus.set_column(
        corpus.schema.get_field_index("source"), "source", pa.array([f"part-{p}" for p in part_of])
    ).append_column("date", pa.nulls(count, pa.string()))
    spark = spark_session("dedup incremental", {"spark.sql.shuffle.partitions": "8"})
    print(f"{count:,} documents in {PARTS} parts; {platform.machine()}")
    print(f"{'run':>4} {'documents':>10} {'earlier':>8} {'own':>6} {'kept':>8} {'CPU s':>7}")

    stores = options.scratch / "stores"
    shutil.rmtree(stores, ignore_errors=True)
    warm_up(spark, corpus.slice(0, 500), str(stores / "warm"))
    kept: list[str] = []
    seconds = []
    for part in range(PARTS):
        paths = tuple(str(stores / str(earlier)) for earlier in range(part))
        rows = corpus.filter(pa.array(part_of == part))
        began = tree_cpu_seconds()
        numbers = run_part(spark, rows, MinHashConfig(against=paths), str(stores / str(part)))
        seconds.append(tree_cpu_seconds() - began)
        kept += numbers.pop("survivors")
        counts = " ".join(f"{numbers[name]:>{n}}" for name, n in (("earlier", 8), ("own", 6)))
        print(f"{part:>4} {rows.num_rows:>10,} {counts} {len(kept):>8,} {seconds[-1]:>7.1f}")

    first_come = {f"part-{part}": Part(priority=PARTS - part) for part in range(PARTS)}
    began = tree_cpu_seconds()
    decided = deduplicate(spark.createDataFrame(corpus), sources=first_come)
    at_once = {row.doc_id for row in decided.where("verdict is null").select("doc_id").collect()}
    whole = tree_cpu_seconds() - began
    differ = len(at_once ^ set(kept))
    growth = sum(seconds[-3:]) / sum(seconds[1:4])
    print(f"\nall at once: {len(at_once):,} kept, {whole:.1f} CPU s; {differ} documents differ")
    print(f"the last three runs cost {growth:.2f} times the three after the first")

    again = corpus.filter(pa.array(part_of == 0)).slice(0, 200)
    path = str(stores / "0")
    stored = [d for d in again["doc_id"].to_pylist() if d in set(kept)]
    before = dropped(spark, again, path)
    taken = remove(path, stored[:50])
    after = dropped(spark, again, path)
    print(f"200 documents again: {before} known; {taken} taken out of the store: {after} known")
    spark.stop()
    if options.json:
        content = {
            "incremental_differences": differ,
            "incremental_cost_growth": growth,
            "incremental_cpu_s_total": sum(seconds),
            "at_once_cpu_s": whole,
            "known_before_removal": before,
            "known_after_removal": after,
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return 0


def warm_up(spark: SparkSession, rows: pa.Table, path: str) -> None:
    """Have every query compiled and every worker started before anything is timed."""
    run_part(spark, rows, MinHashConfig(), path)
    run_part(spark, rows.slice(100), MinHashConfig(against=(path,)), f"{path}-2")


def run_part(
    spark: SparkSession, rows: pa.Table, config: MinHashConfig, path: str
) -> dict[str, object]:
    """Deduplicate one part and leave its store; the survivors, and duplicates by where found."""
    documents = spark.createDataFrame(rows)
    decided = deduplicate(documents, config).cache()
    scopes = [
        row.scope
        for row in decided.where("verdict is not null")
        .selectExpr("verdict.evidence['scope'] as scope")
        .collect()
    ]
    survivors = decided.where("verdict is null").select("doc_id")
    write_store(documents.join(survivors, "doc_id"), path, measure_of(config), Bands(config))
    ids = [row.doc_id for row in survivors.collect()]
    decided.unpersist()
    earlier = scopes.count("earlier")
    return {"survivors": ids, "earlier": earlier, "own": len(scopes) - earlier}


def dropped(spark: SparkSession, rows: pa.Table, path: str) -> int:
    """How many of some documents the store at `path` knows."""
    decided: DataFrame = deduplicate(spark.createDataFrame(rows), MinHashConfig(against=(path,)))
    return decided.where("verdict.evidence['scope'] = 'earlier'").count()


if __name__ == "__main__":
    sys.exit(main())
