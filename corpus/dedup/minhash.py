"""The stages `minhash-local` and `minhash-global`: near-duplicates by verified MinHash LSH."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from corpus.dedup.bands import Banding, band_hashes, choose_banding, sketch_radius, sketches
from corpus.dedup.grouping import find_groups, members_of
from corpus.dedup.keeping import Keeping, needed_columns, ranking_columns, sort_keys, with_key
from corpus.dedup.normal import Shingling
from corpus.dedup.resolve import resolve
from corpus.dedup.signatures import signature_matrix
from corpus.dedup.verdict import DUPLICATE, judge
from corpus.settings import Settings
from corpus.stage import Stage, spark_schema


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
    largest_group: int = Field(default=50_000, ge=2)
    """Candidates that one task compares with each other; greater groups are parted where they are
    most weakly linked."""


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
    def adds(self) -> pa.Schema:
        return pa.schema([])

    def decide(self, documents: DataFrame) -> DataFrame:
        config = self.config
        banding = choose_banding(config.threshold, config.recall, config.permutations)
        radius = sketch_radius(config.threshold, config.permutations)
        keyed = with_key(documents.where(F.col("minhash").isNotNull()))
        grouped, count = find_groups(
            keyed.select("key", "minhash", self._category().alias("category")),
            _Bucketing(banding, config.permutations),
            radius,
            config.largest_group,
        )
        if grouped is None:
            return judge(documents, None, 0, None, {})
        members = members_of(
            keyed.select(
                "doc_id",
                "key",
                "text",
                *ranking_columns(config.keep, self.context.sources),
            ),
            grouped,
            count,
        )
        order, threshold, shingling = sort_keys(config.keep), config.threshold, config.shingle

        def resolve_all(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            held = list(batches)
            if held:
                table = pa.Table.from_batches(held)
                yield from resolve(table, order, threshold, shingling).to_batches()

        duplicates = members.mapInArrow(resolve_all, spark_schema(DUPLICATE))
        evidence = {"scope": "local" if config.by else "global"}
        if config.by:
            evidence["by"] = ", ".join(config.by)
        return judge(documents, duplicates, count, threshold, evidence)

    def _category(self) -> Column:
        """A 64-bit hash of the columns of `by`."""
        if not self.config.by:
            return F.lit(0).cast("long")
        # A struct, since xxhash64 of columns passes over nulls.
        named = [F.coalesce(F.col(c).cast("string"), F.lit("\0")) for c in self.config.by]
        return F.xxhash64(*named)


class _Bucketing:
    """Band hashes and sketches of a batch with `minhash` and `category`."""

    def __init__(self, banding: Banding, permutations: int) -> None:
        self.banding = banding
        self.permutations = permutations

    def __call__(self, batch: pa.RecordBatch) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        signatures = signature_matrix(batch.column("minhash"))
        if signatures.shape[1] != self.permutations:
            raise ValueError(
                f"signatures hold {signatures.shape[1]} permutations, not {self.permutations}: "
                "`permutations` must be the same in the sections 'signatures' and 'minhash'"
            )
        category = batch.column("category").to_numpy().view(np.uint64)
        hashes = band_hashes(signatures, self.banding.bands, self.banding.rows, category)
        return hashes, sketches(signatures)
