"""Which document of a group is kept: the exact comparison, on sets of shingles.

Documents are taken best first; each is dropped if it is similar to one that is kept already, and
kept otherwise. So every dropped document is similar to a kept one, and none falls to a chain of
others in between.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from corpus.dedup.kernels import shingle_hashes, string_buffers
from corpus.dedup.normal import Shingling, fold_table
from corpus.dedup.verdict import DUPLICATE

ALL_AGAINST_ALL = 64  # groups up to this size need no index
TRUNCATED = 0.98  # a document is cut short if a longer one holds this share of its shingles …
LONGER = 1.02  # … and has this many times as many
CHUNK_BYTES = 16 << 20  # of text that is shingled at a time


@dataclass(frozen=True)
class ShingleSets:
    """The sorted distinct shingles of documents: `tokens` uint64, `starts` int64 [documents + 1].

    Document d holds tokens[starts[d]:starts[d + 1]].
    """

    tokens: NDArray[np.uint64]
    starts: NDArray[np.int64]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Distinct shingles of each document."""
        return np.diff(self.starts)


def shingle_sets(texts: pa.Array, shingling: Shingling) -> ShingleSets:
    """The sets of an Arrow string array; those without a whole shingle are empty."""
    offsets, data = string_buffers(texts)
    hashes, starts = shingle_hashes(
        offsets, data, fold_table(), shingling.words, shingling.size, shingling.keys
    )
    for start, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        hashes[start:stop].sort()
    return ShingleSets(*_distinct(hashes, starts))


def resolve(
    table: pa.Table, order: Sequence[tuple[str, str]], threshold: float, shingling: Shingling
) -> pa.Table:
    """The dropped documents of a table of whole groups (`verdict.DUPLICATE`).

    `table` holds group (int64), doc_id, text and what `order` sorts by, best first, in pyarrow's
    terms; `order` may also name `incomplete`, 1 for a document cut short; `neighbours`, the number
    of documents similar to it (0 in groups above ALL_AGAINST_ALL); and `size`, its distinct
    shingles. The result does not depend on the order of rows.
    """
    table = table.take(pc.sort_indices(table, [("group", "ascending")]))
    parts = [_resolve_chunk(chunk, order, threshold, shingling) for chunk in _chunks(table)]
    return pa.concat_tables(parts)


def _chunks(table: pa.Table) -> Iterator[pa.Table]:
    """Cut a table that is sorted by group into parts of some size that hold whole groups."""
    group = table["group"].to_numpy()
    ends = np.append(np.flatnonzero(np.diff(group)) + 1, len(group))
    written = np.cumsum(pc.binary_length(table["text"]).fill_null(0).to_numpy())
    start = 0
    while start < len(group):
        limit = (written[start - 1] if start else 0) + CHUNK_BYTES
        wanted = np.searchsorted(written, limit) + 1
        stop = int(ends[min(np.searchsorted(ends, wanted), len(ends) - 1)])
        yield table.slice(start, stop - start).combine_chunks()
        start = stop


def _resolve_chunk(
    table: pa.Table, order: Sequence[tuple[str, str]], threshold: float, shingling: Shingling
) -> pa.Table:
    sets = shingle_sets(pa.concat_arrays(table["text"].chunks), shingling)
    bounds = _group_bounds(table)
    left, right, common = small_group_pairs(sets.tokens, sets.starts, bounds, threshold)
    sizes = sets.sizes
    covered = _largest_cover(left, right, common, sizes)
    table = table.append_column("size", pa.array(sizes))
    large = np.flatnonzero(np.diff(bounds) > ALL_AGAINST_ALL).tolist()
    for g in large:
        members = _ranked(table, bounds, g, [("size", "descending"), ("doc_id", "ascending")])
        covered[members] = take_best_indexed(*_rare_first(sets, members), threshold)[2]
    neighbours = np.bincount(left, minlength=len(sizes)) + np.bincount(right, minlength=len(sizes))
    table = table.append_column("incomplete", pa.array((covered >= TRUNCATED).astype(np.int8)))
    table = table.append_column("neighbours", pa.array(neighbours))

    rank = np.empty(len(sizes), np.int64)
    rank[pc.sort_indices(table, list(order)).to_numpy()] = np.arange(len(sizes))
    twin, similarity = take_best(*_adjacency(left, right, common, sizes), rank)
    for g in large:
        members = _ranked(table, bounds, g, order)
        found, jaccard, _ = take_best_indexed(*_rare_first(sets, members), threshold)
        twin[members] = np.where(found >= 0, members[found], -1)
        similarity[members] = jaccard

    dropped = np.flatnonzero(twin >= 0)
    doc_ids = table["doc_id"]
    rules = ["near_duplicate"] * len(dropped)
    columns = [doc_ids.take(dropped), rules, doc_ids.take(twin[dropped]), similarity[dropped]]
    return pa.table(columns, schema=DUPLICATE)


