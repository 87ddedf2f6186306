"""Truncated copies, found on Spark by containment."""

import random

import pyarrow as pa
from pyspark.sql import SparkSession

from corpus.dedup.minhash import MinHashConfig, deduplicate

ALPHABET = [chr(0x4E00 + i) for i in range(3000)]


def test_a_copy_cut_in_half_goes_when_containment_is_asked_for(spark: SparkSession) -> None:
    rng = random.Random(9)
    whole = "".join(rng.choice(ALPHABET) for _ in range(400))
    columns = {
        "doc_id": ["cut", "other", "whole"],
        "text": [whole[:240], "".join(rng.choice(ALPHABET) for _ in range(300)), whole],
        "source": ["a"] * 3,
        "date": ["2025", "2020", "2020"],
    }
    frame = spark.createDataFrame(pa.table(columns))
    decided = deduplicate(frame, MinHashConfig(containment=0.95))
    verdicts = {row.doc_id: row.verdict for row in decided.collect()}
    # The newer copy ranks higher, but the whole is not contained in it; cut short, it ranks last.
    assert verdicts["whole"] is None
    assert verdicts["other"] is None
    cut = verdicts["cut"]
    assert (cut.rule, cut.value, cut.threshold) == ("contained", 1.0, 0.95)
    assert cut.evidence["kept"] == "whole"
