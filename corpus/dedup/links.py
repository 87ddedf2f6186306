"""From buckets to groups: which documents must be compared with which.

Documents of a bucket are linked if their sketches are near: all pairs of a small bucket, and to the
bucket's leaders in a large one, so the work is linear in the bucket's size. What is kept of
all links is their minimum spanning forest (by sketch distance, then by the documents' keys), which
is small, unique, and can be built from parts in any order.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from corpus.dedup.kernels import U64

SMALL_BUCKET = 32  # up to here every pair is linked
MOST_LEADERS = 1024  # of a large bucket; a member near none of them is left to its other bands


@numba.njit(cache=True, nogil=True)
def _bits(x):  # type: ignore[no-untyped-def]
    x = x - ((x >> U64(1)) & U64(0x5555555555555555))
    x = (x & U64(0x3333333333333333)) + ((x >> U64(2)) & U64(0x3333333333333333))
    x = (x + (x >> U64(4))) & U64(0x0F0F0F0F0F0F0F0F)
    return np.int64((x * U64(0x0101010101010101)) >> U64(56))


@numba.njit(cache=True, nogil=True)
def _distance(sketches, i, j):  # type: ignore[no-untyped-def]
    return _bits(sketches[i, 0] ^ sketches[j, 0]) + _bits(sketches[i, 1] ^ sketches[j, 1])


@numba.njit(cache=True, nogil=True)
def bucket_links(hashes, members, sketches, stored, radius):  # type: ignore[no-untyped-def]
    """Link near documents of each bucket: int64 [links, 3] of (distance, member, member).

    `hashes` uint64 [records], sorted; `members` int64 [records] (dense numbers whose order is that
    of the keys), `sketches` uint64 [records, 2]. Two that are `stored` are not linked. Also returns
    which records lead, bool [records]: those to which others of the bucket are compared.
    """
    capacity = 1024
    leads = np.ones(hashes.size, np.bool_)
    out = np.empty((capacity, 3), np.int64)
    found = 0
    leaders = np.empty(MOST_LEADERS, np.int64)
    start = 0
    while start < hashes.size:
        stop = start + 1
        while stop < hashes.size and hashes[stop] == hashes[start]:
            stop += 1
        size = stop - start
        if size > 1:
            bucket = start + np.argsort(members[start:stop], kind="mergesort")
            small = size <= SMALL_BUCKET
            leads[start:stop] = small
            leading = 0
            for x in range(size):
                near = False
                for y in range(x if small else leading):
                    other = bucket[y] if small else leaders[y]
                    if stored[bucket[x]] and stored[other]:
                        continue
                    distance = _distance(sketches, bucket[x], other)
                    if distance <= radius and members[bucket[x]] != members[other]:
                        near = True
                        if found == capacity:
                            capacity *= 2
                            grown = np.empty((capacity, 3), np.int64)
                            grown[:found] = out
                            out = grown
                        out[found, 0] = distance
                        out[found, 1] = members[other]
                        out[found, 2] = members[bucket[x]]
                        found += 1
                if not small and not near and leading < MOST_LEADERS:
                    leaders[leading] = bucket[x]
                    leads[bucket[x]] = True
                    leading += 1
            if not small:
                # Members that came before a leader was named are compared with it now.
                for x in range(size):
                    for y in range(leading):
                        if members[leaders[y]] <= members[bucket[x]] or (
                            stored[bucket[x]] and stored[leaders[y]]
                        ):
                            continue
                        distance = _distance(sketches, bucket[x], leaders[y])
                        if distance <= radius:
                            if found == capacity:
                                capacity *= 2
                                grown = np.empty((capacity, 3), np.int64)
                                grown[:found] = out
                                out = grown
                            out[found, 0] = distance
                            out[found, 1] = members[bucket[x]]
                            out[found, 2] = members[leaders[y]]
                            found += 1
        start = stop
    return out[:found], leads


@numba.njit(cache=True, nogil=True)
def _root(parents, x):  # type: ignore[no-untyped-def]
    while parents[x] != x:
        parents[x] = parents[parents[x]]
        x = parents[x]
    return x


@numba.njit(cache=True, nogil=True)
def _spanning(left, right, nodes, largest):  # type: ignore[no-untyped-def]
    """Kruskal over links in ascending order: (link is in the forest, root of each node).

    Groups that would grow above `largest` are not joined.
    """
    parents = np.arange(nodes)
    sizes = np.ones(nodes, np.int64)
    used = np.zeros(left.size, np.bool_)
    for e in range(left.size):
        a, b = _root(parents, left[e]), _root(parents, right[e])
        if a != b and sizes[a] + sizes[b] <= largest:
            if b < a:
                a, b = b, a
            parents[b] = a
            sizes[a] += sizes[b]
            used[e] = True
    for x in range(nodes):
        parents[x] = _root(parents, x)
    return used, parents


NO_LIMIT = np.iinfo(np.int64).max


def spanning_forest(links: NDArray[np.int64], nodes: int) -> NDArray[np.int64]:
    """The minimum spanning forest of `links` (rows of distance, node, node), in ascending order."""
    links = _ascending(links)
    used, _ = _spanning(links[:, 1], links[:, 2], nodes, NO_LIMIT)
    return links[used]


def groups(links: NDArray[np.int64], nodes: int, largest: int) -> NDArray[np.int64]:
    """The group of each node, named by its smallest node; int64 [nodes].

    Nearest documents join first, and no group grows above `largest` nodes: where a giant would
    come about, it is parted at its weakest links. Small parts of one giant then share a group, so
    that a star of copies is not parted into its rays.
    """
    links = _ascending(links)
    _, components = _spanning(links[:, 1], links[:, 2], nodes, NO_LIMIT)
    if nodes <= largest or np.bincount(components).max() <= largest:
        return components
    _, parts = _spanning(links[:, 1], links[:, 2], nodes, largest)
    return _filled(components, parts, np.bincount(parts, minlength=nodes), largest)


@numba.njit(cache=True, nogil=True)
def _filled(components, parts, sizes, largest):  # type: ignore[no-untyped-def]
    """Join the parts of each component, in the order of their names, up to `largest` nodes."""
    nodes = components.size
    joined = np.full(nodes, -1, np.int64)  # by part: the part that it shares a group with
    open_part = np.full(nodes, -1, np.int64)  # by component
    filled = np.zeros(nodes, np.int64)  # by component: nodes in the open group
    for part in range(nodes):
        if parts[part] != part:
            continue
        component = components[part]
        if open_part[component] < 0 or filled[component] + sizes[part] > largest:
            open_part[component], filled[component] = part, 0
        joined[part] = open_part[component]
        filled[component] += sizes[part]
    out = np.empty(nodes, np.int64)
    for node in range(nodes):
        out[node] = joined[parts[node]]
    return out


def _ascending(links: NDArray[np.int64]) -> NDArray[np.int64]:
    return links[np.lexsort((links[:, 2], links[:, 1], links[:, 0]))]


def link_records(
    hashes: NDArray[np.uint64],
    keys: NDArray[np.int64],
    sketches: NDArray[np.uint64],
    stored: NDArray[np.bool_],
    radius: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The forest of the links that these bucket records give: (links, keys of its nodes, leaders).

    One record a document and bucket: `hashes` uint64 [records], `keys` int64 [records], `sketches`
    uint64 [records, 2], `stored` bool [records]. All records of a bucket must be here. `leaders`
    are the numbers of the records that stand for their bucket.
    """
    order = np.argsort(hashes)
    ordered = hashes[order]
    shared = np.zeros(len(ordered), np.bool_)
    shared[1:] = ordered[1:] == ordered[:-1]
    shared[:-1] |= shared[1:]
    alone = order[~shared]
    order = order[shared]
    names, members = np.unique(keys[order], return_inverse=True)
    links, leads = bucket_links(hashes[order], members, sketches[order], stored[order], radius)
    return spanning_forest(links, len(names)), names, np.concatenate([alone, order[leads]])
