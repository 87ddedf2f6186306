"""Several models in one table, so that a feature is looked up once for all of them.

What scoring costs is mostly waiting for rows of weights that lie far apart in memory. Models of the
same n-grams and buckets can share their rows: the integers of one lie beside those of the others.
The models know different words, and a logit is a mean over the features that its model knows; so
each model gets a further column, which is 1 where it knows the feature, and whose sum is its number
of features. The scores are those that the models give alone, to the last bit.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from classifiers.model import load
from classifiers.scoring import WHOLE_DOCUMENT, Table, score_all
from corpus.jit import kernel


@dataclass(frozen=True)
class Joint:
    """Models that are scored together."""

    tables: tuple[Table, ...]
    places: tuple[tuple[int, slice, float], ...]
    """Of each model: which table, its labels' columns there, and the scale of its weights."""

    def documents(self, texts: pa.Array) -> list[npt.NDArray[np.float32]]:
        """Each model's logits, float32 [texts, labels], of whole documents."""
        found = score_all(texts, self.tables, WHOLE_DOCUMENT)
        return [
            found[table].document[:, columns] * np.float32(scale)
            for table, columns, scale in self.places
        ]


@functools.cache
def joint_models(models: tuple[str, ...]) -> Joint:
    """The models of these names or folders, joined once a process."""
    return join([load(model).table for model in models])


def join(tables: Sequence[Table]) -> Joint:
    """Join the tables that have the same n-grams, buckets and size of weights."""
    groups: dict[tuple[int, int, str], list[int]] = {}
    for number, table in enumerate(tables):
        shape = (table.order, len(table.rows) - table.words, table.rows.dtype.str)
        groups.setdefault(shape, []).append(number)
    joined: list[Table] = []
    places: dict[int, tuple[int, slice, float]] = {}
    for members in groups.values():
        own = [tables[number] for number in members]
        column = 0
        for number in members:
            labels = tables[number].rows.shape[1]
            places[number] = (len(joined), slice(column, column + labels), tables[number].scale)
            column += labels
        joined.append(_side_by_side(own))
    return Joint(tuple(joined), tuple(places[number] for number in range(len(tables))))


def _side_by_side(tables: Sequence[Table]) -> Table:
    labels = [table.rows.shape[1] for table in tables]
    known = [table.slots[table.slots[:, 1] > 0] for table in tables]
    digests = np.unique(np.concatenate([slots[:, 0] for slots in known]))
    buckets = len(tables[0].rows) - tables[0].words
    words = len(digests)
    rows = np.zeros((words + buckets, sum(labels) + len(tables)), tables[0].rows.dtype)
    column = 0
    for number, (table, slots) in enumerate(zip(tables, known, strict=True)):
        own = slice(column, column + labels[number])
        at = np.searchsorted(digests, slots[:, 0])
        rows[at, own] = table.rows[slots[:, 1] - 1]
        rows[words:, own] = table.rows[table.words :]
        rows[at, sum(labels) + number] = 1
        rows[words:, sum(labels) + number] = 1
        column += labels[number]
    counters = np.repeat(sum(labels) + np.arange(len(tables)), labels)
    counters = np.append(counters, sum(labels) + np.arange(len(tables)))
    return Table(rows, _slots(digests), words, tables[0].order, 1.0, counters)


@kernel
def _slots(digests):  # type: ignore[no-untyped-def]
    """uint32 [power of two, 2]: the hash table from `digests` to their places (`Table.slots`)."""
    size = 16
    while size < 2 * len(digests) + 1:
        size *= 2
    slots = np.zeros((size, 2), np.uint32)
    for row in range(len(digests)):
        slot = np.int64(digests[row]) & (size - 1)
        while slots[slot, 1]:
            slot = (slot + 1) & (size - 1)
        slots[slot, 0] = digests[row]
        slots[slot, 1] = row + 1
    return slots
