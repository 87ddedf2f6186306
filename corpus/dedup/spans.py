"""The stage `long-spans`: takes out long passages that stand somewhere else too.

What is compared is the normal form (`corpus.dedup.normal`), so neither line breaks nor punctuation
hide a repetition. The guarantee: every window of `min_characters` that stands in two places is
found, whatever the partitions, and stays in one: in the document of the source with the highest
priority, then of the smallest `doc_id`, there at its first place. After Lee et al. 2022
("Deduplicating training data makes language models better"), but without a suffix array of it all:

1. Winnowing chooses grams, some two in a hundred characters, such that every two equal windows
   choose an equal one. Grams that were chosen only once say where nothing is repeated.
2. Around the others every window is hashed, twice, to 122 bits; the best place of each keeps it.
3. The rest is cut, after its hash has been compared with the text once more.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field
from pyspark.sql import DataFrame

from corpus.dedup.buckets import RECORD_SCHEMA, Records, blobs, pack_records, unblob, unpack
from corpus.dedup.keeping import priority_column, source_priorities
from corpus.dedup.kernels import string_buffers
from corpus.dedup.normal import fold_table
from corpus.dedup.span_kernels import BASES, anchors, cuts, windows
from corpus.settings import Settings
from corpus.stage import Stage, isolate_failures, spark_schema, verdicts

Picking = Callable[[NDArray[np.uint64], NDArray[np.int64], NDArray[np.uint64]], Records]

_ADDED = pa.schema(
    [(name, pa.int32()) for name in ("spans_cut", "span_characters_cut", "span_characters")]
)
_PLACES = "key long, marks binary, checks binary"
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


class LongSpansConfig(Settings):
    """The section `long-spans` of a recipe."""

    min_characters: int = Field(default=200, ge=20)
    """From how many characters (normalised: without punctuation and white space) on a repeated
    passage is cut."""
    sentences: bool = True
    """Cut whole sentences only, where at least half of `min_characters` is left to cut so; what
    stands of a sentence before and after stays. False: to the character."""


class LongSpans(Stage):
    """Cuts repeated passages, and adds how many and of how many characters.

    `span_characters` are those of the normal form before, `span_characters_cut` those that went. A
    document of which nothing is left is dropped by the rule `repeated_spans`; value: the share of
    its characters that was cut.
    """

    Config = LongSpansConfig
    config: LongSpansConfig
    rewrites_text = True

    @property
    def needs(self) -> Sequence[str]:
        return ("text", "source")

    @property
    def adds(self) -> pa.Schema:
        return _ADDED

    def decide(self, documents: DataFrame) -> DataFrame:
        config, schema = self.config, self.output_schema()
        priorities = source_priorities(self.context.sources)
        keyed = documents.selectExpr("doc_id", "xxhash64(doc_id) as key", "text", "source")

        def choose(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            return pack_records(_anchors(batch, config) for batch in batches if batch.num_rows)

        def hash_windows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            return pack_records(
                _windows(batch, config, priorities) for batch in batches if batch.num_rows
            )

        def cut(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                if batch.num_rows:
                    yield from isolate_failures(batch, lambda part: cut_spans(part, config), schema)

        chosen = _by_document(keyed.mapInArrow(choose, RECORD_SCHEMA), _repeated_anchors)
        around = keyed.join(chosen.drop("checks"), "key")
        found = _by_document(around.mapInArrow(hash_windows, RECORD_SCHEMA), _repeated_windows)
        marked = keyed.join(found, "key", "left")
        return marked.mapInArrow(cut, spark_schema(schema))


def cut_spans(batch: pa.RecordBatch, config: LongSpansConfig) -> pa.RecordBatch:
    """The stage's result for a batch with doc_id, text, marks, checks."""
    offsets, data = string_buffers(batch.column("text"))
    marks = pa.chunked_array([batch.column("marks")])
    bounds = _bounds(marks)
    places, gone, sizes = cuts(
        offsets,
        data,
        fold_table(),
        config.min_characters,
        unblob(marks, np.int64),
        unblob(pa.chunked_array([batch.column("checks")]), np.uint64),
        bounds,
        BASES,
        config.sentences,
    )
    texts = batch.column("text").to_pylist()
    for d in np.unique(places[:, 0]).tolist():
        content, pieces, start = data[offsets[d] : offsets[d + 1]].tobytes(), [], 0
        for first, last in (places[places[:, 0] == d, 1:] - offsets[d]).tolist():
            pieces.append(content[start:first])
            start = last
        texts[d] = b"".join([*pieces, content[start:]]).decode("utf-8", "replace").strip()
    text = pa.array(texts, pa.string())
    number = np.bincount(places[:, 0], minlength=batch.num_rows)
    left = pc.utf8_length(text).fill_null(0).to_numpy(zero_copy_only=False)
    share = gone / np.maximum(1, sizes)
    return pa.RecordBatch.from_arrays(
        [
            batch.column("doc_id"),
            pa.array(number.astype(np.int32)),
            pa.array(gone.astype(np.int32)),
            pa.array(sizes.astype(np.int32)),
            text,
            verdicts(
                ["repeated_spans" if empty else None for empty in (number > 0) & (left == 0)],
                share.tolist(),
            ),
        ],
        names=["doc_id", *_ADDED.names, "text", "verdict"],
    )


