"""The texts of a training, on the sides of train, dev and test, and what must hold of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from classifiers import labels as labelled
from classifiers.background import Piece, read_dev_documents, read_pieces
from classifiers.labels import Example
from classifiers.lexicon import read_lexicon
from classifiers.training import Documents, Training
from corpus.settings import UserError


def read_splits(config: Training) -> tuple[list[Example], list[Example], list[Example], int]:
    """Train, dev and test, and how many near-duplicates of the last two were left out of train.

    Raises:
        UserError: a file cannot be read.
    """
    rows, dev, test = (
        [
            replace(row, labels=frozenset(config.relabel.get(name, name) for name in row.labels))
            for row in labelled.read_labels(paths)
        ]
        for paths in (config.train, config.dev, config.test)
    )
    weak = [
        Example(word, frozenset([lexicon.label]), "", f"lexicon:{Path(lexicon.path).name}")
        for lexicon in config.lexicons
        for word in read_lexicon(lexicon.path)
    ]
    shares = (0.0 if dev else config.dev_share, 0.0 if test else config.test_share)
    if rows and any(shares):
        rows, more_dev, more_test = labelled.split(rows, *shares, config.seed)
        dev, test = [*dev, *more_dev], [*test, *more_test]
    if weak:
        parts = labelled.split(weak, 0.1, 0.1, config.seed)
        rows, dev, test = [*rows, *parts[0]], [*dev, *parts[1]], [*test, *parts[2]]
    for entry in config.documents:
        sides = read_pieces(entry.path, entry.most, entry.label, entry.column or "")
        for side, pieces in zip((rows, dev, test), sides, strict=True):
            side += _examples(entry, pieces)
    rows, leaks = labelled.without_leaks(rows, [*dev, *test])
    return rows, dev, test, leaks


def whole_texts(config: Training, dev: Sequence[Example]) -> list[Example]:
    """The dev split as a pipeline would meet it: for labels that documents have, those documents
    whole, and for the others the texts of `dev`."""
    whole = [
        example
        for entry in config.documents
        for example in _examples(
            entry, read_dev_documents(entry.path, entry.most, entry.label, entry.column or "")
        )
    ]
    covered = {name for example in whole for name in example.labels}
    return whole + [example for example in dev if not example.labels & covered]


def _examples(entry: Documents, pieces: Sequence[Piece]) -> list[Example]:
    return [
        Example(piece.text, frozenset(piece.label.split("|")), "", piece.source)
        for piece in pieces
        if not entry.labels or piece.label in entry.labels
    ]


def check_labels(config: Training, names: Sequence[str], *held: Sequence[Example]) -> None:
    """Raise a UserError where `names`, the labels of train, do not fit the dev and test splits."""
    if config.negative not in names or len(names) < 2:
        raise UserError(
            f"{config.name}: the labels are {', '.join(names)}; there must be "
            f"{config.negative!r} (the key `negative`) and at least one other"
        )
    for split, examples in zip(("dev", "test"), held, strict=True):
        unknown = set(labelled.count_labels(examples)) - set(names)
        if unknown or not examples:
            problem = f"has labels that train lacks: {sorted(unknown)}" if unknown else "is empty"
            raise UserError(f"{config.name}: the {split} split {problem}")


def texts_of(examples: Sequence[Example]) -> pa.Array:
    """The texts, as an Arrow array."""
    return pa.array([example.text for example in examples], pa.string())


def truth_of(examples: Sequence[Example], names: Sequence[str]) -> npt.NDArray[np.bool_]:
    """bool [examples, names]: which labels each example bears."""
    return np.array([[name in example.labels for name in names] for example in examples])
