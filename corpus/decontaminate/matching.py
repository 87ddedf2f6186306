"""Where evaluation items stand in documents: shared n-grams, close together.

Units are words, each Han or kana character being its own, of the normal form that deduplication
compares (`corpus.dedup.normal`). An item is found where one stretch of a document holds most of the
n-grams of its stem; a stem that is short is looked for together with its options. Measuring all
n-grams is exact containment, so no estimate of it by MinHash is needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numba
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from corpus.buffers import string_buffers
from corpus.decontaminate.items import Item
from corpus.dedup.kernels import UP, shingle_hashes, shingle_keys
from corpus.dedup.normal import fold_table

COMMON = 50  # n-grams of more items than this ("which of the following is") tell nothing
SLACK = 20  # units by which a stretch may be longer than twice the item: labels, answers


@dataclass(frozen=True)
class ItemIndex:
    """The n-grams of all items, by hash.

    `slots` is a hash table (uint64, a power of two; 0 is empty) whose entry s stands for the
    occurrences [bounds[s], bounds[s + 1]) in `items` and `grams` (which item, and which of its
    n-grams). `totals` are the n-grams, `spans` the longest stretch, of each item.
    """

    ngram: int
    slots: NDArray[np.uint64]
    bounds: NDArray[np.int64]
    items: NDArray[np.int32]
    grams: NDArray[np.int32]
    totals: NDArray[np.int32]
    spans: NDArray[np.int64]
    names: Sequence[str]
    stems: Sequence[str]
    too_short: int
    """Items with too few n-grams to be told from chance; they are not looked for."""


def index_items(items: Sequence[Item], ngram: int, min_units: int) -> ItemIndex:
    """Index what items are found by: the stem, if it has `min_units`, else stem and options."""
    stems = _grams([item.stem for item in items], ngram)
    pieces = [[item.stem, *item.options] for item in items]
    flat = _grams([piece for item in pieces for piece in item], ngram)
    firsts = np.concatenate([[0], np.cumsum([len(item) for item in pieces])]).astype(int)
    wanted = max(1, min_units - ngram + 1)
    chosen: list[NDArray[np.uint64]] = []
    for k in range(len(items)):
        grams = np.unique(stems[k])
        if len(grams) < wanted:
            grams = np.unique(np.concatenate(flat[firsts[k] : firsts[k + 1]]))
        chosen.append(grams)

    lengths = np.array([len(grams) for grams in chosen], np.int64)
    hashes = np.concatenate([*chosen, np.zeros(0, np.uint64)])
    owners = np.repeat(np.arange(len(items)), lengths)
    distinct, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    telling = counts[inverse] <= COMMON
    hashes, owners = hashes[telling], owners[telling]
    totals = np.bincount(owners, minlength=len(items)).astype(np.int32)
    usable = totals >= min(wanted, 4)
    keep = usable[owners]
    hashes, owners = hashes[keep], owners[keep]
    firsts_of = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=len(items)))])
    numbers = np.arange(len(owners)) - firsts_of[owners]

    order = np.lexsort((owners, hashes))
    distinct, starts = np.unique(hashes[order], return_index=True)
    size = 1 << max(4, int(np.ceil(np.log2(2 * len(distinct) + 1))))
    slots, entry = _fill_slots(distinct, size)
    ends = np.append(starts, len(order))
    bounds = np.zeros((size, 2), np.int64)
    taken = entry >= 0
    bounds[taken, 0] = ends[entry[taken]]
    bounds[taken, 1] = ends[entry[taken] + 1]
    return ItemIndex(
        ngram=ngram,
        slots=slots,
        bounds=bounds,
        items=owners[order].astype(np.int32),
        grams=numbers[order].astype(np.int32),
        totals=np.where(usable, totals, 0).astype(np.int32),
        spans=(2 * (lengths + ngram) + SLACK).astype(np.int64),
        names=[item.name for item in items],
        stems=[item.stem for item in items],
        too_short=int((~usable).sum()),
    )


def _grams(texts: Sequence[str], ngram: int) -> list[NDArray[np.uint64]]:
    hashes, starts = _hashes(pa.array(texts, pa.large_string()), ngram)
    return [hashes[a:b] for a, b in pairwise(starts)]


def _hashes(texts: pa.Array, ngram: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    offsets, data = string_buffers(texts)
    return shingle_hashes(offsets, data, fold_table(), True, ngram, shingle_keys(ngram))


@dataclass(frozen=True)
class Match:
    """An item in a document: both by number, the share of the item's n-grams that is there, and
    the units [first, last) of the document over which they stand."""

    document: int
    item: int
    share: float
    first: int
    last: int


def find_items(texts: pa.Array, index: ItemIndex, threshold: float) -> list[Match]:
    """Every item of which a text holds at least `threshold`, in the texts' order."""
    hashes, starts = _hashes(texts, index.ngram)
    places, shares = _find(
        hashes,
        starts,
        index.slots,
        index.bounds,
        index.items,
        index.grams,
        index.totals,
        index.spans,
        threshold,
    )
    return [
        Match(document, item, share, first, last + index.ngram)
        for (document, item, first, last), share in zip(
            places.tolist(), shares.tolist(), strict=True
        )
    ]


