"""Applying a linear text model to Arrow's text buffers: all documents of a batch in one kernel.

fastText's classifier is linear: the scores of a text are the mean, over its features (words and
hashed word n-grams), of input row times output matrix. `classifiers.model` multiplies the two
once and keeps, for every feature, one small integer per label; here they are looked up and added.
Integer sums do not depend on their order, so a document scores the same wherever it is scored.

Long documents are scored by windows of two adjacent blocks each, so that one paragraph in a long
page is found; the kernel reports each label's best window and where it lies.

A row's integers lie side by side in 64-bit words, so that one addition serves several labels.
Texts are cut into tokens once for all models that score them.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from classifiers.fold import folded, kinds
from classifiers.tokens import cut, decode, single_hashes
from corpus.jit import kernel

NGRAM_FACTOR = np.uint64(116049371)  # fastText's Dictionary::addWordNgrams
END_OF_LINE = 3617362777  # fastText's hash of "</s>", which ends every line it reads
PART_BYTES = 1 << 18  # of text that is cut and scored together: its tokens stay in the cache
WHOLE_DOCUMENT = 1 << 40  # tokens of a window that no document fills
FEATURES_AT_ONCE = 256  # as many bytes (less 1 each) as the sums of a 16-bit lane can hold


@dataclass(frozen=True)
class Table:
    """A folded model: one row of label weights for every feature."""

    rows: npt.NDArray[Any]  # int16 or int8 [words + buckets, labels]
    slots: npt.NDArray[np.uint32]  # [power of two, 2]: word hash and row + 1 (0: empty)
    words: int  # rows of words; those of hashed n-grams follow, a power of two of them
    order: int  # the longest n-gram, in tokens
    scale: float  # logit = scale * sum of weights / number of features
    counters: npt.NDArray[np.int64] | None = None
    """int64 [labels]: the column whose sum is each label's number of features; if None, all
    features count for all labels. See `classifiers.joint`."""

    @functools.cached_property
    def packed(self) -> npt.NDArray[np.uint64]:
        """uint64 [words + buckets, 64-bit words]: the rows' integers, made non-negative, from the
        lowest bits up: eight int8 or four int16 in each."""
        bits = 8 * self.rows.itemsize
        lanes = 64 // bits
        size, labels = self.rows.shape
        columns = -(-labels // lanes)
        padded = np.zeros((size, columns * lanes), "<u1" if bits == 8 else "<u2")
        padded[:, :labels] = self.rows.astype(np.int32) + (1 << (bits - 1))
        return padded.view("<u8")


@dataclass(frozen=True)
class Scores:
    """Logits of a batch. `peak` is the best window's, `begin` and `end` its place in characters."""

    document: npt.NDArray[np.float32]  # [documents, labels]
    peak: npt.NDArray[np.float32]  # [documents, labels]
    begin: npt.NDArray[np.int32]  # [documents, labels]
    end: npt.NDArray[np.int32]  # [documents, labels]
    tokens: npt.NDArray[np.int32]  # [documents]


def score(texts: pa.Array, table: Table, window: int) -> Scores:
    """Score every text of `texts` (null counts as empty) by windows of about `window` tokens."""
    return score_all(texts, [table], window)[0]


