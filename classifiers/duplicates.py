"""Groups of near-duplicate short texts, so that none of them lies on both sides of a split.

Texts are compared as sets of three-token shingles after folding (`classifiers.tokens`), without
punctuation; MinHash finds candidates, the true Jaccard similarity decides. Made for label sets,
which fit in memory; corpora have their own stages.
"""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from classifiers.tokens import token_hashes
from corpus.jit import kernel

SHINGLE = 3
BANDS, ROWS = 20, 3  # finds 99.98 % of the pairs of similarity 0.7
FACTOR = np.uint64(0x9E3779B97F4A7C15)


def near_duplicate_groups(texts: Sequence[str], similarity: float = 0.7) -> npt.NDArray[np.int64]:
    """int64 [texts]: for each text the index of the first text of its group."""
    shingles = [_shingles(token_hashes(re.sub(r"\W+", " ", text))) for text in texts]
    lengths = np.array([0, *(len(item) for item in shingles)], np.int64)
    flat = np.concatenate(shingles) if shingles else np.empty(0, np.uint64)
    signatures = _signatures(np.cumsum(lengths), flat)
    parent = np.arange(len(texts))
    for band in range(BANDS):
        keys = np.ascontiguousarray(signatures[:, band * ROWS : (band + 1) * ROWS])
        order = np.lexsort(keys.T[::-1])
        same = (keys[order][1:] == keys[order][:-1]).all(axis=1)
        first = -1
        for place in np.flatnonzero(same).tolist():
            # A run of equal keys is compared with its first text: enough, since bands are many.
            if place == 0 or not same[place - 1]:
                first = order[place]
            other = order[place + 1]
            left, right = _root(parent, first), _root(parent, other)
            if left != right and _jaccard(shingles[first], shingles[other]) >= similarity:
                parent[max(left, right)] = min(left, right)
    return np.array([_root(parent, text) for text in range(len(texts))], np.int64)


def _shingles(hashes: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
    wide = hashes.astype(np.uint64)
    if len(wide) < SHINGLE:
        wide = np.concatenate([wide, np.zeros(SHINGLE - len(wide), np.uint64)])
    mixed = wide[: len(wide) - SHINGLE + 1].copy()
    for shift in range(1, SHINGLE):
        mixed = (mixed ^ (mixed >> np.uint64(29))) * FACTOR
        mixed += wide[shift : len(wide) - SHINGLE + 1 + shift]
    return np.unique((mixed ^ (mixed >> np.uint64(32))) * FACTOR)


@kernel
def _signatures(offsets, flat):  # type: ignore[no-untyped-def]
    size = BANDS * ROWS
    result = np.full((len(offsets) - 1, size), np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64)
    for text in range(len(offsets) - 1):
        for place in range(offsets[text], offsets[text + 1]):
            value = flat[place]
            for k in range(size):
                value = (value ^ (value >> np.uint64(31))) * FACTOR + np.uint64(k)
                if value < result[text, k]:
                    result[text, k] = value
    return result


def _root(parent: npt.NDArray[np.int64], item: int) -> int:
    while parent[item] != item:
        parent[item] = parent[parent[item]]
        item = int(parent[item])
    return int(item)


def _jaccard(left: npt.NDArray[np.uint64], right: npt.NDArray[np.uint64]) -> float:
    common = len(np.intersect1d(left, right, assume_unique=True))
    return common / (len(left) + len(right) - common)
