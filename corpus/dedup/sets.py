"""Sets of shingles, and comparing them exactly."""

from dataclasses import dataclass

import numba
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from corpus.buffers import string_buffers
from corpus.dedup.kernels import shingle_hashes
from corpus.dedup.normal import Shingling

ALL_AGAINST_ALL = 64  # groups up to this size need no index


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
        offsets, data, shingling.fold, shingling.words, shingling.size, shingling.keys
    )
    for start, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        hashes[start:stop].sort()
    return ShingleSets(*_distinct(hashes, starts))


def rare_first(
    sets: ShingleSets, members: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64], int]:
    """The sets of `members` with tokens renumbered: (tokens, starts, number of tokens in all).

    The rarest token is 0, and each set is sorted from its rarest to its commonest.
    """
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
    return tokens, starts, len(distinct)


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
def shared_tokens(tokens, starts, x, y, threshold, containment):  # type: ignore[no-untyped-def]
    """How many tokens two sorted sets share, or -1 if that is too few.

    Enough is what gives a Jaccard of `threshold`, or what is the share `containment` (above 1:
    never) of the smaller set.
    """
    a, b = starts[x], starts[y]
    end_a, end_b = starts[x + 1], starts[y + 1]
    n, m = end_a - a, end_b - b
    need = int(np.ceil(threshold / (1.0 + threshold) * (n + m) - 1e-9))
    need = min(need, int(np.ceil(containment * min(n, m) - 1e-9)))
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
def small_group_pairs(tokens, starts, bounds, threshold, containment):  # type: ignore[no-untyped-def]
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
                common = shared_tokens(tokens, starts, x, y, threshold, containment)
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
def prefix_lengths(starts, threshold):  # type: ignore[no-untyped-def]
    """How many of each set's rarest tokens two similar sets cannot both lack; int64.

    Prefix filter (Chaudhuri et al. 2006): sets of n and m tokens whose Jaccard reaches the
    threshold share one of the first n - ceil(threshold n) + 1, and m - ceil(threshold m) + 1, in
    any common order.
    """
    prefixes = np.zeros(starts.size - 1, np.int64)
    for x in range(starts.size - 1):
        n = starts[x + 1] - starts[x]
        if n:
            prefixes[x] = min(n, n - int(np.ceil(threshold * n - 1e-9)) + 1)
    return prefixes


@numba.njit(cache=True, nogil=True)
def all_pairs(tokens, starts, vocabulary, threshold):  # type: ignore[no-untyped-def]
    """Every similar pair of a large group (see `rare_first`): (left, right, common tokens)."""
    documents = starts.size - 1
    prefixes = prefix_lengths(starts, threshold)
    heads = np.full(vocabulary, -1, np.int64)
    following = np.empty(prefixes.sum(), np.int64)
    posting = np.empty(prefixes.sum(), np.int64)
    postings = 0
    seen = np.full(documents, -1, np.int64)
    capacity = 1024
    out = np.empty((capacity, 3), np.int64)
    found = 0
    for x in range(documents):
        for t in range(starts[x], starts[x] + prefixes[x]):
            token = np.int64(tokens[t])
            entry = heads[token]
            while entry >= 0:
                y = posting[entry]
                entry = following[entry]
                if seen[y] == x:
                    continue
                seen[y] = x
                common = shared_tokens(tokens, starts, x, y, threshold, 2.0)
                if common >= 0:
                    if found == capacity:
                        capacity *= 2
                        grown = np.empty((capacity, 3), np.int64)
                        grown[:found] = out
                        out = grown
                    out[found, 0], out[found, 1], out[found, 2] = y, x, common
                    found += 1
            posting[postings] = x
            following[postings] = heads[token]
            heads[token] = postings
            postings += 1
    return out[:found, 0].copy(), out[:found, 1].copy(), out[:found, 2].copy()