def score_all(texts: pa.Array, tables: Sequence[Table], window: int) -> list[Scores]:
    """What `score` gives for each of `tables`; the texts are cut into tokens once."""
    offsets, data = text_buffers(texts)
    counters = [
        np.full(table.rows.shape[1], -1) if table.counters is None else table.counters
        for table in tables
    ]
    results = [_empty(len(texts), len(own)) for own in counters]
    parts = list(_parts(offsets))
    # A token has a byte at least; one more ends each text.
    sizes = [int(offsets[end] - offsets[begin]) + end - begin for begin, end in parts]
    size = max(sizes, default=0)
    hashes = np.empty(size, np.uint32)
    starts, ends = np.empty(size, np.int32), np.empty(size, np.int32)
    for begin, end in parts:
        part = slice(begin, end)
        bounds = np.zeros(end - begin + 1, np.int64)
        _cut_all(
            offsets[begin : end + 1], data, folded(), kinds(), single_hashes(),
            hashes, starts, ends, bounds,
        )  # fmt: skip
        for table, own, result in zip(tables, counters, results, strict=True):
            _score_tokens(
                hashes, starts, ends, bounds, table.slots, table.packed, 8 * table.rows.itemsize,
                table.words, table.order, own, max(1, window // 2), result.document[part],
                result.peak[part], result.begin[part], result.end[part],
            )  # fmt: skip
            result.tokens[part] = np.diff(bounds) - 1
    for table, result in zip(tables, results, strict=True):
        result.document[:] *= np.float32(table.scale)
        result.peak[:] *= np.float32(table.scale)
    return results


def _parts(offsets: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Ranges of texts of about PART_BYTES together, or one text that is longer."""
    begin, size = 0, len(offsets) - 1
    while begin < size:
        end = int(np.searchsorted(offsets, offsets[begin] + PART_BYTES, "right")) - 1
        end = min(max(end, begin + 1), size)
        yield begin, end
        begin = end


def _empty(size: int, labels: int) -> Scores:
    return Scores(
        np.empty((size, labels), np.float32),
        np.empty((size, labels), np.float32),
        np.zeros((size, labels), np.int32),
        np.zeros((size, labels), np.int32),
        np.zeros(size, np.int32),
    )


def text_buffers(texts: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Offsets (int64 [texts + 1], null texts empty) and bytes (uint8) of an Arrow string array."""
    texts = texts.cast(pa.large_string())
    if texts.null_count:
        texts = texts.fill_null("")
    _, offset_buffer, data_buffer = texts.buffers()
    offsets = np.frombuffer(offset_buffer, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(data_buffer, np.uint8) if data_buffer else np.empty(0, np.uint8)
    return offsets, data


@kernel
def _cut_all(offsets, data, fold, kind, single, hashes, starts, ends, bounds):  # type: ignore[no-untyped-def]
    """Cut every text; its tokens, and one that ends the line, go to bounds[text]:bounds[text+1]."""
    longest = 0
    for text in range(len(offsets) - 1):
        longest = max(longest, offsets[text + 1] - offsets[text])
    codes = np.empty(longest, np.uint32)
    for text in range(len(offsets) - 1):
        size = decode(data[offsets[text] : offsets[text + 1]], fold, codes)
        first = bounds[text]
        last = first + cut(codes[:size], kind, single, hashes[first:], starts[first:], ends[first:])
        hashes[last] = END_OF_LINE
        starts[last] = size
        ends[last] = size
        bounds[text + 1] = last + 1


@kernel
def _score_tokens(  # type: ignore[no-untyped-def]
    hashes, starts, ends, bounds, slots, packed, bits, words, order, counters, block,
    document, peak, begin, end,
):  # fmt: skip
    labels = document.shape[1]
    lanes = packed.shape[1] * (64 // bits)
    bias = 1 << (bits - 1)
    found = np.empty(FEATURES_AT_ONCE + order, np.int64)
    whole = np.empty(lanes, np.int64)
    sums = np.empty((2, lanes), np.int64)
    for text in range(len(bounds) - 1):
        origin = bounds[text]
        count = bounds[text + 1] - origin
        line = hashes[origin : origin + count]
        whole[:] = 0
        sums[:] = 0
        peak[text] = -np.inf
        total = 0
        blocks = max(1, count // block)
        before = 0
        for k in range(blocks):
            this = k & 1
            first = k * block
            stop = count if k == blocks - 1 else first + block
            sums[this] = 0
            features = _add(line, first, stop, slots, packed, bits, words, order, found, sums[this])
            whole += sums[this]
            total += features
            if k > 0 or blocks == 1:
                opening = max(0, first - block)
                both = features + before
                for label in range(labels):
                    share = both
                    if counters[label] >= 0:
                        counter = counters[label]
                        share = sums[0, counter] + sums[1, counter] - bias * both
                    value = (sums[0, label] + sums[1, label] - bias * both) / max(1, share)
                    if value > peak[text, label]:
                        peak[text, label] = value
                        begin[text, label] = starts[origin + opening]
                        end[text, label] = ends[origin + stop - 1]
            before = features
        for label in range(labels):
            share = total
            if counters[label] >= 0:
                share = whole[counters[label]] - bias * total
            document[text, label] = (whole[label] - bias * total) / max(1, share)


@kernel
def _add(hashes, first, stop, slots, packed, bits, words, order, found, sums):  # type: ignore[no-untyped-def]
    """Add the weights of all features that begin at tokens first..stop-1; return their number."""
    slot_mask = np.uint32(len(slots) - 1)
    bucket_mask = np.uint64(len(packed) - words - 1)
    half = 32 // bits  # lanes of twice `bits` in 64
    count = len(hashes)
    wide = np.uint64(bits)
    lane = np.uint64((1 << (2 * bits)) - 1)
    mask = np.uint64(0x00FF00FF00FF00FF) if bits == 8 else np.uint64(0x0000FFFF0000FFFF)
    step = max(1, FEATURES_AT_ONCE // order)
    total = 0
    for start in range(first, stop, step):
        size = 0
        for token in range(start, min(start + step, stop)):
            digest = hashes[token]
            slot = digest & slot_mask
            while slots[slot, 1] != 0:
                if slots[slot, 0] == digest:
                    found[size] = slots[slot, 1] - 1
                    size += 1
                    break
                slot = (slot + np.uint32(1)) & slot_mask
            gram = np.uint64(np.int64(np.int32(digest)))
            after = token + 1
            for _ in range(1, order):
                if after == count:
                    break
                gram = gram * NGRAM_FACTOR + np.uint64(np.int64(np.int32(hashes[after])))
                found[size] = words + np.int64(gram & bucket_mask)
                size += 1
                after += 1
        total += size
        for column in range(packed.shape[1]):
            even = np.uint64(0)
            odd = np.uint64(0)
            for k in range(size):
                value = packed[found[k], column]
                even += value & mask
                odd += (value >> wide) & mask
            place = column * 2 * half
            for k in range(half):
                shift = np.uint64(2 * bits * k)
                sums[place + 2 * k] += np.int64((even >> shift) & lane)
                sums[place + 2 * k + 1] += np.int64((odd >> shift) & lane)
    return total
