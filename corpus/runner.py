"""Runs stages one after the other, writes what each decided, and holds it to conservation.

A stage's folder is `RUN/stages/NN-name/`: `stage.json`, written last and atomically, names the
attempt folder that holds the decided documents as Parquet, `outcome=kept` and `outcome=dropped`.
Where `stage.json` bears the fingerprint that the stage would have now, the stage is not run again;
an attempt folder that no `stage.json` names is the rest of a killed run and is deleted.
"""

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import reduce
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from corpus.decided_files import write_decided
from corpus.document import DOCUMENT, RAW
from corpus.records import StageRecord, read_record, write_json
from corpus.scan import map_parquet, map_parquet_beside, read_ids
from corpus.settings import UserError
from corpus.stage import BatchFunction, FrameDocuments, Read, Stage, spark_schema

# A stage that fails on so many documents is wrong itself, and dropping them all would hide it.
FAILURES_ALLOWED = 20
FAILURE_SHARE_ALLOWED = 0.5

# Every worker holds these (32 bytes each) while it reads; beyond, Spark joins them away.
MOST_DROPPED_IDS = 4_000_000


class ConservationError(AssertionError):
    """A stage lost a document, made one up, or decided one twice: a bug in that stage."""


@dataclass(frozen=True)
class FinishedStage:
    """A stage together with its record and where its documents lie."""

    stage: Stage
    record: StageRecord
    path: str

    def decided(self, spark: SparkSession) -> DataFrame:
        """Every document that entered the stage, with the column `outcome`: kept or dropped."""
        schema = spark_schema(self.stage.output_schema()).add("outcome", "string")
        return spark.read.schema(schema).parquet(f"{self.path}/{self.record.attempt}")

    def outcome_path(self, outcome: str) -> str:
        """The folder of the Parquet files that hold the kept, or the dropped, documents."""
        return f"{self.path}/{self.record.attempt}/outcome={outcome}"

    def kept(self, spark: SparkSession) -> DataFrame:
        """The kept documents: `doc_id` and the stage's columns."""
        return self.decided(spark).where("outcome = 'kept'").drop("outcome", "verdict")

    def dropped_ids(self, spark: SparkSession) -> DataFrame:
        """The `doc_id` of every document that the stage dropped."""
        return self.decided(spark).where("outcome = 'dropped'").select("doc_id")


@dataclass(frozen=True)
class Progress:
    """What a run reports while it works; each is a function that prints or does nothing."""

    started: Callable[[int, int, str], None] = field(default=lambda position, total, name: None)
    finished: Callable[[StageRecord, bool], None] = field(default=lambda record, reused: None)


def check_columns(stages: Sequence[Stage], path: str) -> None:
    """Refuse a recipe in which a stage lacks a column, or adds one that is there already.

    Raises:
        UserError: names the recipe at `path`, the stage and the column.
    """
    available = dict.fromkeys(RAW.names, "the sources")
    for position, stage in enumerate(stages):
        missing = [name for name in stage.needs if name not in available]
        if missing:
            raise UserError(
                f"{path}: stages.{position}.{stage.name}: needs the column '{missing[0]}', which "
                f"no stage before it adds; there are: {', '.join(sorted(available))}"
            )
        if position == 0:
            if "text" not in stage.adds.names and not stage.rewrites_text:
                raise UserError(
                    f"{path}: stages.0.{stage.name}: the first stage must make documents of what "
                    "the sources hold: put 'extract' first"
                )
            available = {"doc_id": stage.name}
        for name in [*stage.adds.names, *(["text"] if stage.rewrites_text else [])]:
            if name in available and name != "text":
                raise UserError(
                    f"{path}: stages.{position}.{stage.name}: adds the column '{name}', which the "
                    f"stage '{available[name]}' has added already"
                )
            available[name] = stage.name
    for name in DOCUMENT.names:
        if name not in available:
            raise UserError(
                f"{path}: no stage adds the column '{name}', which a document must have"
            )


