"""A corpus that comes in ten parts: what is kept, and what each new part costs.

    python benchmarks/dedup_incremental.py --data DIR [--quick] [--json OUT]

The corpus of dedup_corpus.py, split in ten, each part measured by the stage `signatures`. Every
part is checked against the signature stores of all parts before it, and then leaves a store of what
was kept of it. In one series each store is merged into the one that stands, in another they stay
apart. The survivors must be those of one run over all in which first come wins: the source of an
earlier part has the higher priority, and in a part the longer document goes before, or the smaller
doc_id.

Seconds are of CPU, of the whole process tree; documents and verdicts are Parquet, as in a run.
Checking and writing are to cost what the new part asks for, whatever is stored: the last three runs
are compared with the three after the first. A merge copies what stands, so its cost grows. Then one
part is checked against stores of 1, 3 and 9 times its size, and 1, 2 and 4 parts against one store.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from dedup_corpus import load
from dedup_lib import (
    Source,
    as_parquet,
    machine,
    options_parser,
    signed_corpus,
    tree_cpu_seconds,
)
from pyspark.sql import SparkSession

from corpus.dedup.keeping import Keeping
from corpus.dedup.merging import merge_stores
from corpus.dedup.minhash import Bands, MinHashConfig, deduplicate, measure_of
from corpus.dedup.store import remove, write_store
from corpus.scan import ParquetDocuments
from corpus.session import spark_session
from corpus.settings import command

PARTS = 10
BOUND = 1.15  # of the growth of checking and writing
WARM_UP = 4  # runs before anything is timed
TIMES = 3  # every run, for the median
FIRST_COME = Keeping(order=("priority", "longest"))


@dataclass(frozen=True)
class Run:
    """What one run found, and the CPU seconds that it cost each time."""

    kept: frozenset[str]
    earlier: int
    """Documents dropped because of one in a store."""
    own: int
    stores: tuple[str, ...]
    """What it was checked against."""
    check_s: list[float]
    write_s: list[float]
    merge_s: float

    @property
    def both_s(self) -> float:
        """What checking and writing cost in the median."""
        return median(self.check_s) + median(self.write_s)


@command
def main(arguments: list[str] | None = None) -> int:
    """Run the parts one by one in both series, and all of them at once."""
    options = options_parser(__doc__, "6,600 documents, not 60,060").parse_args(arguments)
    corpus, _ = load(options.data, options.scratch, 6_000 if options.quick else 54_600)
    spark = spark_session("dedup incremental", {"spark.sql.shuffle.partitions": "8"})
    bench = Bench(spark, signed_corpus(corpus, corpus["source"]), options.scratch / "incremental")
    print(f"{corpus.num_rows:,} documents in {PARTS} parts; {machine()}")

    bench.series("warm-up", merged=True, parts=WARM_UP)  # Java compiles what is run often
    merged, apart = bench.series("merged", merged=True), bench.series("apart", merged=False)
    for _ in range(TIMES - 1):  # all runs in turn, so that what slows the machine slows them all
        bench.again(merged)
        bench.again(apart)
    show("each store merged into the one that stands", merged)
    show("the stores left apart", apart)
    kept = kept_of(merged)
    began = tree_cpu_seconds()
    at_once = bench.check("all", range(PARTS), ())[0]
    whole = tree_cpu_seconds() - began
    differ = max(len(at_once ^ kept), len(at_once ^ kept_of(apart)))
    print(f"\nall at once: {len(at_once):,} kept, {whole:.1f} CPU s; {differ} documents differ")

    numbers = {
        "incremental_differences": differ,
        "incremental_cpu_s_total": sum(run.both_s + run.merge_s for run in merged),
        "at_once_cpu_s": whole,
    }
    for name, runs in (("cost", merged), ("apart_cost", apart)):
        numbers[f"incremental_{name}_growth"] = growth([run.both_s for run in runs])
    numbers["incremental_merge_growth"] = growth([run.merge_s for run in merged])
    numbers["incremental_merge_last_cpu_s"] = merged[-1].merge_s
    numbers |= scaling(bench)
    numbers |= removal(bench, at_once)
    spark.stop()
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=1) + "\n")
    return 0


class Bench:
    """The corpus in its parts, and where stores of it are left."""

    def __init__(self, spark: SparkSession, corpus: pa.Table, folder: Path) -> None:
        self.spark = spark
        self.folder = folder
        self.part_of = np.arange(len(corpus)) * PARTS // len(corpus)
        sources = pa.array([f"part-{part}" for part in self.part_of])
        place = corpus.schema.get_field_index("source")
        self.corpus = corpus.set_column(place, "source", sources)
        self.sources = {f"part-{part}": Source(priority=PARTS - part) for part in range(PARTS)}
        shutil.rmtree(folder, ignore_errors=True)

    def documents(self, name: str, rows: pa.Table) -> ParquetDocuments:
        """Some rows of the corpus as a run has them."""
        return as_parquet(self.spark, rows, self.folder / "documents" / name)

    def rows(self, parts: Sequence[int]) -> pa.Table:
        """The documents of some parts."""
        return self.corpus.filter(pa.array(np.isin(self.part_of, parts)))

    def check(
        self, name: str, parts: Sequence[int], stores: Sequence[str], rows: pa.Table | None = None
    ) -> tuple[frozenset[str], list[str], float]:
        """Deduplicate some parts: what is kept, the scopes of what is dropped, CPU seconds."""
        documents = self.documents(name, self.rows(parts) if rows is None else rows)
        verdicts = str(self.folder / "verdicts")
        config = MinHashConfig(against=tuple(stores), keep=FIRST_COME)
        began = tree_cpu_seconds()
        decided = deduplicate(documents, config, self.sources, measured=True)
        decided.write.mode("overwrite").parquet(verdicts)
        seconds = tree_cpu_seconds() - began
        table = pq.read_table(verdicts)
        found = table["verdict"].to_pylist()
        kept = zip(table["doc_id"].to_pylist(), found, strict=True)
        scopes = [dict(verdict["evidence"])["scope"] for verdict in found if verdict]
        return frozenset(doc_id for doc_id, verdict in kept if not verdict), scopes, seconds

    def write(self, name: str, kept: frozenset[str]) -> tuple[str, float]:
        """Leave a store of the documents `kept`: its path, CPU seconds."""
        mine = np.isin(self.corpus["doc_id"].to_numpy(zero_copy_only=False), list(kept))
        documents = self.documents("kept", self.corpus.filter(pa.array(mine)))
        config = MinHashConfig()
        path = str(self.folder / "stores" / name)
        began = tree_cpu_seconds()
        write_store(documents, path, measure_of(config), Bands(config), measured=True)
        return path, tree_cpu_seconds() - began

    def series(self, name: str, merged: bool, parts: int = PARTS) -> list[Run]:
        """Run the parts one by one."""
        runs: list[Run] = []
        stores: list[str] = []
        for part in range(parts):
            against = tuple(stores)
            kept, scopes, check_s = self.check("part", [part], against)
            path, write_s = self.write(f"{name}/{part}", kept)
            stores.append(path)
            merge_s = 0.0
            if merged and part:
                began = tree_cpu_seconds()
                merge_stores(stores, f"{path}-all")
                merge_s = tree_cpu_seconds() - began
                stores = [f"{path}-all"]
            earlier = scopes.count("earlier")
            own = len(scopes) - earlier
            runs.append(Run(kept, earlier, own, against, [check_s], [write_s], merge_s))
        return runs

    def again(self, runs: Sequence[Run]) -> None:
        """Check and write once more what the runs of a series did."""
        for part, run in enumerate(runs):
            run.check_s.append(self.check("part", [part], run.stores)[2])
            run.write_s.append(self.write("again", run.kept)[1])


def kept_of(runs: Sequence[Run]) -> frozenset[str]:
    """What all runs kept."""
    return frozenset().union(*(run.kept for run in runs))


def growth(seconds: Sequence[float]) -> float:
    """What the last three runs cost, by what the three after the first did."""
    return sum(seconds[-3:]) / sum(seconds[1:4])


def show(title: str, runs: Sequence[Run]) -> None:
    """Print what each run of a series cost."""
    print(f"\n{title}; CPU s, medians of {TIMES}")
    print(" run  earlier   own     kept   check   write  both   merge")
    kept = 0
    for number, run in enumerate(runs):
        kept += len(run.kept)
        print(
            f"{number:>4} {run.earlier:>8} {run.own:>5} {kept:>8,} {median(run.check_s):>7.2f} "
            f"{median(run.write_s):>7.2f} {run.both_s:>5.2f} {run.merge_s:>7.2f}"
        )
    grown = growth([run.both_s for run in runs])
    held = "holds" if grown <= BOUND else "IS BROKEN"
    print(
        f"the last three cost {grown:.2f} times the three after the first to check and write; the "
        f"bound {BOUND} {held}"
    )
    if runs[-1].merge_s:
        print(
            "merging copies the store that stands, and grows with it: "
            f"{growth([run.merge_s for run in runs]):.2f} times"
        )


def scaling(bench: Bench) -> dict[str, float]:
    """One part against stores of several sizes, and parts of several sizes against one store."""
    seconds: dict[str, list[float]] = {}
    merged = bench.folder / "stores" / "merged"
    stores = {1: merged / "0", 3: merged / "2-all", 9: merged / "8-all"}
    for _ in range(TIMES):
        for size, store in stores.items():
            cost = bench.check("part", [PARTS - 1], [str(store)])[2]
            seconds.setdefault(f"incremental_store_{size}x_cpu_s", []).append(cost)
        for count in (1, 2, 4):
            new = range(PARTS - count, PARTS)
            cost = bench.check("part", new, [str(stores[3])])[2]
            seconds.setdefault(f"incremental_part_{count}x_cpu_s", []).append(cost)
    numbers = {name: median(some) for name, some in seconds.items()}
    by_store = ", ".join(f"{numbers[f'incremental_store_{n}x_cpu_s']:.2f}" for n in stores)
    by_part = ", ".join(f"{numbers[f'incremental_part_{n}x_cpu_s']:.2f}" for n in (1, 2, 4))
    print(f"\none part against a store of 1, 3 and 9 parts: {by_store} CPU s (medians of {TIMES})")
    print(f"1, 2 and 4 parts against a store of 3: {by_part} CPU s")
    return numbers


def removal(bench: Bench, kept: frozenset[str]) -> dict[str, float]:
    """Documents again, before and after some of them are taken out of the store."""
    again = bench.rows([0]).slice(0, 200)
    path = str(bench.folder / "stores" / "merged" / f"{PARTS - 1}-all")
    before = bench.check("again", [], [path], again)[1].count("earlier")
    taken = remove(path, [d for d in again["doc_id"].to_pylist() if d in kept][:50])
    after = bench.check("again", [], [path], again)[1].count("earlier")
    print(f"200 documents again: {before} known; {taken} taken out of the store: {after} known")
    return {"known_before_removal": before, "known_after_removal": after}


if __name__ == "__main__":
    sys.exit(main())