def _bounds(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Where each entry's numbers (8 bytes each; none if null) begin, and the end."""
    lengths = pc.binary_length(column).fill_null(0).to_numpy()
    return np.concatenate([[0], np.cumsum(lengths // 8)]).astype(np.int64)


def _anchors(batch: pa.RecordBatch, config: LongSpansConfig) -> Records:
    gram = config.min_characters // 2
    offsets, data = string_buffers(batch.column("text"))
    window = config.min_characters - gram + 1
    hashes, rows, positions = anchors(offsets, data, fold_table(), gram, window, BASES)
    places = np.column_stack([positions, np.zeros(len(rows), np.int64)]).view(np.uint64)
    return hashes, batch.column("key").to_numpy()[rows], places


def _repeated_anchors(
    hashes: NDArray[np.uint64], keys: NDArray[np.int64], places: NDArray[np.uint64]
) -> Records:
    """The places of grams that were chosen more than once, as records by document."""
    order = np.argsort(hashes, kind="stable")
    same = hashes[order][1:] == hashes[order][:-1]
    repeated = order[np.append(same, False) | np.append(False, same)]
    return keys[repeated].view(np.uint64) * _SPREAD, keys[repeated], places[repeated]


def _windows(
    batch: pa.RecordBatch, config: LongSpansConfig, priorities: Mapping[str, int]
) -> Records:
    """Records of windows; beside the key: second hash, position, priority, first of the doc_id."""
    offsets, data = string_buffers(batch.column("text"))
    chosen = pa.chunked_array([batch.column("marks")])
    hashes, rows, positions = windows(
        offsets,
        data,
        fold_table(),
        config.min_characters,
        config.min_characters // 2,
        unblob(chosen, np.int64),
        _bounds(chosen),
        BASES,
    )
    priority = priority_column(batch.column("source"), priorities).to_numpy().astype(np.int64)
    ids = np.array([_first_bits(doc_id) for doc_id in batch.column("doc_id").to_pylist()], "u8")
    columns = [hashes[:, 1], positions.view(np.uint64), -priority[rows], ids[rows]]
    places = np.column_stack([np.asarray(column).view(np.uint64) for column in columns])
    return hashes[:, 0], batch.column("key").to_numpy()[rows], places


def _first_bits(doc_id: str) -> int:
    """64 bits of a doc_id, in its order: 16 hex digits, or 8 bytes of one that is not in hex."""
    try:
        return int(doc_id[:16].ljust(16, "0"), 16)
    except ValueError:
        return int.from_bytes(doc_id.encode()[:8].ljust(8, b"\0"), "big")


def _repeated_windows(
    hashes: NDArray[np.uint64], keys: NDArray[np.int64], places: NDArray[np.uint64]
) -> Records:
    """The windows that stand in more than one place, as records by document: twice the position,
    and 1 where it is kept; and the first hash."""
    order = np.lexsort(
        (places[:, 1], keys, places[:, 3], places[:, 2].view(np.int64), places[:, 0], hashes)
    )
    first, second = hashes[order], places[order, 0]
    same = (first[1:] == first[:-1]) & (second[1:] == second[:-1])
    follows, leads = np.append(False, same), np.append(same, False)
    repeated = follows | leads
    kept = (~follows[repeated]).astype(np.uint64)
    chosen = order[repeated]
    marks = np.column_stack([places[chosen, 1] * np.uint64(2) + kept, hashes[chosen]])
    return keys[chosen].view(np.uint64) * _SPREAD, keys[chosen], marks


def _by_document(records: DataFrame, repeated: Picking) -> DataFrame:
    """Rows of _PLACES, one a document: what `repeated` says of all records of each part."""

    def pick(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return pack_records(
            repeated(hashes, keys, places) for _, hashes, keys, places in unpack(batches)
        )

    def gather(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _, _, keys, marks in unpack(batches):
            order = np.lexsort((marks[:, 0], keys))
            starts = np.flatnonzero(np.diff(keys[order], prepend=~keys[order[:1]]))
            bounds = np.append(starts, len(order))
            yield pa.RecordBatch.from_arrays(
                [
                    pa.array(keys[order[starts]]),
                    blobs(marks[order, 0], bounds),
                    blobs(marks[order, 1], bounds),
                ],
                names=["key", "marks", "checks"],
            )

    picked = records.repartition("part").mapInArrow(pick, RECORD_SCHEMA)
    return picked.repartition("part").mapInArrow(gather, _PLACES)