def run_stages(
    spark: SparkSession,
    run_dir: str,
    raw: DataFrame,
    raw_fingerprint: str,
    stages: Sequence[Stage],
    progress: Progress | None = None,
) -> list[FinishedStage]:
    """Run the stages that are not finished yet, in order, and return all of them.

    `raw` holds what the sources yield (`corpus.document.RAW`), `raw_fingerprint` identifies it.

    Raises:
        ConservationError: a stage's kept and dropped documents are not exactly those it was given.
    """
    progress = progress or Progress()
    finished: list[FinishedStage] = []
    fingerprint = raw_fingerprint
    for position, stage in enumerate(stages):
        fingerprint = stage.fingerprint(fingerprint)
        path = f"{run_dir.rstrip('/')}/stages/{position + 1:02d}-{stage.name}"
        progress.started(position + 1, len(stages), stage.name)
        record = read_record(path)
        reused = record is not None and record.fingerprint == fingerprint
        if record is None or not reused:
            record = _run_stage(spark, stage, path, fingerprint, finished, raw)
        finished.append(FinishedStage(stage, record, path))
        progress.finished(record, reused)
    return finished


class Survivors(Read):
    """The documents that every finished stage kept.

    Each column is read from the stage that wrote it last; documents that later stages dropped are
    taken out by `doc_id`, so that no stage needs to copy the text.
    """

    def __init__(self, spark: SparkSession, finished: Sequence[FinishedStage]) -> None:
        self.spark = spark
        self.finished = finished

    def __call__(self, columns: Sequence[str], among: DataFrame | None = None) -> DataFrame:
        providers = self._providers(columns)
        frames = [
            self.finished[position].kept(self.spark).select("doc_id", *names)
            for position, names in sorted(providers.items(), reverse=True)
        ]
        if among is not None:
            few = among.select("key")
            frames = [f.join(few, F.xxhash64("doc_id") == few["key"], "left_semi") for f in frames]
        documents = reduce(lambda left, right: left.join(right, "doc_id"), frames)
        later = [step.dropped_ids(self.spark) for step in self._after(max(providers))]
        if later:
            documents = documents.join(reduce(DataFrame.union, later), "doc_id", "left_anti")
        return documents.select("doc_id", *columns)

    def map(
        self, columns: Sequence[str], function: BatchFunction, schema: pa.Schema | str
    ) -> DataFrame:
        providers = self._providers(columns)
        later = self._after(max(providers))
        if len(providers) > 1 and "text" in columns:
            return self._map_beside_text(columns, function, schema)
        if len(providers) > 1 or sum(step.record.dropped for step in later) > MOST_DROPPED_IDS:
            return super().map(columns, function, schema)
        (position,) = providers
        step = self.finished[position]
        ids = [read_ids(later_step.outcome_path("dropped")) for later_step in later]
        return map_parquet(
            self.spark,
            step.outcome_path("kept"),
            columns,
            function,
            schema,
            types=step.stage.output_schema(),
            without=np.sort(np.concatenate(ids)) if ids else None,
        )

    def _map_beside_text(
        self, columns: Sequence[str], function: BatchFunction, schema: pa.Schema | str
    ) -> DataFrame:
        """`map` where other stages than the text's have some of the columns."""
        (position,) = self._providers(["text"])
        step = self.finished[position]
        own = self._providers(columns)[position]
        others = self([name for name in columns if name not in own])
        path = step.outcome_path("kept")
        types = step.stage.output_schema()
        return map_parquet_beside(path, columns, others, function, schema, types)

    def _providers(self, columns: Sequence[str]) -> dict[int, list[str]]:
        """Which columns to read from which finished stage, by its position."""
        providers: dict[int, list[str]] = {}
        for column in dict.fromkeys(name for name in columns if name != "doc_id"):
            position = max(
                (i for i, step in enumerate(self.finished) if column in step.record.columns),
                default=None,
            )
            if position is None:
                raise KeyError(f"no finished stage has the column {column!r}")
            providers.setdefault(position, []).append(column)
        return providers or {len(self.finished) - 1: []}

    def _after(self, position: int) -> list[FinishedStage]:
        """The stages after a position that dropped something."""
        return [step for step in self.finished[position + 1 :] if step.record.dropped]


