"""The stages `minhash-local` and `minhash-global`: near-duplicates by verified MinHash LSH."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from corpus.dedup.bands import Banding, band_hashes, choose_banding, sketch_radius, sketches
from corpus.dedup.giants import settle
from corpus.dedup.grouping import Groups, Limits, find_groups, members_of
from corpus.dedup.keeping import Keeping, needed_columns, ranking_columns, sort_keys, with_key
from corpus.dedup.normal import Shingling
from corpus.dedup.resolve import NEVER, Comparison, pairs, resolve
from corpus.dedup.signatures import SignaturesConfig, signature_arrays, signature_matrix
from corpus.dedup.stored import Measure, Store, mixed_sets, open_stores, stored_members
from corpus.dedup.verdict import BROADCAST_ROWS, DUPLICATE, judge
from corpus.settings import Settings
from corpus.stage import Read, Stage, spark_schema


class MinHashConfig(Settings):
    """A section `minhash-local` or `minhash-global` of a recipe."""

    threshold: float = Field(default=0.8, gt=0.0, le=1.0)
    """Documents whose shingle sets have at least this Jaccard similarity are near-duplicates."""
    recall: float = Field(default=0.99, gt=0.0, lt=1.0)
    """The chance that a pair at the threshold itself is found; above it, more. Bands and rows
    follow from it: `python -m corpus.dedup.bands` shows them."""
    permutations: int = Field(default=112, ge=1, le=1024)
    """How many values the signatures have: as in the section `signatures`."""
    by: tuple[str, ...] = ()
    """Columns, such as `source` or `kind`: only documents equal in all of them are compared (local
    deduplication). Empty: all with all (global)."""
    shingle: Shingling = Shingling()
    """What documents are compared by: as in the section `signatures`."""
    keep: Keeping = Keeping()
    """Which of several near-duplicates is kept."""
    containment: float | None = Field(default=None, gt=0.0, le=1.0)
    """Drop also what a kept, longer document holds to this share of its shingles (rule
    `contained`): truncated copies, long quotes. Not set: only near-duplicates go."""
    shortest_share: float = Field(default=0.5, gt=0.0, le=1.0)
    """With `containment`: how much shorter than the longer one such a document may be and still be
    found with the chance `recall`. Lower values need more bands, so more candidates."""
    against: tuple[str, ...] = ()
    """Signature stores of earlier runs (`python -m corpus.dedup.store`): what is in them already
    is dropped, with the scope `earlier` and the earlier twin as evidence."""
    largest_group: int = Field(default=50_000, ge=2)
    """Candidates that one task compares with each other. Greater groups are parted where they are
    most weakly linked, and what is kept of the parts is compared once more."""


class MinHash(Stage):
    """Drops documents that are near-duplicates of a kept one, each of them verified.

    Documents that share a bucket are candidates; their shingle sets are then compared exactly, so
    the rule `near_duplicate` bears the true Jaccard similarity. Evidence: `kept`, the kept twin's
    `doc_id`; `scope`, local or global; `by`, the category.
    """

    Config = MinHashConfig
    config: MinHashConfig

    @property
    def needs(self) -> Sequence[str]:
        columns = ["text", "minhash", *needed_columns(self.config.keep), *self.config.by]
        return list(dict.fromkeys(columns))

    @property
    def resources(self) -> Sequence[str]:
        return [f"{path.rstrip('/')}/store.json" for path in self.config.against]

    @property
    def adds(self) -> pa.Schema:
        return pa.schema([])

    def decide(self, documents: DataFrame) -> DataFrame:
        return deduplicate(documents, self.config, self.context.sources)

    def decide_from(self, read: Read) -> DataFrame:
        return _deduplicated(read, True, self.config, self.context.sources)


def deduplicate(
    documents: DataFrame,
    config: MinHashConfig | None = None,
    sources: Mapping[str, Settings] | None = None,
) -> DataFrame:
    """Near-duplicates of a DataFrame: `doc_id` and `verdict`, null for those to keep.

    `documents` holds doc_id, text, source, date and the columns of `config.by`, and may hold
    `minhash`; without it the signatures are made on the way and not kept. `sources` gives the
    priorities of sources by name.
    """

    def read(columns: Sequence[str], among: DataFrame | None) -> DataFrame:
        return documents.select("doc_id", *columns)

    measured = "minhash" in documents.columns
    return _deduplicated(read, measured, config or MinHashConfig(), sources or {})


def _deduplicated(
    read: Read, measured: bool, config: MinHashConfig, sources: Mapping[str, Settings]
) -> DataFrame:
    """`deduplicate`, of documents that are read as far as they are needed: of most the signature,
    if they are `measured`, and of those in groups the text."""
    stores = open_stores(config.against, measure_of(config))
    ids = read([], None)
    found = _grouped(read(_compared(config, measured), None), config, stores)
    if found is None:
        return judge(ids, None, 0, None, {})
    few = F.broadcast(found.frame) if found.members <= BROADCAST_ROWS else found.frame
    keyed = with_key(read(["text", *needed_columns(config.keep)], few))
    ranking = ranking_columns(config.keep, sources)
    members = members_of(keyed.select("doc_id", "key", "text", *ranking), found)
    order = sort_keys(config.keep)
    if stores:
        earlier = stored_members(ids.sparkSession, stores, found.frame)
        members = members.unionByName(earlier, allowMissingColumns=True)
    if stores or found.giants:
        stored = F.col("stored") if stores else F.lit(0)
        members = members.withColumn("stored", F.coalesce(stored, F.lit(0)))
        order = [("stored", "descending"), *order]
    how = Comparison(order, config.threshold, config.containment or NEVER, config.shingle)
    sets_of = (lambda table: mixed_sets(table, config.shingle)) if stores else None

    def resolve_all(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held = list(batches)
        if held:
            yield from resolve(pa.Table.from_batches(held), how, sets_of).to_batches()

    parts = members.drop("key", "component").repartition("group")
    duplicates = parts.mapInArrow(resolve_all, spark_schema(DUPLICATE))
    if found.giants:
        duplicates = settle(members, duplicates, resolve_all, config.largest_group)
    evidence = {"scope": "local" if config.by else "global"}
    if config.by:
        evidence["by"] = ", ".join(config.by)
    runs = [store.path for store in stores]
    threshold = F.when(F.col("rule") == "contained", F.lit(config.containment)).otherwise(
        F.lit(config.threshold)
    )
    return judge(ids, duplicates, found.members, threshold, evidence, runs)


def near_duplicate_pairs(documents: DataFrame, config: MinHashConfig | None = None) -> DataFrame:
    """Every pair of near-duplicates that is found, verified: `doc_id`, `other`, `similarity`.

    `documents` holds doc_id, text, and the columns of `config.by`.
    """
    config = config or MinHashConfig()
    found = _grouped(documents, config, [])
    schema = "doc_id string, other string, similarity double"
    if found is None:
        return documents.sparkSession.createDataFrame([], schema)
    members = members_of(with_key(documents).select("doc_id", "key", "text"), found).drop("key")
    how = Comparison([], config.threshold, NEVER, config.shingle)

    def compare(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held = list(batches)
        if held:
            yield from pairs(pa.Table.from_batches(held), how).to_batches()

    return members.repartition("group").mapInArrow(compare, schema)


def banding_of(config: MinHashConfig) -> Banding:
    """The bands and rows of a section."""
    return choose_banding(lowest_jaccard(config), config.recall, config.permutations)


def lowest_jaccard(config: MinHashConfig) -> float:
    """The Jaccard similarity down to which pairs are wanted."""
    if config.containment is None:
        return config.threshold
    common = config.containment * config.shortest_share
    return min(config.threshold, common / (1.0 + config.shortest_share - common))


def measure_of(config: MinHashConfig) -> Measure:
    """What a signature store must have in common with a section."""
    banding = banding_of(config)
    return Measure(
        shingle=config.shingle,
        permutations=config.permutations,
        bands=banding.bands,
        rows=banding.rows,
    )


def _grouped(documents: DataFrame, config: MinHashConfig, stores: Sequence[Store]) -> Groups | None:
    """The groups among the documents that have a signature."""
    keyed = with_key(documents)
    measured = "minhash" in documents.columns
    if measured:
        keyed = keyed.where(F.col("minhash").isNotNull())
    return find_groups(
        keyed.select("key", "minhash" if measured else "text", _category(config).alias("category")),
        Bands(config),
        sketch_radius(lowest_jaccard(config), config.permutations),
        Limits(config.largest_group),
        stores,
    )


def _compared(config: MinHashConfig, measured: bool) -> list[str]:
    """The columns that candidates are found by."""
    return ["minhash" if measured else "text", *config.by]


def _category(config: MinHashConfig) -> Column:
    """A 64-bit hash of the columns of `by`."""
    if not config.by:
        return F.lit(0).cast("long")
    # xxhash64 passes over nulls, so a null must become a value that no column has.
    return F.xxhash64(*[F.coalesce(F.col(c).cast("string"), F.lit("\0")) for c in config.by])


class Bands:
    """Band hashes and sketches of a batch with `minhash` or `text`, and `category`."""

    def __init__(self, config: MinHashConfig) -> None:
        self.banding = banding_of(config)
        self.signatures = SignaturesConfig(permutations=config.permutations, shingle=config.shingle)

    def __call__(self, batch: pa.RecordBatch) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        if "minhash" in batch.schema.names:
            signatures = signature_matrix(batch.column("minhash"))
            shingles = None
        else:
            signatures, shingles = signature_arrays(batch.column("text"), self.signatures)
        if signatures.shape[1] != self.signatures.permutations:
            raise ValueError(
                f"signatures hold {signatures.shape[1]} permutations, not "
                f"{self.signatures.permutations}: `permutations` must be the same in the sections "
                "'signatures' and 'minhash'"
            )
        category = batch.column("category").to_numpy().view(np.uint64)
        hashes = band_hashes(signatures, self.banding.bands, self.banding.rows, category)
        if shingles is not None:
            hashes[shingles == 0] = 0
        return hashes, sketches(signatures)
