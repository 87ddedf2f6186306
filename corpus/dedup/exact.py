"""The stage `exact`: drops documents that are the same text, or the same page, as a kept one."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field
from pyspark.sql import DataFrame

from corpus.buffers import string_buffers
from corpus.dedup.buckets import RECORD_SCHEMA, pack
from corpus.dedup.grouping import Limits, find_groups
from corpus.dedup.keeping import Keeping, Ranking, needed_columns, sort_keys
from corpus.dedup.kernels import text_hashes
from corpus.dedup.members import Part, joined_members
from corpus.dedup.normal import fold_table, no_folding
from corpus.dedup.verdict import DUPLICATE, judge
from corpus.settings import Settings
from corpus.stage import FrameDocuments, Read, Stage, spark_schema

Identity = Literal["text", "url", "title_date"]

_RULES: dict[Identity, str] = {
    "text": "exact_duplicate",
    "url": "same_url",
    "title_date": "same_title_and_date",
}
_COLUMNS: dict[Identity, tuple[str, ...]] = {
    "text": ("text",),
    "url": ("url",),
    "title_date": ("title", "date"),
}
_HASHES = [f"hash{n}" for n in range(2 * len(_RULES))]  # two halves for each identity


class ExactConfig(Settings):
    """The section `exact` of a recipe."""

    by: tuple[Identity, ...] = Field(default=("text",), min_length=1)
    """What makes two documents the same: the normalised `text`; the `url`; `title_date`, title and
    date together. A document without one of them is never the same by it."""
    fold_script: bool = False
    """Traditional characters count as their simplified forms (OpenCC's table)."""
    keep: Keeping = Keeping(order=("priority", "quality", "date", "longest"))
    """Which of several is kept."""


class Exact(Stage):
    """Drops documents whose 128-bit hash of the normalised text equals a kept one's.

    Rules: `exact_duplicate`, `same_url`, `same_title_and_date`; evidence: `kept`, the kept
    document's `doc_id`, and `scope`, `exact`. Empty documents are no copies of each other; where
    only symbols are left of one, they must be the same to the byte.
    """

    Config = ExactConfig
    config: ExactConfig

    @property
    def needs(self) -> Sequence[str]:
        identity = [column for by in self.config.by for column in _COLUMNS[by]]
        return list(dict.fromkeys(["text", *identity, *needed_columns(self.config.keep)]))

    @property
    def adds(self) -> pa.Schema:
        return pa.schema([])

    def decide(self, documents: DataFrame) -> DataFrame:
        return self.decide_from(FrameDocuments(documents))

    def decide_from(self, read: Read) -> DataFrame:
        keep, by, fold_script = self.config.keep, self.config.by, self.config.fold_script
        identity = list(dict.fromkeys(column for one in by for column in _COLUMNS[one]))
        # Copies of one text are equally complete, and equally like each other.
        of_near_ones = ("incomplete", "neighbours")
        order = [key for key in sort_keys(keep) if key[0] not in of_near_ones]
        ranking = Ranking(keep, self.context.sources)

        def bucket(batch: pa.RecordBatch) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
            hashes = np.column_stack([identity_hashes(batch, one, fold_script)[:, 0] for one in by])
            return hashes, np.zeros((batch.num_rows, 2), np.uint64)

        # Of texts only hashes are shuffled: a page that is there a million times is no burden.
        def identify(batch: pa.RecordBatch) -> pa.RecordBatch:
            return identified(batch, by, fold_script)

        def resolve_all(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            held = list(batches)
            if held:
                table = resolve_identical(pa.Table.from_batches(held), by, order)
                yield from table.to_batches()

        records = read.map(identity, lambda batches: pack(batches, bucket), RECORD_SCHEMA)
        found = find_groups(records, 0, Limits())
        if found is None:
            return judge(read([]), None, 0, None, {})
        told = ", ".join(f"{name} long" for name in (*_HASHES[: 2 * len(by)], "size"))
        own = list(dict.fromkeys(["text", *identity]))
        parts: list[Part] = [
            (own, identify, told),
            (needed_columns(keep), ranking, ranking.schema),
        ]
        members = joined_members(read, parts, found)
        duplicates = members.repartition("group").mapInArrow(resolve_all, spark_schema(DUPLICATE))
        return judge(read([]), duplicates, found.members, 1.0, {"scope": "exact"})


def identity_hashes(batch: pa.RecordBatch, by: Identity, fold_script: bool) -> NDArray[np.uint64]:
    """128-bit hashes by which documents are the same: uint64 [rows, 2], 0 where there is none."""
    if by == "text":
        strings = batch.column("text")
    elif by == "url":
        strings = pc.utf8_trim_whitespace(batch.column("url"))
    else:
        title = pc.utf8_trim_whitespace(batch.column("title"))
        title = pc.if_else(pc.equal(title, ""), None, title)
        strings = pc.binary_join_element_wise(title, batch.column("date"), "\n")
    offsets, data = string_buffers(strings)
    hashes, _ = text_hashes(
        offsets, data, fold_table(fold_script) if by == "text" else no_folding()
    )
    hashes[np.diff(offsets) == 0] = 0
    return hashes


def identified(batch: pa.RecordBatch, by: Sequence[Identity], fold_script: bool) -> pa.RecordBatch:
    """The hashes of the identities of documents, and `size`, the characters of the normal form."""
    offsets, data = string_buffers(batch.column("text"))
    _, characters = text_hashes(offsets, data, fold_table(fold_script))
    columns: dict[str, pa.Array] = {}
    for k, one in enumerate(by):
        hashes = identity_hashes(batch, one, fold_script).view(np.int64)
        for half in range(2):
            columns[_HASHES[2 * k + half]] = pa.array(hashes[:, half])
    return pa.RecordBatch.from_pydict({**columns, "size": pa.array(characters)})


def resolve_identical(
    table: pa.Table, by: Sequence[Identity], order: Sequence[tuple[str, str]]
) -> pa.Table:
    """The dropped documents of a table of whole groups (`verdict.DUPLICATE`).

    `table` is of `identified` batches. Best first, a document is dropped if it has an identity in
    common with a kept one.
    """
    hashes = [
        list(zip(*(table[name].to_pylist() for name in _HASHES[2 * k : 2 * k + 2]), strict=True))
        for k in range(len(by))
    ]
    doc_ids = table["doc_id"].to_pylist()
    first: dict[tuple[Identity, int, int], str] = {}
    dropped = []
    for row in pc.sort_indices(table, list(order)).to_pylist():
        own = [(one, *hashes[k][row]) for k, one in enumerate(by)]
        own = [identity for identity in own if identity[1:] != (0, 0)]
        twin = next((identity for identity in own if identity in first), None)
        if twin is not None:
            dropped.append((doc_ids[row], _RULES[twin[0]], first[twin]))
        else:
            first.update(dict.fromkeys(own, doc_ids[row]))
    columns = list(zip(*dropped, strict=True)) or [(), (), ()]
    arrays = [pa.array(column, pa.string()) for column in columns]
    ones, zeros = np.ones(len(dropped)), np.zeros(len(dropped), np.int32)
    return pa.table([*arrays, ones, zeros], schema=DUPLICATE)