def _run_stage(
    spark: SparkSession,
    stage: Stage,
    path: str,
    fingerprint: str,
    finished: Sequence[FinishedStage],
    raw: DataFrame,
) -> StageRecord:
    began = time.monotonic()
    _discard_attempts(path)
    attempt = f"attempt-{uuid.uuid4().hex[:12]}"
    observation = None
    read: Read
    if finished:
        read = Survivors(spark, finished)
    else:
        # The sources are read once: what comes in is counted on its way into the first stage.
        observation = Observation()
        read = FrameDocuments(
            raw.observe(observation, F.count(F.lit(1)).alias("n"), _digest().alias("digest"))
        )
    schema = stage.output_schema()
    folder = f"{path}/{attempt}"
    tallies = write_decided(stage, read, folder)
    written = spark.read.schema(spark_schema(schema).add("outcome", "string")).parquet(folder)
    if observation is not None:
        given = (observation.get["n"], int(observation.get["digest"] or 0))
    else:
        given = (finished[-1].record.kept, int(finished[-1].record.kept_digest))
    returned = (sum(t.documents for t in tallies), sum(t.digest for t in tallies))
    distinct = returned[0]
    if observation is not None:  # from here on the digests keep every stage from doubling one
        distinct = written.select("doc_id").distinct().count()
    if given != returned or distinct != returned[0]:
        raise ConservationError(_lost_and_found(spark, stage, read([]), written, given, returned))
    failed = sum(t.documents for t in tallies if t.rule == "error")
    if failed > max(FAILURES_ALLOWED, FAILURE_SHARE_ALLOWED * given[0]):
        example = written.where("verdict.rule = 'error'").select("doc_id", "verdict").limit(1)
        row = example.collect()[0]
        raise UserError(
            f"stage '{stage.name}' failed on {failed:,} of {given[0]:,} documents, for example on "
            f"{row.doc_id}: {row.verdict.evidence}; nothing of it counts as done"
        )
    record = StageRecord(
        stage=stage.name,
        fingerprint=fingerprint,
        attempt=attempt,
        columns=tuple(name for name in schema.names if name not in ("doc_id", "verdict")),
        documents_in=given[0],
        kept=sum(t.documents for t in tallies if t.outcome == "kept"),
        dropped=sum(t.documents for t in tallies if t.outcome == "dropped"),
        dropped_by_rule={
            str(t.rule): t.documents
            for t in sorted(tallies, key=lambda t: (-t.documents, t.rule or ""))
            if t.outcome == "dropped"
        },
        kept_digest=str(sum(t.digest for t in tallies if t.outcome == "kept")),
        seconds=round(time.monotonic() - began, 3),
    )
    write_json(f"{path}/stage.json", asdict(record))
    _discard_attempts(path, keep=attempt)
    return record


def _digest() -> Any:
    # A decimal, since a sum of 64-bit hashes overflows 64 bits.
    return F.sum(F.xxhash64("doc_id").cast("decimal(20,0)"))


def _discard_attempts(path: str, keep: str = "") -> None:
    filesystem, local = fsspec.url_to_fs(path)
    if not filesystem.exists(local):
        return
    if not keep and filesystem.exists(f"{local}/stage.json"):
        # Without the record first, a kill between the two leaves nothing that looks finished.
        filesystem.rm(f"{local}/stage.json")
    for entry in filesystem.ls(local, detail=False):
        name = entry.rstrip("/").rsplit("/", 1)[-1]
        if name.startswith("attempt-") and name != keep:
            filesystem.rm(entry, recursive=True)


def _lost_and_found(
    spark: SparkSession,
    stage: Stage,
    given: DataFrame,
    returned: DataFrame,
    given_digest: tuple[int, int],
    returned_digest: tuple[int, int],
) -> str:
    """Which documents broke the law of conservation, in words."""
    ids = given.select("doc_id")
    lost = [row.doc_id for row in ids.join(returned, "doc_id", "left_anti").limit(5).collect()]
    new = [row.doc_id for row in returned.join(ids, "doc_id", "left_anti").limit(5).collect()]
    counts = returned.groupBy("doc_id").count().where("count > 1").limit(5)
    twice = [row.doc_id for row in counts.collect()]
    return (
        f"stage '{stage.name}' broke the law of conservation: {given_digest[0]} documents in, "
        f"{returned_digest[0]} out; lost: {lost or 'none'}, made up: {new or 'none'}, "
        f"twice: {twice or 'none'}"
    )
