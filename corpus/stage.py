"""The stage: a named, pure step. Documents in, each of them decided: kept, or dropped with why.

Contract 2 of the design. A stage says which columns it needs and adds, and returns one row for
each document; the runner (`corpus.runner`) writes kept and dropped apart and checks that none was
lost. Most stages are a `BatchStage`: a function of one Arrow batch.
"""

import hashlib
import importlib
import importlib.resources
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import fsspec
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_type
from pyspark.sql.types import DataType, StructField, StructType

from corpus.document import DOCUMENT, VERDICT
from corpus.settings import Settings, UserError


@dataclass(frozen=True)
class StageContext:
    """What a stage may know of its run besides its own section of the recipe."""

    run_dir: str
    """The run's folder, as the recipe gives it."""
    seed: int
    sources: Mapping[str, Settings]
    """The recipe's sources by name, in its order (`corpus.recipe.Source`)."""


# Arrow batches in, Arrow batches out, in Spark's Python workers: what `mapInArrow` takes.
BatchFunction = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]


class Read(ABC):
    """The documents that a stage is given, as far as it asks for them."""

    @abstractmethod
    def __call__(self, columns: Sequence[str], among: DataFrame | None = None) -> DataFrame:
        """`doc_id` and `columns` of all documents, or of those in `among`.

        `among` has the column `key`, the xxhash64 of a `doc_id`.
        """

    def map(
        self, columns: Sequence[str], function: BatchFunction, schema: pa.Schema | str
    ) -> DataFrame:
        """What `function` makes of the batches of all documents, with `doc_id` and `columns`.

        Where the columns lie in files of one stage, workers read these themselves
        (`corpus.scan`). `schema` is that of the result, Arrow's or in Spark's words.
        """
        documents = self(columns).select("doc_id", *columns)
        return documents.mapInArrow(function, as_spark_schema(schema))


class FrameDocuments(Read):
    """The documents of a DataFrame."""

    def __init__(self, documents: DataFrame) -> None:
        self.documents = documents

    def __call__(self, columns: Sequence[str], among: DataFrame | None = None) -> DataFrame:
        documents = self.documents
        if among is not None:
            few = among.select("key")
            documents = documents.join(few, F.xxhash64("doc_id") == few["key"], "left_semi")
        return documents.select("doc_id", *columns)


