"""The stage `paragraphs`: takes out paragraphs that stand in too many documents.

Cleaning removes the template of one source's pages; this finds what is repeated across a source or
across sources: disclaimers, notices, biographies of authors. Two passes over the text: one counts
in how many documents each paragraph's hash stands, one cuts.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field
from pyspark.sql import DataFrame

from corpus.buffers import string_buffers, unblob
from corpus.dedup.buckets import RECORD_SCHEMA, pack_records, unpack
from corpus.dedup.kernels import U64, text_hashes
from corpus.dedup.normal import fold_table
from corpus.keys import document_keys
from corpus.settings import Settings
from corpus.stage import FrameDocuments, Read, Stage, isolate_failures, verdicts


class ParagraphsConfig(Settings):
    """The section `paragraphs` of a recipe."""

    per_source: int = Field(default=5, ge=1)
    """In how many documents of one source a paragraph may stand."""
    overall: int = Field(default=10, ge=1)
    """In how many documents in all."""
    min_characters: int = Field(default=20, ge=1)
    """Paragraphs with fewer characters (normalised: without punctuation and white space) are never
    counted: headings, dates, list marks."""
    keep_one: bool = True
    """Leave a repeated paragraph in one document, that with the smallest hash of its `doc_id`."""


class Paragraphs(Stage):
    """Cuts paragraphs (lines) that are over a limit; adds how many, and of how many characters.

    A document of which nothing is left is dropped by the rule `repeated_paragraphs`; value: the
    share of its characters that was cut.
    """

    Config = ParagraphsConfig
    config: ParagraphsConfig
    rewrites_text = True

    @property
    def needs(self) -> Sequence[str]:
        return ("text", "source")

    @property
    def adds(self) -> pa.Schema:
        return pa.schema([("paragraphs_cut", pa.int32()), ("paragraph_characters_cut", pa.int32())])

    def decide(self, documents: DataFrame) -> DataFrame:
        return self.decide_from(FrameDocuments(documents))

    def decide_from(self, read: Read) -> DataFrame:
        config = self.config

        def count(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            return pack_records(
                _records(batch, config.min_characters) for batch in batches if batch.num_rows
            )

        def limit(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for _, hashes, keys, sources in unpack(batches):
                order = np.lexsort((keys, sources[:, 0], hashes))
                found = over_limits(
                    hashes[order],
                    sources[order, 0],
                    keys[order],
                    config.per_source,
                    config.overall,
                )
                if len(found[0]):
                    blobs = [pa.array([column.tobytes()], pa.binary()) for column in found]
                    yield pa.RecordBatch.from_arrays(blobs, ["hash", "source", "first"])

        counted = (
            read.map(self.needs, count, RECORD_SCHEMA)
            .repartition("part")
            .mapInArrow(limit, "hash binary, source binary, first binary")
            .toArrow()
        )
        repeated = Repeated.of(counted)
        schema = self.output_schema()

        def cut(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                if batch.num_rows:
                    yield from isolate_failures(
                        batch, lambda part: cut_paragraphs(part, repeated, config), schema
                    )

        return read.map(self.needs, cut, schema)


@dataclass(frozen=True)
class Repeated:
    """Paragraphs over a limit, sorted by hash and source: uint64 `hashes`, uint64 `sources` (a
    source's hash, or 0 for every source), int64 `first` (the key of the document that keeps it).
    """

    hashes: NDArray[np.uint64]
    sources: NDArray[np.uint64]
    first: NDArray[np.int64]

    @classmethod
    def of(cls, table: pa.Table) -> "Repeated":
        """From rows of packed columns, in any order."""
        hashes = unblob(table["hash"], np.uint64)
        sources = unblob(table["source"], np.uint64)
        first = unblob(table["first"], np.int64)
        order = np.lexsort((sources, hashes))
        return cls(hashes[order], sources[order], first[order])


def cut_paragraphs(
    batch: pa.RecordBatch, repeated: Repeated, config: ParagraphsConfig
) -> pa.RecordBatch:
    """The stage's result for a batch with doc_id, text, source."""
    paragraphs, bounds, hashes, characters = _split(batch.column("text"), config.min_characters)
    rows = np.repeat(np.arange(batch.num_rows), np.diff(bounds))
    keys = document_keys(batch.column("doc_id"))
    sources = _source_hashes(batch.column("source"))
    cut = is_repeated(
        hashes,
        sources[rows],
        keys[rows],
        repeated.hashes,
        repeated.sources,
        repeated.first,
        config.keep_one,
    )
    number = np.bincount(rows[cut], minlength=batch.num_rows)
    size = np.bincount(rows[cut], characters[cut], batch.num_rows).astype(np.int64)
    whole = np.bincount(rows, characters, batch.num_rows)
    kept_bounds = np.concatenate([[0], np.cumsum(np.bincount(rows[~cut], minlength=len(keys)))])
    kept = pa.LargeListArray.from_arrays(
        pa.array(kept_bounds, pa.int64()), paragraphs.filter(pa.array(~cut))
    )
    joined = pc.binary_join(kept, pa.scalar("\n", pa.large_string())).cast(pa.string())
    text = pc.if_else(pa.array(number > 0), joined, batch.column("text"))
    empty = (number > 0) & (pc.utf8_length(pc.utf8_trim_whitespace(text)).to_numpy(False) == 0)
    share = size / np.maximum(1, whole)
    return pa.RecordBatch.from_arrays(
        [
            batch.column("doc_id"),
            text,
            pa.array(number.astype(np.int32)),
            pa.array(size.astype(np.int32)),
            verdicts(
                ["repeated_paragraphs" if gone else None for gone in empty.tolist()],
                share.tolist(),
            ),
        ],
        ["doc_id", "text", "paragraphs_cut", "paragraph_characters_cut", "verdict"],
    )


def _records(
    batch: pa.RecordBatch, min_characters: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """(hashes, keys, sources) of the countable paragraphs, each once a document."""
    _, bounds, hashes, _ = _split(batch.column("text"), min_characters)
    rows = np.repeat(np.arange(batch.num_rows), np.diff(bounds))[hashes != 0]
    hashes = hashes[hashes != 0]
    order = np.lexsort((hashes, rows))
    hashes, rows = hashes[order], rows[order]
    fresh = np.ones(len(hashes), np.bool_)
    fresh[1:] = (hashes[1:] != hashes[:-1]) | (rows[1:] != rows[:-1])
    hashes, rows = hashes[fresh], rows[fresh]
    sources = np.zeros((len(rows), 2), np.uint64)
    sources[:, 0] = _source_hashes(batch.column("source"))[rows]
    return hashes, document_keys(batch.column("doc_id"))[rows], sources


def _split(
    texts: pa.Array, min_characters: int
) -> tuple[pa.Array, NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64]]:
    """The lines of texts: (lines, bounds of each text's, 64-bit hashes, normalised characters).

    Lines of fewer than `min_characters` have the hash 0.
    """
    lists = pc.split_pattern(texts.cast(pa.large_string()).fill_null(""), "\n")
    lines = lists.flatten()
    lengths = pc.list_value_length(lists).to_numpy()
    offsets, data = string_buffers(lines)
    hashes, characters = text_hashes(offsets, data, fold_table())
    first = hashes[:, 0].copy()
    first[characters < min_characters] = 0
    return lines, np.concatenate([[0], np.cumsum(lengths)]), first, characters


def _source_hashes(sources: pa.Array) -> NDArray[np.uint64]:
    offsets, data = string_buffers(sources.fill_null(""))
    return text_hashes(offsets, data, fold_table())[0][:, 0] | np.uint64(1)


@numba.njit(cache=True, nogil=True)
def over_limits(hashes, sources, keys, per_source, overall):  # type: ignore[no-untyped-def]
    """Paragraphs in too many documents: (hash, source or 0 for all, key of the first document).

    One record a document and paragraph, sorted by hash, source and key.
    """
    out_hash = np.empty(hashes.size, np.uint64)
    out_source = np.empty(hashes.size, np.uint64)
    out_first = np.empty(hashes.size, np.int64)
    n = 0
    start = 0
    while start < hashes.size:
        stop = start
        first = keys[start]
        while stop < hashes.size and hashes[stop] == hashes[start]:
            first = min(first, keys[stop])
            stop += 1
        if stop - start > overall:
            out_hash[n], out_source[n], out_first[n] = hashes[start], U64(0), first
            n += 1
        else:
            a = start
            while a < stop:
                b = a
                while b < stop and sources[b] == sources[a]:
                    b += 1
                if b - a > per_source:
                    out_hash[n], out_source[n], out_first[n] = hashes[a], sources[a], keys[a]
                    n += 1
                a = b
        start = stop
    return out_hash[:n], out_source[:n], out_first[:n]


@numba.njit(cache=True, nogil=True)
def is_repeated(hashes, sources, keys, repeated, of_source, first, keep_one):  # type: ignore[no-untyped-def]
    """Which paragraphs to cut; a repetition inside the document that keeps it stays."""
    cut = np.zeros(hashes.size, np.bool_)
    for p in range(hashes.size):
        if hashes[p] == U64(0):
            continue
        place = np.searchsorted(repeated, hashes[p])
        while place < repeated.size and repeated[place] == hashes[p]:
            if of_source[place] == U64(0) or of_source[place] == sources[p]:
                cut[p] = not (keep_one and first[place] == keys[p])
                break
            place += 1
    return cut
