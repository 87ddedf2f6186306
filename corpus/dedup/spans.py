"""The stage `long-spans`: takes out long passages that stand somewhere else too.

What is compared is the normal form (`corpus.dedup.normal`), so neither line breaks nor punctuation
hide a repetition. The guarantee: every window of `min_characters` that stands in two places is
found, whatever the partitions, and stays in one: in the document of the source with the highest
priority, then of the smallest `doc_id`, there at its first place. After Lee et al. 2022
("Deduplicating training data makes language models better"), but without a suffix array of it all:

1. Winnowing chooses grams, some two in a hundred characters, such that every two equal windows
   choose an equal one. Those that are chosen only once say where nothing is repeated; of the others
   workers get a bitmap, which may say yes too often and never no.
2. The windows that chose them are hashed, twice, to 122 bits; the best place of each keeps it.
3. The rest is cut, after its hashes have been compared with the text once more.

Each step reads all texts; where these lie in files of one stage, workers read them themselves.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field
from pyspark import Broadcast
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from corpus.buffers import blobs, string_buffers, unblob
from corpus.dedup.buckets import (
    PART_BITS,
    RECORD_SCHEMA,
    Records,
    by_part,
    pack_records,
    unpack,
)
from corpus.dedup.keeping import priority_column, source_priorities
from corpus.dedup.normal import fold_table
from corpus.dedup.span_kernels import (
    BASES,
    anchors,
    cuts,
    in_order_of,
    joined_runs,
    repeated_runs,
    windows,
)
from corpus.keys import document_keys
from corpus.settings import Settings
from corpus.stage import (
    BatchFunction,
    FrameDocuments,
    Read,
    Stage,
    isolate_failures,
    spark_schema,
    verdicts,
)

HASHES_A_ROW = 1 << 20  # of grams or windows, packed before they are sent: 8 or 16 MB
BITS_A_GRAM = 32  # of the bitmap: then one window in thirty is hashed in vain
MOST_BITS = 31  # 256 MB; of grams beyond some hundred millions more are hashed in vain
BROADCAST_BYTES = 128 << 20  # of marks; beyond, Spark joins them to the texts

_ADDED = pa.schema(
    [(name, pa.int32()) for name in ("spans_cut", "span_characters_cut", "span_characters")]
)
_GRAMS = "part int, grams binary"
_RUNS = "part int, runs binary, hashes binary"
_MARKS = "key long, marks binary"
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_SIGN = np.uint64(1 << 63)


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
        return self.decide_from(FrameDocuments(documents))

    def decide_from(self, read: Read) -> DataFrame:
        length, config, schema = self.config.min_characters, self.config, self.output_schema()
        priorities = source_priorities(self.context.sources)
        chosen = _repeated_grams(read, length)

        def hash_windows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            yield from _packed_runs(batches, length, chosen.value, priorities)

        def cut(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                if batch.num_rows:
                    yield from isolate_failures(batch, lambda part: cut_spans(part, config), schema)

        # Without priorities the text is all, and workers read it from the files of one stage.
        columns = ("text", "source") if priorities else ("text",)
        runs = read.map(columns, hash_windows, _RUNS)
        repeated = runs.repartition("part").mapInArrow(_pick_repeated, RECORD_SCHEMA)
        marks = repeated.repartition("part").mapInArrow(_gather, _MARKS)
        return _map_marked(read, marks, cut, schema)


def _repeated_grams(read: Read, length: int) -> Broadcast[NDArray[np.uint8]]:
    """A bitmap, by the first bits of their hashes, of grams that were chosen more than once."""

    def choose(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from _packed_grams(batches, length)

    grams = read.map(("text",), choose, _GRAMS).repartition("part")
    found = grams.mapInArrow(_more_than_once, _GRAMS).localCheckpoint()
    count = (found.agg(F.sum(F.length("grams"))).collect()[0][0] or 0) // 4
    bits = min(MOST_BITS, max(PART_BITS + 3, (BITS_A_GRAM * count).bit_length()))
    slices = found.mapInArrow(lambda batches: _slices(batches, bits), _GRAMS).toArrow()
    return found.sparkSession.sparkContext.broadcast(joined_slices(slices, bits))


def joined_slices(slices: pa.Table, bits: int) -> NDArray[np.uint8]:
    """The bitmap of which `slices` are the parts' slices; shape [2^bits / 8]."""
    bitmap = np.zeros((1 << PART_BITS, 1 << (bits - PART_BITS - 3)), np.uint8)
    for part, blob in zip(slices["part"].to_pylist(), slices["grams"], strict=True):
        bitmap[part] = np.frombuffer(blob.as_buffer(), np.uint8)
    return bitmap.reshape(-1)


