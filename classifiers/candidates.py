"""Candidates for annotation: excerpts of documents, drawn the same way whatever Spark's partitions.

`classifiers.sample` and `classifiers.mine` say which excerpts and in which stratum; here those with
the smallest keys of every stratum are collected, near-duplicates are left out, and files written.
"""

import csv
import hashlib
import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sql

from classifiers.duplicates import near_duplicate_groups
from corpus.settings import UserError
from corpus.stage import spark_schema

COLUMNS = ("doc_id", "text", "source", "lang", "kind")
SPARE = 3  # times as many are collected as are wanted, since near-duplicates will go


@dataclass(frozen=True, order=True)
class Candidate:
    """An excerpt to annotate. `suggested` is what a word list or a model says: no label yet."""

    stratum: str
    key: str  # the smaller, the sooner it is drawn
    doc_id: str
    text: str
    suggested: str
    lang: str
    source: str
    words: str  # found in it, joined by " | "


CANDIDATES = pa.schema([(field.name, pa.string()) for field in fields(Candidate)])
Propose = Callable[[pa.RecordBatch], Iterable[Candidate]]


def read_documents(spark: SparkSession, paths: Sequence[str]) -> DataFrame:
    """Documents of Parquet folders or JSON-lines files; missing columns but `text` are null.

    Raises:
        UserError: a path cannot be read or has no column `text`.
    """
    frames = []
    for path in paths:
        lines = path.endswith((".jsonl", ".jsonl.gz", ".json", ".json.gz"))
        try:
            frame = spark.read.json(path) if lines else spark.read.parquet(path)
        except Exception as error:  # Spark's own errors are of many classes
            raise UserError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error
        if "text" not in frame.columns:
            raise UserError(f"{path}: there is no column `text`")
        if "doc_id" not in frame.columns and "id" in frame.columns:
            frame = frame.withColumnRenamed("id", "doc_id")
        missing = [
            sql.lit(None).cast("string").alias(name)
            for name in COLUMNS
            if name not in frame.columns
        ]
        frame = frame.select("*", *missing)
        frames.append(frame.select([sql.col(name).cast("string") for name in COLUMNS]))
    result = frames[0]
    for frame in frames[1:]:
        result = result.unionByName(frame)
    return result


def collect(documents: DataFrame, propose: Propose, most: int) -> list[Candidate]:
    """Of what `propose` makes of each batch, the `most` with the smallest keys in each stratum."""

    def smallest(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        strata: dict[str, list[Candidate]] = defaultdict(list)
        for batch in batches:
            for candidate in propose(batch):
                kept = strata[candidate.stratum]
                kept.append(candidate)
                if len(kept) > 4 * most:
                    kept[:] = heapq.nsmallest(most, kept)
        rows = [c for kept in strata.values() for c in heapq.nsmallest(most, kept)]
        if rows:
            columns = [[getattr(row, name) for row in rows] for name in CANDIDATES.names]
            yield pa.RecordBatch.from_arrays(
                [pa.array(column, pa.string()) for column in columns], schema=CANDIDATES
            )

    schema = spark_schema(CANDIDATES)
    rows = documents.mapInArrow(smallest, schema).collect()
    strata: dict[str, list[Candidate]] = defaultdict(list)
    for row in rows:
        strata[row["stratum"]].append(Candidate(**row.asDict()))
    return [c for name in sorted(strata) for c in heapq.nsmallest(most, strata[name])]


def draw(
    candidates: Sequence[Candidate], quotas: Mapping[str, int], known: Sequence[str]
) -> list[Candidate]:
    """At most `quotas[stratum]` of each stratum, none a near-duplicate of another or of `known`."""
    ordered = sorted(candidates, key=lambda c: (c.stratum, c.key))
    groups = near_duplicate_groups([*known, *(c.text for c in ordered)]).tolist()
    taken = set(groups[: len(known)])
    counts: Counter[str] = Counter()
    result = []
    for candidate, group in zip(ordered, groups[len(known) :], strict=True):
        if group in taken or counts[candidate.stratum] >= quotas.get(candidate.stratum, 0):
            continue
        taken.add(group)
        counts[candidate.stratum] += 1
        result.append(candidate)
    return result


def draw_key(text: str, seed: int) -> str:
    """A seeded hash, in hex: the order in which texts are drawn at random."""
    data = f"{seed}\0{text}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=12).hexdigest()


def write_candidates(path: Path, candidates: Iterable[Candidate]) -> None:
    """Write a CSV with the columns of `Candidate`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CANDIDATES.names)
        for candidate in candidates:
            writer.writerow([getattr(candidate, name) for name in CANDIDATES.names])


def read_candidates(path: Path) -> list[Candidate]:
    """The candidates of a CSV; only `text` is required, so any table of texts will do."""
    csv.field_size_limit(1 << 30)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    if rows and "text" not in rows[0]:
        raise UserError(f"{path}:1: there is no column `text`")
    return [Candidate(**{name: row.get(name) or "" for name in CANDIDATES.names}) for row in rows]


def known_texts(paths: Iterable[str]) -> list[str]:
    """The texts of label files and candidate files, which are not to be drawn again."""
    return [candidate.text for path in paths for candidate in read_candidates(Path(path))]
