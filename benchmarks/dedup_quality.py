"""Deduplication against the exact truth: which pairs are found, and which documents go.

    python benchmarks/dedup_quality.py --data DIR [--quick] [--json OUT]

The corpus and its truth are those of dedup_corpus.py: 60,060 real documents with controlled
near-copies, every similar pair known by full counting. Ours is the Spark job itself. Printed for
each threshold:

    recall      of the pairs at or above the threshold, the share that is named
    precision   of the pairs named, the share that is at or above it
    removed     documents dropped, beside what connected components of the true pairs would drop
    false       documents dropped that have no partner at the threshold at all
    residual    of the true pairs, the share of which both documents are kept
"""

import json
import sys
from importlib.metadata import version

import numpy as np
import pyarrow as pa
from dedup_corpus import SHINGLE, Truth, load, normalise
from dedup_lib import machine, options_parser
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from corpus.dedup.minhash import MinHashConfig, deduplicate, near_duplicate_pairs
from corpus.session import spark_session
from corpus.settings import command

# Measured once, in November 2026, on this corpus (60,060 documents) at .8, each with its defaults
# or 128 permutations: recall, precision, removed, false. Not part of this run.
MEASURED_BEFORE = {
    "rensa 0.5, candidates of 16 x 8": (0.995, 0.662, 5171, 1500),
    "rensa 0.5, estimate >= .8": (0.941, 0.949, 3617, 172),
    "gaoya, 128": (0.947, 0.927, 3713, 243),
    "datatrove 14 x 8, characters, .7": (0.893, 0.881, 5143, 503),
}


@command
def main(arguments: list[str] | None = None) -> int:
    """Build the corpus, run the job at .8 and .7, and score it."""
    options = options_parser(__doc__, "6,600 documents, and no peer").parse_args(arguments)

    corpus, truth = load(options.data, options.scratch, 6_000 if options.quick else 54_600)
    row_of = {doc_id: row for row, doc_id in enumerate(corpus["doc_id"].to_pylist())}
    spark = spark_session("dedup quality", {"spark.sql.shuffle.partitions": "8"})
    documents = spark.createDataFrame(corpus).withColumn("date", F.lit(None).cast("string"))
    size = corpus.nbytes / 1e6
    print(f"{len(row_of):,} documents, {size:.0f} MB; {machine()}")
    print(f"pyspark {version('pyspark')}, datasketch {version('datasketch')}\n")
    print(f"{'':34} recall  precision   removed (ideal)  false  residual")

    numbers: dict[str, float] = {}
    for threshold in (0.8, 0.7):
        config = MinHashConfig(threshold=threshold)
        kept = kept_rows(deduplicate(documents, config), row_of)
        found = pair_rows(near_duplicate_pairs(documents, config), row_of)
        label = f"Lianjin, verified, {threshold}"
        numbers |= score(label, f"{threshold:.1f}".replace(".", ""), truth, threshold, found, kept)
    if not options.quick:
        found, kept = datasketch_pairs(corpus)
        score("datasketch 2.0, 9 x 13, 0.8", "", truth, 0.8, found, kept)
        for name, (recall, precision, removed, false) in MEASURED_BEFORE.items():
            print(
                f"{name + ' *':34} {recall:6.3f}  {precision:9.3f}  {removed:8,}  {'':8} {false:5,}"
            )
        print("* measured before on this corpus, not in this run")
    spark.stop()
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=1) + "\n")
    return 0


def kept_rows(decided: DataFrame, row_of: dict[str, int]) -> NDArray[np.bool_]:
    kept = np.ones(len(row_of), np.bool_)
    dropped = decided.where("verdict is not null").select("doc_id").toArrow()
    kept[[row_of[doc_id] for doc_id in dropped["doc_id"].to_pylist()]] = False
    return kept


def pair_rows(pairs: DataFrame, row_of: dict[str, int]) -> NDArray[np.int64]:
    table = pairs.toArrow()
    columns = [[row_of[d] for d in table[name].to_pylist()] for name in ("doc_id", "other")]
    return np.sort(np.array(columns, np.int64).T.reshape(-1, 2), axis=1)


def score(
    label: str,
    suffix: str,
    truth: Truth,
    threshold: float,
    found: NDArray[np.int64],
    kept: NDArray[np.bool_],
) -> dict[str, float]:
    """Print one line of the table and return its numbers."""
    left, right = truth.at(threshold)
    count = len(kept)
    true_codes = np.minimum(left, right) * count + np.maximum(left, right)
    found_codes = np.unique(found[:, 0] * count + found[:, 1])
    hits = np.isin(found_codes, true_codes).sum()
    graph = coo_matrix((np.ones(len(left)), (left, right)), shape=(count, count))
    ideal = count - connected_components(graph, directed=False)[0]
    partnered = np.zeros(count, np.bool_)
    partnered[left] = partnered[right] = True
    removed = int((~kept).sum())
    numbers = {
        f"recall_{suffix}": float(hits / len(true_codes)),
        f"precision_{suffix}": float(hits / max(1, len(found_codes))),
        f"removed_vs_ideal_{suffix}": abs(removed - ideal) / ideal,
        f"false_removals_{suffix}": int((~kept & ~partnered).sum()),
        f"residual_{suffix}": float((kept[left] & kept[right]).mean()),
    }
    print(
        f"{label:34} {numbers[f'recall_{suffix}']:6.3f}  {numbers[f'precision_{suffix}']:9.3f}"
        f"  {removed:8,} ({ideal:5,}) {numbers[f'false_removals_{suffix}']:6,}"
        f"  {numbers[f'residual_{suffix}']:8.4f}",
        flush=True,
    )
    return numbers


def datasketch_pairs(corpus: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """What datasketch's own LSH at .8 with 128 permutations calls pairs, and keeps."""
    from datasketch import MinHash, MinHashLSH

    empty = MinHash(num_perm=128)
    index = MinHashLSH(threshold=0.8, num_perm=128)
    pairs = []
    for row, text in enumerate(corpus["text"].to_pylist()):
        normal = normalise(text)
        shingles = {normal[k : k + SHINGLE] for k in range(max(1, len(normal) - SHINGLE + 1))}
        signature = empty.copy()
        signature.update_batch([shingle.encode() for shingle in shingles])
        pairs += [(other, row) for other in index.query(signature)]
        index.insert(row, signature)
    found = np.array(pairs, np.int64).reshape(-1, 2)
    count = corpus.num_rows
    graph = coo_matrix((np.ones(len(found)), (found[:, 0], found[:, 1])), shape=(count, count))
    label = connected_components(graph, directed=False)[1]
    kept = np.zeros(count, np.bool_)
    kept[np.unique(label, return_index=True)[1]] = True
    return found, kept


if __name__ == "__main__":
    sys.exit(main())
