"""Applying a linear text model to Arrow's text buffers: all documents of a batch in one kernel.

fastText's classifier is linear: the scores of a text are the mean, over its features (words and
hashed word n-grams), of input row times output matrix. `classifiers.model` multiplies the two
once and keeps, for every feature, one small integer per label; here they are looked up and added.
Integer sums do not depend on their order, so a document scores the same wherever it is scored.

Long documents are scored by windows of two adjacent blocks each, so that one paragraph in a long
page is found; the kernel reports each label's best window and where it lies.
"""

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from classifiers.fold import folded, kinds
from classifiers.tokens import cut, decode

NGRAM_FACTOR = np.uint64(116049371)  # fastText's Dictionary::addWordNgrams
END_OF_LINE = 3617362777  # fastText's hash of "</s>", which ends every line it reads


@dataclass(frozen=True)
class Table:
    """A folded model: one row of label weights for every feature."""

    rows: npt.NDArray[Any]  # int16 or int8 [words + buckets, labels]
    slots: npt.NDArray[np.uint32]  # [power of two, 2]: word hash and row + 1 (0: empty)
    words: int  # rows of words; those of hashed n-grams follow, a power of two of them
    order: int  # the longest n-gram, in tokens
    scale: float  # logit = scale * sum of weights / number of features


@dataclass(frozen=True)
class Scores:
    """Logits of a batch. `peak` is the best window's, `begin` and `end` its place in characters."""

    document: npt.NDArray[np.float32]  # [documents, labels]
    peak: npt.NDArray[np.float32]  # [documents, labels]
    begin: npt.NDArray[np.int32]  # [documents, labels]
    end: npt.NDArray[np.int32]  # [documents, labels]
    tokens: npt.NDArray[np.int32]  # [documents]


def score(texts: pa.StringArray, table: Table, window: int) -> Scores:
    """Score every text of `texts` (null counts as empty) by windows of about `window` tokens."""
    offsets, data = text_buffers(texts)
    size = len(texts)
    labels = table.rows.shape[1]
    result = Scores(
        np.empty((size, labels), np.float32),
        np.empty((size, labels), np.float32),
        np.zeros((size, labels), np.int32),
        np.zeros((size, labels), np.int32),
        np.zeros(size, np.int32),
    )
    _score_all(
        offsets, data, folded(), kinds(), table.slots, table.rows, table.words, table.order,
        max(1, window // 2), result.document, result.peak, result.begin, result.end, result.tokens,
    )  # fmt: skip
    for logits in (result.document, result.peak):
        logits *= np.float32(table.scale)
    return result


def text_buffers(texts: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Offsets (int64 [texts + 1], null texts empty) and bytes (uint8) of an Arrow string array."""
    texts = texts.cast(pa.large_string())
    if texts.null_count:
        texts = texts.fill_null("")
    _, offset_buffer, data_buffer = texts.buffers()
    offsets = np.frombuffer(offset_buffer, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(data_buffer, np.uint8) if data_buffer else np.empty(0, np.uint8)
    return offsets, data


@numba.njit(cache=True, nogil=True)
def _score_all(  # type: ignore[no-untyped-def]
    offsets, data, fold, kind, slots, rows, words, order, block, document, peak, begin, end, tokens
):
    longest = 0
    for text in range(len(offsets) - 1):
        longest = max(longest, offsets[text + 1] - offsets[text])
    codes = np.empty(longest, np.uint32)
    hashes = np.empty(longest + 1, np.uint32)
    starts = np.empty(longest + 1, np.int32)
    ends = np.empty(longest + 1, np.int32)
    labels = rows.shape[1]
    whole = np.empty(labels, np.int64)
    sums = np.empty((2, labels), np.int64)
    for text in range(len(offsets) - 1):
        size = decode(data[offsets[text] : offsets[text + 1]], fold, codes)
        count = cut(codes[:size], kind, hashes, starts, ends)
        tokens[text] = count
        hashes[count] = END_OF_LINE
        starts[count] = size
        ends[count] = size
        count += 1
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
            features = _add_block(hashes, first, stop, count, slots, rows, words, order, sums[this])
            whole += sums[this]
            total += features
            if k > 0 or blocks == 1:
                opening = max(0, first - block)
                share = max(1, features + before)
                for label in range(labels):
                    value = (sums[0, label] + sums[1, label]) / share
                    if value > peak[text, label]:
                        peak[text, label] = value
                        begin[text, label] = starts[opening]
                        end[text, label] = ends[stop - 1]
            before = features
        for label in range(labels):
            document[text, label] = whole[label] / max(1, total)


@numba.njit(cache=True, nogil=True)
def _add_block(hashes, first, stop, count, slots, rows, words, order, sums):  # type: ignore[no-untyped-def]  # fmt: skip
    """Add the weights of all features that begin at tokens first..stop-1; return their number."""
    slot_mask = np.uint32(len(slots) - 1)
    bucket_mask = np.uint64(len(rows) - words - 1)
    labels = rows.shape[1]
    features = 0
    for token in range(first, stop):
        digest = hashes[token]
        slot = digest & slot_mask
        while slots[slot, 1] != 0:
            if slots[slot, 0] == digest:
                row = slots[slot, 1] - 1
                for label in range(labels):
                    sums[label] += rows[row, label]
                features += 1
                break
            slot = (slot + np.uint32(1)) & slot_mask
        gram = np.uint64(np.int64(np.int32(digest)))
        for after in range(token + 1, min(token + order, count)):
            gram = gram * NGRAM_FACTOR + np.uint64(np.int64(np.int32(hashes[after])))
            bucket = words + np.int64(gram & bucket_mask)
            for label in range(labels):
                sums[label] += rows[bucket, label]
            features += 1
    return features
