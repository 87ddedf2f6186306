"""How fast deduplication is: the signature kernel, and the whole job on Spark.

    python benchmarks/dedup_speed.py --data DIR [--quick] [--json OUT]

Speeds are documents per CPU-second: user and system time of the whole process tree (driver, JVM,
Python workers), Spark's start-up apart. The job reads Parquet (doc_id, text, source, date), finds
and verifies near-duplicates at .8 and writes a verdict for every document. Its corpus is that of
dedup_corpus.py, repeated in other alphabets until it has a million documents (--quick: 60,060).
"""

import json
import sys
import time
from importlib.metadata import version

import numpy as np
import pyarrow as pa
from dedup_corpus import SHINGLE, enlarge, load, normalise
from dedup_lib import machine, options_parser, tree_cpu_seconds

from corpus.buffers import string_buffers
from corpus.dedup.kernels import permutations, shingle_keys, signatures
from corpus.dedup.minhash import deduplicate
from corpus.dedup.normal import fold_table
from corpus.scan import ParquetDocuments
from corpus.session import spark_session
from corpus.settings import command

# Measured once, in November 2026, on the 60,060 documents: the whole run of each, its own start
# and reading included, texts normalised beforehand. Not part of this run.
MEASURED_BEFORE = {
    "rensa 0.5, one process": 5_439,
    "gaoya": 4_120,
    "datasketch 2.0": 1_486,
    "datatrove, characters": 1_260,
}


@command
def main(arguments: list[str] | None = None) -> int:
    """Measure the kernel and the job."""
    parser = options_parser(__doc__, "60,060 documents instead of a million")
    parser.add_argument("--documents", type=int, help="another size of the job")
    options = parser.parse_args(arguments)
    corpus, _ = load(options.data, options.scratch, 54_600)
    count = options.documents or (corpus.num_rows if options.quick else 1_000_000)
    versions = ", ".join(f"{name} {version(name)}" for name in ("pyspark", "numba", "datasketch"))
    print(f"{machine()}; {versions}")

    numbers: dict[str, float] = {}
    sample = corpus.slice(0, 20_000)
    print("\nsignatures, 1,000-character documents, normalising included, one core, documents/s")
    for size in (112, 128, 256):
        speed = kernel_speed(sample, size)
        print(f"  Lianjin, {size} permutations {speed:10,.0f}")
        numbers[f"kernel_docs_per_cpu_s_{size}"] = speed
    print(f"  datasketch 2.0, 112, text normalised beforehand {datasketch_speed(sample):,.0f}")

    path = str(enlarge(corpus, count, options.scratch))
    seconds, dropped = job_cpu_seconds(path, str(options.scratch / "verdicts"))
    speed = count / seconds
    print(f"\nthe job, {count:,} documents, {dropped:,} dropped, documents per CPU-second")
    print(f"  Lianjin, verified {speed:10,.0f}   ({seconds:,.0f} CPU s)")
    for name, peer in MEASURED_BEFORE.items():
        print(f"  {name + ' *':30} {peer:8,}")
    print("  * measured before on 60,060 documents, not in this run")
    name = "1m" if count == 1_000_000 else str(count)
    numbers[f"job_docs_per_cpu_s_{name}"] = speed
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=1) + "\n")
    return 0


def kernel_speed(corpus: pa.Table, size: int) -> float:
    """Documents per CPU-second of the signature kernel: the best of five."""
    offsets, data = string_buffers(corpus["text"].combine_chunks())
    arguments = (fold_table(), False, SHINGLE, shingle_keys(SHINGLE), *permutations(size))
    signatures(offsets[:2], data, *arguments)
    best = np.inf
    for _ in range(5):
        began = time.process_time()
        signatures(offsets, data, *arguments)
        best = min(best, time.process_time() - began)
    return corpus.num_rows / best


def datasketch_speed(corpus: pa.Table) -> float:
    import xxhash
    from datasketch import MinHash

    texts = [normalise(text) for text in corpus["text"].slice(0, 2_000).to_pylist()]
    empty = MinHash(num_perm=112, hashfunc=xxhash.xxh32_intdigest)  # twice as fast as its SHA-1
    began = time.process_time()
    for text in texts:
        shingles = {text[k : k + SHINGLE] for k in range(max(1, len(text) - SHINGLE + 1))}
        empty.copy().update_batch([shingle.encode() for shingle in shingles])
    return len(texts) / (time.process_time() - began)


def job_cpu_seconds(documents: str, output: str) -> tuple[float, int]:
    """CPU seconds of one job after Spark has started, and how many documents it dropped."""
    options = {
        "spark.sql.shuffle.partitions": "16",
        "spark.driver.memory": "6g",
        # As configs/spark has it for one machine.
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    }
    spark = spark_session("dedup speed", options | {"spark.ui.enabled": "false"})
    spark.range(10).mapInArrow(lambda batches: batches, "id long").count()
    before = tree_cpu_seconds()
    deduplicate(ParquetDocuments(spark, documents)).write.mode("overwrite").parquet(output)
    seconds = tree_cpu_seconds() - before
    dropped = spark.read.parquet(output).where("verdict is not null").count()
    spark.stop()
    return seconds, dropped


if __name__ == "__main__":
    sys.exit(main())