def without_units(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """`text` without the lines that hold any of the units [first, last) of the spans.

    Units are counted as `shingle_hashes` counts words.
    """
    lines = text.split("\n")
    offsets, data = string_buffers(pa.array(lines, pa.large_string()))
    _, starts = shingle_hashes(offsets, data, fold_table(), True, 1, shingle_keys(1))
    kept = [
        line
        for line, first, last in zip(lines, starts[:-1], starts[1:], strict=True)
        if not any(begin < last and first < end for begin, end in spans)
    ]
    return "\n".join(kept)


@numba.njit(cache=True, nogil=True)
def _fill_slots(distinct, size):  # type: ignore[no-untyped-def]
    slots = np.zeros(size, np.uint64)
    entry = np.full(size, -1, np.int64)
    mask = UP(size - 1)
    for k in range(distinct.size):
        place = UP(distinct[k] >> np.uint64(20)) & mask
        while slots[place] != np.uint64(0):
            place = (place + UP(1)) & mask
        slots[place] = distinct[k]
        entry[place] = k
    return slots, entry


@numba.njit(cache=True, nogil=True)
def _find(hashes, starts, slots, bounds, items, grams, totals, spans, threshold):  # type: ignore[no-untyped-def]
    documents = starts.size - 1
    room = 64
    places = np.empty((room, 4), np.int64)  # document, item, first n-gram, last n-gram
    shares = np.empty(room, np.float64)
    found = 0
    mask = UP(slots.size - 1)
    capacity = 1024
    hits = np.empty((capacity, 3), np.int64)  # item, place, n-gram
    for d in range(documents):
        count = 0
        for t in range(starts[d], starts[d + 1]):
            place = UP(hashes[t] >> np.uint64(20)) & mask
            while slots[place] != np.uint64(0) and slots[place] != hashes[t]:
                place = (place + UP(1)) & mask
            if slots[place] == np.uint64(0):
                continue
            for e in range(bounds[place, 0], bounds[place, 1]):
                if count == capacity:
                    capacity *= 2
                    grown = np.empty((capacity, 3), np.int64)
                    grown[:count] = hits
                    hits = grown
                hits[count, 0], hits[count, 1], hits[count, 2] = items[e], t, grams[e]
                count += 1
        if count == 0:
            continue
        order = np.argsort(hits[:count, 0], kind="mergesort")  # places stay ascending in an item
        begin = 0
        while begin < count:
            item = hits[order[begin], 0]
            end = begin
            while end < count and hits[order[end], 0] == item:
                end += 1
            if end - begin >= threshold * totals[item]:
                best, tail, head = _densest(hits, order, begin, end, totals[item], spans[item])
                if best >= threshold:
                    if found == room:
                        room *= 2
                        more = np.empty((room, 4), np.int64)
                        more[:found] = places
                        places = more
                        more_shares = np.empty(room, np.float64)
                        more_shares[:found] = shares
                        shares = more_shares
                    places[found, 0], places[found, 1] = d, item
                    places[found, 2] = hits[order[tail], 1] - starts[d]
                    places[found, 3] = hits[order[head], 1] - starts[d]
                    shares[found] = best
                    found += 1
            begin = end
    return places[:found], shares[:found]


@numba.njit(cache=True, nogil=True)
def _densest(hits, order, begin, end, total, span):  # type: ignore[no-untyped-def]
    """The stretch of `span` units with most of an item's n-grams: (share, first hit, last hit)."""
    seen = np.zeros(total, np.int64)
    distinct = best = 0
    tail = begin
    best_tail = best_head = begin
    for head in range(begin, end):
        gram = hits[order[head], 2]
        distinct += seen[gram] == 0
        seen[gram] += 1
        while hits[order[head], 1] - hits[order[tail], 1] > span:
            old = hits[order[tail], 2]
            seen[old] -= 1
            distinct -= seen[old] == 0
            tail += 1
        if distinct > best:
            best, best_tail, best_head = distinct, tail, head
    return best / total, best_tail, best_head
