"""The stages `minhash-local` and `minhash-global`: near-duplicates by verified MinHash LSH."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, model_validator
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from corpus.dedup.bands import Banding, band_hashes, choose_banding, sketch_radius, sketches
from corpus.dedup.buckets import RECORD_SCHEMA, pack
from corpus.dedup.giants import settle
from corpus.dedup.grouping import Groups, Limits, find_groups
from corpus.dedup.keeping import Keeping, Ranking, needed_columns, sort_keys
from corpus.dedup.left_groups import (
    NEAR_GROUP,
    Split,
    split_by_category,
    take_groups,
    with_left,
)
from corpus.dedup.members import Part, joined_members, members_of
from corpus.dedup.normal import Shingling
from corpus.dedup.resolve import NEVER, Comparison, pairs, resolve
from corpus.dedup.signatures import SignaturesConfig, signature_arrays, signature_matrix
from corpus.dedup.stored import Measure, Store, mixed_sets, open_stores, stored_members
from corpus.dedup.verdict import DUPLICATE, judge
from corpus.keys import category_keys
from corpus.settings import Settings
from corpus.stage import FrameDocuments, Read, Stage, spark_schema


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
    leave_groups: bool = False
    """With `by`: link documents across all categories at once, and leave their groups for
    `minhash-global` (its `take_groups`), so that it need not link again."""
    take_groups: bool = False
    """Compare what is left of the groups of the `minhash-local` before, which has
    `leave_groups`; all that decides what is similar must be the same in both sections."""
    against: tuple[str, ...] = ()
    """Signature stores of earlier runs (`python -m corpus.dedup.store`): what is in them already
    is dropped, with the scope `earlier` and the earlier twin as evidence."""
    largest_group: int = Field(default=50_000, ge=2)
    """Candidates that one task compares with each other. Greater groups are parted where they are
    most weakly linked, and what is kept of the parts is compared once more."""

    @model_validator(mode="after")
    def _check_groups(self) -> "MinHashConfig":
        if self.leave_groups and (not self.by or self.take_groups):
            raise ValueError("leave_groups: is for a stage that compares `by` categories")
        if self.take_groups and self.by:
            raise ValueError("take_groups: is for the stage that compares all, without `by`")
        if self.against and (self.leave_groups or self.take_groups):
            raise ValueError(
                "against: earlier runs are linked with this stage's own documents: leave "
                "`leave_groups` and `take_groups` out of both sections"
            )
        return self


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
        candidates = NEAR_GROUP.name if self.config.take_groups else "minhash"
        columns = ["text", candidates, *needed_columns(self.config.keep), *self.config.by]
        return list(dict.fromkeys(columns))

    @property
    def resources(self) -> Sequence[str]:
        return [f"{path.rstrip('/')}/store.json" for path in self.config.against]

    @property
    def adds(self) -> pa.Schema:
        return pa.schema([NEAR_GROUP] if self.config.leave_groups else [])

    def decide(self, documents: DataFrame) -> DataFrame:
        return self.decide_from(FrameDocuments(documents))

    def decide_from(self, read: Read) -> DataFrame:
        return deduplicate(read, self.config, self.context.sources, measured=True)


def deduplicate(
    documents: DataFrame | Read,
    config: MinHashConfig | None = None,
    sources: Mapping[str, Settings] | None = None,
    measured: bool = False,
) -> DataFrame:
    """Near-duplicates among documents: `doc_id` and `verdict`, null for those to keep.

    `documents` hold doc_id, text, source, date, the columns of `config.by`, and `minhash` if they
    are `measured` (`signatures`); else signatures are made on the way and not kept. `sources` gives
    the priorities of sources by name. With `config.leave_groups` the result holds `near_group` too,
    and with `config.take_groups` the documents do.
    """
    config = config or MinHashConfig()
    read = documents if isinstance(documents, Read) else FrameDocuments(documents)
    limits = Limits(config.largest_group)
    stores = open_stores(config.against, measure_of(config))
    if config.take_groups:
        return _decided(read, take_groups(read, limits), config, sources, stores)
    found = _grouped(read, measured, config, stores)
    if not config.leave_groups:
        return _decided(read, found, config, sources, stores)
    split = split_by_category(read, found, config.by, limits) if found else Split(None, None)
    return with_left(_decided(read, split.found, config, sources, stores), split.left)


def _decided(
    read: Read,
    found: Groups | None,
    config: MinHashConfig,
    sources: Mapping[str, Settings] | None,
    stores: Sequence[Store],
) -> DataFrame:
    """`doc_id` and `verdict` of every document, once those in groups are compared."""
    ids = read([])
    if found is None:
        return judge(ids, None, 0, None, {})
    ranking = Ranking(config.keep, sources or {})
    parts: list[Part] = [
        (["text"], _text, "text string"),
        (needed_columns(config.keep), ranking, ranking.schema),
    ]
    members = joined_members(read, parts, found)
    order = sort_keys(config.keep)
    if stores:
        earlier = stored_members(ids.sparkSession, stores, found.found)
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

    together = members.drop("key", "component").repartition("group")
    duplicates = together.mapInArrow(resolve_all, spark_schema(DUPLICATE))
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


def near_duplicate_pairs(
    documents: DataFrame | Read, config: MinHashConfig | None = None, measured: bool = False
) -> DataFrame:
    """Every pair of near-duplicates that is found, verified: `doc_id`, `other`, `similarity`.

    `documents` hold doc_id, text, the columns of `config.by`, and `minhash` if `measured`.
    """
    config = config or MinHashConfig()
    read = documents if isinstance(documents, Read) else FrameDocuments(documents)
    found = _grouped(read, measured, config, [])
    schema = "doc_id string, other string, similarity double"
    if found is None:
        return read([]).sparkSession.createDataFrame([], schema)
    how = Comparison([], config.threshold, NEVER, config.shingle)

    def compare(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held = list(batches)
        if held:
            yield from pairs(pa.Table.from_batches(held), how).to_batches()

    members = members_of(read, ["text"], found, _text, "text string")
    return members.repartition("group").mapInArrow(compare, schema)


def _text(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch.select(["text"])


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


def _grouped(
    read: Read, measured: bool, config: MinHashConfig, stores: Sequence[Store]
) -> Groups | None:
    """The groups among the documents that have a signature."""
    by = () if config.leave_groups else config.by
    bands = Bands(config.model_copy(update={"by": by}))
    records = read.map(
        ["minhash" if measured else "text", *by],
        lambda batches: pack(batches, bands),
        RECORD_SCHEMA,
    )
    radius = sketch_radius(lowest_jaccard(config), config.permutations)
    return find_groups(records, radius, Limits(config.largest_group), stores)


class Bands:
    """Band hashes and sketches of a batch with `minhash` or `text`, and the columns of `by`."""

    def __init__(self, config: MinHashConfig) -> None:
        self.by = config.by
        self.banding = banding_of(config)
        self.signatures = SignaturesConfig(permutations=config.permutations, shingle=config.shingle)

    def __call__(self, batch: pa.RecordBatch) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        if "minhash" in batch.schema.names:
            minhash = batch.column("minhash")
            signed = minhash.is_valid().to_numpy(zero_copy_only=False)
            signatures = signature_matrix(minhash, self.signatures.permutations)
        else:
            signatures, shingles = signature_arrays(batch.column("text"), self.signatures)
            signed = shingles > 0
        category = category_keys(batch, self.by)
        hashes = band_hashes(signatures, self.banding.bands, self.banding.rows, category)
        hashes[~signed] = 0
        return hashes, sketches(signatures)
