"""Local then global deduplication beside global alone: what each leaves, shuffles and costs.

    python benchmarks/dedup_two_stage.py --data DIR [--quick] [--json OUT]

The corpus of dedup_corpus.py, measured once by the stage `signatures`. One way is `minhash-local`
within each source and then `minhash-global` over what it left; the other is `minhash-global` alone.
Both read Parquet and write a verdict for every document. Every source has a priority of its own, so
that between sources it is priority that decides.

CPU seconds are of the whole process tree, bytes shuffled as Spark counts them; writing the local
survivors for the second stage is in neither (the runner has later stages skip what was dropped, and
writes no corpus in between). Documents that only one way keeps are sorted by their group: all that
true near-duplicates (`Truth`) connect. In a group of one source both ways must agree.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from dedup_corpus import Truth, load
from dedup_quality import kept_rows, machine
from dedup_speed import tree_cpu_seconds
from numpy.typing import NDArray
from pyspark.sql import SparkSession
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from corpus.dedup.minhash import MinHashConfig, deduplicate
from corpus.dedup.signatures import SignaturesConfig, sign
from corpus.scan import ParquetDocuments
from corpus.session import spark_session
from corpus.settings import Settings, command

FILES = 4  # of a stage's input: row groups are what workers share


class Source(Settings):
    """What a recipe says of a source, as far as deduplication reads it."""

    priority: int


@dataclass(frozen=True)
class Outcome:
    """What one stage left and cost."""

    kept: NDArray[np.bool_]
    shuffled: int
    """Bytes that were written to shuffles."""
    cpu_s: float


@command
def main(arguments: list[str] | None = None) -> int:
    """Run both ways on the same signatures and compare them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the data folder")
    parser.add_argument("--scratch", type=Path, default=Path("bench-scratch"), help="work folder")
    parser.add_argument("--quick", action="store_true", help="6,600 documents, not 60,060")
    parser.add_argument("--json", type=Path, help="write the numbers there")
    options = parser.parse_args(arguments)
    corpus, truth = load(options.data, options.scratch, 6_000 if options.quick else 54_600)
    signed = signed_corpus(corpus)
    names = sorted(set(corpus["source"].to_pylist()))
    sources = {name: Source(priority=n + 1) for n, name in enumerate(names)}
    spark = spark_session("dedup two stages", {"spark.sql.shuffle.partitions": "8"})
    print(f"{signed.num_rows:,} documents of {len(names)} sources; {machine()}")

    def run(config: MinHashConfig, given: NDArray[np.bool_]) -> Outcome:
        return outcome(spark, signed, given, config, sources, options.scratch)

    every = np.ones(signed.num_rows, np.bool_)
    run(MinHashConfig(), every)  # whatever runs first pays for compiling the queries
    alone = run(MinHashConfig(), every)
    local = run(MinHashConfig(by=("source",)), every)
    second = run(MinHashConfig(), local.kept)
    spark.stop()

    print(f"\n{'':22} survivors  shuffled MB  CPU s")
    for label, shown in (
        ("global alone", alone),
        ("within each source", local),
        ("then global", second),
    ):
        survivors, megabytes = shown.kept.sum(), shown.shuffled / 1e6
        print(f"{label:22} {survivors:9,}  {megabytes:11.1f}  {shown.cpu_s:5.1f}")
    both_bytes = (local.shuffled + second.shuffled) / alone.shuffled
    both_seconds = (local.cpu_s + second.cpu_s) / alone.cpu_s
    print(
        f"two stages shuffle {both_bytes:.2f} and cost {both_seconds:.2f} times what one does; the "
        f"second of them {second.shuffled / alone.shuffled:.2f} and "
        f"{second.cpu_s / alone.cpu_s:.2f} times"
    )
    differ = np.flatnonzero(second.kept != alone.kept)
    mixed = in_groups_of_several_sources(truth, corpus["source"].to_pylist())
    elsewhere = int((~mixed[differ]).sum())
    print(
        f"{len(differ):,} documents are kept by only one way: {len(differ) - elsewhere:,} of the "
        f"{mixed.sum():,} in groups of several sources, {elsewhere:,} elsewhere"
    )
    if options.json:
        numbers = {
            "two_stage_survivors": int(second.kept.sum()),
            "global_survivors": int(alone.kept.sum()),
            "two_stage_differences": len(differ),
            "two_stage_differences_within_a_source": elsewhere,
            "two_stage_shuffle_ratio": both_bytes,
            "two_stage_cpu_ratio": both_seconds,
            "global_alone_shuffled_mb": alone.shuffled / 1e6,
            "local_shuffled_mb": local.shuffled / 1e6,
            "global_after_local_shuffled_mb": second.shuffled / 1e6,
            "global_alone_cpu_s": alone.cpu_s,
            "local_cpu_s": local.cpu_s,
            "global_after_local_cpu_s": second.cpu_s,
        }
        options.json.write_text(json.dumps(numbers, indent=1) + "\n")
    return 0


def signed_corpus(corpus: pa.Table) -> pa.Table:
    """doc_id, text, source, date (null) and minhash, as the stage `signatures` makes it."""
    minhash, _ = sign(corpus["text"].combine_chunks(), SignaturesConfig())
    dates = pa.nulls(corpus.num_rows, pa.string())
    return corpus.append_column("date", dates).append_column("minhash", minhash)


def outcome(
    spark: SparkSession,
    signed: pa.Table,
    given: NDArray[np.bool_],
    config: MinHashConfig,
    sources: Mapping[str, Settings],
    scratch: Path,
) -> Outcome:
    """What a stage leaves of the `given` documents."""
    documents, verdicts = scratch / "two-stage-documents", str(scratch / "two-stage-verdicts")
    documents.mkdir(parents=True, exist_ok=True)
    rows = signed.filter(pa.array(given))
    size = -(-rows.num_rows // FILES)
    for number in range(FILES):
        part = rows.slice(number * size, size)
        pq.write_table(part, documents / f"{number}.parquet", compression="zstd")
    bytes_before, began = shuffled_bytes(spark), tree_cpu_seconds()
    read = ParquetDocuments(spark, str(documents))
    decided = deduplicate(read, config, sources, measured=True)
    decided.write.mode("overwrite").parquet(verdicts)
    spent, shuffled = tree_cpu_seconds() - began, shuffled_bytes(spark) - bytes_before
    row_of = {doc_id: row for row, doc_id in enumerate(signed["doc_id"].to_pylist())}
    return Outcome(given & kept_rows(spark.read.parquet(verdicts), row_of), shuffled, spent)


def shuffled_bytes(spark: SparkSession) -> int:
    """What all executors have written to shuffles so far."""
    executors = spark.sparkContext._jsc.sc().statusStore().executorList(False)
    return sum(executors.apply(n).totalShuffleWrite() for n in range(executors.size()))


def in_groups_of_several_sources(truth: Truth, sources: list[str]) -> NDArray[np.bool_]:
    """Which documents true near-duplicates, directly or not, connect with another source."""
    left, right = truth.at(MinHashConfig().threshold)
    count = len(sources)
    edges = coo_matrix((np.ones(len(left)), (left, right)), shape=(count, count))
    groups, group = connected_components(edges, directed=False)
    source = np.unique(sources, return_inverse=True)[1]
    least, most = np.full(groups, len(sources)), np.full(groups, -1)
    np.minimum.at(least, group, source)
    np.maximum.at(most, group, source)
    return (least != most)[group]


if __name__ == "__main__":
    sys.exit(main())
