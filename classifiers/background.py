"""Whole documents beside the labelled texts: to train on by pieces, and to count false alarms.

Labelled texts are short and half of them harmful; a corpus is long and almost none of it is. A
model that never saw a statute or a prospectus calls some of them names. So pieces of ordinary
documents join the negatives, among them those that a first model is least right about (a statute's
list of crimes), and thresholds are raised until hardly any other such document is flagged.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
from pyarrow import dataset

from corpus.settings import UserError

HELD_OUT = 0.25  # share of the documents kept for the thresholds
PIECE = 200  # characters of a training piece
PIECES_OF_A_DOCUMENT = 12


@dataclass(frozen=True)
class Background:
    """Ordinary documents: pieces to train on, more pieces of the same documents, and others."""

    pieces: list[str]
    more: list[str]  # among these the hard negatives are found
    held_out: list[list[str]]  # whole documents, by file


def read_background(paths: Iterable[str], most: int) -> Background:
    """The documents of the JSON-lines files at `paths`.

    most: documents taken of each file, those with the smallest hashes. Each row needs a `text`.

    Raises:
        UserError: a file cannot be read, or a line is not an object with a `text`.
    """
    background = Background([], [], [])
    for path in paths:
        held_out = []
        for key, text in sorted(_documents(path))[:most]:
            if key[-1] < 256 * HELD_OUT:
                held_out.append(text)
            else:
                pieces = _pieces(text, key[-2])
                background.pieces.extend(pieces)
                taken = set(pieces)
                background.more.extend(p for p in _all_pieces(text) if p not in taken)
        background.held_out.append(held_out)
    return background


@dataclass(frozen=True)
class Piece:
    """A piece of a document, the document's label, and where it is from."""

    text: str
    label: str
    source: str


def read_pieces(
    path: str, most: int, label: str | None, column: str
) -> tuple[list[Piece], list[Piece], list[Piece]]:
    """Pieces of documents for train, dev and test; whole documents go to one side.

    path: JSON lines, or a folder of Parquet (a run's `documents/`). label: that of all documents,
    or None where `column` holds it; rows without one are passed over. most: documents of a label.
    """
    sides: tuple[list[Piece], list[Piece], list[Piece]] = ([], [], [])
    source = Path(path).name.split(".")[0]
    for side, key, text, found in _sides(path, most, label, column):
        sides[side].extend(Piece(piece, found, source) for piece in _pieces(text, key[-2]))
    return sides


def read_dev_documents(path: str, most: int, label: str | None, column: str) -> list[Piece]:
    """The documents, whole, of which `read_pieces` gives dev its pieces."""
    source = Path(path).name.split(".")[0]
    return [
        Piece(text, found, source)
        for side, _, text, found in _sides(path, most, label, column)
        if side == 1
    ]


def _sides(
    path: str, most: int, label: str | None, column: str
) -> Iterator[tuple[int, bytes, str, str]]:
    """(0 for train, 1 for dev, 2 for test; hash, text, label) of the documents that are taken."""
    taken: Counter[str] = Counter()
    for key, text, found in sorted(_labelled(path, label, column)):
        if taken[found] < most:
            taken[found] += 1
            side = 0 if key[-1] >= 256 * HELD_OUT else 1 if key[-1] % 2 else 2
            yield side, key, text, found


def unseen(path: str, most: int) -> list[str]:
    """The documents of a JSON-lines file that `read_background(…, most)` does not take."""
    return [text for _, text in sorted(_documents(path))[most:]]


def _documents(path: str) -> list[tuple[bytes, str]]:
    return [(key, text) for key, text, _ in _labelled(path, "", "")]


def _labelled(path: str, label: str | None, column: str) -> list[tuple[bytes, str, str]]:
    """(hash, text, label) of every document with both, of JSON lines or a folder of Parquet."""
    found: list[tuple[bytes, str, str]] = []
    for number, row in enumerate(_rows(path, column if label is None else None), 1):
        try:
            text, own = row["text"], row[column] if label is None else label
        except (KeyError, TypeError) as error:
            wanted = "a `text`" if label is not None else f"a `text` and a `{column}`"
            raise UserError(f"{path}:{number}: not a JSON object with {wanted}") from error
        if text and own is not None:
            data = text.encode("utf-8", "surrogatepass")
            found.append((hashlib.blake2b(data, digest_size=16).digest(), text, str(own)))
    return found


def _rows(path: str, column: str | None) -> Iterator[Any]:
    try:
        if is_folder(path):
            filesystem, root = fsspec.url_to_fs(path)
            documents = dataset.dataset(root, filesystem=filesystem, format="parquet")
            columns = ["text", *([column] if column else [])]
            for batch in documents.to_batches(columns=columns):
                yield from batch.to_pylist()
            return
        with fsspec.open(path, "rt", encoding="utf-8", compression="infer") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise UserError(f"{path}:{number}: not a JSON object with a `text`") from error
    except (OSError, UnicodeDecodeError, pa.ArrowInvalid) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error


def is_folder(path: str) -> bool:
    """True for a folder, local or at an fsspec address."""
    filesystem, root = fsspec.url_to_fs(path)
    return bool(filesystem.isdir(root))


def files_of(path: str) -> list[str]:
    """The Parquet files of a folder, in order, or the file itself."""
    if not is_folder(path):
        return [path]
    filesystem, root = fsspec.url_to_fs(path)
    found = sorted(filesystem.glob(f"{root}/**/*.parquet"))
    return [str(filesystem.unstrip_protocol(file)) for file in found]


def _pieces(text: str, draw: int) -> list[str]:
    pieces = _all_pieces(text)
    if len(pieces) > PIECES_OF_A_DOCUMENT:
        step = len(pieces) // PIECES_OF_A_DOCUMENT
        pieces = pieces[draw % step :: step][:PIECES_OF_A_DOCUMENT]
    return pieces


def _all_pieces(text: str) -> list[str]:
    starts = range(0, max(1, len(text) - PIECE // 2), PIECE)
    return [text[start : start + PIECE] for start in starts if text[start : start + PIECE].strip()]