def _map_marked(
    read: Read, marks: DataFrame, function: BatchFunction, schema: pa.Schema
) -> DataFrame:
    """What `function` makes of all documents, with doc_id, text and, where there are any, marks."""
    marks = marks.localCheckpoint()
    if (marks.agg(F.sum(F.length("marks"))).collect()[0][0] or 0) > BROADCAST_BYTES:
        keyed = read(("text",)).selectExpr("doc_id", "text", "xxhash64(doc_id) as key")
        return keyed.join(marks, "key", "left").mapInArrow(function, spark_schema(schema))
    table = marks.toArrow().sort_by("key").combine_chunks()
    known = marks.sparkSession.sparkContext.broadcast(table)

    def attach(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from function(with_marks(batch, known.value) for batch in batches)

    return read.map(("text",), attach, schema)


def with_marks(batch: pa.RecordBatch, table: pa.Table) -> pa.RecordBatch:
    """The documents with their `marks`, null where `table` (_MARKS, sorted by key) has none."""
    keys, known = document_keys(batch.column("doc_id")), table["key"].to_numpy()
    place = np.searchsorted(known, keys)
    has_none = np.append(known, 0)[place] != keys
    has_none |= place == len(known)
    marks = table["marks"].combine_chunks().take(pa.array(place, mask=has_none))
    return batch.append_column("marks", marks)


def cut_spans(batch: pa.RecordBatch, config: LongSpansConfig) -> pa.RecordBatch:
    """The stage's result for a batch with doc_id, text, and marks (`joined_runs`) or null."""
    text = batch.column("text")
    offsets, data = string_buffers(text)
    marks = pa.chunked_array([batch.column("marks")])
    places, gone, sizes = cuts(
        offsets,
        data,
        fold_table(),
        config.min_characters,
        unblob(marks, np.int64),
        _bounds(marks),
        BASES[0],
        config.sentences,
    )
    number = np.bincount(places[:, 0], minlength=batch.num_rows)
    is_empty = np.zeros(batch.num_rows, np.bool_)
    if len(places):
        rests = []
        for d in np.flatnonzero(number).tolist():
            content, pieces, start = data[offsets[d] : offsets[d + 1]].tobytes(), [], 0
            for first, last in (places[places[:, 0] == d, 1:] - offsets[d]).tolist():
                pieces.append(content[start:first])
                start = last
            rests.append(b"".join([*pieces, content[start:]]).decode("utf-8", "replace").strip())
            is_empty[d] = not rests[-1]
        text = pc.replace_with_mask(text, pa.array(number > 0), pa.array(rests, text.type))
    share = gone / np.maximum(1, sizes)
    return pa.RecordBatch.from_arrays(
        [
            batch.column("doc_id"),
            pa.array(number.astype(np.int32)),
            pa.array(gone.astype(np.int32)),
            pa.array(sizes.astype(np.int32)),
            text,
            verdicts(
                ["repeated_spans" if empty else None for empty in is_empty.tolist()],
                share.tolist(),
            ),
        ],
        names=["doc_id", *_ADDED.names, "text", "verdict"],
    )


def _bounds(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Where each entry's numbers (8 bytes each; none if null) begin, and the end."""
    lengths = pc.binary_length(column).fill_null(0).to_numpy()
    return np.concatenate([[0], np.cumsum(lengths // 8)]).astype(np.int64)


def _parts(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    return (hashes >> np.uint64(64 - PART_BITS)).astype(np.int64)


def _packed_grams(batches: Iterable[pa.RecordBatch], length: int) -> Iterator[pa.RecordBatch]:
    """Rows of _GRAMS: the hashes of all chosen grams, 8 bytes each."""
    held: list[NDArray[np.uint64]] = []
    for batch in batches:
        offsets, data = string_buffers(batch.column("text"))
        held.append(anchors(offsets, data, fold_table(), length, length // 2))
        if sum(map(len, held)) >= HASHES_A_ROW:
            yield _grams_by_part(held)
            held = []
    if any(map(len, held)):
        yield _grams_by_part(held)


def _grams_by_part(held: Sequence[NDArray[np.uint64]]) -> pa.RecordBatch:
    hashes = np.sort(np.concatenate(held))
    is_third = np.zeros(len(hashes), np.bool_)
    is_third[2:] = hashes[2:] == hashes[:-2]
    hashes = hashes[~is_third]  # two say that it was chosen more than once
    return _rows_by_part(_parts(hashes), {"grams": (hashes, np.ones(len(hashes), np.int64))})


def _rows_by_part(
    parts: NDArray[np.int64], columns: Mapping[str, tuple[NDArray[Any], NDArray[np.int64]]]
) -> pa.RecordBatch:
    """A row for each part: of ascending `parts` of records; of each column, all records' numbers
    and how many of them each record has."""
    starts = np.flatnonzero(np.diff(parts, prepend=-1))
    packed = [pa.array(parts[starts].astype(np.int32))]
    for numbers, counts in columns.values():
        bounds = np.concatenate([[0], np.cumsum(counts)])[np.append(starts, len(parts))]
        packed.append(blobs(numbers, bounds))
    return pa.RecordBatch.from_arrays(packed, names=["part", *columns])


def _more_than_once(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Of each part the first 32 bits of the hashes of grams that stand there more than once."""
    for part, rows in by_part(batches):
        hashes = np.sort(unblob(rows["grams"], np.uint64))
        repeated = np.unique(hashes[1:][hashes[1:] == hashes[:-1]] >> np.uint64(32))
        if len(repeated):
            columns = [pa.array([part], pa.int32()), _blob(repeated.astype(np.uint32))]
            yield pa.RecordBatch.from_arrays(columns, names=["part", "grams"])


def _slices(batches: Iterable[pa.RecordBatch], bits: int) -> Iterator[pa.RecordBatch]:
    """Of each part its slice of a bitmap of 2^bits bits, from rows of `_more_than_once`."""
    for part, rows in by_part(batches):
        places = unblob(rows["grams"], np.uint32) >> np.uint32(32 - bits)
        is_there = np.zeros(1 << (bits - PART_BITS), np.bool_)
        is_there[places - np.uint32(part << (bits - PART_BITS))] = True
        columns = [pa.array([part], pa.int32()), _blob(np.packbits(is_there, bitorder="little"))]
        yield pa.RecordBatch.from_arrays(columns, names=["part", "grams"])


def _blob(numbers: NDArray[Any]) -> pa.Array:
    return pa.array([numbers.tobytes()], pa.binary())


def _packed_runs(
    batches: Iterable[pa.RecordBatch],
    length: int,
    chosen: NDArray[np.uint8],
    priorities: Mapping[str, int],
) -> Iterator[pa.RecordBatch]:
    """Rows of _RUNS: uint64 [runs, 6] of gram, number of windows, first window, and what decides
    which document keeps them; and both hashes of each window."""
    held: list[tuple[NDArray[np.uint64], NDArray[np.uint64]]] = []
    for batch in batches:
        for some in _runs(batch, length, chosen, priorities):
            held.append(some)
            if sum(len(hashes) for _, hashes in held) >= HASHES_A_ROW:
                yield _runs_by_part(held)
                held = []
    if held:
        yield _runs_by_part(held)


def _runs(
    batch: pa.RecordBatch,
    length: int,
    chosen: NDArray[np.uint8],
    priorities: Mapping[str, int],
) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.uint64]]]:
    offsets, data = string_buffers(batch.column("text"))
    priority = np.zeros(batch.num_rows, np.int64)
    if priorities:
        priority = priority_column(batch.column("source"), priorities).to_numpy().astype(np.int64)
    ids = np.array([_first_bits(doc_id) for doc_id in batch.column("doc_id").to_pylist()], "u8")
    keys = document_keys(batch.column("doc_id")).view(np.uint64)
    state = np.zeros(4, np.int64)
    units = np.empty(max(HASHES_A_ROW, length) + length - 1, np.uint32)
    while state[0] < batch.num_rows:
        names, runs, hashes = windows(
            offsets, data, fold_table(), length, length // 2, chosen, BASES, state, units
        )
        if len(runs):
            d, first, count = runs.T
            ranks = ((-priority[d]).view(np.uint64), ids[d] ^ _SIGN, keys[d])
            columns = (names, count.view(np.uint64), first.view(np.uint64), *ranks)
            yield np.column_stack(columns), hashes.copy()


def _runs_by_part(
    held: Sequence[tuple[NDArray[np.uint64], NDArray[np.uint64]]],
) -> pa.RecordBatch:
    runs, hashes = (np.concatenate(column) for column in zip(*held, strict=True))
    parts = _parts(runs[:, 0])
    order, hashes = in_order_of(parts, runs[:, 1].astype(np.int64), hashes)
    runs = runs[order]
    ones = np.ones(len(runs), np.int64)
    columns = {"runs": (runs, ones), "hashes": (hashes, runs[:, 1].astype(np.int64))}
    return _rows_by_part(parts[order], columns)


def _pick_repeated(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    return pack_records(
        picked(
            unblob(rows["runs"], np.uint64).reshape(-1, 6),
            unblob(rows["hashes"], np.uint64).reshape(-1, 2),
        )
        for _, rows in by_part(batches)
    )


def picked(runs: NDArray[np.uint64], hashes: NDArray[np.uint64]) -> Records:
    """The windows that stand in more than one place, as runs by document: records of first window,
    twice the number of windows and 1 where they are kept, and the sum of their first hashes."""
    order = np.argsort(hashes[:, 0])
    places = runs.view(np.int64)
    found = repeated_runs(order, hashes, places[:, 2], places[:, 1], places[:, 3:])
    keys = places[found[:, 0], 5]
    return keys.view(np.uint64) * _SPREAD, keys, found[:, 1:].view(np.uint64)


def _gather(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Rows of _MARKS from `picked` records."""
    for _, _, keys, runs in unpack(batches):
        if len(keys):
            yield gathered(keys, runs)


def gathered(keys: NDArray[np.int64], runs: NDArray[np.uint64]) -> pa.RecordBatch:
    """A row of _MARKS for each document."""
    order = np.lexsort((runs[:, 0], keys))
    entries, starts = joined_runs(keys[order], runs[order].view(np.int64))
    columns = [pa.array(np.unique(keys)), blobs(entries, starts)]
    return pa.RecordBatch.from_arrays(columns, names=["key", "marks"])


def _first_bits(doc_id: str) -> int:
    """64 bits of a doc_id, in its order: 16 hex digits, or 8 bytes of one that is not in hex."""
    try:
        return int(doc_id[:16].ljust(16, "0"), 16)
    except ValueError:
        return int.from_bytes(doc_id.encode()[:8].ljust(8, b"\0"), "big")
