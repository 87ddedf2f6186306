"""Which document of a group is kept: the exact comparison, on sets of shingles.

Documents are taken best first; each is dropped if it is similar to one that is kept already, and
kept otherwise. So every dropped document is similar to a kept one, and none falls to a chain of
others in between.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from corpus.dedup.normal import Shingling
from corpus.dedup.sets import (
    ALL_AGAINST_ALL,
    ShingleSets,
    all_pairs,
    prefix_lengths,
    rare_first,
    shared_tokens,
    shingle_sets,
    small_group_pairs,
)
from corpus.dedup.verdict import DUPLICATE

TRUNCATED = 0.98  # a document is cut short if a longer one holds this share of its shingles …
LONGER = 1.02  # … and has this many times as many
CHUNK_BYTES = 16 << 20  # of text that is shingled at a time
NEVER = 2.0  # a containment that no pair reaches


@dataclass(frozen=True)
class Comparison:
    """How documents of a group are compared."""

    order: Sequence[tuple[str, str]]
    """Best first, in pyarrow's terms: columns of the table, or `incomplete` (1 for a document cut
    short), `neighbours` (the number of documents similar to it; 0 in groups above
    ALL_AGAINST_ALL), `size` (its distinct shingles)."""
    threshold: float
    """The Jaccard similarity of near-duplicates."""
    containment: float
    """The share of its shingles that a kept one holds at which a document is dropped too."""
    shingling: Shingling


# The shingle sets of a table's rows.
Sets = Callable[[pa.Table], ShingleSets]


def resolve(table: pa.Table, how: Comparison, sets_of: Sets | None = None) -> pa.Table:
    """The dropped documents of a table of whole groups (`verdict.DUPLICATE`).

    `table` holds group (int64), doc_id, text, what `how.order` sorts by, and may hold `stored`:
    documents where it is above 0 are of an earlier run, and stay. The result does not depend on
    the order of rows.
    """
    parts = [_resolve_chunk(chunk, how, sets_of) for chunk in _chunks(table)]
    return pa.concat_tables(parts)


def pairs(table: pa.Table, how: Comparison) -> pa.Table:
    """Every pair of near-duplicates inside the groups: columns doc_id, other, similarity."""
    parts = []
    for chunk in _chunks(table):
        sets = _sets(chunk, how, None)
        bounds = _group_bounds(chunk)
        found = [small_group_pairs(sets.tokens, sets.starts, bounds, how.threshold, NEVER)]
        for g in _large_groups(bounds):
            left, right, common = all_pairs(
                *rare_first(sets, np.arange(bounds[g], bounds[g + 1])), how.threshold
            )
            found.append((left + bounds[g], right + bounds[g], common))
        left, right, common = (np.concatenate(column) for column in zip(*found, strict=True))
        similarity = common / (sets.sizes[left] + sets.sizes[right] - common)
        doc_ids = chunk["doc_id"]
        parts.append(
            pa.table(
                [doc_ids.take(left), doc_ids.take(right), similarity],
                names=["doc_id", "other", "similarity"],
            )
        )
    return pa.concat_tables(parts)


def _chunks(table: pa.Table) -> Iterator[pa.Table]:
    """Cut a table into parts of some size, sorted by group, that hold whole groups."""
    place = table.schema.get_field_index("text")
    table = table.set_column(place, "text", table["text"].cast(pa.large_string()))
    table = table.take(pc.sort_indices(table, [("group", "ascending")]))
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


def _sets(table: pa.Table, how: Comparison, sets_of: Sets | None) -> ShingleSets:
    if sets_of is not None:
        return sets_of(table)
    return shingle_sets(pa.concat_arrays(table["text"].chunks), how.shingling)


def _resolve_chunk(table: pa.Table, how: Comparison, sets_of: Sets | None) -> pa.Table:
    sets = _sets(table, how, sets_of)
    sizes = sets.sizes
    stored = np.zeros(len(sizes), np.int32)
    if "stored" in table.column_names:
        stored = table["stored"].to_numpy()
    fixed = stored > 0
    bounds = _group_bounds(table)
    left, right, common = small_group_pairs(
        sets.tokens, sets.starts, bounds, how.threshold, how.containment
    )
    jaccard = common / (sizes[left] + sizes[right] - common)
    near = jaccard >= how.threshold - 1e-12

    covered = _largest_cover(left, right, common, sizes)
    table = table.append_column("size", pa.array(sizes))
    for g in _large_groups(bounds):
        rows = _ranked(table, bounds, g, [("size", "descending"), ("doc_id", "ascending")])
        ranked = rare_first(sets, rows)
        none = np.zeros(len(rows), np.bool_)
        covered[rows] = take_best_indexed(*ranked, how.threshold, how.containment, none)[2]
    cut_short = (covered >= min(TRUNCATED, how.containment)).astype(np.int8)
    ends = np.concatenate([left[near], right[near]])
    neighbours = np.bincount(ends, minlength=len(sizes))
    table = table.append_column("incomplete", pa.array(cut_short))
    table = table.append_column("neighbours", pa.array(neighbours))

    rank = np.empty(len(sizes), np.int64)
    rank[pc.sort_indices(table, list(how.order)).to_numpy()] = np.arange(len(sizes))
    starts, others, values, nears = _edges(left, right, common, sizes, near)
    twin, value, is_near = take_best(starts, others, values, nears, rank, fixed)
    for g in _large_groups(bounds):
        rows = _ranked(table, bounds, g, how.order)
        found, value[rows], _, is_near[rows] = take_best_indexed(
            *rare_first(sets, rows), how.threshold, how.containment, fixed[rows]
        )
        twin[rows] = np.where(found >= 0, rows[found], -1)

    dropped = np.flatnonzero(twin >= 0)
    doc_ids = table["doc_id"]
    rules = np.where(is_near[dropped], "near_duplicate", "contained").tolist()
    return pa.table(
        [
            doc_ids.take(dropped),
            rules,
            doc_ids.take(twin[dropped]),
            value[dropped],
            stored[twin[dropped]].astype(np.int32),
        ],
        schema=DUPLICATE,
    )


def _group_bounds(table: pa.Table) -> NDArray[np.int64]:
    """Group g of a table sorted by group is rows [bounds[g], bounds[g + 1])."""
    group = table["group"].to_numpy()
    return np.concatenate([[0], np.flatnonzero(np.diff(group)) + 1, [len(group)]]).astype(np.int64)


def _large_groups(bounds: NDArray[np.int64]) -> list[int]:
    return np.flatnonzero(np.diff(bounds) > ALL_AGAINST_ALL).tolist()


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


def _edges(
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    common: NDArray[np.int64],
    sizes: NDArray[np.int64],
    near: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    """Because of whom each document can be dropped: (starts, others, values, near).

    Those of d are at starts[d]:starts[d + 1]; a contained document only because of the longer.
    """
    jaccard = common / np.maximum(1, sizes[left] + sizes[right] - common)
    short = np.where(sizes[left] <= sizes[right], left, right)
    long = left + right - short
    share = common / np.maximum(1, sizes[short])
    dropped = np.concatenate([left[near], right[near], short[~near]])
    others = np.concatenate([right[near], left[near], long[~near]])
    values = np.concatenate([jaccard[near], jaccard[near], share[~near]])
    nears = np.arange(len(dropped)) < 2 * near.sum()
    order = np.argsort(dropped, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(dropped, minlength=len(sizes)))])
    return starts, others[order], values[order], nears[order]


@numba.njit(cache=True, nogil=True)
def _closer(near, value, old_near, old_value):  # type: ignore[no-untyped-def]
    """1 if a twin is better evidence than the one so far, 0 if it is equal, else -1."""
    if near != old_near:
        return 1 if near else -1
    return 1 if value > old_value else 0 if value == old_value else -1


@numba.njit(cache=True, nogil=True)
def take_best(starts, others, values, nears, rank, fixed):  # type: ignore[no-untyped-def]
    """Go through all documents by `rank`; drop each that is similar to a kept one.

    `starts`, `others`, `values`, `nears` are `_edges`; documents in `fixed` are kept. Returns for
    each document its most similar kept one (the better of equals; -1 if it is kept itself), the
    value, and whether they are near-duplicates.
    """
    twin = np.full(rank.size, -1, np.int64)
    value = np.zeros(rank.size, np.float64)
    near = np.zeros(rank.size, np.bool_)
    for x in np.argsort(rank):
        if fixed[x]:
            continue
        for e in range(starts[x], starts[x + 1]):
            y = others[e]
            if rank[y] < rank[x] and twin[y] < 0:
                closer = 1 if twin[x] < 0 else _closer(nears[e], values[e], near[x], value[x])
                if closer > 0 or (closer == 0 and rank[y] < rank[twin[x]]):
                    twin[x], value[x], near[x] = y, values[e], nears[e]
    return twin, value, near


@numba.njit(cache=True, nogil=True)
def take_best_indexed(tokens, starts, vocabulary, threshold, containment, fixed):  # type: ignore[no-untyped-def]
    """`take_best` for one large group, whose documents are numbered best first.

    `tokens`, `starts`, `vocabulary` are `sets.rare_first`. Only kept documents are indexed, by the
    tokens that `sets.prefix_lengths` says, or by all where containment counts. Returns, besides
    what `take_best` does, the largest share of each document that a kept LONGER one holds.
    """
    documents = starts.size - 1
    twin = np.full(documents, -1, np.int64)
    value = np.zeros(documents, np.float64)
    covered = np.zeros(documents, np.float64)
    near = np.zeros(documents, np.bool_)
    quotes = containment <= 1.0
    probes = prefix_lengths(starts, min(threshold, containment))
    heads = np.full(vocabulary, -1, np.int64)
    room = tokens.size if quotes else probes.sum()
    following = np.empty(room, np.int64)
    posting = np.empty(room, np.int64)
    postings = 0
    seen = np.full(documents, -1, np.int64)
    for x in range(documents):
        n = starts[x + 1] - starts[x]
        for t in range(starts[x], starts[x] + probes[x]):
            entry = heads[np.int64(tokens[t])]
            while entry >= 0:
                y = posting[entry]
                entry = following[entry]
                if seen[y] == x:
                    continue
                seen[y] = x
                m = starts[y + 1] - starts[y]
                common = shared_tokens(tokens, starts, x, y, threshold, containment)
                if common < 0:
                    continue
                jaccard = common / (n + m - common)
                is_near = jaccard >= threshold - 1e-12
                if m >= LONGER * n:
                    covered[x] = max(covered[x], common / n)
                if fixed[x] or (not is_near and m < n):
                    continue
                found = jaccard if is_near else common / n
                closer = 1 if twin[x] < 0 else _closer(is_near, found, near[x], value[x])
                if closer > 0 or (closer == 0 and y < twin[x]):
                    twin[x], value[x], near[x] = y, found, is_near
        if twin[x] < 0:
            for t in range(starts[x], starts[x + 1] if quotes else starts[x] + probes[x]):
                token = np.int64(tokens[t])
                posting[postings] = x
                following[postings] = heads[token]
                heads[token] = postings
                postings += 1
    return twin, value, covered, near
