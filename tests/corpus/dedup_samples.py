"""What the tests of deduplication's stages share: made documents, and verdicts as words."""

import random
from collections.abc import Iterable, Sequence

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from corpus.dedup.stages import Signatures
from corpus.document import DOCUMENT
from corpus.settings import Settings
from corpus.stage import FrameDocuments, StageContext, spark_schema

ALPHABET = [chr(0x4E00 + i) for i in range(3000)]


class Source(Settings):
    priority: int = 0


def context(**priorities: int) -> StageContext:
    sources = {name: Source(priority=value) for name, value in priorities.items()}
    return StageContext(run_dir="", seed=0, sources=sources)


def prose(seed: int, length: int = 400) -> str:
    rng = random.Random(seed)
    return "".join(rng.choice(ALPHABET) for _ in range(length))


def edited(text: str, places: Iterable[int]) -> str:
    letters = list(text)
    for place in places:
        letters[place] = "改"
    return "".join(letters)


def documents(spark: SparkSession, rows: list[dict[str, str | None]]) -> DataFrame:
    defaults: dict[str, object] = dict.fromkeys(DOCUMENT.names)
    defaults |= {"source": "a"}
    table = pa.Table.from_pylist([defaults | row for row in rows], DOCUMENT)
    return spark.createDataFrame(table.to_pandas(), spark_schema(DOCUMENT))


def signed(frame: DataFrame) -> DataFrame:
    added = Signatures("signatures", Signatures.Config(), context()).decide(frame)
    return frame.join(added.drop("verdict"), "doc_id")


def story(decided: DataFrame) -> dict[str, tuple[str, str] | None]:
    """For each document None, or the rule and the kept twin."""
    result = {}
    for row in decided.collect():
        assert row.doc_id not in result
        verdict = row.verdict
        result[row.doc_id] = verdict and (verdict.rule, verdict.evidence["kept"])
    return result


BASE = prose(1)


def corpus() -> list[dict[str, str | None]]:
    rng = random.Random(5)
    rows: list[dict[str, str | None]] = []
    for family in range(25):
        base = prose(100 + family, 200)
        for member in range(rng.randint(1, 6)):
            text = edited(base, rng.sample(range(200), rng.randint(0, 2)))
            rows.append({"doc_id": f"{family}-{member}", "text": text, "source": rng.choice("abc")})
    rows += [{"doc_id": f"star-{k:03d}", "text": edited(BASE, [k])} for k in range(90)]
    return rows


class Asked(FrameDocuments):
    """Documents that remember which columns were asked for."""

    def __init__(self, frame: DataFrame) -> None:
        super().__init__(frame)
        self.columns: list[tuple[str, ...]] = []

    def __call__(self, columns: Sequence[str], among: DataFrame | None = None) -> DataFrame:
        self.columns.append(tuple(columns))
        return super().__call__(columns, among)