class Stage(ABC):
    """One step of a recipe. Subclasses name their settings in `Config` and implement `decide`."""

    Config: ClassVar[type[Settings]] = Settings
    rewrites_text: ClassVar[bool] = False
    """True where the stage returns a new `text` (and so writes one): extraction and cleaning."""

    def __init__(self, name: str, config: Settings, context: StageContext) -> None:
        self.name = name
        self.config = config
        self.context = context

    @property
    @abstractmethod
    def needs(self) -> Sequence[str]:
        """The columns that `decide` reads, apart from `doc_id`."""

    @property
    @abstractmethod
    def adds(self) -> pa.Schema:
        """The columns that the stage adds. None of them may exist before it."""

    @property
    def resources(self) -> Sequence[str]:
        """Files, besides the documents, whose content decides the result (models, word lists)."""
        return ()

    @abstractmethod
    def decide(self, documents: DataFrame) -> DataFrame:
        """Return one row for each document of `documents` (`doc_id` and `needs`).

        The result holds `doc_id`, the columns of `adds`, `text` if the stage rewrites it, and
        `verdict` (`corpus.document.VERDICT`): null for a kept document. What a dropped document
        holds in the other columns is written too, where it is known.
        """

    def decide_from(self, read: Read) -> DataFrame:
        """Like `decide`, for a stage that need not have all columns of all documents at once.

        Columns lie with the stages that made them, so that each further one costs a join of all
        documents; a stage that reads the text of a few overrides this.
        """
        return self.decide(read(self.needs))

    def output_schema(self) -> pa.Schema:
        """The exact schema of what `decide` returns."""
        fields = [DOCUMENT.field("doc_id"), *self.adds]
        if self.rewrites_text and "text" not in self.adds.names:
            fields.append(DOCUMENT.field("text"))
        return pa.schema([*fields, pa.field("verdict", VERDICT)])

    def fingerprint(self, input_fingerprint: str) -> str:
        """SHA-256, in hex, over the stage's settings, code, resources and input."""
        identity = {
            "stage": self.name,
            "config": self.config.model_dump(mode="json"),
            "code": code_version(type(self).__module__),
            "resources": [file_digest(path) for path in self.resources],
            "seed": self.context.seed,
            "input": input_fingerprint,
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


class BatchStage(Stage):
    """A stage whose verdict on a document depends on that document alone.

    Subclasses implement `process`; a batch that raises is taken apart until the one document that
    caused it stands alone, which is then dropped by the rule `error` with the exception's text.
    """

    @abstractmethod
    def process(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Decide one batch (`doc_id` and `needs`, one row a document, at least one row).

        Runs in Spark's Python workers. Returns the columns of `output_schema` in any order, the
        rows in the batch's order.
        """

    def prepare(self, read: Read) -> None:
        """What must be done or checked once, on the driver, before workers run `process`."""

    def decide(self, documents: DataFrame) -> DataFrame:
        return self._decide_all(FrameDocuments(documents))

    def decide_from(self, read: Read) -> DataFrame:
        return self._decide_all(read) if self.is_process_alone else super().decide_from(read)

    @property
    def is_process_alone(self) -> bool:
        """Whether `prepare` and `process` are all of it, and no subclass adds to `decide`."""
        return type(self).decide is BatchStage.decide

    def _decide_all(self, read: Read) -> DataFrame:
        self.prepare(read)
        return read.map(self.needs, self.process_all, self.output_schema())

    def process_all(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """`process` of every batch, fitted to `output_schema`; failures get their verdict."""
        schema = self.output_schema()
        for batch in batches:
            if batch.num_rows:
                yield from isolate_failures(batch, self.process, schema)


def isolate_failures(
    batch: pa.RecordBatch, process: Callable[[pa.RecordBatch], pa.RecordBatch], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Yield `process(batch)`, fitted to `schema`; documents on which it raises get a verdict.

    Raises:
        UserError: `process` did; it is not the document that is wrong then.
    """
    try:
        result = process(batch)
    except UserError:  # a wrong setting or a missing model is no document's fault
        raise
    except Exception as error:  # any failure is the document's reason, never the job's end
        if batch.num_rows == 1:
            yield _failed(batch, error, schema)
        else:
            middle = batch.num_rows // 2
            yield from isolate_failures(batch.slice(0, middle), process, schema)
            yield from isolate_failures(batch.slice(middle), process, schema)
        return
    if result.num_rows != batch.num_rows:
        raise AssertionError(f"{batch.num_rows} documents went in and {result.num_rows} came out")
    yield result.select(schema.names).cast(schema)


def _failed(batch: pa.RecordBatch, error: Exception, schema: pa.Schema) -> pa.RecordBatch:
    evidence = {"exception": type(error).__name__, "message": str(error)[:500]}
    columns: list[pa.Array] = []
    for field in schema:
        if field.name == "verdict":
            columns.append(verdicts(["error"], evidence=[evidence]))
        elif field.name in batch.schema.names:
            columns.append(batch.column(field.name))
        else:
            columns.append(pa.nulls(1, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def verdicts(
    rules: Sequence[str | None],
    values: Sequence[float | None] | None = None,
    thresholds: Sequence[float | None] | None = None,
    evidence: Sequence[Mapping[str, str] | None] | None = None,
) -> pa.StructArray:
    """Build a `VERDICT` array; where `rules` holds None the document is kept (a null struct)."""
    size = len(rules)
    if all(rule is None for rule in rules):  # most batches of most stages
        return pa.StructArray.from_arrays(
            [pa.repeat("", size), *(pa.nulls(size, field.type) for field in list(VERDICT)[1:])],
            fields=list(VERDICT),
            mask=pa.repeat(True, size),
        )
    entries = [list(item.items()) if item else None for item in evidence or [None] * size]
    return pa.StructArray.from_arrays(
        [
            pa.array([rule or "" for rule in rules], pa.string()),
            pa.array(values if values is not None else [None] * size, pa.float64()),
            pa.array(thresholds if thresholds is not None else [None] * size, pa.float64()),
            pa.array(entries, VERDICT.field("evidence").type),
        ],
        fields=list(VERDICT),
        mask=pa.array([rule is None for rule in rules], pa.bool_()),
    )


def spark_type(arrow_type: pa.DataType) -> DataType:
    """Spark's type for an Arrow type."""
    return from_arrow_type(arrow_type)


def spark_schema(schema: pa.Schema) -> StructType:
    """Spark's schema for an Arrow schema; every column but `doc_id` may be null."""
    return StructType([StructField(f.name, spark_type(f.type), f.name != "doc_id") for f in schema])


def as_spark_schema(schema: pa.Schema | str) -> StructType | str:
    """`schema` as Spark takes it: what is in Spark's words already stays."""
    return schema if isinstance(schema, str) else spark_schema(schema)


def code_version(module_name: str) -> str:
    """SHA-256, in hex, over the Python sources of the folder in which a module lies.

    A stage and what it is made of share a folder, so that an edit there, and only there, makes
    the stage run again. Works from a checkout, an installed package and a zip.
    """
    module = importlib.import_module(module_name)
    if not module.__package__:  # a user's own stage in a plain file
        if module.__file__ is None:
            raise UserError(f"{module_name}: a stage must be defined in a file")
        return file_digest(module.__file__)
    digest = hashlib.sha256()
    # From a zip a package can be listed, from disk a namespace (tokenization) cannot.
    on_disk = Path(str(module.__file__)).parent
    folder = on_disk if on_disk.is_dir() else importlib.resources.files(module.__package__)
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".py"):
            digest.update(entry.name.encode() + b"\0" + entry.read_bytes() + b"\0")
    return digest.hexdigest()


def file_digest(path: str) -> str:
    """SHA-256, in hex, of a file at any fsspec address; a `UserError` if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with fsspec.open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    return digest.hexdigest()