def _group_bounds(table: pa.Table) -> NDArray[np.int64]:
    """Group g of a table sorted by group is rows [bounds[g], bounds[g + 1])."""
    group = table["group"].to_numpy()
    return np.concatenate([[0], np.flatnonzero(np.diff(group)) + 1, [len(group)]]).astype(np.int64)


def _ranked(
    table: pa.Table, bounds: NDArray[np.int64], g: int, order: Sequence[tuple[str, str]]
) -> NDArray[np.int64]:
    """The rows of a group, best first."""
    part = table.slice(bounds[g], bounds[g + 1] - bounds[g])
    return pc.sort_indices(part, list(order)).to_numpy().astype(np.int64) + bounds[g]


def _largest_cover(
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    common: NDArray[np.int64],
    sizes: NDArray[np.int64],
) -> NDArray[np.float64]:
    """The largest share of each document's shingles that a similar, LONGER one holds; float64."""
    covered = np.zeros(len(sizes))
    for short, long in ((left, right), (right, left)):
        longer = sizes[long] >= LONGER * sizes[short]
        np.maximum.at(covered, short[longer], common[longer] / sizes[short[longer]])
    return covered


def _adjacency(
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    common: NDArray[np.int64],
    sizes: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Pairs as (starts, neighbours, similarities): those of d are at starts[d]:starts[d + 1]."""
    jaccard = common / (sizes[left] + sizes[right] - common)
    ends = np.concatenate([left, right])
    order = np.argsort(ends, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(ends, minlength=len(sizes)))])
    neighbours = np.concatenate([right, left])[order]
    return starts, neighbours, np.concatenate([jaccard, jaccard])[order]


def _rare_first(
    sets: ShingleSets, members: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Tokens and starts of `members`, renumbered and sorted from the rarest to the commonest."""
    sizes = sets.sizes[members]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    tokens = np.empty(starts[-1], np.uint64)
    for k, d in enumerate(members.tolist()):
        tokens[starts[k] : starts[k + 1]] = sets.tokens[sets.starts[d] : sets.starts[d + 1]]
    distinct, inverse, counts = np.unique(tokens, return_inverse=True, return_counts=True)
    rank = np.empty(len(distinct), np.uint64)
    rank[np.argsort(counts, kind="stable")] = np.arange(len(distinct), dtype=np.uint64)
    tokens = rank[inverse]
    for begin, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        tokens[begin:end].sort()
    return tokens, starts


@numba.njit(cache=True, nogil=True)
def _distinct(hashes, starts):  # type: ignore[no-untyped-def]
    out = np.zeros(starts.size, np.int64)
    n = 0
    for d in range(starts.size - 1):
        for t in range(starts[d], starts[d + 1]):
            if t == starts[d] or hashes[t] != hashes[t - 1]:
                hashes[n] = hashes[t]
                n += 1
        out[d + 1] = n
    return hashes[:n], out


@numba.njit(cache=True, nogil=True)
def _common(tokens, starts, x, y, threshold):  # type: ignore[no-untyped-def]
    """How many tokens two sorted sets share, or -1 if their Jaccard is below `threshold`."""
    a, b = starts[x], starts[y]
    end_a, end_b = starts[x + 1], starts[y + 1]
    n, m = end_a - a, end_b - b
    need = int(np.ceil(threshold / (1.0 + threshold) * (n + m) - 1e-9))
    common = 0
    if n == 0 or min(n, m) < need:
        return -1
    while a < end_a and b < end_b:
        if common + min(end_a - a, end_b - b) < need:
            return -1
        if tokens[a] < tokens[b]:
            a += 1
        elif tokens[a] > tokens[b]:
            b += 1
        else:
            common += 1
            a += 1
            b += 1
    return common if common >= need else -1


@numba.njit(cache=True, nogil=True)
def small_group_pairs(tokens, starts, bounds, threshold):  # type: ignore[no-untyped-def]
    """Every similar pair inside groups of at most ALL_AGAINST_ALL: (left, right, common tokens).

    Group g is the documents bounds[g] to bounds[g + 1]. int64 arrays, one entry a pair.
    """
    capacity = 1024
    out = np.empty((capacity, 3), np.int64)
    found = 0
    for g in range(bounds.size - 1):
        if bounds[g + 1] - bounds[g] > ALL_AGAINST_ALL:
            continue
        for x in range(bounds[g], bounds[g + 1]):
            for y in range(x + 1, bounds[g + 1]):
                common = _common(tokens, starts, x, y, threshold)
                if common >= 0:
                    if found == capacity:
                        capacity *= 2
                        grown = np.empty((capacity, 3), np.int64)
                        grown[:found] = out
                        out = grown
                    out[found, 0], out[found, 1], out[found, 2] = x, y, common
                    found += 1
    return out[:found, 0].copy(), out[:found, 1].copy(), out[:found, 2].copy()


@numba.njit(cache=True, nogil=True)
def take_best(starts, neighbours, similarities, rank):  # type: ignore[no-untyped-def]
    """Go through all documents by `rank`; drop each that is similar to a kept one.

    Returns the most similar kept document (the better of equals), -1 for a kept one, and the
    similarity.
    """
    twin = np.full(rank.size, -1, np.int64)
    similarity = np.zeros(rank.size, np.float64)
    for x in np.argsort(rank):
        for e in range(starts[x], starts[x + 1]):
            y = neighbours[e]
            if rank[y] < rank[x] and twin[y] < 0:
                closer = similarities[e] > similarity[x]
                if closer or (similarities[e] == similarity[x] and rank[y] < rank[twin[x]]):
                    twin[x] = y
                    similarity[x] = similarities[e]
    return twin, similarity


@numba.njit(cache=True, nogil=True)
def take_best_indexed(tokens, starts, threshold):  # type: ignore[no-untyped-def]
    """`take_best` for one large group, whose documents are numbered best first.

    `tokens` are numbers from the rarest (0) to the commonest, sorted in each document. Prefix
    filter (Chaudhuri et al. 2006): sets that reach the threshold share one of the first
    n - ceil(threshold n) + 1 tokens of each; only those of kept documents are indexed.
    """
    documents = starts.size - 1
    twin = np.full(documents, -1, np.int64)
    similarity = np.zeros(documents, np.float64)
    covered = np.zeros(documents, np.float64)
    prefixes = np.zeros(documents, np.int64)
    vocabulary: Any = 0
    for x in range(documents):
        n = starts[x + 1] - starts[x]
        if n:
            prefixes[x] = min(n, n - int(np.ceil(threshold * n - 1e-9)) + 1)
            vocabulary = max(vocabulary, np.int64(tokens[starts[x + 1] - 1]) + 1)
    heads = np.full(vocabulary, -1, np.int64)
    following = np.empty(prefixes.sum(), np.int64)
    posting = np.empty(prefixes.sum(), np.int64)
    postings = 0
    seen = np.full(documents, -1, np.int64)
    for x in range(documents):
        n = starts[x + 1] - starts[x]
        for t in range(starts[x], starts[x] + prefixes[x]):
            entry = heads[np.int64(tokens[t])]
            while entry >= 0:
                y = posting[entry]
                entry = following[entry]
                if seen[y] == x:
                    continue
                seen[y] = x
                m = starts[y + 1] - starts[y]
                common = _common(tokens, starts, x, y, threshold)
                if common >= 0:
                    jaccard = common / (n + m - common)
                    if jaccard > similarity[x] or (jaccard == similarity[x] and y < twin[x]):
                        similarity[x] = jaccard
                        twin[x] = y
                    if m >= LONGER * n:
                        covered[x] = max(covered[x], common / n)
        if twin[x] < 0:
            for t in range(starts[x], starts[x] + prefixes[x]):
                posting[postings] = x
                following[postings] = heads[np.int64(tokens[t])]
                heads[np.int64(tokens[t])] = postings
                postings += 1
    return twin, similarity, covered
